"""Source text of the torch kernel: one formula becomes one function over whole columns of a ragged table.

Here stands only what is written; running is the business of ``fused_torch.py``, whose functions ``total``,
``lowest``, ``highest``, ``first``, ``spread``, ``each`` and ``root`` the text calls. Elementwise operators
are written with their ``torch`` template. A reduction's own template takes one segment at a time, so its
form over all segments is derived from the columns the numba kernel uses, `init`, `update` and `final`: an
accumulator that sums up, or keeps the least or greatest value, is one call over all segments. Where that
cannot be done (a user's reduction that hangs on the order of its values) the operator's template runs segment
by segment.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from proxygraph.compact.forest import folded
from proxygraph.dag import Dag
from proxygraph.errors import CompileError
from proxygraph.kernels.fused_plan import in_post_order
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
from proxygraph.ops import BUILTIN, OPS, Op

AXES: tuple[Axis, ...] = ("layer", "element", "activation")
_ONE_ARGUMENT = ("abs", "sqrt", "log", "log1p", "exp", "expm1", "tanh", "sin", "cos", "sign", "floor", "ceil")
_SEGMENTED = {"minimum": ("lowest", "np.inf"), "maximum": ("highest", "-np.inf")}


@dataclass(frozen=True, slots=True)
class TorchSource:
    """The function of one formula.

    Attributes
    ----------
    name : str
        Name of the function; it follows from the formula's key.
    text : str
        Its source; takes ``dtype``, then a `Segments` for each of `axes`, then `columns`.
    axes : tuple of str
        Axes finer than the row that the formula touches, coarsest first.
    columns : tuple of str
        Leaf names in the order of the arguments ``c0, c1, …``.
    spread : frozenset of str
        Axes on which values of a coarser one are repeated.
    """

    name: str
    text: str
    axes: tuple[Axis, ...]
    columns: tuple[str, ...]
    spread: frozenset[Axis]


def emit_torch(dag: Dag) -> TorchSource:
    """Return the function that computes `dag` for all rows.

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
    >>> print(emit_torch(parse("sum(numel) * 0.5")).text)  # doctest: +ELLIPSIS
    def formula_...(dtype, layer, c0):
        # sum(numel) * 0.5
        # c0: numel (layer)
        v0 = c0.to(dtype)  # numel
        v1_s0 = total(v0, layer)
        v1 = torch.where(layer.n > 0, v1_s0 * (layer.true_n / layer.n), math.nan)  # sum(numel)
        v3 = v1 * 0.5  # sum(numel) * 0.5
        return v3
    <BLANKLINE>
    """
    refuse_finer_root(dag)
    return _Emitter(in_post_order(dag)).source()


class _Emitter:
    """Writes one formula, node after node; holds the lines so far."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.constants = folded(dag)
        self.comments = comments(dag)
        self.column = {name: f"c{k}" for k, name in enumerate(dag.leaves)}
        self.lines: list[str] = []
        self.repeated: set[Axis] = set()
        self.fine: set[str] = set()  # names of values finer than layers: the large ones

    def source(self) -> TorchSource:
        dag = self.dag
        axes = tuple(axis for axis in AXES if axis in dag.axes)
        name, columns = function_name(dag), tuple(self.column.values())
        for i in range(len(dag)):
            if i not in self.constants:
                self._node(i)
        head = [f"def {name}({', '.join(['dtype', *axes, *columns])}):", *(f"    {c}" for c in header(dag))]
        body = [*self._freed(), f"return {self._tensor(len(dag) - 1)}"]
        text = "\n".join([*head, *(f"    {line}" for line in body)]) + "\n"
        return TorchSource(name, text, axes, tuple(self.column), frozenset(self.repeated))

    def _write(self, name: str, axis: Axis, expression: str, comment: str = "") -> str:
        if axis in AXES[1:]:
            self.fine.add(name)
        self.lines.append(f"{name} = {bare(expression)}" + (f"  # {comment}" if comment else ""))
        return name

    def _freed(self) -> list[str]:
        """The lines, with a ``del`` after the last use of each large value."""
        last: dict[str, int] = {}
        for k, line in enumerate(self.lines):
            last |= {name: k for name in re.findall(r"\bv\d+(?:_\w+)?\b", line) if name in self.fine}
        result: list[str] = []
        for k, line in enumerate(self.lines):
            gone = [name for name, where in last.items() if where == k]
            result += [line, f"del {', '.join(gone)}"] if gone else [line]
        return result

    # values

    def _tensor(self, i: int) -> str:
        """The value of node `i` as a tensor."""
        if i in self.constants:
            return f"torch.tensor({literal(self.constants[i], 'math')}, dtype=torch.float64)"
        return f"v{i}"

    def _argument(self, i: int, slot: int) -> str:
        """One argument of an elementwise operator: on the operator's axis, a bare number where torch can."""
        node = self.dag.nodes[i]
        j, axis = node.args[slot], self.dag.axes[i]
        if j in self.constants:
            # not the numerator: torch multiplies a number by the rounded inverse of the denominator
            plain = node.name in ("add", "sub", "mul") or (node.name == "div" and slot == 1)
            number = bracketed(literal(self.constants[j], "math"))
            return number if plain else self._tensor(j)
        name, at = f"v{j}", self.dag.axes[j]
        while at != axis:
            at = "layer" if at == "row" else axis
            finer = f"v{j}_{at}"
            if not any(line.startswith(f"{finer} = ") for line in self.lines):
                self._write(finer, at, self._spread(name, at))
            name = finer
        return name

    def _spread(self, value: str, axis: Axis) -> str:
        self.repeated.add(axis)
        return f"spread({value}, {axis})"

    def _node(self, i: int) -> None:
        node, axis = self.dag.nodes[i], self.dag.axes[i]
        if node.kind == "leaf":
            self._write(f"v{i}", axis, f"{self.column[node.name]}.to(dtype)", self.comments[i])
        elif OPS[node.name].kind == "reduction":
            self._reduction(i, OPS[node.name])
        elif node.name == "pow":
            power = _power(self._argument(i, 0), self.constants[node.args[1]])
            self._write(f"v{i}", axis, power, self.comments[i])
        else:
            args = [self._argument(i, slot) for slot in range(len(node.args))]
            code = filled(node.name, _template(OPS[node.name]), *args)
            self._write(f"v{i}", axis, code, self.comments[i])

    def _reduction(self, i: int, op: Op) -> None:
        (j,) = self.dag.nodes[i].args
        segments, axis = self.dag.axes[j], self.dag.axes[i]
        steps = _segment_form(op)
        if steps is None:
            body = filled(op.name, _template(op), "v")
            self._write(f"v{i}", axis, f"each(lambda v: {body}, v{j}, {segments})", self.comments[i])
            return
        *states, final = steps
        if uses_first(op.name):
            self._write(f"v{i}_first", segments, self._spread(f"first(v{j}, {segments})", segments))
        names = {"x": f"v{j}", "first": f"v{i}_first", "segments": segments}
        names |= {f"s{k}": f"v{i}_s{k}" for k in range(len(states))}
        for k, state in enumerate(states):
            self._write(f"v{i}_s{k}", axis, _renamed(state, names))
        if uses_first(op.name):
            names["first"] = f"first(v{j}, {segments})"
        value = _renamed(final, {**names, "n": f"{segments}.n", "count": f"{segments}.true_n"})
        self._write(
            f"v{i}", axis, f"torch.where({segments}.n > 0, {bare(value)}, math.nan)", self.comments[i]
        )


