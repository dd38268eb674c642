"""What the ablation changes, and what it averages."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from proxygraph.evolve import evolve
from proxygraph.leaves import STATISTICS
from proxygraph.problem import Problem
from proxygraph.table import StatTable

LEAVES = {name: leaf for name, leaf in STATISTICS.items() if leaf.cost != "second-order"}


def test_every_change_leaves_other_leaves() -> None:
    names = {name: frozenset(ablation.kept(LEAVES, change)) for name, change in ablation.CHANGES.items()}
    assert names[ablation.BASE] == set(LEAVES)
    assert len(set(names.values())) == len(names)
    assert {LEAVES[name].axis for name in names["element and activation leaves alone"]} == {
        "element",
        "activation",
    }
    left = names["no leaf that needs a gradient"]
    assert not [name for name in left if LEAVES[name].cost == "backward"]


def test_ranks_are_averaged_and_the_undefined_rank_last() -> None:
    target = np.arange(6.0)
    assert ablation.joined([target**3], target) == pytest.approx(1.0)
    assert ablation.joined([target, -target + [0, 0, 0, 0, 0, 9]], target) > 0.5
    holes = target.copy()
    holes[0] = np.nan  # the worst network: that it has no value does no harm
    assert ablation.joined([holes], target) == pytest.approx(1.0)
    holes[5] = np.nan
    assert ablation.joined([holes], target) < 0.5


def test_scores_of_a_run_are_joined_with_those_of_a_draw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(1, 2, 90) for name in "abc"}
    target = columns["a"] * columns["b"] + 0.05 * rng.normal(size=90)
    noise = rng.normal(size=(2, 90, 3)) * 0.3
    names, problems = tuple(map(str, range(90))), list[Problem]()
    for one in noise:
        noisy = {name: columns[name] + one[:, i] for i, name in enumerate("abc")}
        problems.append(Problem("p", StatTable.from_columns(names, noisy), target, "y", names, "spearman"))
    problems[0].save(tmp_path / "p.safetensors")
    source, out = str(tmp_path / "p.safetensors"), tmp_path / "run"
    evolve(source, seed=0, train=20, validation=10, evaluations=500, population=40, out=out, quiet=True)
    found = ablation.joined_rhos(out, problems[0], problems[1:], 0)
    alone = ablation.joined_rhos(out, problems[0], problems[:1], 0)
    assert found["mean of 2 draws"] > found["another draw of weights and pictures"] + 0.02
    assert alone["mean of 2 draws"] == alone["another draw of weights and pictures"]
    assert found["formula and forest"] == alone["formula and forest"] > 0.3


def test_gains_are_taken_seed_by_seed() -> None:
    one = ablation.change_row("x", "leaves", 50, [0.8, 0.7], [0.7, 0.7], 10)
    assert one["gain"] == pytest.approx(0.05)
    assert one["least"] == 0.7
    assert one["runs"] == 2
