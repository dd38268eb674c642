"""One search of the real-time segmenters in one or several processes."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from proxygraph.dag import Dag
from proxygraph.stats.request import DEFINITIONS, digest
from segspace.batches import photographs, scenes
from segspace.datasets import open_dataset
from segspace.latency.table import LatencyTable, Size
from segspace.losses import segmentation_loss
from segspace.models import build
from segspace.search.scoring import BATCHES, Scorer, needs_pictures
from segspace.search.space import Segmenters
from segspace.search.study import Candidate, Rules, explore, open_study

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

PATIENCE: Final = 120.0
"""Seconds that the other processes get to finish their candidates."""


@dataclass(frozen=True)
class Job:
    """Everything a process needs to take part in a search; pickles.

    Attributes
    ----------
    preset, size, classes
        Of the space, and of the images that latency is of.
    table : Path
        Latency table.
    formula : dict
        The proxy, as `Dag.to_json` has it.
    data : str
        Data set whose training pictures statistics are taken on; empty: generated street scenes.
    score_size : (int, int)
        Height and width of these pictures.
    rules : Rules
        How networks are proposed.
    url, study : str
        Database and name of the study.
    """

    preset: str
    size: Size
    classes: int
    table: Path
    formula: dict[str, Any]
    data: str
    score_size: Size
    rules: Rules
    url: str
    study: str

    def scoring(self) -> Scoring:
        """Draw or read the pictures, compile the formula: all that needs no latency.

        Raises
        ------
        ConfigError
            If something of it is not in order.
        """
        torch.set_num_threads(1)  # sums keep their order: a score does not depend on the machine's load
        dag = Dag.from_json(self.formula)
        if self.data:
            batches = photographs(open_dataset(self.data), BATCHES, self.score_size)
        else:
            batches = scenes(BATCHES, self.score_size)
        scorer = Scorer(dag, partial(_network, self.classes, self.rules.seed), batches, segmentation_loss)
        config = {
            "space": f"rtseg:{self.preset}",
            "size": list(self.size),
            "classes": self.classes,
            "max_latency_ms": self.rules.budget
            if math.isfinite(self.rules.budget)
            else None,  # as JSON has it
            "proxy": dag.key,
            "pictures": digest(batches) if needs_pictures(dag) else list(self.score_size),
            "statistics": f"definitions {DEFINITIONS}, torch {torch.__version__}",
            "sampler": self.rules.sampler,
            "population": self.rules.population,
            "seed": self.rules.seed,
        }
        return Scoring(scorer, config)

    def prepared(self, scoring: Scoring) -> Prepared:
        """Load the latency table.

        Raises
        ------
        ConfigError
            If there is none, or it is not calibrated.
        """
        space = Segmenters(self.preset, LatencyTable.load(self.table), self.size, self.classes)
        line = space.table.calibration(self.size, self.classes)  # without one no cost is known: say so now
        latency = f"{space.table.setting}; {line.slope:.4f} x sum {line.offset:+.4f} ms"
        return Prepared(space, scoring.scorer, scoring.config | {"latency": latency})


@dataclass(frozen=True)
class Scoring:
    """What scores the networks of a job; `config` is what is known of a study without its latencies."""

    scorer: Scorer
    config: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A job made ready; `config` is what the candidates of a study have in common."""

    space: Segmenters
    scorer: Scorer
    config: dict[str, Any]


def search(
    job: Job,
    prepared: Prepared,
    trials: int,
    processes: int,
    *,
    stop: Callable[[], bool],
    told: Callable[[Candidate], None],
    warn: Callable[[str], None],
) -> str:
    """Run a job in this process and in ``processes - 1`` others, return why it ended (see `explore`).

    Parameters
    ----------
    job, prepared
        The job, and what came out of `Job.prepared`.
    trials : int
        Candidates that the study is to have.
    processes : int
        With one, equal seeds give equal searches; with more, who is faster decides what is proposed next.
    stop, told : callable
        See `explore`; `told` gets the candidates of this process only.
    warn : callable
        Gets a line if another process failed; the search goes on without it.
    """
    study = open_study(job.url, job.study, prepared.config)
    context = get_context("spawn")
    ended = context.Event()
    others = [
        context.Process(target=_take_part, args=(job, trials, k, ended), daemon=True)
        for k in range(1, processes)
    ]
    with _ctrl_c_ignored():
        for other in others:
            other.start()
    try:
        return explore(study, prepared.space, prepared.scorer, job.rules, trials, stop=stop, told=told)
    finally:
        ended.set()
        for k, other in enumerate(others, start=1):
            other.join(PATIENCE)
            if other.exitcode is None:
                warn(f"process {k} did not finish in {PATIENCE:.0f} s and is stopped; what it scored is kept")
            elif other.exitcode != 0:
                warn(f"process {k} ended with code {other.exitcode}; what it had scored is kept")


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let processes that are started inside ignore Ctrl-C from their first instruction; it is the first's."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _take_part(job: Job, trials: int, worker: int, ended: Event) -> None:
    """Run a job in a process of its own, until the first process says so or is gone."""
    first = parent_process()

    def stop() -> bool:
        return ended.is_set() or (first is not None and not first.is_alive())

    prepared = job.prepared(job.scoring())
    study = open_study(job.url, job.study, prepared.config)
    explore(study, prepared.space, prepared.scorer, job.rules, trials, worker=worker, stop=stop)


def _network(classes: int, seed: int, arch: str) -> torch.nn.Module:
    return build(arch, classes, seed=seed)
