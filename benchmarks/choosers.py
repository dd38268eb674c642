"""What chooses and what from: pools of problems, proxies, formulas of runs, one-shot scores, their cost."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import discovery, handmade
from benchmarks.choosing import Floats, Ints, Pool
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.finish import exact_values
from proxygraph.problem import Problem, Report
from proxygraph.run import RunFolder
from proxygraph.score import read_formula
from proxygraph.zoo import ZOO
from segspace.batches import scenes
from segspace.checkpoint import read_header
from segspace.losses import segmentation_loss
from segspace.measured import Row as Measured
from segspace.measured import read_rows
from segspace.models import build
from segspace.search.scoring import BATCHES, Scorer

PUBLISHED_SECONDS = 193_760 * 3600 / 51_464
"""Of one training of TransNAS-Bench-101: V100 hours of the whole benchmark over its models, by its authors
(openreview.net/forum?id=HUd2wQ0j200). They stand for CPU seconds: random search gets too many of them."""


@dataclass(frozen=True, eq=False)
class Method:
    """Something that scores networks.

    Attributes
    ----------
    name : str
    kind : str
        ``handmade``, ``formula`` or ``oneshot``.
    scores : ndarray, shape (N,)
    seconds : float
        CPU seconds per network.
    start : float
        CPU seconds before the first network.
    """

    name: str
    kind: str
    scores: Floats
    seconds: float
    start: float = 0.0

    def take(self, rows: Ints) -> Method:
        """Return the method on some of the networks."""
        return Method(self.name, self.kind, self.scores[rows], self.seconds, self.start)

    def cost(self, n: int) -> float:
        """Return the CPU seconds of scoring so many networks."""
        return self.start + n * self.seconds


@dataclass(frozen=True)
class Discovered:
    """A formula that is given.

    Attributes
    ----------
    name : str
        Of its run's folder, or its text.
    dag : Dag
    seen : frozenset of str
        Networks whose labels chose it.
    rival : str
        The hand-made proxy that is best on the run's training rows; empty if there is no run.
    """

    name: str
    dag: Dag
    seen: frozenset[str] = frozenset()
    rival: str = ""


# ---- formulas ----------------------------------------------------------------------------------------------


def discovered(text: str, problem: Problem) -> Discovered:
    """Return a formula to be judged on a problem, and which networks its labels were of.

    Raises
    ------
    ConfigError
        If the run does not tell which networks it has seen.
    """
    dag, folder = read_formula(text, problem.table.leaves), Path(text)
    if "(" in text or not folder.is_dir():
        return Discovered(text, dag)
    result = RunFolder(folder).read("result.json")
    try:
        with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
            parts = [(line["row"], line["part"]) for line in csv.DictReader(file)]
    except (OSError, KeyError) as error:
        raise ConfigError(f"{folder}: scores.csv does not tell what the run has seen: {error}") from None
    total = sum(result["problem"]["rows"].values())
    if len(parts) < total:
        raise ConfigError(f"{folder}: scores.csv names {len(parts)} of {total} networks: run it on fewer")
    joined = result["problem"]["name"].split("+")  # of several problems the rows begin with their problem
    seen = frozenset(_without(name, joined) for name, part in parts if part != "test")
    return Discovered(folder.name, dag, seen, _rival(result["baselines"], problem.name))


def all_discovered(texts: Sequence[str], problem: Problem) -> list[Discovered]:
    """Return formulas to be judged on a problem; their names tell them apart.

    Raises
    ------
    ConfigError
        As `discovered`, and if two of them, or one and a hand-made proxy, have the same name.
    """
    found: dict[str, Discovered] = {}
    for text in texts:
        one = discovered(text, problem)
        handmade_one = one.name in ZOO and not ZOO[one.name].found_on
        if handmade_one or one.name in found:
            other = "a hand-made proxy" if handmade_one else "another one"
            raise ConfigError(f"--formulas {text}: {other} is called {one.name!r}, too; names must differ")
        found[one.name] = one
    return list(found.values())


def _without(name: str, problems: Sequence[str]) -> str:
    """Return the name of a row without the problem that it begins with."""
    start, _, rest = name.partition(":")
    return rest if len(problems) > 1 and start in problems else name


def _rival(baselines: Sequence[dict[str, Any]], problem: str) -> str:
    """Return the hand-made proxy that is best on a run's training rows, those of the problem where known."""

    def told(train: dict[str, Any]) -> dict[str, Any]:
        return train | {"spearman": train.get(f"spearman in {problem}", train["spearman"])}

    known = discovery.best_known({"name": one["name"], "train": told(one["train"])} for one in baselines)
    return str(known["name"])


def unseen(pool: Pool, seen: frozenset[str]) -> Ints:
    """Return the networks of a pool that are none of those seen, and equal to none of them.

    Names are compared whatever the labels were: a formula found on one data set is not judged on the same
    architectures with labels of another.
    """
    groups = {group for name, group in zip(pool.archs, pool.groups, strict=True) if name in seen}
    left = [i for i, name in enumerate(pool.archs) if name not in seen and pool.groups[i] not in groups]
    return np.array(left, dtype=np.int64)


