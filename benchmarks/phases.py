"""Where does the time of evaluating a population, of its second thread, and of a ranking go?

    python benchmarks/phases.py [--quick] [--only {evaluation,threads,ranking}] [--json FILE]

**evaluation**: the trees of ``trees.py``, float32, one thread, CPU time per tree. Planning and the loop
over instructions are timed where they are called. What the loop spends is found by running other plans:

* *dispatch*: the same instructions on blocks of no rows;
* *cheap*, *division*, *functions*: what it takes more if every instruction of that kind is run twice in a row
  (a result never lies where an operand does, so that this changes no value), less what that takes on no rows;
* *results*: what it takes less if all results are written to the place of one, which stays in the cache;
* *waiting*: the rest, which is operands that are no longer in the first cache, and branches not foreseen. An
  instruction that is run again finds both.

**threads**: the same trees shared, by the clock: when which thread plans and runs instructions, with one
thread and with two; and what two runs of one thread each take if they run at once, which is what the machine
has to give. **ranking**: rows of ``ranking.py``, CPU time per row: with quantising alone, with sorting, with
counting.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from benchmarks.common import Engine, Row, arguments, measure, print_rows, row, write, written

import numpy as np  # isort: skip

from benchmarks import throughput, trees
from benchmarks.loop import Clock
from benchmarks.ranking import rows_of
from proxygraph.compact.forest import CODES, ROW, Forest
from proxygraph.jit import jit
from proxygraph.kernels import interpreter
from proxygraph.kernels import population as planner
from proxygraph.kernels.plan import A_PLACE, B_PLACE, OP, OUT, TO, TO_PLACE, A, B, finish
from proxygraph.kernels.population import Population
from proxygraph.kernels.ranking import Target, kendall_row, spearman_row
from proxygraph.kernels.scratch import aligned
from proxygraph.kernels.sorting import Work, order_groups, quantised

THREADS = throughput.THREADS
SIZES = ((500, 1000, 61), (4096, 1000, 31), (10_000, 1000, 21), (100_000, 200, 15))
"""Rows, trees, repeats."""
KINDS = {
    "cheap": ("add", "sub", "mul", "abs", "square"),
    "division": ("div", "sqrt"),
    "functions": ("exp", "log", "tanh", "sin", "cos"),
}
PLACES = (
    (planner, "collect_parts", "equal parts"),
    (planner, "arrange", "places"),
    (interpreter, "run_rows", "instructions"),
    (planner, "finish", "copying"),
)
"""What is timed where it is called."""


@contextmanager
def replaced(wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Wrap the functions of `PLACES` by ``wrap(what, function)``."""
    with ExitStack() as stack:
        for owner, name, what in PLACES:
            stack.enter_context(mock.patch.object(owner, name, wrap(what, getattr(owner, name))))
        yield


# ---- one thread --------------------------------------------------------------------------------------------


