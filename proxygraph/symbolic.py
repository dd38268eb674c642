"""Formulas as sympy expressions and back.

Only the conversion: ``proxygraph.sympy_worker`` simplifies. Nothing here evaluates formulas, and sympy never
reads text. sympy is imported when a function is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from proxygraph.dag import FINENESS, Dag, Node, elementwise_axis, op_nonneg, reachable
from proxygraph.errors import InvalidDag, UnknownName
from proxygraph.leaves import COARSER, STATISTICS, Axis, Leaf
from proxygraph.ops import OPS, Op, is_half_integer

if TYPE_CHECKING:
    import sympy

MAX_POWER = 256.0
"""Largest exponent `from_sympy` splits into allowed powers; sympy merges ``x**16 * x**16`` into one."""


# ---- to sympy ----------------------------------------------------------------------------------------------


def to_sympy(dag: Dag) -> sympy.Expr:
    """Return a formula as a sympy expression.

    Leaves become real symbols, nonnegative ones where their sign says so. Reductions become undefined
    functions named after operator and axis (``sum_element``), operators without a sympy form undefined
    functions named after the operator (``softsign_``). sympy's automatic rules run, so the expression equals
    the formula where both are finite, but is no copy of it.

    Parameters
    ----------
    dag : Dag
        Any formula, or part of one.

    Returns
    -------
    sympy.Expr
        Constants are exact: integers and half-integers as rationals, others as Floats of 17 digits that
        convert to the same float64. (-0.0 becomes 0: sympy has only one zero.)

    Raises
    ------
    InvalidDag
        If the formula is nested too deeply for sympy, or has a maximum or minimum of a constant part that is
        not real.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> to_sympy(parse("sum(sum(abs(w*g)))"))
    sum_layer(sum_element(Abs(g*w)))
    """
    import sympy as sp

    values: list[Any] = []
    try:
        for i, node in enumerate(dag.nodes):
            args = [values[j] for j in node.args]
            if node.kind == "const":
                values.append(_number(sp, node.value))
            elif node.kind == "leaf":
                values.append(_symbol(sp, dag.leaves[node.name]))
            elif OPS[node.name].sympy is not None:
                values.append(OPS[node.name].sympy(sp, *args))  # type: ignore[misc]
            else:
                name = _function_name(OPS[node.name], dag.axes[node.args[0]])
                # the assumption belongs to this use: the same name may stand with and without it
                known = {"nonnegative": True} if dag.nonneg[i] else {"real": True}
                values.append(sp.Function(name, **known)(*args))
    except RecursionError:
        raise InvalidDag(f"formula of {dag.size} nodes: nested too deeply for sympy") from None
    except ValueError as error:  # Max and Min of constants such as log(-1), which is complex to sympy
        raise InvalidDag(f"formula with a constant part that is not real: {error}") from None
    result: sympy.Expr = values[-1]
    return result


def _number(sp: Any, value: float) -> Any:
    if float(2 * value).is_integer() and abs(value) < 2**53:
        return sp.Rational(int(2 * value), 2)
    return sp.Float(value, 17)


def _symbol(sp: Any, leaf: Leaf) -> Any:
    known = {"nonnegative": True} if leaf.sign == "nonneg" else {"real": True}
    return sp.Symbol(leaf.name, **known)


def _function_name(op: Op, axis: Axis) -> str:
    """Name of the undefined function: a reduction ends in its axis, anything else in an underscore."""
    return f"{op.name}_{axis}" if op.kind == "reduction" else f"{op.name}_"


# ---- from sympy --------------------------------------------------------------------------------------------


def from_sympy(
    expr: sympy.Expr, leaves: Mapping[str, Leaf] = STATISTICS, root_axis: Axis | None = "row"
) -> Dag:
    """Return the formula of a sympy expression.

    Parameters
    ----------
    expr : sympy.Expr
        Sums, products, powers, the functions of the operator table, ``Heaviside``, ``Max``, ``Min``,
        hyperbolic and circular functions, numbers, and the undefined functions that `to_sympy` makes.
    leaves : mapping of str to Leaf
        What symbol names mean.
    root_axis : str or None
        The axis the root must be on, ``None`` for any.

    Returns
    -------
    Dag
        With ``x**2`` as square, ``x/y`` as div, ``log(1 + x)`` as log1p and the like.

    Raises
    ------
    InvalidDag
        If a function is unknown, a number is not real and finite, a power has no real form that holds for
        every base, a reduction's argument left its axis (sympy cancelled it away), or axes do not fit.
    UnknownName
        If a symbol is no leaf.

    Examples
    --------
    >>> import sympy as sp
    >>> from proxygraph.infix import text
    >>> x = sp.Symbol("params", nonnegative=True)
    >>> text(from_sympy(x**2 / sp.sqrt(x + 1) - 3 * x))
    'square(params) / sqrt(1 + params) - 3 * params'
    """
    import sympy as sp

    builder = _Builder(sp, leaves)
    if not isinstance(expr, sp.Expr):
        raise InvalidDag(f"expected a sympy expression, got {type(expr).__name__}")
    try:
        # simplify turns 2 into 2.0, which sympy does not take for equal
        root = builder.read(expr.xreplace({f: _number(sp, _value(f)) for f in expr.atoms(sp.Float)}))
    except RecursionError:
        raise InvalidDag("sympy expression: nested too deeply") from None
    return builder.dag(root, root_axis)


class _Builder:
    """Collects the nodes of one expression; every distinct subexpression is read once."""

    def __init__(self, sp: Any, leaves: Mapping[str, Leaf]) -> None:
        self.sp = sp
        self.leaves = leaves
        self.nodes: list[Node] = []
        self.axes: list[Axis] = []
        self.nonneg: list[bool] = []
        self.place: dict[Node, int] = {}
        self.seen: dict[Any, int] = {}
        self.functions: Mapping[Any, Callable[[Any], int]] = {
            sp.Add: self.sum,
            sp.Mul: self.product,
            sp.Pow: self.pow,
            sp.exp: lambda e: self.op("exp", self.read(e.args[0])),
            sp.log: self.log,
            sp.Abs: self.absolute,
            sp.sign: lambda e: self.op("sign", self.read(e.args[0])),
            sp.tanh: lambda e: self.op("tanh", self.read(e.args[0])),
            sp.sin: lambda e: self.op("sin", self.read(e.args[0])),
            sp.cos: lambda e: self.op("cos", self.read(e.args[0])),
            sp.Max: self.maximum,
            sp.Min: lambda e: self.fold("minimum", map(self.read, self.ordered(e.args))),
            # sympy's Heaviside is 1/2 at 0, as this form is
            sp.Heaviside: lambda e: self.read(sp.Rational(1, 2) * (1 + sp.sign(e.args[0]))),
        }
        self.rewritten = {
            sp.sinh: sp.exp,
            sp.cosh: sp.exp,
            sp.coth: sp.tanh,
            sp.sech: sp.exp,
            sp.csch: sp.exp,
        }
        self.quotients = {
            sp.tan: (sp.sin, sp.cos),
            sp.cot: (sp.cos, sp.sin),
            sp.sec: (None, sp.cos),
            sp.csc: (None, sp.sin),
        }

    def dag(self, root: int, root_axis: Axis | None) -> Dag:
        return Dag(reachable(self.nodes, root), self.leaves, root_axis)

    # ---- nodes

    def add(self, node: Node, axis: Axis, nonneg: bool) -> int:
        if node not in self.place:
            self.place[node] = len(self.nodes)
            self.nodes.append(node)
            self.axes.append(axis)
            self.nonneg.append(nonneg)
        return self.place[node]

    def const(self, value: float) -> int:
        return self.add(Node("const", value=value + 0.0), "row", value >= 0)

    def op(self, name: str, *args: int) -> int:
        axes = [self.axes[j] for j in args]
        if OPS[name].kind == "reduction":
            axis: Axis | None = COARSER.get(axes[0])
        else:
            axis = elementwise_axis(axes)
        if axis is None:
            raise InvalidDag(f"{name}: arguments on the axes {' and '.join(axes)} do not fit")
        return self.add(Node("op", name, args), axis, op_nonneg(name, [self.nonneg[j] for j in args]))

    def fold(self, name: str, places: Iterable[int]) -> int:
        """Combine many values by a commutative operator, those on coarse axes first: they are fewer."""
        first, *others = sorted(places, key=lambda j: FINENESS[self.axes[j]])
        for j in others:
            first = self.op(name, first, j)
        return first

    def ordered(self, args: Iterable[Any]) -> list[Any]:
        """Arguments in an order that does not depend on hashes."""
        return sorted(args, key=self.sp.default_sort_key)

    # ---- expressions

    def read(self, expr: Any) -> int:
        if expr not in self.seen:
            self.seen[expr] = self._read(expr)
        return self.seen[expr]

    def _read(self, expr: Any) -> int:
        if expr.is_Symbol:
            if expr.name not in self.leaves:
                raise UnknownName(f"sympy expression: symbol {expr.name!r} is no leaf")
            leaf = self.leaves[expr.name]
            return self.add(Node("leaf", leaf.name), leaf.axis, leaf.sign == "nonneg")
        if expr.is_number:
            return self.const(_value(expr))
        kind = expr.func
        if kind in self.functions:
            return self.functions[kind](expr)
        if kind in self.rewritten:
            return self.read(expr.rewrite(self.rewritten[kind]))
        if kind in self.quotients:
            above, below = self.quotients[kind]
            x = expr.args[0]
            return self.quotient(self.read(above(x)) if above else None, self.read(below(x)))
        if isinstance(expr, self.sp.core.function.AppliedUndef):
            return self.undefined(str(kind.__name__), [self.read(a) for a in expr.args])
        raise InvalidDag(f"sympy expression: no operator for {kind.__name__}")

    def undefined(self, name: str, args: Sequence[int]) -> int:
        stem, _, axis = name.rpartition("_")
        op = OPS.get(stem)
        if op is None or op.arity != len(args) or axis not in (FINENESS if op.kind == "reduction" else ("",)):
            raise InvalidDag(f"sympy expression: no operator for {name}() with {len(args)} argument(s)")
        if op.kind == "reduction" and self.axes[args[0]] != axis:
            # mean(w/w + numel) is no mean(1 + numel): that one would run over layers
            got = self.axes[args[0]]
            raise InvalidDag(f"{stem}: its argument is on the {got} axis now, not on the {axis} axis")
        return self.op(stem, *args)

    def absolute(self, expr: Any) -> int:
        x = self.read(expr.args[0])
        # sympy keeps Abs of an undefined function even where that is nonnegative
        return x if self.nonneg[x] else self.op("abs", x)

    def log(self, expr: Any) -> int:
        one, rest = expr.args[0].as_coeff_Add()
        if one == 1:
            return self.op("log1p", self.read(rest))
        return self.op("log", self.read(expr.args[0]))

    def maximum(self, expr: Any) -> int:
        args = [a for a in expr.args if a != 0]
        places = [self.read(a) for a in self.ordered(args)]
        largest = self.fold("maximum", places)
        return largest if len(args) == len(expr.args) else self.op("relu", largest)

    def sum(self, expr: Any) -> int:
        number = self.sp.Add(*(a for a in expr.args if a.is_number))
        terms = [number] * (number != 0) + [a for a in self.ordered(expr.args) if not a.is_number]
        above = [self.read(a) for a in terms if not _negative(a)]
        below = [self.read(-a) for a in terms if _negative(a)]
        if not above:
            return self.op("neg", self.fold("add", below))
        total = self.fold("add", above)
        return self.op("sub", total, self.fold("add", below)) if below else total

    def product(self, expr: Any) -> int:
        number = self.sp.Mul(*(a for a in expr.args if a.is_number))
        above: list[int] = []
        below: list[int] = []
        for factor in self.ordered(a for a in expr.args if not a.is_number):
            base, exponent = factor.as_base_exp()
            if not _negative(exponent) or base == self.sp.E or self.logistic(base, exponent) is not None:
                above.append(self.read(factor))
            else:
                below.append(self.power(self.read(base), -exponent))
        negated = number == -1
        if number.is_Rational and abs(number.p) == 1 and number.q > 2:
            below.append(self.const(float(number.q)))  # x/3 is exact, x*(1/3) is not
            negated = number < 0
        elif number != 1 and not negated:
            above.insert(0, self.const(_value(number)))
        top = self.fold("mul", above) if above else None
        result = self.quotient(top, self.fold("mul", below)) if below else top
        assert result is not None  # a product has a factor besides its number
        return self.op("neg", result) if negated else result

    def quotient(self, above: int | None, below: int) -> int:
        return self.op("inv", below) if above is None else self.op("div", above, below)

    def logistic(self, base: Any, exponent: Any) -> Any:
        """Return a if the power is one of the logistic function: base ``1 + exp(-a)``, exponent < 0."""
        if not (exponent.is_number and _negative(exponent) and base.is_Add and len(base.args) == 2):
            return None
        one, rest = base.as_coeff_Add()
        return -rest.args[0] if one == 1 and rest.func == self.sp.exp else None

    def pow(self, expr: Any) -> int:
        a = self.logistic(expr.base, expr.exp)
        if a is not None:
            return self.power(self.op("sigmoid", self.read(a)), -expr.exp)
        return self.power(self.read(expr.base), expr.exp)

    def power(self, x: int, exponent: Any) -> int:
        value = _value(exponent) if exponent.is_number else math.nan
        if abs(value) <= MAX_POWER and (8 * value).is_integer():
            result = self.fixed_power(x, abs(value))
            return self.op("inv", result) if value < 0 else result
        # with a fractional exponent both forms are NaN for a negative base; with a whole one they are not
        if not self.nonneg[x] and (math.isnan(value) or value.is_integer()):
            raise InvalidDag(
                f"sympy expression: a power with exponent {str(exponent)[:40]} has no form in real operators "
                "unless its base is known to be nonnegative"
            )
        return self.op("exp", self.fold("mul", [self.read(exponent), self.op("log", x)]))

    def fixed_power(self, x: int, exponent: float) -> int:
        """Return x to a positive multiple of 1/8: roots of powers that `pow` allows."""
        if not is_half_integer(exponent, limit=MAX_POWER):
            return self.op("sqrt", self.fixed_power(x, 2 * exponent))
        simple = {0.5: "sqrt", 2.0: "square", 3.0: "cube"}
        parts = []
        while exponent > 16:
            parts.append(self.op("pow", x, self.const(16.0)))
            exponent -= 16
        if exponent == 1:
            parts.append(x)
        elif exponent in simple:
            parts.append(self.op(simple[exponent], x))
        else:
            parts.append(self.op("pow", x, self.const(exponent)))
        return self.fold("mul", parts)


def _negative(expr: Any) -> bool:
    """Whether a term starts with a minus: the number in front of it decides, nothing else."""
    coefficient = expr.as_coeff_Mul()[0]
    return bool(coefficient.is_extended_real and coefficient < 0)


def _value(expr: Any) -> float:
    """Return a number as float64; what is not real and finite is refused."""
    try:
        value = float(expr if expr.is_Number else expr.evalf(25))
    except (TypeError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InvalidDag(f"sympy expression: {str(expr)[:40]} is no finite real number")
    return value
