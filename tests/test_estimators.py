"""The scikit-learn estimators: its own checks, its tools, files, names, weights, several targets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from proxygraph import ProxyRanker, StatTable, SymbolicRegressor, parse
from proxygraph.errors import ConfigError, StorageError
from proxygraph.estimators.chosen import Candidate, Data, chosen, chosen_on_rows
from proxygraph.estimators.formula import Formula
from proxygraph.estimators.weighted import RANKED, weighted
from proxygraph.finish import least_information, steepest
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.objective import OBJECTIVES, Objective
from proxygraph.objective.plain import WEIGHTED
from proxygraph.program import lower
from proxygraph.scores import Scores
from tests.strategies import random_table

TINY: dict[str, Any] = {"generations": 3, "population": 20, "max_size": 6, "random_state": 0}
BOTH = (SymbolicRegressor, ProxyRanker)


@parametrize_with_checks([SymbolicRegressor(**TINY), ProxyRanker(**TINY)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def data(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).uniform(1.0, 3.0, size=(n, 3))
    return X, X[:, 0] * X[:, 1] + 0.1 * X[:, 2]


# ---- what is found -----------------------------------------------------------------------------------------


def test_an_exact_formula_is_found_and_chosen():
    X, _ = data()
    model = SymbolicRegressor(generations=20, population=100, random_state=0).fit(X, 3.0 * X[:, 0] * X[:, 1])
    assert model.score(X, 3.0 * X[:, 0] * X[:, 1]) > 1.0 - 1e-9
    assert set(model.sympy().free_symbols) == {
        s for s in model.sympy().free_symbols if str(s) in ("x0", "x1")
    }
    ranker = ProxyRanker(generations=20, population=100, random_state=0).fit(X, np.exp(-X[:, 0] * X[:, 1]))
    assert ranker.score(X, -X[:, 0] * X[:, 1]) == pytest.approx(1.0)


def test_constants_are_found_and_made_simple():
    X, _ = data(200)
    y = 2.5 * X[:, 0] * X[:, 1] + 1.5
    model = SymbolicRegressor(generations=20, population=100, random_state=0).fit(X, y)
    assert model.formula() == "1.5 + 2.5 * (x0 * x1)"
    inner = np.exp(-0.75 * X[:, 0]) + X[:, 1]
    few = {"generations": 30, "population": 400, "random_state": 0, "operators": ["add", "mul", "exp"]}
    fitted, bare = (SymbolicRegressor(**few, fit_constants=on).fit(X, inner) for on in (True, False))
    assert fitted.formula() == "x1 + exp(-0.75 * x0)"
    assert "-0.75 *" not in bare.formula()


def test_constants_are_those_of_all_rows_and_validation_numbers_are_not():
    X, y = data(400)
    y = 3.0 * y + np.random.default_rng(1).normal(size=400)
    model = SymbolicRegressor(**{**TINY, "max_size": 7}, initial=["x0 * x1"]).fit(X, y)
    slope, offset = np.polyfit(X[:, 0] * X[:, 1], y, 1)
    model_of_all = 1 - np.var(y - slope * X[:, 0] * X[:, 1] - offset) / np.var(y)
    assert max(one["score"] for one in model.front_ if one["size"] <= 7) >= model_of_all - 2e-3
    assert all(one["validation"] != one["score"] for one in model.front_)


# ---- limits ------------------------------------------------------------------------------------------------


def written(model: Any) -> list[Any]:
    leaves = {name: Leaf(name, "row") for name in ("x0", "x1", "x2")}
    return [parse(one["formula"], leaves) for one in model.front_]


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("rows", [60, 160])
def test_every_formula_of_the_front_keeps_the_limits(make, rows):
    X, y = data(rows)
    y = y + 0.3 * np.random.default_rng(2).normal(size=rows)
    operators = ["add", "mul", "log", "sub"]
    model = make(
        generations=12, population=60, random_state=1, max_size=9, max_depth=4, max_constants=2,
        operators=operators, leaves=["x0", "x1"], nesting={"log": {"log": 0, "mul": 0}},
    ).fit(X, y)  # fmt: skip
    assert model.score(X, y) > 0.8
    for dag in written(model):
        assert dag.size <= 9
        assert dag.depth <= 4
        assert sum(node.kind == "const" for node in dag.nodes) <= 2
        assert {node.name for node in dag.nodes if node.kind == "op"} <= set(operators)
        assert dag.leaves.keys() <= {"x0", "x1"}
        for node in dag.nodes:
            if node.name == "log":
                assert dag.nodes[node.args[0]].name not in ("log", "mul")


def test_limits_count_scale_and_offset():
    X, _ = data(200)
    y = 2.5 * X[:, 0] * X[:, 1] + 1.5
    few = {"generations": 10, "population": 60, "random_state": 0}
    one = SymbolicRegressor(**few, max_constants=1).fit(X, y)
    assert all(sum(node.kind == "const" for node in dag.nodes) <= 1 for dag in written(one))
    none = SymbolicRegressor(**few, max_constants=0).fit(X, X[:, 0] * X[:, 1])
    assert none.formula() == "x0 * x1"
    assert all(node.kind != "const" for dag in written(none) for node in dag.nodes)
    small = SymbolicRegressor(**few, max_size=5).fit(X, y)
    assert max(dag.size for dag in written(small)) == 5
    plain = SymbolicRegressor(**few, operators=["add", "mul"]).fit(X, 2.5 * X[:, 0] ** 2 - 1.5)
    assert plain.formula() == "2.5 * (x0 * x0) + -1.5"
    ranker = ProxyRanker(**few, operators=["add", "mul"]).fit(X, -X[:, 0] * X[:, 1])
    assert ranker.formula() == "-1 * (x0 * x1)"


@pytest.mark.parametrize("sign", ["positive", "nonpos"])
def test_every_formula_of_the_front_behaves_on_all_rows(sign):
    X, _ = data(160)
    side = 1.0 if sign == "positive" else -1.0
    y = side * (X[:, 0] - 1.3 + np.random.default_rng(4).normal(size=160))
    trends = {"x0": "increasing" if side > 0 else "decreasing", "x1": "decreasing"}
    model = SymbolicRegressor(
        generations=12, population=60, random_state=0, trends=trends, sign=sign
    ).fit(X, y)  # fmt: skip
    free = SymbolicRegressor(generations=12, population=60, random_state=0).fit(X, y)
    assert (side * free.predict(X) < 0.0).any()
    assert len(model.front_) > 1
    for i in range(len(model.front_)):
        assert (side * model.predict(X, index=i) >= 0.0).all()
        for column, way in ((0, side), (1, -1.0)):
            moved = X.copy()
            values = []
            for place in np.quantile(X[:, column], np.linspace(0.0, 1.0, 9)):
                moved[:, column] = place
                values.append(model.predict(moved, index=i))
            assert (way * np.diff(values, axis=0) >= -1e-8).all()


def test_units_decide_what_may_be_added():
    X, _ = data(200)
    few = {**TINY, "initial": ["x0 + x1"]}
    y = X[:, 0] + X[:, 1]
    assert SymbolicRegressor(**few).fit(X, y).formula() == "x0 + x1"
    assert SymbolicRegressor(**few, units={"x0": "m", "x1": "m"}).fit(X, y).formula() == "x0 + x1"
    model = SymbolicRegressor(**few, units={"x0": "m", "x1": "s"}, target_unit="m").fit(X, y)
    assert model.score(X, y) < 1.0 - 1e-6
    assert "x0 + x1" not in [one["formula"] for one in model.front_]


def test_limits_that_leave_nothing_are_refused():
    X, y = data()
    with pytest.raises(ValueError, match="keeps the limits"):
        SymbolicRegressor(**TINY, sign="negative", max_constants=0, operators=["exp"]).fit(X, y)


@pytest.mark.parametrize("population", [20, 120])
def test_islands_are_as_many_as_asked_for_or_as_suit_the_population(population):
    X, y = data()
    seen: set[int] = set()

    def look(state: Any) -> None:
        seen.add(len(state.islands))

    about = {**TINY, "population": population, "callback": look}
    SymbolicRegressor(**about).fit(X, y)
    assert seen == {max(1, population // 50)}
    seen.clear()
    SymbolicRegressor(**about, islands=3).fit(X, y)
    assert seen == {3}


# ---- the front ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
def test_the_front_gets_better_with_size_and_every_formula_of_it_predicts(make):
    X, y = data()
    model = make(**TINY).fit(X, y)
    sizes, scores = ([one[key] for one in model.front_] for key in ("size", "score"))
    assert sizes == sorted(set(sizes))
    assert scores == sorted(set(scores))
    assert model.equations_ == model.front_
    for i, one in enumerate(model.front_):
        predicted = model.predict(X, index=i)
        assert np.array_equal(predicted, model.predict(X, size=one["size"]))
        assert one["formula"] == model.formula(i)
        assert one["latex"] == model.latex(i)
        if make is SymbolicRegressor:
            assert 1 - np.mean((y - predicted) ** 2) / np.var(y) == pytest.approx(one["score"], abs=1e-9)
        else:
            assert spearmanr(predicted, y).statistic == pytest.approx(one["score"], abs=1e-9)
    assert np.array_equal(model.predict(X), model.predict(X, index=model.best_index_))


def test_the_python_file_predicts_the_same():
    X, y = data()
    model = SymbolicRegressor(**TINY).fit(X, y)
    scope: dict[str, Any] = {}
    exec(model.python(), scope)  # the source is our own
    columns = {f"x{k}": X[:, k] for k in range(3)}
    assert np.allclose(scope["predict"](columns), model.predict(X), rtol=1e-12)


def test_rows_held_out_speak_against_a_formula_that_fits_noise():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 4))
    y = X[:, 0] + rng.normal(size=200)
    model = SymbolicRegressor(generations=30, population=100, random_state=0).fit(X, y)
    best, last = model.front_[model.best_index_], model.front_[-1]
    assert best["validation"] is not None
    assert best["size"] < last["size"]
    assert best["score"] < last["score"]


@pytest.mark.parametrize(("noise", "chosen"), [(1.0, 0), (1.2, 1)])
def test_a_smaller_formula_is_chosen_unless_the_rows_held_out_are_sure(noise, chosen):
    table = StatTable.from_columns(None, {"x": np.arange(400.0), "z": np.ones(400)})
    rows = np.arange(400)
    error = np.ones(400)
    other = np.where(rows == 0, 1.5, np.where(rows == 1, 0.5, 1.0))  # worse on one row, better on one
    y = table.columns["x"].astype(float)
    small, large = (
        Candidate(Formula(parse(text, table.leaves), 1.0 - 1.0 / k, -np.mean(e**2)), 0, y + e)
        for k, (text, e) in enumerate([("x", noise * other), ("x + z", error)], 2)
    )
    data = Data(table, [table], y, OBJECTIVES["r2"], rows[:0], rows)
    best = chosen_on_rows([small, large], data)
    assert (small, large).index(best) == chosen
    assert np.mean((large.unseen - y) ** 2) < np.mean((small.unseen - y) ** 2)


def test_a_row_without_a_score_ranks_last(monkeypatch):
    model = ProxyRanker(**TINY)
    monkeypatch.setattr(ProxyRanker, "predict", lambda self, X: np.array(X, float)[:, 0])
    X, y = [[np.nan], [5.0], [-6.0], [7.0]], [9.0, 1.0, 2.0, 3.0]
    assert model.score(X, y) == pytest.approx(spearmanr([-7.0, 5.0, -6.0, 7.0], y).statistic)
    assert model.score([[1.0], [1.0]], [1.0, 2.0]) == 0.0


def test_without_rows_held_out_loss_and_size_decide():
    X, y = data()
    for make in (SymbolicRegressor, ProxyRanker):
        model = make(**{**TINY, "generations": 15}).fit(X, y)
        assert all(one["validation"] is None for one in model.front_)
        losses, sizes = [1.0 - one["score"] for one in model.front_], [one["size"] for one in model.front_]
        fit = make is SymbolicRegressor
        expected = least_information(losses, sizes, len(y)) if fit else steepest(losses, sizes)
        assert model.best_index_ == expected


@pytest.mark.parametrize(("weight", "chosen_one"), [(1.0, 0), (4.0, 1)])
def test_without_rows_held_out_a_weight_counts_as_so_many_rows(weight, chosen_one):
    table = StatTable.from_columns(None, {"x": np.arange(30.0), "z": np.ones(30)})
    both = [
        Candidate(Formula(parse(text, table.leaves), score, None), 0, np.empty(0))
        for text, score in (("x", 0.80), ("x + exp(z)", 0.85))
    ]
    judge, rows = weighted(OBJECTIVES["r2"], np.full(30, weight)), np.arange(30)
    line, best = chosen(both, Data(table, [table], rows.astype(float), judge, rows, rows[:0]))
    assert line[best] is both[chosen_one].formula


def test_a_constant_target_is_its_own_formula_but_cannot_be_ranked():
    X, _ = data()
    assert np.array_equal(SymbolicRegressor(**TINY).fit(X, np.full(60, 2.5)).predict(X), np.full(60, 2.5))
    with pytest.raises(ValueError, match="nothing to rank"):
        ProxyRanker(**TINY).fit(X, np.ones(60))


def test_rows_without_a_value_are_not_filled_in_and_count_as_the_mean():
    X, _ = data()
    model = SymbolicRegressor(**TINY, initial=["log(x0)"]).fit(X, np.log(X[:, 0]))
    assert model.score(X, np.log(X[:, 0])) == 1.0
    X[0, 0] = -1.0
    assert np.isnan(model.predict(X)[0])
    y = np.append(0.0, np.log(X[1:, 0]))
    expected = 1.0 - y.mean() ** 2 / np.sum((y - y.mean()) ** 2)
    assert model.score(X, y) == pytest.approx(expected)


# ---- scikit-learn's tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
def test_pipeline_grid_search_cross_validation_and_clone(make):
    X, y = data()
    pipe = make_pipeline(StandardScaler(), make(**TINY))
    name = make.__name__.lower()
    grid = GridSearchCV(pipe, {f"{name}__max_size": [2, 6]}, cv=2, error_score="raise").fit(X, y)
    # one operator and two columns say more than one column
    assert grid.best_params_ == {f"{name}__max_size": 6}
    scores = cross_val_score(make(**TINY), X, y, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert (scores > 0.5).all()
    fitted = grid.best_estimator_[-1]
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "front_")


@pytest.mark.parametrize("make", BOTH)
def test_the_result_depends_on_the_seed_and_not_on_threads(make):
    X, y = data(120)
    fronts = [
        make(**{**TINY, "random_state": seed}, islands=2, n_jobs=n).fit(X, y)
        for seed, n in ((0, 1), (0, 2), (1, 1))
    ]
    assert fronts[0].front_ == fronts[1].front_
    assert fronts[0].best_index_ == fronts[1].best_index_
    assert fronts[0].front_ != fronts[2].front_


def test_budgets_end_a_search_and_the_callback_sees_every_generation():
    X, y = data()
    seen: list[int] = []

    def content(state: Any) -> bool:
        seen.append(state.generation)
        return state.generation == 4

    SymbolicRegressor(**{**TINY, "generations": 100}, callback=content).fit(X, y)
    assert seen == [1, 2, 3, 4]
    counts: list[int] = []
    settings = {**TINY, "generations": None}
    SymbolicRegressor(
        **settings, max_evaluations=200, callback=lambda state: counts.append(state.counters["evaluated"])
    ).fit(X, y)
    assert counts[-1] >= 200
    assert all(count < 200 for count in counts[:-1])
    generations: list[int] = []
    SymbolicRegressor(
        **settings, time_budget=0, callback=lambda state: generations.append(state.generation)
    ).fit(X, y)
    assert generations == [1]


def test_a_warm_start_goes_on_from_what_was_found(tmp_path):
    X, y = data()
    model = SymbolicRegressor(**{**TINY, "generations": 15, "population": 60}, warm_start=True).fit(X, y)
    before = max(one["score"] for one in model.front_)
    model.set_params(generations=1, population=10, random_state=5).fit(X, y)
    assert max(one["score"] for one in model.front_) >= before - 1e-12
    model.save(tmp_path / "model.json")
    loaded = SymbolicRegressor.load(tmp_path / "model.json").fit(X, y)
    assert max(one["score"] for one in loaded.front_) >= before - 1e-12
    cold = clone(model).set_params(warm_start=False).fit(X, y)
    assert max(one["score"] for one in cold.front_) < before


def test_initial_formulas_are_met():
    X, _ = data()
    y = np.tanh(X[:, 0] * X[:, 1] / X[:, 2])
    given = SymbolicRegressor(**TINY, initial=["tanh(x0 * x1 / x2)"]).fit(X, y)
    assert given.score(X, y) > 1.0 - 1e-9
    assert SymbolicRegressor(**TINY).fit(X, y).score(X, y) < 1.0 - 1e-9


def test_sympy_makes_formulas_smaller_on_request():
    X, _ = data()
    few = {"operators": ["mul", "sin", "cos", "square", "add"], "generations": 1, "population": 10}
    long = "square(sin(x0)) * x1 * x2 + square(cos(x0)) * x1 * x2"
    fits = [
        SymbolicRegressor(**few, random_state=0, initial=[long], simplify=simplify).fit(X, X[:, 1] * X[:, 2])
        for simplify in (False, True)
    ]
    assert fits[0].front_[-1]["size"] > 3
    assert fits[1].formula() == "x1 * x2"


def test_a_formula_stays_as_bred_where_without_bends_it_breaks_a_limit():
    X = -np.random.default_rng(0).uniform(0.5, 2.0, size=(40, 1))
    few = {"generations": 2, "population": 20, "random_state": 0}
    model = SymbolicRegressor(**few, operators=["abs", "exp"]).fit(X, np.exp(np.abs(X[:, 0])))
    assert model.formula() == "exp(abs(x0))"


def test_verbose_prints_a_line_per_generation(capsys):
    X, y = data()
    SymbolicRegressor(**TINY, verbose=2).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[:3]] == [f"generation {k}" for k in (1, 2, 3)]


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("many", [False, True])
def test_a_file_gives_the_same_estimator_back(make, many, tmp_path):
    X, y = data()
    y = np.stack([y, -X[:, 2]], axis=1) if many else y
    limits = {"nesting": {"sin": {"sin": 0}}, "leaves": ["x0", "x1", "x2"]}
    model = make(**TINY, **limits, callback=lambda state: None).fit(X, y)
    model.save(tmp_path / "model.json")
    loaded = make.load(str(tmp_path / "model.json"))
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert np.array_equal(loaded.predict(X, index=0), model.predict(X, index=0))
    assert loaded.front_ == model.front_
    assert loaded.best_index_ == model.best_index_
    assert loaded.get_params() == {**model.get_params(), "callback": None}
    loaded.save(tmp_path / "again.json")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("model.json", "again.json"))
    assert first["targets"] == second["targets"]


def test_a_file_is_read_and_never_run(tmp_path):
    X, y = data()
    model = SymbolicRegressor(**TINY).fit(X, y)
    path = tmp_path / "model.json"
    model.save(path)
    whole = json.loads(path.read_text())

    def refused(message: str, **changes: Any) -> None:
        path.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(ConfigError, match=message) as caught:
            SymbolicRegressor.load(path)
        assert isinstance(caught.value, ValueError)

    target = whole["targets"][0]
    evil = {"formula": "__import__('os').remove('x')", "score": 1.0, "validation": None}
    refused("damaged", targets=[{**target, "front": [evil]}])
    refused("the best of", targets=[{**target, "best": 99}])
    refused("damaged", targets=[{"best": 0}])
    refused("damaged", parameters={"depth": 3})
    refused("no estimator", format="else")
    refused("version 2", version=2)
    path.write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match="a SymbolicRegressor of version 1; this reads ProxyRanker"):
        ProxyRanker.load(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        SymbolicRegressor.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        SymbolicRegressor.load(tmp_path / "missing.json")
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        model.save(tmp_path / "no" / "such" / "folder.json")


# ---- names, weights, targets -------------------------------------------------------------------------------


def test_formulas_use_the_names_of_a_data_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    X, _ = data()
    frame = pandas.DataFrame(X, columns=["mass [kg]", "class", "t0"])
    y = X[:, 0] * X[:, 1]
    model = SymbolicRegressor(**{**TINY, "generations": 20, "population": 60}).fit(frame, y)
    assert {str(symbol) for symbol in model.sympy().free_symbols} == {"mass [kg]", "class"}
    assert "`mass [kg]`" in model.formula()
    leaves = {name: Leaf(name, "row") for name in frame.columns}
    assert set(parse(model.formula(), leaves).leaves) == {"mass [kg]", "class"}
    model.save(tmp_path / "model.json")
    loaded = SymbolicRegressor.load(tmp_path / "model.json")
    assert np.array_equal(loaded.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame[["class", "mass [kg]", "t0"]])
    with pytest.raises(ValueError, match="cannot stand in a formula"):
        SymbolicRegressor(**TINY).fit(frame.rename(columns={"t0": "a`b"}), y)


def test_every_target_has_a_search_of_its_own():
    X, y = data()
    both = np.stack([y, X[:, 2]], axis=1)
    model = SymbolicRegressor(**TINY).fit(X, both)
    assert model.predict(X).shape == both.shape
    assert len(model.front_) == len(model.best_index_) == len(model.formula()) == len(model.latex()) == 2
    assert model.formula()[1] == "x2"
    mixed = model.predict(X, index=[0, model.best_index_[1]])
    assert np.array_equal(mixed[:, 0], model.predict(X, index=0)[:, 0])
    assert np.array_equal(mixed[:, 1], model.predict(X)[:, 1])
    ranker = ProxyRanker(**TINY).fit(X, -both)
    parts = [spearmanr(a, b).statistic for a, b in zip(ranker.predict(X).T, -both.T, strict=True)]
    assert ranker.score(X, -both) == pytest.approx(np.mean(parts))
    with pytest.raises(ValueError, match="there are 2 targets"):
        model.predict(X, index=[0])


@pytest.mark.parametrize("make", BOTH)
def test_weights_decide_which_rows_count(make):
    rng = np.random.default_rng(5)
    X = rng.uniform(1.0, 2.0, size=(60, 2))
    y = np.where(np.arange(60) < 30, 4.0 * X[:, 0], 5.0 - X[:, 1])
    front, back = (np.where((np.arange(60) < 30) == first, 1.0, 1e-9) for first in (True, False))
    first, second = (make(**TINY).fit(X, y, sample_weight=weights) for weights in (front, back))
    assert first.formula() != second.formula()
    assert first.score(X, y, front) > 0.999
    assert second.score(X, y, back) > 0.999
    assert second.score(X, y, front) < 0.9
    for bad, message in ((-front, "negative"), (np.eye(60)[0], "zero"), (front[1:], "one number for each")):
        with pytest.raises(ValueError, match=message):
            make(**TINY).fit(X, y, sample_weight=bad)
    strange = Objective("mine", first._kind, first._objective)
    with pytest.raises(ValueError, match="'mine' takes no sample_weight"):
        make(**TINY, objective=strange).fit(X, y, sample_weight=front)


@settings(max_examples=60)
@given(st.data(), st.sampled_from((*WEIGHTED, *RANKED)), st.integers(2, 12))
def test_a_whole_weight_is_a_row_repeated(data, name, n):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(-3, 4, size=n) * rng.choice([1.0, 0.37, 1e6])
    y = rng.integers(-3, 4, size=n) * 1.7
    counts = rng.integers(0, 4, size=n)
    counts[:2] += 1
    often_x, often_y = np.repeat(x, counts), np.repeat(y, counts)
    plain, judge = OBJECTIVES[name], weighted(OBJECTIVES[name], counts.astype(float))
    fitness = plain.fitness(often_x[None], often_y)
    assert judge.fitness(x[None], y) == pytest.approx(fitness, abs=1e-11, nan_ok=True)
    reports = [j.report(Scores.of(a), b) for j, a, b in ((judge, x, y), (plain, often_x, often_y))]
    numbers = [np.nan if one[plain.metric] is None else one[plain.metric] for one in reports]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9, abs=1e-11, nan_ok=True)
    dag = parse("x", {"x": Leaf("x", "row")})
    lines = [j.finish(dag, a, b) for j, a, b in ((judge, x, y), (plain, often_x, often_y))]
    table = StatTable.from_columns(None, {"x": x})
    first, second = ReferenceKernel(lower(lines))(table)
    assert first == pytest.approx(second, rel=1e-9, abs=1e-9)
    if name == "kendall" and np.isfinite(numbers[0]):
        assert numbers[0] == pytest.approx(kendalltau(often_x, often_y).statistic, abs=1e-11)


def test_a_ranker_takes_statistics_of_networks(tmp_path):
    few = {name: STATISTICS[name] for name in ("w", "g", "numel", "params")}
    rng = np.random.default_rng(9)
    table = random_table(rng, few, n_rows=24, max_entries=40)
    y = table.columns["params"].astype(float) * 2.0
    model = ProxyRanker(**TINY).fit(table, y)
    assert model.score(table, y) > 0.5
    assert set(model.feature_names_in_) == set(few)
    assert "def score(" in model.python()
    model.save(tmp_path / "model.json")
    assert np.array_equal(ProxyRanker.load(tmp_path / "model.json").predict(table), model.predict(table))
    with pytest.raises(ValueError, match="must be a StatTable"):
        model.predict(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ProxyRanker(**TINY).fit(table, y[1:])
    with pytest.raises(ValueError, match="contains NaN"):
        ProxyRanker(**TINY).fit(StatTable.from_columns(None, {"x": [1.0, np.nan]}), [1.0, 2.0])
    holes = StatTable.from_columns(None, {"x": np.arange(20.0), "z": np.full(20, np.nan)})
    assert ProxyRanker(**TINY, leaves=["x"]).fit(holes, np.arange(20.0)).formula() == "x"


# ---- wrong use ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
def test_a_search_ends_when_it_is_good_enough_or_nothing_gets_better(make):
    X, y = data()
    seen: list[Any] = []
    given = {**TINY, "population": 40, "callback": seen.append, "generations": None}
    make(**{**given, "enough": 0.5, "stagnation": 500}).fit(X, y)
    assert seen[-1].best >= 0.5
    assert all(state.best < 0.5 for state in seen[:-1])
    seen.clear()
    make(**{**given, "stagnation": 3, "max_size": 3, "operators": ["add"]}).fit(X, y)
    assert seen[-1].generation - seen[-1].last_gain == 3
    assert all(state.generation - state.last_gain < 3 for state in seen[:-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "spearman"}, "SymbolicRegressor has r2, mse"),
        ({"objective": "r3"}, "SymbolicRegressor has r2, mse"),
        ({"generations": 0}, "generations=0: a number from 1 on"),
        ({"generations": None}, "would never end"),
        ({"stagnation": 0}, "stagnation=0: a whole number from 1 on"),
        ({"enough": -0.5}, "enough=-0.5: a number from 0 on"),
        ({"time_budget": -1.0}, "time_budget=-1.0"),
        ({"population": 3}, "population=3"),
        ({"max_size": 1}, "max_size=1: a number from 2 on"),
        ({"operators": ["add", "plus"]}, "no operator named 'plus'"),
        ({"operators": "add"}, "not one text"),
        ({"leaves": ["x0", "x9"]}, "no leaf named 'x9'"),
        ({"islands": 0}, "islands=0: a whole number from 1 on"),
        ({"max_depth": 1.5}, "max_depth=1.5: a whole number"),
        ({"max_constants": -1}, "max_constants=-1"),
        ({"max_cost": "free"}, "no cost class named 'free'"),
        ({"nesting": {"sin": {"plus": 0}}}, "no operator named 'plus'"),
        ({"nesting": {"sin": 0}}, "nesting of 'sin'"),
        ({"nesting": "sin:sin=0"}, "a mapping is needed"),
        ({"units": {"x0": "furlong"}}, "furlong"),
        ({"units": {"x9": "m"}}, "no leaf named 'x9'"),
        ({"trends": {"x9": "increasing"}}, "no column named 'x9'"),
        ({"trends": {"x0": "up"}}, "'up' is none of"),
        ({"sign": "odd"}, "'odd' is none of"),
        ({"initial": ["x7"]}, "unknown leaf 'x7'"),
        ({"initial": "x0"}, "not one text"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"validation_fraction": "half"}, "validation_fraction='half'"),
        ({"validation_fraction": 0.001}, "of 60 rows"),
    ],
)
def test_wrong_parameters_are_refused_when_fitting(changes, message):
    X, y = data()
    with pytest.raises(ConfigError, match=message) as caught:
        SymbolicRegressor(**{**TINY, **changes}).fit(X, y)
    assert isinstance(caught.value, ValueError)


def test_wrong_data_and_places_are_refused():
    X, y = data()
    model = SymbolicRegressor(**TINY).fit(X, y)
    X[3, 1] = np.nan
    for call in (lambda: SymbolicRegressor(**TINY).fit(X, y), lambda: model.predict(X)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            call()
    with pytest.raises(ValueError, match="the front has"):
        model.predict(data()[0], index=99)
    with pytest.raises(ValueError, match="no formula of size 99"):
        model.predict(data()[0], size=99)
    with pytest.raises(ValueError, match="give one of them"):
        model.predict(data()[0], index=0, size=1)


def ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
    )


def test_a_loaded_estimator_predicts_without_numba_sympy_and_torch(tmp_path):
    X, y = data()
    SymbolicRegressor(**TINY).fit(X, y).save(tmp_path / "model.json")
    done = ran(
        "import sys, proxygraph\nassert 'sklearn' not in sys.modules\n"
        f"model = proxygraph.SymbolicRegressor.load({str(tmp_path / 'model.json')!r})\n"
        "assert model.predict([[1.0, 2.0, 3.0]]).shape == (1,)\n"
        "print([name for name in ('numba', 'sympy', 'torch', 'sklearn') if name in sys.modules])"
    )
    assert done.stdout.strip() == "['sklearn']", done.stderr


def test_without_scikit_learn_the_error_says_what_to_install():
    hide = "import sys; sys.modules['sklearn'] = None\nimport proxygraph\n"
    hide += "import importlib.util as u; find = u.find_spec\n"
    hide += "u.find_spec = lambda name, *a: None if name == 'sklearn' else find(name, *a)\n"
    done = ran(hide + "proxygraph.SymbolicRegressor")
    assert "BackendUnavailable" in done.stderr
    assert "pip install 'proxygraph[sklearn]'" in done.stderr
