"""Several problems as one."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from proxygraph.conclude import announce
from proxygraph.errors import ConfigError
from proxygraph.evolve import evolve
from proxygraph.joint import joint
from proxygraph.objective import Several, find_objective
from proxygraph.problem import Problem
from proxygraph.report.runs import read_run
from proxygraph.run import RunFolder
from proxygraph.scores import Scores
from proxygraph.table import StatTable


def make(name: str, n: int = 30, columns: str = "abc", seed: int = 0, also: str = "a") -> Problem:
    """A problem whose target grows with a, and as much with another column."""
    rng = np.random.default_rng(seed)
    values = {column: rng.uniform(1, 2, n) for column in columns}
    target = values["a"] + values[also] + 0.1 * rng.normal(size=n)
    rows = [str(i) for i in range(n)]
    return Problem(name, StatTable.from_columns(rows, values), target, "y", tuple(rows), "spearman")


@given(st.integers(0, 100), st.integers(14, 40), st.integers(14, 40), st.integers(5, 8))
def test_every_problem_is_split_by_itself(seed: int, n: int, m: int, n_train: int):
    one, two = make("one", n), make("two", m)
    both = joint([one, two])
    split = both.split(seed, n_train, 3)
    for problem, start, alone in ((one, 0, one.split(seed, n_train, 3)), (two, n, two.split(seed))):
        for part in ("train", "validation", "test"):
            rows = getattr(split, part)
            mine = rows[both.parts[rows] == problem.name]
            np.testing.assert_array_equal(mine - start, getattr(alone, part))


def test_rows_targets_and_common_leaves():
    one, two = make("one", columns="abc"), make("two", columns="cad", seed=1)
    both = joint([one, two])
    assert sorted(both.table.leaves) == ["a", "c"]
    assert both.table.rows[0] == "one:0"
    assert both.table.rows[30] == "two:0"
    np.testing.assert_array_equal(both.table.columns["c"][30:], two.table.columns["c"])
    np.testing.assert_array_equal(both.target, [*one.target, *two.target])
    assert both.digest != joint([two, one]).digest


def test_what_cannot_be_joined(tmp_path):
    with pytest.raises(ConfigError, match="two or more of different names can be joined; rename one file"):
        joint([make("one"), make("one", seed=1)])
    with pytest.raises(ConfigError, match="two or more of different names"):
        joint([make("one")])
    with pytest.raises(ConfigError, match="no column or statistic in common"):
        joint([make("one", columns="a"), _renamed(make("two", columns="a"))])
    r2 = make("two")
    other = Problem(r2.name, r2.table, r2.target, "y", r2.groups, "r2")
    with pytest.raises(ConfigError, match="objectives differ: spearman, r2; choose one for all"):
        joint([make("one"), other])
    assert joint([make("one"), other], "kendall").objective == "kendall"
    with pytest.raises(ConfigError, match="a file holds one problem; save one, two"):
        joint([make("one"), make("two")]).save(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def _renamed(problem: Problem) -> Problem:
    table = StatTable.from_columns(list(problem.table.rows), {"z": problem.table.columns["a"]})
    return Problem(problem.name, table, problem.target, "y", problem.groups, problem.objective)


def test_an_objective_that_is_given_is_that_of_all(tmp_path):
    make("one").save(tmp_path / "one.safetensors")
    two = make("two", seed=1)
    Problem("two", two.table, two.target, "y", two.groups, "r2").save(tmp_path / "two.safetensors")
    sources = str(tmp_path / "one.safetensors"), [str(tmp_path / "two.safetensors")]
    given = {"generations": 1, "population": 20, "threads": 1, "out": tmp_path / "run", "quiet": True}
    with pytest.raises(ConfigError, match="objectives differ"):
        evolve(*sources, **given)
    evolve(*sources, objective="spearman", **given)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["objective"] == "least:spearman"


def test_names_of_problems_are_no_markup(tmp_path, monkeypatch):
    monkeypatch.setattr("proxygraph.conclude.result_table", lambda result, metric: "")
    screen = Console(file=io.StringIO(), width=200)
    result = {
        "best": {"test": {"r2 in a[bold]": 0.5, "r2 in [/b]": None}, "infix": "a", "latex": "a"},
        "problem": {"tabular": True},
        "search": {"evaluated": 1, "seconds": 1.0, "duplicates": {}},
    }
    announce(screen, result, None, RunFolder(tmp_path), "worst")
    printed = screen.file.getvalue()
    assert "r2 in a[bold]: 0.500 (test)" in printed
    assert "r2 in [/b]: undefined (test)" in printed


def test_the_numbers_of_every_problem_are_reported():
    both = joint([make("one"), make("two", n=20, seed=1)])
    judge = Several(find_objective("spearman"), both.parts)
    values = np.where(both.parts == "one", both.target, both.table.columns["b"])
    report = judge.report(Scores.of(values), both.target)
    assert report["spearman in one"] == pytest.approx(1.0)
    assert report["worst"] == report["spearman in two"] < 0.9
    undefined = judge.report(Scores.of(np.where(both.parts == "one", 1.0, both.target)), both.target)
    assert (undefined["worst"], undefined["spearman in one"]) == (None, None)


def test_a_search_over_two_problems(tmp_path):
    # a alone is good on both; b, or a + b, on one of them only
    make("one", n=60, also="b").save(tmp_path / "one.safetensors")
    make("two", n=60, seed=1, also="c").save(tmp_path / "two.safetensors")
    out = tmp_path / "run"
    numbers = {"generations": 6, "population": 60, "threads": 1, "quiet": True}
    evolve(
        str(tmp_path / "one.safetensors"), [str(tmp_path / "two.safetensors")], out=out, max_size=3, **numbers
    )
    result = json.loads((out / "result.json").read_text())
    assert result["problem"]["name"] == "one+two"
    assert result["problem"]["rows"] == {"train": 60, "validation": 30, "test": 30}
    assert result["objective"] == "least:spearman"
    best = result["best"]["test"]
    assert best["worst"] == min(best["spearman in one"], best["spearman in two"]) > 0.3
    assert "a" in result["best"]["infix"]
    assert read_run(out).metric == "worst"


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (make("small", n=10, seed=1), "problem 'small' has 2 validation rows of this split"),
        (make("flat", n=40, seed=1), "is 1.0 on all 10 validation rows of this split of problem 'flat'"),
    ],
)
def test_a_problem_that_could_not_choose_is_refused_before_anything_is_written(tmp_path, other, match):
    if other.name == "flat":
        target = other.target.copy()
        target[other.split(0).validation] = 1.0
        other = Problem("flat", other.table, target, "y", other.groups, "spearman")
    make("one").save(tmp_path / "one.safetensors")
    other.save(tmp_path / f"{other.name}.safetensors")
    sources = str(tmp_path / "one.safetensors"), [str(tmp_path / f"{other.name}.safetensors")]
    with pytest.raises(ConfigError, match=match):
        evolve(*sources, generations=1, population=40, threads=1, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
