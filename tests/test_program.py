"""Lowering: every distinct part once, arguments first, results in the order asked for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.dag import Dag, Node
from proxygraph.errors import InvalidDag
from proxygraph.infix import parse
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.program import lower
from tests.strategies import dags, tables

SNIP, PLAIN = parse("sum(sum(abs(w*g)))"), parse("sum(sum(w*g))")


@given(st.lists(dags(max_ops=8), min_size=1, max_size=5))
def test_every_part_once_and_arguments_first(many: list[Dag]):
    program = lower(many)
    assert len(program.nodes) == len(program.axes) == len(program.keys)
    assert len(set(program.keys)) == len(program.keys)
    assert set(program.keys) == {key for dag in many for key in dag.keys}
    for i, node in enumerate(program.nodes):
        assert all(j < i for j in node.args)
    assert [program.keys[i] for i in program.outputs] == [dag.key for dag in many]
    assert set(program.leaves) == {name for dag in many for name in dag.leaves}


@given(st.lists(dags(max_ops=6), min_size=1, max_size=4), tables(max_rows=3))
def test_together_is_the_same_as_alone(many: list[Dag], table):
    together = ReferenceKernel(lower(many))(table)
    alone = np.concatenate([ReferenceKernel(lower([dag]))(table) for dag in many])
    np.testing.assert_array_equal(together, alone)


def test_shared_parts():
    program = lower([SNIP, PLAIN, SNIP])
    assert len(program.nodes) == 8
    assert program.outputs[0] == program.outputs[2] != program.outputs[1]


def test_spellings_with_one_key_are_one_part():
    assert len(lower([parse("params * zen"), parse("zen * params")]).nodes) == 3


def test_no_formulas():
    assert lower([]).nodes == ()
    assert lower([]).outputs == ()


def test_the_key_names_the_formulas_in_order():
    assert lower([SNIP, PLAIN]).key == lower([SNIP, PLAIN]).key
    assert len({lower(d).key for d in ([SNIP, PLAIN], [PLAIN, SNIP], [SNIP], [SNIP, SNIP])}) == 4


def test_pickle():
    program = lower([SNIP, PLAIN])
    assert pickle.loads(pickle.dumps(program)) == program


@pytest.mark.parametrize("other", [Leaf("w", "row"), Leaf("w", "element", "nonneg")])
def test_a_leaf_means_one_thing(other: Leaf):
    dag = Dag([Node("leaf", "w")], {"w": other}, root_axis=None)
    with pytest.raises(InvalidDag, match="leaf 'w' means different things in two formulas of one program"):
        lower([SNIP, dag])
    with pytest.raises(InvalidDag, match="leaf 'w' means different things"):
        lower([dag, SNIP])
