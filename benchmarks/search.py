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

How to read the result: docs/segmenter-search.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.common import Row, print_rows, row, write

# isort: split
import numpy as np
import torch

from benchmarks import choosers
from benchmarks.choosers import Discovered, Method
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
from proxygraph.command import console, fail, reporting
from proxygraph.errors import ConfigError, ProxyGraphError
from proxygraph.problem import MIN_ROWS, Problem, Report, load_problem
from segspace.measured import noise
from segspace.search.study import Rules

RESULTS = Path(__file__).parent / "results"
UNIT = "mIoU points of regret"
LIGHTER = "lighter half"
"""The networks of no more than median multiply-accumulates: a search under a budget. Without its curve."""
GRID = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SEARCHES, SAMPLED, LOOKS, POPULATION = 1000, 20, 200, 20
"""Searches in drawn orders; searches by samplers, networks they look at, their population."""


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

    @cached_property
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
        left = choosers.unseen(pool, one.seen)
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
        formulas = choosers.all_discovered(options.formulas, problem)
        methods = choosers.methods_of(problem, formulas, options.networks, report)
        found += problem_rows(problem, choosers.transnas101_pool(problem), methods, formulas, options, report)
    if options.camvid is not None:
        problem = load_problem(f"camvid:{options.camvid}" if options.camvid else "camvid", None, report)
        measured, classes = choosers.camvid_table()
        pool = choosers.camvid_pool(problem, measured)
        formulas = choosers.all_discovered(options.formulas, problem)
        methods = choosers.methods_of(problem, formulas, options.networks, report)
        if options.supernet is not None:
            methods["one-shot"] = choosers.oneshot(options.supernet, pool, classes)
        found += problem_rows(problem, pool, methods, formulas, options, report)
        if seed_sd := noise(measured).get("seed_sd"):
            found += noise_rows(Arena.of("camvid", "all", pool, 1), float(seed_sd))
    return found


def main() -> None:
    """Measure, print, write."""
    options = options_of()
    torch.set_num_threads(1)
    try:
        with reporting(console()) as report:
            found = rows(options, report)
    except ProxyGraphError as error:
        fail(error, 2)
    last = {(one["problem"], one["pool"], one["engine"], one["sampler"]): one for one in found}
    print_rows(last.values(), "problem", "pool", "sampler", "cost_seconds", "percentile", "worth")
    write(options.json, "search", found)


if __name__ == "__main__":
    main()
