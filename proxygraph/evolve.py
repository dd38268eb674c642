"""``python -m proxygraph.evolve``: from a problem to a formula."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxygraph.command import console, reporting, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from proxygraph.assemble import Settings
    from proxygraph.finish import Finalist
    from proxygraph.islands import Islands, IslandsState
    from proxygraph.loop import Callback, Outcome
    from proxygraph.objective import Objective
    from proxygraph.problem import Problem, Split
    from proxygraph.run import RunFolder
    from proxygraph.search import Search


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
    evaluations: Annotated[int | None, typer.Option(help="Stop after so many formulas were scored.")] = None,
    enough: Annotated[
        float | None, typer.Option(help="Stop when a formula has this fitness on the training rows (0 to 1).")
    ] = None,
    stagnation: Annotated[
        int | None, typer.Option(help="Stop after so many generations without a better formula.")
    ] = None,
    population: Annotated[
        int | None,
        typer.Option(help="Formulas alive at the same time; by default 400 on networks, 1000 on tables."),
    ] = None,
    islands: Annotated[
        int, typer.Option(help="Parts of the population that evolve apart; threads share them out.")
    ] = 4,
    migrate_every: Annotated[
        int, typer.Option(help="Generations after which islands exchange their best formulas.")
    ] = 10,
    initial: Annotated[
        list[str] | None, typer.Option(help="A formula to start from, as text; may be repeated.")
    ] = None,
    max_size: Annotated[
        int, typer.Option(help="Most nodes while searching; sign, scale and offset come on top.")
    ] = 15,
    threads: Annotated[int, typer.Option(help="Threads for scoring; the result does not depend on it.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-TIME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Seconds between checkpoints, at most lost if the machine goes down.")
    ] = 5.0,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder to write curves for TensorBoard to.")
    ] = None,
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
        evaluations=evaluations,
        enough=enough,
        stagnation=stagnation,
        population=population,
        islands=islands,
        migrate_every=migrate_every,
        checkpoint_seconds=checkpoint_seconds,
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
        "time_budget": 60.0
        if time_budget is None and generations is None and evaluations is None
        else time_budget,
        "generations": generations,
        "evaluations": evaluations,
        "enough": enough,
        "stagnation": stagnation,
        "islands": islands,
        "migrate_every": migrate_every,
        "initial": initial or [],
        "checkpoint_seconds": checkpoint_seconds,
        "population": population or (400 if problem.table.offsets else 1000),
        "max_size": max_size,
        "threads": threads,
        "problem": problem.name,
        "data": problem.digest,
    }
    search = _search(problem, split, judge, settings)
    warm(search.searches[0], screen.print)
    folder = RunFolder.create(out or _default_out(problem.name), settings, resume)
    outcome = _loop(
        search, folder, problem, split, screen, settings, tensorboard=tensorboard, resume=resume, quiet=quiet
    )
    with _interruptible() as wish:  # one Ctrl-C only makes the rest shorter; the result is written
        result, best = _finished(
            outcome, problem, split, judge, settings, quiet=quiet, screen=screen, hurry=lambda: wish[0]
        )
        _store(folder, result, best, outcome.state)
    _announce(screen, result, best, folder, judge.metric)


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


def _check_numbers(**values: float | None) -> None:
    from proxygraph.errors import ConfigError

    least = {"train": 5, "seed": 0, "time_budget": 0, "enough": 0, "checkpoint_seconds": 0, "population": 10}
    for name, value in values.items():
        if value is not None and not value >= least.get(name, 1):
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least {least.get(name, 1)}")


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


def _settings(settings: dict[str, Any]) -> Settings:
    """Return the part of the settings that the search itself needs."""
    from proxygraph.assemble import Settings
    from proxygraph.islands import Migration

    return Settings(
        seed=settings["seed"],
        population=settings["population"],
        islands=settings["islands"],
        migration=Migration(every=settings["migrate_every"]),
        max_size=settings["max_size"],
        threads=settings["threads"],
    )


def _search(problem: Problem, split: Split, judge: Objective, settings: dict[str, Any]) -> Islands:
    """Put the search together; it sees the training rows only."""
    from proxygraph import zoo
    from proxygraph.assemble import assembled
    from proxygraph.infix import parse

    table = problem.table.take(split.train)
    known = [proxy.dag for proxy in zoo.available(table.leaves if table.offsets else {})]
    given = [parse(formula, table.leaves) for formula in settings["initial"]]
    return assembled(table, problem.target[split.train], judge, _settings(settings), [*given, *known])


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
    search: Islands,
    folder: RunFolder,
    problem: Problem,
    split: Split,
    screen: Console,
    settings: dict[str, Any],
    *,
    tensorboard: Path | None,
    resume: bool,
    quiet: bool,
) -> Outcome:
    """Run generations until the budget is spent or Ctrl-C."""
    from proxygraph import watch
    from proxygraph.checkpoint import islands_from_json
    from proxygraph.display import watching
    from proxygraph.loop import PERFECT, Stop, run

    state, spent = None, 0.0
    first = search.searches[0]
    if resume and (folder.path / "checkpoint.json").is_file():
        stored = folder.read("checkpoint.json")
        state = islands_from_json(stored, first.leaves, len(search.searches))
        spent = float(stored.get("seconds", 0.0))
    if resume:
        folder.trim_journal(state.generation if state is not None else 0)
    resumed_at = state.generation if state is not None else 0
    enough = settings["enough"]
    stop = Stop(
        generations=settings["generations"],
        evaluations=settings["evaluations"],
        seconds=settings["time_budget"],
        fitness=PERFECT if enough is None else enough,
        stagnation=settings["stagnation"],
    )
    metric = first.objective.metric
    with ExitStack() as stack:
        wish = stack.enter_context(_interruptible())
        show = stack.enter_context(watching(screen, metric, _validator(first, problem, split), quiet))
        callbacks: list[Callback] = [_refuse_nothing, watch.journal(folder), show]
        callbacks.append(watch.checkpoints(folder, settings["checkpoint_seconds"]))
        if tensorboard is not None:
            callbacks.append(stack.enter_context(watch.tensorboard(tensorboard, metric)))
        callbacks.append(lambda state, seconds: wish[0])
        outcome = run(search, stop, callbacks, state=state, spent=spent)
    watch.checkpoint(folder, outcome.state, outcome.seconds)
    if resume and outcome.state.generation == resumed_at:
        screen.print("Nothing was left of the budget; raise --time-budget or --generations to go on.")
    if wish[0]:
        screen.print("Stopped; writing the result so far. Continue later with --resume.")
    return outcome


def _refuse_nothing(state: IslandsState, seconds: float) -> None:
    from proxygraph.errors import ConfigError

    if not state.hall.members:
        raise ConfigError(
            f"none of the first {state.counters['evaluated']} formulas has finite, varying values on "
            "the training rows; look for constant or missing columns"
        )


def _validator(search: Search, problem: Problem, split: Split) -> Any:
    """Return a function that scores the front on the validation rows, for the eye only."""
    from proxygraph.assemble import SEARCH_SAMPLES
    from proxygraph.kernels.population import Population

    table = problem.table.take(split.validation).thin(SEARCH_SAMPLES)
    evaluate, target = Population(table), problem.target[split.validation]

    def validate(state: IslandsState) -> Sequence[float]:
        values = evaluate([one.dag for one in state.hall.front()])
        return [float(f) for f in search.objective.fitness(values, target)]

    return validate


def _finished(
    outcome: Outcome,
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

    state = outcome.state
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
            "islands": settings["islands"],
            "seconds": round(outcome.seconds, 2),
            "stopped": outcome.reason,
        },
        "environment": environment(settings["threads"]),
    }, best


def _store(folder: RunFolder, result: dict[str, Any], best: Finalist, state: IslandsState) -> None:
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
