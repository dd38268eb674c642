"""Functions with an algebra of their own: abs, sign, relu, log, exp, and max and min of two."""

from __future__ import annotations

from proxygraph.canon.nodes import Graph
from proxygraph.canon.products import (
    Factors,
    collect_product,
    half_coefficient,
    known_nonneg,
    multiply_in,
    powered,
    split,
)
from proxygraph.canon.rewrite import rewritten
from proxygraph.canon.sums import coefficient, collect_sum, scaled, terms
from proxygraph.patterns import coarser


def absolute(graph: Graph, i: int) -> int:
    """Let out of ``abs`` what is >= 0 or coarser."""
    axis = graph.axes[i]
    outer, inner = split(
        graph, i, lambda b, e: known_nonneg(graph, b, e) or coarser(graph.axes[b], axis), signed=False
    )
    if not outer.powers and outer.coef == 1.0:
        if len(inner.powers) == 1:
            ((base, e),) = inner.powers.items()
            if e != 1.0:
                return collect_product(graph, Factors(1.0, {graph.make("abs", base): e}))
        return rewritten(graph, "abs", collect_product(graph, inner))
    result = Factors(outer.coef)
    for base, e in outer.powers.items():
        multiply_in(graph, result, base if known_nonneg(graph, base, e) else graph.make("abs", base), e)
    if inner.powers:
        multiply_in(graph, result, graph.make("abs", collect_product(graph, inner)), 1.0)
    return collect_product(graph, result)


def sign(graph: Graph, i: int) -> int:
    """A constant factor counts by its sign only."""
    coef, rest = coefficient(graph, i)
    if coef == 0.0:
        return rewritten(graph, "sign", i)
    inner = rewritten(graph, "sign", rest)
    return scaled(graph, -1.0, inner) if coef < 0.0 else inner


def rectified(graph: Graph, i: int) -> int:
    """Let a positive constant factor out of ``relu``."""
    coef, rest = coefficient(graph, i)
    if coef > 0.0 and coef != 1.0:
        return scaled(graph, coef, graph.make("relu", rest))
    return rewritten(graph, "relu", i)


def logarithm(graph: Graph, i: int) -> int:
    """``log(1 + a)`` is log1p(a)."""
    if graph.is_sum(i):
        constant, coefs = terms(graph, [(1.0, i)])
        if constant == 1.0:
            return graph.make("log1p", collect_sum(graph, [(c, j) for j, c in coefs.items()]))
    return rewritten(graph, "log", i)


def exponential(graph: Graph, i: int) -> int:
    """``exp(c * a)`` is a power of exp(a) where `pow` can write it."""
    coef = half_coefficient(graph, i)
    if coef == 1.0:
        return rewritten(graph, "exp", i)
    return powered(graph, (graph.make("exp", coefficient(graph, i)[1]), coef))


def extremum(graph: Graph, op: str, i: int, j: int) -> int:
    """Flatten nested max (or min), drop repetitions, fold constants."""
    found: set[int] = set()
    stack = [i, j]
    while stack:
        part = stack.pop()
        if graph.is_call(part, op):
            stack += graph.nodes[part].args
        else:
            found.add(part)
    constants = [v for part in found if (v := graph.value(part)) is not None]
    if len(constants) > 1:
        found = {part for part in found if graph.value(part) is None}
        found.add(graph.const(max(constants) if op == "maximum" else min(constants)))
    first, *more = sorted(found, key=graph.order.__getitem__)
    for part in more:
        first = rewritten(graph, op, first, part)
    return first
