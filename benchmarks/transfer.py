"""Do formulas hold on networks of another kind? Every problem in turn is left out of a search on the others.

A search takes the worst of its problems (``evolve --also``); it sees half of each and its choice another
quarter (of the main problem 300 networks in all). Its winner is judged, unchanged, on all networks of the
problem left out; the last search has all problems and is judged on its
test rows. Beside it, unchanged too: the hand-made proxies, each with its published sign, and the formulas of
the protocol (``discover``), which saw labels of one problem only.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, row

# isort: split
import numpy as np

from benchmarks import discovery, handmade
from proxygraph.dag import Dag
from proxygraph.finish import exact_values
from proxygraph.infix import text
from proxygraph.problem import Problem, Report

UNIT = "Spearman, all networks of a problem no label of which was seen"
UNIT_TEST = "Spearman, test rows"
LABELS = 300
"""Of the main problem, where there are more."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the part to a command line."""
    parser.add_argument("sources", nargs="+", help="problems, two or more, as for proxygraph.evolve")
    parser.add_argument("--seeds", type=int, nargs="+", help="(0 1 2)")
    parser.add_argument("--evaluations", type=int, help="formulas that every search scores (300000)")
    parser.add_argument("--threads", type=int, default=2, help="of every search (2)")
    discovery.add_places(parser)


def rows(options: argparse.Namespace, report: Report) -> list[Row]:
    """Run what is missing of the searches and return the rows of the result."""
    kept = [discovery.kept_problem(source, options.work, report) for source in options.sources]
    problems = {problem.name: (problem, source) for problem, source in kept}
    found: list[Row] = []
    for left in [*problems, None]:
        names = [name for name in problems if name != left]
        runs = [
            _run(names, problems, seed, options)
            for seed in (options.seeds or ([0] if options.quick else discovery.SEEDS))
        ]
        if left is None:
            found += [_tested_row(runs, names, problems[name][0]) for name in names]
        else:
            found += _unseen_rows(runs, names, problems[left][0])
    return found + _protocol_rows(options, {name: problem for name, (problem, _) in problems.items()})


def _run(
    names: Sequence[str],
    problems: Mapping[str, tuple[Problem, str]],
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Return the result of a search on some problems, run unless it is there."""
    evaluations = options.evaluations or (5_000 if options.quick else discovery.EVALUATIONS)
    digests = "-".join(problems[name][0].digest[:6] for name in names)
    folder = options.work / ("quick-transfer" if options.quick else "transfer")
    out = folder / f"{'+'.join(names)}-{digests}-{seed}-{evaluations}"
    if not (out / "result.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["--seed", str(seed), "--evaluations", str(evaluations), "--threads", str(options.threads)]
        if shares := _shares(problems[names[0]][0]):
            command += ["--train", str(shares[0]), "--validation", str(shares[1])]
        for name in names[1:]:
            command += ["--also", problems[name][1]]
        discovery.searched(problems[names[0]][1], command, out)
    return discovery.read(out / "result.json") | {"seed": seed}


def _shares(problem: Problem) -> tuple[int, ...]:
    """Return how many rows of a main problem train and choose; nothing: the default."""
    return discovery.shares(LABELS) if problem.table.n_rows > 2 * LABELS else ()


def _row(name: str, values: Sequence[float | None], n_rows: int, unit: str, **about: Any) -> Row:
    known = [value for value in values if value is not None] or [float("nan")]
    return row(
        name,
        known,
        n_rows=n_rows,
        dtype="float64",
        unit=unit,
        mean=float(np.mean(known)),
        spearman=list(values),
        **about,
    )


def _tested_row(runs: Sequence[dict[str, Any]], names: Sequence[str], problem: Problem) -> Row:
    """Return how the formulas of a search on all problems do on the test rows of one."""
    name = problem.name
    key = f"spearman in {name}" if len(names) > 1 else "spearman"
    split = problem.split(runs[0]["seed"], *_shares(problem) if name == names[0] else ())
    return _row(
        "formula",
        [run["best"]["test"][key] for run in runs],
        len(split.test),
        UNIT_TEST,
        problem=name,
        searched_on=list(names),
        formulas=[run["best"]["infix"] for run in runs],
    )


def _unseen_rows(runs: Sequence[dict[str, Any]], names: Sequence[str], problem: Problem) -> list[Row]:
    """Return how a search does on a problem it did not see, and how the hand-made proxies do there."""
    every = np.arange(problem.table.n_rows)
    dags = [Dag.from_json(run["best"]["graph"]) for run in runs]
    found = [
        discovery.tested(exact_values(dag, problem.table, every), problem.target)["spearman"] for dag in dags
    ]
    about: dict[str, Any] = {"problem": problem.name, "searched_on": list(names)}
    rows = [
        _row("formula", found, len(every), UNIT, **about, formulas=[run["best"]["infix"] for run in runs])
    ]
    for name, values in handmade.scores_of(problem.table).items():
        rho = discovery.tested(values, problem.target)["spearman"]
        rows.append(_row(name, [rho], len(every), UNIT, problem=problem.name, searched_on=[]))
    return rows


def _protocol_rows(options: argparse.Namespace, problems: Mapping[str, Problem]) -> list[Row]:
    """Return how the formulas that the protocol found on one problem do on the others."""
    runs = discovery.newest(discovery.runs_of(Path(options.work) / options.variant))
    runs = [run for run in runs if run["evaluations"] == discovery.EVALUATIONS]
    rows = []
    for labels in sorted({run["labels"] for run in runs}):
        same = [run for run in runs if run["labels"] == labels]
        for name, problem in problems.items():
            strangers = [run for run in same if run["problem"] != name]
            every = np.arange(problem.table.n_rows)
            found, formulas = [], []
            for run in strangers:
                (dag,) = [
                    Dag.from_json(one["graph"])
                    for one in run["front"]
                    if one["infix"] == run["formula"]["infix"]
                ]
                if set(dag.leaves) <= set(problem.table.leaves):
                    values = exact_values(dag, problem.table, every)
                    found.append(discovery.tested(values, problem.target)["spearman"])
                    formulas.append(text(dag))
            if found:
                rows.append(
                    _row(
                        f"formula, {labels} labels",
                        found,
                        len(every),
                        UNIT,
                        problem=name,
                        searched_on=sorted({run["problem"] for run in strangers}),
                        formulas=formulas,
                    )
                )
    return rows
