"""The rules of choice that are compared, and what they are given."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import choice
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
    found = choice.hall(folders[0], Problem.load(tmp_path / "p.safetensors"))
    assert found["train"].min() >= 0.0  # turned the right way round
    assert found["seen"] == pytest.approx(found["seen"].clip(-1, 1))
