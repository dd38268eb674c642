"""Rewriting by the table in ``proxygraph.rules``."""

from __future__ import annotations

from proxygraph.canon.nodes import Graph
from proxygraph.patterns import Pattern, match, rules_for


def rewritten(graph: Graph, op: str, *args: int) -> int:
    """Return ``op(*args)`` after the first rule that fits, or as it stands if none does."""
    nodes = graph.nodes
    kinds = tuple([nodes[j].name if nodes[j].kind == "op" else nodes[j].kind for j in args])
    for lhs, rhs in rules_for(op, kinds):
        bound = match(lhs, op, args, graph.facts)
        if bound is not None:
            return _instance(graph, rhs, bound)
    return graph.call(op, *args)


def _instance(graph: Graph, pattern: Pattern, bound: dict[str, int]) -> int:
    """Build the right side of a rule."""
    if pattern.letter:
        return bound[pattern.letter]
    if not pattern.op:
        return graph.const(pattern.value)
    return graph.make(pattern.op, *(_instance(graph, p, bound) for p in pattern.args))
