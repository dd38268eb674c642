"""Islands elsewhere: in processes, on Dask workers, among workers that die, they come to the same result."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph import remote as module
from proxygraph.assemble import Assembled, Settings, assembled
from proxygraph.behaviour import Behaviour
from proxygraph.compact.keys import KeySet
from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.islands import Islands, IslandsState, Migration
from proxygraph.loop import Stop, run
from proxygraph.objective import OBJECTIVES
from proxygraph.objective.custom import Custom
from proxygraph.ops import Op, register, unregister
from proxygraph.remote import Crew, Dask, Processes, on_dask, remote
from proxygraph.table import StatTable
from proxygraph.zoo import available
from tests.strategies import random_table
from tests.test_islands import text
from tests.test_search import FEW

GENERATIONS = 7
RNG = np.random.default_rng(4)
COLUMNS = {name: RNG.uniform(-2, 2, size=60) for name in ("x", "y", "z")}
TARGET = COLUMNS["x"] * COLUMNS["y"] * 3.0 + np.exp(COLUMNS["z"])


def search(apart: bool = True, **settings: Any) -> Assembled:
    table = StatTable.from_columns(None, COLUMNS)
    about = {"seed": 7, "population": 90, "islands": 3, "migration": Migration(3, 3), "max_size": 9}
    return assembled(table, TARGET, OBJECTIVES["r2"], Settings(**{**about, **settings}), apart=apart)


def outcome(some: Islands, **limits: Any) -> tuple[list[str], str]:
    made = run(some, Stop(**{"generations": GENERATIONS, **limits}))
    return text(made.state), made.reason


@pytest.fixture(scope="module")
def expected() -> tuple[list[str], str]:
    return outcome(search())


class Far(Executor):
    """Far away but at once: what is sent is pickled, and so is the answer."""

    def __init__(self) -> None:
        self.whole: list[bool] = []
        self.sent: list[int] = []

    def submit(self, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
        call = pickle.dumps((fn, args, options))
        self.whole.append(args[1] is not None)
        self.sent.append(len(call))
        future: Future[Any] = Future()
        try:
            fn, args, options = pickle.loads(call)
            future.set_result(pickle.loads(pickle.dumps(fn(*args, **options))))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    module._kept.clear()
    return Far()


# ---- what travels ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 300)), max_size=80), st.integers(1, 90))
def test_a_set_of_keys_travels_as_its_content(pairs: list[tuple[int, int]], capacity: int):
    keys = KeySet(capacity)
    for key, size in pairs:
        keys.add(np.array([key], np.uint64), np.array([size], np.int32))
    sent = pickle.dumps(keys, protocol=5)
    other = pickle.loads(sent)
    assert dict(zip(*map(np.ndarray.tolist, other.content()), strict=True)) == dict(
        zip(*map(np.ndarray.tolist, keys.content()), strict=True)
    )
    assert (other.capacity, len(other)) == (capacity, len(keys))
    assert len(sent) <= 9 * len(keys) + 400
    more = np.array([key for key, _ in pairs] + [3, 5], np.uint64), np.full(len(pairs) + 2, 4, np.int32)
    assert other.add(*more).tolist() == keys.add(*more).tolist()


def test_a_recipe_goes_once_and_states_are_small(far: Far, expected: tuple[list[str], str]):
    elsewhere = remote(search(apart=False), Crew(far))
    assert outcome(elsewhere) == expected
    # the first task finds nobody who knows the recipe, and takes it along when it asks again
    assert far.whole == [False, False, False, True, True, True] + [False] * 6
    known = max(len(one.known) + len(one.classes) + len(one.fitted) for one in run_for(2).islands)
    assert max(far.sent[6:]) < 9 * known + 40_000


def run_for(generations: int) -> IslandsState:
    return run(search(), Stop(generations=generations)).state


@pytest.mark.parametrize(
    "limits",
    [{"generations": n} for n in (1, 2, 3, 4)]
    + [{"evaluations": 900}, {"fitness": 0.6}, {"generations": 60, "stagnation": 2}],
)
def test_limits_are_met_in_the_same_generation(far: Far, limits: dict[str, Any]):
    assert outcome(remote(search(), Crew(far)), **limits) == outcome(search(), **limits)


def test_any_cut_comes_to_the_same(far: Far, expected: tuple[list[str], str]):
    for cut in (1, 2, 5):
        elsewhere = remote(search(), Crew(far))
        again = run(elsewhere, Stop(generations=GENERATIONS), state=run_for(cut)).state
        assert text(again) == expected[0]


def test_networks_with_everything_that_a_recipe_may_hold(far: Far):
    rng = np.random.default_rng(9)
    table = random_table(rng, FEW, n_rows=24, max_entries=40)
    target = table.columns["params"].astype(float) + rng.normal(size=24)
    seeds = [proxy.dag for proxy in available(table.leaves)]
    settings = Settings(
        seed=2, population=60, islands=2, migration=Migration(2, 2), behaviour=Behaviour(sign="nonneg")
    )
    here = assembled(table, target, OBJECTIVES["spearman"], settings, seeds)
    expected = outcome(here, generations=5)
    assert outcome(remote(here, Crew(far)), generations=5) == expected


def softer(np: Any, a: Any) -> Any:
    return a / (2.0 + np.abs(a))


def middling(values: Any, target: Any) -> float:
    return float(abs(np.corrcoef(values, target)[0, 1]))


def test_operators_and_objectives_of_the_user_travel(far: Far):
    register(Op("softer", 1, "elementwise", softer))
    try:
        table = StatTable.from_columns(None, COLUMNS)
        settings = Settings(seed=7, population=40, islands=2, migration=Migration(2, 3), max_size=7)
        here = assembled(table, TARGET, Custom(function=middling, kind="fit", bounded=True), settings)
        expected = outcome(here, generations=3)
        package = remote(here, Crew(far)).package
        unregister("softer")  # as in a worker that has never heard of it
        module.learn(package.digest, package.content)
        assert outcome(remote(here, Crew(far)), generations=3) == expected
    finally:
        unregister("softer")


def test_what_cannot_travel_is_named(far: Far):
    table = StatTable.from_columns(None, COLUMNS)
    objective = Custom(function=lambda values, target: 0.5, kind="fit", bounded=True)
    here = assembled(table, TARGET, objective, Settings(population=40))
    with pytest.raises(ConfigError, match=r"this search cannot go to other processes .*lambda"):
        remote(here, Crew(far)).start()


def test_a_worker_with_other_code_is_refused(far: Far):
    elsewhere = remote(search(), Crew(far))
    job = module.Job(elsewhere.package.digest, "older", 0, None, 1)
    with pytest.raises(ConfigError, match="another version of proxygraph"):
        elsewhere.crew.run(elsewhere.package, [job])


def test_a_worker_keeps_few_recipes(far: Far):
    for seed in range(module.KEPT + 2):
        remote(search(seed=seed), Crew(far)).start(last=1)
    assert len(module._kept) == module.KEPT


# ---- workers that die --------------------------------------------------------------------------------------


class Broken(Executor):
    def submit(self, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("a child process terminated abruptly"))
        return future


def test_an_executor_that_breaks_is_its_owners_affair():
    with pytest.raises(BackendUnavailable, match=r"lost its workers \(BrokenProcessPool\); go on from"):
        remote(search(), Crew(Broken())).start()


class Unlucky(Processes):
    """Kills one of its processes, once it has handed out the tasks of the second step."""

    handed = renewed = 0

    def _submitted(self, *about: Any) -> Future[Any]:
        future = super()._submitted(*about)
        self.handed += 1
        if self.handed == 6:
            os.kill(next(iter(self._executor._processes)), signal.SIGKILL)
        return future

    def _renew(self, lives: int, error: BaseException) -> None:
        self.renewed += 1
        super()._renew(lives, error)


def test_processes_and_one_that_is_killed(expected: tuple[list[str], str]):
    crew = Unlucky(2)
    try:
        assert outcome(remote(search(apart=False), crew)) == expected
        assert crew.renewed == 1
    finally:
        crew.close()
    assert not multiprocessing.active_children()


class AlwaysBroken(Processes):
    def _submitted(self, *about: Any) -> Future[Any]:
        return Broken().submit(None)


def test_processes_that_die_again_and_again():
    with pytest.raises(BackendUnavailable, match="died 3 times in one step"):
        remote(search(), AlwaysBroken(2)).start()


# ---- Dask --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="the extra `distributed` is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_dask_in_two_ways(client: Any, expected: tuple[list[str], str]):
    assert outcome(remote(search(apart=False), Dask(client))) == expected
    with client.get_executor(pure=False) as executor:  # as any other executor
        assert outcome(remote(search(apart=False), Crew(executor))) == expected


def slow(values: Any, target: Any) -> float:
    time.sleep(0.002)
    return middling(values, target)


class Killer(Dask):
    """Kills a worker that is at work on a task of the second step."""

    handed = 0
    killed: str | None = None

    def _submitted(self, *about: Any) -> Future[Any]:
        future = super()._submitted(*about)
        self.handed += 1
        if self.handed == 6:
            deadline = time.monotonic() + 30
            while self.killed is None and time.monotonic() < deadline:
                busy = self._client.run_on_scheduler(
                    lambda dask_scheduler: [
                        w.address for w in dask_scheduler.workers.values() if w.processing
                    ]
                )
                if busy:
                    self.killed = busy[0]
            pids = self._client.run(os.getpid)
            os.kill(pids[self.killed], signal.SIGKILL)
        return future


def test_a_dask_worker_is_killed_at_work(client: Any):
    table = StatTable.from_columns(None, COLUMNS)
    settings = Settings(seed=7, population=60, islands=3, migration=Migration(2, 3), max_size=7)
    here = assembled(table, TARGET, Custom(function=slow, kind="fit", bounded=True), settings)
    quick = replace(here.recipe, objective=Custom(function=middling, name="slow", kind="fit", bounded=True))
    expected = outcome(Islands([quick.search(k) for k in range(3)], settings.migration), generations=5)
    crew = Killer(client)
    assert outcome(remote(here, crew), generations=5) == expected
    assert crew.killed is not None
    assert crew.killed not in client.scheduler_info()["workers"]


def test_dask_data_that_is_lost_is_sent_again(client: Any, expected: tuple[list[str], str]):
    crew = Dask(client)
    elsewhere = remote(search(apart=False), crew)
    state = elsewhere.start()
    lost = crew._there[elsewhere.package.digest]
    lost.cancel()
    assert text(run(elsewhere, Stop(generations=GENERATIONS), state=state).state) == expected[0]
    assert crew._there[elsewhere.package.digest] is not lost


def test_without_an_address_nothing_changes():
    here = search()
    with on_dask(here, None) as same:
        assert same is here


@pytest.mark.parametrize("address", ["local:", "local:0", "local:two"])
def test_an_address_that_is_none(address: str):
    pytest.importorskip("distributed", reason="the extra `distributed` is not installed")
    with pytest.raises(ConfigError, match="expected local:N"), on_dask(search(), address):
        pass


def test_dask_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(BackendUnavailable, match=r"pip install 'proxygraph\[distributed\]'"),
        on_dask(search(), "local:2"),
    ):
        pass
