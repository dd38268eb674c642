"""The loop: a search is a value, and nothing is scored twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from proxygraph.archive import HallOfFame
from proxygraph.canon import canonical
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.infix import parse, text
from proxygraph.kernels.population import Population
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.objective import OBJECTIVES
from proxygraph.search import (
    COUNTERS,
    Search,
    SearchConfig,
    SearchState,
    grammar_for,
    state_from_json,
    state_to_json,
)
from proxygraph.table import StatTable
from proxygraph.zoo import available
from tests.strategies import random_table

FEW = {name: STATISTICS[name] for name in ("w", "g", "numel", "macs", "params", "jacov")}


class Watched(Population):
    """Remembers what it was asked to score."""

    def __init__(self, table: StatTable, threads: int = 1) -> None:
        super().__init__(table, threads)
        self.scored: list[Dag] = []

    def __call__(self, dags: Sequence[Dag]) -> np.ndarray:
        self.scored.extend(dags)
        return super().__call__(dags)


def network_search(seed: int = 0, threads: int = 1, **config) -> Search:
    rng = np.random.default_rng(9)
    table = random_table(rng, FEW, n_rows=24)
    target = table.columns["params"].astype(float) + rng.normal(size=24)
    settings = SearchConfig(seed=seed, **{"population": 40, "max_size": 12, **config})
    seeds = [proxy.dag for proxy in available(table.leaves)]
    grammar = grammar_for(table.leaves, settings.max_size)
    return Search(settings, grammar, OBJECTIVES["spearman"], Watched(table, threads), target, seeds)


def table_search(seed: int = 0, **config) -> Search:
    rng = np.random.default_rng(4)
    columns = {name: rng.uniform(-2, 2, size=60) for name in ("x", "y", "z")}
    table = StatTable.from_columns(None, columns)
    target = columns["x"] * columns["y"] * 3.0 + 1.0
    settings = SearchConfig(seed=seed, **{"population": 100, "max_size": 9, **config})
    grammar = grammar_for(table.leaves, settings.max_size)
    return Search(settings, grammar, OBJECTIVES["r2"], Watched(table), target)


def run(search: Search, generations: int, state: SearchState | None = None) -> SearchState:
    for _ in range(generations):
        state = search.start() if state is None else search.step(state)
    assert state is not None
    return state


def stored(state: SearchState) -> str:
    return json.dumps(state_to_json(state), allow_nan=False)


# ---- a search is a value ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [network_search, table_search])
def test_ten_generations_are_five_and_five(make):
    straight = run(make(), 10)
    halfway = json.loads(stored(run(make(), 5)))
    search = make()  # another process: no memory of what was computed
    resumed = run(search, 5, state_from_json(halfway, search.grammar.leaves))
    assert stored(resumed) == stored(straight)


def test_every_stop_can_be_gone_on_from():
    straight = run(network_search(restart_after=2), 8)
    state = None
    for _ in range(8):
        search = network_search(restart_after=2)
        state = run(search, 1, state)
        state = state_from_json(json.loads(stored(state)), search.grammar.leaves)
    assert stored(state) == stored(straight)


def test_threads_change_nothing():
    assert stored(run(network_search(threads=1), 6)) == stored(run(network_search(threads=2), 6))


def test_the_seed_decides():
    assert stored(run(network_search(3), 3)) == stored(run(network_search(3), 3))
    assert stored(run(network_search(3), 3)) != stored(run(network_search(4), 3))


def test_a_step_leaves_the_state_before_it_alone():
    search = network_search()
    state = search.start()
    before = stored(state)
    once = search.step(state)
    assert stored(state) == before
    assert stored(search.step(state)) == stored(once)


# ---- what is scored --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [network_search, table_search])
def test_nothing_is_scored_twice(make):
    search = make()
    state = run(search, 12)
    scored = search.evaluate.scored
    keys = [dag.key for dag in scored]
    assert len(keys) == len(set(keys)) == state.counters["evaluated"]
    assert all(canonical(dag) == dag for dag in scored)
    assert all(dag.size <= search.config.max_size for dag in scored)
    assert all(dag.leaves for dag in scored)
    assert set(keys) <= set(state.known)


def test_nothing_is_scored_twice_after_an_interruption():
    first, second = network_search(), network_search()
    state = run(first, 6)
    run(second, 6, state_from_json(json.loads(stored(state)), second.grammar.leaves))
    keys = [dag.key for search in (first, second) for dag in search.evaluate.scored]
    assert len(keys) == len(set(keys))


def test_spellings_of_one_formula_are_scored_once():
    search = network_search()
    spellings = [
        "params * jacov",
        "jacov * params",
        "jacov / inv(params)",
        "params + 1",
        "2 - 1 + params",
        "3 - 1",
    ]
    known: dict[str, None] = {}
    counters: Counter[str] = Counter()
    new = search.unknown([parse(s) for s in spellings], known, counters)
    assert [text(dag) for dag in new] == ["jacov * params", "1 + params"]
    assert counters == {"proposed": 6, "structural": 1, "algebraic": 2, "invalid": 1}
    assert search.unknown([parse("2 + params - 1"), parse("params * jacov")], known, counters) == []


def test_the_counters_add_up():
    search = network_search()
    state = run(search, 8)
    c = state.counters
    assert set(c) == set(COUNTERS)
    assert c["proposed"] == 8 * 40 + len(search.seeds)
    caught = c["structural"] + c["algebraic"] + c["numeric"] + c["rank"]
    constants = c["proposed"] - c["evaluated"] - caught - c["oversize"]
    assert 0 <= constants <= c["invalid"]
    values = Population(search.evaluate.table)(search.evaluate.scored)
    not_rankable = np.isnan(search.objective.fitness(values, search.target)).sum()
    assert c["invalid"] == constants + not_rankable
    assert c["invalid"] > 0
    assert c["structural"] > 0
    assert c["algebraic"] > 0


def test_seeds_are_scored_first_and_those_too_large_are_not():
    search = network_search()
    search.start()
    expected = [canonical(dag).key for dag in search.seeds]
    assert [dag.key for dag in search.evaluate.scored[: len(expected)]] == expected
    small = network_search(max_size=3)
    small.start()
    assert all(dag.size <= 3 for dag in small.evaluate.scored)


def test_individuals_carry_what_they_score():
    search = network_search()
    state = run(search, 5)
    people = [*state.population, *state.hall.members]
    values = Population(search.evaluate.table)([one.dag for one in people])
    fitness = search.objective.fitness(values, search.target)
    np.testing.assert_array_equal(fitness, [one.fitness for one in people])


# ---- progress --------------------------------------------------------------------------------------------


def test_a_known_formula_is_found():
    search = table_search()
    state = run(search, 25)
    assert state.best > 0.999999
    best = state.hall.front()[-1]
    assert best.size <= 5


def test_the_best_never_gets_worse_and_restarts_happen():
    search = network_search(restart_after=3)
    state = search.start()
    restarts = 0
    for _ in range(15):
        following = search.step(state)
        assert following.generation == state.generation + 1
        assert following.best >= state.best
        assert len(following.population) <= 40
        restarts += state.generation - state.last_gain >= 3
        assert following.last_gain - state.last_gain in (0, following.generation - state.last_gain, 3)
        state = following
    assert restarts > 0
    assert state.hall.front()


def test_an_empty_state():
    empty = SearchState(0, (), HallOfFame(), {}, {}, 0, {})
    assert empty.best == 0.0
    search = table_search()
    assert search.child((), np.random.default_rng(0)).size > 0


def test_a_target_that_no_formula_can_rank():
    search = table_search()
    nothing = Search(search.config, search.grammar, search.objective, search.evaluate, np.ones(60))
    state = run(nothing, 3)
    assert state.counters["invalid"] >= state.counters["evaluated"] > 0
    assert state.population == ()
    assert state.hall.front() == ()


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 9}, "population 9: at least 10 formulas are needed"),
        ({"max_size": 1}, "max_size 1: a formula needs at least 2 nodes"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**settings)


def good() -> dict:
    return json.loads(stored(run(table_search(population=10), 2)))


@pytest.mark.parametrize(
    "name", ["generation", "population", "hall", "known", "counters", "last_gain", "rng"]
)
@pytest.mark.parametrize("value", [None, "x", 3.5, [1], [[1, 2, 3]], [[["x", 1]], 0.5], {"a": 1}, "absent"])
def test_damaged_checkpoints(name: str, value):
    data = good()
    data[name] = value
    if value == "absent":
        del data[name]
    leaves = table_search().grammar.leaves
    if is_refused(data, leaves):
        with pytest.raises(
            ConfigError, match=r"the checkpoint is damaged \(.*\); start again without --resume"
        ):
            state_from_json(data, leaves)
    else:  # what can be read can be gone on from
        table_search(population=10).step(state_from_json(data, leaves))


def is_refused(data: dict, leaves: dict[str, Leaf]) -> bool:
    try:
        state_from_json(data, leaves)
    except ConfigError:
        return True
    return False


def test_a_checkpoint_of_other_leaves():
    with pytest.raises(ConfigError, match=r"the checkpoint is damaged .*unknown leaf"):
        state_from_json(good(), {"a": Leaf("a", "row")})


def test_constants_survive_exactly():
    data = good()
    values = [0.1, -0.0, 5e-324, 1e300, 2.0, -1 / 3]
    data["hall"] = [[[v, ["x"], ["mul", 0, 1]], 0.5] for v in values]
    state = state_from_json(json.loads(json.dumps(data)), table_search().grammar.leaves)
    got = [one.dag.nodes[0].value.hex() for one in state.hall.members]
    assert got == [v.hex() for v in values]
    assert json.loads(stored(state))["hall"] == data["hall"]
