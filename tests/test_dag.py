"""The graph: what it accepts, what it refuses, and that it survives every trip."""

from __future__ import annotations

import json
import math
import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.dag import Dag, Node, elementwise_axis, leaves_of, reachable
from proxygraph.errors import InvalidDag, ParseError
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.program import lower
from tests.strategies import dags, random_dag, random_table, tables

W, G, PARAMS = Node("leaf", "w"), Node("leaf", "g"), Node("leaf", "params")
NUMEL, A = Node("leaf", "numel"), Node("leaf", "a")


def op(name: str, *args: int) -> Node:
    return Node("op", name, args)


def const(value: float) -> Node:
    return Node("const", value=value)


# ---- trips -----------------------------------------------------------------------------------------------


@given(dags())
def test_json_round_trip(dag: Dag):
    data = json.loads(json.dumps(dag.to_json(), allow_nan=False))
    back = Dag.from_json(data)
    assert back == dag
    assert back.leaves == dag.leaves
    assert back.size == dag.size
    assert back.to_json() == data


def test_more_than_ten_nodes_keep_their_numbers():
    dag = parse(" + ".join(f"{k}.5 * sum(sum(w * {k}.25))" for k in range(8)))
    assert dag.size > 11
    assert Dag.from_json(dag.to_json()).nodes == dag.nodes


@given(dags())
def test_json_is_the_node_link_form_of_networkx(dag: Dag):
    data = dag.to_json()
    expected = nx.node_link_data(dag.graph, edges="edges")
    assert {name: data[name] for name in expected} == expected
    assert list(data)[3:] == list(expected)


@given(dags())
def test_graph_round_trip(dag: Dag):
    assert Dag.from_graph(dag.graph) == dag


def test_numbers_of_numpy_name_nodes_as_those_of_python():
    dag = parse(" + ".join(f"{k}.5 * tanh(w)" if k else "tanh(w)" for k in range(6)), root_axis=None)
    assert dag.size > 11
    numbers = {i: np.int64(i) for i in range(dag.size)}
    renamed = nx.relabel_nodes(nx.relabel_nodes(dag.graph, str), {str(i): n for i, n in numbers.items()})
    assert all(type(n) is np.int64 for n in renamed)
    assert Dag.from_graph(renamed, root_axis=None).nodes == dag.nodes


@given(dags(), st.randoms(use_true_random=False))
def test_the_names_and_the_order_of_the_nodes_of_a_graph_mean_nothing(dag: Dag, random):
    names = [f"n{i}" for i in range(dag.size)]
    random.shuffle(names)
    renamed = nx.relabel_nodes(dag.graph, dict(enumerate(names)))
    shuffled = nx.MultiDiGraph()
    for n in sorted(renamed.nodes):
        shuffled.add_node(n, **renamed.nodes[n])
    shuffled.add_edges_from(renamed.edges(keys=True))
    assert Dag.from_graph(shuffled) == dag


@given(dags())
def test_pickle_round_trip(dag: Dag):
    back = pickle.loads(pickle.dumps(dag))
    assert back == dag
    assert back.nodes == dag.nodes
    assert back.leaves == dag.leaves


def test_json_keeps_leaves_of_tables():
    leaves = {"my column": Leaf("my column", "row", "nonneg")}
    dag = Dag([Node("leaf", "my column"), op("log", 0)], leaves)
    back = Dag.from_json(json.loads(json.dumps(dag.to_json())))
    assert back == dag
    assert back.leaves == leaves


def test_the_graph_keeps_both_edges_of_x_times_x():
    square = Dag([PARAMS, op("mul", 0, 0)])
    assert sorted(square.graph.edges(keys=True)) == [(0, 1, 0), (0, 1, 1)]
    assert Dag.from_graph(square.graph) == square


# ---- frozen ----------------------------------------------------------------------------------------------