def called(population: Population, forest: Forest, out: Any, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every stage of a run, and of the run."""
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        clock = Clock()
        with replaced(clock.timing):
            clock.timing("python and memory", population.run)(forest, out)
        for what, seconds in {**clock.seconds, "all": sum(clock.seconds.values())}.items():
            found.setdefault(what, []).append(seconds)
    return found


class Loop:
    """The loop over instructions of one plan, and what else it may be run on."""

    def __init__(self, population: Population, forest: Forest, out: Any) -> None:
        self.plan = population._planned(forest, 1)  # the last one: it is gone with the next
        self.starts, self.extent = population._starts[ROW], population._extent[ROW]
        self.room = population._longest[ROW]
        work = aligned(int(self.plan.slots[ROW] * self.room), population.dtype)
        self.memory = (population._stores[ROW], work, out.reshape(-1))
        self.steps = self.plan.steps[: self.plan.n_steps]

    def run(self, steps: Any, literal: Any, starts: Any) -> Callable[[], None]:
        """Return a run of these instructions."""
        stretches, blocks = np.array([[0, len(steps), len(steps)]]), len(starts) - 1
        what = (
            np.ascontiguousarray(steps),
            np.ascontiguousarray(literal)[None],
            stretches,
            starts,
            0,
            blocks,
        )
        return lambda: interpreter.run_rows(*what, self.room, self.extent, self.memory)

    def of_kind(self, kind: str) -> Any:
        """Return which instructions are of a kind."""
        return np.isin(self.steps[:, OP], [CODES[name] for name in KINDS[kind]])

    def variants(self) -> dict[str, Callable[[], None]]:
        """Return the runs that `spent` compares."""
        literal, none = self.plan.literal[0][: len(self.steps)], np.zeros_like(self.starts)
        one_place = self.steps.copy()
        for where, place in ((TO, TO_PLACE), (A, A_PLACE), (B, B_PLACE)):
            one_place[one_place[:, where] == OUT, place] = 0
        found = {
            "as it is": self.run(self.steps, literal, self.starts),
            "no rows": self.run(self.steps, literal, none),
            "one place": self.run(one_place, literal, self.starts),
        }
        for kind in KINDS:
            twice = np.repeat(np.arange(len(self.steps)), 1 + self.of_kind(kind))
            found[f"{kind} twice"] = self.run(self.steps[twice], literal[twice], self.starts)
            found[f"{kind} twice, no rows"] = self.run(self.steps[twice], literal[twice], none)
        return found


def spent(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the seconds of every part of the loop, one for each turn."""
    of = {name: np.array(seconds) for name, seconds in times.items()}
    found = {"dispatch": of["no rows"]}
    for kind in KINDS:
        found[kind] = of[f"{kind} twice"] - of["as it is"] - of[f"{kind} twice, no rows"] + of["no rows"]
    found["results"] = of["as it is"] - of["one place"]
    found["waiting"] = of["as it is"] - sum(found.values())
    return {name: seconds.tolist() for name, seconds in found.items()}


def evaluation(quick: bool) -> list[Row]:
    """Return what every part of a run takes, plain and shared."""
    rows: list[Row] = []
    for n_rows, n_trees, repeats in SIZES[:2] if quick else SIZES:
        repeats = 5 if quick else repeats
        forest = throughput.forest_of(trees.random_trees(trees.TREES, trees.MEAN_NODES)[:n_trees])
        table = throughput.table_of(trees.columns_of(n_rows, np.float32))
        out = np.empty((n_trees, n_rows), np.float32)
        cases = {
            "plain": throughput.apart(forest, table, np.float32),
            "shared": (Population(table, 1, 0, np.float32), forest),
        }
        for way, (population, forest) in cases.items():
            about: Row = {"n_rows": n_rows, "dtype": "float32", "part": "evaluation", "trees": n_trees}
            about |= {"unit": "us/tree", "scale": 1e6 / n_trees, "way": way}
            expected = population.run(forest, out).copy()
            stages = called(population, forest, out, repeats)
            loop = Loop(population, forest, out)
            variants = loop.variants()
            for name in ("as it is", *(f"{kind} twice" for kind in KINDS)):
                out.fill(np.nan)
                variants[name]()
                finish(loop.plan.nodes, loop.plan.roots, n_rows, population._stores[ROW], out.reshape(-1))
                np.testing.assert_array_equal(out, expected, err_msg=name)
            inside = spent(measure({name: Engine(run) for name, run in variants.items()}, repeats))
            counts = {kind: int(loop.of_kind(kind).sum()) for kind in KINDS} | {"dispatch": len(loop.steps)}
            new = [row(stage, seconds, **about) for stage, seconds in stages.items()]
            for name, seconds in inside.items():
                more: Row = {"instructions": counts[name]} if name in counts else {}
                new.append(row(f"instructions: {name}", seconds, **more, **about))
            print_rows(new, "way", "instructions")
            rows += new
    return rows


# ---- two threads -------------------------------------------------------------------------------------------


class Spans:
    """When which thread did what, by the clock."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, float, float]] = []

    def watching(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function; every call is noted."""

        @functools.wraps(function)
        def watched(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.found.append((threading.get_ident(), what, start, time.perf_counter()))

        return watched

    def summed(self, *which: str) -> float:
        """Return the seconds of all calls of these functions."""
        return sum(end - start for _, what, start, end in self.found if what in which)

    def at_once(self) -> float:
        """Return the seconds in which two calls or more were running."""
        events = sorted([(start, 1) for *_, start, _ in self.found] + [(end, -1) for *_, end in self.found])
        total, running, before = 0.0, 0, 0.0
        for now, change in events:
            total += (now - before) * (running >= 2)
            running, before = running + change, now
        return total


def watched_run(population: Population, forest: Forest, out: Any) -> dict[str, float]:
    """Return the seconds of one run by the clock, and what was going on meanwhile."""
    spans = Spans()
    with replaced(spans.watching):
        start = time.perf_counter()
        population.run(forest, out)
        seconds = time.perf_counter() - start
    planning = spans.summed("equal parts", "places")
    running = spans.summed("instructions", "copying")
    return {"all": seconds, "planning": planning, "instructions": running, "both threads": spans.at_once()}


def side_by_side(pairs: list[tuple[Population, Any]], forest: Forest) -> float:
    """Return the seconds that several runs take if they begin together, each on one thread of its own."""
    gate = threading.Barrier(len(pairs) + 1)

    def one(population: Population, out: Any) -> float:
        gate.wait()
        start = time.perf_counter()
        population.run(forest, out)
        return time.perf_counter() - start

    with ThreadPoolExecutor(len(pairs)) as pool:
        begun = [pool.submit(one, *pair) for pair in pairs]
        gate.wait()
        return max(future.result() for future in begun)


def threads(quick: bool) -> list[Row]:
    """Return the time line of one thread and of two, in turns."""
    rows: list[Row] = []
    for n_rows, n_trees, repeats in SIZES[:2] if quick else SIZES:
        forest = throughput.forest_of(trees.random_trees(trees.TREES, trees.MEAN_NODES)[:n_trees])
        table = throughput.table_of(trees.columns_of(n_rows, np.float32))
        found: dict[tuple[str, int], list[float]] = {}
        cases = [(n, Population(table, n, 0, np.float32)) for n in (1, THREADS)]
        outs = [np.empty((n_trees, n_rows), np.float32) for _ in range(THREADS)]
        alone = [(Population(table, 1, 0, np.float32), out) for out in outs]
        side_by_side(alone, forest)
        for turn in range(1 + (5 if quick else 2 * repeats)):
            for n, population in cases:
                for what, seconds in watched_run(population, forest, outs[0]).items():
                    if turn > 0:  # the first one starts threads
                        found.setdefault((what, n), []).append(seconds)
            found.setdefault(("as much again at once", 1), []).append(side_by_side(alone, forest))
        about: Row = {"n_rows": n_rows, "dtype": "float32", "part": "threads", "trees": n_trees}
        about |= {"unit": "us/tree by the clock", "scale": 1e6 / n_trees}
        new = [row(what, seconds, threads=n, **about) for (what, n), seconds in found.items()]
        print_rows(new)
        rows += new
    return rows


# ---- ranking -----------------------------------------------------------------------------------------------


@jit()
def _quantising(values: Any, work: Work, sums: Any) -> None:
    for r in range(len(values)):
        sums[r] = quantised(values[r], work)


@jit()
def _sorting(values: Any, work: Work, sums: Any) -> None:
    for r in range(len(values)):
        if quantised(values[r], work):
            sums[r] = order_groups(work, len(values[r]))


@jit()
def _spearman(values: Any, target: Target, work: Work, sums: Any) -> None:
    for r in range(len(values)):
        sums[r], _ = spearman_row(values[r], target, work, 0.0)


@jit()
def _kendall(values: Any, target: Target, work: Work, sums: Any) -> None:
    for r in range(len(values)):
        sums[r], _ = kendall_row(values[r], target, work, 0.0)


def ranking(quick: bool) -> list[Row]:
    """Return what the phases of both statistics take."""
    rows: list[Row] = []
    for n_rows in (500, 4096):
        target = np.random.default_rng(0).normal(size=n_rows)
        prepared, work = Target.of(target), Work.of(n_rows)
        for kind in ("normal", "outlier", "ties"):
            values = rows_of(kind, max(4, min(400, 400_000 // n_rows)), n_rows, target)
            sums = np.empty(len(values))
            runs = {
                "quantise": functools.partial(_quantising, values, work, sums),
                "sort": functools.partial(_sorting, values, work, sums),
                "spearman": functools.partial(_spearman, values, prepared, work, sums),
                "kendall": functools.partial(_kendall, values, prepared, work, sums),
            }
            for run in runs.values():
                run()
            times = measure({name: Engine(run) for name, run in runs.items()}, 5 if quick else 41)
            quantise, sort, rho, tau = (np.array(times[name]) for name in runs)
            parts = {"quantise": quantise, "sort": sort - quantise}
            parts |= {"sum ranks (Spearman)": rho - sort, "count pairs (Kendall)": tau - sort}
            parts |= {"spearman": rho, "kendall": tau}
            about: Row = {"n_rows": n_rows, "dtype": "float64", "part": "ranking", "kind": kind}
            about |= {"unit": "us/row", "scale": 1e6 / len(values)}
            new = [row(name, seconds.tolist(), **about) for name, seconds in parts.items()]
            print_rows(new, "kind")
            rows += new
    return rows


def main() -> None:
    """Run, print, write."""
    parts = {"evaluation": evaluation, "threads": threads, "ranking": ranking}
    options = arguments(__doc__, tuple(parts))
    rows: dict[str, list[Row]] = {name: [] for name in parts}
    for one in written(options.json, THREADS) if options.only else []:
        rows[one["part"]].append(one)
    for name, part in parts.items():
        if options.only in (None, name):
            rows[name] = part(options.quick)
            write(options.json, "phases", [one for some in rows.values() for one in some], THREADS)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
