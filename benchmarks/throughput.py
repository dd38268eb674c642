"""How fast are many formulas evaluated on one table, beside Operon, numpy, DEAP, gplearn and others?

    python benchmarks/throughput.py [--quick] [--json FILE]

Billions of node evaluations per second (nodes of all trees times rows over time): CPU time for one thread.
Every engine gets the same trees, constants and columns, and its values are compared with float64 numpy before
it is timed; engines take turns. How much two threads bring is measured by the clock, in turns with one thread
and with no other engine between. Ours plans anew in every run; what the peers do before they can evaluate
(building, compiling) is not counted, but listed. Peers: ``pip install -e '.[bench]'``.

The trees are random (``benchmarks/trees.py``). Values that become NaN or infinite stay; all engines have the
same ones.

"plain" shares nothing: every leaf of every tree has a code of its own, all pointing at the same columns, so
that no two parts are ever equal. "shared" is what a search runs.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks.common import Engine, Row, arguments, measure, print_rows, quantiles, row, write

import numpy as np  # isort: skip

from benchmarks.peers import Peers, Run, Values, with_numpy
from benchmarks.trees import (
    MEAN_NODES,
    N_COLUMNS,
    TREES,
    UNARY,
    Columns,
    Tree,
    columns_of,
    count,
    prefix,
    random_trees,
    with_constants,
)
from proxygraph.compact.forest import CODES, CONST, LEAF, Forest, Vocabulary
from proxygraph.kernels import interpreter
from proxygraph.kernels.population import BATCH, Population
from proxygraph.leaves import Leaf
from proxygraph.objective import OBJECTIVES
from proxygraph.search import Search, SearchConfig, default_ops
from proxygraph.table import StatTable

THREADS = 2
TURNS = {500: 101, 4096: 51, 10_000: 31, 100_000: 15}
"""Runs of ours alone, which are short, by rows."""
UNIT = "G node-evaluations/s"


# ---- ours --------------------------------------------------------------------------------------------------


def forest_of(trees: Sequence[Tree]) -> Forest:
    """Return the trees in our form."""
    forest = Forest.empty(len(trees), max(sum(1 for _ in prefix(tree)) for tree in trees))
    for i, tree in enumerate(trees):
        for at, node in enumerate(prefix(tree)):
            if node[0] == "c":
                forest.code[i, at], forest.value[i, at] = CONST, node[1]
            else:
                forest.code[i, at] = LEAF + node[1] if node[0] == "x" else CODES[node[0]]
            forest.length[i] = at + 1
    return forest


def table_of(columns: Columns) -> StatTable:
    return StatTable.from_columns(None, {f"x{i}": column for i, column in enumerate(columns)})


def shared(forest: Forest, table: StatTable, dtype: Any, threads: int = 1) -> Run:
    """Return what a search runs: one plan for all trees, equal parts once, nothing kept between calls."""
    return evaluating(Population(table, threads, 0, dtype), forest)


def plain(forest: Forest, table: StatTable, dtype: Any, threads: int = 1) -> Run:
    """Return the same without a single shared part."""
    return evaluating(*apart(forest, table, dtype, threads))


def evaluating(population: Population, forest: Forest) -> Run:
    """Return what evaluates trees into an array that is kept between runs, as Operon's."""
    out = np.empty((len(forest.length), population.table.n_rows), population.dtype)
    return lambda: population.run(forest, out)


def apart(forest: Forest, table: StatTable, dtype: Any, threads: int = 1) -> tuple[Population, Forest]:
    """Return trees without equal parts: all leaves are different names of the same columns."""
    population = Population(table, threads, 0, dtype)
    code, pointing = forest.code.copy(), np.zeros(0, np.int64)
    for first in range(0, len(code), BATCH):
        batch = code[first : first + BATCH]
        inside = np.arange(batch.shape[1]) < forest.length[first : first + BATCH, None]
        leaves = (batch >= LEAF) & inside
        places = population._leaf_place[batch[leaves] - LEAF]
        # codes are 16 bits wide: every batch is planned alone and counts from the first leaf again, but a
        # leaf code has one place, so each batch takes codes of its own
        batch[leaves] = LEAF + len(pointing) + np.arange(leaves.sum())
        pointing = np.concatenate([pointing, places])
    if LEAF + len(pointing) > np.iinfo(np.int16).max:
        raise ValueError(f"{len(pointing)} leaves do not fit a plan without sharing")
    names = {f"l{k}": Leaf(f"l{k}", "row") for k in range(len(pointing))}
    population.vocabulary, population._leaf_place = Vocabulary.of(names), pointing
    return population, Forest(code, forest.value, forest.length)


