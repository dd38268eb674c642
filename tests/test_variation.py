"""Variation: whatever it does, the result is a formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.canon import canonical
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.infix import parse
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import BUILTIN, OPS, Op, register, unregister
from proxygraph.search import grammar_for
from proxygraph.variation import (
    MAX_CONSTANT,
    MUTATIONS,
    Grammar,
    crossover,
    mutate_constant,
    random_dag,
)

ALL = Grammar(STATISTICS, tuple(sorted(BUILTIN)), max_size=15)
TABLE = grammar_for({name: Leaf(name, "row") for name in ("x", "y", "a column")}, max_size=12)
DEEP = Grammar({"w": STATISTICS["w"]}, tuple(sorted(BUILTIN)), max_size=12)
NO_REDUCTION = Grammar(dict(TABLE.leaves), ("add", "pow", "exp"), max_size=9)
NO_ELEMENTWISE = Grammar({"w": STATISTICS["w"], "a": STATISTICS["a"]}, ("sum", "max"), max_size=6)
GRAMMARS = {
    "all": ALL,
    "table": TABLE,
    "element only": DEEP,
    "no reduction": NO_REDUCTION,
    "only reductions": NO_ELEMENTWISE,
}

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=GRAMMARS.values(), ids=GRAMMARS.keys())
def grammar(request: pytest.FixtureRequest) -> Grammar:
    return request.param


def check(dag: Dag, grammar: Grammar) -> None:
    """The result is a checked formula of the grammar (a Dag checks itself when made)."""
    assert dag.axes[-1] == "row"
    assert dag.size <= grammar.max_size
    assert set(dag.leaves) <= set(grammar.leaves)
    assert {node.name for node in dag if node.kind == "op"} <= set(grammar.ops)
    assert all(abs(node.value) <= MAX_CONSTANT for node in dag if node.kind == "const")
    assert Dag(dag.nodes, dag.leaves) == dag


def test_random_formulas(grammar: Grammar):
    rng = np.random.default_rng(0)
    for _ in range(200):
        check(random_dag(grammar, rng), grammar)


@given(seeds)
def test_a_long_walk_of_every_kind_of_variation(seed: int):
    for grammar in GRAMMARS.values():
        rng = np.random.default_rng(seed)
        dag, other = random_dag(grammar, rng), random_dag(grammar, rng)
        for _ in range(12):
            way = int(rng.integers(len(MUTATIONS) + 1))
            before = (dag.nodes, other.nodes)
            if way == len(MUTATIONS):
                child = crossover(dag, other, grammar, rng)
            else:
                child = MUTATIONS[way](dag, grammar, rng)
            assert (dag.nodes, other.nodes) == before
            check(child, grammar)
            dag, other = child, dag


@given(seeds)
def test_the_generator_decides_alone(seed: int):
    def walk() -> list[str]:
        rng = np.random.default_rng(seed)
        dags = [random_dag(ALL, rng) for _ in range(2)]
        dags += [crossover(*dags, ALL, rng)]
        dags += [mutate(dags[-1], ALL, rng) for mutate in MUTATIONS]
        return [dag.key for dag in dags]

    assert walk() == walk()


@pytest.mark.parametrize("mutate", [*MUTATIONS, "crossover"], ids=lambda m: getattr(m, "__name__", m))
def test_it_changes_something(mutate):
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(200):
        dag, other = random_dag(ALL, rng), random_dag(ALL, rng)
        child = crossover(dag, other, ALL, rng) if mutate == "crossover" else mutate(dag, ALL, rng)
        changed += child != dag
    assert changed > 60


def test_every_operator_and_leaf_is_made():
    rng = np.random.default_rng(0)
    made = [random_dag(ALL, rng) for _ in range(3000)]
    assert {node.name for dag in made for node in dag if node.kind == "op"} == set(ALL.ops)
    assert {name for dag in made for name in dag.leaves} == set(STATISTICS)
    assert len({canonical(dag).key for dag in made}) > 1000


def test_sizes_spread_over_the_budget():
    rng = np.random.default_rng(0)
    sizes = [random_dag(ALL, rng).size for _ in range(500)]
    assert min(sizes) <= 2
    assert max(sizes) >= 13
    assert all(random_dag(ALL, rng, size=1).size <= 3 for _ in range(50))


def test_crossover_takes_from_both():
    rng = np.random.default_rng(0)
    first, second = parse("sum(l2(w)) * params"), parse("mean(l1(g)) / zen")
    children = [crossover(first, second, ALL, rng) for _ in range(60)]
    both = [
        child
        for child in children
        if set(child.leaves) & {"w", "params"} and set(child.leaves) & {"g", "zen"}
    ]
    assert len(both) > 15


def test_exponents_stay_exponents():
    rng = np.random.default_rng(0)
    dag = parse("params ** 2 + 2 * zen")  # one constant, once an exponent and once a factor
    for _ in range(100):
        for mutate in MUTATIONS:
            check(mutate(dag, ALL, rng), ALL)


def test_constants_stay_finite():
    rng = np.random.default_rng(0)
    dag = parse("1e30 * params + -1e30")
    for _ in range(300):
        dag = mutate_constant(dag, ALL, rng)
        assert all(math.isfinite(node.value) for node in dag)


def test_a_formula_without_constants_is_mutated_elsewhere():
    dag = parse("params")
    assert mutate_constant(dag, ALL, np.random.default_rng(1)).size == 1


def test_user_operators_are_used():
    register(Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a))))
    try:
        grammar = grammar_for(STATISTICS, 12)
        assert "softsign" in grammar.ops
        rng = np.random.default_rng(0)
        made = [random_dag(grammar, rng) for _ in range(300)]
        assert any(node.name == "softsign" for dag in made for node in dag)
    finally:
        unregister("softsign")


def test_the_default_grammar():
    network, table = grammar_for(STATISTICS, 12), grammar_for({"x": Leaf("x", "row")}, 12)
    assert {"sin", "cos"}.isdisjoint(network.ops)
    assert {"sin", "cos"} <= set(table.ops)
    assert not table.reductions
    assert set(network.reductions) == {n for n in OPS if OPS[n].kind == "reduction"}
    assert "exp" not in grammar_for(STATISTICS, 12, without=["exp"]).ops


@pytest.mark.parametrize(
    ("leaves", "ops"), [({}, ("add", "exp")), ({"w": STATISTICS["w"]}, ("add", "exp")), ({}, ())]
)
def test_grammars_that_make_nothing(leaves, ops):
    with pytest.raises(ConfigError, match="no formula can be made: there is no leaf on the row axis"):
        Grammar(leaves, ops)
