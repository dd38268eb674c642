"""``python -m proxygraph.evolve``: from a problem to a formula."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxygraph.command import console, reporting, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from proxygraph.finish import Finalist
    from proxygraph.objective import Objective
    from proxygraph.problem import Problem, Split
    from proxygraph.run import RunFolder
    from proxygraph.search import Search, SearchState

CHECKPOINT_SECONDS = 5.0
CHECKPOINT_SHARE = 20.0
"""Times as long as a checkpoint takes to write, the search goes on before the next: a twentieth at most."""
PERFECT = 1.0 - 1e-13
SEARCH_SAMPLES = 64
"""Samples per layer that the search sees. A prefix of the random samples is a fair sample itself; what
is reported is recomputed on all of them."""
SCREEN_SAMPLES = 16
"""Samples per layer on which hopeless formulas are sorted out."""
TABLE_CHILDREN = 4
"""Children per living formula and generation on plain tables, where scoring is cheap."""
MEMORY = 128_000_000
"""Bytes for values that are kept between generations."""


def evolve(
    source: Annotated[
        str,
        typer.Argument(
            help="Problem name (streetscenes, transnas101:CSV), a .csv or .parquet table "
            "with --target, or a saved problem."
        ),
    ] = "streetscenes",
    target: Annotated[str | None, typer.Option(help="Column to predict, for tables.")] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="spearman, kendall, pearson, r2 or mse; by default what suits the problem."),
    ] = None,
    train: Annotated[int | None, typer.Option(help="Rows to train on; by default half of them.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of split and search.")] = 0,
    time_budget: Annotated[
        float | None, typer.Option(help="Seconds to search; by default 60, or no limit with --generations.")
    ] = None,
    generations: Annotated[int | None, typer.Option(help="Stop after so many generations.")] = None,
    population: Annotated[
        int | None,
        typer.Option(help="Formulas alive at the same time; by default 400 on networks, 1000 on tables."),
    ] = None,
    max_size: Annotated[
        int, typer.Option(help="Most nodes while searching; sign, scale and offset come on top.")
    ] = 15,
    threads: Annotated[int, typer.Option(help="Threads for scoring; the result does not depend on it.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only print the result.")] = False,
) -> None:
    """Discover a formula that ranks or predicts the rows of a problem.

    Example: python -m proxygraph.evolve streetscenes --seed 1 --time-budget 60
    """
    from proxygraph.objective import find_objective
    from proxygraph.problem import load_problem
    from proxygraph.run import RunFolder
    from proxygraph.warm import warm

    _check_numbers(
        train=train,
        seed=seed,
        time_budget=time_budget,
        generations=generations,
        population=population,
        threads=threads,
    )
    _check_folder(out, resume)
    judge = find_objective(objective) if objective else None
    screen = console()
    with reporting(screen) as report:
        problem = load_problem(source, target, report if not quiet else _silent)
    judge = judge or find_objective(problem.objective)
    split = problem.split(seed, train)
    _check_targets(problem, split)
    settings = {
        "source": source,
        "target": target,
        "objective": judge.name,
        "train": train,
        "seed": seed,
        "time_budget": 60.0 if time_budget is None and generations is None else time_budget,
        "generations": generations,
        "population": population or (400 if problem.table.offsets else 1000),
        "max_size": max_size,
        "threads": threads,
        "problem": problem.name,
        "data": problem.digest,
    }
    search = _search(problem, split, judge, settings)
    warm(search, screen.print)
    folder = RunFolder.create(out or _default_out(problem.name), settings, resume)
    state, seconds = _loop(search, folder, problem, split, screen, settings, resume=resume, quiet=quiet)
    with _interruptible() as wish:  # one Ctrl-C only makes the rest shorter; the result is written
        result, best = _finished(
            state, seconds, problem, split, judge, settings, quiet=quiet, screen=screen, hurry=lambda: wish[0]
        )
        _store(folder, result, best, state)
    _announce(screen, result, best, folder, judge.metric)


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


def _check_numbers(**values: float | None) -> None:
    from proxygraph.errors import ConfigError

    least = {"train": 5, "seed": 0, "time_budget": 0, "generations": 1, "population": 10, "threads": 1}
    for name, value in values.items():
        if value is not None and not value >= least[name]:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least {least[name]}")


def _check_folder(out: Path | None, resume: bool) -> None:
    """Refuse before any work what `RunFolder.create` would refuse after it."""
    from proxygraph.errors import ConfigError
    from proxygraph.run import RunFolder

    if resume and out is None:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    if out is not None:
        RunFolder(out).check_free(resume)


def _check_targets(problem: Problem, split: Split) -> None:
    """Refuse a split on which nothing can be learnt or chosen."""
    from proxygraph.errors import ConfigError

    for part in ("train", "validation"):
        y = problem.target[getattr(split, part)]
        if (y == y[0]).all():
            raise ConfigError(
                f"target {problem.target_name!r} is {y[0]} on all {len(y)} {part} rows of this split; "
                "choose another --seed or a larger --train"
            )


def _default_out(name: str) -> Path:
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _search(problem: Problem, split: Split, judge: Objective, settings: dict[str, Any]) -> Search:
    """Put the search together; it sees the training rows only."""
    from proxygraph import zoo
    from proxygraph.kernels.population import Population
    from proxygraph.search import Search, SearchConfig, default_ops

    table = problem.table.take(split.train)
    config = SearchConfig(
        seed=settings["seed"],
        population=settings["population"],
        children=0 if table.offsets else TABLE_CHILDREN * settings["population"],
        max_size=settings["max_size"],
    )
    threads = settings["threads"]
    return Search(
        config,
        default_ops(table.leaves),
        judge,
        Population(table.thin(SEARCH_SAMPLES), threads, MEMORY),
        problem.target[split.train],
        [proxy.dag for proxy in zoo.available(table.leaves if table.offsets else {})],
        Population(table.thin(SCREEN_SAMPLES), threads, MEMORY) if table.offsets else None,
    )


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Turn Ctrl-C into a wish to stop after the current generation; a second one stops at once."""
    wish = [False]

    def handler(number: int, frame: object) -> None:
        if wish[0]:
            raise KeyboardInterrupt
        wish[0] = True

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, previous)


