"""Sums: constants folded, like terms collected, coarse terms first, one place for the sign."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from proxygraph.canon.nodes import Graph
from proxygraph.canon.rewrite import rewritten
from proxygraph.leaves import Axis

Terms = dict[int, float]
"""The coefficient of every part in a sum."""

_ODD = ("tanh", "sin", "sign")


def collect_sum(graph: Graph, parts: Sequence[tuple[float, int]]) -> int:
    """Return the sum of ``coefficient * part``; coarse terms are added first, so once per group."""
    constant, coefs = _merged_logs(graph, *terms(graph, parts))
    order = graph.order
    levels: dict[int, list[tuple[float, int]]] = {0: []}
    for i, coef in coefs.items():
        levels.setdefault(order[i][0], []).append((coef, i))
    sign, total = 1.0, -1
    for level in sorted(levels):
        plus = sorted([scaled(graph, c, i) for c, i in levels[level] if c > 0], key=order.__getitem__)
        minus = sorted([scaled(graph, -c, i) for c, i in levels[level] if c < 0], key=order.__getitem__)
        if level == 0 and constant:
            (plus if constant > 0 else minus).append(graph.const(abs(constant)))
        if total >= 0:
            (plus if sign > 0 else minus).insert(0, total)
        if not plus and not minus:
            continue
        first, *more = plus or minus
        for j in more:
            first = graph.call("add", first, j)
        for j in minus if plus else ():
            first = graph.call("sub", first, j)
        sign, total = (1.0 if plus else -1.0), first
    if total < 0:
        return graph.const(0.0)
    if sign > 0:
        return total
    return graph.call("neg", total) if graph.is_sum(total) else scaled(graph, -1.0, total)


def negated(graph: Graph, i: int) -> int:
    """Return ``-i``."""
    return collect_sum(graph, [(-1.0, i)])


def upright(graph: Graph, i: int) -> int:
    """Return part `i`, a sum up to its sign, for functions that do not see it."""
    return negated(graph, i) if graph.is_sum(i) and leading_sign(graph, i) < 0 else i


def leading_sign(graph: Graph, i: int) -> float:
    """Sign of a sum's first term: ``a - b`` and ``b - a`` are one base in a product."""
    _, coefs = terms(graph, [(1.0, i)])
    first = min(coefs, key=graph.order.__getitem__, default=None)
    return 1.0 if first is None or coefs[first] > 0 else -1.0


def terms(graph: Graph, parts: Iterable[tuple[float, int]]) -> tuple[float, Terms]:
    """Flatten a sum: its constant and the coefficient of every other term.

    What would overflow when added up stays apart.
    """
    constant = 0.0
    coefs: Terms = {}
    stack = list(parts)
    while stack:
        coef, i = stack.pop()
        node = graph.nodes[i]
        if node.kind == "const":
            if math.isfinite(constant + coef * node.value):
                constant += coef * node.value
            else:
                coefs[i] = coefs.get(i, 0.0) + coef
        elif graph.is_sum(i):
            left, right = node.args
            stack += [(coef, left), (-coef if node.name == "sub" else coef, right)]
        else:
            inner, rest = coefficient(graph, i)
            if graph.is_sum(rest) and abs(inner) == 1.0:
                stack.append((coef * inner, rest))
                continue
            total = coefs.get(rest, 0.0) + coef * inner
            if math.isfinite(total):
                coefs[rest] = total
            else:
                coefs[i] = coefs.get(i, 0.0) + coef
    return constant, {i: c for i, c in coefs.items() if c != 0.0}


def coefficient(graph: Graph, i: int) -> tuple[float, int]:
    """Split ``c * rest``."""
    if graph.is_call(i, "neg"):
        return -1.0, graph.nodes[i].args[0]
    if graph.is_call(i, "mul"):
        left, right = graph.nodes[i].args
        for constant, rest in ((left, right), (right, left)):
            value = graph.value(constant)
            if value is not None:
                return value, rest
    elif graph.is_call(i, "div"):
        above, below = graph.nodes[i].args
        value = graph.value(above)
        if value is not None:
            return value, graph.call("inv", below)
    return 1.0, i


def scaled(graph: Graph, factor: float, i: int) -> int:
    """Return ``factor * i``, where `i` is no sum to be negated into itself."""
    inner, rest = coefficient(graph, i)
    coef = factor * inner
    if not _exact(coef, factor, inner):
        return graph.call("mul", graph.const(factor), i)
    value = graph.value(rest)
    if value is not None and _exact(coef * value, coef, value):
        return graph.const(coef * value)
    if coef == 0.0:  # off the row axis there is no constant zero
        return graph.const(0.0) if graph.axes[rest] == "row" else graph.call("mul", graph.const(0.0), rest)
    if coef == 1.0:
        return rest
    if coef == -1.0:
        return _opposite(graph, rest)
    if graph.is_call(rest, "inv"):
        return graph.call("div", graph.const(coef), graph.nodes[rest].args[0])
    return graph.call("mul", graph.const(coef), rest)


def _opposite(graph: Graph, i: int) -> int:
    """Return ``-i`` for a part without coefficient; sums and odd functions of sums take the sign in."""
    if graph.is_sum(i):
        return negated(graph, i)
    node = graph.nodes[i]
    if graph.is_call(i, *_ODD) and graph.is_sum(node.args[0]):
        inside = negated(graph, node.args[0])
        if graph.is_sum(inside):  # b - a, not -(a + b)
            return graph.make(node.name, inside)
    return graph.call("neg", i)


def _exact(product: float, *factors: float) -> bool:
    """Whether a product of constants neither overflowed nor vanished."""
    return math.isfinite(product) and (abs(product) >= 1e-300 or 0.0 in factors)


def _merged_logs(graph: Graph, constant: float, coefs: Terms) -> tuple[float, Terms]:
    """``log(a) + log(b) - log(c)`` is ``log(a * b / c)``, on each axis."""
    logs: dict[Axis, list[int]] = {}
    for i, coef in coefs.items():
        if abs(coef) == 1.0 and graph.is_call(i, "log"):
            logs.setdefault(graph.axes[i], []).append(i)
    if all(len(group) < 2 for group in logs.values()):
        return constant, coefs
    parts = [(coef, i) for i, coef in coefs.items()]
    for group in logs.values():
        if len(group) > 1:
            inside = graph.const(1.0)
            for i in group:
                inside = graph.make("mul" if coefs[i] > 0 else "div", inside, graph.nodes[i].args[0])
            parts = [(coef, i) for coef, i in parts if i not in group] + [(1.0, graph.make("log", inside))]
    more, coefs = terms(graph, parts)
    return constant + more, coefs


# ---- operators ---------------------------------------------------------------------------------------------


def add(graph: Graph, i: int, j: int) -> int:
    """``i + j``."""
    return collect_sum(graph, [(1.0, i), (1.0, j)])


def sub(graph: Graph, i: int, j: int) -> int:
    """``i - j``."""
    return collect_sum(graph, [(1.0, i), (-1.0, j)])


def even(graph: Graph, op: str, i: int) -> int:
    """A function that does not see the sign of its argument."""
    return rewritten(graph, op, upright(graph, i))
