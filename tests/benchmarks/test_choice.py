"""The rules of choice that are compared, and what they are given."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import choice
from proxygraph.errors import ConfigError
from proxygraph.evolve import evolve
from proxygraph.problem import Problem
from proxygraph.table import StatTable


def test_sizes_are_chosen_by_their_mean():
    found = {
        "size": np.array([1.0, 1.0, 3.0, 3.0, 5.0, 7.0]),
        "validation": np.array([0.9, 0.1, 0.7, 0.8, 0.6, 0.55]),
        "seen": np.array([0.95, 0.2, 0.7, 0.8, 0.85, 0.9]),
        "test": np.array([0.3, 0.3, 0.7, 0.8, 0.9, 0.6]),
    }
    assert choice.among_sizes(found, 1) == 3
    assert choice.among_sizes(found, 3) == 5
    assert choice.among_sizes(found, 4) == 0
    picks = {name: rule(found) for name, rule in choice.RULES.items()}
    assert list(picks.values()) == [0, 0, 3, 5, 4]


def test_runs_of_the_same_settings_are_averaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(1, 2, 60) for name in "abc"}
    target = columns["a"] * columns["b"] + 0.1 * rng.normal(size=60)
    table = StatTable.from_columns([str(i) for i in range(60)], columns)
    Problem("p", table, target, "y", table.rows, "spearman").save(tmp_path / "p.safetensors")
    folders = [tmp_path / f"run{seed}" for seed in (0, 1)]
    for seed, out in enumerate(folders):
        source, numbers = str(tmp_path / "p.safetensors"), {"train": 20, "validation": 10, "population": 40}
        evolve(source, seed=seed, evaluations=400, threads=1, out=out, quiet=True, **numbers)
    rows = choice.rows_of(Problem.load(tmp_path / "p.safetensors"), folders)
    assert [row["engine"] for row in rows] == list(choice.RULES)
    by_name = {row["engine"]: row for row in rows}
    assert {(row["labels"], row["runs"]) for row in rows} == {(30, 2)}
    assert max(row["mean"] for row in rows) == by_name["best on test"]["mean"] > 0.7
    other = Problem("p", table, -target, "y", table.rows, "spearman")
    with pytest.raises(ConfigError, match="a run on other data than p"):
        choice.hall(folders[0], other)


def test_what_is_undefined_is_never_turned_into_the_best(tmp_path: Path) -> None:
    # falls with the target on the training rows, constant on the others
    rng = np.random.default_rng(0)
    target = rng.permutation(40).astype(float)
    plain = Problem("p", StatTable.from_columns(None, {"x": target}), target, "y", tuple(map(str, range(40))))
    split = plain.split(0, 20, 10)
    x = np.zeros(40)
    x[split.train] = -target[split.train]
    table = StatTable.from_columns(None, {"x": x})
    problem = Problem("p", table, target, "y", plain.groups)
    settings = {"seed": 0, "train": 20, "validation": 10, "data": problem.digest}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "hall_of_fame.csv").write_text("formula\nx\n")
    found = choice.hall(tmp_path, problem)
    assert found["train"] == pytest.approx([1.0])
    assert found["validation"].tolist() == found["test"].tolist() == [-1.0]