# ---- data --------------------------------------------------------------------------------------------------


def transnas101_pool(problem: Problem) -> Pool:
    """Return the published networks of a problem."""
    n, y = problem.table.n_rows, problem.target
    seconds = np.full(n, PUBLISHED_SECONDS)
    macs = problem.table.columns["macs_total"].astype(np.float64)
    return Pool(problem.table.rows, problem.groups, y, y, np.ones(n, np.int64), seconds, macs)


def camvid_pool(problem: Problem, measured: Sequence[Measured]) -> Pool:
    """Return the networks of the table of measured ones, in the order of the problem."""
    rows = [
        sorted((m for m in measured if m.arch == name), key=lambda m: m.seed) for name in problem.table.rows
    ]
    return Pool(
        problem.table.rows,
        problem.groups,
        problem.target,
        np.array([found[0].miou for found in rows]),
        np.array([len(found) for found in rows]),
        np.array([np.mean([one.seconds for one in found]) for found in rows]),
        problem.table.columns["macs_total"].astype(np.float64),
    )


def camvid_table() -> tuple[list[Measured], list[str]]:
    """Return the rows of the measured table that the package has, and the names of the classes."""
    with as_file(files("segspace") / "data" / "camvid_rtseg.csv") as path:
        classes = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["classes"]
        return read_rows(path, classes), classes


def oneshot(folder: Path, pool: Pool, classes: Sequence[str]) -> Method:
    """Return the one-shot mIoU of the networks of a pool, as ``segspace.oneshot rank`` left it.

    Raises
    ------
    ConfigError
        If networks are missing.
    """
    scores = {one.arch: one for one in read_rows(folder / "oneshot.csv", classes)}
    missing = [name for name in pool.archs if name not in scores]
    if missing:
        raise ConfigError(
            f"{folder}: {len(missing)} networks have no one-shot score, such as {missing[0]}; "
            f"python -m segspace.oneshot rank {folder} --table segspace/data/camvid_rtseg.csv"
        )
    rows = [scores[name] for name in pool.archs]
    seconds = float(np.mean([one.seconds for one in rows]))
    values = np.array([one.miou for one in rows])
    return Method("one-shot", "oneshot", values, seconds, supernet_seconds(folder))


def supernet_seconds(folder: Path) -> float:
    """Return the CPU seconds of a training; older checkpoints lack them: the seconds of the journal then."""
    if spent := read_header(folder).cpu_seconds:
        return spent
    lines = [json.loads(one) for one in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    walls = [float(one["seconds"]) for one in lines]
    # they begin anew with every sitting
    return sum(now for now, after in zip(walls, [*walls[1:], 0.0], strict=True) if after < now)


# ---- scores and what they cost -----------------------------------------------------------------------------


def methods_of(
    problem: Problem, formulas: Sequence[Discovered], networks: int, report: Report
) -> dict[str, Method]:
    """Return all proxies and formulas with their scores and CPU seconds per network.

    Parameters
    ----------
    networks : int
        How many networks are timed.
    """
    scores = {name: values for name, values in handmade.scores_of(problem.table).items() if name in ZOO}
    dags = {name: ZOO[name].dag for name in scores} | {one.name: one.dag for one in formulas}
    every = np.arange(problem.table.n_rows)
    for k, one in enumerate(formulas):
        report("scoring formulas", k, len(formulas))
        scores[one.name] = exact_values(one.dag, problem.table, every)
    chosen = np.random.default_rng(11).permutation(every)[:networks]
    seconds = scoring_seconds(problem, dags, [problem.table.rows[i] for i in chosen], report)
    given = {one.name for one in formulas}
    return {
        name: Method(name, "formula" if name in given else "handmade", values, seconds[name])
        for name, values in scores.items()
    }


def scoring_seconds(
    problem: Problem, dags: Mapping[str, Dag], archs: Sequence[str], report: Report
) -> dict[str, float]:
    """Return the CPU seconds that ``segspace.search`` takes to score a network by each formula, mean.

    A network is built, the formula's leaves are collected, the formula is evaluated. Formulas take turns.
    """
    if problem.name == "camvid":
        batches, loss, classes, kind = scenes(BATCHES, (120, 160)), segmentation_loss, 11, ""
    else:
        batches, loss, classes, kind = (
            scenes(BATCHES, (64, 64)),
            torch.nn.functional.cross_entropy,
            17,
            "transnas101:",
        )
    networks = partial(_network, kind, classes)
    scorers = {name: Scorer(dag, networks, batches, loss) for name, dag in dags.items()}
    total = dict.fromkeys(dags, 0.0)
    for turn, arch in enumerate([archs[0], *archs]):  # the first pays for what torch loads lazily
        report("timing scores", turn, len(archs) + 1)
        for name, scorer in scorers.items():
            start = time.process_time()
            scorer(arch)
            total[name] += (time.process_time() - start) if turn else 0.0
    return {name: seconds / len(archs) for name, seconds in total.items()}


def _network(kind: str, classes: int, arch: str) -> torch.nn.Module:
    return build(kind + arch, classes, seed=0)
