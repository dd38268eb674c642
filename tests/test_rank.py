"""Rank statistics against scipy, ties and all; what is undefined is None."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from proxygraph.errors import ShapeMismatch
from proxygraph.rank import average_ranks, correlation, rank_report, spearman
from proxygraph.scores import Scores

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
TIED = st.integers(-3, 3).map(float)


def rows(values: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 5), st.integers(2, 12))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=values))


def some_rows(n: int = 9, ties: bool = True, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values, target = rng.normal(size=(40, n)), rng.normal(size=n)
    return (np.round(values), np.round(target)) if ties else (values, target)


@given(rows(TIED) | rows(FINITE))
def test_ranks_are_those_of_scipy(values):
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values, axis=-1))


def test_ranks_of_many_axes_and_of_nothing():
    values = np.random.default_rng(0).integers(0, 4, size=(2, 3, 5)).astype(float)
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values, axis=-1))
    assert average_ranks(np.empty((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("n", [2, 3, 9, 100])
def test_spearman_is_that_of_scipy(ties, n):
    for seed in range(5):
        values, target = some_rows(n, ties, seed)
        if np.ptp(target) == 0:
            continue
        for rho, row in zip(spearman(values, target), values, strict=True):
            if np.ptp(row) == 0:
                assert np.isnan(rho)
            else:
                assert rho == pytest.approx(stats.spearmanr(row, target).statistic, abs=1e-12)


@pytest.mark.parametrize("ties", [True, False])
def test_pearson_is_that_of_scipy(ties):
    values, target = some_rows(12, ties)
    for r, row in zip(correlation(values, target), values, strict=True):
        if np.ptp(row):
            assert r == pytest.approx(stats.pearsonr(row, target).statistic, abs=1e-12)


@pytest.mark.parametrize("ties", [True, False])
def test_report_is_that_of_scipy(ties):
    values, target = some_rows(15, ties)
    for row in values:
        report = rank_report(Scores.of(row), target)
        assert report.rho == pytest.approx(stats.spearmanr(row, target).statistic, abs=1e-12)
        assert report.tau_b == pytest.approx(stats.kendalltau(row, target).statistic, abs=1e-12)
        assert (report.n_used, report.n_invalid) == (15, 0)
        assert report.n_tied == sum((row == v).sum() > 1 for v in row)


def test_kendall_counts_pairs():
    # by hand: 1-2 and 1-3 agree, 2-3 do not
    assert rank_report(Scores.of([1.0, 2.0, 3.0]), np.array([70.0, 72.0, 71.0])).tau_b == pytest.approx(1 / 3)


def test_the_sign_is_kept():
    report = rank_report(Scores.of([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    assert (report.rho, report.tau_b) == (-1.0, -1.0)


def test_invalid_rows_are_left_out_and_counted():
    target = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    report = rank_report(Scores.of([1.0, np.nan, 2.0, np.inf, 3.0]), target)
    assert (report.rho, report.tau_b, report.n_used, report.n_invalid) == (1.0, 1.0, 3, 2)


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]),
        ([1.0], [1.0]),
        ([], []),
        ([np.nan, 1.0], [1.0, 2.0]),
        ([np.nan, np.nan, np.nan], [1.0, 2.0, 3.0]),
        ([1.0, 1.0, np.inf], [1.0, 2.0, 3.0]),
    ],
)
def test_undefined_is_none(values, target):
    report = rank_report(Scores.of(values), np.array(target))
    assert report.rho is None
    assert report.tau_b is None
    assert report.n_used + report.n_invalid == len(values)


def test_spearman_of_rows_that_cannot_be_compared_is_nan():
    values = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, np.inf], [1.0, 1.0, 1.0], [1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(spearman(values, np.array([1.0, 2.0, 3.0])), [np.nan, np.nan, np.nan, 1.0])
    assert np.isnan(spearman(values[3:], np.ones(3))).all()
    assert spearman(np.empty((0, 3)), np.arange(3.0)).shape == (0,)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1.5e308])
def test_correlation_of_any_size_of_numbers(scale):
    target = np.array([0.1, 0.5, 0.2, 0.9])
    values = np.array([[0.1, 0.6, 0.3, 1.0], [-1.0, -0.2, -0.7, 0.3]])
    expected = correlation(values, target)
    np.testing.assert_allclose(correlation(values * scale, target), expected, rtol=1e-9)
    np.testing.assert_allclose(correlation(values, target * scale), expected, rtol=1e-9)


def test_equal_numbers_whose_mean_is_another_number_are_still_constant():
    assert np.mean([0.1] * 3) != 0.1
    assert np.isnan(correlation(np.full((1, 3), 0.1), np.array([1.0, 2.0, 4.0]))).all()
    assert np.isnan(correlation(np.array([[1.0, 2.0, 4.0]]), np.full(3, 0.1))).all()


def test_fewer_than_two_rows_have_no_correlation():
    for n in (0, 1):
        for measure in (correlation, spearman):
            assert np.isnan(measure(np.ones((3, n)), np.ones(n))).all()


@given(st.permutations(range(8)))
def test_monotone_maps_change_nothing(order):
    x, y = np.array(order, dtype=float), np.arange(8.0)
    rho = spearman(np.array([x, np.exp(x), x**3, -x]), y)
    np.testing.assert_allclose(rho, rho[0] * np.array([1, 1, 1, -1]), atol=1e-12)


def test_lengths_must_agree():
    with pytest.raises(ShapeMismatch, match="3 scores but 2 targets"):
        rank_report(Scores.of([1.0, 2.0, 3.0]), np.array([1.0, 2.0]))
    with pytest.raises(ShapeMismatch, match=r"scores of shape \(2,\) with ok of shape \(3,\)"):
        Scores(np.zeros(2), np.ones(3, dtype=bool))


def test_huge_scores_raise_no_warning():
    report = rank_report(Scores.of([-1e308, 1e308, 0.0]), np.array([-1e308, 1.0, 1e308]))
    assert report.rho == pytest.approx(0.5)
