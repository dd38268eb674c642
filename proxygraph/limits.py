"""Whether a formula in its final form, with sign, scale and offset, keeps the limits of its user.

A search checks the formulas it breeds. What is written down is another formula: simplified, with fitted and
rounded constants, and with a line around it. It is checked here, once more and whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from proxygraph.behaviour import Behaviour, BehaviourCheck
from proxygraph.compact.forest import Vocabulary, to_forest, tree_length
from proxygraph.constraints import Constraints
from proxygraph.dag import Dag, Node
from proxygraph.table import StatTable


@dataclass(frozen=True, eq=False)
class Limits:
    """What every formula of a result must keep.

    Attributes
    ----------
    max_size : int
        Most nodes, sign, scale and offset included.
    constraints : Constraints
    behaviour : Behaviour
    table : StatTable
        Rows that behaviour is looked at on; its leaves are those that formulas may use.
    threads : int
    """

    max_size: int
    constraints: Constraints
    behaviour: Behaviour
    table: StatTable
    threads: int = 1

    def kept(self, dag: Dag) -> Dag | None:
        """Return the formula, spelled with the operators allowed; None if it breaks a limit."""
        if not dag.leaves.keys() <= self.table.leaves.keys():
            return None
        if self.constraints.ops is not None:
            dag = respelled(dag, frozenset(self.constraints.ops))
        if dag.size > self.max_size:
            return None
        if not self.constraints.is_empty and not self.constraints.admits([dag], self._vocabulary)[0]:
            return None
        if self._check is None or self._check.holds(to_forest([dag], self._vocabulary, tree_length(dag)))[0]:
            return dag
        return None

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self.table.leaves)

    @cached_property
    def _check(self) -> BehaviourCheck | None:
        return None if self.behaviour.is_empty else self.behaviour.on(self.table, self.threads)


def respelled(dag: Dag, ops: frozenset[str]) -> Dag:
    """Return the formula with operators outside of `ops` written in others, where that is possible.

    The canonical form writes ``square(x)`` and ``x - 3``; whoever allows ``add`` and ``mul`` alone wants
    ``x * x`` and ``x + -3``.

    Examples
    --------
    >>> from proxygraph.infix import parse, text
    >>> text(respelled(parse("square(params) - 3"), frozenset({"add", "mul"})))
    'params * params + -3'
    """
    if all(node.kind != "op" or node.name in ops for node in dag.nodes):
        return dag
    writer = _Writer(dag, ops)
    writer.put(len(dag.nodes) - 1)
    return Dag(writer.nodes, dag.leaves)


class _Writer:
    """Writes a formula node by node, in allowed operators where there are such."""

    def __init__(self, dag: Dag, ops: frozenset[str]) -> None:
        self.dag, self.ops = dag, ops
        self.nodes: list[Node] = []
        self.place: dict[int, int] = {}

    def put(self, i: int) -> int:
        """Write the `i`-th node of the formula, after its arguments; return its position."""
        if i not in self.place:
            node = self.dag.nodes[i]
            other = node.kind == "op" and node.name not in self.ops
            found = self.otherwise(node) if other else None
            if found is None:
                args = tuple(self.put(j) for j in node.args)
                found = self.add(Node(node.kind, node.name, args, node.value))
            self.place[i] = found
        return self.place[i]

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def op(self, name: str, *args: int) -> int:
        return self.add(Node("op", name, args))

    def const(self, value: float) -> int:
        return self.add(Node("const", value=value))

    def otherwise(self, node: Node) -> int | None:
        """Write an operator in others; None if there are none for it."""
        ops, args = self.ops, node.args
        match node.name:
            case "square" if "mul" in ops:
                return self.op("mul", a := self.put(args[0]), a)
            case "cube" if "mul" in ops:
                a = self.put(args[0])
                return self.op("mul", self.op("square", a) if "square" in ops else self.op("mul", a, a), a)
            case "inv" if "div" in ops:
                return self.op("div", self.const(1.0), self.put(args[0]))
            case "div" if {"mul", "inv"} <= ops:
                return self.op("mul", self.put(args[0]), self.op("inv", self.put(args[1])))
            case "neg":
                return self.minus(args[0])
            case "sub" if "add" in ops:
                right = self.minus(args[1])
                return None if right is None else self.op("add", self.put(args[0]), right)
            case "add" if "sub" in ops:
                # the constant, if there is one, is subtracted: it can be negated for free
                left, right = args if self.dag.nodes[args[1]].kind == "const" else args[::-1]
                negated = self.minus(right)
                return None if negated is None else self.op("sub", self.put(left), negated)
        return None

    def minus(self, i: int) -> int | None:
        """Write the negative of a node of the formula; None if it cannot be written."""
        node, ops = self.dag.nodes[i], self.ops
        if node.kind == "const":
            return self.const(-node.value)
        if "neg" in ops:
            return self.op("neg", self.put(i))
        if "mul" in ops:
            return self.op("mul", self.const(-1.0), self.put(i))
        return self.op("sub", self.const(0.0), self.put(i)) if "sub" in ops else None
