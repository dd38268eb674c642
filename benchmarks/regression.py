"""Which engine of symbolic regression finds the formula again, in equal CPU seconds?

    python benchmarks/regression.py [--quick] [--json FILE] [--seconds 10] [--seeds 0 1 2] [--threads 1]
                                    [--engines NAME ...] [--problems NAME ...] [--again NAME ...]

Nine known problems and ten that were drawn beforehand (benchmarks/problems.py), 500 rows to learn from, drawn
anew for each seed. Reported: R² on 500 other rows of the same ranges, against the truth without noise; exact
recovery: on 500 rows of ranges that are 30 % wider every value is the true one, to a relative 1e-6 (of the
larger of the value and a thousandth of the values' root mean square; rows on which the truth is not finite
are left out); for Friedman-1, whose training rows are noisy, R² ≥ .995 on the wider ranges instead; nodes;
formulas evaluated per CPU second, as the engine counts them; CPU seconds taken. R² below 0 counts as 0.

Every engine (benchmarks/engines.py) chooses its formula by its own rule on the training rows. Each run has a
process of its own, in which the engine runs once for a moment before the clock starts, so that loading and
compiling are not counted. Budgets are CPU seconds of the whole process, also with more threads. A finished
run is appended to FILE's name with the ending .runs.jsonl at once, and is not run again unless asked for with
--again; so an interrupted benchmark goes on where it was. Engines that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.common import Row, environment, row, write

import numpy as np  # isort: skip

from rich.console import Console  # isort: skip
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.engines import ENGINES, cpu
from benchmarks.problems import DRAWN, KNOWN, N_ROWS, PROBLEMS, r2

RESULT = Path(__file__).parent / "results" / "regression.json"
WARM_UP_ROWS, WARM_UP_SECONDS = 60, 0.2
PATIENCE = 300.0
"""Wall seconds for loading, compiling and what an engine does after its time."""
UNIT = "R2 on test rows"
Key = tuple[str, str, int, int, float]


# ---- one run -----------------------------------------------------------------------------------------------


def key_of(run: Row) -> Key:
    """Return what tells runs apart."""
    return (run["engine"], run["problem"], int(run["seed"]), int(run["threads"]), float(run["seconds"]))


def fitted(engine: str, name: str, seed: int, threads: int, seconds: float) -> Row:
    """Run one engine on one problem in this process; return what is reported of it."""
    problem, fit = PROBLEMS[name], ENGINES[engine][0]
    train, test, wide = problem.data(seed)
    fit(train.X[:WARM_UP_ROWS], train.y[:WARM_UP_ROWS], WARM_UP_SECONDS, seed, threads)
    start, wall = cpu(), time.perf_counter()
    model = fit(train.X, train.y, seconds, seed, threads)
    taken, wall = cpu() - start, time.perf_counter() - wall
    on_wide = model.predict(wide.X)
    return {
        "r2_train": finite(r2(model.predict(train.X), train.y)),
        "r2_test": finite(r2(model.predict(test.X), test.y)),
        "r2_wide": finite(r2(on_wide, wide.y)),
        "error_wide": finite(problem.error(on_wide, wide)),
        "recovered": problem.recovered(on_wide, wide),
        "size": model.size,
        "evaluations": model.evaluations,
        "cpu_seconds": taken,
        "wall_seconds": wall,
        "formula": model.text,
    }


def finite(value: float) -> float | None:
    """Return the number as JSON can hold it: None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def _work(pipe: Connection, key: Key) -> None:
    try:
        pipe.send(fitted(*key))
    except Exception as error:  # an engine may fail in any way, and the others are to go on
        pipe.send({"failed": f"{type(error).__name__}: {error}"})


def run_apart(key: Key) -> Row:
    """Run one engine in a process of its own; a crash or a run without end is a failure of that engine."""
    here, there = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=_work, args=(there, key), daemon=False)
    process.start()
    there.close()
    found: Row = {"failed": f"no result within {PATIENCE + 10 * key[4]:.0f} s"}
    try:
        if here.poll(PATIENCE + 10 * key[4]):
            found = here.recv()
    except EOFError:
        process.join()
        found = {"failed": f"its process ended with code {process.exitcode}"}
    finally:
        if process.is_alive() and "failed" in found:
            process.kill()
        process.join()
    engine, problem, seed, threads, seconds = key
    about = {"engine": engine, "version": version_of(engine), "problem": problem, "seed": seed}
    about["cpu"] = environment(threads)["cpu"]  # a run may be kept while others are made on another machine
    return {**about, "threads": threads, "seconds": seconds, **found}


