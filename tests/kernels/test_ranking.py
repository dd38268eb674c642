"""Compiled rank statistics against scipy: ties, special values, hard rows, threads, thresholds, codes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.jit import jit
from proxygraph.kernels import ranking
from proxygraph.kernels.ranking import Target, Work, average_ranks, kendall, spearman, spearman_and_codes

EXTREME = [0.0, -0.0, 5e-324, -5e-324, 1e-310, 2.3e-308, 1.0, -1.0, 1.5, 1e308, -1.7e308, 1.7e308, 3e38]
TIED = st.integers(-2, 2).map(float)
ANY = st.floats(allow_nan=False, allow_infinity=False)
MIXED = TIED | ANY | st.sampled_from(EXTREME)


@st.composite
def data(draw, elements=MIXED, least=0, most=40):
    n = draw(st.integers(least, most))
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    values = draw(hnp.arrays(np.float64, (draw(st.integers(1, 4)), n), elements=elements))
    target = draw(hnp.arrays(np.float64, n, elements=TIED | ANY))
    with np.errstate(over="ignore"):
        return values.astype(dtype), target


def expected(measure, values, target):
    out = np.full(len(values), np.nan)
    for r, row in enumerate(values.astype(np.float64)):
        if len(row) > 1 and np.isfinite(row).all() and np.unique(row).size > 1 and np.unique(target).size > 1:
            # ranks first: scipy's own kendalltau takes -0.0 for less than 0.0
            out[r] = measure(stats.rankdata(row), stats.rankdata(target)).statistic
    return out


def check(values, target):
    np.testing.assert_allclose(
        spearman(values, target), expected(stats.spearmanr, values, target), rtol=0, atol=2e-12
    )
    np.testing.assert_allclose(
        kendall(values, target), expected(stats.kendalltau, values, target), rtol=0, atol=2e-12
    )


def hard_rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows that put all values into one bucket, or where rounding makes different values equal numbers."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=n)
    outlier = normal.copy()
    outlier[n // 2] = 1e30
    two_scales = 1e-9 * rng.random(n)
    two_scales[:2] = -1e10, 1.5
    halves = np.where(rng.random(n) < 0.5, 1e300, 1.0) * rng.random(n)
    neighbours = (np.float64(1.0).view(np.int64) + rng.permutation(n)).view(np.float64)
    pairs = neighbours.copy()
    pairs[0], pairs[-1] = -1e6, 1e6
    return {
        "normal": normal,
        "heavy": normal**5,
        "lognormal": np.exp(4 * normal),
        "outlier": outlier,
        "two scales": two_scales,
        "halves": halves,
        "neighbours": neighbours,
        "neighbours and outliers": pairs,
        "subnormal": 5e-324 * rng.integers(-9, 9, n),
        "huge": np.sign(normal) * 1.7e308 * rng.random(n),
        "whole": np.round(2 * normal),
        "zero and one scale": np.where(normal < 0, 0.0, 1.0 + rng.integers(0, 4, n)),
        "two values": (normal > 0.5).astype(float),
        "ascending": np.sort(normal),
        "descending": -np.sort(normal),
        "sawtooth": np.arange(n) % 7 + 0.0,
        "tiny beside ones": np.where(rng.random(n) < 0.3, 1.0, 1e-200 * rng.random(n)),
    }


@given(data())
def test_spearman_and_kendall_are_those_of_scipy(case):
    check(*case)


@pytest.mark.parametrize("n", [2, 3, 63, 64, 65, 256, 257, 1024, 1025, 5000])
def test_every_way_to_sort_is_exact(n):
    rng = np.random.default_rng(n)
    rows = np.array(list(hard_rows(n, n).values()))
    for target in (rng.normal(size=n), np.round(rng.normal(size=n) * 3)):
        check(rows, target)
    with np.errstate(over="ignore"):
        check(rows.astype(np.float32), rng.normal(size=n))
    # scipy's correlation would forgive two neighbours in the wrong order: ranks do not
    np.testing.assert_array_equal(average_ranks(rows), stats.rankdata(rows, axis=-1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_makes_its_row_undefined_and_no_other(bad):
    values = np.tile(np.arange(5.0), (3, 1))
    values[1, 2] = bad
    for measure in (spearman, kendall):
        np.testing.assert_array_equal(measure(values, np.arange(5.0)), [1.0, np.nan, 1.0])
        assert np.isnan(measure(values, values[1])).all()


@pytest.mark.parametrize("n", [0, 1])
def test_of_nothing_and_of_one_row_there_is_no_correlation(n):
    for measure in (spearman, kendall):
        assert np.isnan(measure(np.ones((3, n)), np.ones(n))).tolist() == [True] * 3
        assert measure(np.ones((0, n)), np.ones(n)).shape == (0,)


def test_constant_rows_and_targets():
    values = np.array([[0.0, -0.0, 0.0], [0.1, 0.1, 0.1], [1.0, 2.0, 3.0]])
    for measure in (spearman, kendall):
        np.testing.assert_array_equal(measure(values, np.arange(3.0)), [np.nan, np.nan, 1.0])
        assert np.isnan(measure(values, np.full(3, 0.1))).all()


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_monotone_maps_and_permutations_of_rows_change_nothing(order, shuffle):
    x, y = np.array(order, dtype=float), np.round(np.arange(12.0) / 2)
    values = np.array([x, np.exp(x), x**3 - 50, x * 1e-300, x - 1e9])
    for measure in (spearman, kendall):
        result = measure(values, y)
        assert (result == result[0]).all()
        np.testing.assert_array_equal(measure(-values, y), -result)
        np.testing.assert_array_equal(measure(values[:, shuffle], y[np.array(shuffle)]), result)


def canonical(row: np.ndarray) -> tuple[float, ...]:
    ranks = stats.rankdata(row)
    return min(tuple(ranks), tuple(len(row) + 1 - ranks))


@given(data(elements=TIED, least=2, most=5))
def test_the_code_is_that_of_the_ordering_up_to_its_direction(case):
    values, target = case
    everything = np.concatenate([values, -values, np.exp(values)])
    codes = spearman_and_codes(everything, target)[1]
    orders = [canonical(row) for row in everything]
    for a in range(len(codes)):
        assert (codes[a] == 0) == (np.unique(everything[a]).size == 1)
        for b in range(a):
            assert (codes[a] == codes[b]) == (orders[a] == orders[b])


def test_codes_of_many_orderings_differ():
    values = np.random.default_rng(0).normal(size=(2000, 50))
    swapped = values.copy()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]  # the least change of an order that is no reversal
    codes = spearman_and_codes(np.concatenate([values, swapped]), np.arange(50.0))[1]
    assert np.unique(codes).size == 4000
    _, again = ranking._batch(ranking._kendall_rows, values, np.arange(50.0), 0.0, 1)
    np.testing.assert_array_equal(again, codes[:2000])


@given(data(elements=TIED | ANY), st.floats(0.01, 1.0))
def test_a_threshold_gives_up_no_row_that_reaches_it(case, threshold):
    values, target = case
    for measure in (spearman, kendall):
        full, some = measure(values, target), measure(values, target, threshold=threshold)
        kept = ~np.isnan(some)
        np.testing.assert_array_equal(some[kept], full[kept])
        assert kept[np.abs(full) >= threshold].all()


@pytest.mark.parametrize("n", [50, 500, 3000])
def test_a_threshold_gives_up_most_of_the_rest(n):
    rng = np.random.default_rng(n)
    target = rng.normal(size=n)
    mix = np.linspace(-1.5, 1.5, 301)[:, None]
    values = np.concatenate([rng.normal(size=(301, n)) + mix * target, np.round(mix * target * 9)])
    for measure in (spearman, kendall):
        full = measure(values, target)
        for threshold in np.concatenate([[0.3, 0.7], np.abs(full[np.isfinite(full)][::40])]):
            some = measure(values, target, threshold=threshold)
            kept = ~np.isnan(some)
            np.testing.assert_array_equal(some[kept], full[kept])
            assert kept[np.abs(full) >= threshold].all()
        hopeless = np.abs(full) < 0.2
        assert np.isnan(measure(values[hopeless], target, threshold=0.8)).mean() > 0.8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neither_the_batch_nor_threads_matter(dtype):
    rng = np.random.default_rng(0)
    values, target = np.round(rng.normal(size=(400, 700)), 1).astype(dtype), rng.normal(size=700)
    prepared = Target.of(target)
    for measure in (spearman, kendall):
        whole = measure(values, target)
        np.testing.assert_array_equal(measure(values, prepared, threads=3), whole)
        np.testing.assert_array_equal([measure(row[None], prepared)[0] for row in values[:20]], whole[:20])
        np.testing.assert_array_equal(measure(values[::-1], prepared), whole[::-1])
        np.testing.assert_array_equal(measure(np.asfortranarray(values), prepared), whole)
    frozen = values.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(spearman(frozen, target), spearman(values, target))


@jit()
def _loop(values, target, work, out):
    for r in range(len(values)):
        out[r] = ranking.spearman_row(values[r], target, work, 0.0)[0]


def test_compiled_callers_in_several_threads():
    rng = np.random.default_rng(0)
    values, target = rng.normal(size=(300, 80)), Target.of(rng.normal(size=80))
    out = np.empty(300)

    def share(first):
        part = slice(first, first + 100)
        _loop(values[part], target, Work.of(200), out[part])  # memory for longer rows will do

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(share, (0, 100, 200)))
    np.testing.assert_array_equal(out, spearman(values, target))


def test_work_left_by_other_rows_does_not_matter():
    target, work = Target.of(np.arange(300.0)), Work.of(300)
    rows = list(hard_rows(300).values())
    for row_function in (ranking.spearman_row, ranking.kendall_row):
        fresh = [row_function(row, target, Work.of(300), 0.0) for row in rows]
        assert [row_function(row, target, work, 0.0) for row in rows] == fresh


@pytest.mark.parametrize("n", [40_000, 300_000])
def test_long_rows(n):
    rng = np.random.default_rng(0)
    target = np.round(rng.normal(size=n), 2)
    values = np.array([rng.normal(size=n) + target, np.round(rng.normal(size=n), 1), np.exp(-target)])
    check(values, target)


def test_lengths_and_threads_are_checked():
    with pytest.raises(ShapeMismatch, match=r"values of shape \(2, 3\): expected \(P, 4\)"):
        spearman(np.ones((2, 3)), np.arange(4.0))
    with pytest.raises(ShapeMismatch, match=r"target of shape \(2, 2\)"):
        kendall(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ConfigError, match="threads=0"):
        spearman(np.ones((2, 3)), np.arange(3.0), threads=0)
