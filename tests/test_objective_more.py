"""Objectives with settings: weights, top k, lower bounds, a user's function, several problems."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proxygraph.errors import ConfigError, ShapeMismatch, UnknownName
from proxygraph.infix import parse, text
from proxygraph.leaves import Leaf
from proxygraph.objective import OBJECTIVES, Custom, LowerBound, Objective, Several, TopK, find_objective
from proxygraph.objective.bound import BOUNDED, draws
from proxygraph.objective.plain import WEIGHTED
from proxygraph.scores import Scores

X = parse("x", {"x": Leaf("x", "row")})
PARTS = np.repeat(["a", "b", "c"], [9, 7, 8])


def of_means(values: np.ndarray, target: np.ndarray) -> float:
    """A user's function: how much higher the target is among the higher half of the values."""
    high = values > np.median(values)
    return float(target[high].mean() - target[~high].mean())


def every() -> list[Objective]:
    """One of each kind, for 24 rows."""
    weights = np.random.default_rng(5).uniform(0.0, 2.0, 24)
    return [
        *OBJECTIVES.values(),
        *(replace(OBJECTIVES[name], weights=weights) for name in WEIGHTED),
        TopK(5),
        *(LowerBound(OBJECTIVES[name], 40) for name in BOUNDED),
        LowerBound(replace(OBJECTIVES["r2"], weights=weights), 40),
        Custom(of_means),
        Custom(of_means, kind="fit", name="gap"),
        *(Several(OBJECTIVES[name], PARTS) for name in OBJECTIVES),
        Several(LowerBound(OBJECTIVES["kendall"], 40), PARTS),
        Several(replace(OBJECTIVES["mse"], weights=weights), PARTS),
    ]


NAMES = [f"{i}-{o.name}" for i, o in enumerate(every())]


