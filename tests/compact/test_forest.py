"""Trees in arrays: the same formulas as Dags, there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from proxygraph.compact.forest import (
    CODES,
    CONST,
    LEAF,
    Forest,
    Vocabulary,
    check_trees,
    to_dag,
    to_forest,
    tree_length,
)
from proxygraph.dag import Dag, Node, reachable
from proxygraph.errors import ConfigError, InvalidDag
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import OPS, Op, register, unregister
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.strategies import dags, random_dag

WORDS = Vocabulary.of(STATISTICS)
ONE_ROW = StatTable.from_columns(None, {"x": np.zeros(1)})


def forest_of(*formulas: str | Dag, capacity: int = 0) -> Forest:
    made = [parse(f) if isinstance(f, str) else f for f in formulas]
    return to_forest(made, WORDS, capacity or max(map(tree_length, made)))


def folded(dag: Dag) -> Dag | None:
    """The formula with every operator of constants computed by the reference; `None` if one is not finite."""
    nodes = list(dag.nodes)
    for i in range(len(nodes)):
        part = dag.part(i)
        if nodes[i].kind == "op" and all(node.kind != "leaf" for node in part):
            value = float(ReferenceKernel(lower([part]))(ONE_ROW)[0, 0])
            if not np.isfinite(value):
                return None
            nodes[i] = Node("const", value=value)
    return Dag(reachable(nodes, len(nodes) - 1), dag.leaves)


# ---- there and back --------------------------------------------------------------------------------------


@given(dags())
def test_there_and_back(dag: Dag):
    expected = folded(dag)
    forest = to_forest([dag], WORDS, tree_length(dag))
    if expected is None:
        with pytest.raises(InvalidDag, match="is not finite"):
            to_dag(forest, 0, WORDS)
    else:
        check_trees(forest, len(WORDS.names))
        back = to_dag(forest, 0, WORDS)
        assert back.key == expected.key
        assert back.size == expected.size
        assert forest.length[0] == tree_length(expected) <= tree_length(dag)


def test_there_and_back_in_volume():
    rng = np.random.default_rng(0)
    made = [random_dag(rng) for _ in range(500)]
    forest = to_forest(made, WORDS, max(map(tree_length, made)))
    same = 0
    for i, dag in enumerate(made):
        if (expected := folded(dag)) is not None:
            assert to_dag(forest, i, WORDS).key == expected.key
            same += expected.key == dag.key
    assert same > 200  # formulas without operators of constants come back as they were


def test_prefix_order():
    forest = forest_of("params - tanh(zen) * 2.5", capacity=9)
    zen, params = (LEAF + WORDS.names.index(name) for name in ("zen", "params"))
    expected = [CODES["sub"], params, CODES["mul"], CODES["tanh"], zen, CONST]
    assert forest.code[0, : forest.length[0]].tolist() == expected
    assert forest.value[0, 5] == 2.5


def test_shared_parts_are_written_out_and_found_again():
    nodes = [
        Node("leaf", "zen"),
        Node("op", "exp", (0,)),
        Node("op", "mul", (1, 1)),
        Node("op", "add", (2, 1)),
    ]
    dag = Dag(nodes)
    assert tree_length(dag) == 8
    forest = forest_of(dag)
    assert forest.length[0] == 8
    assert to_dag(forest, 0, WORDS).nodes == dag.nodes


def test_the_exponent_is_kept_with_the_operator():
    forest = forest_of("params ** 2.5 + 2.5")
    assert forest.code[0, :4].tolist() == [CODES["add"], CODES["pow"], forest.code[0, 2], CONST]
    assert forest.value[0, 1] == 2.5
    assert tree_length(parse("params ** 2.5 + 2.5")) == forest.length[0] == 4
    assert to_dag(forest, 0, WORDS) == parse("params ** 2.5 + 2.5")


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("2 + 3 * 4", "14"),
        ("params * (1 / 8)", "params * 0.125"),
        ("log(exp(1)) ** 2 * zen", "1 * zen"),
        ("max(2, 3) - params", "3 - params"),
        ("params + 0", "params + 0"),  # only operators of constants are folded
    ],
)
def test_what_is_made_of_constants_becomes_one(formula: str, expected: str):
    assert text(to_dag(forest_of(formula), 0, WORDS)) == text(parse(expected))


@pytest.mark.parametrize("formula", ["log(-1)", "1 / 0", "exp(1000)", "-1 / 0"])
def test_constants_that_are_not_finite_stay_what_they_are(formula: str):
    forest = forest_of(formula)
    expected = ReferenceKernel(lower([parse(formula)]))(ONE_ROW)[0]
    assert forest.code[0, 0] == CONST
    np.testing.assert_array_equal(forest.value[0, :1], expected)


def test_nothing():
    assert len(to_forest([], WORDS, 5).length) == 0
    assert forest_of("params").take([0, 0]).length.tolist() == [1, 1]
    assert forest_of("params", "zen + 1").take(slice(1, 2)).length.tolist() == [3]


# ---- refusals --------------------------------------------------------------------------------------------


def test_a_tree_that_does_not_fit():
    with pytest.raises(ConfigError, match="a formula of 5 nodes is a tree of 5; at most 4 fit"):
        forest_of("params - zen * 2", capacity=4)
    wide = [Node("leaf", "zen")]
    for i in range(100):  # as a tree it has 2**101 nodes
        wide.append(Node("op", "mul", (i, i)))
    with pytest.raises(
        ConfigError, match=rf"a formula of 101 nodes is a tree of {2**101 - 1}; at most 4 fit"
    ):
        forest_of(Dag(wide), capacity=4)


def test_unknown_names():
    with pytest.raises(ConfigError, match="leaf 'x' is not in this vocabulary"):
        to_forest([parse("x + 1", {"x": Leaf("x", "row")})], WORDS, 9)
    register(Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a))))
    try:
        with pytest.raises(ConfigError, match="op 'softsign' is not in this vocabulary"):
            to_forest([parse("softsign(params)")], WORDS, 9)
        later = Vocabulary.of(STATISTICS)
        assert to_dag(to_forest([parse("softsign(params)")], later, 9), 0, later) == parse("softsign(params)")
    finally:
        unregister("softsign")


def test_the_vocabulary():
    assert WORDS.ops == tuple(OPS)
    assert [WORDS.ops[code] for code in CODES.values()] == list(CODES)
    for name, op in OPS.items():
        code = CODES[name]
        assert WORDS.symbols.arity[code] == (1 if name == "pow" else op.arity)
        assert WORDS.symbols.reduces[code] == (op.kind == "reduction")
        assert WORDS.symbols.commutes[code] == op.commutative
    assert WORDS.names == tuple(STATISTICS)


ADD, TANH, ZEN = CODES["add"], CODES["tanh"], LEAF


@pytest.mark.parametrize(
    ("codes", "length"),
    [
        ([ZEN], 0),
        ([ZEN], -1),
        ([ZEN], 2),
        ([TANH], 1),
        ([ADD, ZEN], 2),
        ([ZEN, ZEN], 2),
        ([TANH, ZEN, CONST], 3),
        ([-2], 1),
        ([len(OPS)], 1),
        ([LEAF - 1], 1),
        ([LEAF + len(WORDS.names)], 1),
        ([32767], 1),
        ([-32768], 1),
        ([ADD, ZEN, TANH], 3),
    ],
)
def test_what_is_no_tree_is_refused(codes: list[int], length: int):
    good = forest_of("zen + 1", "params")
    check_trees(good, len(WORDS.names))
    bad = Forest(np.array([codes], np.int16), np.zeros((1, len(codes))), np.array([length], np.int32))
    with pytest.raises(ValueError, match=r"a tree of length|where no tree has it|lacks arguments"):
        check_trees(bad, len(WORDS.names))


def test_lengths_for_other_trees_are_refused():
    good = forest_of("zen + 1", "params")
    with pytest.raises(ValueError, match="argument"):
        check_trees(Forest(good.code, good.value, good.length[:1]), len(WORDS.names))


def test_random_codes_are_refused_or_are_trees():
    rng = np.random.default_rng(0)
    codes = np.array([CONST, ADD, TANH, CODES["pow"], CODES["sum"], LEAF, LEAF + 3, 999], np.int16)
    trees = 0
    for _ in range(2000):
        n = int(rng.integers(1, 6))
        forest = Forest(
            codes[rng.integers(len(codes), size=(1, 5))], np.ones((1, 5)), np.array([n], np.int32)
        )
        try:
            check_trees(forest, len(WORDS.names))
        except ValueError:
            continue
        trees += 1
        try:
            assert tree_length(to_dag(forest, 0, WORDS)) == n
        except InvalidDag as error:
            assert "axis" in str(error) or "axes" in str(error)  # noqa: PT017
    assert trees > 100
