"""``python -m proxygraph.evolve``: from a problem to a formula."""

from __future__ import annotations

import atexit
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxygraph import evolve_options as options
from proxygraph.command import console, reporting, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from proxygraph.assemble import Assembled, Settings
    from proxygraph.behaviour import Behaviour
    from proxygraph.constraints import Constraints
    from proxygraph.islands import Islands, IslandsState
    from proxygraph.leaves import Leaf
    from proxygraph.loop import Callback, Outcome
    from proxygraph.objective import Objective
    from proxygraph.problem import Problem, Split
    from proxygraph.run import RunFolder
    from proxygraph.sympy_worker import SympyWorker


def evolve(
    source: options.Source = "streetscenes",
    also: options.Also = None,
    target: options.Target = None,
    objective: options.ObjectiveName = None,
    train: options.Train = None,
    validation: options.Validation = None,
    seed: options.Seed = 0,
    time_budget: options.TimeBudget = None,
    generations: options.Generations = None,
    evaluations: options.Evaluations = None,
    enough: options.Enough = None,
    stagnation: options.Stagnation = None,
    population: options.Population = None,
    islands: options.IslandCount = 4,
    migrate_every: options.MigrateEvery = 10,
    initial: options.Initial = None,
    max_size: options.MaxSize = None,
    max_depth: options.MaxDepth = None,
    max_constants: options.MaxConstants = None,
    operators: options.Operators = None,
    leaves: options.Leaves = None,
    max_cost: options.MaxCost = None,
    nesting: options.Nesting = None,
    units: options.Units = None,
    target_unit: options.TargetUnit = None,
    trends: options.Trends = None,
    sign: options.Sign = None,
    threads: options.Threads = 2,
    dask: options.Dask = None,
    out: options.Out = None,
    resume: options.Resume = False,
    checkpoint_seconds: options.CheckpointSeconds = 5.0,
    tensorboard: options.Tensorboard = None,
    quiet: options.Quiet = False,
) -> None:
    """Discover a formula that ranks or predicts the rows of a problem.

    Ctrl-C writes the result so far; --resume goes on.

    Example: python -m proxygraph.evolve streetscenes --seed 1 --time-budget 60

    Example: python -m proxygraph.evolve table.csv --target y --out runs/table
    """
    _check_numbers(
        train=train,
        validation=validation,
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
    simplifier = _prepared_sympy()
    from proxygraph.jit import in_one_go, load_without_blas

    with in_one_go():
        load_without_blas()
        from proxygraph.assemble import SIZES
        from proxygraph.conclude import announce, finished, store
        from proxygraph.joint import JointProblem, joint
        from proxygraph.objective import Several, find_objective
        from proxygraph.problem import load_problem
        from proxygraph.remote import on_dask
        from proxygraph.run import RunFolder
        from proxygraph.warm import warm

    judge = find_objective(objective) if objective else None
    screen = console()
    with reporting(screen) as report:
        tell = report if not quiet else _silent
        problem = load_problem(source, target, tell)
        if also:
            others = [load_problem(other, target, tell) for other in also]
            problem = joint([problem, *others], judge.name if judge else None)
    judge = judge or find_objective(problem.objective)
    if isinstance(problem, JointProblem):
        judge = Several(judge, problem.parts)
    split = problem.split(seed, train, validation)
    _check_targets(problem, split)
    settings = {
        "source": source,
        "also": also or [],
        "target": target,
        "objective": judge.name,
        "train": train,
        "validation": validation,
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
        "limits": {
            "operators": operators,
            "leaves": leaves,
            "max_cost": max_cost,
            "max_depth": max_depth,
            "max_constants": max_constants,
            "nesting": nesting,
            "units": units,
            "target_unit": target_unit,
            "trends": trends,
            "sign": sign,
        },
        "checkpoint_seconds": checkpoint_seconds,
        "population": population or (400 if problem.table.offsets else 1000),
        "max_size": max_size or SIZES[judge.kind],
        "threads": threads,
        "problem": problem.name,
        "data": problem.digest,
    }
    search = _search(problem, split, judge, settings, apart=dask is None)
    warm(search.searches[0], lambda line: screen.print(line, soft_wrap=True))
    folder = RunFolder.create(out or _default_out(problem.name), settings, resume)
    with on_dask(search, dask) as shared_out:
        outcome = _loop(
            shared_out,
            folder,
            problem,
            split,
            judge,
            screen,
            settings,
            tensorboard=tensorboard,
            resume=resume,
            quiet=quiet,
        )
    with _interruptible() as wish:  # one Ctrl-C only makes the rest shorter; the result is written
        result, best, scores = finished(
            outcome,
            problem,
            split,
            judge,
            settings,
            search.limits,
            simplifier,
            quiet=quiet,
            screen=screen,
            hurry=lambda: wish[0],
        )
        store(folder, result, best, scores, outcome.state)
    announce(screen, result, best, folder, judge.metric)


def _prepared_sympy() -> SympyWorker:
    """Let another process load sympy, which is needed at the end, while this one loads the rest."""
    from proxygraph.sympy_worker import SympyWorker

    worker = SympyWorker()
    worker.prepare()
    atexit.register(worker.close)
    return worker


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


def _check_numbers(**values: float | None) -> None:
    from proxygraph.errors import ConfigError

    least = {
        "train": 5,
        "validation": 2,
        "seed": 0,
        "time_budget": 0,
        "enough": 0,
        "checkpoint_seconds": 0,
        "population": 10,
    }
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
    """Refuse a split on which nothing can be learnt or chosen, in one of several problems too."""
    import numpy as np

    from proxygraph.errors import ConfigError
    from proxygraph.joint import JointProblem
    from proxygraph.objective.several import LEAST_ROWS

    several = isinstance(problem, JointProblem)
    parts = (
        problem.parts if isinstance(problem, JointProblem) else np.full(problem.table.n_rows, problem.name)
    )
    for part in ("train", "validation"):
        rows = getattr(split, part)
        for name in dict.fromkeys(parts.tolist()):
            y = problem.target[rows[parts[rows] == name]]
            if several and len(y) < LEAST_ROWS:
                raise ConfigError(
                    f"problem {name!r} has {len(y)} {part} rows of this split; as one of several it needs "
                    f"{LEAST_ROWS}: leave it out, or give it more rows"
                )
            if (y == y[0]).all():
                raise ConfigError(
                    f"target {problem.target_name!r} is {y[0]} on all {len(y)} {part} rows of this split"
                    f"{f' of problem {name!r}' if several else ''}; choose another --seed or a larger --train"
                )


def _default_out(name: str) -> Path:
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _settings(settings: dict[str, Any], leaves: Mapping[str, Leaf]) -> Settings:
    """Return the part of the settings that the search itself needs."""
    from proxygraph.assemble import Settings
    from proxygraph.islands import Migration

    constraints, behaviour = _limits(settings["limits"], leaves)

    return Settings(
        seed=settings["seed"],
        population=settings["population"],
        islands=settings["islands"],
        migration=Migration(every=settings["migrate_every"]),
        max_size=settings["max_size"],
        constraints=constraints,
        behaviour=behaviour,
        threads=settings["threads"],
    )


def _limits(given: dict[str, Any], leaves: Mapping[str, Leaf]) -> tuple[Constraints, Behaviour]:
    """Read the limits on formulas."""
    from proxygraph.behaviour import Behaviour, parse_trends
    from proxygraph.constraints import Constraints, parse_names, parse_nesting, parse_units

    measured = given["units"] is not None or given["target_unit"] is not None
    constraints = Constraints(
        max_depth=given["max_depth"],
        max_constants=given["max_constants"],
        ops=None if given["operators"] is None else parse_names(given["operators"]),
        leaves=None if given["leaves"] is None else parse_names(given["leaves"]),
        max_cost=given["max_cost"],
        nesting=parse_nesting(given["nesting"] or ""),
        units=parse_units(given["units"] or "", leaves, given["target_unit"]) if measured else None,
    )
    return constraints, Behaviour(parse_trends(given["trends"] or ""), given["sign"])


def _search(
    problem: Problem, split: Split, judge: Objective, settings: dict[str, Any], *, apart: bool = True
) -> Assembled:
    """Put the search together; it sees the training rows only."""
    from proxygraph import zoo
    from proxygraph.assemble import assembled
    from proxygraph.infix import parse

    table = problem.table.take(split.train)
    known = [proxy.dag for proxy in zoo.available(table.leaves if table.offsets else {})]
    given = [parse(formula, table.leaves) for formula in settings["initial"]]
    return assembled(
        table,
        problem.target[split.train],
        judge.on(split.train),
        _settings(settings, table.leaves),
        [*given, *known],
        apart=apart,
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
    search: Islands,
    folder: RunFolder,
    problem: Problem,
    split: Split,
    judge: Objective,
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
    from proxygraph.loop import PERFECT, SETTLED, Stop, run

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
        settled=SETTLED if enough is None and judge.kind == "fit" else 0,
    )
    metric = judge.metric
    with ExitStack() as stack:
        wish = stack.enter_context(_interruptible())
        show = stack.enter_context(watching(screen, metric, _validator(judge, problem, split), quiet, stop))
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


def _validator(judge: Objective, problem: Problem, split: Split) -> Any:
    """Return a function that scores the front on the validation rows, for the eye only."""
    from proxygraph.assemble import SEARCH_SAMPLES
    from proxygraph.kernels.population import Population

    table = problem.table.take(split.validation).thin(SEARCH_SAMPLES)
    evaluate, target = Population(table), problem.target[split.validation]
    here = judge.on(split.validation)

    def validate(state: IslandsState) -> Sequence[float]:
        values = evaluate([one.dag for one in state.hall.front()])
        return [float(f) for f in here.fitness(values, target)]

    return validate


def main() -> None:
    """Run the command."""
    run_command(evolve, "python -m proxygraph.evolve")


if __name__ == "__main__":
    main()
