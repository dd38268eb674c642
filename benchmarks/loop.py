"""How many different formulas does a whole search score per second, and what does it spend its time on?

    python benchmarks/loop.py [--quick] [--only {rows,networks}] [--json FILE]

First a table of 500 rows and 5 columns, judged by Spearman: formulas that differ from all before (by key, in
one spelling) per second of the whole loop, orders of the rows that are new per second, and the share of each
stage in one thread; gplearn's programs per second on the same rows, if it is installed. Then 200 networks
with about 70 layers and 512 samples per layer (7 million entries of each of four leaves): the search sees 64
samples per layer, and sorts out on 16 what is hopeless, as ``proxygraph.evolve`` does. Only formulas with a
leaf on the element or activation axis are counted there. Beside it what one eager torch evaluation per
formula costs, of formulas from that very search, on 512, 64 and 16 samples. With --only the rows of the other
half that FILE has stay, if they are of the same machine and packages.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from benchmarks.common import Row, arguments, print_rows, row, write, written

import numpy as np  # isort: skip

from proxygraph import search as module
from proxygraph import zoo
from proxygraph.assemble import SCREEN_SAMPLES, SEARCH_SAMPLES
from proxygraph.compact.forest import AXES, LEAF, Forest, to_dag
from proxygraph.compact.keys import KeySet
from proxygraph.kernels import interpreter
from proxygraph.kernels import population as planner
from proxygraph.kernels.fused_torch import TorchKernel
from proxygraph.kernels.population import Population
from proxygraph.objective import OBJECTIVES, Objective
from proxygraph.program import lower
from proxygraph.search import Search, SearchConfig, default_ops
from proxygraph.search_state import SearchState
from proxygraph.table import StatTable

THREADS = 2
STAGES = ("variation", "canonical form", "planning", "evaluation", "ranking", "selection")


# ---- data --------------------------------------------------------------------------------------------------


def rows_500() -> tuple[StatTable, Any]:
    """Return a table of five columns and a target that needs exp, sin and products."""
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.uniform(-2, 2, 500) for i in range(5)}
    x0, x1, x2, x3, _ = columns.values()
    return StatTable.from_columns(None, columns), np.exp(-(x0**2)) * x1 + np.sin(3 * x2) + 0.3 * x3


def networks(n: int, layers: int, samples: int) -> tuple[StatTable, Any]:
    """Return statistics that look like those of networks, and an accuracy that depends on some of them."""
    rng = np.random.default_rng(0)
    per_row = rng.integers(layers - layers // 3, layers + layers // 3 + 1, n)
    total = int(per_row.sum())
    quality = np.repeat(rng.normal(size=n), per_row)
    sizes = np.exp(rng.uniform(np.log(samples), np.log(500_000), total))
    offsets = {
        "layer": np.concatenate([[0], np.cumsum(per_row)]),
        **{axis: np.arange(total + 1) * samples for axis in ("element", "activation")},
    }

    def values(scale: Any) -> Any:
        return (rng.standard_normal((total, samples), np.float32) * scale[:, None]).ravel()

    w = values(np.sqrt(2 / sizes**0.5).astype(np.float32))
    steep = np.exp(0.4 * quality + 0.5 * rng.normal(size=total)).astype(np.float32)
    columns = {
        "w": w,
        "g": values(1e-3 * steep) + np.float32(2e-3) * w,
        "gv": values(np.float32(0.1) * steep**2),
        "a": np.maximum(values(np.exp(0.3 * quality).astype(np.float32)), 0),
        "depth": np.concatenate([np.linspace(0, 1, k, dtype=np.float32) for k in per_row]),
        "kernel": rng.choice(np.array([1, 3], np.float32), total),
    }
    counts = {"element": sizes, "activation": sizes * 4}
    rows = tuple(f"n{i}" for i in range(n))
    accuracy = np.log(per_row) + np.add.reduceat(quality, offsets["layer"][:-1]) / per_row
    return StatTable(rows, columns, {}, offsets, counts, {}), accuracy + 0.3 * rng.normal(size=n)


def tabular(threads: int) -> Search:
    """Return the search on 500 rows."""
    table, target = rows_500()
    config = SearchConfig(population=1000, children=8000)
    objective = OBJECTIVES["spearman"]
    return Search(config, default_ops(table.leaves), objective, Population(table, threads), target)


def element_level(table: StatTable, target: Any, threads: int) -> Search:
    """Return the search that `proxygraph.evolve` would run on statistics of networks."""
    return Search(
        SearchConfig(),
        default_ops(table.leaves),
        OBJECTIVES["spearman"],
        Population(table.thin(SEARCH_SAMPLES), threads, 128_000_000),
        target,
        [proxy.dag for proxy in zoo.available(table.leaves)],
        Population(table.thin(SCREEN_SAMPLES), threads, 128_000_000),
    )


# ---- the whole loop ----------------------------------------------------------------------------------------


class Scored:
    """What a search scored: how many formulas, and some of them to be looked at later."""

    def __init__(self, search: Search) -> None:
        fine = [k for k, leaf in enumerate(search.leaves.values()) if leaf.axis in AXES[2:]]
        self._fine = np.array(fine, np.int64) + LEAF
        self.n_fine = self.passed_fine = 0
        self.some: list[Any] = []
        self._search = search

    def count(self, trees: Forest, passed: Any) -> None:
        """Count the trees that have a leaf on a fine axis."""
        inside = np.arange(trees.code.shape[1]) < trees.length[:, None]
        fine = (np.isin(trees.code, self._fine) & inside).any(axis=1)
        self.n_fine += int(fine.sum())
        self.passed_fine += int((fine & passed).sum())
        for i in np.flatnonzero(fine & passed)[::7]:
            self.some.append(to_dag(trees, int(i), self._search.evaluate.vocabulary))


def run(search: Search, seconds: float, scored: Scored | None = None) -> tuple[SearchState, Row]:
    """Run for some seconds; return the last state, and per second of the whole loop: what was scored."""
    state = search.step(search.start())  # compiles, and grows a population
    if scored is not None:
        original = search.scored

        def counting(trees: Forest, population: Any) -> Any:
            found = original(trees, population)
            scored.count(trees, found[2])
            return found

        object.__setattr__(search, "scored", counting)
    generations: list[dict[str, float]] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        before, fine = state.counters["evaluated"], (scored.n_fine, scored.passed_fine) if scored else (0, 0)
        classes, cpu, start = len(state.classes), time.process_time(), time.perf_counter()
        state = search.step(state)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        counts = {"distinct": state.counters["evaluated"] - before, "classes": len(state.classes) - classes}
        if scored:
            counts |= {"fine": scored.n_fine - fine[0], "fine, passed": scored.passed_fine - fine[1]}
        generations.append({**counts, "wall": wall, "cpu": cpu})
    return state, {key: np.array([one[key] for one in generations]) for key in generations[0]}


def loop_rows(name: str, found: Row, threads: int, about: Row) -> list[Row]:
    """Return rates of the whole run by the clock, spread over generations, and per CPU second."""
    rows = []
    for key, label in (
        ("distinct", "distinct formulas"),
        ("classes", "new orders of the rows"),
        ("fine", "distinct element-level formulas"),
        ("fine, passed", "of them not sorted out early"),
    ):
        if key in found:
            rates = found[key] / found["wall"]
            mean = float(found[key].sum() / found["wall"].sum())
            per_cpu = float(found[key].sum() / found["cpu"].sum())
            more = {**about, "mean": mean, "per_cpu_second": per_cpu}
            rows.append(row(f"{name}: {label}", rates, threads=threads, unit="1/s", **more))
    return rows


# ---- where the time goes -----------------------------------------------------------------------------------


class Clock:
    """CPU time of named parts; time in an inner part is not counted to the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    def timing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its own time added up."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._inside.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **options)
            finally:
                spent = time.process_time() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inside.pop()
                if self._inside:
                    self._inside[-1] += spent

        return timed


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Time the stages of a search; what nothing else claims is selection and bookkeeping."""
    places: list[tuple[Any, str, str]] = [
        (Search, "children", "variation"),
        (Search, "tidied", "canonical form"),
        (KeySet, "add", "canonical form"),
        (planner, "collect_parts", "planning"),
        (planner, "arrange", "planning"),
        (Population, "run", "evaluation"),
        (Objective, "judged", "ranking"),
        (module, "representatives", "selection"),
        (module, "survivors", "selection"),
        (Search, "honoured", "hall of fame"),
        (Search, "advanced", "bookkeeping"),
    ]
    with ExitStack() as stack:
        for owner, name, stage in places:
            stack.enter_context(mock.patch.object(owner, name, clock.timing(stage, getattr(owner, name))))
        for name in ("run_rows", "run_ragged"):
            timed = clock.timing("evaluation", getattr(interpreter, name))
            stack.enter_context(mock.patch.object(interpreter, name, timed))
        yield


def shares(name: str, search: Search, seconds: float, about: Row) -> list[Row]:
    """Return what each stage takes in one thread, in percent and per formula scored."""
    state = search.step(search.start())
    clock, before = Clock(), state.counters["evaluated"]
    begin, cpu = time.perf_counter(), time.process_time()
    with watched(clock):
        while time.perf_counter() - begin < seconds:
            state = search.step(state)
    total, n = time.process_time() - cpu, state.counters["evaluated"] - before
    rows = []
    for stage, spent in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        more = {**about, "us_per_formula": 1e6 * spent / n}
        rows.append(row(f"{name}: {stage}", [100 * spent / total], unit="% of CPU time", **more))
    return rows


# ---- others ------------------------------------------------------------------------------------------------


def gplearn_rows(quick: bool) -> list[Row]:
    """Return gplearn's programs per second on the same 500 rows, with the functions it has."""
    try:
        from gplearn.genetic import SymbolicRegressor
    except ImportError as error:
        print(f"left out: gplearn ({error})")
        return []
    table, target = rows_500()
    data = np.stack([table.columns[f"x{i}"] for i in range(5)], axis=1)
    rows = []
    for metric in ("mse", "spearman"):
        rates = []
        for seed in range(1 if quick else 2):
            generations = 4
            model = SymbolicRegressor(
                population_size=1000,
                generations=generations,
                stopping_criteria=2.0 if metric == "spearman" else 0.0,
                function_set=("add", "sub", "mul", "div", "sqrt", "log", "abs", "neg", "inv", "sin", "cos"),
                metric=metric,
                random_state=seed,
            )
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(data, target)
            rates.append(1000 * generations / (time.process_time() - start))
        engine = f"gplearn, {metric}: programs, distinct or not"
        rows.append(row(engine, rates, n_rows=500, dtype="float64", unit="1/s", problem="500 rows"))
    return rows


