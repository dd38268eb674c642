"""Random formulas and tables, once, for everyone.

`random_dag` and `random_table` draw from a numpy generator, for volume; `dags` and `tables` are the same as
hypothesis strategies, which shrink. Both write formulas with one grower, so they make the same kind of thing:
valid, typed, on the row axis, over all operators and axes, with shared parts and constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st

from proxygraph.dag import FINENESS, Dag, Node
from proxygraph.infix import parse
from proxygraph.leaves import STATISTICS, Axis, Leaf
from proxygraph.ops import BUILTIN, OPS
from proxygraph.table import StatTable

AXES: tuple[Axis, ...] = ("row", "layer", "activation", "element")
FINER: Mapping[Axis, tuple[Axis, ...]] = {"row": ("layer",), "layer": ("activation", "element")}
CONSTANTS = (1.0, 2.0, 0.5, -1.0, 3.0, 0.0, 10.0, 0.1, -0.25, math.pi, 1e-3, 1e3)
EXPONENTS = (2.0, 3.0, 0.5, -1.0, 1.0, 1.5, -0.5, 4.0, -2.0, 2.5, -1.5, 0.0)
ALL_OPS = tuple(sorted(BUILTIN))

# Two leaves of any sign on every axis.
PAIRS: Mapping[Axis, tuple[str, str]] = {
    "element": ("w", "g"),
    "activation": ("a", "da"),
    "layer": ("nwot", "min_eig"),
    "row": ("jacov", "zen"),
}


# ---- formulas --------------------------------------------------------------------------------------------


class Choices(Protocol):
    """Where a random formula takes its decisions from."""

    def below(self, n: int) -> int: ...

    def constant(self) -> float: ...


class RngChoices:
    """Decisions of a numpy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def constant(self) -> float:
        if self.below(2):
            return CONSTANTS[self.below(len(CONSTANTS))]
        return float(self.rng.normal() * 10.0 ** self.rng.integers(-3, 4))


