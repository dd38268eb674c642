"""How fast are many formulas evaluated on one table, beside Operon, numpy, DEAP, gplearn and others?

    python benchmarks/throughput.py [--quick] [--json FILE]

Billions of node evaluations per second (nodes of all trees times rows over time): CPU time for one thread.
Every engine gets the same trees, constants and columns, and its values are compared with float64 numpy before
it is timed; engines take turns. How much two threads bring is measured by the clock, in turns with one thread
and with no other engine between. Ours plans anew in every run; what the peers do before they can evaluate
(building, compiling) is not counted, but listed. Peers: ``pip install -e '.[bench]'``.

Trees: 9 to 29 nodes (19 on average, leaves and constants counted), 31 % of them unary (exp log sqrt tanh sin
cos square abs), the others add, sub, mul, div, all equally likely; a leaf beside another part is a constant 3
times in 10, no two alike. Values that become NaN or infinite stay; all engines have the same ones.

"plain" shares nothing: every leaf of every tree has a code of its own, all pointing at the same columns, so
that no two parts are ever equal. "shared" is what a search runs.
"""

from __future__ import annotations

import functools
import operator
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks.common import Engine, Row, arguments, measure, print_rows, quantiles, row, write

import numpy as np  # isort: skip
from numpy.typing import NDArray  # isort: skip

from proxygraph.compact.forest import CODES, CONST, LEAF, Forest, Vocabulary
from proxygraph.kernels import interpreter
from proxygraph.kernels.population import BATCH, Population
from proxygraph.leaves import Leaf
from proxygraph.objective import OBJECTIVES
from proxygraph.search import Search, SearchConfig, default_ops
from proxygraph.table import StatTable

UNARY = ("exp", "log", "sqrt", "tanh", "sin", "cos", "square", "abs")
BINARY = ("add", "sub", "mul", "div")
N_COLUMNS, MEAN_NODES, UNARY_SHARE, CONSTANT_SHARE = 5, 19, 0.31, 0.3
TREES, THREADS = 1000, 2
TURNS = {500: 101, 4096: 51, 10_000: 31, 100_000: 15}
"""Runs of ours alone, which are short, by rows."""
UNIT = "G node-evaluations/s"
Tree = tuple[Any, ...]
"""("x", column), ("c", value), or an operator and its arguments."""
Columns = list[NDArray[Any]]
Values = Iterable[Any]
Run = Callable[[], Values]
Compiled = Callable[[Columns], Run]


# ---- trees -------------------------------------------------------------------------------------------------


def random_tree(rng: np.random.Generator, unary: int, binary: int, constant: bool = False) -> Tree:
    """Return a tree of so many operators; `constant` allows a lone leaf to be a constant."""
    if unary + binary == 0:
        if constant and rng.random() < CONSTANT_SHARE:
            return ("c", float(np.float32(rng.normal() * 2)))
        return ("x", int(rng.integers(N_COLUMNS)))
    if rng.random() < unary / (unary + binary):
        return (str(rng.choice(UNARY)), random_tree(rng, unary - 1, binary))
    u, b = int(rng.integers(unary + 1)), int(rng.integers(binary))
    left = random_tree(rng, u, b, True)
    return (str(rng.choice(BINARY)), left, random_tree(rng, unary - u, binary - 1 - b, left[0] != "c"))