def over_sets(structures: Sequence[Tree], vectors: Sequence[Tree], table: StatTable) -> Run:
    """Return the evaluation of structures with many sets of constants each, one plan for all sets.

    `vectors` are the same structures with their constants filled in, as many for each, one after the other.
    """
    population, forest = Population(table, 1, 0, np.float32), forest_of(structures)
    n = len(vectors) // len(structures)
    sets = np.array(
        [[node[1] for tree in vectors[k::n] for node in prefix(tree) if node[0] == "c"] for k in range(n)]
    )
    out = np.empty((len(structures), n, table.n_rows), np.float32)
    return lambda: population.run_sets(forest, sets, out).reshape(len(vectors), -1)


@contextmanager
def planning_alone() -> Iterator[None]:
    """Compute nothing meanwhile: what is left of a run is the plan."""
    with mock.patch.object(interpreter, "run_rows"):
        yield


# ---- checking and timing -----------------------------------------------------------------------------------


def off(got: Values, exact: Sequence[Any], tolerance: float) -> float:
    """Return the share of values that are not those of float64 numpy."""
    wrong = total = 0
    for ours, truth in zip(got, exact, strict=True):
        same = np.abs(np.asarray(ours, np.float64) - truth) <= tolerance * np.maximum(np.abs(truth), 0.01)
        same |= (ours == truth) | (np.isnan(ours) & np.isnan(truth))
        wrong, total = wrong + int((~same).sum()), total + same.size
    return wrong / total


def exhausted(run: Run) -> Callable[[], None]:
    """Return a run that makes all values and keeps none but those handed out as one array."""

    def once() -> None:
        values = run()
        if not isinstance(values, np.ndarray):
            deque(values, maxlen=0)

    return once


def timed(runs: Mapping[str, Run], repeats: int, work: float, about: Mapping[str, Any]) -> list[Row]:
    """Return one row of rates for each engine; the median relative to pyoperon and numpy goes with it."""
    engines = {name: Engine(exhausted(run)) for name, run in runs.items()}
    times = measure(engines, repeats)
    rows = []
    for name, seconds in times.items():
        rates = [work / one / 1e9 for one in seconds]
        more = {
            f"times_{short}": float(np.median(times[peer]) / np.median(seconds))
            for peer, short in (("pyoperon", "pyoperon"), ("numpy recursion", "numpy"))
            if peer in times
        }
        rows.append(row(name, rates, unit=UNIT, **about, **more))
    return rows


def throughput(peers: Peers, trees: list[Tree], n_rows: int, repeats: int) -> list[Row]:
    """Return all engines on one number of rows."""
    forest, nodes = forest_of(trees), count(trees)
    exact = [np.broadcast_to(one, n_rows) for one in with_numpy(trees)(columns_of(n_rows, float))()]
    finite = float(np.mean([np.isfinite(one).mean() for one in exact]))
    rows: list[Row] = []
    for dtype, tolerance in (("float32", 1e-3), ("float64", 1e-9)):
        table = table_of(columns_of(n_rows, dtype))
        runs = {"ours, plain": plain(forest, table, dtype), "ours, shared": shared(forest, table, dtype)}
        both = {
            "ours, shared, wall time": runs["ours, shared"],
            f"ours, shared, {THREADS} threads": shared(forest, table, dtype, THREADS),
        }
        runs |= both | peers.runs(trees, n_rows, dtype)
        wrong = {name: off(run(), exact, tolerance) for name, run in runs.items()}
        # rounding decides in places (sin of large numbers, sums near 0): numpy in this type is the measure
        allowed = wrong["numpy recursion"] + 0.005
        for name, share in wrong.items():
            if share > allowed:
                raise AssertionError(
                    f"{name}: {share:.2%} of values are wrong, numpy has {allowed - 0.005:.2%}"
                )
        about = {"n_rows": n_rows, "dtype": dtype, "trees": len(trees), "mean_nodes": nodes / len(trees)}
        new = timed(
            {name: run for name, run in runs.items() if name not in both}, repeats, nodes * n_rows, about
        )
        new += by_the_clock(both, TURNS[n_rows], nodes * n_rows, about)
        for one in new:
            one["off"], one["finite"] = wrong[one["engine"]], finite
        rows += new
        for name in ("ours, plain", "ours, shared"):
            with planning_alone():
                plan = measure({"": Engine(exhausted(runs[name]))}, TURNS[n_rows])[""]
            scale = {"unit": "us/tree", "scale": 1e6 / len(trees)}
            rows.append(row(f"{name}: planning alone", plan, **about, **scale))
    return rows


def by_the_clock(runs: Mapping[str, Run], turns: int, work: float, about: Mapping[str, Any]) -> list[Row]:
    """Return rates of one thread and of `THREADS`, in turns and with nobody else between: both find the same.

    The row of several threads has ``times_one_thread``: the ratios of the pairs of runs, median and spread.
    """
    (one, alone), (several, together) = runs.items()
    engines = {one: Engine(exhausted(alone), threads=0), several: Engine(exhausted(together), THREADS)}
    times = measure(engines, turns)
    gains = quantiles(np.divide(times[one], times[several]).tolist())
    return [
        row(
            name,
            [work / s / 1e9 for s in times[name]],
            unit=UNIT,
            threads=threads,
            turns=turns,
            **more,
            **about,
        )
        for name, threads, more in ((one, 1, {}), (several, THREADS, {"times_one_thread": gains}))
    ]


