"""The loop: a search is a value, and nothing is scored twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proxygraph.archive import HallOfFame, Individual
from proxygraph.canon import canonical
from proxygraph.checkpoint import state_from_json, state_to_json
from proxygraph.compact.breed import FRESH, KINDS, RATES
from proxygraph.compact.forest import CODES, Forest, to_forest
from proxygraph.compact.keys import EMPTY, KeySet
from proxygraph.errors import ConfigError
from proxygraph.infix import parse
from proxygraph.kernels.population import Population
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.objective import OBJECTIVES
from proxygraph.ops import Op, register, unregister
from proxygraph.program import lower
from proxygraph.search import Search, SearchConfig, adapted, default_ops
from proxygraph.search_state import COUNTERS, COUNTERS_AFTER, Living, SearchState
from proxygraph.table import StatTable
from proxygraph.zoo import available
from tests.compact.trees import dags_of, spellings
from tests.strategies import random_table

FEW = {name: STATISTICS[name] for name in ("w", "g", "numel", "macs", "params", "jacov")}


class Watched(Population):
    """Remembers what it was asked to score."""

    def __init__(self, table: StatTable, threads: int = 1) -> None:
        super().__init__(table, threads)
        self.scored: list[Forest] = []

    def run(self, forest: Forest) -> np.ndarray:
        self.scored.append(forest.take(slice(None)))
        return super().run(forest)

    @property
    def trees(self) -> list[bytes]:
        return [spelling for forest in self.scored for spelling in spellings(forest)]


def network_search(
    seed: int = 0, threads: int = 1, objective: str = "spearman", screened: bool = False, **config: Any
) -> Search:
    rng = np.random.default_rng(9)
    table = random_table(rng, FEW, n_rows=24, max_entries=40)
    target = table.columns["params"].astype(float) + rng.normal(size=24)
    settings = SearchConfig(seed=seed, **{"population": 40, "max_size": 12, **config})
    seeds = [proxy.dag for proxy in available(table.leaves)]
    return Search(
        settings,
        default_ops(table.leaves),
        OBJECTIVES[objective],
        Watched(table, threads),
        target,
        seeds,
        Watched(table.thin(3), threads) if screened else None,
    )


def table_search(seed: int = 0, threads: int = 1, objective: str = "r2", **config: Any) -> Search:
    rng = np.random.default_rng(4)
    columns = {name: rng.uniform(-2, 2, size=60) for name in ("x", "y", "z")}
    table = StatTable.from_columns(None, columns)
    target = columns["x"] * columns["y"] * 3.0 + 1.0
    settings = SearchConfig(seed=seed, **{"population": 100, "max_size": 9, **config})
    return Search(settings, default_ops(table.leaves), OBJECTIVES[objective], Watched(table, threads), target)


def run(search: Search, generations: int, state: SearchState | None = None) -> SearchState:
    for _ in range(generations):
        state = search.start() if state is None else search.step(state)
    assert state is not None
    return state


def stored(state: SearchState) -> str:
    """The state as text. Sets have no order, and behind the end of a tree nothing means anything."""
    data = state_to_json(state)
    for name, keys in (("known", state.known), ("classes", state.classes)):
        data[name] = sorted(zip(*(array.tolist() for array in keys.content()), strict=True))
    population = data["population"]
    for name in ("code", "value"):
        del population[name]
    population["trees"] = [spelling.hex() for spelling in spellings(state.population.trees)]
    return json.dumps(data, allow_nan=False)


def through_json(state: SearchState, leaves: Mapping[str, Leaf]) -> SearchState:
    return state_from_json(json.loads(json.dumps(state_to_json(state), allow_nan=False)), leaves)


# ---- a search is a value ---------------------------------------------------------------------------------


MAKES = [network_search, table_search]


@pytest.mark.parametrize("make", MAKES)
def test_ten_generations_are_five_and_five(make):
    straight = run(make(), 10)
    halfway = run(make(), 5)
    search = make()  # another process: no memory of what was computed
    resumed = run(search, 5, through_json(halfway, search.leaves))
    assert stored(resumed) == stored(straight)


def test_every_stop_can_be_gone_on_from():
    settings: Any = {"restart_after": 2, "screened": True}
    straight = run(network_search(**settings), 8)
    state = None
    for _ in range(8):
        search = network_search(**settings)
        state = through_json(run(search, 1, state), search.leaves)
    assert stored(state) == stored(straight)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(make, threads: int):
    assert stored(run(make(threads=1), 6)) == stored(run(make(threads=threads), 6))


def test_the_seed_decides():
    assert stored(run(network_search(3), 3)) == stored(run(network_search(3), 3))
    assert stored(run(network_search(3), 3)) != stored(run(network_search(4), 3))


def test_a_state_is_stepped_once_and_its_numbers_stay():
    # a step takes over the sets of keys; all else of the state before it is left alone
    search = network_search()
    state = run(search, 2)
    kept = through_json(state, search.leaves)
    once = search.step(state)
    assert once.known is state.known
    assert once.classes is state.classes
    after = json.loads(stored(state))
    before = json.loads(stored(kept))
    assert len(after.pop("known")) > len(before.pop("known"))
    assert len(after.pop("classes")) > len(before.pop("classes"))
    assert after == before
    assert stored(search.step(kept)) == stored(once)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective(objective: str):
    search = table_search(objective=objective)
    state = run(search, 4)
    assert 0.3 < state.best <= 1.0
    assert len(state.population) > 50


# ---- what is scored --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKES)
def test_nothing_is_scored_twice(make):
    search = make()
    state = run(search, 12)
    trees = search.evaluate.trees
    assert len(trees) == len(set(trees)) == state.counters["evaluated"] - state.counters["screened"]
    for forest in search.evaluate.scored:
        key, size = search.tidied(before := forest.take(slice(None)))
        assert spellings(before) == spellings(forest)  # what is scored is tidy
        assert (key != EMPTY).all()
        assert (size <= search.config.max_size).all()
        assert not state.known.add(key, np.zeros_like(size)).any()
    dags = {
        dag.key for forest in search.evaluate.scored for dag in dags_of(forest, search.evaluate.vocabulary)
    }
    assert len(dags) == len(trees)


def test_nothing_is_scored_twice_after_an_interruption():
    first, second = network_search(), network_search()
    run(second, 6, through_json(run(first, 6), second.leaves))
    trees = first.evaluate.trees + second.evaluate.trees
    assert len(trees) == len(set(trees))


def test_spellings_of_one_formula_are_scored_once():
    search = network_search()
    state = search.start()
    before, scored = dict(state.counters), len(search.evaluate.trees)
    texts = ["params * jacov * 7.25", "7.25 * (jacov * params)", "7.25 * (params * jacov)", "3 - 1"]
    texts += ["params - params", "7.25 * --(jacov * params) + 0", "7.25 * params * jacov"]
    proposed = to_forest([parse(t) for t in texts], search.evaluate.vocabulary, search.capacity)
    after = search.advanced(state, proposed).counters
    gained = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    gained.pop("rank", None)
    gained.pop("algebraic", None)
    # the order of three factors is the canonical form's business
    assert gained == {"proposed": 7, "evaluated": 2, "structural": 3, "invalid": 2}
    assert len(search.evaluate.trees) == scored + 2


@pytest.mark.parametrize("screened", [False, True])
def test_the_counters_add_up(screened: bool):
    search = network_search(screened=screened)
    state = run(search, 8)
    c = state.counters
    assert set(c) == {*COUNTERS, *COUNTERS_AFTER}
    fitting = [dag for dag in search.seeds if dag.size <= 12]
    assert c["proposed"] == 8 * 40 + len(fitting)
    without_leaves = c["proposed"] - c["structural"] - c["oversize"] - c["evaluated"]
    values = np.concatenate(
        [Population(search.evaluate.table).run(forest) for forest in search.evaluate.scored]
    )
    assert len(values) == c["evaluated"] - c["screened"]
    fitness = search.objective.fitness(values, search.target)
    assert c["invalid"] == without_leaves + np.isnan(fitness).sum()
    assert min(without_leaves, c["structural"], c["invalid"], c["rank"]) > 0
    assert len(state.known) == c["evaluated"] + c["oversize"]
    assert (c["screened"] > 0) == screened
    assert c["numeric"] == 0


def test_children_may_be_more_or_less_than_the_population():
    assert run(table_search(children=30), 4).counters["proposed"] == 120
    assert run(table_search(children=250), 2).counters["proposed"] == 500
    assert len(run(table_search(children=250), 3).population) <= 100


def test_seeds_are_scored_first_and_those_too_large_are_not():
    search = network_search()
    search.start()
    seeds = to_forest(
        [dag for dag in search.seeds if dag.size <= 12], search.evaluate.vocabulary, search.capacity
    )
    search.tidied(seeds)
    expected = dict.fromkeys(spellings(seeds))
    assert search.evaluate.trees[: len(expected)] == list(expected)
    small = network_search(max_size=3)
    small.start()
    for forest in small.evaluate.scored:
        assert all(dag.size <= 3 for dag in dags_of(forest, small.evaluate.vocabulary))


@pytest.mark.parametrize("objective", ["spearman", "kendall", "pearson", "r2"])
@pytest.mark.parametrize("screened", [False, True])
def test_all_carry_what_they_score(objective: str, screened: bool):
    search = network_search(objective=objective, screened=screened)
    state = run(search, 6)
    values = Population(search.evaluate.table, memory=0).run(state.population.trees)
    fitness = search.objective.fitness(values, search.target)
    np.testing.assert_array_equal(fitness, state.population.fitness)
    sizes = [dag.size for dag in dags_of(state.population.trees, search.evaluate.vocabulary)]
    assert state.population.size.tolist() == sizes
    assert len(set(state.population.key.tolist())) == len(sizes)
    dags = [one.dag for one in state.hall.members]
    assert all(dag == canonical(dag) and dag.leaves and dag.size <= 12 for dag in dags)
    # another spelling, so other last digits; the tables are small enough that they decide no order
    for kernel in (Population(search.evaluate.table), ReferenceKernel(lower(dags))):
        values = kernel(dags) if isinstance(kernel, Population) else kernel(search.evaluate.table)
        np.testing.assert_allclose(
            search.objective.fitness(values, search.target),
            [one.fitness for one in state.hall.members],
            atol=1e-9,
        )


def test_classes_are_scored_once_and_the_smallest_stays():
    search = network_search()
    state = run(search, 10)
    living = state.population
    assert len(set(living.code.tolist())) == len(set(living.fitness.tolist())) == len(living)
    codes, least = state.classes.content()
    smallest = dict(zip(codes.tolist(), least.tolist(), strict=True))
    for code, size in zip(living.code.tolist(), living.size.tolist(), strict=True):
        assert size >= smallest[code]


def test_screening_changes_no_fitness_and_only_drops_candidates():
    with_screen, without = network_search(screened=True), network_search()
    state, other = run(with_screen, 1), run(without, 1)
    assert stored(state) == stored(other)  # with nobody alive there is nothing to compare with
    state = run(with_screen, 5, state)
    dropped = 0
    for generation in range(4):
        trees, _ = with_screen.children(state.population, 50 + generation)
        key, size = with_screen.tidied(trees)
        trees = trees.take(np.flatnonzero((key != EMPTY) & (size <= 12)))
        fitness, code, passed = with_screen.scored(trees, state.population)
        all_fitness, all_code, all_passed = without.scored(trees, state.population)
        assert all_passed.all()
        np.testing.assert_array_equal(fitness[passed], all_fitness[passed])
        np.testing.assert_array_equal(code[passed], all_code[passed])
        assert np.isnan(fitness[~passed]).all()
        dropped += int((~passed).sum())
        assert passed.any()
        state = with_screen.step(state)
    assert dropped > 0


def test_user_operators_are_searched_with():
    register(Op("tenth", 1, "elementwise", lambda np, a: np.floor(a * 3.0) / 10.0))
    register(Op("span", 1, "reduction", lambda np, v, count: np.max(v) - np.min(v)))
    try:
        search = network_search()
        assert {"tenth", "span"} <= set(search.ops)
        state = run(search, 8)
        dags = dags_of(state.population.trees, search.evaluate.vocabulary)
        users = [i for i, dag in enumerate(dags) if {n.name for n in dag} & {"tenth", "span"}]
        assert users
        values = ReferenceKernel(lower([dags[i] for i in users]))(search.evaluate.table)
        fitness = search.objective.fitness(values, search.target)
        np.testing.assert_allclose(fitness, state.population.fitness[users], atol=1e-9)
    finally:
        unregister("tenth")
        unregister("span")


# ---- progress --------------------------------------------------------------------------------------------


def test_a_known_formula_is_found():
    state = run(table_search(), 25)
    assert state.best > 0.999999
    assert state.hall.front()[-1].size <= 5


def test_the_best_never_gets_worse_and_restarts_happen():
    search = network_search(restart_after=2)
    state = search.start()
    restarts = 0
    for _ in range(25):
        before, last = state.generation, max(state.last_gain, state.renewed)
        following = search.step(state)
        assert following.generation == before + 1
        assert following.best >= state.best
        assert 0 < len(following.population) <= 40
        restarted = before - last >= 2
        restarts += restarted
        gained = following.best > state.best
        assert following.last_gain == (before + 1 if gained else state.last_gain)
        assert following.renewed == (before if restarted else state.renewed)
        if restarted:  # of those alive before only the front stays
            old = set(spellings(state.population.trees)) & set(spellings(following.population.trees))
            assert len(old) <= len(state.hall.front())
        state = following
    assert restarts > 0
    assert state.hall.front()


def test_an_empty_state():
    nobody = Living.none(20)
    empty = SearchState(0, nobody, HallOfFame(), KeySet(), KeySet(), {}, 0)
    assert empty.best == 0.0
    search = table_search()
    assert (search.children(nobody, 0)[0].length > 0).all()


def test_a_target_that_no_formula_can_rank():
    search = table_search()
    nothing = Search(search.config, search.ops, search.objective, search.evaluate, np.ones(60))
    state = run(nothing, 3)
    assert state.counters["invalid"] >= state.counters["evaluated"] > 0
    assert len(state.population) == 0
    assert state.hall.front() == ()
    again = through_json(state, search.leaves)
    assert stored(nothing.step(again)) == stored(nothing.step(through_json(run(nothing, 3), search.leaves)))


def test_hundreds_of_thousands_of_formulas_stay_in_bounds():
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=30) for name in ("x", "y", "z")}
    table = StatTable.from_columns(None, columns)
    search = Search(
        SearchConfig(population=200, children=6000, max_size=12, restart_after=5),
        default_ops(table.leaves),
        OBJECTIVES["spearman"],
        Population(table, memory=500_000),
        rng.normal(size=30),
    )
    state = search.start()
    state.known.capacity = state.classes.capacity = 30_000
    stores = [store.nbytes for store in search.evaluate._stores]
    while state.counters["evaluated"] < 300_000:
        state = search.step(state)
        assert len(state.population) <= 200
        assert len(state.hall.members) <= 12 * state.hall.keep
        for keys in (state.known, state.classes):
            assert len(keys) <= 30_000
            assert len(keys._table) <= 4 * 2**16
    assert [store.nbytes for store in search.evaluate._stores] == stores
    assert len(search.canonical.graph.nodes) <= search.canonical.max_nodes + 1000


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 9}, "population 9: at least 10 formulas are needed"),
        ({"max_size": 1}, "max_size 1: a formula needs at least 2 nodes"),
        ({"children": -1}, "children -1: a generation cannot have less than 0"),
    ],
)
def test_settings(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**settings)


@pytest.fixture(scope="module")
def checkpoint() -> str:
    return json.dumps(state_to_json(run(table_search(population=10), 3)))


WRONG: list[Any] = [
    None, "x", 3.5, -1, 10**30, [1], [[1, 2, 3]], [[["x", 1]], 0.5], [["x"], 0.5], {"a": 1}, [], "", "absent",
]  # fmt: skip


def packed(*values: float, dtype: Any) -> str:
    return base64.b64encode(np.array(values, dtype).tobytes()).decode()


def goes_on_or_is_refused(data: Any) -> None:
    """What is refused is refused in words; what can be read can be gone on from."""
    search = table_search(population=10)
    try:
        state = state_from_json(data, search.leaves)
    except ConfigError as error:
        assert str(error).startswith("the checkpoint is damaged (")  # noqa: PT017
        assert str(error).endswith("); start again without --resume")  # noqa: PT017
        return
    search.step(state)


@pytest.mark.parametrize(
    "name",
    ["generation", "population", "hall", "known", "classes", "counters", "last_gain", "renewed", "credit"],
)
@pytest.mark.parametrize("value", WRONG, ids=str)
def test_damaged_checkpoints(checkpoint: str, name: str, value: Any):
    data = json.loads(checkpoint)
    data[name] = value
    if value == "absent":
        del data[name]
    goes_on_or_is_refused(data)


@pytest.mark.parametrize("name", ["capacity", "code", "value", "length", "key", "order", "size", "fitness"])
@pytest.mark.parametrize("value", [*WRONG, "AAAA", "AAAAAAAAAAA=", "A" * 800], ids=lambda v: str(v)[:20])
def test_damaged_populations(checkpoint: str, name: str, value: Any):
    data = json.loads(checkpoint)
    data["population"][name] = value
    if value == "absent":
        del data["population"][name]
    goes_on_or_is_refused(data)


def test_bytes_turned_over(checkpoint: str):
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(120):
        data = json.loads(checkpoint)
        name = ("code", "value", "length", "key", "order", "size")[rng.integers(6)]
        raw = bytearray(base64.b64decode(data["population"][name]))
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        data["population"][name] = base64.b64encode(raw).decode()
        try:
            state = state_from_json(data, table_search().leaves)
        except ConfigError:
            refused += 1
            continue
        table_search(population=10).step(state)
    assert refused > 20


@pytest.mark.parametrize("name", ["known", "classes"])
def test_keys_and_sizes_must_be_as_many(checkpoint: str, name: str):
    data = json.loads(checkpoint)
    data[name] = [packed(*range(1, 9), dtype=np.uint64), packed(1, dtype=np.uint8)]
    with pytest.raises(ConfigError, match="8 keys but 1 sizes"):
        state_from_json(data, table_search().leaves)


def test_trees_that_are_none_are_refused(checkpoint: str):
    leaves = table_search().leaves
    state = state_from_json(json.loads(checkpoint), leaves)
    code = state.population.trees.code
    for wrong in (-7, 999, CODES["sum"], 1003, CODES["pow"]):
        data = json.loads(checkpoint)
        changed = code.copy()
        changed[:, 0] = wrong
        data["population"]["code"] = base64.b64encode(changed.tobytes()).decode()
        with pytest.raises(ConfigError, match="the checkpoint is damaged"):
            state_from_json(data, leaves)


def test_a_checkpoint_of_other_leaves(checkpoint: str):
    with pytest.raises(ConfigError, match=r"the checkpoint is damaged .*unknown leaf"):
        state_from_json(json.loads(checkpoint), {"a": Leaf("a", "row")})


def test_constants_survive_exactly(checkpoint: str):
    data = json.loads(checkpoint)
    values = [0.1, -0.0, 5e-324, 1e300, 2.0, -1 / 3]
    data["hall"] = [[[v, ["x"], ["mul", 0, 1]], 0.5] for v in values]
    state = state_from_json(json.loads(json.dumps(data)), table_search().leaves)
    got = [one.dag.nodes[0].value.hex() for one in state.hall.members]
    assert got == [v.hex() for v in values]
    assert state_to_json(state)["hall"] == data["hall"]
    assert isinstance(state.hall.members[0], Individual)


# ---- ways of making children -----------------------------------------------------------------------------


def rates(credit: np.ndarray) -> np.ndarray:
    return np.diff(adapted(credit), prepend=0.0)


usual = np.array([RATES[kind] for kind in KINDS]) / sum(RATES.values())


@given(arrays(np.float64, (2, len(KINDS)), elements=st.floats(0, 1e6)))
def test_rates_are_probabilities_and_none_dies_out(credit: np.ndarray):
    credit[1] = np.minimum(credit[1], credit[0])
    found = rates(credit)
    assert abs(found.sum() - 1.0) < 1e-12
    assert found[FRESH] == pytest.approx(usual[FRESH])
    assert (found >= usual / 16.0 - 1e-12).all()  # at least a quarter, while others have at most four times


def test_rates_without_experience_are_the_usual_ones():
    np.testing.assert_allclose(rates(np.zeros((2, len(KINDS)))), usual)
    np.testing.assert_allclose(rates(np.array([usual * 1e6, usual * 1e5])), usual, rtol=1e-3)


def test_what_brings_survivors_is_used_more():
    credit = np.array([usual * 1000, usual * 100])
    credit[1, 3] *= 2.0
    found = rates(credit)
    assert found[3] > 1.5 * usual[3]
    others = [k for k in range(len(KINDS)) if k not in (3, FRESH)]
    assert (found[others] < usual[others]).all()


@pytest.mark.parametrize("make", MAKES)
def test_credit_counts_children_and_survivors(make):
    search = make()
    state = run(search, 3)
    following = search.step(state)
    made, survived = following.credit - 0.9 * state.credit
    assert made.sum() == pytest.approx(following.counters["evaluated"] - state.counters["evaluated"])
    new = set(spellings(following.population.trees)) - set(spellings(state.population.trees))
    assert survived.sum() == pytest.approx(len(new))
    assert (survived <= made + 1e-9).all()


def test_rates_stay_where_they_are_not_to_adapt():
    fixed, free = run(network_search(adaptive=False), 6), run(network_search(), 6)
    assert stored(fixed) != stored(free)


# ---- least squares -----------------------------------------------------------------------------------------


def living(*ones: tuple[int, float]) -> Living:
    """Formulas of these sizes and this fitness, whatever they are."""
    size, fitness = (np.array([one[k] for one in ones]) for k in (0, 1))
    key = np.arange(1, len(ones) + 1, dtype=np.uint64)
    return Living(Forest.empty(len(ones), 4), key, key.copy(), size.astype(np.int32), fitness)


def test_near_a_perfect_fit_too_it_pays_to_be_better():
    worse, better = 1.0 - 1e-6, 1.0 - 1e-8
    score = table_search().selective(living((5, worse), (9, better)))
    assert score[1] > score[0]
    score = table_search(objective="spearman").selective(living((5, worse), (9, better)))
    assert score[1] < score[0]


def test_an_exact_fit_is_as_good_as_one_up_to_rounding():
    score = table_search(parsimony=0.0).selective(living((5, 1.0), (6, 1.0 - 1e-15)))
    assert score[0] == score[1]


def test_many_formulas_of_one_size_are_in_each_others_way():
    crowd = [(7, 0.9 - 0.001 * k) for k in range(30)]
    score = table_search().selective(living(*crowd, (3, 0.85), (8, 0.85)))
    assert score[0] > score[30] > score[29]
    assert score[31] > score[29]
    alone = table_search().selective(living((7, 0.9 - 0.029), (3, 0.85)))
    assert alone[0] > alone[1]


def test_of_least_squares_only_the_front_enters_the_hall_of_fame():
    for objective, alone in (("r2", True), ("spearman", False)):
        search = table_search(objective=objective)
        state = run(search, 3)
        entered = [(one.size, one.fitness) for one in search.honoured(state.population, HallOfFame())]
        rising = [one[1] for one in entered] == sorted({one[1] for one in entered})
        assert len(entered) >= 2
        assert (len({size for size, _ in entered}) == len(entered) and rising) == alone
        if alone:
            assert not search.honoured(state.population, state.hall)


def test_where_the_best_of_a_size_may_not_stay_the_next_one_enters(monkeypatch: pytest.MonkeyPatch):
    search = table_search()
    population = run(search, 3).population
    size = np.bincount(population.size).argmax()
    of_a_size = population.take(population.size == size)
    (best,) = search.honoured(of_a_size, HallOfFame())
    monkeypatch.setattr(Search, "_may_stay", lambda self, dag: bool(dag.leaves) and dag.key != best.dag.key)
    (next_best,) = search.honoured(of_a_size, HallOfFame())
    second = np.sort(of_a_size.fitness)[-2]
    assert (best.fitness, next_best.fitness) == (of_a_size.fitness.max(), second)
    assert next_best.dag.key != best.dag.key