def _loop(
    search: Search,
    folder: RunFolder,
    problem: Problem,
    split: Split,
    screen: Console,
    settings: dict[str, Any],
    *,
    resume: bool,
    quiet: bool,
) -> tuple[SearchState, float]:
    """Run generations until the budget is spent; return the last state and the seconds of all sittings."""
    from proxygraph.display import watching
    from proxygraph.errors import ConfigError
    from proxygraph.search import state_from_json

    state, spent = None, 0.0
    if resume and (folder.path / "checkpoint.json").is_file():
        stored = folder.read("checkpoint.json")
        state = state_from_json(stored, search.leaves)
        spent = float(stored.get("seconds", 0.0))
    if resume:
        folder.trim_journal(state.generation if state is not None else 0)
    resumed_at = state.generation if state is not None else 0
    begin = saved = time.monotonic()
    pause = CHECKPOINT_SECONDS
    limit = settings["generations"] or float("inf")
    budget = float("inf") if settings["time_budget"] is None else settings["time_budget"]
    with (
        _interruptible() as wish,
        watching(screen, search.objective.metric, _validator(search, problem, split), quiet) as show,
    ):
        while True:
            seconds = spent + time.monotonic() - begin
            if state is not None and (
                wish[0] or state.generation >= limit or seconds >= budget or state.best >= PERFECT
            ):
                break
            state = search.step(state) if state is not None else search.start()
            seconds = spent + time.monotonic() - begin
            folder.append(
                "journal.jsonl",
                {
                    "generation": state.generation,
                    "seconds": round(seconds, 2),
                    "best": state.best,
                    "front": len(state.hall.front()),
                    **state.counters,
                },
            )
            if not state.hall.members:
                raise ConfigError(
                    f"none of the first {state.counters['evaluated']} formulas has finite, varying values on "
                    "the training rows; look for constant or missing columns"
                )
            show(state, seconds)
            if time.monotonic() - saved > pause:
                started = time.monotonic()
                _checkpoint(folder, state, seconds)
                saved = time.monotonic()
                pause = max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * (saved - started))
    assert state is not None, "the loop makes at least one generation"
    seconds = spent + time.monotonic() - begin
    _checkpoint(folder, state, seconds)
    if resume and state.generation == resumed_at:
        screen.print("Nothing was left of the budget; raise --time-budget or --generations to go on.")
    if wish[0]:
        screen.print("Stopped; writing the result so far. Continue later with --resume.")
    return state, seconds


