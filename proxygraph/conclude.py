"""From the last state of a search to its result: the choice, the numbers, the files, the words at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from shlex import quote
from typing import Any

from rich.console import Console

from proxygraph.command import reporting
from proxygraph.display import result_table
from proxygraph.errors import CompileError, ConfigError
from proxygraph.finish import Finalist, baselines, choose, finalists, row_scores, tested
from proxygraph.infix import text
from proxygraph.islands import IslandsState
from proxygraph.latex import formula_tex
from proxygraph.limits import Limits
from proxygraph.loop import Outcome
from proxygraph.objective import Objective
from proxygraph.problem import Problem, Split
from proxygraph.run import RunFolder, csv_text, environment
from proxygraph.sympy_worker import SympyWorker
from proxygraph.torch_source import formula_python, refusal_python


def finished(
    outcome: Outcome,
    problem: Problem,
    split: Split,
    judge: Objective,
    settings: dict[str, Any],
    limits: Limits,
    worker: SympyWorker,
    *,
    screen: Console,
    quiet: bool,
    hurry: Callable[[], bool],
) -> tuple[dict[str, Any], Finalist, list[dict[str, str]]]:
    """Choose among what keeps the limits, on validation, then test once.

    `hurry` leaves out sympy and tuned constants; the `worker`, for sympy, is closed.

    Returns
    -------
    dict
        ``result.json``.
    Finalist
        The best one.
    list of dict
        ``scores.csv``: what front and baselines say about rows (`row_scores`).
    """
    state = outcome.state
    with reporting(screen) as report:
        tell = (lambda what, done, total: None) if quiet else report
        candidates = finalists(
            state.hall, judge, problem, split, lambda i, n: tell("final numbers", i, n), hurry, limits, worker
        )
        if not candidates:
            raise ConfigError(
                f"none of {len(state.hall.members)} formulas is finite on the training rows and, with sign, "
                "scale and offset, within the limits; allow more, or look at the columns"
            )
        best, front = choose(candidates, judge)
        front = [tested(one, judge, problem, split) for one in front]
        compared = baselines(judge, problem, split)
        named = {f"size {one.dag.size}": one.dag for one in front} | {name: one.dag for name, one in compared}
        scores = row_scores(named, problem, split)
    best = next(one for one in front if one.dag.key == best.dag.key)
    counters = state.counters
    result = {
        "problem": {
            "name": problem.name,
            "target": problem.target_name,
            "tabular": not problem.table.offsets,
            "rows": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
        },
        "objective": judge.name,
        "seed": settings["seed"],
        "best": best.to_json(),
        "front": [one.to_json() for one in front],
        "baselines": [{"name": name, **one.to_json()} for name, one in compared],
        "search": {
            "generations": state.generation,
            "proposed": counters["proposed"],
            "evaluated": counters["evaluated"],
            "invalid": counters["invalid"],
            "oversize": counters["oversize"],
            "screened": counters["screened"],
            "fitted": counters["fitted"],
            "forbidden": counters["forbidden"],
            "duplicates": {tier: counters[tier] for tier in ("structural", "algebraic", "numeric", "rank")},
            "islands": settings["islands"],
            "seconds": round(outcome.seconds, 2),
            "stopped": outcome.reason,
        },
        "environment": environment(settings["threads"]),
    }
    return result, best, scores


def store(
    folder: RunFolder,
    result: dict[str, Any],
    best: Finalist,
    scores: list[dict[str, str]],
    state: IslandsState,
) -> None:
    """Write the files of the result."""
    provenance = {
        "problem": result["problem"]["name"],
        "target": result["problem"]["target"],
        "objective": result["objective"],
        "seed": result["seed"],
        **{part: json.dumps(result["best"][part]) for part in ("train", "validation", "test")},
    }
    hall = [
        {"size": one.size, "search_fitness": one.fitness, "key": one.dag.key, "formula": text(one.dag)}
        for one in state.hall.members
    ]
    folder.write("result.json", json.dumps(result, indent=2) + "\n")
    folder.write("hall_of_fame.csv", csv_text(hall))
    folder.write("scores.csv", csv_text(scores))
    folder.write("formula.tex", formula_tex(best.dag, provenance=provenance))
    try:
        source = formula_python(best.dag, provenance=provenance, tabular=result["problem"]["tabular"])
    except CompileError as error:  # a statistic of the user's own
        source = refusal_python(best.dag, str(error), provenance=provenance)
    folder.write("formula.py", source)


def announce(screen: Console, result: dict[str, Any], best: Finalist, folder: RunFolder, metric: str) -> None:
    """Print the front beside the baselines, the counts, the best formula and where the files are."""
    screen.print(result_table(result, metric))
    search, duplicates = result["search"], result["search"]["duplicates"]
    screen.print(
        f"{search['evaluated']:,} formulas scored in {search['seconds']:.0f} s "
        f"({search['evaluated'] / max(search['seconds'], 0.01):,.0f}/s); duplicates: "
        + ", ".join(f"{n:,} {tier}" for tier, n in duplicates.items() if n),
        soft_wrap=True,
    )
    for name, value in result["best"]["test"].items():
        if " in " in name:  # of several problems, each by itself
            screen.print(
                f"{name}: {'undefined' if value is None else f'{value:.3f}'} (test)",
                markup=False,
                highlight=False,
            )
    run = quote(str(folder.path))
    tabular = result["problem"]["tabular"]
    for name, value in (
        ("best formula", result["best"]["infix"]),
        ("LaTeX", result["best"]["latex"]),
        ("Python", folder.path / "formula.py"),
        ("all results", folder.path / "result.json"),
        ("report", f"python -m proxygraph.report {run} --open"),
        ("other forms", f"python -m proxygraph.export {run} --format latex"),
        *(() if tabular else [("search segmenters with it", f"python -m segspace.search --proxy {run}")]),
    ):
        screen.print(f"{name}: {value}", markup=False, soft_wrap=True)
