"""The problems: formulas against other spellings of them, ranges, the draw, and what counts as recovery."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.problems import (
    DRAW_SEED,
    DRAWN,
    FEYNMAN,
    KNOWN,
    PROBLEMS,
    TOLERANCE,
    WIDER,
    Problem,
    draw,
    evaluated,
    r2,
    ranges,
)

seeds = st.integers(0, 2**31)
problems = st.sampled_from(sorted(PROBLEMS))
everything = [*FEYNMAN.values(), *KNOWN]


def test_nineteen_problems_of_known_names() -> None:
    names = [
        "Nguyen-5",
        "Nguyen-7",
        "Keijzer-4",
        "Korns-like",
        "Feynman I.6.2",
        "Feynman I.12.2",
        "Feynman I.29.16",
        "Feynman II.11.28",
        "Friedman-1",
    ]
    assert [one.name for one in KNOWN] == names
    assert len(PROBLEMS) == 19


def test_the_draw_is_what_the_seed_gives() -> None:
    assert tuple(f"Feynman {name}" for name in draw(DRAW_SEED)) == tuple(one.name for one in DRAWN)


def test_drawn_are_other_problems_of_two_to_six_columns() -> None:
    assert not {one.name for one in DRAWN} & {one.name for one in KNOWN}
    assert len(FEYNMAN) == 97
    assert all(2 <= len(one.ranges) <= 6 for one in FEYNMAN.values())


@pytest.mark.parametrize("problem", everything, ids=lambda one: one.name)
def test_formula_uses_its_columns_and_has_values_on_its_ranges(problem: Problem) -> None:
    tree = ast.parse(problem.formula, mode="eval")
    called = {one.func for one in ast.walk(tree) if isinstance(one, ast.Call)}
    used = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and one not in called}
    columns = {name for name, _, _ in problem.ranges}
    spare = {"Korns-like": {"x0", "x2"}, "Friedman-1": {"x6", "x7", "x8", "x9", "x10"}}
    assert used - {"pi"} == columns - spare.get(problem.name, set())
    assert all(low < high for _, low, high in problem.ranges)
    assert len(problem.drawn(np.random.default_rng(0), 500).y) == 500  # all finite
    assert len(problem.drawn(np.random.default_rng(0), 500, WIDER).y) > 400


WRITTEN: dict[str, Callable[..., Any]] = {  # by hand, apart from the texts
    "Nguyen-5": lambda x: np.sin(x * x) * np.cos(x) - 1,
    "Nguyen-7": lambda x: np.log1p(x) + np.log1p(x * x),
    "Keijzer-4": lambda x: (
        x**3 * np.exp(-x) * np.sin(2 * x) / 2 * (-(1 - np.sin(x) ** 2 * np.cos(x)))  # sin cos = sin(2x) / 2
    ),
    "Korns-like": lambda x0, x1, x2, x3, x4: 0.23 + 14.2 / 3 * (x1 / x4 + x3 / x4),
    "Feynman I.6.2": lambda sigma, theta: (
        np.exp(-((theta / sigma) ** 2) / 2 - np.log(sigma)) / 2.5066282746310002
    ),
    "Feynman I.12.2": lambda q1, q2, epsilon, r: q1 * q2 / (4 * np.pi * epsilon * r * r),
    "Feynman I.29.16": lambda x1, x2, a, b: np.hypot(
        x1 * np.cos(a) - x2 * np.cos(b), x1 * np.sin(a) - x2 * np.sin(b)
    ),
    "Feynman II.11.28": lambda n, alpha: (3 + 2 * n * alpha) / (3 - n * alpha),
    "Friedman-1": lambda *x: 10 * np.sin(np.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4],
}


@pytest.mark.parametrize("problem", KNOWN, ids=lambda one: one.name)
def test_known_formulas_are_what_is_published(problem: Problem) -> None:
    rows = problem.drawn(np.random.default_rng(1), 300)
    np.testing.assert_allclose(WRITTEN[problem.name](*rows.X.T), rows.y, rtol=1e-12, atol=1e-12)


@given(problems, seeds)
def test_rows_lie_in_the_ranges_and_belong_to_the_seed(name: str, seed: int) -> None:
    problem = PROBLEMS[name]
    train, test, wide = problem.data(seed, 50)
    low, high = (np.array([one[k] for one in problem.ranges]) for k in (1, 2))
    more = WIDER / 2 * (high - low)
    for rows, least, most in ((train, low, high), (test, low, high), (wide, low - more, high + more)):
        assert (np.clip(rows.X, least, most) == rows.X).all()
    again = problem.data(seed, 50)[0]
    assert (again.X == train.X).all()
    assert (again.y == train.y).all()
    assert not np.isin(train.X, test.X).all(axis=1).any()
    np.testing.assert_array_equal(problem.truth(test.X), test.y)  # no noise on rows that judge


def test_the_wider_ranges_are_really_wider() -> None:
    wide = PROBLEMS["Nguyen-5"].data(0)[2]
    assert wide.X.min() < -1.2
    assert wide.X.max() > 1.2


def test_only_friedman_has_noise_and_only_to_learn_from() -> None:
    for problem in PROBLEMS.values():
        train, _, _ = problem.data(3, 400)
        off = np.std(train.y - problem.truth(train.X))
        assert off == pytest.approx(1, abs=0.15) if problem.name == "Friedman-1" else off == 0


@given(st.sampled_from(sorted(set(PROBLEMS) - {"Friedman-1"})), seeds, st.integers(0, 10**6))
def test_recovered_is_to_be_right_on_every_row(name: str, seed: int, place: int) -> None:
    problem = PROBLEMS[name]
    wide = problem.data(seed, 40)[2]
    assert problem.recovered(wide.y * (1 + TOLERANCE / 2), wide)
    largest = np.argsort(-np.abs(wide.y))  # a value far below the others is judged by their scale
    wrong, k = wide.y.copy(), largest[place % 5]
    wrong[k] *= 1 + 2 * TOLERANCE
    assert not problem.recovered(wrong, wide)
    wrong[k] = np.nan
    assert not problem.recovered(wrong, wide)
    assert problem.error(wrong, wide) == np.inf


def test_friedman_counts_as_recovered_in_its_form_but_not_by_a_polynomial() -> None:
    problem = PROBLEMS["Friedman-1"]
    for seed in range(5):
        train, _, wide = problem.data(seed)

        def parts(X: np.ndarray) -> np.ndarray:
            one = np.ones(len(X))
            return np.stack(
                [one, np.sin(np.pi * X[:, 0] * X[:, 1]), X[:, 2], X[:, 2] ** 2, X[:, 3], X[:, 4]], 1
            )

        def powers(X: np.ndarray) -> np.ndarray:
            p = X[:, 0] * X[:, 1]
            return np.stack([*(p**k for k in range(4)), X[:, 2], X[:, 2] ** 2, X[:, 3], X[:, 4]], 1)

        for made, right in ((parts, True), (powers, False)):
            constants = np.linalg.lstsq(made(train.X), train.y, rcond=None)[0]
            assert problem.recovered(made(wide.X) @ constants, wide) == right, (seed, right)


def test_r2() -> None:
    y = np.array([1.0, 2.0, 4.0])
    assert r2(y, y) == 1
    assert r2(np.full(3, y.mean()), y) == 0
    assert r2(np.array([1, np.inf, 4]), y) == -np.inf


def test_ranges_are_read_in_order() -> None:
    assert ranges("a b 1 5, c -0.5 2") == (("a", 1, 5), ("b", 1, 5), ("c", -0.5, 2))


def test_a_formula_is_nothing_but_a_formula() -> None:
    for text in ("__import__('os')", "x if x else 1", "(x, 1)", "'x'"):
        with pytest.raises((ValueError, KeyError)):
            evaluated(ast.parse(text, mode="eval").body, {"x": 1.0})