def version_of(engine: str) -> str | None:
    """Return the version of the installed package; None if there is none."""
    try:
        return version(ENGINES[engine][1])
    except PackageNotFoundError:
        return None


# ---- the journal -------------------------------------------------------------------------------------------


def journal_path(result: Path) -> Path:
    """Return where the finished runs of a result are kept."""
    return result.with_suffix(".runs.jsonl")


def read_runs(path: Path, again: Sequence[str] = ()) -> dict[Key, Row]:
    """Return the finished runs by key, but those of the engines in `again`; half a line is lost."""
    runs: dict[Key, Row] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue
        if one["engine"] not in again:
            runs[key_of(one)] = one
    return runs


def rewrite(path: Path, runs: Iterable[Row]) -> None:
    """Write all runs, at once or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_text("".join(json.dumps(one) + "\n" for one in runs), encoding="utf-8")
    os.replace(beside, path)


def append(path: Path, run: Row) -> None:
    """Add one run and see it onto the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(run) + "\n")
        file.flush()
        os.fsync(file.fileno())


# ---- the result --------------------------------------------------------------------------------------------


def scores(runs: Sequence[Row]) -> list[float]:
    """Return R² of each run; 0 where it failed, is not finite or below."""
    return [max(0.0, run.get("r2_test") or 0.0) for run in runs]


def summary(runs: Sequence[Row]) -> Row:
    """Return what several runs of one engine have in common, medians of numbers."""
    done = [run for run in runs if "failed" not in run]

    def middle(values: Sequence[float]) -> float | None:
        return float(np.median(values)) if values else None

    rates = [run["evaluations"] / run["cpu_seconds"] for run in done if run["evaluations"]]
    return {
        "runs": len(runs),
        "recovered": sum(run.get("recovered", False) for run in runs),
        "failed": len(runs) - len(done),
        "size": middle([run["size"] for run in done]),
        "evaluations_per_second": middle(rates),
        "cpu_seconds": middle([run["cpu_seconds"] for run in done]),
        "version": runs[0]["version"],
        "cpu": ", ".join(sorted({run["cpu"] for run in runs})),
        "budget": runs[0]["seconds"],
    }


def rows_of_runs(runs: Iterable[Row]) -> list[Row]:
    """Return the rows of the result: one for each engine and problem, then one for each engine and set."""
    runs = list(runs)
    rows: list[Row] = []
    about: Row = {"n_rows": N_ROWS, "dtype": "float64"}
    engines = list(dict.fromkeys((run["engine"], run["threads"], run["seconds"]) for run in runs))
    for which, problems in (("known", KNOWN), ("drawn", DRAWN)):
        for engine, threads, seconds in engines:
            mine = [run for run in runs if (run["engine"], run["threads"], run["seconds"]) == (
                engine, threads, seconds)]  # fmt: skip
            medians, all_of_set = [], []
            for problem in problems:
                found = sorted((r for r in mine if r["problem"] == problem.name), key=lambda r: r["seed"])
                if not found:
                    continue
                more = {
                    "problem": problem.name,
                    "set": which,
                    "formula": problem.formula,
                    "seeds": [run["seed"] for run in found],
                    "found": [run.get("formula", run.get("failed")) for run in found],
                    **summary(found),
                }
                rows.append(row(engine, scores(found), unit=UNIT, threads=threads, **about, **more))
                medians.append(rows[-1]["median"])
                all_of_set += found
            if all_of_set:
                more = {"problem": f"all {which}", "set": which, "problems": len(medians)}
                more |= {"mean": float(np.mean(medians)), "solved": sum(m >= 0.9999 for m in medians)}
                more |= summary(all_of_set)
                rows.append(row(engine, medians, unit=f"{UNIT}, medians", threads=threads, **about, **more))
    return rows


