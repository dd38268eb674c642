"""The choice of the winner among final forms."""

import numpy as np
import pytest

from proxygraph.finish import SEEN, Finalist, choose, measured
from proxygraph.infix import parse
from proxygraph.objective import OBJECTIVES
from proxygraph.problem import Problem, Split
from proxygraph.table import StatTable

LEAVES = StatTable.from_columns(None, {name: [1.0, 2.0] for name in "abcde"}).leaves


def finalist(text: str, train: float | None, validation: float | None, seen: float, invalid: int = 0):
    numbers = {"train": train, "validation": validation, "seen": seen}
    reports = {part: {"spearman": v, "r2": v, "invalid": invalid} for part, v in numbers.items()}
    return Finalist(parse(text, LEAVES), reports)


def test_the_mean_of_a_size_decides_its_size_and_all_rows_seen_its_member():
    lucky = finalist("a", 0.4, 0.9, 0.85)
    others = [finalist("b", 0.4, 0.5, 0.45), finalist("c", 0.4, 0.4, 0.42)]
    steady = [finalist("a + b", 0.8, 0.78, 0.79), finalist("a + c", 0.82, 0.76, 0.81)]
    larger = [finalist("a + b + c", 0.7, 0.7, 0.7), finalist("a + b + c + d", 0.7, 0.7, 0.7)]
    best, front = choose([lucky, *others, *steady, *larger], OBJECTIVES["spearman"])
    assert best is steady[1]
    assert [one.dag.size for one in front] == [1, 3]
    assert choose([lucky, *others, *steady, larger[0]], OBJECTIVES["spearman"])[0] is lucky  # three sizes


def test_least_squares_take_the_best_on_validation():
    lucky = finalist("a", 0.4, 0.9, 0.5)
    steady = [finalist("a + b", 0.8, 0.78, 0.79), finalist("a + c", 0.82, 0.76, 0.81)]
    best, front = choose([lucky, finalist("b", 0.4, 0.5, 0.45), *steady], OBJECTIVES["r2"])
    assert best is lucky
    assert best in front


def test_who_is_undefined_on_more_rows_loses_and_lifts_no_size():
    gaps = finalist("a + b", 0.9, 0.95, 0.9, invalid=2)
    flat = finalist("a + c", 0.1, None, 0.1)
    plain = finalist("a", 0.5, 0.3, 0.4)
    best, front = choose([gaps, flat, plain], OBJECTIVES["spearman"])
    assert best is plain
    assert gaps in front  # by its training rows


def test_rows_of_the_search_without_a_value_count_too():
    gaps = finalist("a", 0.9, 0.9, 0.95)
    gaps.reports["seen"]["invalid"] = 30
    plain = finalist("b", 0.7, 0.7, 0.7)
    assert choose([gaps, plain], OBJECTIVES["spearman"])[0] is plain


def test_a_tie_goes_to_the_smaller_formula():
    one, two = finalist("a", 0.5, 0.6, 0.6), finalist("a + b", 0.5, 0.6, 0.6)
    assert choose([two, one], OBJECTIVES["spearman"])[0] is one


def test_seen_is_train_and_validation_together():
    rng = np.random.default_rng(0)
    table = StatTable.from_columns(None, {"a": rng.normal(size=30), "b": rng.normal(size=30)})
    target = table.columns["a"] + rng.normal(size=30)
    problem = Problem("p", table, target, "y", table.rows, "spearman")
    split = Split(np.arange(12), np.arange(12, 20), np.arange(20, 30))
    judge = OBJECTIVES["spearman"]
    found = measured(parse("a + b", table.leaves), judge, problem, split, SEEN)
    whole = Split(np.arange(20), split.validation, split.test)
    expected = measured(parse("a + b", table.leaves), judge, problem, whole, ("train",))
    assert found.reports["seen"]["spearman"] == pytest.approx(expected.reports["train"]["spearman"])
    assert set(found.to_json()) & {"train", "validation", "test", "seen"} == {"train", "validation"}
