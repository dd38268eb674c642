"""Layered drawings: no two nodes overlap, users stand above what they use, trees have no crossings."""

import numpy as np

from proxygraph.dag import Dag
from proxygraph.infix import parse
from proxygraph.report.layered import Drawing, layered
from tests.strategies import random_dag

HEIGHT = 30.0


def drawn(dag: Dag) -> tuple[Drawing, list[float]]:
    rng = np.random.default_rng(len(dag))
    widths = rng.uniform(20.0, 150.0, len(dag)).tolist()
    return layered([node.args for node in dag.nodes], widths, HEIGHT, gap=10.0), widths


def test_nodes_never_overlap_and_stay_inside():
    rng = np.random.default_rng(3)
    for _ in range(60):
        dag = random_dag(rng, max_ops=25)
        drawing, widths = drawn(dag)
        for i in range(len(dag)):
            assert drawing.x[i] - widths[i] / 2 + 1e-9 >= 0
            assert drawing.x[i] + widths[i] / 2 <= drawing.width + 1e-9
            assert HEIGHT / 2 <= drawing.y[i] <= drawing.height - HEIGHT / 2 + 1e-9
            for j in range(i):
                across = abs(drawing.x[i] - drawing.x[j]) - (widths[i] + widths[j]) / 2
                down = abs(drawing.y[i] - drawing.y[j]) - HEIGHT
                assert max(across, down) > 9.0, (dag, i, j)


def test_users_stand_above_and_the_result_on_top():
    rng = np.random.default_rng(4)
    for _ in range(30):
        dag = random_dag(rng, max_ops=20)
        drawing, _ = drawn(dag)
        assert all(drawing.y[j] > drawing.y[i] for i, node in enumerate(dag.nodes) for j in node.args)
        assert drawing.y.argmin() == len(dag) - 1
        ends = sorted((user, slot, argument) for user, slot, argument, _ in drawing.edges)
        assert ends == [(i, k, j) for i, node in enumerate(dag.nodes) for k, j in enumerate(node.args)]
        for user, _, argument, points in drawing.edges:
            assert points[0] == (drawing.x[user], drawing.y[user] + HEIGHT / 2)
            assert points[-1] == (drawing.x[argument], drawing.y[argument] - HEIGHT / 2)


def test_arguments_of_a_tree_stand_from_left_to_right():
    drawing, _ = drawn(dag := parse("(zen - jacov) / (swap - params)"))
    place = {node.name: drawing.x[i] for i, node in enumerate(dag.nodes) if node.kind == "leaf"}
    assert place["zen"] < place["jacov"] < place["swap"] < place["params"]
    root = dag.nodes[-1]
    assert drawing.x[root.args[0]] < drawing.x[-1] < drawing.x[root.args[1]]


def test_a_shared_part_is_drawn_without_crossings_that_need_not_be():
    # ((sqrt p) + (log q)) * (exp p): in the order of a walk from the root, exp's edge to p crosses log's to q
    p, q, root_p, log_q, plus, exp_p = range(6)
    drawing = layered([[], [], [p], [q], [root_p, log_q], [p], [plus, exp_p]], [40.0] * 7, HEIGHT)
    ways = {user: points for user, slot, argument, points in drawing.edges if argument in (p, q)}
    assert len(ways[exp_p]) == 3
    for one in (root_p, exp_p):
        (here, _), (there, _) = ways[one][-2:]
        (other, _), (beyond, _) = ways[log_q][-2:]
        assert (here - other) * (there - beyond) > 0


def test_a_single_node():
    drawing = layered([[]], [40.0], HEIGHT)
    assert (drawing.x.tolist(), drawing.y.tolist(), drawing.edges) == ([20.0], [15.0], ())
