"""The study on a space of short texts: budgets, duplicates, invalid scores, going on, several processes."""

import itertools
import math
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from proxygraph.errors import ConfigError, StorageError
from segspace.search.report import front
from segspace.search.samplers import SAMPLERS
from segspace.search.study import (
    CANDIDATE,
    EXPIRY,
    Candidate,
    Rules,
    candidates,
    claims,
    explore,
    open_study,
    redrawn,
    shown_url,
)


@dataclass(frozen=True)
class Digits:
    """A few digits; the cost is their sum, unknown for those that begin with a 9."""

    most: int = 10
    length: int = 4

    cost_name = "sum"

    def sample(self, rng: np.random.Generator) -> str:
        return "".join(str(d) for d in rng.integers(self.most, size=self.length))

    def mutate(self, arch: str, rng: np.random.Generator) -> str:
        at = int(rng.integers(self.length))
        return arch[:at] + str(int(rng.integers(self.most))) + arch[at + 1 :]

    def crossover(self, one: str, other: str, rng: np.random.Generator) -> str:
        cut = int(rng.integers(self.length + 1))
        return one[:cut] + other[cut:]

    def cost(self, arch: str) -> float:
        return math.nan if arch[0] == "9" else float(sum(map(int, arch)))

    def size(self, arch: str) -> tuple[int, int]:
        return 10 * int(arch), len(arch)


def score(arch: str) -> float:
    """Weighs the first digits more; some have no score."""
    if arch.endswith("77"):
        raise ConfigError(f"network {arch!r}: the loss is nan")
    if arch.endswith("7"):
        return math.inf
    a, b, c, d = map(int, arch)
    return 4.0 * a + 3 * b + 2 * c + d - 0.3 * a * b


def rules(sampler: str = "nsga2", budget: float = 20.0, seed: int = 0) -> Rules:
    return Rules(sampler, 10, budget, seed)


def memory() -> optuna.Study:
    """A study that no other process sees; fifty times as fast as a database."""
    return optuna.create_study(directions=["maximize", "minimize"])


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_within_budget_no_duplicates_and_invalid_counted(sampler: str) -> None:
    study, told = memory(), list[Candidate]()
    calls: list[str] = []

    def counted(arch: str) -> float:
        calls.append(arch)
        return score(arch)

    why = explore(study, Digits(), counted, rules(sampler), 60, told=told.append)
    found = candidates(study)
    assert (why, len(found)) == ("enough", 60)
    assert found == told
    assert len(set(calls)) == len(calls) == 60
    for one in found:
        assert one.cost == sum(map(int, one.arch)) <= 20
        assert one.arch[0] != "9"
        assert (one.macs, one.params) == (10 * int(one.arch), 4)
        assert (one.score is None) == one.arch.endswith("7") == bool(one.reason)
        if one.score is not None:
            assert one.score == score(one.arch)
    assert any(one.reason == "the score is inf" for one in found)
    counts = redrawn(study)
    assert counts["over_budget"] > 0
    assert counts["unmeasured"] > 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_going_on_equals_one_run(sampler: str, tmp_path: Path) -> None:
    """Also where a candidate was interrupted in between."""
    whole = memory()
    explore(whole, Digits(), score, rules(sampler), 30)
    parts = open_study(database(tmp_path), "parts", {})
    explore(parts, Digits(), score, rules(sampler), 14)

    def interrupted(arch: str) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(parts, Digits(), interrupted, rules(sampler), 30)
    assert len(candidates(parts)) == 14
    again = open_study(database(tmp_path), "parts", {})
    explore(again, Digits(), score, rules(sampler), 30)
    assert [(c.arch, c.score) for c in candidates(again)] == [(c.arch, c.score) for c in candidates(whole)]
    other = memory()
    explore(other, Digits(), score, rules(sampler, seed=1), 30)
    assert [c.arch for c in candidates(other)] != [c.arch for c in candidates(whole)]


def test_search_beats_random() -> None:
    """Of 10 ** 12 networks 400 are scored; the cost holds back what the score wants."""

    def weighted(arch: str) -> float:
        return float(sum(k * int(digit) for k, digit in enumerate(arch)))

    best = dict.fromkeys(SAMPLERS, 0.0)
    for sampler, seed in itertools.product(SAMPLERS, range(2)):
        study = memory()
        explore(study, Digits(length=12), weighted, Rules(sampler, 20, 60.0, seed), 400)
        best[sampler] += max(c.score for c in candidates(study) if c.score is not None) / 2
    assert best["nsga2"] > best["random"]
    assert best["evolution"] > best["random"]


