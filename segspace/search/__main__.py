"""``python -m segspace.search``: the best-scored segmenters within a latency budget, none of them trained."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxygraph.command import completing, console, next_steps, reporting, run_command
from proxygraph.errors import BackendUnavailable, ConfigError
from segspace.options import (
    DATA,
    DATA_FORMS,
    FILES,
    MACHINE,
    MEASURING,
    SEARCH,
    BusyOk,
    Proxy,
    Runtime,
    Size,
    SpaceName,
    preset_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from proxygraph.dag import Dag
    from proxygraph.run import RunFolder
    from segspace.search.study import Candidate
    from segspace.search.together import Job, Prepared, Scoring

_LINE_SECONDS = 10.0


def search(
    proxy: Proxy,
    space: SpaceName = "rtseg:tiny",
    size: Size = "120x160",
    classes: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of classes; by default (0) that of --data, or 11.",
            rich_help_panel=DATA,
        ),
    ] = 0,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help=f"Take statistics on training pictures of this data set ({DATA_FORMS}), by default on drawn "
            "scenes.",
            rich_help_panel=DATA,
        ),
    ] = "",
    score_size: Annotated[
        str,
        typer.Option(metavar="HxW", help="Size of these pictures; by default --size.", rich_help_panel=DATA),
    ] = "",
    max_latency_ms: Annotated[
        float,
        typer.Option(
            metavar="MS",
            help="Budget: slower networks are not scored; by default none is too slow.",
            show_default=False,
            rich_help_panel=MEASURING,
        ),
    ] = math.inf,
    runtime: Runtime = "eager",
    busy_ok: BusyOk = False,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Latency table (.json); what it lacks is measured first; by default latency-RUNTIME.json.",
            rich_help_panel=MEASURING,
        ),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How networks are proposed: nsga2, evolution or random.",
            rich_help_panel=SEARCH,
            autocompletion=completing(lambda: ("nsga2", "evolution", "random")),
        ),
    ] = "nsga2",
    population: Annotated[
        int, typer.Option(metavar="N", help="Networks per generation.", rich_help_panel=SEARCH)
    ] = 50,
    trials: Annotated[
        int, typer.Option(min=1, metavar="N", help="Networks to score in all.", rich_help_panel=SEARCH)
    ] = 1000,
    time_budget: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Seconds after which this run stops; by default none.",
            show_default=False,
            rich_help_panel=SEARCH,
        ),
    ] = math.inf,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Seed of the search and of the networks' weights.",
            rich_help_panel=SEARCH,
        ),
    ] = 0,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes that score networks; with more than one, equal seeds do not give equal searches.",
            rich_help_panel=MACHINE,
        ),
    ] = 1,
    storage: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Database, such as postgresql://USER@HOST/NAME; by default study.db in --out.",
            rich_help_panel=FILES,
        ),
    ] = "",
    study: Annotated[
        str,
        typer.Option(
            "--study-name", metavar="NAME", help="Name of the study in the database.", rich_help_panel=FILES
        ),
    ] = "search",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the results.", rich_help_panel=FILES)
    ] = Path("runs/search"),
) -> None:
    """Find the networks with the best proxy score for their latency. Ctrl-C stops; the same command goes on.

    Example: python -m segspace.search --proxy snip --max-latency-ms 4 --size 64x96 --trials 20
    """
    from segspace.datasets.opening import parse_size
    from segspace.search.study import Rules
    from segspace.search.together import Job

    rules = Rules(sampler, population, max_latency_ms, seed)
    dag, pixels = _formula(proxy), parse_size(size)
    path = Path(f"latency-{runtime}.json") if table is None else table
    job = Job(
        preset=preset_of(space),
        size=pixels,
        classes=_classes(classes, data),
        table=path,
        formula=dag.to_json(),
        data=data,
        score_size=parse_size(score_size) if score_size else pixels,
        rules=rules,
        url=storage or f"sqlite:///{out / 'study.db'}",
        study=study,
    )
    screen, folder = console(), _folder(out)
    scoring = job.scoring()
    _check_study(job, scoring, runtime)
    _check_score(job, scoring, proxy)
    measure_latency(job, runtime, busy_ok, screen)
    prepared = job.prepared(scoring)
    ended, seconds = _searched(job, prepared, trials, processes, time_budget, screen)
    chosen = _conclude(job, prepared, dag, folder, ended, seconds, processes, screen)
    if ended == "stopped by Ctrl-C":
        screen.print(f"stopped; the same command goes on from {job.study!r} in its database")
        raise SystemExit(130)  # typer.Exit would be taken for a failure
    if chosen is not None:
        given = f" --data {shlex.quote(data)}" if data else ""
        next_steps(
            screen,
            f"see it: python -m segspace.report {shlex.quote(str(out))}",
            f"train it: python -m segspace.train {chosen.arch}{given} --size {size} --out runs/found",
        )


def measure_latency(job: Job, runtime: str, busy_ok: bool, screen: Console) -> None:
    """Measure the pieces of the space that the latency table lacks, and networks that calibrate it."""
    from segspace.latency.__main__ import built
    from segspace.latency.build import open_table, pieces_of
    from segspace.latency.runtimes import runtime as find
    from segspace.latency.table import LEAST_NETWORKS
    from segspace.rtseg.space import Space

    known = open_table(job.table, find(runtime))
    pieces = pieces_of(Space.preset(job.preset), job.size, job.classes)
    missing = [piece for piece in pieces if piece.text() not in known.pieces]
    if not missing and len(known.measured(job.size, job.classes)) >= LEAST_NETWORKS:
        return
    screen.print(
        f"{job.table}: {len(missing)} of {len(pieces)} pieces of the space are not measured for {runtime} at "
        f"{job.size[0]}x{job.size[1]}: measuring them first, once",
        soft_wrap=True,
    )
    built(
        job.table,
        runtime=runtime,
        space=f"rtseg:{job.preset}",
        size=f"{job.size[0]}x{job.size[1]}",
        classes=job.classes,
        busy_ok=busy_ok,
    )


def _formula(proxy: str) -> Dag:
    """Return the formula of a proxy; where a name or a folder seems to be meant, the error is of those."""
    from difflib import get_close_matches

    from proxygraph.errors import ParseError, UnknownName
    from proxygraph.leaves import STATISTICS
    from proxygraph.score import read_formula
    from proxygraph.zoo import ZOO

    try:
        return read_formula(proxy, STATISTICS)
    except (ParseError, UnknownName) as error:
        if "(" in proxy:
            raise
        near = get_close_matches(proxy, ZOO, n=3) or list(ZOO)
        raise ConfigError(
            f"--proxy {proxy}: {error}; hand-made proxies: {', '.join(near)}; or the folder of a run"
        ) from None


def _check_study(job: Job, scoring: Scoring, runtime: str) -> None:
    """Refuse a study of other settings before minutes of measuring, as far as they are known by then."""
    from segspace.latency.runtimes import runtime as find
    from segspace.latency.table import Setting
    from segspace.search.study import refuse_difference, shown_url, stored_config

    stored = stored_config(job.url, job.study)
    if stored is None:
        return
    latency, setting = str(stored.get("latency")), str(Setting.of(find(runtime)))
    # the calibration is compared once the table has one
    known = scoring.config | {"latency": latency if latency.startswith(f"{setting};") else setting}
    refuse_difference(f"study {job.study!r} in {shown_url(job.url)}", stored, known)


def _check_score(job: Job, scoring: Scoring, proxy: str) -> None:
    """Score one network, so that a proxy that cannot be taken at all is told before anything is measured."""
    import numpy as np

    from segspace.rtseg.space import Space

    try:
        scoring.scorer(str(Space.preset(job.preset).diverse(np.random.default_rng(0))))
    except ConfigError as error:
        raise ConfigError(f"--proxy {proxy}: {error}") from None


def _searched(
    job: Job, prepared: Prepared, trials: int, processes: int, time_budget: float, screen: Console
) -> tuple[str, float]:
    """Search, show how it goes, return why it ended and after how many seconds."""
    from segspace.resumable import stopping
    from segspace.search.study import DRAWS, candidates, open_study
    from segspace.search.together import search as run

    study, begin = open_study(job.url, job.study, prepared.config), time.monotonic()
    before = len(candidates(study))
    if before:
        screen.print(f"going on from {before} candidates")
    last = begin

    def timed_out() -> bool:
        return time.monotonic() - begin > time_budget

    with reporting(screen) as report, stopping() as asked:

        def told(_: Candidate) -> None:
            nonlocal last
            found = candidates(study)
            report("candidates", min(len(found), trials), trials)
            if time.monotonic() - last > _LINE_SECONDS:
                last = time.monotonic()
                screen.print(_line(found, (len(found) - before) / (last - begin)), soft_wrap=True)

        why = run(
            job,
            prepared,
            trials,
            processes,
            stop=lambda: asked() or timed_out(),
            told=told,
            warn=lambda line: typer.echo(f"warning: {line}", err=True),
        )
        if why == "stopped":
            why = "stopped by Ctrl-C" if asked() else "time budget"
    if why == "exhausted":
        screen.print(
            f"{len(candidates(study))} of {trials} candidates: none of {3 * DRAWS} more networks that were "
            "drawn is new, of known latency and within the budget; raise --max-latency-ms, or lower --size",
            soft_wrap=True,
        )
    return why, time.monotonic() - begin


def _line(found: list[Candidate], rate: float) -> str:
    from segspace.search.report import front

    best = front(found)
    if not best:
        return f"{len(found)} candidates, none with a score; {rate:.1f}/s"
    top = best[-1]
    return f"{rate:.1f}/s, {len(best)} on the front, best {top.score:.5g} at {top.cost:.2f} ms: {top.arch}"


def _conclude(
    job: Job,
    prepared: Prepared,
    dag: Dag,
    folder: RunFolder,
    ended: str,
    seconds: float,
    processes: int,
    screen: Console,
) -> Candidate | None:
    """Write the results and say what was found."""
    from dataclasses import asdict

    import optuna

    from proxygraph.infix import text
    from proxygraph.run import csv_text, environment
    from segspace.search.report import front, plot, write_results
    from segspace.search.study import candidates, open_study, redrawn, shown_url

    study = open_study(job.url, job.study, prepared.config)
    found, space = candidates(study), prepared.space
    invalid = [one.reason for one in found if one.score is None]
    result = {
        "proxy": {"infix": text(dag), "key": dag.key, "leaves": prepared.scorer.leaves},
        "settings": prepared.config
        | {"data": job.data or "street scenes", "score_size": list(job.score_size)},
        "study": {"name": job.study, "storage": shown_url(job.url)},
        "latency": {
            "table": str(job.table),
            "setting": asdict(space.table.setting),
            "calibration": space.table.calibration(job.size, job.classes)._asdict(),
        },
        "counts": {"candidates": len(found), "invalid": len(invalid), **redrawn(study)},
        "invalid_reasons": dict(Counter(invalid).most_common(5)),
        "ended": ended,
        "seconds": round(seconds, 1),
        "processes": processes,
        "environment": environment(1) | {"optuna": optuna.__version__, "cores": os.cpu_count()},
    }
    chosen = write_results(folder, found, space.cost_name, result)
    shares = [
        {"arch": one.arch, "step": step.name, "piece": step.key, "ms": f"{step.ms:.6g}"}
        for one in front(found)
        for step in space.shares(one.arch)
    ]
    folder.write("shares.csv", csv_text(shares))
    if invalid:
        reason, n = Counter(invalid).most_common(1)[0]
        screen.print(f"{len(invalid)} candidates have no score; {n} of them: {reason}", soft_wrap=True)
    if chosen is None:
        screen.print(f"{folder.path}: no candidate has a score")
        return None
    try:
        plot(
            found,
            folder.path / "front.png",
            proxy=text(dag),
            cost_label="predicted latency, ms",
            budget=job.rules.budget,
            title=f"{prepared.config['space']}, {job.size[0]}×{job.size[1]}, {space.table.setting.runtime}",
        )
    except BackendUnavailable as error:
        screen.print(f"no front.png: {error}", soft_wrap=True)
    screen.print(
        f"{folder.path}: {len(found)} candidates, chosen {chosen.arch}: score {chosen.score:.6g}, "
        f"{chosen.cost:.3f} ms, {chosen.macs / 1e6:.1f} M MACs, {chosen.params / 1e3:.0f} k parameters",
        soft_wrap=True,
    )
    return chosen


def _folder(out: Path) -> RunFolder:
    """Return the folder, made if need be."""
    from proxygraph.errors import StorageError
    from proxygraph.run import RunFolder

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{out}: cannot make this folder: {error.strerror}; choose another --out"
        ) from None
    return RunFolder(out)


def _classes(asked: int, data: str) -> int:
    """Return the number of classes: what is asked for, else that of the data set or the generated scenes."""
    from segspace.datasets import open_dataset

    there = len(open_dataset(data or "streetscenes").classes)
    if not data:
        if 0 < asked < there:
            raise ConfigError(
                f"--classes {asked}: the drawn street scenes have {there} classes; give more, or --data"
            )
        return asked or there
    if asked not in (0, there):
        raise ConfigError(f"--classes {asked}: {data} has {there} classes")
    return there


def main() -> None:
    """Run the command."""
    run_command(search, "python -m segspace.search")


if __name__ == "__main__":
    main()