def _checkpoint(folder: RunFolder, state: SearchState, seconds: float) -> None:
    from proxygraph.search import state_to_json

    folder.write("checkpoint.json", json.dumps({**state_to_json(state), "seconds": seconds}))


def _validator(search: Search, problem: Problem, split: Split) -> Any:
    """Return a function that scores the front on the validation rows, for the eye only."""
    from proxygraph.kernels.population import Population

    table = problem.table.take(split.validation).thin(SEARCH_SAMPLES)
    evaluate, target = Population(table), problem.target[split.validation]

    def validate(state: SearchState) -> Sequence[float]:
        values = evaluate([one.dag for one in state.hall.front()])
        return [float(f) for f in search.objective.fitness(values, target)]

    return validate


def _finished(
    state: SearchState,
    seconds: float,
    problem: Problem,
    split: Split,
    judge: Objective,
    settings: dict[str, Any],
    *,
    screen: Console,
    quiet: bool,
    hurry: Callable[[], bool],
) -> tuple[dict[str, Any], Finalist]:
    """Choose on validation, then test once; return ``result.json``. `hurry` leaves out sympy."""
    from proxygraph.errors import ConfigError
    from proxygraph.finish import baselines, choose, finalists, tested
    from proxygraph.run import environment

    with reporting(screen) as report:
        tell = _silent if quiet else report
        candidates = finalists(
            state.hall, judge, problem, split, lambda i, n: tell("final numbers", i, n), hurry
        )
        if not candidates:
            raise ConfigError("no formula was finite on the training rows; are the columns usable?")
        best, front = choose(candidates, judge)
        front = [tested(one, judge, problem, split) for one in front]
        compared = baselines(judge, problem, split)
    best = next(one for one in front if one.dag.key == best.dag.key)
    counters = state.counters
    return {
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
            "duplicates": {tier: counters[tier] for tier in ("structural", "algebraic", "numeric", "rank")},
            "seconds": round(seconds, 2),
        },
        "environment": environment(settings["threads"]),
    }, best


def _store(folder: RunFolder, result: dict[str, Any], best: Finalist, state: SearchState) -> None:
    """Write the files of the result."""
    from proxygraph.infix import text
    from proxygraph.latex import formula_tex
    from proxygraph.run import csv_text
    from proxygraph.torch_source import formula_python

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
    folder.write("formula.tex", formula_tex(best.dag, provenance=provenance))
    folder.write(
        "formula.py", formula_python(best.dag, provenance=provenance, tabular=result["problem"]["tabular"])
    )


def _announce(
    screen: Console, result: dict[str, Any], best: Finalist, folder: RunFolder, metric: str
) -> None:
    from proxygraph.display import result_table

    screen.print(result_table(result, metric))
    search, duplicates = result["search"], result["search"]["duplicates"]
    screen.print(
        f"{search['evaluated']:,} formulas scored in {search['seconds']:.0f} s "
        f"({search['evaluated'] / max(search['seconds'], 0.01):,.0f}/s); duplicates: "
        + ", ".join(f"{n:,} {tier}" for tier, n in duplicates.items() if n),
        soft_wrap=True,
    )
    for name, value in (
        ("best formula", result["best"]["infix"]),
        ("LaTeX", result["best"]["latex"]),
        ("Python", folder.path / "formula.py"),
        ("all results", folder.path / "result.json"),
    ):
        screen.print(f"{name}: {value}", markup=False, soft_wrap=True)


def main() -> None:
    """Run the command."""
    run_command(evolve, "python -m proxygraph.evolve")


if __name__ == "__main__":
    main()
