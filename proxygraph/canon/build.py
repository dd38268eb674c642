"""Which constructor belongs to which operator, and the way in: `canonical`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from proxygraph.canon import functions, products, reductions, sums
from proxygraph.canon.nodes import Constructor, Graph
from proxygraph.canon.rewrite import rewritten
from proxygraph.dag import Dag

MAX_PASSES = 16


def _with_name(construct: Constructor, op: str) -> Constructor:
    """A constructor that serves several operators, for one of them."""
    return lambda graph, *args: construct(graph, op, *args)


def _power(exponent: float) -> Constructor:
    return lambda graph, i: products.powered(graph, (i, exponent))


CONSTRUCTORS: Mapping[str, Constructor] = MappingProxyType(
    {
        "": rewritten,
        "add": sums.add,
        "sub": sums.sub,
        "neg": sums.negated,
        "mul": products.mul,
        "div": products.div,
        "inv": _power(-1.0),
        "square": _power(2.0),
        "cube": _power(3.0),
        "sqrt": _power(0.5),
        "pow": products.power,
        "abs": functions.absolute,
        "sign": functions.sign,
        "relu": functions.rectified,
        "log": functions.logarithm,
        "exp": functions.exponential,
        "count": reductions.counted,
        **{op: _with_name(functions.extremum, op) for op in ("maximum", "minimum")},
        **{op: _with_name(reductions.reduced, op) for op in ("sum", "mean", "std", "l1", "l2", "max", "min")},
        **{op: _with_name(sums.even, op) for op in ("cos",)},
    }
)


class Canonicaliser:
    """`canonical` with a memory: parts that it has met before cost a look-up.

    The result is the same as that of `canonical`, whatever came before. Not for use by several threads at
    once.

    Parameters
    ----------
    max_nodes : int
        When it knows more parts than that, it forgets all (about 600 bytes each).
    """

    def __init__(self, max_nodes: int = 100_000) -> None:
        self.max_nodes = max_nodes
        self.graph = Graph(CONSTRUCTORS)
        self.settled: set[int] = set()

    def __call__(self, dag: Dag) -> Dag:
        """Return the canonical spelling of a formula."""
        if len(self.graph.nodes) > self.max_nodes:
            self.graph, self.settled = Graph(CONSTRUCTORS), set()
        graph = self.graph
        ids: list[int] = []
        for node in dag.nodes:
            if node.kind == "op":
                ids.append(graph.make(node.name, *[ids[j] for j in node.args]))
            else:
                ids.append(
                    graph.const(node.value) if node.kind == "const" else graph.leaf(dag.leaves[node.name])
                )
        return graph.dag(self._fixed_point(ids[-1]))

    def _fixed_point(self, root: int) -> int:
        """Rebuild until nothing changes: one pass is almost always enough, but may open the way for another.

        Should spellings ever go round in a circle, the first in order represents it.
        """
        seen: list[int] = []
        while root not in seen and len(seen) < MAX_PASSES:
            seen.append(root)
            root = self._rebuilt(root)
        return min(seen[seen.index(root) :], key=self.graph.order.__getitem__) if root in seen else root

    def _rebuilt(self, root: int) -> int:
        """Make every part of `root` once more."""
        graph = self.graph
        if root in self.settled:
            return root
        place: dict[int, int] = {}
        for i in graph.below(root):
            node = graph.nodes[i]
            if not node.args or i in self.settled:
                place[i] = i
                continue
            args = [place[j] for j in node.args]
            place[i] = graph.make(node.name, *args)
            if place[i] == i and tuple(args) == node.args:
                self.settled.add(i)
        return place[root]


def canonical(dag: Dag) -> Dag:
    """Return the canonical spelling of a formula.

    Wherever `dag` and all its parts are finite, the result has the same value up to rounding; it may be
    finite in more places. (Where a part is infinite, as in ``1 / (1 / 0)``, nothing is promised.)
    ``canonical(canonical(d)) == canonical(d)``.

    Parameters
    ----------
    dag : Dag
        Any formula.

    Returns
    -------
    Dag
        Equal keys mean equal formulas.

    Examples
    --------
    >>> from proxygraph.infix import parse, text
    >>> print(text(canonical(parse("sum(sum(abs(2*g*w)))"))))
    2 * sum(l1(g * w))
    """
    return Canonicaliser()(dag)