def test_a_dag_is_frozen():
    dag = parse("sum(sum(w * g))")
    key = dag.key
    with pytest.raises(AttributeError, match="frozen"):
        dag.nodes = ()
    with pytest.raises(AttributeError, match="frozen"):
        dag.anything = 1
    with pytest.raises(AttributeError, match="frozen"):
        del dag.nodes
    with pytest.raises(TypeError):
        dag.leaves["w"] = STATISTICS["g"]
    with pytest.raises(TypeError):
        dag.nodes[0] = PARAMS
    with pytest.raises(AttributeError):
        dag.nodes[0].name = "g"
    dag.graph.nodes[0]["name"] = "g"  # a copy
    dag.graph.remove_node(0)
    assert dag.key == key
    assert Dag.from_graph(dag.graph) == dag


@given(dags())
def test_a_dag_does_not_share_its_list_of_nodes(dag: Dag):
    nodes, leaves = list(dag.nodes), dict(dag.leaves)
    other = Dag(nodes, leaves)
    nodes.clear()
    leaves.clear()
    assert other == dag
    assert set(other.leaves) == set(dag.leaves)


# ---- identity --------------------------------------------------------------------------------------------


def test_keys_are_content_and_do_not_change_between_versions():
    # stored in result.json and in checkpoints: a change of these is a change of VERSION
    assert parse("sum(sum(abs(w*g)))").key == "d28cc02c45972345de1de401"
    assert parse("2.5").key == "6ea84892257d065fc5ca4649"


@given(dags())
def test_equal_keys_are_equal_dags(dag: Dag):
    again = Dag(dag.nodes, dag.leaves)
    assert again == dag
    assert hash(again) == hash(dag)
    assert len(dag.key) == 24
    assert dag != "something else"


def test_commutative_arguments_have_no_order_and_others_do():
    def made(name: str, i: int, j: int) -> Dag:
        return Dag([PARAMS, Node("leaf", "jacov"), op(name, i, j)])

    for name in ("add", "mul", "maximum", "minimum"):
        assert made(name, 0, 1) == made(name, 1, 0)
    for name in ("sub", "div"):
        assert made(name, 0, 1) != made(name, 1, 0)


def test_every_constant_has_its_own_key():
    values = [0.0, -0.0, 1.0, -1.0, math.nextafter(1.0, 2.0), 5e-324, 1e300]
    assert len({Dag([const(v)]).key for v in values}) == len(values)


def test_the_axis_of_a_leaf_is_part_of_the_key():
    row, layer = Leaf("x", "row"), Leaf("x", "layer")
    keys = {Dag([Node("leaf", "x")], {"x": leaf}, root_axis=None).key for leaf in (row, layer)}
    assert len(keys) == 2


# ---- shape -----------------------------------------------------------------------------------------------


def test_equal_nodes_are_one():
    dag = Dag([W, G, op("mul", 0, 1), W, G, op("mul", 3, 4), op("add", 2, 5), op("sum", 6), op("sum", 7)])
    assert dag.size == 6
    assert dag.uses == (1, 1, 2, 1, 1, 0)


def test_negative_zero_is_not_zero():
    dag = Dag([const(0.0), const(-0.0), op("add", 0, 1)])
    assert dag.size == 3


@given(dags())
def test_shape(dag: Dag):
    assert len(dag) == dag.size == len(list(dag)) == len(dag.axes) == len(dag.keys) == len(dag.nonneg)
    assert dag.axes[-1] == "row"
    assert sum(dag.uses) == sum(len(node.args) for node in dag)
    assert dag.depth <= sum(node.kind == "op" for node in dag)
    assert set(dag.leaves) == {node.name for node in dag if node.kind == "leaf"}
    for i, node in enumerate(dag):
        assert all(j < i for j in node.args)


@given(dags())
def test_parts(dag: Dag):
    for i in range(dag.size):
        part = dag.part(i)
        assert part.key == dag.keys[i]
        assert part.axes[-1] == dag.axes[i]
        assert part.size <= dag.size
    assert dag.part(dag.size - 1) == dag


@given(dags(), tables())
def test_what_is_known_to_be_nonnegative_is(dag: Dag, table):
    parts = [dag.part(i) for i, axis in enumerate(dag.axes) if dag.nonneg[i] and axis == "row"]
    if parts:
        values = ReferenceKernel(lower(parts))(table)
        assert (values[np.isfinite(values)] >= 0.0).all()