def some(
    n: int = 24, p: int = 8, seed: int = 0, ties: bool = False, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    values = rng.normal(size=(p, n)) * noise + y * np.where(np.arange(p) % 2, 1.0, -1.0)[:, None]
    return (np.round(values), np.round(y)) if ties else (values, y)


# ---- what all keep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", every(), ids=NAMES)
def test_the_contract_of_search(objective: Objective):
    values, y = some()
    values = np.vstack(
        [values, np.ones(24), np.full(24, np.nan), np.where(np.arange(24) == 3, np.inf, values[0])]
    )
    fitness, codes = objective.judged(values, y, 2)
    assert fitness.shape == codes.shape == (11,)
    assert codes.dtype == np.uint64
    assert ((fitness[:8] >= 0) & (fitness[:8] <= 1)).all()
    assert np.isnan(fitness[8:]).all()
    np.testing.assert_array_equal(objective.fitness(values, y), fitness)
    np.testing.assert_array_equal(objective.judged(values, y, 1)[1], codes)
    assert objective.judged(values[:0], y)[0].shape == (0,)
    one = objective.judged(values[4:5], y)
    assert (one[0][0], one[1][0]) == (fitness[4], codes[4])
    assert find_objective(objective.basis).kind == objective.kind


@pytest.mark.parametrize("objective", every(), ids=NAMES)
def test_backwards_is_as_good_and_of_the_same_class(objective: Objective):
    values, y = some()
    fitness, codes = objective.judged(values, y)
    turned, same = objective.judged(-values, y)
    np.testing.assert_allclose(turned, fitness, atol=1e-12)
    if np.ptp(fitness - turned) == 0.0:  # a class of least squares is a rounded number
        np.testing.assert_array_equal(same, codes)


@pytest.mark.parametrize("objective", every(), ids=NAMES)
def test_the_final_form_is_reported_in_the_right_direction(objective: Objective):
    values, y = some(noise=0.2)
    for row in values[:2]:
        slope, offset = objective.line(row, y)
        final = slope * row + offset
        report = objective.report(Scores.of(final), y)
        json.dumps(report, allow_nan=False)
        assert report[objective.metric] > 0.3
        assert (report["n"], report["invalid"]) == (24, 0)
        if objective.kind == "rank":
            assert text(objective.finish(X, row, y)) == ("x" if slope > 0 else "-x")
        nothing = objective.report(Scores.of(np.full(24, np.nan)), y)
        assert (nothing[objective.metric], nothing["n"]) == (None, 0)


@pytest.mark.parametrize("objective", every(), ids=NAMES)
def test_some_of_the_rows(objective: Objective):
    values, y = some()
    rows = np.delete(np.arange(24), [2, 11, 20])
    mask = np.isin(np.arange(24), rows)
    np.testing.assert_array_equal(
        objective.on(rows).fitness(values[:, rows], y[rows]),
        objective.on(mask).fitness(values[:, mask], y[mask]),
    )
    holes = values[1].copy()
    holes[~mask] = np.nan
    assert objective.line(holes, y) == objective.on(rows).line(values[1, rows], y[rows])
    report = objective.report(Scores.of(holes), y)
    assert (report["n"], report["invalid"]) == (21, 3)


# ---- weights ---------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from(WEIGHTED))
def test_a_whole_weight_is_so_many_rows(seed: int, name: str):
    values, y = some(12, 3, seed)
    times = np.random.default_rng(seed).integers(0, 4, 12)
    times[:2] = 2
    plain, weighted = OBJECTIVES[name], replace(OBJECTIVES[name], weights=times.astype(float))
    many = np.repeat(np.arange(12), times)
    np.testing.assert_allclose(
        weighted.fitness(values, y), plain.fitness(values[:, many], y[many]), atol=1e-9
    )
    np.testing.assert_allclose(weighted.line(values[0], y), plain.line(values[0, many], y[many]), atol=1e-9)
    ours = weighted.report(Scores.of(values[0]), y)[weighted.metric]
    assert ours == pytest.approx(plain.report(Scores.of(values[0, many]), y[many])[plain.metric])


def test_weights_are_checked():
    for name, weights, why in (
        ("spearman", np.ones(5), "'spearman' takes no weights; those with: pearson, r2, mse"),
        ("r2", np.array([1.0, -1.0]), "one finite number >= 0"),
        ("r2", np.array([1.0, np.nan]), "one finite number >= 0"),
        ("r2", np.array([1.0, 0.0]), "fewer than two rows"),
    ):
        with pytest.raises(ConfigError, match=why):
            replace(OBJECTIVES[name], weights=weights)
    with pytest.raises(ShapeMismatch, match=r"3 weights for 4 rows; take those of the rows with on\(\)"):
        replace(OBJECTIVES["r2"], weights=np.ones(3)).fitness(np.ones((1, 4)), np.arange(4.0))


# ---- top k -----------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 30) | st.none(), st.booleans())
def test_weighted_tau_is_that_of_scipy(seed: int, k: int | None, ties: bool):
    rng = np.random.default_rng(seed)
    y, values = rng.normal(size=20), rng.normal(size=(3, 20))
    values = np.round(values) if ties else values
    rank = np.argsort(np.argsort(-y))
    top = 20 if k is None else k
    expected = [
        stats.weightedtau(v, y, rank=rank, weigher=lambda r: 1.0 / (r + 1) if r < top else 0.0).statistic
        for v in values
    ]
    np.testing.assert_allclose(TopK(k).directed(values, y)[0], np.nan_to_num(expected), atol=1e-10)


@given(st.integers(0, 2**32 - 1), st.integers(1, 14))
def test_weighted_tau_with_ties_pair_by_pair(seed: int, k: int):
    values, y = some(12, 3, seed, ties=True)
    if y.min() == y.max():
        return
    place = np.argsort(-y, kind="stable")
    weight = np.zeros(12)
    weight[place[:k]] = 1.0 / np.arange(1, min(k, 12) + 1)
    for v in np.unique(y):
        weight[y == v] = weight[y == v].mean()
    pairs = weight[:, None] + weight

    def product(a: np.ndarray, b: np.ndarray) -> float:
        return float((pairs * np.sign(a[:, None] - a) * np.sign(b[:, None] - b)).sum())

    for v, tau in zip(values, TopK(k).directed(values, y)[0], strict=True):
        scale = product(v, v) * product(y, y)
        if v.min() < v.max():
            assert tau == pytest.approx(product(v, y) / np.sqrt(scale) if scale > 0 else 0.0, abs=1e-10)


def test_only_the_top_counts():
    y = np.arange(20.0)
    bottom, top = y.copy(), y.copy()
    bottom[:8] = bottom[:8][::-1]
    top[-8:] = top[-8:][::-1]
    found = TopK(5).fitness(np.array([bottom, top]), y)
    assert found[0] == 1.0
    assert found[1] < 0.7
    assert TopK(5).report(Scores.of(bottom), y)["topk"] == 1.0


# ---- lower bounds ----------------------------------------------------------------------------------------


def on_copies(name: str, x: np.ndarray, y: np.ndarray, times: np.ndarray) -> float:
    x, y = np.repeat(x, times), np.repeat(y, times)
    if x.min() == x.max() or y.min() == y.max():
        return 0.0
    agree: dict[str, Any] = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}
    return float(agree.get(name, stats.pearsonr)(x, y).statistic)


