"""Source text of the fused kernel: one formula becomes one Python function that makes a single pass.

Here stands only what is written: what goes into which loop is decided in ``fused_plan.py``, compiling and
running is the business of ``fused.py``. The text is plain Python over ``np``, ``math``, ``plus`` and
``plus_product`` (sums whose order is free) and ``vec`` (``math`` for loops over entries) and means the same
without numba.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxygraph.compact.forest import folded
from proxygraph.dag import Dag
from proxygraph.errors import CompileError
from proxygraph.kernels.fused_plan import in_post_order, places
from proxygraph.kernels.fused_text import (
    bare,
    bracketed,
    comments,
    filled,
    function_name,
    header,
    literal,
    refuse_finer_root,
    uses_first,
)
from proxygraph.leaves import Axis
from proxygraph.ops import OPS

FINE: tuple[Axis, ...] = ("element", "activation")


@dataclass(frozen=True, slots=True)
class FusedSource:
    """The function of one formula.

    Attributes
    ----------
    name : str
        Name of the function; it follows from the formula's key.
    text : str
        Its source; takes ``(out, first_row, last_row)``, then offsets and counts of each of `axes`, then
        `columns`.
    axes : tuple of str
        Axes finer than the row that the formula touches, coarsest first.
    columns : tuple of str
        Leaf names in the order of the arguments ``c0, c1, …``.
    """

    name: str
    text: str
    axes: tuple[Axis, ...]
    columns: tuple[str, ...]


def emit(dag: Dag) -> FusedSource:
    """Return the function that computes `dag` for a range of rows.

    Parameters
    ----------
    dag : Dag
        A formula whose root is on the row axis.

    Raises
    ------
    CompileError
        If the root is finer than the row axis or an operator lacks the templates; the message names it.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> print(emit(parse("params * 0.5")).text)  # doctest: +ELLIPSIS
    def formula_...(out, first_row, last_row, c0):
        # params * 0.5
        # c0: params (row)
        for row in range(first_row, last_row):
            v0 = np.float64(c0[row])  # params
            v2 = v0 * 0.5  # params * 0.5
            out[row] = v2
    <BLANKLINE>
    """
    refuse_finer_root(dag)
    for node in dag.nodes:
        if node.kind == "op":
            _refuse_untemplated(node.name)
    return _Emitter(in_post_order(dag)).source()


def _refuse_untemplated(name: str) -> None:
    op = OPS[name]
    if op.kind == "elementwise" and not op.numba:
        raise CompileError(
            f"operator {name!r} has no numba template, so it cannot be compiled; give its Op a "
            "`numba` expression or choose the back end 'reference'"
        )
    if op.kind == "reduction" and not (op.init and op.final):
        raise CompileError(
            f"operator {name!r} has no one-pass form, so it cannot be compiled; give its Op `init`, "
            "`update` and `final` or choose the back end 'reference'"
        )


_VECTORISED = re.compile(r"\bmath\.(exp|log|log1p|tanh|sin|cos)\(")
"""Calls that would keep a loop over entries from becoming vector code; ``vecmath`` has them without calls."""


class _Emitter:
    """Writes one formula; holds the plan and the lines so far."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.places = places(dag)
        self.constants = folded(dag)
        self.comments = comments(dag)
        self.column = {name: f"c{k}" for k, name in enumerate(dag.leaves)}
        self.lines: list[str] = []
        needed = [i for i in range(len(dag)) if i not in self.constants]
        self.rows = [i for i in needed if dag.axes[i] == "row"]
        self.layers = [i for i in needed if dag.axes[i] == "layer"]
        n_loops = max((self.places[i][0] for i in self.rows), default=0)
        self.uses = [self._layer_values_used(loop) for loop in range(n_loops)]
        self.kept = sorted(
            i
            for i in self.layers
            if not self._is_leaf(i)
            and any(i in self.uses[loop] for loop in range(self.places[i][0] + 1, n_loops))
        )

    # what the nodes are

    def _is_leaf(self, i: int) -> bool:
        return self.dag.nodes[i].kind == "leaf"

    def _reduces(self, i: int, axis: Axis) -> bool:
        """Whether node `i` reduces a value on `axis`."""
        node = self.dag.nodes[i]
        return (
            node.kind == "op" and OPS[node.name].kind == "reduction" and self.dag.axes[node.args[0]] == axis
        )

    def _inputs(self, reductions: Iterable[int]) -> list[int]:
        """The element values that some reductions need, in order."""
        found: set[int] = set()
        stack = [self.dag.nodes[i].args[0] for i in reductions]
        while stack:
            i = stack.pop()
            if i not in found and self.dag.axes[i] in FINE:
                found.add(i)
                stack += self.dag.nodes[i].args
        return sorted(found)

    def _layer_values_used(self, loop: int) -> set[int]:
        """The layer values read in layer loop `loop`."""
        here = [i for i in self.layers if self.places[i][0] == loop and not self._is_leaf(i)]
        rows = [i for i in self.rows if self._reduces(i, "layer") and self.places[i][0] == loop + 1]
        fine = self._inputs(i for i in here if any(self._reduces(i, axis) for axis in FINE))
        return {
            j for i in (*here, *rows, *fine) for j in self.dag.nodes[i].args if self.dag.axes[j] == "layer"
        }

    # writing

    def _write(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def _name(self, i: int) -> str:
        """The value of node `i` as an argument: a constant in brackets if it is negative."""
        return bracketed(literal(self.constants[i], "np")) if i in self.constants else f"v{i}"

    def _assign(self, depth: int, i: int, expression: str) -> None:
        self._write(depth, f"v{i} = {bare(expression)}  # {self.comments[i]}")

    def _load(self, depth: int, i: int, index: str) -> None:
        self._assign(depth, i, f"np.float64({self.column[self.dag.nodes[i].name]}[{index}])")

    def _compute(self, depth: int, i: int) -> None:
        """Write an elementwise operator."""
        node = self.dag.nodes[i]
        if node.name == "pow":
            self._assign(depth, i, _power(self._name(node.args[0]), self.constants[node.args[1]]))
            return
        code = filled(node.name, OPS[node.name].numba, *map(self._name, node.args))
        if self.dag.axes[i] in FINE:
            code = _VECTORISED.sub(r"vec.\1(", code)
        if self._divides_by_coarser(i):
            x, y = map(self._name, node.args)
            code = f"{x} * {y}_inverse if {y}_usual else {x} / {y}"
        self._assign(depth, i, code)

    def _divides_by_coarser(self, i: int) -> bool:
        """Whether an entry is divided by what is the same for the whole loop; a division costs 8 products."""
        node = self.dag.nodes[i]
        if node.name != "div" or self.dag.axes[i] not in FINE:
            return False
        below = node.args[1]
        return below not in self.constants and self.dag.axes[below] not in FINE

    def _invert(self, depth: int, reductions: Sequence[int]) -> None:
        """Write the inverses that a loop multiplies with; where one would overflow the loop divides."""
        divisions = [i for i in self._inputs(reductions) if self._divides_by_coarser(i)]
        for y in dict.fromkeys(self._name(self.dag.nodes[i].args[1]) for i in divisions):
            self._write(depth, f"{y}_inverse, {y}_usual = 1.0 / {y}, abs({y}) > 1e-300")

    def _start(self, depth: int, i: int) -> None:
        """Write the accumulators of a reduction."""
        op = OPS[self.dag.nodes[i].name]
        for k, value in enumerate(op.init):
            self._write(depth, f"v{i}_s{k} = {value}")
        if uses_first(op.name):
            self._write(depth, f"v{i}_first = 0.0")

    def _update(self, depth: int, i: int, *, reorder: bool) -> None:
        """Write what one value changes; with `reorder` sums go through ``plus``, which may be vectorised."""
        node = self.dag.nodes[i]
        op, x = OPS[node.name], self._name(node.args[0])
        state = {f"s{k}": f"v{i}_s{k}" for k in range(len(op.init))}
        right = [bare(filled(op.name, line, x=x, first=f"v{i}_first", **state)) for line in op.update]
        if reorder:
            right = [_sum_as_call(op.name, line, tuple(state.values())) for line in right]
        if any(
            f"{{s{k}}}" in line for n, line in enumerate(op.update) for k in range(len(op.init)) if k != n
        ):
            self._write(depth, f"{', '.join(state.values())} = {', '.join(right)}")
        else:
            for name, line in zip(state.values(), right, strict=True):
                self._write(depth, f"{name} = {line}")

    def _finish(self, depth: int, i: int, n: str, count: str) -> None:
        op = OPS[self.dag.nodes[i].name]
        state = {f"s{k}": f"v{i}_s{k}" for k in range(len(op.init))}
        value = bare(filled(op.name, op.final, n=n, count=count, first=f"v{i}_first", **state))
        value = f"({value})" if " if " in value or "lambda" in value else value
        self._assign(depth, i, f"{value} if {n} > 0 else np.nan")

    # the levels, from the outside in

    def source(self) -> FusedSource:
        dag = self.dag
        axes = tuple(axis for axis in ("layer", *FINE) if axis in dag.axes)
        name = function_name(dag)
        arguments = [f"{axis}_{what}" for axis in axes for what in ("offsets", "counts")]
        self._write(
            0,
            f"def {name}({', '.join(['out', 'first_row', 'last_row', *arguments, *self.column.values()])}):",
        )
        for line in header(dag):
            self._write(1, line)
        self._write(1, "for row in range(first_row, last_row):")
        if "layer" in axes:
            self._write(2, "layer_start, layer_stop = layer_offsets[row], layer_offsets[row + 1]")
            self._write(2, "n_layer = layer_stop - layer_start")
        for i in self.kept:
            self._write(2, f"v{i}_kept = np.empty(n_layer)  # {self.comments[i]}")
        for i in self.rows:
            if self._is_leaf(i):
                self._load(2, i, "row")
        self._row_values(0)
        for loop in range(len(self.uses)):
            self._layer_loop(loop)
            self._row_values(loop + 1)
        self._write(2, f"out[row] = {bare(self._name(len(dag) - 1))}")
        return FusedSource(name, "\n".join(self.lines) + "\n", axes, tuple(self.column))

    def _row_values(self, loop: int) -> None:
        for i in self.rows:
            if self.places[i][0] == loop and not self._is_leaf(i):
                if self._reduces(i, "layer"):
                    self._finish(2, i, "n_layer", "layer_counts[row]")
                else:
                    self._compute(2, i)

    def _layer_loop(self, loop: int) -> None:
        totals = [i for i in self.rows if self._reduces(i, "layer") and self.places[i][0] == loop + 1]
        here = [i for i in self.layers if self.places[i][0] == loop and not self._is_leaf(i)]
        for i in totals:
            self._start(2, i)
        self._write(2, "for layer in range(layer_start, layer_stop):")
        for axis in FINE:
            self._open_segment(axis, [i for i in here if self._reduces(i, axis)])
        for i in sorted(self.uses[loop]):
            if self._is_leaf(i):
                self._load(3, i, "layer")
            elif self.places[i][0] < loop:
                self._assign(3, i, f"v{i}_kept[layer - layer_start]")
        for step in range(max((self.places[i][1] for i in here), default=0) + 1):
            for i in here:
                if self.places[i][1] == step and not any(self._reduces(i, axis) for axis in FINE):
                    self._compute(3, i)
            for axis in FINE:
                self._fine_loop(
                    axis, [i for i in here if self._reduces(i, axis) and self.places[i][1] == step + 1]
                )
        for i in self.kept:
            if self.places[i][0] == loop:
                self._write(3, f"v{i}_kept[layer - layer_start] = v{i}")
        for i in totals:
            if uses_first(self.dag.nodes[i].name):
                self._write(3, "if layer == layer_start:")
                self._write(4, f"v{i}_first = {self._name(self.dag.nodes[i].args[0])}")
            self._update(3, i, reorder=False)

    def _open_segment(self, axis: Axis, reductions: Sequence[int]) -> None:
        """Write the bounds of a layer on a fine axis and the pieces of the columns that lie in it."""
        if not reductions:
            return
        self._write(3, f"{axis}_start, {axis}_stop = {axis}_offsets[layer], {axis}_offsets[layer + 1]")
        self._write(3, f"n_{axis} = {axis}_stop - {axis}_start")
        for i in self._inputs(reductions):
            if self._is_leaf(i):
                column = self.column[self.dag.nodes[i].name]
                # a slice, because loops from 0 are vectorised: no index can be negative and wrap around
                self._write(3, f"{column}_here = {column}[{axis}_start:{axis}_stop]  # {self.comments[i]}")

    def _fine_loop(self, axis: Axis, reductions: Sequence[int]) -> None:
        """Write one loop over a layer's entries with all the reductions that share it."""
        if not reductions:
            return
        for i in reductions:
            self._start(3, i)
        self._invert(3, reductions)
        shifted = [i for i in reductions if uses_first(self.dag.nodes[i].name)]
        if shifted:
            self._write(3, f"if n_{axis} > 0:")
            self._fine_values(4, shifted, "0")
            for i in shifted:
                self._write(4, f"v{i}_first = {self._name(self.dag.nodes[i].args[0])}")
        self._write(3, f"for i in range(n_{axis}):")
        self._fine_values(4, reductions, "i")
        for i in reductions:
            self._update(4, i, reorder=True)
        for i in reductions:
            self._finish(3, i, f"n_{axis}", f"{axis}_counts[layer]")

    def _fine_values(self, depth: int, reductions: Sequence[int], index: str) -> None:
        for i in self._inputs(reductions):
            if self._is_leaf(i):
                self._assign(depth, i, f"np.float64({self.column[self.dag.nodes[i].name]}_here[{index}])")
            else:
                self._compute(depth, i)


def _power(x: str, exponent: float) -> str:
    """Return x to a multiple of 1/2 without a general power, which costs 20 times as much.

    numba multiplies out literal integer exponents, and ``** 0.5`` becomes a square root that keeps the
    special values of powers (inf for -inf, 0.0 for -0.0); ``abs`` keeps them when both stand together.
    """
    whole, half = divmod(abs(exponent), 1.0)
    if not half:
        power = f"{x} ** {int(whole)}"
    else:
        power = f"abs({x}) ** {int(whole)} * {x} ** 0.5" if whole else f"{x} ** 0.5"
    return power if exponent >= 0 else f"1.0 / ({power})"


def _sum_as_call(name: str, update: str, state: tuple[str, ...]) -> str:
    """Return ``s + x`` as ``plus(s, x)``, ``s + x * y`` as ``plus_product(s, x, y)``, all else as it is."""
    try:
        tree = ast.parse(update, mode="eval").body
    except SyntaxError:
        raise CompileError(f"operator {name!r}: the update {update!r} is not Python") from None
    match tree:
        case ast.BinOp(op=ast.Add(), left=ast.Name(id=left), right=right) if left in state:
            if not any(isinstance(part, ast.Name) and part.id in state for part in ast.walk(right)):
                match right:
                    case ast.BinOp(op=ast.Mult(), left=x, right=y):
                        return f"plus_product({left}, {ast.unparse(x)}, {ast.unparse(y)})"
                return f"plus({left}, {ast.unparse(right)})"
    return update