def test_replace_gives_a_new_checked_dag():
    snip = parse("sum(sum(abs(w*g)))")
    at = [node.name for node in snip].index("abs")
    other = snip.replace(at, Node("op", "square", snip.nodes[at].args))
    assert text(other) == "sum(sum(square(w * g)))"
    assert text(snip) == "sum(sum(abs(w * g)))"
    assert text(snip.replace(at, W)) == "sum(sum(w))"
    with pytest.raises(InvalidDag, match=r"no node 99: the formula has 6 nodes"):
        snip.replace(99, W)
    with pytest.raises(InvalidDag, match=r"arguments \(4,\) must stand before it"):
        snip.replace(1, op("abs", 4))
    with pytest.raises(InvalidDag, match="reduce"):
        snip.replace(at, PARAMS)


@given(dags())
def test_replacing_a_node_by_itself_changes_nothing(dag: Dag):
    for i, node in enumerate(dag):
        assert dag.replace(i, node) == dag


def test_reachable_drops_what_the_root_does_not_need():
    nodes = [W, G, op("sum", 0), op("sum", 1), op("sum", 2)]
    assert reachable(nodes, 4) == (W, op("sum", 0), op("sum", 1))


def test_leaves_of():
    assert set(leaves_of([parse("sum(sum(w*g))"), parse("params")])) == {"w", "g", "params"}


def test_repr_can_be_read():
    assert repr(parse("2.5 * params")) == (
        "Dag([Node('const', value=2.5), Node('leaf', 'params'), Node('op', 'mul', (0, 1))])"
    )


@pytest.mark.parametrize(
    ("axes", "result"),
    [
        (["row"], "row"),
        (["row", "layer"], "layer"),
        (["element", "row"], "element"),
        (["activation", "layer"], "activation"),
        (["element", "element"], "element"),
        (["element", "activation"], None),
    ],
)
def test_axis_of_elementwise_operators(axes, result):
    assert elementwise_axis(axes) == result


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "a formula needs at least one node"),
        ([op("softmax")], "node 0: unknown operator 'softmax'"),
        ([Node("leaf", "weight")], "node 0: unknown leaf 'weight'"),
        ([W, op("mul", 0)], r"node 1 \(mul\): expected 2 arguments, got 1"),
        ([PARAMS, op("abs", 0, 0)], r"node 1 \(abs\): expected 1 arguments, got 2"),
        ([op("abs", 0)], r"node 0 \(abs\): argument 0 does not stand before it"),
        ([PARAMS, op("abs", 2), op("abs", 1)], r"node 1 \(abs\): argument 2 does not stand before it"),
        ([PARAMS, op("abs", -1)], r"node 1 \(abs\): argument -1 does not stand before it"),
        ([PARAMS, op("sum", 0)], r"node 1 \(sum\): cannot reduce a value that is on the row axis already"),
        (
            [W, A, op("mul", 0, 1)],
            r"node 2 \(mul\): arguments on the axes element and activation do not pair up",
        ),
        ([W, op("sum", 0)], "the root is on the layer axis, not on the row axis; reduce it once more"),
        (
            [PARAMS, const(2.0)],
            r"one root, the last node; here node 0 \(params\), node 1 \(2.0\) lead nowhere",
        ),
        ([const(math.inf)], "node 0: constant inf is not finite"),
        ([const(math.nan)], "node 0: constant nan is not finite"),
        (
            [PARAMS, const(0.3), op("pow", 0, 1)],
            r"node 2 \(pow\): the exponent must be a constant multiple of 0.5",
        ),
        ([PARAMS, const(16.5), op("pow", 0, 1)], r"at most 16 in size; write exp\(b\*log\(a\)\)"),
        ([PARAMS, op("pow", 0, 0)], r"node 1 \(pow\): the exponent must be a constant"),
        ([PARAMS, Node("leaf", "zen", (0,))], "node 1: only operators have arguments, this is a leaf"),
        ([PARAMS, Node("const", args=(0,))], "node 1: only operators have arguments, this is a const"),
        ([Node("thing", "x")], "node 0: kind 'thing' is none of 'op', 'leaf', 'const'"),
    ],
)
def test_invalid_dags(nodes, message):
    with pytest.raises(InvalidDag, match=message):
        Dag(nodes)