def table_of(rows: Sequence[Row]) -> Table:
    """Return the table for the terminal."""
    table = Table(title="R² on test rows: median (10 %–90 %)", title_justify="left")
    for name in ("problem", "engine"):
        table.add_column(name)
    for name in ("R²", "exact", "nodes", "formulas/s", "CPU s"):
        table.add_column(name, justify="right")
    order = list(dict.fromkeys(one["problem"] for one in rows))
    for one in sorted(rows, key=lambda r: order.index(r["problem"])):
        rate, size, taken = one["evaluations_per_second"], one["size"], one["cpu_seconds"]
        table.add_row(
            one["problem"],
            f"{one['engine']} ({one['threads']})" if one["threads"] > 1 else one["engine"],
            f"{one['median']:.6f} ({one['p10']:.4f}–{one['p90']:.4f})",
            f"{one['recovered']}/{one['runs']}",
            "–" if size is None else f"{size:.0f}",
            "–" if rate is None else f"{rate:,.0f}",
            "–" if taken is None else f"{taken:.1f}",
        )
    return table


# ---- the command -------------------------------------------------------------------------------------------


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three problems, one seed, 2 s, nothing kept")
    parser.add_argument("--json", type=Path, help=f"result file; by default {RESULT.name} in results/")
    parser.add_argument("--seconds", type=float, help="CPU seconds of a run (10)")
    parser.add_argument("--seeds", type=int, nargs="+", help="(0 1 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each engine (1)")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), metavar="NAME")
    parser.add_argument("--again", nargs="+", choices=list(ENGINES), default=[], help="forget their runs")
    chosen = parser.parse_args(arguments)
    quick = chosen.quick
    chosen.seconds = chosen.seconds or (2.0 if quick else 10.0)
    chosen.seeds = chosen.seeds or ([0] if quick else [0, 1, 2])
    chosen.problems = chosen.problems or (
        ["Nguyen-5", "Feynman I.12.2", "Friedman-1"] if quick else [*PROBLEMS]
    )
    chosen.json = chosen.json or (None if quick else RESULT)
    return chosen


def work_of(options: argparse.Namespace, have: Mapping[Key, Row], engines: Sequence[str]) -> list[Key]:
    """Return the runs that are missing; engines take turns, so that a slow hour hits all of them."""
    wanted = [
        (engine, problem, seed, options.threads, options.seconds)
        for seed in options.seeds
        for problem in options.problems
        for engine in engines
    ]
    return [key for key in wanted if key not in have]


def main() -> None:
    """Run, print, write."""
    options = options_of()
    console = Console(width=None if sys.stdout.isatty() else 120)
    engines = [name for name in options.engines if version_of(name) is not None]
    for name in set(options.engines) - set(engines):
        console.print(f"left out: {name} (not installed)")
    path: Path | None = options.json
    runs: dict[Key, Row] = {}
    if path is not None:
        runs = read_runs(journal_path(path), options.again)
        if journal_path(path).is_file():
            rewrite(journal_path(path), runs.values())
    work = work_of(options, runs, engines)
    if runs:
        console.print(f"{len(runs)} runs are there already, {len(work)} to go")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("runs", total=len(work))
        for key in work:
            progress.update(task, description=f"{key[0]}: {key[1]}, seed {key[2]}")
            run = runs[key] = run_apart(key)
            if path is not None:
                append(journal_path(path), run)
            progress.console.print(line_of(run), markup=False, highlight=False, soft_wrap=True)
            progress.advance(task)
    rows = rows_of_runs(runs.values())
    console.print(table_of(rows))
    write(path, "regression", rows, options.threads)


def line_of(run: Row) -> str:
    """Return one line about one run."""
    about = f"{run['engine']:11} {run['problem']:18} seed {run['seed']}"
    if "failed" in run:
        return f"{about}  failed: {run['failed']}"
    score = "not finite" if run["r2_test"] is None else f"{run['r2_test']:.6f}"
    exact = "exact" if run["recovered"] else "     "
    return f"{about}  {score}  {exact}  {run['cpu_seconds']:5.1f} s  {run['formula'][:60]}"


if __name__ == "__main__":
    main()