def torch_rows(scored: Scored, table: StatTable, about: Row, quick: bool) -> list[Row]:
    """Return eager torch evaluations per second of formulas from the search, one after the other."""
    import torch

    rng = np.random.default_rng(3)
    n = 6 if quick else 30
    chosen = [scored.some[i] for i in rng.choice(len(scored.some), min(n, len(scored.some)), replace=False)]
    kernels = [TorchKernel(lower([dag]), dtype="float32") for dag in chosen]
    rows = []
    for samples in (512, SEARCH_SAMPLES, SCREEN_SAMPLES):
        thin = table.thin(samples)
        for threads in (1, THREADS):
            torch.set_num_threads(threads)
            kernels[0](thin)
            seconds = []
            for kernel in kernels:
                clock = time.process_time if threads == 1 else time.perf_counter
                start = clock()
                kernel(thin)
                seconds.append(clock() - start)
            more = {**about, "samples": samples, "mean": len(seconds) / sum(seconds)}
            rates = [1 / one for one in seconds]
            name = f"torch eager, {samples} samples per layer"
            rows.append(row(name, rates, threads=threads, unit="1/s", **more))
    torch.set_num_threads(1)
    return rows


def on_rows(quick: bool) -> list[Row]:
    """Return what there is to say about the search on 500 rows."""
    about: Row = {"n_rows": 500, "dtype": "float64", "problem": "500 rows"}
    rows = []
    for threads in (1, THREADS):
        state, found = run(tabular(threads), 4 if quick else 12)
        new = loop_rows("search", found, threads, about)
        print_rows(new, "mean", "per_cpu_second")
        print(f"after {state.generation} generations: {state.counters}")
        rows += new
    new = shares("search", tabular(1), 4 if quick else 10, about)
    print_rows(new, "us_per_formula")
    rows += new
    new = gplearn_rows(quick)
    print_rows(new)
    return rows + new