def graph_of(nodes: dict, edges: list) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    for n, data in nodes.items():
        graph.add_node(n, **data)
    graph.add_edges_from(edges)
    return graph


LEAF = {"kind": "leaf", "name": "params"}
ABS, MUL = {"kind": "op", "name": "abs"}, {"kind": "op", "name": "mul"}


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ({}, [], "a formula has one root; the graph has 0"),
        ({0: LEAF, 1: {"kind": "leaf", "name": "zen"}}, [], "a formula has one root; the graph has 2"),
        ({0: LEAF, 1: MUL, 2: ABS}, [(0, 1, 0), (2, 1, 1), (1, 2, 0)], "the graph has a cycle"),
        ({0: ABS}, [(0, 0, 0)], "the graph has a cycle"),
        ({0: LEAF, 1: MUL}, [(0, 1, 0), (0, 1, 2)], r"node 1: argument slots \[0, 2\] are not 0..1"),
        ({0: LEAF, 1: MUL}, [(0, 1, "a")], r"node 1: argument slots \['a'\] are not 0..0"),
        ({0: {}}, [], "node 0: needs kind 'op', 'leaf' or 'const' and a name"),
        (
            {0: {"kind": "const", "value": "2"}},
            [],
            "node 0: the value of a constant must be a number, not '2'",
        ),
        ({0: {"kind": "const", "value": True}}, [], "must be a number, not True"),
        ({0: {"kind": "const", "value": 10**400}}, [], "the value of a constant is too large for float64"),
        ({0: {"kind": "const", "value": math.inf}}, [], "constant inf is not finite"),
    ],
)
def test_invalid_graphs(nodes, edges, message):
    with pytest.raises(InvalidDag, match=message):
        Dag.from_graph(graph_of(nodes, edges))


def test_a_digraph_is_refused():
    with pytest.raises(
        InvalidDag, match=r"expected a networkx MultiDiGraph \(a DiGraph keeps one edge per pair"
    ):
        Dag.from_graph(nx.DiGraph([(0, 1)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a formula: expected JSON with"),
        ({"version": 2}, "formula written by version 2; this program reads 1"),
        ({"nodes": None}, "not a formula in node-link form"),
        ({"nodes": [1]}, "not a formula in node-link form"),
        ({"edges": [{}]}, "not a formula in node-link form"),
        ({"leaves": {"w": {}}}, "not a formula in node-link form"),
        ({"leaves": {"w": {"axis": "pixel", "sign": "any"}}}, "leaf 'w': unknown axis 'pixel' or sign 'any'"),
        ({"leaves": []}, "not a formula in node-link form"),
    ],
)
def test_damaged_json(change, message):
    data = parse("sum(sum(w))").to_json() | change
    with pytest.raises(ParseError, match=message):
        Dag.from_json(data)


@pytest.mark.parametrize("data", [None, [], "text", 3, {}])
def test_what_is_no_json_formula(data):
    with pytest.raises(ParseError, match="not a formula: expected JSON"):
        Dag.from_json(data)


def test_the_finer_axes_must_be_reduced_one_by_one():
    with pytest.raises(InvalidDag, match="the root is on the layer axis"):
        Dag([W, op("sum", 0)])
    assert Dag([W, op("sum", 0)], root_axis="layer").axes[-1] == "layer"
    assert Dag([W], root_axis=None).axes == ("element",)


def test_random_dags_are_of_every_size():
    rng = np.random.default_rng(0)
    sizes = {random_dag(rng).size for _ in range(300)}
    assert min(sizes) < 4
    assert max(sizes) > 15


def test_a_graph_has_the_same_values_as_its_dag():
    table = random_table(np.random.default_rng(1))
    dag = parse("sum(sum(w*g)) / params")
    assert np.array_equal(
        *(ReferenceKernel(lower([d]))(table) for d in (dag, Dag.from_graph(dag.graph))), equal_nan=True
    )