class DrawnChoices:
    """Decisions of hypothesis; 0 is the simplest, so that formulas shrink to a leaf."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def below(self, n: int) -> int:
        return self.draw(st.integers(0, n - 1))

    def constant(self) -> float:
        return self.draw(st.sampled_from(CONSTANTS) | st.floats(allow_nan=False, allow_infinity=False))


class _Grower:
    """Grows one formula from the root down, never beyond its budget of operators."""

    def __init__(self, choices: Choices, leaves: Mapping[str, Leaf], ops: Sequence[str]) -> None:
        self.choices = choices
        self.nodes: list[Node] = []
        self.axes: list[Axis] = []
        self.leaves: dict[Axis, list[str]] = {
            axis: sorted(name for name, leaf in leaves.items() if leaf.axis == axis) for axis in AXES
        }
        self.unary = [n for n in ops if OPS[n].kind == "elementwise" and OPS[n].arity == 1]
        self.binary = [n for n in ops if OPS[n].kind == "elementwise" and OPS[n].arity == 2]
        self.reductions = [n for n in ops if OPS[n].kind == "reduction"]

    def one_of(self, options: Sequence[Any]) -> Any:
        return options[self.choices.below(len(options))]

    def least(self, axis: Axis) -> float:
        """The fewest operators that give a value on `axis`."""
        if axis == "row" or self.leaves[axis]:
            return 0  # on the row axis there are always constants
        below = [self.least(finer) for finer in FINER.get(axis, ())]
        return 1 + min(below) if below and self.reductions else math.inf

    def add(self, node: Node, axis: Axis) -> int:
        self.nodes.append(node)
        self.axes.append(axis)
        return len(self.nodes) - 1

    def used(self, before: int) -> int:
        return sum(node.kind == "op" for node in self.nodes[before:])

    def grow(self, axis: Axis, budget: int) -> int:
        """Add a value on `axis` that takes at most `budget` operators; return its position."""
        ends = [i for i, a in enumerate(self.axes) if a == axis and self.nodes[i].kind == "op"]
        ways = ["end"] if self.leaves[axis] or axis == "row" or ends else []
        if budget > self.least(axis):
            ways += ["unary"] * (2 * bool(self.unary)) + ["binary"] * (3 * bool(self.binary))
        finer = [f for f in FINER.get(axis, ()) if budget > self.least(f)]
        if finer and self.reductions:
            ways += ["reduction"] * 4
        way = self.one_of(ways)
        if way == "end":
            return self.end(axis, ends)
        if way == "unary":
            return self.add(Node("op", self.one_of(self.unary), (self.grow(axis, budget - 1),)), axis)
        if way == "reduction":
            arg = self.grow(self.one_of(finer), budget - 1)
            return self.add(Node("op", self.one_of(self.reductions), (arg,)), axis)
        return self.grow_binary(axis, budget - 1)

    def end(self, axis: Axis, shared: Sequence[int]) -> int:
        """A leaf, a constant or a part that is there already."""
        ways = (
            ["leaf"] * (2 * bool(self.leaves[axis]))
            + ["constant"] * (axis == "row")
            + ["shared"] * bool(shared)
        )
        way = self.one_of(ways)
        if way == "leaf":
            return self.add(Node("leaf", self.one_of(self.leaves[axis])), axis)
        if way == "constant":
            return self.add(Node("const", value=self.choices.constant()), axis)
        return int(self.one_of(shared))

    def grow_binary(self, axis: Axis, budget: int) -> int:
        name = self.one_of(self.binary)
        before = len(self.nodes)
        fine = self.grow(axis, budget)
        if name == "pow":
            other = self.add(Node("const", value=self.one_of(EXPONENTS)), "row")
            return self.add(Node("op", name, (fine, other)), axis)
        left = budget - self.used(before)
        coarser = [a for a in AXES if (FINENESS[a] < FINENESS[axis] or a == axis) and self.least(a) <= left]
        args = (fine, self.grow(self.one_of(coarser), left))
        return self.add(Node("op", name, args if self.choices.below(2) == 0 else args[::-1]), axis)


def _dag(choices: Choices, leaves: Mapping[str, Leaf], max_ops: int, ops: Sequence[str]) -> Dag:
    grower = _Grower(choices, leaves, ops)
    root = grower.grow("row", max_ops)
    return Dag(grower.nodes[: root + 1], leaves)


def on_axes(leaves: Mapping[str, Leaf], axes: Sequence[Axis] = AXES) -> dict[str, Leaf]:
    """The leaves that live on some axes."""
    return {name: leaf for name, leaf in leaves.items() if leaf.axis in axes}


def random_dag(
    rng: np.random.Generator,
    leaves: Mapping[str, Leaf] = STATISTICS,
    max_ops: int = 14,
    ops: Sequence[str] = ALL_OPS,
    min_ops: int = 1,
) -> Dag:
    """A random formula on the row axis with `min_ops` to `max_ops` operators."""
    while True:
        dag = _dag(RngChoices(rng), leaves, max_ops, ops)
        if sum(node.kind == "op" for node in dag) >= min_ops:
            return dag


@st.composite
def dags(
    draw: st.DrawFn,
    leaves: Mapping[str, Leaf] = STATISTICS,
    max_ops: int = 14,
    axes: Sequence[Axis] = AXES,
    ops: Sequence[str] = ALL_OPS,
) -> Dag:
    """Formulas on the row axis over all operators; `axes` limits where leaves live."""
    return _dag(DrawnChoices(draw), on_axes(leaves, axes), max_ops, ops)


def op_cases() -> list[tuple[str, Axis]]:
    """Every built-in operator with every axis its argument can be on."""
    return [
        (name, axis) for name in ALL_OPS for axis in AXES if OPS[name].kind == "elementwise" or axis != "row"
    ]


def formula_of(
    name: str,
    axis: Axis,
    pairs: Mapping[Axis, tuple[str, str]] = PAIRS,
    leaves: Mapping[str, Leaf] = STATISTICS,
    exponent: float = 2.5,
) -> Dag:
    """One operator applied to leaves on one axis, then summed up to the row axis."""
    op = OPS[name]
    nodes = [Node("leaf", leaf) for leaf in pairs[axis][: op.arity]]
    if name == "pow":
        nodes[1] = Node("const", value=exponent)
    nodes.append(Node("op", name, tuple(range(op.arity))))
    for _ in range(FINENESS[axis] - (op.kind == "reduction")):
        nodes.append(Node("op", "sum", (len(nodes) - 1,)))
    return Dag(nodes, leaves)


# ---- tables ----------------------------------------------------------------------------------------------


def random_table(
    rng: np.random.Generator,
    leaves: Mapping[str, Leaf] = STATISTICS,
    n_rows: int = 6,
    max_layers: int = 4,
    max_entries: int = 7,
    *,
    extreme: bool = False,
    missing: bool = False,
    empty: bool = False,
) -> StatTable:
    """A small ragged table with all of `leaves`, in a mix of float32 and float64 columns.

    There are layers of one entry and rows of one layer, zeros, constant columns, both signs where a leaf
    allows them, and true counts above the number of samples. `extreme` adds huge and tiny values, `missing`
    NaN and infinities, `empty` rows without layers and layers without entries.
    """
    offsets, counts = _random_offsets(rng, leaves, n_rows, max_layers, max_entries, least=0 if empty else 1)
    columns = {}
    for name, leaf in leaves.items():
        n = n_rows if leaf.axis == "row" else int(offsets[leaf.axis][-1])
        values = rng.normal(size=n) * 10.0 ** rng.uniform(-1, 1, size=n)
        kind = rng.uniform(size=n)
        values[kind < 0.08] = 0.0
        values[(kind > 0.08) & (kind < 0.14)] = 1.0
        if rng.uniform() < 0.1:
            values[:] = values[:1]
        if extreme:
            values[kind > 0.9] *= 10.0 ** rng.choice([-30.0, -12.0, 12.0, 30.0], size=int((kind > 0.9).sum()))
        if missing:
            values[kind > 0.96] = rng.choice([np.nan, np.inf, -np.inf], size=int((kind > 0.96).sum()))
        values = np.abs(values) if leaf.sign == "nonneg" else values
        columns[name] = values.astype(rng.choice([np.float32, np.float64]))
    rows = tuple(f"r{i}" for i in range(n_rows))
    return StatTable(rows, columns, dict(leaves), offsets, counts, {})


LARGEST_LAYER = 512 * 512 * 9
"""Entries of a convolution at the end of a ResNet-18."""


def with_a_large_layer(largest: int) -> tuple[StatTable, list[Dag]]:
    """Four rows, one with a layer of so many entries beside one of a single one; and formulas for them."""
    rng = np.random.default_rng(18)
    sizes = np.array([3, largest, 1, 0, 5])
    elements = np.concatenate([[0], np.cumsum(sizes)])
    leaves = {name: STATISTICS[name] for name in ("w", "g", "numel", "params")}
    n = int(sizes.sum())
    columns = {"w": rng.normal(size=n), "g": rng.normal(size=n), "numel": sizes * 3.0 + 1}
    columns["params"] = rng.uniform(1, 2, size=4)
    offsets = {"layer": np.array([0, 1, 3, 4, 5]), "element": elements}
    texts = ["sum(l2(w * g)) / params", "sum(std(w / numel + params))", "max(min(exp(w) - mean(g)))"]
    texts += ["mean(sum(tanh(w) * numel)) + count(numel)", "sum(sum(w - mean(w)))", "sum(max(w)) * params"]
    return StatTable("abcd", columns, leaves, offsets, {"element": sizes * 2.0}, {}), [
        parse(t) for t in texts
    ]


def _random_offsets(
    rng: np.random.Generator,
    leaves: Mapping[str, Leaf],
    n_rows: int,
    max_layers: int,
    max_entries: int,
    least: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    offsets: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    axes = {leaf.axis for leaf in leaves.values()}
    if axes == {"row"}:
        return offsets, counts
    groups = n_rows
    for axis, most in (("layer", max_layers), ("element", max_entries), ("activation", max_entries)):
        if axis != "layer" and axis not in axes:
            continue
        sizes = rng.integers(least, most + 1, size=groups)
        offsets[axis] = np.concatenate([[0], np.cumsum(sizes)])
        if axis == "layer":
            groups = int(offsets["layer"][-1])
        else:
            counts[axis] = np.where(sizes == 0, 0, sizes * rng.integers(1, 40, size=groups))
    return offsets, counts


@st.composite
def tables(
    draw: st.DrawFn,
    leaves: Mapping[str, Leaf] = STATISTICS,
    max_rows: int = 5,
    max_layers: int = 4,
    max_entries: int = 6,
    *,
    extreme: bool = False,
    missing: bool = False,
    empty: bool = False,
) -> StatTable:
    """Small ragged tables, see `random_table`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, n_layers, n_entries = (draw(st.integers(1, most)) for most in (max_rows, max_layers, max_entries))
    return random_table(
        rng, leaves, n_rows, n_layers, n_entries, extreme=extreme, missing=missing, empty=empty
    )
