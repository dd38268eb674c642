"""Islands: cut and shared out in any way, they come to the same result."""

from __future__ import annotations

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from proxygraph.assemble import Settings, assembled
from proxygraph.checkpoint import islands_from_json, islands_to_json
from proxygraph.constraints import Constraints
from proxygraph.errors import ConfigError
from proxygraph.islands import Islands, IslandsState, Migration, island_seed
from proxygraph.kernels.population import Population
from proxygraph.objective import OBJECTIVES
from proxygraph.search import Search, SearchConfig, default_ops
from proxygraph.table import StatTable
from tests.compact.trees import spellings
from tests.test_search import stored

RNG = np.random.default_rng(4)
COLUMNS = {name: RNG.uniform(-2, 2, size=60) for name in ("x", "y", "z")}
TARGET = COLUMNS["x"] * COLUMNS["y"] * 3.0 + np.exp(COLUMNS["z"])


def islands(n: int = 3, every: int = 2, migrants: int = 3, executor: Executor | None = None) -> Islands:
    table = StatTable.from_columns(None, COLUMNS)

    def search(k: int) -> Search:
        config = SearchConfig(seed=island_seed(7, k), population=30, max_size=9)
        return Search(config, default_ops(table.leaves), OBJECTIVES["r2"], Population(table), TARGET)

    return Islands([search(k) for k in range(n)], Migration(every, migrants), executor)


def run(search: Islands, generations: int, state: IslandsState | None = None) -> IslandsState:
    for _ in range(generations):
        state = search.start() if state is None else search.step(state)
    assert state is not None
    return state


def text(state: IslandsState) -> list[str]:
    return [stored(one) for one in state.islands]


def through_json(state: IslandsState, search: Islands) -> IslandsState:
    data: Any = json.loads(json.dumps(islands_to_json(state), allow_nan=False))
    return islands_from_json(data, search.searches[0].leaves, len(search.searches))


def test_one_island_is_the_plain_search():
    alone = islands(1)
    state = run(alone, 6)
    (search,) = islands(1).searches
    plain = search.start()
    for _ in range(5):
        plain = search.step(plain)
    assert text(state) == [stored(plain)]


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_seven_generations_are_so_many_and_the_others(cut: int):
    straight = run(islands(), 7)
    search = islands()
    assert text(run(search, 7 - cut, through_json(run(islands(), cut), search))) == text(straight)


def test_who_runs_the_islands_changes_nothing():
    with ThreadPoolExecutor(2) as two, ThreadPoolExecutor(5) as five:
        found = [text(run(islands(executor=executor), 6)) for executor in (None, two, five)]
    assert found[0] == found[1] == found[2]


def test_threads_change_nothing_in_an_assembled_search():
    table = StatTable.from_columns(None, COLUMNS)

    def front(threads: int, n: int) -> list[str]:
        settings = Settings(seed=3, population=60, islands=n, threads=threads, max_size=9)
        return text(run(assembled(table, TARGET, OBJECTIVES["r2"], settings), 5))

    for n in (1, 3):
        assert front(1, n) == front(2, n) == front(3, n)


def test_the_best_go_to_the_next_island():
    search = islands(every=5)
    before = run(search, 4)
    best = [s.emigrants(one, 3) for s, one in zip(search.searches, before.islands, strict=True)]
    sizes = [len(one.population) for one in before.islands]
    assert all(len(b) == 3 for b in best)
    after = search.migrated(before)
    for k, one in enumerate(after.islands):
        came = set(spellings(best[k - 1].trees))
        assert came & set(spellings(one.population.trees))
        assert len(one.population) == sizes[k] <= 30
        # a guest is not scored again
        assert not one.known.add(best[k - 1].key, np.zeros(3, np.int32)).any()


def test_a_guest_takes_the_place_of_the_worst():
    search = islands(2)
    state = run(search, 3)
    before, after = state.islands[0], search.migrated(state).islands[0]
    stayed = set(spellings(after.population.trees)) & set(spellings(before.population.trees))
    gone = [t not in stayed for t in spellings(before.population.trees)]
    score = search.searches[0].selective(before.population)
    assert any(gone)
    assert score[gone].max() <= score[np.logical_not(gone)].min()


def test_without_migrants_islands_stay_apart():
    apart = run(islands(migrants=0), 6)
    for k, search in enumerate(islands().searches):
        alone = search.start()
        for _ in range(5):
            alone = search.step(alone)
        assert stored(alone) == text(apart)[k]
    assert text(run(islands(), 6)) != text(apart)


def test_the_whole_is_the_sum_of_its_islands():
    state = run(islands(), 6)
    assert state.best == max(one.best for one in state.islands)
    assert state.best == max(one.fitness for one in state.hall.members)
    assert state.counters["evaluated"] == sum(one.counters["evaluated"] for one in state.islands)
    assert len({one.dag.key for one in state.hall.members}) == len(state.hall.members)
    for size in {one.size for one in state.hall.members}:
        everywhere = [one.fitness for s in state.islands for one in s.hall.members if one.size == size]
        assert max(one.fitness for one in state.hall.members if one.size == size) == max(everywhere)


def test_seeds_of_islands():
    seeds = [island_seed(5, k) for k in range(50)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 50
    assert seeds[1:] != [island_seed(6, k) for k in range(1, 50)]


@pytest.mark.parametrize(("every", "migrants"), [(0, 1), (3, -1)])
def test_a_migration_that_cannot_be(every: int, migrants: int):
    with pytest.raises(ConfigError, match=f"migration of {migrants} formulas every {every} generations"):
        Migration(every, migrants)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("islands"),
        lambda data: data["islands"].pop(),
        lambda data: data["islands"][0].update(generation=99, last_gain=1),
        lambda data: data["islands"][1].update(credit=[[1.0]]),
        lambda data: data["islands"][1].update(credit=[[-1.0] * 7] * 2),
    ],
)
def test_a_damaged_checkpoint(spoil):
    search = islands()
    data = json.loads(json.dumps(islands_to_json(run(search, 2))))
    spoil(data)
    with pytest.raises(ConfigError, match="the checkpoint is damaged"):
        islands_from_json(data, search.searches[0].leaves, 3)


@pytest.mark.parametrize("objective", ["r2", "spearman"])
def test_operators_that_are_named_are_used(objective: str):
    table = StatTable.from_columns(None, {"x": np.linspace(-2, 2, 30)})
    named = ("add", "mul", "tanh", "abs")
    settings = Settings(population=40, islands=1, constraints=Constraints(ops=named))
    (search,) = assembled(table, np.tanh(table.columns["x"]), OBJECTIVES[objective], settings).searches
    assert set(search.constraints.allowed_ops(search.ops)) == set(named)
