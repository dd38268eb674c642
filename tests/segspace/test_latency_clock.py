"""Timing in turns: right numbers under a made-up clock, and a slow second hits all alike."""

import itertools
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygraph.errors import ConfigError
from segspace.latency import load as loading
from segspace.latency.clock import in_turns
from segspace.latency.load import Load, machine_load, refuse_if_busy
from segspace.latency.table import Record
from tests.segspace.latency_fakes import FakeTime


@settings(max_examples=30)
@given(st.lists(st.floats(1e-5, 0.1), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 99))
def test_durations_are_found(durations: list[float], rounds: int, seed: int) -> None:
    time = FakeTime()
    runs = {k: lambda d=d: time.work(d) for k, d in enumerate(durations)}
    found = in_turns(runs, rounds, time, np.random.default_rng(seed))
    for k, duration in enumerate(durations):
        assert found[k].shape == (rounds,)
        np.testing.assert_allclose(found[k], duration, rtol=1e-6)


def test_everything_takes_one_turn_per_round_in_changing_order() -> None:
    time, turns = FakeTime(), list[str]()

    def run(name: str) -> None:
        turns.append(name)
        time.work(1.0)

    rounds = 6
    names = "abcde"
    in_turns({n: lambda n=n: run(n) for n in names}, rounds, time, np.random.default_rng(0), warm_up=1)
    timed = turns[2 * len(names) :: 2]  # each turn is a call that is not timed and one that is
    orders = ["".join(timed[len(names) * k : len(names) * (k + 1)]) for k in range(rounds)]
    assert all(Counter(order) == Counter(names) for order in orders)
    assert len(set(orders)) > 1


def test_a_slow_round_hits_all_alike() -> None:
    time = FakeTime()
    rounds = 10

    def slow_in_the_fourth(done: int, total: int) -> None:
        time.pace = 5.0 if done == 3 else 1.0

    runs = {name: lambda d=d: time.work(d) for name, d in (("a", 0.01), ("b", 0.02))}
    found = in_turns(runs, rounds, time, np.random.default_rng(0), progress=slow_in_the_fourth)
    for name, duration in (("a", 0.01), ("b", 0.02)):
        np.testing.assert_allclose(found[name], np.where(np.arange(rounds) == 3, 5, 1) * duration)
        record = Record.of(found[name], np.full(rounds, 1e-3))
        assert (record.median, record.p10, record.min) == (pytest.approx(1e3 * duration),) * 3


def test_a_record_is_a_difference_of_quantiles_per_copy() -> None:
    rng = np.random.default_rng(0)
    whole, less = rng.uniform(5, 6, 9), rng.uniform(1, 2, 9)
    record = Record.of(whole, np.full(9, 1e-3), less, copies=4)
    for value, level in ((record.median, 0.5), (record.p10, 0.1), (record.p90, 0.9), (record.min, 0.0)):
        assert value == pytest.approx(250 * (np.quantile(whole, level) - np.quantile(less, level)), abs=1e-6)
    assert (record.n, record.reference) == (9, 1.0)


def test_load(monkeypatch: pytest.MonkeyPatch) -> None:
    now, runs = [0.0], itertools.count()

    def kernel() -> None:
        now[0] += 1e-3 if next(runs) % 4 else 2e-3  # every fourth run takes twice as long

    clock = SimpleNamespace(process_time=lambda: now[0], perf_counter=lambda: now[0])
    monkeypatch.setattr(loading, "time", clock)
    monkeypatch.setattr(loading, "reference_kernel", lambda: kernel)
    monkeypatch.setattr(loading, "_busy_seconds", lambda: 1.7 * now[0])
    assert machine_load(0.1) == Load(0.7, 1.0)
    monkeypatch.setattr(loading, "_busy_seconds", lambda: 0.5 * now[0])  # coarse counters of the system
    assert machine_load(0.1).cores == 0


def test_busy_machines_are_refused() -> None:
    assert refuse_if_busy(Load(0.0, 0.0), False) is None
    for busy in (Load(0.9, 0.0), Load(0.0, 0.9)):
        assert "busy" in str(refuse_if_busy(busy, True))
        with pytest.raises(ConfigError, match="busy"):
            refuse_if_busy(busy, False)