def _template(op: Op) -> str:
    if not op.torch:
        form = "torch template" if op.kind == "elementwise" else "torch template and no form over segments"
        raise CompileError(
            f"operator {op.name!r} has no {form}, so it cannot be written with torch; give its Op a "
            "`torch` expression or choose the back end 'reference'"
        )
    return op.torch if op.name in BUILTIN else f"({op.torch})"


def _power(x: str, exponent: float) -> str:
    """Return x to a multiple of 1/2; torch's own ``pow`` differs from numpy's at -inf and -0.0."""
    whole, half = divmod(abs(exponent), 1.0)
    if not half:
        power = f"torch.pow({x}, {int(whole)})"
    else:
        power = f"torch.pow(torch.abs({x}), {int(whole)}) * root({x})" if whole else f"root({x})"
    return power if exponent >= 0 else f"1.0 / ({power})"


# ---- reductions over all segments at once ----


class _Foreign(Exception):
    """A template says something that has no form over segments."""


def _segment_form(op: Op) -> list[str] | None:
    """Return the accumulators and the last step over all segments, or ``None`` if there is no such form."""
    fields = {
        name: f"_{name}" for name in ("x", "first", "n", "count", *(f"s{k}" for k in range(len(op.init))))
    }
    states = frozenset(fields[f"s{k}"] for k in range(len(op.init)))
    if not (op.init and op.final):
        return None
    try:
        updates = [ast.parse(filled(op.name, line, **fields), mode="eval").body for line in op.update]
        final = ast.parse(filled(op.name, op.final, **fields).strip(), mode="eval").body
        lines = [
            _accumulated(start, f"_s{k}", update, states)
            for k, (start, update) in enumerate(zip(op.init, updates, strict=True))
        ]
        return [*lines, ast.unparse(_Tensors().visit(final))]
    except SyntaxError:
        raise CompileError(f"operator {op.name!r}: {(*op.update, op.final)!r} is not Python") from None
    except _Foreign:
        return None


