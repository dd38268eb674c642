"""Making new formulas: at random, by crossover, by mutation.

Every function is pure, ``(Dag, rng) -> Dag``, and returns a valid Dag on the row axis. Types are kept by
construction: a part is only ever exchanged for a part on the same axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from proxygraph.dag import Dag, Node, reachable
from proxygraph.errors import ConfigError
from proxygraph.leaves import COARSER, Axis, Leaf
from proxygraph.ops import OPS, is_half_integer

MAX_CONSTANT = 1e30
FINER: Mapping[Axis, tuple[Axis, ...]] = {"row": ("layer",), "layer": ("element", "activation")}


@dataclass(frozen=True)
class Grammar:
    """What formulas may be made of.

    Attributes
    ----------
    leaves : mapping of str to Leaf
    ops : tuple of str
        Names of the operators allowed.
    max_size : int
        Most nodes a formula may have.
    constants : tuple of float
        Values that random constants start from.
    by_axis : mapping of str to tuple of str
        The leaves on every axis.
    unary, binary, reductions : tuple of str
        `ops` by shape; ``pow`` is binary, but makes its constant itself.

    Raises
    ------
    ConfigError
        If no formula can be made of them.
    """

    leaves: Mapping[str, Leaf]
    ops: tuple[str, ...]
    max_size: int = 20
    constants: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 10.0, 0.1, -1.0)
    by_axis: Mapping[Axis, tuple[str, ...]] = field(init=False)
    unary: tuple[str, ...] = field(init=False)
    binary: tuple[str, ...] = field(init=False)
    reductions: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        axes: dict[Axis, tuple[str, ...]] = {}
        for axis in ("row", "layer", "element", "activation"):
            axes[axis] = tuple(name for name, leaf in self.leaves.items() if leaf.axis == axis)
        object.__setattr__(self, "by_axis", axes)
        kinds = {"unary": ("elementwise", 1), "binary": ("elementwise", 2), "reductions": ("reduction", 1)}
        for name, kind in kinds.items():
            object.__setattr__(self, name, tuple(n for n in self.ops if (OPS[n].kind, OPS[n].arity) == kind))
        if not axes["row"] and not self.reachable_axes("row"):
            raise ConfigError(
                "no formula can be made: there is no leaf on the row axis, and none that can be reduced"
            )

    def reachable_axes(self, axis: Axis) -> tuple[Axis, ...]:
        """Finer axes that have something to reduce to `axis`."""
        if not self.reductions:
            return ()
        return tuple(f for f in FINER.get(axis, ()) if self.by_axis[f] or self.reachable_axes(f))


def random_dag(grammar: Grammar, rng: np.random.Generator, size: int | None = None) -> Dag:
    """Return a random formula of about `size` nodes (by default drawn between 2 and the grammar's limit)."""
    budget = int(rng.integers(2, max(3, grammar.max_size))) if size is None else size
    for _ in range(100):
        nodes: list[Node] = []
        _grow(grammar, rng, "row", budget, nodes)
        if len(nodes) <= grammar.max_size:
            return Dag(nodes, grammar.leaves)
    nodes = []
    _grow(grammar, rng, "row", 1, nodes)
    return Dag(nodes, grammar.leaves)


def _grow(grammar: Grammar, rng: np.random.Generator, axis: Axis, budget: int, nodes: list[Node]) -> int:
    """Append a random part on `axis`; return its position."""
    leaves = grammar.by_axis[axis]
    finer = grammar.reachable_axes(axis)
    if budget <= 1 and leaves:
        nodes.append(Node("leaf", leaves[rng.integers(len(leaves))]))
        return len(nodes) - 1
    reductions = grammar.reductions if finer else ()
    unary, binary = grammar.unary, grammar.binary
    # going down to finer axes is where most statistics are; leaves of this axis are the short cut
    weights = np.array(
        [1.0 * bool(unary), 2.0 * bool(binary and budget > 2), 3.0 * bool(reductions), 0.5 * bool(leaves)]
    )
    if budget <= 2 and not leaves and reductions:
        weights[:2] = 0.0
    kind = rng.choice(4, p=weights / weights.sum())
    if kind == 3:
        nodes.append(Node("leaf", leaves[rng.integers(len(leaves))]))
    elif kind == 2:
        below = _grow(grammar, rng, finer[rng.integers(len(finer))], budget - 1, nodes)
        nodes.append(Node("op", reductions[rng.integers(len(reductions))], (below,)))
    elif kind == 1:
        _grow_binary(grammar, rng, axis, budget, nodes, binary[rng.integers(len(binary))])
    else:
        below = _grow(grammar, rng, axis, budget - 1, nodes)
        nodes.append(Node("op", unary[rng.integers(len(unary))], (below,)))
    return len(nodes) - 1


def _grow_binary(
    grammar: Grammar, rng: np.random.Generator, axis: Axis, budget: int, nodes: list[Node], op: str
) -> None:
    left_budget = int(rng.integers(1, max(2, budget - 1)))
    left = _grow(grammar, rng, axis, left_budget, nodes)
    if op == "pow":
        nodes.append(Node("const", value=float(rng.choice([-2.0, -1.0, -0.5, 0.5, 1.5, 4.0]))))
    elif rng.random() < 0.2:
        nodes.append(Node("const", value=grammar.constants[rng.integers(len(grammar.constants))]))
    else:
        other = axis
        coarse: list[Axis] = [
            a for a in _coarser_axes(axis) if grammar.by_axis[a] or grammar.reachable_axes(a)
        ]
        if coarse and rng.random() < 0.3:  # broadcast
            other = coarse[rng.integers(len(coarse))]
        _grow(grammar, rng, other, budget - 1 - left_budget, nodes)
    right = len(nodes) - 1
    args = (left, right) if op == "pow" or rng.random() < 0.5 else (right, left)
    nodes.append(Node("op", op, args))


def _coarser_axes(axis: Axis) -> list[Axis]:
    found: list[Axis] = []
    while axis in COARSER:
        axis = COARSER[axis]
        found.append(axis)
    return found


def _graft(host: Dag, at: int, scion: Sequence[Node], leaves: Mapping[str, Leaf]) -> Dag:
    """Replace node `at` of `host` by the part `scion` (its last node is its root)."""
    shift = len(scion)
    nodes = list(scion)
    for i, node in enumerate(host.nodes):
        if i == at:
            nodes.append(node)  # stays as a dead node; positions are kept, `reachable` drops it
            continue
        args = tuple(shift - 1 if j == at else j + shift for j in node.args)
        nodes.append(Node(node.kind, node.name, args, node.value))
    if at < len(host.nodes) - 1:
        # a dead node must still have valid arguments
        dead = host.nodes[at]
        nodes[shift + at] = Node(dead.kind, dead.name, tuple(j + shift for j in dead.args), dead.value)
        return Dag(reachable(nodes, len(nodes) - 1), leaves)
    return Dag(scion, leaves)


def _is_exponent(dag: Dag, i: int) -> bool:
    return any(node.name == "pow" and node.kind == "op" and node.args[1] == i for node in dag.nodes)


def _slots(dag: Dag) -> list[int]:
    """Nodes that may be exchanged: all but the exponents of pow."""
    return [i for i in range(len(dag.nodes)) if not _is_exponent(dag, i)]


def crossover(first: Dag, second: Dag, grammar: Grammar, rng: np.random.Generator) -> Dag:
    """Return `first` with one part replaced by a part of `second` on the same axis."""
    for _ in range(8):
        slots = _slots(first)
        at = slots[rng.integers(len(slots))]
        donors = [
            j
            for j, axis in enumerate(second.axes)
            if axis == first.axes[at] and second.nodes[j].kind != "const"
        ]
        if donors:
            scion = reachable(second.nodes, donors[rng.integers(len(donors))])
            child = _graft(first, at, scion, grammar.leaves)
            if child.size <= grammar.max_size:
                return child
    return first


def mutate_subtree(dag: Dag, grammar: Grammar, rng: np.random.Generator) -> Dag:
    """Replace one part by a random one on the same axis."""
    slots = _slots(dag)
    for _ in range(8):
        at = slots[rng.integers(len(slots))]
        scion: list[Node] = []
        _grow(grammar, rng, dag.axes[at], int(rng.integers(1, 6)), scion)
        child = _graft(dag, at, scion, grammar.leaves)
        if child.size <= grammar.max_size:
            return child
    return dag


def mutate_point(dag: Dag, grammar: Grammar, rng: np.random.Generator) -> Dag:
    """Exchange one operator or leaf for another of the same shape."""
    at = _slots(dag)[rng.integers(len(_slots(dag)))]
    node = dag.nodes[at]
    if node.kind == "const":
        return mutate_constant(dag, grammar, rng)
    if node.kind == "leaf":
        leaves = grammar.by_axis[dag.leaves[node.name].axis]
        return _exchange(dag, at, Node("leaf", leaves[rng.integers(len(leaves))]), grammar)
    op = OPS[node.name]
    names = (
        {1: grammar.unary, 2: grammar.binary}[op.arity] if op.kind == "elementwise" else grammar.reductions
    )
    if not _can_be_exponent(dag, node):
        names = tuple(name for name in names if name != "pow")
    if not names:
        return dag
    return _exchange(dag, at, Node("op", names[rng.integers(len(names))], node.args), grammar)


def _can_be_exponent(dag: Dag, node: Node) -> bool:
    right = dag.nodes[node.args[-1]]
    return right.kind == "const" and is_half_integer(right.value)


def _exchange(dag: Dag, at: int, node: Node, grammar: Grammar) -> Dag:
    nodes = [*dag.nodes[:at], node, *dag.nodes[at + 1 :]]
    return Dag(reachable(nodes, len(nodes) - 1), grammar.leaves)


def mutate_hoist(dag: Dag, grammar: Grammar, rng: np.random.Generator) -> Dag:
    """Replace one part by a smaller part of itself on the same axis."""
    slots = [i for i in _slots(dag) if dag.nodes[i].args]
    if not slots:
        return dag
    at = slots[rng.integers(len(slots))]
    below = reachable(dag.nodes, at)
    part = Dag(below, grammar.leaves, root_axis=None)
    inside = [
        j
        for j in range(len(part.nodes) - 1)
        if part.axes[j] == dag.axes[at] and part.nodes[j].kind != "const"
    ]
    if not inside:
        return dag
    return _graft(dag, at, reachable(part.nodes, inside[rng.integers(len(inside))]), grammar.leaves)


def mutate_insert(dag: Dag, grammar: Grammar, rng: np.random.Generator) -> Dag:
    """Put one operator on top of a part: unary, or binary with a new leaf or constant."""
    if dag.size + 2 > grammar.max_size:
        return mutate_point(dag, grammar, rng)
    slots = _slots(dag)
    at = slots[rng.integers(len(slots))]
    scion = list(reachable(dag.nodes, at))
    top = len(scion) - 1
    unary, binary = grammar.unary, [n for n in grammar.binary if n != "pow"]
    if unary and (not binary or rng.random() < 0.5):
        scion.append(Node("op", unary[rng.integers(len(unary))], (top,)))
    elif binary:
        axis = dag.axes[at]
        choices = [a for a in (axis, *_coarser_axes(axis)) if grammar.by_axis[a]]
        if rng.random() < 0.3 or not choices:
            scion.append(Node("const", value=grammar.constants[rng.integers(len(grammar.constants))]))
        else:
            names = grammar.by_axis[choices[rng.integers(len(choices))]]
            scion.append(Node("leaf", names[rng.integers(len(names))]))
        args = (top, top + 1) if rng.random() < 0.5 else (top + 1, top)
        scion.append(Node("op", binary[rng.integers(len(binary))], args))
    else:
        return dag
    return _graft(dag, at, scion, grammar.leaves)


def mutate_constant(dag: Dag, grammar: Grammar, rng: np.random.Generator) -> Dag:
    """Perturb one constant (exponents of pow by halves); without constants, mutate a point."""
    constants = [i for i, node in enumerate(dag.nodes) if node.kind == "const"]
    if not constants:
        return mutate_point(dag, grammar, rng) if any(n.kind != "const" for n in dag.nodes) else dag
    at = constants[rng.integers(len(constants))]
    value = dag.nodes[at].value
    if _is_exponent(dag, at):
        value = float(np.clip(value + rng.choice([-0.5, 0.5, -1.0, 1.0]), -4.0, 4.0))
        if value == 0.0:
            value = 1.0
    elif rng.random() < 0.2:
        value = float(rng.choice(grammar.constants))
    elif rng.random() < 0.1:
        value = -value
    else:
        value = float(value * np.exp(0.5 * rng.standard_normal()) if value else rng.standard_normal())
        value = min(max(value, -MAX_CONSTANT), MAX_CONSTANT)
    return _exchange(dag, at, Node("const", value=value), grammar)


MUTATIONS = (mutate_subtree, mutate_point, mutate_hoist, mutate_insert, mutate_constant)