# ---- where sharing pays ------------------------------------------------------------------------------------


def evolved(generations: int) -> Forest:
    """Return the living population of a search on a table of 500 rows with as many columns."""
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.uniform(-2, 2, 500) for i in range(N_COLUMNS)}
    x0, x1, x2, x3, _ = columns.values()
    target = np.exp(-(x0**2)) * x1 + np.sin(3 * x2) + 0.3 * x3
    table = StatTable.from_columns(None, columns)
    config = SearchConfig(population=TREES, children=8 * TREES)
    ops = default_ops(table.leaves)
    search = Search(config, ops, OBJECTIVES["spearman"], Population(table), target)
    state = search.start()
    for _ in range(generations):
        state = search.step(state)
    return state.population.trees


def sharing(n_rows: int, repeats: int, generations: int) -> list[Row]:
    """Return plain and shared runs of populations whose trees have much in common."""
    structures, rng = random_trees(TREES // 20, MEAN_NODES, seed=5), np.random.default_rng(6)
    vectors = [with_constants(tree, rng) for tree in structures for _ in range(20)]
    table, rows = table_of(columns_of(n_rows, np.float32)), []
    coefficients = "20 coefficient vectors each"
    cases = {"evolved population": evolved(generations), coefficients: forest_of(vectors)}
    for case, forest in cases.items():
        nodes = int(forest.length.sum())
        runs = {
            f"ours, plain; {case}": plain(forest, table, np.float32),
            f"ours, shared; {case}": shared(forest, table, np.float32),
        }
        if case == coefficients:
            runs[f"ours, one plan; {case}"] = over_sets(structures, vectors, table)
        first, *others = (run() for run in runs.values())
        for other in others:
            np.testing.assert_array_equal(first, other)
        about = {"n_rows": n_rows, "dtype": "float32", "mean_nodes": nodes / len(forest.length)}
        new = timed(runs, repeats, nodes * n_rows, about)
        for one in new[1:]:
            one["times_plain"] = one["median"] / new[0]["median"]
        rows += new
    return rows


def growth(peers: Peers, repeats: int, quick: bool) -> list[Row]:
    """Return how the cost of a tree grows with its size, and that of a population with its trees."""
    rows: list[Row] = []
    sizes = (5, 19, 79) if quick else (5, 9, 19, 39, 79)
    numbers = (10, 100, 1000) if quick else (10, 30, 100, 300, 1000, 3000)
    cases = [("size", mean, 300) for mean in sizes] + [("number", MEAN_NODES, n) for n in numbers]
    for what, mean, n in cases:
        trees, n_rows = random_trees(n, mean, seed=mean), 500
        table = table_of(columns_of(n_rows, np.float32))
        runs = {"ours, shared": shared(forest_of(trees), table, np.float32)}
        runs |= peers.runs(trees, n_rows, "float32")
        for run in runs.values():
            deque(run(), maxlen=0)
        times = measure({name: Engine(exhausted(run)) for name, run in runs.items()}, repeats)
        about = {"n_rows": n_rows, "dtype": "float32", "unit": "us/tree", "scale": 1e6 / n}
        more = {"growth": what, "trees": n, "mean_nodes": count(trees) / n}
        rows += [row(name, seconds, **about, **more) for name, seconds in times.items()]
    return rows


def main() -> None:
    """Run, print, write."""
    options = arguments(__doc__)
    quick = options.quick
    trees = random_trees(TREES, MEAN_NODES)
    kinds = [node[0] for tree in trees for node in prefix(tree)]
    unary, constants = (sum(kind in names for kind in kinds) / len(kinds) for names in (UNARY, "c"))
    print(f"{TREES} trees, {len(kinds) / TREES:.1f} nodes, {unary:.0%} unary, {constants:.0%} constants")
    peers, few, rows = Peers(), Peers(["pyoperon", "numpy recursion"]), []
    show = functools.partial(print_rows)
    for n_rows, n_trees, repeats in (
        [(500, 1000, 5), (4096, 1000, 3)]
        if quick
        else [(500, 1000, 11), (4096, 1000, 7), (10_000, 1000, 5), (100_000, 200, 3)]
    ):
        new = throughput(peers, trees[:n_trees], n_rows, repeats)
        show(new, "times_pyoperon", "times_numpy", "off")
        rows += new
        write(options.json, "throughput", rows + peers.rows, THREADS)
    for n_rows in (500, 4096):
        new = sharing(n_rows, 5 if quick else 9, 5 if quick else 20)
        show(new, "mean_nodes", "times_plain")
        rows += new
    new = growth(few, 3 if quick else 7, quick)
    show(new, "growth", "trees", "mean_nodes")
    rows += new + peers.rows
    show(peers.rows)
    write(options.json, "throughput", rows, THREADS)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