@given(st.integers(0, 2**32 - 1), st.sampled_from(BOUNDED), st.booleans(), st.sampled_from([0.05, 0.2, 0.5]))
def test_a_bound_is_the_quantile_over_real_copies_of_the_rows(
    seed: int, name: str, ties: bool, quantile: float
):
    values, y = some(9, 3, seed, ties)
    objective = LowerBound(OBJECTIVES[name], 40, quantile, seed)
    times = draws(9, 40, seed)
    np.testing.assert_array_equal(times.sum(axis=0), 9)
    for v, fitness in zip(values, objective.fitness(values, y), strict=True):
        whole = on_copies(name, v, y, np.ones(9, int)) if y.min() < y.max() else np.nan
        if v.min() == v.max() or y.min() == y.max():
            assert np.isnan(fitness)
            continue
        if abs(whole) < 1e-9:  # which direction it has is a matter of rounding
            continue
        found = sorted(np.sign(whole) * on_copies(name, v, y, times[:, b]) for b in range(40))
        bound = max(found[int(np.ceil(quantile * 40)) - 1], 0.0)
        assert fitness == pytest.approx(bound**2 if objective.kind == "fit" else bound, abs=1e-9)


def test_luck_is_seen_through():
    """The best of many random formulas on few labels has a high correlation, and a low bound."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=25)
    lucky = rng.normal(size=(500, 25))
    lucky = lucky[np.argmax(OBJECTIVES["spearman"].fitness(lucky, y))]
    plain, bound = OBJECTIVES["spearman"].fitness(lucky[None], y)[0], LowerBound(OBJECTIVES["spearman"])
    assert plain > 0.5
    assert bound.fitness(lucky[None], y)[0] < plain - 0.15
    assert bound.fitness(y[None], y)[0] == 1.0


def test_classes_final_form_and_report_are_those_of_the_objective():
    values, y = some(ties=True)
    for name in BOUNDED:
        plain, bound = OBJECTIVES[name], LowerBound(OBJECTIVES[name], 30)
        assert bound.report(Scores.of(values[0]), y) == plain.report(Scores.of(values[0]), y)
        assert bound.finish(X, values[0], y) == plain.finish(X, values[0], y)
        ours, theirs = bound.judged(values, y)[1], plain.judged(values, y)[1]
        assert (
            len(np.unique(np.stack([ours, theirs]), axis=1).T)
            == len(np.unique(ours))
            == len(np.unique(theirs))
        )


def test_settings_of_bounds_are_checked():
    spearman = OBJECTIVES["spearman"]
    for make, why in (
        (lambda: LowerBound(TopK(3)), "no lower bound of 'topk:3'; of these: spearman, kendall"),
        (lambda: LowerBound(spearman, 5), "resamples 5: from 20"),
        (lambda: LowerBound(spearman, 50, 0.01), "at least one resample below it"),
        (lambda: LowerBound(spearman, 50, 0.6), "at most 0.5"),
        (lambda: TopK(0), "at least 1 row must count"),
    ):
        with pytest.raises(ConfigError, match=why):
            make()
    with pytest.raises(ConfigError, match="40000 rows are too many to resample"):
        LowerBound(spearman, 20).fitness(np.zeros((1, 40_000)), np.arange(40_000.0))


# ---- by name ---------------------------------------------------------------------------------------------


def test_names_read_back():
    for objective in (TopK(7), LowerBound(OBJECTIVES["kendall"], 50, 0.25), *OBJECTIVES.values()):
        found = find_objective(objective.name)
        assert type(found) is type(objective)
        assert (found.name, found.kind, found.metric) == (objective.name, objective.kind, objective.metric)
    assert find_objective("lower:r2").name == "lower:r2:0.1:200"
    for name in ("topk:3:4", "lower", "lower:nothing", "several", "", "topk5"):
        with pytest.raises(UnknownName, match="topk:K, lower:NAME"):
            find_objective(name)
    for name, why in (
        ("topk:x", "'x' is not a whole number"),
        ("topk:0", "k = 0"),
        ("lower:r2:high", "'high' is not a number"),
        ("lower:r2:0.1:1.5", "'1.5' is not a whole number"),
        ("lower:r2:nan", "quantile nan"),
        ("lower:topk:0.1", "no lower bound of 'topk'"),
    ):
        with pytest.raises(ConfigError, match=why):
            find_objective(name)


# ---- a user's function -----------------------------------------------------------------------------------


def test_a_function_sees_the_better_direction_or_the_best_line():
    values, y = some()
    rank = Custom(lambda v, t: stats.spearmanr(v, t).statistic)
    assert rank.name == "custom"
    plain = OBJECTIVES["spearman"]
    raw = plain.fitness(values, y)
    np.testing.assert_allclose(rank.fitness(values, y), 0.5 * (1 + raw / (1 + raw)))
    np.testing.assert_array_equal(rank.judged(values, y)[1], plain.judged(values, y)[1])
    assert [rank.line(v, y) for v in values] == [plain.line(v, y) for v in values]
    near = Custom(lambda p, t: -np.mean(np.abs(p - t)), kind="fit", name="mae")
    slope, offset = OBJECTIVES["r2"].line(values[0], y)
    error = np.mean(np.abs(slope * values[0] + offset - y))
    assert near.fitness(values[:1], y)[0] == pytest.approx(0.5 * (1 - error / (1 + error)))
    assert near.report(Scores.of(slope * values[0] + offset), y)["mae"] == pytest.approx(-error)
    bounded = Custom(lambda v, t: float(v.argmax() == t.argmax()), bounded=True)
    assert set(bounded.fitness(np.vstack([y, -y, values]), y)) <= {0.0, 1.0}
    assert bounded.fitness(-y[None], y)[0] == 1.0


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_unbounded_numbers_keep_their_order(a: float, b: float):
    y = np.arange(3.0)
    low, high = (Custom(lambda v, t, c=c: c).fitness(y[None], y)[0] for c in sorted((a, b)))
    assert 0.0 <= low <= high <= 1.0


def test_classes_of_predictions_are_lines():
    values, y = some()
    judge = Custom(of_means, kind="fit")
    codes = judge.judged(np.vstack([values, 3.0 * values - 2.0, -values]), y)[1]
    assert len(set(codes.tolist())) == 8


def test_a_function_that_fails_says_so():
    y = np.arange(4.0)

    def broken(values: np.ndarray, target: np.ndarray) -> float:
        return float(values[17])

    for function, why in (
        (broken, r"objective 'broken' raised IndexError: .*; it is called with two arrays of shape \(4,\)"),
        (lambda v, t: v, "objective 'custom' returned ndarray .*; it must return one number"),
        (lambda v, t: None, "returned NoneType None; it must return one number"),
        (lambda v, t: True, "returned bool True"),
        (lambda v, t: 1j, "returned complex"),
    ):
        with pytest.raises(ConfigError, match=why):
            Custom(function).fitness(y[None], y)
    with pytest.raises(ConfigError, match=r"returned 2\.0, bounded=True promises 0 to 1"):
        Custom(lambda v, t: 2.0, bounded=True).fitness(y[None], y)
    assert np.isnan(Custom(lambda v, t: float("inf")).fitness(y[None], y)).all()
    assert np.isfinite(Custom(lambda v, t: np.float32(1)).fitness(y[None], y)).all()
    for make, why in (
        (lambda: Custom(3), "3 is not a function"),  # type: ignore[arg-type]
        (lambda: Custom(broken, kind="other"), "kind 'other' is neither"),  # type: ignore[arg-type]
        (lambda: Custom(broken, name="r2"), "'r2' is no identifier or taken"),
    ):
        with pytest.raises(ConfigError, match=why):
            make()


def test_a_function_cannot_change_what_it_sees():
    def spoil(values: np.ndarray, target: np.ndarray) -> float:
        values[:] = 0.0
        return 1.0

    values = np.arange(6.0).reshape(2, 3)
    Custom(spoil).fitness(values, np.arange(3.0))
    np.testing.assert_array_equal(values, np.arange(6.0).reshape(2, 3))


# ---- several problems ------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from(["spearman", "kendall", "pearson", "topk"]))
def test_one_direction_for_all_problems(seed: int, name: str):
    values, y = some(seed=seed)
    inner = OBJECTIVES[name]
    rows = [np.flatnonzero(p == PARTS) for p in "abc"]
    r = np.array([[inner.signed(v[k], y[k]) for k in rows] for v in values])
    expected = np.maximum(np.maximum(r.min(axis=1), (-r).min(axis=1)), 0.0)
    judge = Several(inner, PARTS)
    np.testing.assert_allclose(judge.fitness(values, y), expected, atol=1e-12)
    for v, fitness in zip(values, expected, strict=True):
        slope, _ = judge.line(v, y)
        if fitness > 1e-9:
            assert judge.report(Scores.of(slope * v), y)["worst"] == pytest.approx(fitness)


def test_problems_that_disagree_about_the_direction_give_0():
    y = np.arange(24.0)
    values = np.where(PARTS == "a", -y, y)[None]
    judge = Several(OBJECTIVES["spearman"], PARTS)
    assert judge.fitness(values, y)[0] == 0.0
    assert judge.fitness(y[None], y)[0] == 1.0
    assert judge.judged(values, y)[1] != judge.judged(y[None], y)[1]


def test_classes_are_orders_within_the_problems():
    values, y = some()
    judge = Several(OBJECTIVES["spearman"], PARTS)
    shifted = np.where(PARTS == "b", np.exp(values) + 50.0, values)
    np.testing.assert_array_equal(judge.judged(shifted, y)[1], judge.judged(values, y)[1])
    np.testing.assert_array_equal(judge.judged(-shifted, y)[1], judge.judged(values, y)[1])
    assert len(set(judge.judged(values, y)[1].tolist())) == len(values)


@given(st.integers(0, 2**32 - 1))
def test_least_squares_over_problems_judges_one_line(seed: int):
    values, y = some(seed=seed)
    judge = Several(OBJECTIVES["r2"], PARTS)
    for v, fitness in zip(values, judge.fitness(values, y), strict=True):
        slope, offset = np.polyfit(v, y, 1)
        residual = (slope * v + offset - y) ** 2
        r2 = [1 - residual[k].sum() / ((y[k] - y[k].mean()) ** 2).sum() for k in (p == PARTS for p in "abc")]
        assert fitness == pytest.approx(max(min(r2), 0.0), abs=1e-9)
        report = judge.report(Scores.of(slope * v + offset), y)
        assert report["worst"] == pytest.approx(min(r2))
        assert judge.line(v, y) == pytest.approx((slope, offset))


def test_parts_are_checked():
    spearman, y = OBJECTIVES["spearman"], np.arange(6.0)
    with pytest.raises(ConfigError, match="all rows belong to one"):
        Several(spearman, np.zeros(6)).fitness(y[None], y)
    with pytest.raises(ConfigError, match="problem b has 2 rows; at least 3"):
        Several(spearman, np.array(list("aaaabb"))).fitness(y[None], y)
    with pytest.raises(ShapeMismatch, match=r"parts of 6 rows but 5 targets; .* with on\(\)"):
        Several(spearman, np.array(list("aaabbb"))).fitness(y[None, :5], y[:5])
    with pytest.raises(ShapeMismatch, match="one label for every row"):
        Several(spearman, np.zeros((2, 3)))
    for inner in (Custom(of_means), LowerBound(OBJECTIVES["r2"])):
        with pytest.raises(ConfigError, match="cannot be taken over several problems"):
            Several(inner, np.zeros(6))
