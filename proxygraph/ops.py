"""The operators of formulas: one row per operator, with everything every part of the program knows about it.

A back end, printer or rule looks an operator up here; nothing else keeps a table of operators. ``numpy`` is
the meaning: the reference kernel calls it, and every other column is tested against it.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from proxygraph.errors import ConfigError, UnknownName

Kind = Literal["elementwise", "reduction"]
NonNeg = Literal["always", "args", "any", "never"]

# Binding strength of text and LaTeX forms; an argument weaker than its slot asks for gets brackets.
ADD, MUL, UNARY, POW, ATOM = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Op:
    """One operator.

    Attributes
    ----------
    name : str
        Unique name; also the function name in text unless `call` says otherwise.
    arity : int
        Number of arguments: 1 or 2, and 1 for reductions.
    kind : {"elementwise", "reduction"}
        A reduction goes one axis coarser.
    numpy : callable
        Elementwise: arrays to array. Reduction: ``(values (K,), count)`` to a float, where `count` is the
        true number of entries of which `values` are a fair sample. numpy is passed in: ``f(np, ...)``.
    numba : str
        Scalar expression with ``{0}``, ``{1}``; names ``np`` and ``math``. Empty: cannot be compiled.
    torch : str
        Tensor expression with ``{0}``, ``{1}``; a reduction maps a 1-d tensor to a 0-d one.
    sympy : callable or None
        ``f(sympy, *args)`` to an expression; ``None`` becomes an undefined function.
    latex : str
        Template with ``{0}``, ``{1}``.
    call : str
        Function name in text; two operators may share it if their arities differ.
    infix : str
        Template of the text form when it is not a call.
    prec, slots : int, tuple of int
        Binding strength of the infix and LaTeX forms and what each argument slot asks for.
    commutative : bool
        Arguments are ordered by key in the canonical form.
    nonneg : {"always", "args", "any", "never"}
        When the result is >= 0 wherever finite: always, if all arguments are, if any is, never known.
    domain : str
        Where the result is finite, for people.
    cost : float
        Nanoseconds per element of a vectorised float32 kernel, rounded; used for budgets, not promised.
    init, update, final : tuple of str, tuple of str, str
        Reductions in one pass: accumulators start at `init`, each value ``{x}`` changes them to `update`
        (``{s0}``, ``{s1}``, and ``{first}``, the first value), `final` may use ``{n}`` values seen,
        ``{count}``.
    """

    name: str
    arity: int
    kind: Kind
    numpy: Callable[..., Any]
    numba: str = ""
    torch: str = ""
    sympy: Callable[..., Any] | None = None
    latex: str = ""
    call: str = ""
    infix: str = ""
    prec: int = ATOM
    slots: tuple[int, ...] = ()
    commutative: bool = False
    nonneg: NonNeg = "never"
    domain: str = "all reals"
    cost: float = 0.11
    init: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    final: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("elementwise", "reduction"):
            raise ConfigError(
                f"operator {self.name!r}: kind {self.kind!r} is neither 'elementwise' nor 'reduction'"
            )
        if self.arity not in (1, 2) or (self.kind == "reduction" and self.arity != 1):
            raise ConfigError(
                f"operator {self.name!r}: arity {self.arity}; operators take 1 or 2 arguments, reductions 1"
            )
        for name in (self.name, self.call or self.name):
            if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
                raise ConfigError(f"operator name {name!r} is not an identifier")
        if len(self.init) != len(self.update):
            raise ConfigError(
                f"operator {self.name!r}: {len(self.init)} accumulators but {len(self.update)} updates"
            )
        if not self.call:
            object.__setattr__(self, "call", self.name)
        if not self.latex:
            args = ", ".join(f"{{{i}}}" for i in range(self.arity))
            name = self.name.replace("_", r"\_")
            object.__setattr__(self, "latex", rf"\operatorname{{{{{name}}}}}\left({args}\right)")
        if not self.slots:
            object.__setattr__(self, "slots", (0,) * self.arity)


def _relu(np: Any, a: Any) -> Any:
    return np.maximum(a, 0.0)


def _sigmoid(np: Any, a: Any) -> Any:
    # exp(-a) may overflow to inf, and 1/inf = 0 is right; 0.5*(1+tanh(a/2)) would lose all digits below -36
    return 1.0 / (1.0 + np.exp(-a))


def _scaled_sum(np: Any, v: Any, count: float) -> Any:
    return np.sum(v) * (count / v.size)


def _unary(
    name: str, numpy: Callable[..., Any], numba: str, torch: str, sympy: Callable[..., Any], **kw: Any
) -> Op:
    return Op(name, 1, "elementwise", numpy, numba, torch, sympy, **kw)


def _binary(
    name: str, numpy: Callable[..., Any], numba: str, torch: str, sympy: Callable[..., Any], **kw: Any
) -> Op:
    return Op(name, 2, "elementwise", numpy, numba, torch, sympy, **kw)


# One row per operator, compact on purpose.
# fmt: off
_UNARY = (
    _unary("neg", lambda np, a: np.negative(a), "(-{0})", "(-{0})", lambda sp, a: -a,
           infix="-{0}", latex="-{0}", prec=UNARY, slots=(UNARY,)),
    _unary("abs", lambda np, a: np.abs(a), "abs({0})", "torch.abs({0})", lambda sp, a: sp.Abs(a),
           latex=r"\left|{0}\right|", nonneg="always"),
    # torch's own sign turns NaN into 0
    _unary("sign", lambda np, a: np.sign(a), "(np.sign({0}) + 0.0)",
           "torch.where(torch.isnan({0}), {0}, torch.sign({0}))", lambda sp, a: sp.sign(a),
           latex=r"\operatorname{{sgn}}\left({0}\right)", nonneg="args"),
    _unary("square", lambda np, a: np.square(a), "({0} * {0})", "torch.square({0})", lambda sp, a: a**2,
           latex="{0}^{{2}}", prec=POW, slots=(ATOM,), nonneg="always", domain="|a| < 1e154"),
    _unary("cube", lambda np, a: a * a * a, "({0} * {0} * {0})", "({0} * {0} * {0})", lambda sp, a: a**3,
           latex="{0}^{{3}}", prec=POW, slots=(ATOM,), nonneg="args", domain="|a| < 1e102"),
    _unary("sqrt", lambda np, a: np.sqrt(a), "math.sqrt({0})", "torch.sqrt({0})", lambda sp, a: sp.sqrt(a),
           latex=r"\sqrt{{{0}}}", nonneg="always", domain="a >= 0"),
    _unary("log", lambda np, a: np.log(a), "math.log({0})", "torch.log({0})", lambda sp, a: sp.log(a),
           latex=r"\log\left({0}\right)", domain="a > 0", cost=0.28),
    _unary("log1p", lambda np, a: np.log1p(a), "math.log1p({0})", "torch.log1p({0})",
           lambda sp, a: sp.log(1 + a), latex=r"\log\left(1 + {0}\right)", slots=(ADD,), nonneg="args",
           domain="a > -1", cost=0.28),
    _unary("exp", lambda np, a: np.exp(a), "math.exp({0})", "torch.exp({0})", lambda sp, a: sp.exp(a),
           latex=r"\exp\left({0}\right)", nonneg="always", domain="a < 709", cost=0.22),
    _unary("inv", lambda np, a: 1.0 / a, "(1.0 / {0})", "(1.0 / {0})", lambda sp, a: 1 / a,
           latex=r"\frac{{1}}{{{0}}}", nonneg="args", domain="a != 0"),
    _unary("tanh", lambda np, a: np.tanh(a), "math.tanh({0})", "torch.tanh({0})", lambda sp, a: sp.tanh(a),
           latex=r"\tanh\left({0}\right)", nonneg="args", cost=0.45),
    _unary("sigmoid", _sigmoid, "(1.0 / (1.0 + math.exp(-{0})))",
           "(1.0 / (1.0 + torch.exp(-{0})))",
           lambda sp, a: 1 / (1 + sp.exp(-a)), latex=r"\sigma\left({0}\right)", nonneg="always", cost=0.45),
    _unary("relu", _relu, "np.maximum({0}, 0.0)", "torch.relu({0})", lambda sp, a: sp.Max(a, 0),
           latex=r"\max\left({0}, 0\right)", nonneg="always"),
    _unary("sin", lambda np, a: np.sin(a), "math.sin({0})", "torch.sin({0})", lambda sp, a: sp.sin(a),
           latex=r"\sin\left({0}\right)", cost=0.3),
    _unary("cos", lambda np, a: np.cos(a), "math.cos({0})", "torch.cos({0})", lambda sp, a: sp.cos(a),
           latex=r"\cos\left({0}\right)", cost=0.3),
)

_BINARY = (
    _binary("add", lambda np, a, b: np.add(a, b), "({0} + {1})", "({0} + {1})", lambda sp, a, b: a + b,
            infix="{0} + {1}", latex="{0} + {1}", prec=ADD, slots=(ADD, MUL), commutative=True,
            nonneg="args"),
    _binary("sub", lambda np, a, b: np.subtract(a, b), "({0} - {1})", "({0} - {1})", lambda sp, a, b: a - b,
            infix="{0} - {1}", latex="{0} - {1}", prec=ADD, slots=(ADD, MUL)),
    _binary("mul", lambda np, a, b: np.multiply(a, b), "({0} * {1})", "({0} * {1})", lambda sp, a, b: a * b,
            infix="{0} * {1}", latex=r"{0} \cdot {1}", prec=MUL, slots=(MUL, UNARY), commutative=True,
            nonneg="args"),
    _binary("div", lambda np, a, b: np.divide(a, b), "({0} / {1})", "({0} / {1})", lambda sp, a, b: a / b,
            infix="{0} / {1}", latex=r"\frac{{{0}}}{{{1}}}", prec=MUL, slots=(MUL, UNARY), nonneg="args",
            domain="b != 0"),
    _binary("maximum", lambda np, a, b: np.maximum(a, b), "np.maximum({0}, {1})", "torch.maximum({0}, {1})",
            lambda sp, a, b: sp.Max(a, b), call="max", latex=r"\max\left({0}, {1}\right)", commutative=True,
            nonneg="any"),
    _binary("minimum", lambda np, a, b: np.minimum(a, b), "np.minimum({0}, {1})", "torch.minimum({0}, {1})",
            lambda sp, a, b: sp.Min(a, b), call="min", latex=r"\min\left({0}, {1}\right)", commutative=True,
            nonneg="args"),
    # the exponent is a constant multiple of 1/2: a general power is exp(b*log(a)), which one can write
    _binary("pow", lambda np, a, b: np.power(a, b), "({0} ** {1})", "torch.pow({0}, {1})",
            lambda sp, a, b: a**b, infix="{0}**{1}", latex="{0}^{{{1}}}", prec=POW, slots=(ATOM, ATOM),
            nonneg="args", domain="a > 0, or a != 0 with an integer exponent", cost=0.6),
)
# fmt: on


def _reduction(
    name: str,
    numpy: Callable[..., Any],
    torch: str,
    latex: str,
    nonneg: NonNeg,
    init: tuple[str, ...],
    update: tuple[str, ...],
    final: str,
) -> Op:
    row: dict[str, Any] = {"nonneg": nonneg, "init": init, "update": update, "final": final}
    return Op(name, 1, "reduction", numpy, "", torch, None, latex, **row)


# fmt: off
_REDUCTIONS = (
    _reduction("sum", _scaled_sum, "{0}.sum()", r"\sum_{{{axis}}} {0}", "args",
               ("0.0",), ("{s0} + {x}",), "{s0} * ({count} / {n})"),
    _reduction("mean", lambda np, v, count: np.mean(v), "{0}.mean()",
               r"\operatorname{{mean}}_{{{axis}}}\left({0}\right)", "args",
               ("0.0",), ("{s0} + {x}",), "{s0} / {n}"),
    # population standard deviation (divisor n), as ZiCo and "z-scored weights" use it. Values are shifted by
    # the first one: equal values then have a deviation of exactly 0 (np.std of three times 0.1 is 1e-17), and
    # in a single pass the textbook formula cancels when the mean is large. Squares that overflow give inf,
    # infinite values NaN, as in numpy.
    _reduction("std", lambda np, v, count: np.std(v - v[0]), "{0}.std(correction=0)",
               r"\operatorname{{std}}_{{{axis}}}\left({0}\right)", "always", ("0.0", "0.0"),
               ("{s0} + ({x} - {first})", "{s1} + ({x} - {first}) * ({x} - {first})"),
               "math.sqrt(np.maximum({s1} / {n} - ({s0} / {n}) * ({s0} / {n}), 0.0)) if {s1} < np.inf "
               "else {s0} - {s0} + {s1}"),
    _reduction("min", lambda np, v, count: np.min(v), "{0}.amin()", r"\min_{{{axis}}}\left({0}\right)",
               "args", ("np.inf",), ("np.minimum({s0}, {x})",), "{s0}"),
    _reduction("max", lambda np, v, count: np.max(v), "{0}.amax()", r"\max_{{{axis}}}\left({0}\right)",
               "args", ("-np.inf",), ("np.maximum({s0}, {x})",), "{s0}"),
    _reduction("l1", lambda np, v, count: _scaled_sum(np, np.abs(v), count), "{0}.abs().sum()",
               r"\left\|{0}\right\|_{{1, {axis}}}", "always",
               ("0.0",), ("{s0} + abs({x})",), "{s0} * ({count} / {n})"),
    _reduction("l2", lambda np, v, count: np.sqrt(_scaled_sum(np, np.square(v), count)),
               "{0}.square().sum().sqrt()", r"\left\|{0}\right\|_{{2, {axis}}}", "always",
               ("0.0",), ("{s0} + {x} * {x}",), "math.sqrt({s0} * ({count} / {n}))"),
    _reduction("count", lambda np, v, count: count + 0.0 * np.sum(v), "({0}.numel() + 0.0 * {0}.sum())",
               r"\operatorname{{count}}_{{{axis}}}\left({0}\right)", "always",
               ("0.0",), ("{s0} + 0.0 * {x}",), "({count} + {s0})"),
)

# fmt: on
_TABLE: dict[str, Op] = {op.name: op for op in (*_UNARY, *_BINARY, *_REDUCTIONS)}

OPS: Mapping[str, Op] = MappingProxyType(_TABLE)
"""All operators by name, user operators included."""

BUILTIN: frozenset[str] = frozenset(_TABLE)
"""Names of the operators that come with the package."""


def register(op: Op) -> Op:
    """Add a user operator; from then on every part of the program knows it.

    Parameters
    ----------
    op : Op
        The row. Without `numba` it runs in the reference only; in sympy it is an undefined function unless
        `sympy` says what it is.

    Returns
    -------
    Op
        The same row.

    Raises
    ------
    ConfigError
        If the name, or the text form with this arity, is taken by a different operator.

    Examples
    --------
    >>> _ = register(Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a)),
    ...                 numba="({0} / (1.0 + abs({0})))", torch="({0} / (1.0 + torch.abs({0})))"))
    >>> unregister("softsign")
    """
    if op.name in _TABLE and _TABLE[op.name] != op:
        raise ConfigError(f"operator {op.name!r} exists already; choose another name")
    if op.infix and op.name not in BUILTIN:
        raise ConfigError(
            f"operator {op.name!r}: infix forms are for built-in operators, which the parser knows"
        )
    for other in _TABLE.values():
        if (
            other.name != op.name
            and op.arity == other.arity
            and {op.name, op.call} & {other.name, other.call}
        ):
            raise ConfigError(
                f"operator {op.name!r}: {op.call}() with {op.arity} argument(s) already means "
                f"{other.name!r}; set another call name"
            )
    _TABLE[op.name] = op
    return op


def unregister(name: str) -> None:
    """Remove a user operator; built-in ones stay (`UnknownName` if there is no such user operator)."""
    if name in BUILTIN or name not in _TABLE:
        raise UnknownName(f"no user operator named {name!r}")
    del _TABLE[name]


def find(call: str, arity: int) -> Op:
    """Return the operator written ``call(...)`` with that many arguments.

    Raises
    ------
    UnknownName
        If there is none; the message lists near names or the right number of arguments.
    """
    same = [op for op in _TABLE.values() if op.call == call or op.name == call]
    for op in same:
        if op.arity == arity:
            return op
    if same:
        raise UnknownName(
            f"{call}() takes {' or '.join(str(o.arity) for o in same)} argument(s), got {arity}"
        )
    import difflib

    names = sorted({op.call for op in _TABLE.values()})
    near = difflib.get_close_matches(call, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    raise UnknownName(f"unknown operator {call!r}; {hint}")


def is_half_integer(exponent: float, limit: float = 16.0) -> bool:
    """Whether `exponent` may stand in ``pow``: a multiple of 1/2, at most `limit` in size."""
    return math.isfinite(exponent) and abs(exponent) <= limit and float(2.0 * exponent).is_integer()
