"""Graphviz text: one node and one edge per node and argument, text quoted."""

import re

import numpy as np

from proxygraph.dag import Dag, Node
from proxygraph.dot import COLOURS, dot
from proxygraph.infix import parse
from proxygraph.leaves import Leaf
from tests.strategies import random_dag


def test_nodes_and_edges():
    rng = np.random.default_rng(0)
    for _ in range(50):
        dag = random_dag(rng)
        text = dot(dag)
        nodes = re.findall(r"^  n(\d+) \[label=", text, re.MULTILINE)
        edges = re.findall(r"^  n(\d+) -> n(\d+)", text, re.MULTILINE)
        assert [int(n) for n in nodes] == list(range(len(dag)))
        assert [(int(a), int(b)) for a, b in edges] == [(j, i) for i, n in enumerate(dag) for j in n.args]


def test_colours_tell_the_axis():
    text = dot(parse("sum(mean(w) - mean(a)) * zen"))
    assert all(colour in text for colour in COLOURS.values())


def test_arguments_are_numbered_where_their_order_matters():
    assert 'n0 -> n2 [label="1"];' in dot(parse("zen / jacov"))
    assert "n0 -> n1;\n  n0 -> n1;" in dot(parse("zen * zen"))


def test_names_are_quoted():
    name = 'a"]; evil [x="\\\n'
    dag = Dag([Node("leaf", name), Node("op", "abs", (0,))], {name: Leaf(name, "row")})
    assert dot(dag).splitlines()[3].startswith('  n0 [label="a\\"]; evil [x=\\"\\\\ ", shape=box')