def test_nothing_is_scored_twice_side_by_side(tmp_path: Path) -> None:
    """Three explorers, each with a connection of its own, leave nothing of a space of 16."""
    url, calls = database(tmp_path), list[str]()
    open_study(url, "s", {})

    def slowly(arch: str) -> float:
        calls.append(arch)
        return float(int(arch))

    def take_part(worker: int) -> None:
        study = open_study(url, "s", {})
        explore(study, Digits(2), slowly, rules("random"), 16, worker=worker)

    threads = [threading.Thread(target=take_part, args=(0 if k < 2 else k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == len(set(calls)) == 16
    assert sorted(calls) == sorted(c.arch for c in candidates(open_study(url, "s", {})))


def test_lost_claim_is_drawn_again(tmp_path: Path) -> None:
    """Another process claims the same network between the draw and the look around."""
    url = database(tmp_path)
    study, rival = open_study(url, "s", {}), open_study(url, "s", {})
    draws: list[str] = []

    class Contested(Digits):
        def size(self, arch: str) -> tuple[int, int]:
            if not draws:
                claim = dict(arch=arch, cost=1.0, macs=1, params=1, redrawn={}, claimed=2e10)
                rival.ask().set_user_attr(CANDIDATE, claim)
            draws.append(arch)
            return super().size(arch)

    explore(study, Contested(), score, rules("random"), 3)
    scored = [c.arch for c in candidates(study)]
    assert len(scored) == 2  # the rival's makes three
    assert draws[0] not in scored


def test_claims_of_the_dead_expire() -> None:
    study = memory()
    for age in (0.0, 2 * EXPIRY):
        claim = dict(arch=f"{age:.0f}", cost=1.0, macs=1, params=1, redrawn={})
        study.ask().set_user_attr(CANDIDATE, claim | {"claimed": time.time() - age})
    assert [one.user_attrs[CANDIDATE]["arch"] for one in claims(study)] == ["0"]
    assert candidates(study) == []


def test_space_without_more_networks_ends() -> None:
    study = memory()
    assert explore(study, Digits(2), score, rules(budget=2.0), 1000) == "exhausted"
    assert len(candidates(study)) == 11  # of 16, those of at most two ones
    assert all(one.state != TrialState.RUNNING for one in study.get_trials())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_tight_budget_is_filled_by_neighbours(sampler: str) -> None:
    """Of 200 samples less than two are within the budget; the neighbours of one often are."""
    study = memory()
    assert explore(study, Digits(), score, Rules(sampler, 100, 4.0, 0), 50) == "enough"
    found = candidates(study)
    assert len({one.arch for one in found}) == 50
    assert max(one.cost for one in found) <= 4.0


def test_stop_is_asked_before_each_candidate() -> None:
    study, told = memory(), list[Candidate]()
    why = explore(study, Digits(), score, rules(), 50, stop=lambda: len(told) >= 7, told=told.append)
    assert (why, len(candidates(study))) == ("stopped", 7)


def test_budget_below_everything_names_the_least() -> None:
    class Costly(Digits):
        def cost(self, arch: str) -> float:
            return 5.0 + super().cost(arch)

    study = memory()
    with pytest.raises(ConfigError, match=r"sum within 4: the least is \d"):
        explore(study, Costly(), score, rules(budget=4.0), 5)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    open_study(database(tmp_path), "s", {"seed": 0, "size": [2, 3]})
    with pytest.raises(ConfigError, match=r"another size \(then \[2, 3\], now \[2, 4\]\)"):
        open_study(database(tmp_path), "s", {"seed": 0, "size": [2, 4]})
    open_study(database(tmp_path), "s", {"seed": 0, "size": [2, 3]})


def test_databases_that_do_not_answer(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unable to open"):
        open_study(f"sqlite:///{tmp_path}/missing/study.db", "s", {})
    with pytest.raises(ConfigError, match="expected sqlite:///FILE"):
        open_study("study.db", "s", {})
    assert "secret" not in shown_url("postgresql://me:secret@host/db")


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_database_that_breaks_in_between(tmp_path: Path, interrupted: bool) -> None:
    study = open_study(database(tmp_path), "s", {})

    def breaking(arch: str) -> float:
        with closing(sqlite3.connect(tmp_path / "study.db")) as other:
            other.execute("DROP TABLE trials")
        if interrupted:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt if interrupted else StorageError) as told:
        explore(study, Digits(), breaking, rules(), 3)
    if not interrupted:
        assert str(told.value).startswith("study 's': (sqlite3.OperationalError) no such table: trials; what")


def test_rules_are_checked() -> None:
    with pytest.raises(ConfigError, match="nsga2, evolution, random"):
        Rules("tpe", 10, 1.0, 0)
    with pytest.raises(ConfigError, match="at least 2"):
        Rules("nsga2", 1, 1.0, 0)
    for budget in (0.0, math.nan, -1.0):
        with pytest.raises(ConfigError, match="budget"):
            Rules("nsga2", 10, budget, 0)


def test_front() -> None:
    rows = [(1.0, 5.0), (2.0, 4.0), (3.0, 9.0), (3.0, 10.0), (4.0, 10.0), (0.5, -3.0), (0.1, None)]
    found = [Candidate(k, str(k), score, cost, 1, 1) for k, (cost, score) in enumerate(rows)]
    assert [(one.cost, one.score) for one in front(found)] == [(0.5, -3.0), (1.0, 5.0), (3.0, 10.0)]
    assert front(found[-1:]) == []
