"""Reductions: what is constant within a group is let out."""

from __future__ import annotations

from proxygraph.canon.nodes import Graph
from proxygraph.canon.products import Factors, collect_product, known_nonneg, multiply_in, split
from proxygraph.canon.rewrite import rewritten
from proxygraph.canon.sums import collect_sum, terms
from proxygraph.patterns import coarser

_LINEAR = frozenset({"sum", "mean"})
_HOMOGENEOUS = frozenset({"std", "l1", "l2"})
_MONOTONE = frozenset({"max", "min"})
_SHIFTED = frozenset({"mean", "std", "max", "min"})


def reduced(graph: Graph, op: str, i: int) -> int:
    """Return the reduction of `i` with coarser factors and terms outside."""
    axis = graph.axes[i]
    if op in _LINEAR | _HOMOGENEOUS | _MONOTONE:
        outer, inner = split(
            graph,
            i,
            lambda b, e: coarser(graph.axes[b], axis) and (op not in _MONOTONE or known_nonneg(graph, b, e)),
            signed=op not in _HOMOGENEOUS,
        )
        core = collect_product(graph, inner)
        if graph.axes[core] == axis:  # else something like a**0 was all that made it fine
            if outer.powers or outer.coef != 1.0:
                return _let_out(graph, op, outer, core)
            i = core
    if op in _SHIFTED:
        constant, coefs = terms(graph, [(1.0, i)])
        outside = [(c, j) for j, c in coefs.items() if coarser(graph.axes[j], axis)]
        inside = [(c, j) for j, c in coefs.items() if not coarser(graph.axes[j], axis)]
        rest = collect_sum(graph, inside) if outside or constant else i
        if rest != i and graph.axes[rest] == axis:
            core = graph.make(op, rest)
            if op == "std":
                return core
            return collect_sum(graph, [(1.0, core), (constant, graph.const(1.0)), *outside])
    return rewritten(graph, op, i)


def _let_out(graph: Graph, op: str, outer: Factors, inner: int) -> int:
    """Multiply the reduction of `inner` by the factors that are constant within a group."""
    if op in _MONOTONE and outer.coef < 0.0:
        op = "min" if op == "max" else "max"
    result = Factors(outer.coef)
    for base, e in outer.powers.items():
        keep = op not in _HOMOGENEOUS or known_nonneg(graph, base, e)
        multiply_in(graph, result, base if keep else graph.make("abs", base), e)
    multiply_in(graph, result, graph.make(op, inner), 1.0)
    return collect_product(graph, result)


def counted(graph: Graph, i: int) -> int:
    """``count`` sees only the axis: count the first leaf on it.

    A layer value made by reductions alone has no layer leaf below it; then it stays.
    """
    leaves = [j for j in graph.below(i) if graph.nodes[j].kind == "leaf" and graph.axes[j] == graph.axes[i]]
    return graph.call("count", min(leaves, key=graph.order.__getitem__, default=i))