def on_networks(quick: bool) -> list[Row]:
    """Return what there is to say about the search on statistics of networks."""
    table, target = networks(*((60, 40, 512) if quick else (200, 70, 512)))
    entries = table.size("element")
    about: Row = {"n_rows": table.n_rows, "dtype": "float32", "problem": "networks", "entries": entries}
    print(f"{table.n_rows} networks, {entries:,} entries per leaf")
    search = element_level(table, target, THREADS)
    scored = Scored(search)
    state, found = run(search, 5 if quick else 30, scored)
    rows = loop_rows("search", found, THREADS, about)
    print_rows(rows, "mean", "per_cpu_second")
    print(f"after {state.generation} generations: {state.counters}; best {state.best:.3f}")
    for kernel, samples in ((search.evaluate, SEARCH_SAMPLES), (search.screen, SCREEN_SAMPLES)):
        assert kernel is not None
        print(f"on {samples} samples: {kernel.kept[0]} values found in memory, {kernel.kept[1]} computed")
    new = shares("search", element_level(table, target, 1), 5 if quick else 15, about)
    new += torch_rows(scored, table, about, quick)
    print_rows(new, "us_per_formula", "mean")
    return rows + new


def main() -> None:
    """Run, print, write."""
    parts = {"rows": on_rows, "networks": on_networks}
    options = arguments(__doc__, tuple(parts))
    rows: dict[str, list[Row]] = {name: [] for name in parts}
    for one in written(options.json, THREADS) if options.only else []:
        rows["networks" if one.get("problem") == "networks" else "rows"].append(one)
    for name, part in parts.items():
        if options.only in (None, name):
            rows[name] = part(options.quick)
            write(options.json, "loop", [one for some in rows.values() for one in some], THREADS)


if __name__ == "__main__":
    main()
