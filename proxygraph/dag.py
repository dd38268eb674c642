"""Frozen, typed computation graphs.

A formula is a directed acyclic graph of operators, leaves and constants. It is kept in a compact form, a
tuple of nodes in topological order whose last one is the root, because search makes millions of them;
`Dag.graph` is the same graph as a networkx ``MultiDiGraph`` (edge key = argument slot, so that ``x*x`` keeps
both edges) and `Dag.from_graph` reads one back. Nothing here knows texts, rules or numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from proxygraph.errors import InvalidDag, ParseError
from proxygraph.leaves import COARSER, STATISTICS, Axis, Leaf
from proxygraph.ops import OPS, is_half_integer

if TYPE_CHECKING:
    import networkx as nx

FORMAT = "proxygraph.dag"
VERSION = 1
FINENESS: Mapping[str, int] = MappingProxyType({"row": 0, "layer": 1, "activation": 2, "element": 2})


@dataclass(frozen=True, slots=True)
class Node:
    """One node: an operator with argument positions, a leaf by name, or a constant.

    Examples
    --------
    >>> Node("leaf", "w"), Node("const", value=2.0), Node("op", "mul", (0, 1))
    (Node('leaf', 'w'), Node('const', value=2.0), Node('op', 'mul', (0, 1)))
    """

    kind: Literal["op", "leaf", "const"]
    name: str = ""
    args: tuple[int, ...] = ()
    value: float = 0.0

    def __repr__(self) -> str:
        if self.kind == "const":
            return f"Node('const', value={self.value!r})"
        return f"Node({self.kind!r}, {self.name!r}" + (f", {self.args})" if self.args else ")")


def elementwise_axis(axes: Sequence[Axis]) -> Axis | None:
    """Return the axis of an elementwise result: the finest one; `None` if the axes do not fit together."""
    finest = max(axes, key=FINENESS.__getitem__)
    if any(FINENESS[a] == FINENESS[finest] and a != finest for a in axes):
        return None
    return finest


def _axis(
    i: int, node: Node, axes: Sequence[Axis], nodes: Sequence[Node], leaves: Mapping[str, Leaf]
) -> Axis:
    """Check one node whose arguments are checked already; return its axis."""
    if node.kind != "op" and node.args:
        raise InvalidDag(f"node {i}: only operators have arguments, this is a {node.kind}")
    if node.kind == "leaf":
        if node.name not in leaves:
            raise InvalidDag(f"node {i}: unknown leaf {node.name!r}")
        return leaves[node.name].axis
    if node.kind == "const":
        if not math.isfinite(node.value):
            raise InvalidDag(f"node {i}: constant {node.value!r} is not finite")
        return "row"
    if node.kind != "op":
        raise InvalidDag(f"node {i}: kind {node.kind!r} is none of 'op', 'leaf', 'const'")
    if node.name not in OPS:
        raise InvalidDag(f"node {i}: unknown operator {node.name!r}")
    op = OPS[node.name]
    if len(node.args) != op.arity:
        raise InvalidDag(f"node {i} ({op.name}): expected {op.arity} arguments, got {len(node.args)}")
    for j in node.args:
        if not 0 <= j < i:
            raise InvalidDag(f"node {i} ({op.name}): argument {j} does not stand before it")
    got = [axes[j] for j in node.args]
    if op.kind == "reduction":
        if got[0] not in COARSER:
            raise InvalidDag(f"node {i} ({op.name}): cannot reduce a value that is on the row axis already")
        return COARSER[got[0]]
    axis = elementwise_axis(got)
    if axis is None:
        raise InvalidDag(
            f"node {i} ({op.name}): arguments on the axes {' and '.join(got)} do not pair up; "
            "reduce both to the layer axis first"
        )
    if op.name == "pow":
        exponent = nodes[node.args[1]]
        if exponent.kind != "const" or not is_half_integer(exponent.value):
            raise InvalidDag(
                f"node {i} (pow): the exponent must be a constant multiple of 0.5, at most 16 in size; "
                "write exp(b*log(a)) for a general power"
            )
    return axis


class Dag:
    """A checked formula.

    Parameters
    ----------
    nodes : sequence of Node
        In topological order, the last one is the root. Equal nodes are merged, so that a part that occurs
        twice is one node.
    leaves : mapping of str to Leaf
        What leaf names mean; by default the statistics of networks.
    root_axis : str or None
        The axis the root must be on; ``None`` allows any (parts of formulas).

    Attributes
    ----------
    nodes : tuple of Node
    leaves : mapping of str to Leaf
        The leaves that occur.
    axes : tuple of str
        Axis of every node.

    Raises
    ------
    InvalidDag
        If arity, argument order, axes or the number of roots are wrong; the message names the node.

    Notes
    -----
    Two Dags are equal when their `key` is equal: same structure up to the order of commutative arguments.

    Examples
    --------
    >>> snip = Dag([Node("leaf", "w"), Node("leaf", "g"), Node("op", "mul", (0, 1)), Node("op", "l1", (2,)),
    ...             Node("op", "sum", (3,))])
    >>> snip.size, snip.depth, snip.axes[-1]
    (5, 3, 'row')
    """

    __slots__ = ("__dict__", "axes", "leaves", "nodes")

    nodes: tuple[Node, ...]
    leaves: Mapping[str, Leaf]
    axes: tuple[Axis, ...]

    def __init__(
        self, nodes: Sequence[Node], leaves: Mapping[str, Leaf] = STATISTICS, root_axis: Axis | None = "row"
    ) -> None:
        if not nodes:
            raise InvalidDag("a formula needs at least one node")
        axes: list[Axis] = []
        for i, node in enumerate(nodes):
            axes.append(_axis(i, node, axes, nodes, leaves))
        merged, merged_axes = _merge(nodes, axes)
        used = {j for node in merged for j in node.args}
        roots = [i for i in range(len(merged)) if i not in used]
        if roots != [len(merged) - 1]:
            loose = ", ".join(f"node {i} ({merged[i].name or merged[i].value})" for i in roots[:3])
            raise InvalidDag(f"a formula has one root, the last node; here {loose} lead nowhere else")
        if root_axis is not None and merged_axes[-1] != root_axis:
            raise InvalidDag(
                f"the root is on the {merged_axes[-1]} axis, not on the {root_axis} axis; reduce it "
                f"once more, e.g. with sum(...)"
            )
        object.__setattr__(self, "nodes", merged)
        object.__setattr__(self, "axes", merged_axes)
        names = sorted({n.name for n in merged if n.kind == "leaf"})
        object.__setattr__(self, "leaves", MappingProxyType({name: leaves[name] for name in names}))

    @classmethod
    def trusted(
        cls,
        nodes: tuple[Node, ...],
        axes: tuple[Axis, ...],
        keys: tuple[str, ...],
        leaves: Mapping[str, Leaf],
    ) -> Dag:
        """Return a Dag without checking it: for `proxygraph.canon`, which can only build valid ones."""
        dag = object.__new__(cls)
        object.__setattr__(dag, "nodes", nodes)
        object.__setattr__(dag, "axes", axes)
        object.__setattr__(dag, "leaves", leaves)
        dag.__dict__["keys"] = keys
        return dag

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Dag is frozen; use replace() to make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Dag is frozen")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Dag, (self.nodes, dict(self.leaves), None))

    # ---- identity ------------------------------------------------------------------------------------------

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Content hash of every node: operator and argument keys, constants by ``float.hex``."""
        keys: list[str] = []
        for node in self.nodes:
            if node.kind == "const":
                keys.append(const_key(node.value))
            elif node.kind == "leaf":
                keys.append(leaf_key(self.leaves[node.name]))
            else:
                keys.append(op_key(node.name, [keys[j] for j in node.args]))
        return tuple(keys)

    @property
    def key(self) -> str:
        """Content hash of the formula, 24 hexadecimal digits."""
        return self.keys[-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dag) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    # ---- shape ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def size(self) -> int:
        """Number of nodes; a part that occurs twice counts once."""
        return len(self.nodes)

    @cached_property
    def depth(self) -> int:
        """Number of operators on the longest path from a leaf to the root."""
        depths: list[int] = []
        for node in self.nodes:
            depths.append(1 + max(depths[j] for j in node.args) if node.args else 0)
        return depths[-1]

    @cached_property
    def uses(self) -> tuple[int, ...]:
        """How many argument slots refer to each node."""
        uses = [0] * len(self.nodes)
        for node in self.nodes:
            for j in node.args:
                uses[j] += 1
        return tuple(uses)

    @cached_property
    def nonneg(self) -> tuple[bool, ...]:
        """Whether each node is known to be >= 0 wherever it is finite, from the signs of the leaves."""
        known: list[bool] = []
        for node in self.nodes:
            if node.kind == "const":
                known.append(node.value >= 0.0)
            elif node.kind == "leaf":
                known.append(self.leaves[node.name].sign == "nonneg")
            else:
                known.append(op_nonneg(node.name, [known[j] for j in node.args]))
        return tuple(known)

    def part(self, at: int) -> Dag:
        """Return the formula below node `at`, whatever its axis."""
        return Dag(reachable(self.nodes, at), self.leaves, root_axis=None)

    def replace(self, at: int, node: Node) -> Dag:
        """Return a new, checked Dag with node `at` exchanged; nodes nobody needs any more are dropped.

        Raises
        ------
        InvalidDag
            If there is no node `at` or the result breaks a rule.
        """
        if not 0 <= at < len(self.nodes):
            raise InvalidDag(f"no node {at}: the formula has {len(self.nodes)} nodes")
        if any(j >= at for j in node.args):
            raise InvalidDag(f"node {at}: arguments {node.args} must stand before it")
        nodes = [*self.nodes[:at], node, *self.nodes[at + 1 :]]
        return Dag(reachable(nodes, len(nodes) - 1), {**STATISTICS, **self.leaves})

    # ---- networkx and JSON ---------------------------------------------------------------------------------

    @property
    def graph(self) -> nx.MultiDiGraph[int]:
        """The formula as a networkx graph (a fresh copy): edges run from argument to user, key = slot."""
        import networkx as nx

        graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
        for i, node in enumerate(self.nodes):
            content = {"value": node.value} if node.kind == "const" else {"name": node.name}
            graph.add_node(i, kind=node.kind, axis=self.axes[i], **content)
            for slot, j in enumerate(node.args):
                graph.add_edge(j, i, key=slot)
        return graph

    @classmethod
    def from_graph(
        cls,
        graph: nx.MultiDiGraph[Any],
        leaves: Mapping[str, Leaf] = STATISTICS,
        root_axis: Axis | None = "row",
    ) -> Dag:
        """Read a networkx graph made like `graph`.

        Raises
        ------
        InvalidDag
            If it has a cycle, not exactly one root, or argument slots that are missing or doubled.
        """
        import networkx as nx

        if not isinstance(graph, nx.MultiDiGraph):
            raise InvalidDag(
                "expected a networkx MultiDiGraph (a DiGraph keeps one edge per pair and loses x*x)"
            )
        try:
            # depth-first from the roots would do; this order is independent of insertion, and that of
            # `to_json` again
            order = list(nx.lexicographical_topological_sort(graph, key=_in_order))
        except nx.NetworkXUnfeasible:
            raise InvalidDag("the graph has a cycle") from None
        place = {n: i for i, n in enumerate(order)}
        nodes = []
        for n in order:
            data = graph.nodes[n]
            slots = {slot: place[source] for source, _, slot in graph.in_edges(n, keys=True)}
            if sorted(slots, key=str) != list(range(graph.in_degree(n))):
                raise InvalidDag(
                    f"node {n!r}: argument slots {sorted(slots, key=str)} are not 0..{graph.in_degree(n) - 1}"
                )
            args = tuple(slots[s] for s in range(len(slots)))
            nodes.append(_node_from_attributes(n, data, args))
        roots = [i for i, n in enumerate(order) if graph.out_degree(n) == 0]
        if len(roots) != 1:
            raise InvalidDag(f"a formula has one root; the graph has {len(roots)}")
        return cls(reachable(nodes, roots[0]), leaves, root_axis)

    def to_json(self) -> dict[str, Any]:
        """Return the formula as plain data: networkx node-link form plus the leaves it uses."""
        # written here, since networkx takes a quarter of a second to load; a test compares
        nodes = [
            {
                "kind": node.kind,
                "axis": axis,
                **({"value": node.value} if node.kind == "const" else {"name": node.name}),
                "id": i,
            }
            for i, (node, axis) in enumerate(zip(self.nodes, self.axes, strict=True))
        ]
        edges = [
            (j, slot, {"source": j, "target": i, "key": slot})
            for i, node in enumerate(self.nodes)
            for slot, j in enumerate(node.args)
        ]
        edges.sort(key=lambda edge: edge[0])  # as networkx lists them: by argument, then by user
        leaves = {name: {"axis": leaf.axis, "sign": leaf.sign} for name, leaf in self.leaves.items()}
        data = {"directed": True, "multigraph": True, "graph": {}, "nodes": nodes}
        return {
            "format": FORMAT,
            "version": VERSION,
            "leaves": leaves,
            **data,
            "edges": [edge for _, _, edge in edges],
        }

    @classmethod
    def from_json(cls, data: Any, root_axis: Axis | None = "row") -> Dag:
        """Read what `to_json` wrote.

        Raises
        ------
        ParseError
            If `data` is not of that form or version.
        InvalidDag
            If the graph in it breaks a rule.
        """
        import networkx as nx

        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ParseError(f'not a formula: expected JSON with "format": "{FORMAT}"')
        if data.get("version") != VERSION:
            raise ParseError(
                f"formula written by version {data.get('version')!r}; this program reads {VERSION}"
            )
        try:
            graph = nx.node_link_graph(data, directed=True, multigraph=True, edges="edges")
            leaves = {str(name): _leaf_from_json(str(name), row) for name, row in data["leaves"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, nx.NetworkXException) as error:
            raise ParseError(f"not a formula in node-link form: {error!r}") from None
        return cls.from_graph(graph, leaves, root_axis)

    def __repr__(self) -> str:
        return f"Dag({list(self.nodes)!r})"


def _in_order(name: object) -> tuple[int, int, str]:
    """Sort numbers as numbers, before all other names of nodes."""
    return (0, int(name), "") if isinstance(name, Integral) else (1, 0, str(name))


def const_key(value: float) -> str:
    """Content hash of a constant: every float64 has its own."""
    return _digest(f"c{value.hex()}")


def leaf_key(leaf: Leaf) -> str:
    """Content hash of a leaf: name and axis."""
    return _digest(f"l{leaf.axis}:{leaf.name}")


def op_key(name: str, args: Sequence[str]) -> str:
    """Content hash of an operator on arguments with these hashes, sorted if it is commutative."""
    return _digest(f"o{name}({','.join(sorted(args) if OPS[name].commutative else args)})")


def _digest(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def op_nonneg(name: str, args: Sequence[bool]) -> bool:
    """Whether an operator's result is known to be >= 0, given the same knowledge of its arguments."""
    rule = OPS[name].nonneg
    return rule == "always" or (rule == "args" and all(args)) or (rule == "any" and any(args))


def _merge(nodes: Sequence[Node], axes: Sequence[Axis]) -> tuple[tuple[Node, ...], tuple[Axis, ...]]:
    """Make equal nodes one."""
    seen: dict[tuple[Any, ...], int] = {}
    place: list[int] = []
    merged: list[Node] = []
    merged_axes: list[Axis] = []
    for node, axis in zip(nodes, axes, strict=True):
        args = tuple(place[j] for j in node.args)
        # float.hex tells -0.0 from 0.0, which == does not
        content = (node.kind, node.name, args, node.value.hex() if node.kind == "const" else "")
        if content not in seen:
            seen[content] = len(merged)
            merged.append(node if args == node.args else Node(node.kind, node.name, args, node.value))
            merged_axes.append(axis)
        place.append(seen[content])
    return tuple(merged), tuple(merged_axes)


def reachable(nodes: Sequence[Node], root: int) -> tuple[Node, ...]:
    """Return the nodes that `root` needs, renumbered, `root` last."""
    need = [False] * (root + 1)
    need[root] = True
    for i in range(root, -1, -1):
        if need[i]:
            for j in nodes[i].args:
                need[j] = True
    place: dict[int, int] = {}
    kept: list[Node] = []
    for i in range(root + 1):
        if need[i]:
            place[i] = len(kept)
            node = nodes[i]
            kept.append(Node(node.kind, node.name, tuple(place[j] for j in node.args), node.value))
    return tuple(kept)


def leaves_of(dags: Iterable[Dag]) -> dict[str, Leaf]:
    """Return all leaves that occur in `dags`."""
    return {name: leaf for dag in dags for name, leaf in dag.leaves.items()}


def _node_from_attributes(n: object, data: Mapping[str, Any], args: tuple[int, ...]) -> Node:
    kind = data.get("kind")
    if kind == "const":
        value = data.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidDag(f"node {n!r}: the value of a constant must be a number, not {value!r}")
        try:
            return Node("const", args=args, value=float(value))
        except OverflowError:
            raise InvalidDag(f"node {n!r}: the value of a constant is too large for float64") from None
    name = data.get("name")
    if kind not in ("op", "leaf") or not isinstance(name, str):
        raise InvalidDag(f"node {n!r}: needs kind 'op', 'leaf' or 'const' and a name, got {dict(data)!r}")
    return Node(kind, name, args)


def _leaf_from_json(name: str, row: Mapping[str, Any]) -> Leaf:
    if row["axis"] not in FINENESS or row["sign"] not in ("nonneg", "any"):
        raise ParseError(f"leaf {name!r}: unknown axis {row['axis']!r} or sign {row['sign']!r}")
    return STATISTICS[name] if _same(name, row) else Leaf(name, row["axis"], row["sign"])


def _same(name: str, row: Mapping[str, Any]) -> bool:
    known = STATISTICS.get(name)
    return known is not None and (known.axis, known.sign) == (row["axis"], row["sign"])