def _accumulated(start: str, state: str, update: ast.expr, states: frozenset[str]) -> str:
    """Return one accumulator over all segments."""
    match update:
        case ast.BinOp(left=ast.Name(id=name), op=ast.Add(), right=values) if (name, start) == (state, "0.0"):
            how = "total"
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="np"), attr=extreme), args=[ast.Name(id=name), values]
        ) if name == state and extreme in _SEGMENTED and start == _SEGMENTED[extreme][1]:
            how = _SEGMENTED[extreme][0]
        case _:
            raise _Foreign
    if states & {part.id for part in ast.walk(values) if isinstance(part, ast.Name)}:
        raise _Foreign
    return f"{how}({ast.unparse(_Tensors().visit(values))}, _segments)"


class _Tensors(ast.NodeTransformer):
    """Turns a scalar expression of numba into one of tensors."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not node.id.startswith("_"):
            raise _Foreign
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node:
            case ast.Attribute(value=ast.Name(id="np" | "math"), attr="nan" | "inf" | "pi" | "e"):
                return _expression(f"math.{node.attr}")
        raise _Foreign

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(func=ast.Name(id="abs"), args=[x], keywords=[]):
                return self._call("torch.abs", self._tensor(x))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "math"), attr=name), keywords=[]):
                if name in _ONE_ARGUMENT and len(node.args) == 1:
                    return self._call(f"torch.{name}", self._tensor(node.args[0]))
                if name in ("maximum", "minimum") and len(node.args) == 2:
                    return self._call(f"torch.{name}", *map(self._tensor, node.args))
        raise _Foreign

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        return self._call(
            "torch.where", self.visit(node.test), self._tensor(node.body), self._tensor(node.orelse)
        )

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) != 1:
            raise _Foreign
        return ast.Compare(self.visit(node.left), node.ops, [self.visit(side) for side in node.comparators])

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Constant | ast.operator | ast.unaryop):
            return super().generic_visit(node)
        raise _Foreign

    @staticmethod
    def _call(function: str, *args: ast.expr) -> ast.Call:
        return ast.Call(_expression(function), list(args), [])

    def _tensor(self, node: ast.expr) -> ast.expr:
        """A number stands for a tensor where torch takes nothing else."""
        visited: ast.expr = self.visit(node)
        if any(isinstance(part, ast.Name) and part.id.startswith("_") for part in ast.walk(visited)):
            return visited
        return _expression(f"torch.tensor({ast.unparse(visited)}, dtype=torch.float64)")


def _expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def _renamed(source: str, names: dict[str, str]) -> str:
    """Put the names of values for the fields ``_x``, ``_s0``, … of a segment form."""
    return re.sub(r"\b_(\w+)\b", lambda field: names[field[1]], source)