def random_trees(n: int, mean_nodes: int, seed: int = 0) -> list[Tree]:
    """Return trees of sizes around the mean, 31 % of the nodes unary."""
    rng = np.random.default_rng(seed)
    trees = []
    for size in rng.integers(mean_nodes - mean_nodes // 2, mean_nodes + mean_nodes // 2 + 1, n):
        unary = round(UNARY_SHARE * size)
        if (size - unary) % 2 == 0:  # what is left must be odd: operators and one leaf more
            unary += int(rng.choice([-1, 1]))
        trees.append(random_tree(rng, unary, (size - unary - 1) // 2))
    return trees


def with_constants(tree: Tree, rng: np.random.Generator) -> Tree:
    """Return the same structure with other constants."""
    if tree[0] == "c":
        return ("c", float(np.float32(rng.normal() * 2)))
    return tree if tree[0] == "x" else (tree[0], *(with_constants(one, rng) for one in tree[1:]))


def prefix(tree: Tree) -> Iterator[Tree]:
    """Return the nodes, operators before their arguments; operators without them."""
    if tree[0] in ("x", "c"):
        yield tree
    else:
        yield tree[:1]
        for one in tree[1:]:
            yield from prefix(one)


def count(trees: Sequence[Tree]) -> int:
    """Return the nodes of all trees, leaves and constants counted."""
    return sum(1 for tree in trees for _ in prefix(tree))


def columns_of(n_rows: int, dtype: Any) -> Columns:
    """Return the data: the same numbers in every type."""
    rng = np.random.default_rng(1)
    return [column.astype(dtype) for column in rng.uniform(-3, 3, (N_COLUMNS, n_rows)).astype(np.float32)]


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


# ---- peers: each takes trees, then columns, and returns what evaluates all of them once --------------------

NUMPY: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in UNARY},
    **dict(zip(BINARY, (np.add, np.subtract, np.multiply, np.divide), strict=True)),
}


def with_numpy(trees: Sequence[Tree]) -> Compiled:
    """Return plain recursion; constants take the type of the columns."""

    def values(tree: Tree, columns: Columns) -> Any:
        name = tree[0]
        if name == "x":
            return columns[tree[1]]
        if name == "c":
            return tree[1]
        return NUMPY[name](*(values(one, columns) for one in tree[1:]))

    return lambda columns: lambda: (values(tree, columns) for tree in trees)


def with_torch(trees: Sequence[Tree]) -> Compiled:
    """Return eager torch on one thread."""
    import torch

    torch.set_num_threads(1)
    names = {"sub": "subtract", "mul": "multiply", "div": "divide"}
    functions = {name: getattr(torch, names.get(name, name)) for name in (*UNARY, *BINARY)}

    def values(tree: Tree, columns: Any) -> Any:
        name = tree[0]
        if name == "x":
            return columns[tree[1]]
        if name == "c":
            return tree[1]
        args = [values(one, columns) for one in tree[1:]]
        if name == "div" and isinstance(args[0], float):
            return args[0] / args[1]
        if isinstance(args[0], float):  # torch functions take a number on the right only
            return args[0] - args[1] if name == "sub" else functions[name](args[1], args[0])
        return functions[name](*args)

    def run(columns: Columns) -> Run:
        tensors = [torch.from_numpy(column) for column in columns]
        return lambda: (values(tree, tensors).numpy() for tree in trees)

    return run


def with_operon(trees: Sequence[Tree]) -> Compiled:
    """Return Operon's own evaluation of many trees (float32); a variable has a weight there, here 1."""
    import pyoperon

    names = dict(zip(BINARY, ("Add", "Sub", "Mul", "Div"), strict=True))
    kinds = {name: getattr(pyoperon.NodeType, names.get(name, name.title())) for name in (*UNARY, *BINARY)}

    def run(columns: Columns) -> Run:
        data = np.asfortranarray(np.stack(columns, axis=1).astype(np.float32))
        dataset = pyoperon.Dataset(data)  # does not own the data
        variables = sorted(dataset.Variables, key=lambda variable: variable.Index)

        def node(one: Tree) -> Any:
            if one[0] == "c":
                return pyoperon.Node.Constant(one[1])
            if one[0] != "x":
                return pyoperon.Node(kinds[one[0]])
            leaf = pyoperon.Node(pyoperon.NodeType.Variable, variables[one[1]].Hash)
            leaf.Value = 1.0
            return leaf

        # its order is prefix order backwards
        built = [pyoperon.Tree([node(one) for one in prefix(tree)][::-1]).UpdateNodes() for tree in trees]
        rows, out = pyoperon.Range(0, len(data)), np.empty((len(trees), len(data)), np.float32)

        def evaluated(_keep: Any = data) -> Any:
            pyoperon.EvaluateTrees(built, dataset, rows, out, 1)
            return out

        return evaluated

    return run


def with_deap(trees: Sequence[Tree]) -> Compiled:
    """Return DEAP's compiled Python functions over numpy."""
    from deap import gp

    primitives = gp.PrimitiveSet("main", N_COLUMNS, "x")
    for name, function in NUMPY.items():
        primitives.addPrimitive(function, 1 if name in UNARY else 2, name)

    def text(tree: Tree) -> str:
        if tree[0] in ("x", "c"):
            return f"x{tree[1]}" if tree[0] == "x" else repr(tree[1])
        return f"{tree[0]}({', '.join(text(one) for one in tree[1:])})"

    functions = [
        gp.compile(gp.PrimitiveTree.from_string(text(tree), primitives), primitives) for tree in trees
    ]
    return lambda columns: lambda: (function(*columns) for function in functions)


def with_gplearn(trees: Sequence[Tree]) -> Compiled:
    """Return gplearn's programs with unprotected functions; its constants make everything float64."""
    from gplearn._program import _Program
    from gplearn.functions import _Function

    functions = {name: _Function(f, name, 1 if name in UNARY else 2) for name, f in NUMPY.items()}

    def program(tree: Tree) -> Any:
        nodes = [functions[one[0]] if len(one) == 1 else one[1] for one in prefix(tree)]
        return _Program(
            list(functions.values()), {}, (2, 6), "grow", N_COLUMNS, None, None, 0.0, 0.0, None, program=nodes
        )

    programs = [program(tree) for tree in trees]

    def run(columns: Columns) -> Run:
        data = np.stack(columns).T  # whole columns, faster for it than the rows that it gets from its users
        return lambda: (one.execute(data) for one in programs)

    return run


def with_numexpr(trees: Sequence[Tree]) -> Compiled:
    """Return numexpr's compiled expressions on one thread."""
    import numexpr
    from numexpr import expressions

    numexpr.set_num_threads(1)

    def compiled(kind: str) -> list[tuple[Any, list[int]]]:
        def expression(tree: Tree) -> Any:
            if tree[0] == "x":
                return expressions.VariableNode(f"x{tree[1]}", kind)
            if tree[0] == "c":
                return expressions.ConstantNode(np.float32(tree[1]) if kind == "float" else tree[1])
            args = [expression(one) for one in tree[1:]]
            if tree[0] == "square":
                return args[0] * args[0]
            if len(args) == 1:
                return expressions.functions[tree[0]](*args)
            return {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}[
                tree[0]
            ](*args)

        found = []
        for tree in trees:
            used = sorted({node[1] for node in prefix(tree) if node[0] == "x"})
            signature = [
                (f"x{j}", float if kind == "float" else np.double) for j in used
            ]  # its "float" is C's
            found.append((numexpr.NumExpr(expression(tree), signature), used))
        return found

    def run(columns: Columns) -> Run:
        functions = compiled("float" if columns[0].dtype == np.float32 else "double")
        return lambda: (function(*(columns[j] for j in used)) for function, used in functions)

    return run


def with_sympy(trees: Sequence[Tree]) -> Compiled:
    """Return functions of sympy.lambdify; sympy is kept from rewriting the formulas."""
    import sympy

    symbols = [sympy.Symbol(f"x{j}", real=True) for j in range(N_COLUMNS)]

    def expression(tree: Tree) -> Any:
        name = tree[0]
        if name == "x":
            return symbols[tree[1]]
        if name == "c":
            return sympy.Float(tree[1], 17)
        args = [expression(one) for one in tree[1:]]
        if name == "square":
            return sympy.Pow(args[0], 2, evaluate=False)
        if name == "sqrt":
            return sympy.Pow(args[0], sympy.Rational(1, 2), evaluate=False)
        if name == "div":
            return sympy.Mul(args[0], sympy.Pow(args[1], -1, evaluate=False), evaluate=False)
        if name == "sub":
            return sympy.Add(args[0], sympy.Mul(-1, args[1], evaluate=False), evaluate=False)
        kind = {"add": sympy.Add, "mul": sympy.Mul, "abs": sympy.Abs}.get(name) or getattr(sympy, name)
        return kind(*args, evaluate=False)

    functions = [sympy.lambdify(symbols, expression(tree), "numpy") for tree in trees]
    return lambda columns: lambda: (function(*columns) for function in functions)


PEERS: Mapping[str, tuple[Callable[[Sequence[Tree]], Compiled], tuple[str, ...]]] = {
    "pyoperon": (with_operon, ("float32",)),
    "numpy recursion": (with_numpy, ("float32", "float64")),
    "DEAP": (with_deap, ("float32",)),
    "gplearn": (with_gplearn, ("float64",)),
    "numexpr": (with_numexpr, ("float32",)),
    "sympy.lambdify": (with_sympy, ("float32",)),
    "torch eager": (with_torch, ("float32",)),
}


class Peers:
    """The peers that are installed, each compiled once for the same trees."""

    def __init__(self, names: Iterable[str] = tuple(PEERS)) -> None:
        self.names = list(names)
        self._compiled: dict[tuple[str, int, int], Compiled] = {}
        self.rows: list[Row] = []

    def runs(self, trees: Sequence[Tree], n_rows: int, dtype: str) -> dict[str, Run]:
        """Return what evaluates `trees` once, of each peer that has this type."""
        columns, found = columns_of(n_rows, dtype), {}
        for name in [name for name in self.names if dtype in PEERS[name][1]]:
            key = (name, len(trees), count(trees))
            start = time.process_time()
            try:
                if key not in self._compiled:
                    PEERS[name][0](trees[:1])  # imports
                    start = time.process_time()
                    self._compiled[key] = PEERS[name][0](trees)
                found[name] = self._compiled[key](columns)
            except ImportError as error:
                print(f"left out: {name} ({error})", flush=True)
                self.names.remove(name)
                continue
            seconds = time.process_time() - start
            if len(trees) == TREES and not any(one["engine"] == f"{name}: prepare" for one in self.rows):
                about: Row = {"n_rows": n_rows, "dtype": dtype, "unit": "us/tree", "scale": 1e6 / TREES}
                self.rows.append(row(f"{name}: prepare", [seconds], **about))
        return found


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
