"""Does the search work? How far the network that a search chooses is from the best one of its pool.

    python benchmarks/search.py --transnas101 micro.csv --camvid --supernet runs/camvid-supernet
        --formulas runs/proxies/default/transnas101-* [--quick] [--json FILE]

The pools are the networks of the problems ``transnas101`` (published mIoU) and ``camvid`` (measured by
``segspace.groundtruth``); their statistics are those of ``proxygraph.evolve`` and ``benchmarks/proxies.py``,
collected once. What chooses: every hand-made proxy, formulas (--formulas: folders of runs of evolve, or
texts), the one-shot mIoU of a supernet (--supernet: its folder, with ``oneshot.csv`` of ``segspace.oneshot
rank``), random search that trains, and chance. Searches draw the order of the networks, with seeds; on
transnas101 they also propose networks by the samplers of ``segspace.search``. Regret is in points of mIoU,
cost in CPU seconds. A formula of a run is judged in a pool of its own, without the networks whose labels the
run has seen, beside chance, random search and the hand-made proxy that the run's training rows put first.

How to read the result: docs/search.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from benchmarks.common import Row, print_rows, row, write

# isort: split
import numpy as np
import torch

from benchmarks import discovery, handmade
from benchmarks.choosing import (
    Floats,
    Ints,
    Pool,
    chosen,
    common_length,
    looked_at,
    matching,
    median_interval,
    noise_of,
    orders,
    pool_interval,
)
from proxygraph.command import console, reporting
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.finish import exact_values
from proxygraph.problem import MIN_ROWS, Problem, Report, load_problem
from proxygraph.run import RunFolder
from proxygraph.score import read_formula
from proxygraph.zoo import ZOO
from segspace.batches import scenes
from segspace.checkpoint import read_header
from segspace.losses import segmentation_loss
from segspace.measured import Row as Measured
from segspace.measured import noise, read_rows
from segspace.models import build
from segspace.search.scoring import BATCHES, Scorer
from segspace.search.study import Rules

RESULTS = Path(__file__).parent / "results"
UNIT = "mIoU points of regret"
LIGHTER = "lighter half"
"""The networks of no more than median multiply-accumulates: a search under a budget. Without its curve."""
GRID = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SEARCHES, SAMPLED, LOOKS, POPULATION = 1000, 20, 200, 20
"""Searches in drawn orders; searches by samplers, networks they look at, their population."""
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


# ---- rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Arena:
    """A pool in which methods are compared.

    Attributes
    ----------
    problem, name : str
        Of the problem, and of the pool: ``all``, ``lighter half`` or the name of a run.
    pool : Pool
    order : ndarray of int, shape (S, N)
        Of drawn searches.
    """

    problem: str
    name: str
    pool: Pool
    order: Ints

    @classmethod
    def of(cls, problem: str, name: str, pool: Pool, searches: int) -> Arena:
        """Return the pool with drawn orders."""
        return cls(problem, name, pool, orders(len(pool), searches))

    @property
    def trained(self) -> Floats:
        """Regrets (S, N) of random searches that train 1, 2, ... N networks and keep the best of them.

        They see one training of each network and are judged, as all, by the mean over its trainings.
        """
        return self.pool.regret(chosen(self.pool.first, self.order))

    @property
    def training_seconds(self) -> float:
        """What a training costs, mean."""
        return float(self.pool.seconds.mean())

    @property
    def sizes(self) -> list[int]:
        """Numbers of networks that are reported."""
        n = len(self.pool)
        return [*(k for k in GRID if k < n), n]

    def row(self, engine: str, kept: Ints, n: int, cost: float, **more: Any) -> Row:
        """Return the row of some searches that keep networks `kept`, (S,), after `n` for `cost` seconds."""
        regrets, places = self.pool.regret(kept), self.pool.percentile(kept)
        low, high = more.pop("interval", None) or median_interval(regrets)
        p10, median, p90 = np.quantile(places, [0.1, 0.5, 0.9])
        about = {"problem": self.problem, "pool": self.name, "networks": len(self.pool)}
        about |= {"best": float(self.pool.target.max()), "cost_seconds": cost, "searches": len(kept)}
        about |= {"mean": float(regrets.mean()), "low": low, "high": high}
        about |= {"percentile": float(median), "percentile_p10": float(p10), "percentile_p90": float(p90)}
        return row(engine, regrets.tolist(), n_rows=n, dtype="float64", unit=UNIT, **about, **more)


def random_rows(arena: Arena) -> list[Row]:
    """Return the rows of chance and of random searches that train."""
    every = np.arange(len(arena.pool))
    rows = [arena.row("random pick", every, 0, 0.0, kind="random", sampler="none")]
    kept = chosen(arena.pool.first, arena.order)
    for k in arena.sizes:
        cost = k * arena.training_seconds
        rows.append(arena.row("random search", kept[:, k - 1], k, cost, kind="random", sampler="random"))
    return rows


def method_rows(arena: Arena, method: Method, order: Ints, sampler: str) -> list[Row]:
    """Return the rows of one method whose searches look at networks in this order (S, n)."""
    pool, trained = arena.pool, arena.trained
    kept = chosen(method.scores, order)
    rows = []
    sizes = [n for n in arena.sizes if n <= order.shape[1]]
    if arena.name == LIGHTER or sampler != "random":
        sizes = sizes[-1:]
    for n in sizes:
        regrets, cost = pool.regret(kept[:, n - 1]), method.cost(n)
        trainings = cost / arena.training_seconds
        k = min(len(pool), math.floor(trainings))
        same_cost = pool.regret(np.arange(len(pool))) if k == 0 else trained[:, k - 1]
        about = {
            "kind": method.kind,
            "sampler": sampler,
            "invalid": int((~np.isfinite(method.scores)).sum()),
            "trainings": trainings,
            "random_median": float(np.median(same_cost)),
            "random_p10": float(np.quantile(same_cost, 0.1)),
            "random_p90": float(np.quantile(same_cost, 0.9)),
            "worth": matching(trained, float(np.median(regrets))),
        }
        if n == len(pool):
            about["interval"] = pool_interval(pool, method.scores)
        rows.append(arena.row(method.name, kept[:, n - 1], n, cost, **about))
    return rows


def sampled_rows(arena: Arena, method: Method, searches: int, looks: int) -> list[Row]:
    """Return the rows of one method under the other samplers of ``segspace.search``."""
    if not np.isfinite(method.scores).any():
        return []
    rows = []
    for sampler in ("evolution", "nsga2"):
        found = [
            looked_at(arena.pool, method.scores, Rules(sampler, POPULATION, math.inf, seed), looks)
            for seed in range(searches)
        ]
        rows += method_rows(arena, method, common_length(found), sampler)
    return rows


def noise_rows(arena: Arena, seed_sd: float) -> list[Row]:
    """Return what noise alone does: the regret of perfect knowledge, and of perfect measurement."""
    found, rows = noise_of(arena.pool, seed_sd), []
    for engine, values in (("perfect knowledge", found.oracle), ("best measured", found.measured)):
        about = {"problem": arena.problem, "pool": arena.name, "kind": "noise", "sampler": "none"}
        about |= {"networks": len(arena.pool), "seed_sd": seed_sd, "mean": float(values.mean())}
        rows.append(row(engine, values.tolist(), n_rows=len(arena.pool), dtype="float64", unit=UNIT, **about))
    return rows


def problem_rows(
    problem: Problem,
    pool: Pool,
    methods: Mapping[str, Method],
    formulas: Sequence[Discovered],
    options: argparse.Namespace,
    report: Report,
) -> list[Row]:
    """Return all rows of one problem."""
    blind = [
        method for name, method in methods.items() if name not in {one.name for one in formulas if one.seen}
    ]
    lighter = np.flatnonzero(pool.macs <= np.median(pool.macs))
    arenas = [("all", np.arange(len(pool)), blind), (LIGHTER, lighter, blind)]
    for one in formulas:
        left = unseen(pool, one.seen)
        if not one.seen:
            continue
        if len(left) < MIN_ROWS:
            raise ConfigError(f"{one.name}: has seen all but {len(left)} networks of {problem.name}")
        rival = [methods[one.rival]] if one.rival in methods else []
        arenas.append((one.name, left, [methods[one.name], *rival]))
    rows, searches = [], options.searches
    for k, (name, left, used) in enumerate(arenas):
        report("pools", k, len(arenas))
        arena = Arena.of(problem.name, name, pool.take(left), searches)
        rows += random_rows(arena)
        for method in (one.take(left) for one in used):
            rows += method_rows(arena, method, arena.order, "random")
            if problem.name == "transnas101" and name != LIGHTER:
                rows += sampled_rows(arena, method, min(SAMPLED, searches), options.looks)
    report("pools", len(arenas), len(arenas))
    return rows


# ---- the command -------------------------------------------------------------------------------------------


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transnas101", type=Path, metavar="CSV", help="published results of micro networks")
    parser.add_argument(
        "--camvid",
        nargs="?",
        const="",
        metavar="DIR",
        help="the measured networks of CamVid; with its folder statistics are taken on its pictures",
    )
    parser.add_argument("--supernet", type=Path, help="folder of a trained supernet, with its oneshot.csv")
    parser.add_argument("--formulas", nargs="+", default=[], metavar="RUN|TEXT", help="of proxygraph.evolve")
    parser.add_argument("--networks", type=int, default=8, help="networks whose scoring is timed (8)")
    parser.add_argument("--searches", type=int, default=SEARCHES, help=f"drawn searches ({SEARCHES})")
    parser.add_argument("--looks", type=int, default=LOOKS, help=f"networks that samplers look at ({LOOKS})")
    parser.add_argument("--quick", action="store_true", help="few networks and searches, no result file")
    parser.add_argument("--json", type=Path, help="write the result to this file [results/search.json]")
    options = parser.parse_args(arguments)
    if options.transnas101 is None and options.camvid is None:
        parser.error("nothing to search: give --transnas101 CSV, --camvid or both")
    if options.supernet is not None and options.camvid is None:
        parser.error("--supernet ranks the networks of --camvid: give that, too")
    if options.json is None and not options.quick:
        options.json = RESULTS / "search.json"
    if options.quick:
        options.networks, options.searches, options.looks = 1, 20, 20
    return options


def rows(options: argparse.Namespace, report: Report) -> list[Row]:
    """Collect what is missing and return the rows of all problems."""
    found: list[Row] = []
    if options.transnas101 is not None:
        query = "?sample=20" if options.quick else ""
        problem = load_problem(f"transnas101:{options.transnas101}{query}", None, report)
        formulas = [discovered(text, problem) for text in options.formulas]
        methods = methods_of(problem, formulas, options.networks, report)
        found += problem_rows(problem, transnas101_pool(problem), methods, formulas, options, report)
    if options.camvid is not None:
        problem = load_problem(f"camvid:{options.camvid}" if options.camvid else "camvid", None, report)
        measured, classes = camvid_table()
        pool = camvid_pool(problem, measured)
        formulas = [discovered(text, problem) for text in options.formulas]
        methods = methods_of(problem, formulas, options.networks, report)
        if options.supernet is not None:
            methods["one-shot"] = oneshot(options.supernet, pool, classes)
        found += problem_rows(problem, pool, methods, formulas, options, report)
        if seed_sd := noise(measured).get("seed_sd"):
            found += noise_rows(Arena.of("camvid", "all", pool, 1), float(seed_sd))
    return found


def main() -> None:
    """Measure, print, write."""
    options = options_of()
    torch.set_num_threads(1)
    with reporting(console()) as report:
        found = rows(options, report)
    last = {(one["problem"], one["pool"], one["engine"], one["sampler"]): one for one in found}
    print_rows(last.values(), "problem", "pool", "sampler", "cost_seconds", "percentile", "worth")
    write(options.json, "search", found)


if __name__ == "__main__":
    main()
