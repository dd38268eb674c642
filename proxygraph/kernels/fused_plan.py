"""The plan of the fused kernel: in which loop each value of a formula is computed.

A row is worked on in *layer loops*; within a layer there are *element loops* and *activation loops*. A
reduction broadcast back down is a barrier: what uses it waits for the next loop of that level. So every
value gets a place ``(loop, step)``: a row value stands before layer loop `loop`; a layer value is ready in
layer loop `loop` after `step` rounds of element loops; an element value can be had in round `step` of that
loop. Places are the earliest possible ones, hence reductions that can share a loop do. Element values are
never stored but computed again in each loop that needs them; a layer value needed in a later layer loop is
kept in an array of the row's length.
"""

from __future__ import annotations

from proxygraph.dag import Dag, Node, reachable
from proxygraph.ops import OPS
from proxygraph.program import Program

Place = tuple[int, int]


def formula_of(program: Program, output: int) -> Dag:
    """Return one output of a program as a formula of its own."""
    return Dag(reachable(program.nodes, output), program.leaves, root_axis=None)


def in_post_order(dag: Dag) -> Dag:
    """Return the same formula with arguments directly before their users, so that its text has one form."""
    order: dict[int, int] = {}
    stack = [len(dag) - 1]
    while stack:
        i = stack[-1]
        waiting = [j for j in dag.nodes[i].args if j not in order]
        if waiting:
            stack.append(waiting[0])
            continue
        stack.pop()
        order.setdefault(i, len(order))
    nodes = [dag.nodes[i] for i in order]
    moved = [Node(n.kind, n.name, tuple(order[j] for j in n.args), n.value) for n in nodes]
    return Dag(moved, dag.leaves, root_axis=None)


def places(dag: Dag) -> list[Place]:
    """Return ``(loop, step)`` of every node, see the head of this file."""
    result: list[Place] = []
    for node, axis in zip(dag.nodes, dag.axes, strict=True):
        loop = max((result[j][0] for j in node.args), default=0)
        reduces = node.kind == "op" and OPS[node.name].kind == "reduction"
        if axis == "row":
            result.append((loop + 1 if reduces else loop, 0))
            continue
        inner = [result[j][1] for j in node.args if dag.axes[j] != "row" and result[j][0] == loop]
        result.append((loop, max(inner, default=0) + reduces))
    return result
