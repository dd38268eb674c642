"""Products: like factors collected in powers, coarse factors first, one place for the sign."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from proxygraph.canon.nodes import Graph
from proxygraph.canon.rewrite import rewritten
from proxygraph.canon.sums import coefficient, collect_sum, leading_sign, negated, scaled

MAX_EXPONENT = 16.0
"""The largest exponent that pow takes; larger powers are written as powers of powers."""
TOO_LARGE = 1e6
"""Powers are not collected beyond this exponent: no value but 0 and 1 survives it."""

_POWERS = {"square": 2.0, "cube": 3.0, "sqrt": 0.5}


@dataclass
class Factors:
    """A product as coefficient and powers: ``coef * prod(base ** exponent)``."""

    coef: float = 1.0
    powers: dict[int, float] = field(default_factory=dict)

    def multiply(self, base: int, exponent: float) -> None:
        """Multiply a power in."""
        total = self.powers.get(base, 0.0) + exponent
        if total == 0.0:
            self.powers.pop(base, None)
        else:
            self.powers[base] = total

    def absorb(self, constant: float, exponent: float) -> bool:
        """Multiply a constant power into the coefficient, if neither overflows, vanishes or is undefined."""
        try:
            power = constant**exponent
        except (OverflowError, ZeroDivisionError):
            return False
        if isinstance(power, complex):  # a root of a negative number
            return False
        product = self.coef * power
        if not math.isfinite(product) or (abs(product) < 1e-300 and constant != 0.0 and self.coef != 0.0):
            return False
        self.coef = product
        return True


def multiply_in(graph: Graph, out: Factors, i: int, exponent: float) -> None:
    """Multiply ``i ** exponent`` into `out`, taken apart as far as that is true for all arguments.

    With an integer exponent everything may be taken apart. With half an odd number the value is finite only
    if the base is >= 0, so products are taken apart only if every factor is known to be >= 0.
    """
    stack = [(i, exponent)]
    while stack:
        i, e = stack.pop()
        if e == 0.0:
            continue
        node, whole = graph.nodes[i], e.is_integer()
        name = node.name if node.kind == "op" else ""
        power = _exponent(graph, i)
        if node.kind == "const" and out.absorb(node.value, e):
            continue
        if name == "neg" and whole:
            out.coef *= -1.0 if e % 2 else 1.0
            stack.append((node.args[0], e))
        elif name in ("mul", "div") and (whole or all(graph.nonneg[j] for j in node.args)):
            stack += [(node.args[0], e), (node.args[1], e if name == "mul" else -e)]
        elif name == "inv":
            stack.append((node.args[0], -e))
        elif power is not None and (2.0 * e * power).is_integer() and abs(e * power) < TOO_LARGE:
            even = power % 2 == 0
            stack.append((node.args[0] if whole or not even else graph.make("abs", node.args[0]), e * power))
        elif whole and graph.is_sum(i) and leading_sign(graph, i) < 0:
            out.coef *= -1.0 if e % 2 else 1.0
            out.multiply(negated(graph, i), e)
        elif (
            name == "exp"
            and (coef := half_coefficient(graph, node.args[0])) != 1.0
            and (2.0 * coef * e).is_integer()
        ):
            stack.append((graph.make("exp", coefficient(graph, node.args[0])[1]), coef * e))
        else:
            out.multiply(i, e)


def _exponent(graph: Graph, i: int) -> float | None:
    """The exponent of a power, `None` for all else."""
    node = graph.nodes[i]
    if node.kind != "op":
        return None
    return graph.value(node.args[1]) if node.name == "pow" else _POWERS.get(node.name)


def half_coefficient(graph: Graph, i: int) -> float:
    """The constant factor of `i` if it is a power that `pow` can write, else 1."""
    coef, _ = coefficient(graph, i)
    return coef if (2.0 * coef).is_integer() and 0.0 < abs(coef) <= MAX_EXPONENT else 1.0


def collect_product(graph: Graph, factors: Factors) -> int:
    """Write a product down: coarse factors first, so that they are multiplied once per group."""
    _merge(graph, factors)
    coef = _absorbed_sign(graph, factors) if len(factors.powers) > 1 else factors.coef
    order = graph.order
    over, total = True, -1
    for level in sorted({order[i][0] for i in factors.powers}):
        powers = [(i, e) for i, e in factors.powers.items() if order[i][0] == level]
        above = sorted([j for i, e in powers if e > 0 for j in _power(graph, i, e)], key=order.__getitem__)
        below = sorted([j for i, e in powers if e < 0 for j in _power(graph, i, -e)], key=order.__getitem__)
        if total >= 0:
            (above if over else below).insert(0, total)
        first, *more = above or below
        for j in more:
            first = rewritten(graph, "mul", first, j)
        if above and below:
            bottom, *more = below
            for j in more:
                bottom = rewritten(graph, "mul", bottom, j)
            first = graph.call("div", first, bottom)
        over, total = bool(above), first
    if total < 0:
        return graph.const(coef)
    return scaled(graph, coef, total if over else graph.call("inv", total))


def _absorbed_sign(graph: Graph, factors: Factors) -> float:
    """Let a sum take a negative sign, ``-(a - b) * c`` is ``(b - a) * c``; return the coefficient left."""
    if factors.coef >= 0.0:
        return factors.coef
    sums = [i for i, e in factors.powers.items() if e % 2 == 1 and graph.is_sum(i)]
    if not sums:
        return factors.coef
    first = min(sums, key=graph.order.__getitem__)
    exponent = factors.powers.pop(first)
    factors.multiply(negated(graph, first), exponent)
    return -factors.coef


def _merge(graph: Graph, factors: Factors) -> None:
    """Even powers forget abs and the root in l2; absolute values and exponentials of one axis become one."""
    if not any(graph.is_call(i, "abs", "l2", "exp") for i in factors.powers):
        return
    for i, e in list(factors.powers.items()):
        if e % 2 == 0 and graph.is_call(i, "abs", "l2"):
            del factors.powers[i]
            inside = graph.nodes[i].args[0]
            if graph.is_call(i, "abs"):
                multiply_in(graph, factors, inside, e)
            else:
                multiply_in(graph, factors, graph.make("sum", graph.make("square", inside)), e / 2.0)
    for axis in sorted({graph.axes[i] for i in factors.powers}):
        here = [(i, e) for i, e in factors.powers.items() if graph.axes[i] == axis]
        group = [i for i, e in here if e % 2 == 1 and graph.is_call(i, "abs")]
        if len(group) > 1:
            inner = Factors()
            for i in group:
                multiply_in(graph, inner, graph.nodes[i].args[0], factors.powers.pop(i))
            multiply_in(graph, factors, graph.make("abs", collect_product(graph, inner)), 1.0)
        group = [i for i in factors.powers if graph.axes[i] == axis and graph.is_call(i, "exp")]
        if len(group) > 1:
            exponents = [(factors.powers.pop(i), graph.nodes[i].args[0]) for i in group]
            multiply_in(graph, factors, graph.make("exp", collect_sum(graph, exponents)), 1.0)


def _power(graph: Graph, base: int, exponent: float) -> list[int]:
    """Return factors whose product is ``base ** exponent``, exponent > 0."""
    inside = graph.nodes[base].args[0] if graph.is_call(base, "sum") else -1
    if inside >= 0 and graph.is_call(inside, "square") and not exponent.is_integer():
        base, exponent = rewritten(graph, "l2", graph.nodes[inside].args[0]), 2.0 * exponent
    if exponent > MAX_EXPONENT:
        often, rest = divmod(exponent, MAX_EXPONENT)
        large = _power(graph, graph.call("pow", base, graph.const(MAX_EXPONENT)), often)
        return large + (_power(graph, base, rest) if rest else [])
    if exponent == 1.0:
        return [base]
    for name, power in _POWERS.items():
        if exponent == power:
            return [rewritten(graph, name, base)]
    return [rewritten(graph, "pow", base, graph.const(exponent))]


def split(
    graph: Graph, i: int, take: Callable[[int, float], bool], *, signed: bool
) -> tuple[Factors, Factors]:
    """Split a product into the powers that `take` accepts, with the coefficient, and the others.

    If the sign matters (`signed`), a sum takes it when it can, so that none has to be let out.
    """
    every = Factors()
    multiply_in(graph, every, i, 1.0)
    _merge(graph, every)
    outer, inner = Factors(_absorbed_sign(graph, every) if signed else abs(every.coef)), Factors()
    for base, e in every.powers.items():
        (outer if take(base, e) else inner).multiply(base, e)
    return outer, inner


def known_nonneg(graph: Graph, base: int, exponent: float) -> bool:
    """Whether a power is known to be >= 0 wherever finite."""
    return graph.nonneg[base] or exponent % 2 != 1


# ---- operators ---------------------------------------------------------------------------------------------


def powered(graph: Graph, *parts: tuple[int, float]) -> int:
    """Return the product of ``part ** exponent``."""
    factors = Factors()
    for i, e in parts:
        multiply_in(graph, factors, i, e)
    return collect_product(graph, factors)


def mul(graph: Graph, i: int, j: int) -> int:
    """``i * j``."""
    return powered(graph, (i, 1.0), (j, 1.0))


def div(graph: Graph, i: int, j: int) -> int:
    """``i / j``."""
    return powered(graph, (i, 1.0), (j, -1.0))


def power(graph: Graph, i: int, exponent: int) -> int:
    """``i ** exponent``."""
    value = graph.value(exponent)
    assert value is not None, "a checked pow has a constant exponent"
    return powered(graph, (i, value))  # a**0 is 1 for every a, as in IEEE 754
