"""Parts of formulas under construction, each distinct one once, with the facts that the algebra asks for.

A part is named by its position in the graph. Nothing here knows algebra: which constructor makes which
operator canonical is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from proxygraph.dag import (
    FINENESS,
    Dag,
    Node,
    const_key,
    elementwise_axis,
    leaf_key,
    op_key,
    op_nonneg,
)
from proxygraph.leaves import COARSER, Axis, Leaf
from proxygraph.ops import OPS
from proxygraph.patterns import Facts

Order = tuple[int, int, str]
Constructor = Callable[..., int]
"""``f(graph, *args)``, the canonical form of one operator on canonical arguments."""


class Graph:
    """Hash-consed parts.

    Parameters
    ----------
    constructors : mapping of str to Constructor
        By operator; the entry ``""`` serves all others.

    Attributes
    ----------
    nodes, axes, nonneg : list
        By position: the node, its axis, and whether it is known to be >= 0.
    keys : list of str
        Content hashes, the same as ``Dag.keys``.
    order : list of Order
        What arguments are sorted by: fineness, size written out as a tree, then leaves by name and everything
        else by content. It does not depend on what else the graph holds.
    """

    def __init__(self, constructors: Mapping[str, Constructor]) -> None:
        self.constructors = constructors
        self.nodes: list[Node] = []
        self.axes: list[Axis] = []
        self.nonneg: list[bool] = []
        self.keys: list[str] = []
        self.order: list[Order] = []
        self.facts = Facts(self.nodes, self.axes, self.nonneg)
        self.leaves: dict[int, Leaf] = {}
        self.made: dict[tuple[str, tuple[int, ...]], int] = {}
        self._known: dict[object, int] = {}

    # ---- parts as they stand -------------------------------------------------------------------------------

    def const(self, value: float) -> int:
        """Return a constant; there is one zero, -0.0 is 0.0."""
        value += 0.0
        found = self._known.get(value)
        if found is None:
            key = const_key(value)
            found = self._add(value, Node("const", value=value), "row", value >= 0.0, (0, 1, key), key)
        return found

    def leaf(self, leaf: Leaf) -> int:
        """Return a leaf."""
        content = (leaf.name, leaf.axis, leaf.sign)
        found = self._known.get(content)
        if found is None:
            order = (FINENESS[leaf.axis], 1, leaf.name)
            node = Node("leaf", leaf.name)
            found = self._add(content, node, leaf.axis, leaf.sign == "nonneg", order, leaf_key(leaf))
            self.leaves[found] = leaf
        return found

    def call(self, op: str, *args: int) -> int:
        """Return ``op(*args)`` as it stands, arguments of commutative operators in order."""
        if len(args) == 2 and self.order[args[1]] < self.order[args[0]] and OPS[op].commutative:
            args = (args[1], args[0])
        found = self._known.get((op, args))
        if found is None:
            axis = self.axis_of(op, args)
            key = op_key(op, [self.keys[j] for j in args])
            order = (FINENESS[axis], 1 + sum(self.order[j][1] for j in args), key)
            nonneg = op_nonneg(op, [self.nonneg[j] for j in args])
            found = self._add((op, args), Node("op", op, args), axis, nonneg, order, key)
        return found

    def _add(self, content: object, node: Node, axis: Axis, nonneg: bool, order: Order, key: str) -> int:
        self._known[content] = i = len(self.nodes)
        self.nodes.append(node)
        self.axes.append(axis)
        self.nonneg.append(nonneg)
        self.keys.append(key)
        self.order.append(order)
        return i

    # ---- canonical parts -----------------------------------------------------------------------------------

    def make(self, op: str, *args: int) -> int:
        """Return the canonical form of ``op(*args)``, on the axis the operator has."""
        found = self.made.get((op, args))
        if found is None:
            found = self.made[op, args] = self._constructed(op, args)
        return found

    def _constructed(self, op: str, args: tuple[int, ...]) -> int:
        folded = self._folded(op, args)
        if folded is not None:
            return folded
        construct = self.constructors.get(op)
        result = construct(self, *args) if construct else self.constructors[""](self, op, *args)
        # what would change the axis stays as written: a - a on the element axis is no constant
        return result if self.axes[result] == self.axis_of(op, args) else self.call(op, *args)

    def _folded(self, op: str, args: tuple[int, ...]) -> int | None:
        """The value of an operator on constants, if it is finite."""
        nodes = self.nodes
        if nodes[args[0]].kind != "const" or nodes[args[-1]].kind != "const" or OPS[op].kind == "reduction":
            return None
        with np.errstate(all="ignore"):
            (value,) = OPS[op].numpy(np, *(np.array([nodes[j].value]) for j in args))
        return self.const(float(value)) if math.isfinite(value) else None

    # ---- questions -----------------------------------------------------------------------------------------

    def axis_of(self, op: str, args: tuple[int, ...]) -> Axis:
        """The axis of ``op(*args)``."""
        first = self.axes[args[0]]
        if OPS[op].kind == "reduction":
            return COARSER[first]
        if len(args) == 1 or self.axes[args[1]] == first:
            return first
        axis = elementwise_axis([first, self.axes[args[1]]])
        assert axis is not None, "the Dag was checked"
        return axis

    def value(self, i: int) -> float | None:
        """The value of a constant, `None` for all else."""
        node = self.nodes[i]
        return node.value if node.kind == "const" else None

    def is_call(self, i: int, *names: str) -> bool:
        """Whether part `i` is one of these operators."""
        node = self.nodes[i]
        return node.kind == "op" and node.name in names

    def is_sum(self, i: int) -> bool:
        """Whether part `i` is an addition or subtraction."""
        return self.is_call(i, "add", "sub")

    def below(self, root: int) -> list[int]:
        """Return the parts that `root` is made of, itself included, arguments before their users.

        The order depends on the formula only, not on what else the graph holds.
        """
        nodes = self.nodes
        placed: dict[int, None] = {}
        stack = [root]
        while stack:
            i = stack[-1]
            for j in nodes[i].args:
                if j not in placed:
                    stack.append(j)
                    break
            else:
                placed[stack.pop()] = None
        return list(placed)

    def dag(self, root: int) -> Dag:
        """Return the formula of part `root`."""
        parts = self.below(root)
        place = {i: n for n, i in enumerate(parts)}
        nodes = []
        for i in parts:
            node = self.nodes[i]
            nodes.append(Node("op", node.name, tuple([place[j] for j in node.args])) if node.args else node)
        leaves = {self.leaves[i].name: self.leaves[i] for i in parts if i in self.leaves}
        axes, keys = tuple([self.axes[i] for i in parts]), tuple([self.keys[i] for i in parts])
        return Dag.trusted(tuple(nodes), axes, keys, MappingProxyType(dict(sorted(leaves.items()))))
