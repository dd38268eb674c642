"""Constants of finished formulas: polished, searched without derivatives, made simple."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph import constants
from proxygraph.constants import constants_of, likelihood, polished, searched, snapped, with_constants
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.infix import parse, text
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.objective import find_objective
from proxygraph.program import lower
from proxygraph.simple_numbers import is_simple, simple_numbers
from proxygraph.table import StatTable
from tests.strategies import dags, random_table

RNG = np.random.default_rng(0)
TABLE = StatTable.from_columns(None, {name: RNG.uniform(0.1, 3.0, 200) for name in "xyz"})
NOISE = RNG.normal(size=200)


def formula(source: str) -> Dag:
    return parse(source, TABLE.leaves)


def values(dag: Dag) -> np.ndarray:
    return ReferenceKernel(lower([dag]))(TABLE)[0]


def simple(dag: Dag, fitter: Fitter) -> Dag:
    """Snapped by likelihood, the rest fitted again after each."""

    def again(one: Dag, free: Sequence[bool]) -> Dag:
        return constants.refit(one, fitter, free)

    return snapped(dag, lambda one: likelihood(one, fitter), refit=again)


def recovered(start: str, true: str, noise: float = 0.0) -> Dag:
    """What the whole way gives: fitted up to a line, the line written out, fitted and snapped."""
    target = values(formula(true)) + noise * NOISE
    fitter, objective = Fitter(TABLE, target), find_objective("r2")
    dag = polished(formula(start), fitter)
    return simple(polished(objective.finish(dag, values(dag), target), fitter, line=False, starts=1), fitter)


# ---- structure and numbers ---------------------------------------------------------------------------------


@given(dags(max_ops=10))
def test_constants_taken_out_and_put_back_give_the_same_formula(dag: Dag) -> None:
    assert with_constants(dag, constants_of(dag)).key == dag.key


def test_an_exponent_is_no_constant_even_if_one_is_equal() -> None:
    dag = formula("2*x**2 + x")
    assert constants_of(dag).tolist() == [2.0]
    assert text(with_constants(dag, [3.0])) == "3 * x**2 + x"
    with pytest.raises(ShapeMismatch, match="1 constants, not 2"):
        with_constants(dag, [1.0, 2.0])


# ---- polished ----------------------------------------------------------------------------------------------


def test_many_starts_leave_a_local_minimum() -> None:
    fitter = Fitter(TABLE, values(formula("sin(5*x)")))
    near = polished(formula("sin(0.3*x)"), fitter, starts=1)
    far = polished(formula("sin(0.3*x)"), fitter, starts=64)
    assert likelihood(near, fitter, line=True) < likelihood(far, fitter, line=True)
    assert abs(constants_of(far)[0]) == pytest.approx(5.0)


def test_a_shared_constant_stays_one_and_the_seed_decides() -> None:
    fitter = Fitter(TABLE, values(formula("exp(-0.4*x) + y*exp(-0.4*z)")))
    dag = formula("exp(0.5*x) + y*exp(0.5*z)")
    found = polished(dag, fitter, seed=3)
    assert found.size == dag.size
    assert constants_of(found) == pytest.approx([-0.4])
    assert found == polished(dag, fitter, seed=3)


def test_what_cannot_be_better_is_given_back() -> None:
    dag = formula("exp(-0.4*x) + y")
    assert polished(dag, Fitter(TABLE, values(dag))) is dag
    with pytest.raises(ConfigError, match="starts 0"):
        polished(dag, Fitter(TABLE, NOISE), starts=0)


# ---- searched ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spearman", "kendall", "pearson"])
def test_rank_objectives_find_constants(name: str) -> None:
    objective, target = find_objective(name), values(formula("x + 1.7*y*y + 0.3*z"))
    evaluate = Population(TABLE)

    def fitness(v: np.ndarray) -> np.ndarray:
        return objective.fitness(v, target)

    start = formula("x + 0.2*y*y - 3.1*z")
    found = searched(start, evaluate, fitness, seed=1)
    before, after = (float(fitness(evaluate([one]))[0]) for one in (start, found))
    assert before < 0.9
    assert after > 0.9995
    assert found == searched(start, Population(TABLE, threads=2), fitness, seed=1)


def test_constants_on_the_element_axis_are_searched_too() -> None:
    table = random_table(np.random.default_rng(2), n_rows=40)
    evaluate = Population(table)
    target = evaluate([parse("sum(sum(tanh(3*w) + g*0.1))")])[0]

    def fitness(v: np.ndarray) -> np.ndarray:
        return find_objective("spearman").fitness(v, target)

    start = parse("sum(sum(tanh(0.1*w) + g*4.0))")
    before, after = (float(fitness(evaluate([d]))[0]) for d in (start, searched(start, evaluate, fitness)))
    assert before < after
    assert after > 0.99


def test_nothing_to_search_or_nothing_better_is_given_back() -> None:
    evaluate = Population(TABLE)
    for dag in (formula("x*y"), formula("x + 2*y")):
        assert searched(dag, evaluate, lambda v: np.zeros(len(v))) is dag


# ---- simple numbers ----------------------------------------------------------------------------------------


@given(st.integers(-400, 400).filter(bool), st.sampled_from([1.0, 2.0, 3.0, 4.0]))
def test_rationals_are_exact(n: int, d: float) -> None:
    if abs(n) <= 100 * d:
        assert n / d in simple_numbers(n / d * (1.0 + 1e-12))
        assert is_simple(n / d)


@pytest.mark.parametrize(
    "number",
    [
        2 * math.pi,
        math.pi / 2,
        math.pi,
        math.e,
        math.sqrt(2.0),
        1e-7,
        1e5,
        0.1,
        6.67e-11,
        4 * math.pi / 3,
        1 / (4 * math.pi),
        1 / math.sqrt(2 * math.pi),
        2 / 7,
        10.0,
        -24.3,
        0.0,
    ],
)
def test_well_known_numbers_are_met(number: float) -> None:
    assert is_simple(number)
    assert any(math.isclose(s, number, rel_tol=1e-15) for s in simple_numbers(number * (1.0 - 1e-9)))


@given(st.floats(1e-6, 1e6))
def test_simple_numbers_are_simple_and_few(c: float) -> None:
    found = simple_numbers(c)
    assert len(set(found)) == len(found) <= 40
    assert all(is_simple(s) for s in found)


def test_random_numbers_are_not_simple() -> None:
    assert not any(is_simple(c) for c in np.random.default_rng(0).normal(size=1000).tolist())


# ---- snapped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "true", "wanted"),
    [
        ("x*exp(-0.5*x)", "0.5*x*exp(-x/3) + 2", [-1 / 3, 0.5, 2.0]),
        ("sin(6*x)", "sin(6.283185307179586*x)", [2 * math.pi]),
        ("exp(-0.4*x*x)", "0.3989422804014327*exp(-x*x/2)", [1 / math.sqrt(2 * math.pi)]),
        ("y/(x + 2)", "1.57 + 24.3*y/(x + 0.1)", [0.1, 1.57, 24.3]),
        ("exp(0.8*x) + y", "exp(x) + y", []),
    ],
)
def test_exact_formulas_are_recovered_with_exact_constants(
    start: str, true: str, wanted: list[float]
) -> None:
    found = recovered(start, true)
    assert sorted(constants_of(found).tolist()) == wanted
    np.testing.assert_allclose(values(found), values(formula(true)), rtol=1e-14)


def test_odd_constants_keep_all_digits() -> None:
    found = recovered("x*exp(-0.5*x)", "0.7341268*x*exp(-x/3) + 2")
    assert sorted(constants_of(found).tolist()) == pytest.approx([-1 / 3, 0.7341268, 2.0], abs=1e-10)
    assert -1 / 3 in constants_of(found)
    assert 2.0 in constants_of(found)


def test_noise_does_not_hide_simple_constants_nor_is_the_fit_hurt() -> None:
    true = "0.5*x*exp(-x/3) + 2"
    target = values(formula(true)) + 0.01 * NOISE
    fitter = Fitter(TABLE, target)
    fit = polished(formula("0.4*x*exp(-0.4*x) + 1"), fitter, line=False)
    found = simple(fit, fitter)
    k = sum(map(is_simple, constants_of(found)))
    assert k >= 2
    assert likelihood(found, fitter) >= likelihood(fit, fitter) - k
    assert np.abs(values(found) - values(formula(true))).max() < 0.02


def test_a_constant_that_matters_is_not_given_up() -> None:
    dag = formula("exp(-0.4137*x)")
    fitter = Fitter(TABLE, values(dag))
    assert simple(dag, fitter) == dag
    near = formula("exp(-0.33333*x)")  # not a third: five digits are not nearly enough
    assert -1 / 3 not in constants_of(simple(near, Fitter(TABLE, values(near))))


def test_a_score_of_any_kind_serves() -> None:
    target = values(formula("x + 2*y"))
    score: Callable[[Dag], float] = lambda d: float(  # noqa: E731
        find_objective("spearman").fitness(values(d)[None], target)[0]
    )
    assert snapped(formula("x + 2.000013*y"), score, 1e-6) == snapped(formula("x + 2*y"), score)
    assert 2.000013 in constants_of(
        snapped(formula("x + 2.000013*y"), lambda d: -abs(constants_of(d).sum() - 2.000013), 0.0)
    )
    with pytest.raises(ConfigError, match="tolerance -1"):
        snapped(formula("x"), score, -1)
