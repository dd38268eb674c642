"""The benchmark of regression: its journal, what is left to run, the result's rows, Operon's formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import regression
from benchmarks.engines import Model, polished, postfix_values
from benchmarks.problems import PROBLEMS

ABOUT = ("engine", "version", "cpu", "problem", "seed", "threads", "seconds")
"""What a run that failed still has."""


def run_of(engine: str = "gplearn", problem: str = "Nguyen-5", seed: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "engine": engine,
        "version": "1",
        "cpu": "a processor",
        "problem": problem,
        "seed": seed,
        "threads": 1,
        "seconds": 10.0,
        "r2_test": 0.5,
        "recovered": False,
        "size": 7,
        "evaluations": 100,
        "cpu_seconds": 10.0,
        "formula": "x",
    } | more


# ---- journal -----------------------------------------------------------------------------------------------


@given(st.integers(0, 4), st.integers(0, 200))
def test_a_journal_cut_anywhere_keeps_all_whole_lines(whole: int, cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.runs.jsonl"
        for seed in range(whole):
            regression.append(path, run_of(seed=seed))
        last = json.dumps(run_of(seed=99))
        with path.open("a") as file:
            file.write(last[: min(cut, len(last) - 1)])
        runs = regression.read_runs(path)
        assert sorted(key[2] for key in runs) == list(range(whole))
        regression.rewrite(path, runs.values())
        regression.append(path, run_of(seed=5))
        assert len(regression.read_runs(path)) == whole + 1


def test_what_is_there_is_not_run_again_unless_asked_for(tmp_path: Path) -> None:
    options = regression.options_of(
        ["--problems", "Nguyen-5", "Nguyen-7", "--seeds", "0", "1", "--json", str(tmp_path / "r.json")]
    )
    path = regression.journal_path(options.json)
    wanted = regression.work_of(options, {}, ["gplearn", "pyoperon"])
    assert len(wanted) == 8
    for key in wanted[:5]:
        regression.append(path, run_of(key[0], key[1], key[2]))
    assert regression.work_of(options, regression.read_runs(path), ["gplearn", "pyoperon"]) == wanted[5:]
    left = regression.work_of(options, regression.read_runs(path, ["pyoperon"]), ["gplearn", "pyoperon"])
    assert left == [key for key in wanted if key[0] == "pyoperon" or key in wanted[5:]]


def test_runs_of_another_budget_or_more_threads_are_other_runs() -> None:
    keys = {regression.key_of(run_of(**more)) for more in ({}, {"seconds": 5.0}, {"threads": 2}, {"seed": 1})}
    assert len(keys) == 4


# ---- result ------------------------------------------------------------------------------------------------


def test_rows_carry_spread_recovery_and_failures() -> None:
    runs = [
        run_of(seed=2, r2_test=1.0, recovered=True),
        run_of(seed=0, r2_test=-3.0),
        run_of(seed=1, r2_test=0.4),
        {key: run_of(seed=3)[key] for key in ABOUT} | {"failed": "crash"},
    ]
    one, total = regression.rows_of_runs(runs)
    assert one["seeds"] == [0, 1, 2, 3]
    assert one["found"] == ["x", "x", "x", "crash"]
    assert (one["recovered"], one["runs"], one["failed"]) == (1, 4, 1)
    assert one["median"] == pytest.approx(0.2)  # of 0, .4, 1 and 0
    assert one["evaluations_per_second"] == 10
    assert (total["problem"], total["recovered"], total["problems"]) == ("all known", 1, 1)
    json.dumps([one, total], allow_nan=False)


def test_known_and_drawn_are_counted_apart() -> None:
    drawn = "Feynman II.24.17"
    rows = regression.rows_of_runs([run_of(), run_of(problem=drawn, recovered=True)])
    totals = {one["problem"]: one["recovered"] for one in rows if one["problem"].startswith("all")}
    assert totals == {"all known": 0, "all drawn": 1}


def test_numbers_that_json_lacks_become_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(X: Any, y: Any, seconds: float, seed: int, threads: int) -> Model:
        return Model(lambda X: np.full(len(X), np.nan), "nan", 1, 1)

    monkeypatch.setattr(regression, "ENGINES", {"nowhere": (nowhere, "none")})
    run = regression.fitted("nowhere", "Nguyen-5", 0, 1, 0.1)
    assert run["r2_test"] is None
    assert run["error_wide"] is None
    assert not run["recovered"]
    json.dumps(run, allow_nan=False)


def test_an_engine_that_knows_the_truth_recovers_it_and_sees_only_training_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, problem in PROBLEMS.items():
        seen: list[Any] = []

        def oracle(X: Any, y: Any, *_: Any, problem: Any = problem, seen: Any = seen) -> Model:
            seen.append((X, y))
            return Model(problem.truth, problem.formula, 1, 1)

        monkeypatch.setattr(regression, "ENGINES", {"oracle": (oracle, "none")})
        run = regression.fitted("oracle", name, 7, 1, 0.1)
        assert run["recovered"]
        assert run["r2_test"] == 1
        train = problem.data(7)[0]
        np.testing.assert_array_equal(seen[-1][0], train.X)
        np.testing.assert_array_equal(seen[-1][1], train.y)


def test_a_table_of_any_rows_can_be_made() -> None:
    runs = [run_of(), {**run_of(seed=1), "evaluations": 0}]
    assert regression.table_of(regression.rows_of_runs(runs)).row_count == 2


# ---- Operon's formulas -------------------------------------------------------------------------------------

NODES = [("variable", 0, 2.0, 11), ("variable", 0, -3.0, 12), ("-", 2, 1.0, 0), ("constant", 0, 0.5, 0)]
COLUMNS = {11: 0, 12: 1}


def test_the_argument_that_was_pushed_last_is_the_first() -> None:
    X = np.random.default_rng(0).normal(size=(9, 2))
    values = postfix_values([*NODES[:3]], COLUMNS, np.array([2.0, -3.0]), X)
    np.testing.assert_allclose(values, -3 * X[:, 1] - 2 * X[:, 0])


def test_constants_that_float32_left_inexact_become_exact() -> None:
    X = np.random.default_rng(0).uniform(1, 5, (50, 2))
    y = 0.25 + np.sin(1.7 * X[:, 1]) * 3.1 * X[:, 0]
    nodes = [
        ("constant", 0, 0.2500001, 0),
        ("variable", 0, 3.10001, 11),
        ("variable", 0, 1.70002, 12),
        ("sin", 1, 1.0, 0),
        ("*", 2, 1.0, 0),
        ("+", 2, 1.0, 0),
    ]
    before = postfix_values(nodes, COLUMNS, np.array([0.2500001, 3.10001, 1.70002]), X)
    assert np.abs(before - y).max() > 1e-5
    np.testing.assert_allclose(polished(nodes, COLUMNS, X, y)(X), y, rtol=1e-12)


def test_polishing_never_makes_it_worse() -> None:
    X = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    nodes = [("variable", 0, 1.0, 11), ("log", 1, 1.0, 0)]  # no value on half of the rows
    y = X[:, 0]
    after = polished(nodes, COLUMNS, X, y)(X)
    assert np.isnan(after).sum() <= (X[:, 0] <= 0).sum()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a peer
def test_operon_evaluates_its_formulas_as_we_do() -> None:
    peer = pytest.importorskip("pyoperon.sklearn")
    X = np.random.default_rng(0).uniform(1, 3, (60, 3))
    y = np.exp(-X[:, 0]) * np.sqrt(X[:, 1]) + np.sin(X[:, 2]) / np.log(1 + X[:, 0])
    for seed in range(5):
        model = peer.SymbolicRegressor(
            allowed_symbols="add,sub,mul,div,exp,log,sin,cos,sqrt,square,constant,variable",
            population_size=50,
            generations=5,
            optimizer_iterations=2,
            random_state=seed,
        ).fit(X, y)
        nodes = [(one.Name, one.Arity, one.Value, one.HashValue) for one in model.model_.Nodes]
        constants = np.array([value for _, arity, value, _ in nodes if arity == 0])
        columns = {code: k for k, code in enumerate(model.variables_)}
        ours = postfix_values(nodes, columns, constants, X)
        # most rows: it computes in float32, in which cos(exp(large)) is any number
        assert np.median(np.abs(ours - model.predict(X))) < 1e-5
