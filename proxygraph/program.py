"""Many formulas as one list of instructions.

A program is what kernels run: the nodes of one or many Dags in one topological order, equal parts computed
once, and the positions of the results. It knows nothing about data or back ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxygraph.dag import Dag, Node, leaves_of
from proxygraph.errors import InvalidDag
from proxygraph.leaves import Axis, Leaf


@dataclass(frozen=True)
class Program:
    """Linear instructions; made by `lower`.

    Attributes
    ----------
    nodes : tuple of Node
        Arguments stand before their use, no value is computed twice.
    axes : tuple of str
        Axis of every node.
    keys : tuple of str
        Content hash of every node: equal keys, equal values on equal data.
    outputs : tuple of int
        Position of each formula's result, in the order they were given.
    leaves : mapping of str to Leaf
        The leaves that occur.
    """

    nodes: tuple[Node, ...]
    axes: tuple[Axis, ...]
    keys: tuple[str, ...]
    outputs: tuple[int, ...]
    leaves: Mapping[str, Leaf]

    @property
    def key(self) -> str:
        """Content hash of the whole program."""
        text = ",".join(self.keys[i] for i in self.outputs)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def __reduce__(self) -> tuple[object, ...]:
        return (Program, (self.nodes, self.axes, self.keys, self.outputs, dict(self.leaves)))


def lower(dags: Sequence[Dag]) -> Program:
    """Lower formulas to one program that computes every distinct part once.

    Raises
    ------
    InvalidDag
        If two formulas disagree about the axis or sign of a leaf.
    """
    leaves = leaves_of(dags)
    position: dict[str, int] = {}
    nodes: list[Node] = []
    axes: list[Axis] = []
    outputs = []
    for dag in dags:
        for name, leaf in dag.leaves.items():
            if (leaves[name].axis, leaves[name].sign) != (leaf.axis, leaf.sign):
                raise InvalidDag(f"leaf {name!r} means different things in two formulas of one program")
        for node, axis, key in zip(dag.nodes, dag.axes, dag.keys, strict=True):
            if key not in position:
                position[key] = len(nodes)
                args = tuple(position[dag.keys[j]] for j in node.args)
                nodes.append(Node(node.kind, node.name, args, node.value))
                axes.append(axis)
        outputs.append(position[dag.key])
    return Program(tuple(nodes), tuple(axes), tuple(position), tuple(outputs), leaves)
