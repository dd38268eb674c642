"""Objectives: fitness, the final form, the numbers reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proxygraph.dag import Dag
from proxygraph.errors import UnknownName
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.objective import OBJECTIVES, find_objective
from proxygraph.program import lower
from proxygraph.scores import Scores
from proxygraph.table import StatTable

LEAVES = {"x": Leaf("x", "row"), "y": Leaf("y", "row")}
X = parse("x", LEAVES)
KINDS = {"rank": ("spearman", "kendall", "pearson", "topk"), "fit": ("r2", "mse")}


def values_of(dag: Dag, x: np.ndarray) -> np.ndarray:
    table = StatTable.from_columns(None, {"x": x, "y": np.ones(len(x))})
    return ReferenceKernel(lower([dag]))(table)[0]


def some(n: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, 3.0 * x + rng.normal(size=n) - 7.0


def test_the_table():
    assert {name: o.kind for name, o in OBJECTIVES.items()} == {
        name: kind for kind, names in KINDS.items() for name in names
    }
    assert find_objective("kendall").name == "kendall"
    with pytest.raises(
        UnknownName, match="no objective named 'rmse'; known: spearman, kendall, pearson, r2, mse, topk, "
    ):
        find_objective("rmse")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_fitness_is_within_0_and_1_and_nan_where_invalid(name: str):
    rng = np.random.default_rng(0)
    target = rng.normal(size=12)
    values = np.vstack([rng.normal(size=(6, 12)), target, -target, np.ones(12), np.full(12, np.nan), target])
    values[-1, 3] = np.inf
    fitness = OBJECTIVES[name].fitness(values, target)
    assert fitness.shape == (11,)
    assert ((fitness[:8] >= 0) & (fitness[:8] <= 1)).all()
    np.testing.assert_allclose(fitness[6:8], 1.0)  # backwards is as good
    assert np.isnan(fitness[8:]).all()


def test_fitness_is_what_its_name_says():
    rng = np.random.default_rng(1)
    values, target = rng.normal(size=(4, 15)), rng.normal(size=15)
    expected = {
        "spearman": [abs(stats.spearmanr(v, target).statistic) for v in values],
        "kendall": [abs(stats.kendalltau(v, target).statistic) for v in values],
        "pearson": [abs(stats.pearsonr(v, target).statistic) for v in values],
        "r2": [stats.pearsonr(v, target).statistic ** 2 for v in values],
        "mse": [stats.pearsonr(v, target).statistic ** 2 for v in values],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(OBJECTIVES[name].fitness(values, target), numbers, atol=2e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_fitness_of_no_formula(name: str):
    assert OBJECTIVES[name].fitness(np.empty((0, 5)), np.arange(5.0)).shape == (0,)


@pytest.mark.parametrize("name", KINDS["rank"])
def test_a_formula_that_ranks_backwards_is_negated_explicitly(name: str):
    x, y = some()
    objective = OBJECTIVES[name]
    assert objective.finish(X, x, y) is X
    backwards = objective.finish(X, x, -y)
    assert text(backwards) == "-x"
    assert objective.report(Scores.of(values_of(backwards, x)), -y)["spearman"] > 0.5


@pytest.mark.parametrize("name", KINDS["rank"])
def test_the_direction_is_decided_by_the_finite_rows(name: str):
    x, y = some()
    x = x.copy()
    x[:3] = [np.nan, np.inf, -np.inf]
    assert text(OBJECTIVES[name].finish(X, x, -y)) == "-x"
    for useless in (np.full(20, np.nan), np.ones(20)):
        assert OBJECTIVES[name].finish(X, useless, y) is X


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("finite", [True, False])
def test_the_lines_of_many_are_the_line_of_each(name: str, finite: bool):
    judge, (_, y) = find_objective(name), some()
    values = np.random.default_rng(1).normal(size=(12, len(y)))
    values[:3] = np.array([[1.0], [-1.0], [0.0]]) * y  # alike, reversed, constant
    if not finite:
        values[5, 3] = np.nan
    assert np.array_equal(judge.lines(values, y), [judge.line(each, y) for each in values])
    assert judge.lines(values[:0], y).shape == (0, 2)


@pytest.mark.parametrize("name", KINDS["fit"])
def test_the_final_form_carries_the_best_line(name: str):
    x, y = some()
    final = OBJECTIVES[name].finish(X, x, y)
    slope, offset = np.polyfit(x, y, 1)
    np.testing.assert_allclose(values_of(final, x), slope * x + offset, rtol=1e-10)
    report = OBJECTIVES[name].report(Scores.of(values_of(final, x)), y)
    assert report["r2"] == pytest.approx(stats.pearsonr(x, y).statistic ** 2)
    assert report["rmse"] == pytest.approx(np.sqrt(np.mean((slope * x + offset - y) ** 2)))
    assert report["r2"] == pytest.approx(OBJECTIVES[name].fitness(x[None], y)[0])


@given(st.floats(-1e3, 1e3).filter(lambda v: abs(v) > 1e-3), st.floats(-1e3, 1e3))
def test_a_line_is_found_exactly(slope: float, offset: float):
    x, _ = some()
    final = OBJECTIVES["r2"].finish(X, x, slope * x + offset)
    np.testing.assert_allclose(values_of(final, x), slope * x + offset, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e9])
def test_a_line_far_from_the_origin(shift: float):
    x, y = some()
    final = OBJECTIVES["r2"].finish(X, x + shift, y)
    assert OBJECTIVES["r2"].report(Scores.of(values_of(final, x + shift)), y)["r2"] > 0.85


@pytest.mark.parametrize("scale", [1e-200, 1e200, 1e307])
def test_a_line_through_numbers_of_any_size(scale: float):
    x, y = some()
    x = x / np.abs(x).max() * scale
    final = OBJECTIVES["r2"].finish(X, x, y)
    assert np.isfinite(values_of(final, x)).all()
    if scale > 1:
        assert OBJECTIVES["r2"].report(Scores.of(values_of(final, x)), y)["r2"] > 0.85


@pytest.mark.parametrize("name", KINDS["fit"])
def test_a_formula_that_says_nothing_becomes_the_mean(name: str):
    y = np.arange(5.0)
    assert text(OBJECTIVES[name].finish(X, np.ones(5), y)) == "2"
    assert text(OBJECTIVES[name].finish(X, np.array([1.0, np.nan, np.nan, np.nan, np.nan]), y)) == "0"
    assert OBJECTIVES[name].finish(X, np.full(5, np.nan), y) is X


def test_needless_nodes_are_left_out():
    x = np.arange(6.0)
    finish = OBJECTIVES["r2"].finish
    assert text(finish(X, x, 2.0 * x)) == "2 * x"
    assert text(finish(X, x, -x)) == "-x"
    assert text(finish(X, x, x + 3.0)) == "x + 3"
    assert text(finish(X, x, x)) == "x"


@pytest.mark.parametrize("name", KINDS["rank"])
def test_reports_of_ranks(name: str):
    x, y = some()
    x = x.copy()
    x[0] = np.nan
    report = OBJECTIVES[name].report(Scores.of(x), y)
    assert report["spearman"] == pytest.approx(stats.spearmanr(x[1:], y[1:]).statistic)
    assert report["kendall"] == pytest.approx(stats.kendalltau(x[1:], y[1:]).statistic)
    assert (report["n"], report["invalid"]) == (19, 1)
    undefined = OBJECTIVES[name].report(Scores.of(np.ones(20)), y)
    assert (undefined["spearman"], undefined["kendall"]) == (None, None)


@pytest.mark.parametrize("name", KINDS["fit"])
def test_reports_of_fits(name: str):
    y = np.array([1.0, 2.0, 3.0, 4.0])
    report = OBJECTIVES[name].report(Scores.of([1.0, 2.0, np.nan, 5.0]), y)
    assert (report["n"], report["invalid"]) == (3, 1)
    assert report["rmse"] == pytest.approx(np.sqrt(1 / 3))
    assert report["r2"] == pytest.approx(1 - 1 / np.sum((np.array([1, 2, 4]) - 7 / 3) ** 2))
    nothing = {"r2": None, "rmse": None, "n": 0, "invalid": 4}
    assert OBJECTIVES[name].report(Scores.of(np.full(4, np.inf)), y) == nothing
    huge = OBJECTIVES[name].report(Scores.of(np.full(4, 1e300)), y)
    assert (huge["r2"], huge["rmse"]) == (None, None)
    same = OBJECTIVES[name].report(Scores.of([1.0, 2.0]), np.array([3.0, 3.0]))
    assert same["r2"] is None
    assert same["rmse"] == pytest.approx(np.sqrt(2.5))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("n", [0, 1])
def test_a_formula_that_is_finite_hardly_anywhere_is_still_reported(name: str, n: int):
    values = np.full(4, np.nan)
    values[:n] = 1.0
    report = OBJECTIVES[name].report(Scores.of(values), np.arange(4.0))
    assert (report["n"], report["invalid"]) == (n, 4 - n)
    assert report[OBJECTIVES[name].metric] is None


def test_a_report_is_json():
    import json

    for objective in OBJECTIVES.values():
        json.dumps(objective.report(Scores.of([1.0, np.nan, 3.0]), np.arange(3.0)), allow_nan=False)
