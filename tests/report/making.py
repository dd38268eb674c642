"""Folders of runs for the tests of reports, made without a search: chosen formulas, real numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proxygraph.dag import Dag
from proxygraph.finish import PARTS, baselines, measured, row_scores
from proxygraph.infix import parse
from proxygraph.objective import find_objective
from proxygraph.problem import Problem
from proxygraph.run import RunFolder, csv_text, environment
from proxygraph.table import StatTable
from tests.strategies import random_table

COUNTS = {"proposed": 800, "evaluated": 500, "invalid": 40, "structural": 200, "algebraic": 5, "numeric": 0}
NETWORK_FORMULAS = (
    "sum(l2(w))",
    "sum(log(l1(g)))",
    "mean(l2(w)) / (1.2345678 + sum(std(a)))",
    "sum(mean((w - mean(w)) / (std(w) + 0.5)) * l2(g)) - log(max(l1(g * w)))",
)


def networks(n: int = 40) -> Problem:
    """Return a ranking problem on made-up networks."""
    rng = np.random.default_rng(5)
    table = random_table(rng, n_rows=n)
    target = rng.normal(size=n)
    return Problem("made-up", table, target, "miou", tuple(table.rows))


def columns(names: Sequence[str], n: int = 60, name: str = "made-up", target: str = "y") -> Problem:
    """Return a regression problem, y = 2 a b / c + noise on the first three columns."""
    rng = np.random.default_rng(6)
    x = rng.uniform(1.0, 3.0, (n, len(names)))
    y = 2.0 * x[:, 0] * x[:, 1] / x[:, 2] + 0.01 * rng.normal(size=n)
    rows = [f"row {i}" for i in range(n)]
    table = StatTable.from_columns(rows, dict(zip(names, x.T, strict=True)))
    return Problem(name, table, y, target, tuple(rows), objective="r2")


def make_run(path: Path, problem: Problem, formulas: Sequence[str | Dag], best: int = -1) -> Path:
    """Write the folder of a run that found these formulas."""
    judge, split = find_objective(problem.objective), problem.split(0)
    leaves = {**problem.table.leaves}
    dags = [parse(f, leaves) if isinstance(f, str) else f for f in formulas]
    front = sorted(
        (measured(dag, judge, problem, split, PARTS) for dag in dags), key=lambda one: one.dag.size
    )
    assert len({one.dag.size for one in front}) == len(front)
    compared = baselines(judge, problem, split)
    tabular = not problem.table.offsets
    result: dict[str, Any] = {
        "problem": {
            "name": problem.name,
            "target": problem.target_name,
            "tabular": tabular,
            "rows": {part: len(getattr(split, part)) for part in PARTS},
        },
        "objective": judge.name,
        "seed": 0,
        "best": front[best].to_json(),
        "front": [one.to_json() for one in front],
        "baselines": [{"name": name, **one.to_json()} for name, one in compared],
        "search": {
            "generations": 3,
            "seconds": 1.5,
            **{k: COUNTS[k] for k in ("proposed", "evaluated", "invalid")},
            "duplicates": {**{k: COUNTS[k] for k in ("structural", "algebraic", "numeric")}, "rank": 20},
        },
        "environment": environment(2),
    }
    path.mkdir(parents=True)
    folder = RunFolder(path)
    named: Mapping[str, Dag] = {f"size {one.dag.size}": one.dag for one in front} | {
        name: one.dag for name, one in compared
    }
    folder.write("config.json", json.dumps({"source": problem.name, "seed": 0, "limits": {"max_depth": 4}}))
    folder.write("result.json", json.dumps(result))
    folder.write("scores.csv", csv_text(row_scores(named, problem, split)))
    for k in range(3):
        counts = {name: n * (k + 1) // 3 for name, n in COUNTS.items()}
        folder.append(
            "journal.jsonl",
            {"generation": k + 1, "seconds": 0.5 * k, "best": 0.2 + 0.1 * k, **counts, "rank": 6 * k},
        )
    return path
