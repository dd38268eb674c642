"""Breeding: whatever it does, the result is a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygraph.compact.breed import KINDS, MAX_CONSTANT, RATES, Choices, breed, choices
from proxygraph.compact.forest import (
    CODES,
    CONST,
    LEAF,
    Forest,
    Vocabulary,
    check_trees,
    to_forest,
    tree_length,
)
from proxygraph.dag import Dag, Node
from proxygraph.errors import ConfigError
from proxygraph.infix import parse
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import BUILTIN, OPS, Op, is_half_integer, register, unregister
from proxygraph.search import default_ops
from tests.compact.trees import bred, dags_of, spellings

ALL_OPS = tuple(sorted(BUILTIN))
TABLE_LEAVES = {name: Leaf(name, "row") for name in ("x", "y", "a column")}


class Grammar:
    """What formulas are made of, for people and for compiled code."""

    def __init__(self, leaves: Mapping[str, Leaf], ops: Sequence[str], max_size: int) -> None:
        self.words, self.ops, self.max_size = Vocabulary.of(leaves), tuple(ops), max_size
        self.have = choices(self.words, self.ops, max_size)

    def only(self, kind: str) -> Choices:
        return choices(self.words, self.ops, self.max_size, rates={k: float(k == kind) for k in KINDS})

    def forest(self, *formulas: str) -> Forest:
        made = [parse(formula, self.words.leaves) for formula in formulas]
        return to_forest(made, self.words, 2 * self.max_size + 2)


ALL = Grammar(STATISTICS, ALL_OPS, 15)
GRAMMARS = {
    "all": ALL,
    "table": Grammar(TABLE_LEAVES, default_ops(TABLE_LEAVES), 12),
    "element only": Grammar({"w": STATISTICS["w"]}, ALL_OPS, 12),
    "no reduction": Grammar(TABLE_LEAVES, ("add", "pow", "exp"), 9),
    "only reductions": Grammar({"w": STATISTICS["w"], "a": STATISTICS["a"]}, ("sum", "max"), 6),
    "leaves alone": Grammar(TABLE_LEAVES, (), 4),
    "unary": Grammar(TABLE_LEAVES, ("pow", "tanh"), 7),
    "binary": Grammar(STATISTICS, ("sum", "mul"), 10),
    "layers out of reach": Grammar(STATISTICS, ("mul", "log"), 8),
}


@pytest.fixture(params=GRAMMARS.values(), ids=GRAMMARS.keys())
def grammar(request: pytest.FixtureRequest) -> Grammar:
    return request.param


def check(forest: Forest, grammar: Grammar, most: int = 0) -> list[Dag]:
    """Every tree is a checked formula of the grammar (a Dag checks itself when made)."""
    check_trees(forest, len(grammar.words.names))
    assert forest.length.max() <= max(grammar.max_size, most)
    made = dags_of(forest, grammar.words)
    for dag in made:
        assert dag.axes[-1] == "row"
        assert set(dag.leaves) <= set(grammar.words.leaves)
        for node in dag:
            if node.kind == "op":
                assert node.name in grammar.ops
                assert node.name != "pow" or is_half_integer(dag.nodes[node.args[1]].value, limit=4.0)
            assert node.kind != "const" or abs(node.value) <= MAX_CONSTANT
    return made


# ---- the result is a formula -----------------------------------------------------------------------------


def test_random_formulas(grammar: Grammar):
    forest, kinds = bred(grammar.have, 400)
    check(forest, grammar)
    assert set(kinds) == {"fresh"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_walk_of_one_kind(grammar: Grammar, kind: str):
    have = grammar.only(kind)
    forest, _ = bred(grammar.have, 60)
    seen: set[str] = set()
    for generation in range(1, 10):
        most = int(forest.length.max())
        forest, kinds = bred(have, 60, forest, generation=generation)
        check(forest, grammar, most)
        seen |= set(kinds)
    assert seen <= {kind, "fresh"}
    impossible = {("leaves alone", "insert"), ("leaves alone", "hoist"), ("only reductions", "insert")}
    names = {id(g): name for name, g in GRAMMARS.items()}
    if (names[id(grammar)], kind) not in impossible | {("only reductions", "hoist")}:
        assert kind in seen


@settings(max_examples=20)
@given(st.integers(0, 2**62), st.integers(0, 10**6))
def test_a_long_walk_of_every_kind(seed: int, generation: int):
    for grammar in GRAMMARS.values():
        forest, _ = bred(grammar.have, 20, seed=seed)
        for step in range(6):
            score = np.sin(np.arange(20.0) + step)
            forest, _ = bred(grammar.have, 20, forest, score=score, seed=seed, generation=generation + step)
            check(forest, grammar)


def test_parents_larger_than_allowed_and_narrow_forests():
    parents = ALL.forest("zen + params * jacov - tanh(zen) / exp(params) + max(zen, jacov) ** 2")
    n = int(parents.length[0])
    small = Grammar(STATISTICS, ALL_OPS, 4)
    for kind in KINDS:
        # no more room than the parent itself takes
        made, _ = bred(small.only(kind), 200, parents, capacity=n)
        check(made, small, most=n)


@pytest.mark.parametrize("kind", KINDS)
def test_parents_that_do_not_fit_are_not_bred_from(kind: str):
    parents = ALL.forest("zen + params * jacov - tanh(zen) / exp(params)")
    small = Grammar(STATISTICS, ALL_OPS, 3)
    room = np.zeros((3, 5), np.int16)
    room[[0, 2]] = 77
    made = Forest(room[1:2], np.zeros((1, 5)), np.zeros(1, np.int32))
    kinds = np.empty(1, np.int8)
    breed(parents, np.zeros(1), small.only(kind), 0, 0, 0, 1, made, kinds)
    assert (room[[0, 2]] == 77).all()  # nothing is written beyond its row
    check(made, small)


# ---- the stream of random numbers ------------------------------------------------------------------------


def used(forest: Forest) -> list[bytes]:
    return spellings(forest)


def test_children_depend_on_seed_generation_and_position_alone():
    parents, _ = bred(ALL.have, 50)
    score = np.linspace(0.0, 1.0, 50)
    expected, expected_kinds = bred(ALL.have, 101, parents, score=score, seed=3, generation=7)
    assert used(bred(ALL.have, 101, parents, score=score, seed=3, generation=7)[0]) == used(expected)
    assert used(bred(ALL.have, 40, parents, score=score, seed=3, generation=7)[0]) == used(expected)[:40]
    made, kinds = Forest.empty(101, expected.code.shape[1]), np.full(101, -1, np.int8)
    for first, last in ((70, 101), (0, 1), (1, 70), (5, 5)):
        breed(parents, score, ALL.have, 3, 7, first, last, made, kinds)
    assert used(made) == used(expected)
    assert [KINDS[kind] for kind in kinds] == expected_kinds
    for seed, generation in ((4, 7), (3, 8), (7, 3)):
        other, _ = bred(ALL.have, 101, parents, score=score, seed=seed, generation=generation)
        assert sum(a == b for a, b in zip(used(other), used(expected), strict=True)) < 20


def test_only_the_share_is_written():
    made, kinds = Forest.empty(10, 32), np.full(10, -1, np.int8)
    breed(Forest.empty(0, 32), np.zeros(0), ALL.have, 0, 0, 3, 6, made, kinds)
    assert (made.length > 0).tolist() == [False] * 3 + [True] * 3 + [False] * 4
    assert (kinds[[0, 1, 2, 6, 7, 8, 9]] == -1).all()
    assert not made.code[[0, 1, 2, 6, 7, 8, 9]].any()


def test_parents_are_left_alone():
    parents, _ = bred(ALL.have, 30)
    before = [array.copy() for array in parents]
    bred(ALL.have, 500, parents)
    for array, old in zip(parents, before, strict=True):
        np.testing.assert_array_equal(array, old)


# ---- what is made ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all", "table", "element only", "binary"])
def test_every_operator_and_leaf_is_made(name: str):
    grammar = GRAMMARS[name]
    made = dags_of(bred(grammar.have, 4000)[0], grammar.words)
    assert {node.name for dag in made for node in dag if node.kind == "op"} == set(grammar.ops)
    assert {leaf for dag in made for leaf in dag.leaves} == set(grammar.words.leaves)
    assert len({dag.key for dag in made}) > 1200


def test_leaves_that_cannot_be_reached_are_not_made():
    grammar = GRAMMARS["layers out of reach"]
    made = dags_of(bred(grammar.have, 1000)[0], grammar.words)
    rows = {name for name, leaf in STATISTICS.items() if leaf.axis == "row"}
    assert {leaf for dag in made for leaf in dag.leaves} == rows


def test_every_operator_and_leaf_comes_by_mutation():
    for kind in ("subtree", "point"):
        parents = ALL.forest("sum(sum(w * numel)) + tanh(mean(max(da))) * zen / count(nwot)")
        codes: set[int] = set()
        for generation in range(8):
            made, _ = bred(ALL.only(kind), 1500, parents, generation=generation)
            for code, n in zip(made.code, made.length, strict=True):
                codes.update(code[:n].tolist())
        assert codes >= set(range(len(CODES))), kind
        assert codes >= {LEAF + k for k in range(len(STATISTICS))} or kind == "point"


def test_sizes_spread_over_the_budget():
    lengths = bred(ALL.have, 1000)[0].length
    assert lengths.min() <= 2
    assert lengths.max() >= 13
    counts = np.bincount(lengths, minlength=16)[2:14]
    assert (counts > 15).all()
    assert 4 < lengths.mean() < 10


def test_the_kinds_come_at_their_rates():
    parents, _ = bred(ALL.have, 200)
    _, kinds = bred(ALL.have, 20_000, parents)
    for kind in KINDS:
        share = kinds.count(kind) / 20_000
        # what fails becomes fresh
        low, high = (
            (RATES[kind] - 0.02, 1.0) if kind == "fresh" else (RATES[kind] - 0.045, RATES[kind] + 0.02)
        )
        assert low < share < high, kind
    assert kinds.count("fresh") < 0.2 * 20_000


def test_exponents_and_constants_are_drawn_widely():
    grammar = GRAMMARS["no reduction"]
    made = dags_of(bred(grammar.have, 2000)[0], grammar.words)
    exponents = {dag.nodes[n.args[1]].value for dag in made for n in dag if n.name == "pow"}
    assert exponents == {-2.0, -1.0, -0.5, 0.5, 1.5, 4.0}
    assert {n.value for dag in made for n in dag if n.kind == "const"} >= {
        0.5,
        1.0,
        2.0,
        3.0,
        10.0,
        0.1,
        -1.0,
    }


def test_the_fit_breed():
    # parents of lengths 1 to 15, told apart in their children, which have the same length
    chains = [Dag([Node("leaf", "zen"), *(Node("op", "tanh", (i,)) for i in range(n))]) for n in range(15)]
    parents = to_forest(chains, ALL.words, 32)
    for score, expected in ((np.arange(15.0), (11.2, 12.6)), (-np.arange(15.0), (1.4, 2.8 + 1.0))):
        made, kinds = bred(ALL.only("point"), 3000, parents, score=score)
        assert kinds.count("point") == 3000
        hosts = made.length - 1
        low, high = expected
        assert low < hosts.mean() < high
        assert len(set(hosts.tolist())) > 8  # and not the best alone


# ---- the kinds -------------------------------------------------------------------------------------------


def one_parent(kind: str, formula: str, n: int = 300) -> tuple[Forest, Forest, list[str]]:
    parents = ALL.forest(formula)
    made, kinds = bred(ALL.only(kind), n, parents)
    rows = [i for i in range(n) if kinds[i] == kind]
    assert len(rows) > 0.6 * n
    return parents, made.take(rows), kinds


RICH = "sum(l2(w * 2)) ** 1.5 / params + mean(l1(g) - numel) * zen"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_it_changes_something(kind: str):
    parents, _ = bred(ALL.have, 1)
    changed = 0
    for seed in range(150):
        parents, _ = bred(ALL.have, 2, seed=seed)
        made, kinds = bred(ALL.only(kind), 1, parents, seed=seed, score=np.array([1.0, 0.0]))
        changed += kinds[0] == kind and used(made)[0] not in used(parents)
    assert changed > 45


def test_crossover_takes_from_both():
    parents = ALL.forest("sum(l2(w)) * params", "mean(l1(g)) / zen")
    made, kinds = bred(ALL.only("crossover"), 300, parents)
    both = [
        dag
        for dag in check(made, ALL)
        if set(dag.leaves) & {"w", "params"} and set(dag.leaves) & {"g", "zen"}
    ]
    assert kinds.count("crossover") > 250
    assert len(both) > 75
    # nothing is made up
    host_or_donor = set(parents.code[0, : parents.length[0]]) | set(parents.code[1, : parents.length[1]])
    crossed = made.take([i for i, kind in enumerate(kinds) if kind == "crossover"])
    assert all(set(code[:n]) <= host_or_donor for code, n in zip(crossed.code, crossed.length, strict=True))


def parts(forest: Forest, i: int) -> set[bytes]:
    """Every part of a tree, as it stands there."""
    code, value, n = (array[i] for array in forest)
    found = set()
    for at in range(n):
        end, missing = at, 1
        while missing:
            missing += (ALL.words.symbols.arity[code[end]] if 0 <= code[end] < LEAF else 0) - 1
            end += 1
        found |= set(spellings(Forest(code[None, at:end], value[None, at:end], np.array([end - at]))))
    return found


def test_a_hoisted_child_is_the_parent_less_some():
    parents, made, _ = one_parent("hoist", RICH)
    check(made, ALL)
    assert (made.length < parents.length[0]).all()
    assert len(set(made.length.tolist())) > 3
    known = parts(parents, 0)
    for i in range(len(made.length)):
        code = made.code[i, : made.length[i]].tolist()
        whole = iter(parents.code[0, : parents.length[0]].tolist())
        assert all(c in whole for c in code)  # in the same order
        assert parts(made, i) & known


def test_a_point_is_one_place():
    parents, made, _ = one_parent("point", RICH)
    n = parents.length[0]
    assert (made.length == n).all()
    codes = made.code[:, :n] != parents.code[0, :n]
    values = made.value[:, :n] != parents.value[0, :n]
    assert ((codes | values).sum(axis=1) <= 1).all()
    assert codes.any(axis=0)[made.code[0, :n] != CONST].all()  # every place but constants
    assert values[:, parents.code[0, :n] == CONST].any()


def test_an_inserted_operator_stands_on_a_part():
    parents, made, _ = one_parent("insert", "tanh(zen) - params ** 2")
    assert set((made.length - parents.length[0]).tolist()) == {1, 2}
    for i in range(len(made.length)):
        rest = iter(made.code[i, : made.length[i]].tolist())
        assert all(c in rest for c in parents.code[0, : parents.length[0]].tolist())


def test_a_constant_is_perturbed_and_nothing_else():
    parents, made, _ = one_parent("constant", RICH)
    n = parents.length[0]
    np.testing.assert_array_equal(made.code[:, :n], np.repeat(parents.code[:1, :n], len(made.length), axis=0))
    changed = made.value[:, :n] != parents.value[0, :n]
    movable = (parents.code[0, :n] == CONST) | (parents.code[0, :n] == CODES["pow"])
    assert not changed[:, ~movable].any()
    assert (changed.sum(axis=1) <= 1).all()
    assert changed.any(axis=0).sum() == movable.sum() == 2


def test_a_formula_without_constants_is_changed_elsewhere():
    _, made, _ = one_parent("constant", "params")
    assert (made.length == 1).all()
    assert len({int(code[0]) for code in made.code}) > 5


def test_exponents_stay_exponents():
    forest = ALL.forest("params ** 2 + 2 * zen", "(zen ** 16 + 1) ** -16")
    for generation in range(30):
        made, _ = bred(ALL.only("constant"), 40, forest, generation=generation)
        for code, value, n in zip(*made, strict=True):
            for c, v in zip(code[:n], value[:n], strict=True):
                if c == CODES["pow"]:
                    assert is_half_integer(v)
                    assert v != 0.0
        dags_of(made, ALL.words)
        forest = made


def test_constants_stay_finite():
    forest = ALL.forest("1e30 * params + -1e30", "zen * 0 + 1e-300")
    for generation in range(60):
        forest, _ = bred(ALL.only("constant"), 30, forest, generation=generation)
        for code, value, n in zip(*forest, strict=True):
            constants = value[:n][code[:n] == CONST]
            assert np.isfinite(constants).all()
            assert (np.abs(constants) <= MAX_CONSTANT).all()
    signs = [math.copysign(1.0, v) for v in forest.value[forest.code == CONST]]
    assert {-1.0, 1.0} == set(signs)


# ---- operators of the user, refusals ---------------------------------------------------------------------


def test_user_operators_are_used():
    register(Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a))))
    register(Op("lean", 2, "elementwise", lambda np, a, b: a - 0.5 * b))
    register(Op("span", 1, "reduction", lambda np, v, count: np.max(v) - np.min(v)))
    try:
        ops = default_ops(STATISTICS)
        grammar = Grammar(STATISTICS, ops, 12)
        forest, _ = bred(grammar.have, 600)
        for generation in range(4):
            used_ops = {node.name for dag in check(forest, grammar) for node in dag if node.kind == "op"}
            assert {"softsign", "lean", "span"} <= used_ops
            forest, _ = bred(grammar.have, 600, forest, generation=generation)
    finally:
        for name in ("softsign", "lean", "span"):
            unregister(name)


def test_the_default_operators():
    network, table = default_ops(STATISTICS), default_ops(TABLE_LEAVES)
    assert {"sin", "cos"}.isdisjoint(network)
    assert {"sin", "cos"} <= set(table)
    reductions = {name for name, op in OPS.items() if op.kind == "reduction"}
    assert not reductions & set(table)
    assert reductions <= set(network)
    assert "exp" not in default_ops(STATISTICS, without=["exp"])
    bent = {"abs", "sign", "relu", "maximum", "minimum", "tanh", "sigmoid", "log1p"}
    assert set(table) - set(default_ops(TABLE_LEAVES, smooth=True)) == bent


@pytest.mark.parametrize(
    ("leaves", "ops"),
    [({}, ("add", "exp")), ({"w": STATISTICS["w"]}, ("add", "exp")), ({}, ()), ({}, ("sum",))],
)
def test_what_makes_nothing_is_refused(leaves: Mapping[str, Leaf], ops: Sequence[str]):
    with pytest.raises(ConfigError, match="no formula can be made: there is no leaf on the row axis"):
        choices(Vocabulary.of(leaves), ops, 10)


def test_trees_of_random_formulas_are_as_long_as_they_say():
    forest, _ = bred(ALL.have, 300)
    for dag, n in zip(dags_of(forest, ALL.words), forest.length, strict=True):
        assert tree_length(dag) == n
