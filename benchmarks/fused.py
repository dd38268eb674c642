"""How fast is one formula on a ragged table, beside torch, numpy and the memory itself?

    python benchmarks/fused.py [--quick] [--json FILE]

Nanoseconds per element of each engine, of reading the same columns and of copying one, in the same run: CPU
time for one thread, wall time for more. Every result is compared with the reference before it is timed;
engines take turns. The full run has 50 million elements.

Then what compiling costs, in fresh processes: loading numba and compiling a first formula, and what each
further formula takes. With the nanoseconds of the reference and of the fused kernel, of the table that is
small enough for the former, that says from how many elements on compiling pays; beside it stands from where
on ``choose_backend`` compiles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.common import Engine, Row, arguments, measure, print_rows, row, write

import numba  # isort: skip
import numpy as np  # isort: skip
import torch  # isort: skip

from proxygraph.errors import BackendUnavailable
from proxygraph.infix import parse
from proxygraph.kernels import choose_backend
from proxygraph.kernels.fused import FusedKernel, compiled
from proxygraph.kernels.fused_torch import TorchKernel
from proxygraph.kernels.population import Population
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.program import Program, lower
from proxygraph.table import StatTable

FORMULAS = {
    "snip": "sum(sum(abs(w * g)))",
    "log_mean_std": "sum(log(mean(abs(g)) / std(g)))",
    "zscore": "sum(mean(((w - mean(w)) / std(w))**3))",
}
MORE_FORMULAS = (
    "max(max(w))",
    "sum(mean(w))",
    "sum(l2(w * g) / (1 + l1(w)))",
    "sum(mean(tanh(w) * exp(-abs(g))) * log(1 + std(w)))",
    "mean(log(1 + sum(abs(w * g)) / l2(w)) * tanh(std(g)) + sqrt(max(abs(w))) - min(g * g))",
)
"""Compiled beside `FORMULAS` to see what an operator adds."""
THREADS = max(2, os.cpu_count() or 1)
Run = Callable[[], Any]


def synthetic(n_rows: int, dtype: Any) -> StatTable:
    """Networks of 20 to 80 layers with 64 to 512 sampled entries of up to 200,000."""
    rng = np.random.default_rng(0)
    layers = rng.integers(20, 81, n_rows)
    counts = np.exp(rng.uniform(np.log(64), np.log(200_000), layers.sum())).astype(np.int64)
    sizes = np.minimum(counts, 512)
    offsets = {
        name: np.concatenate([[0], np.cumsum(n)]) for name, n in (("layer", layers), ("element", sizes))
    }
    n = int(sizes.sum())
    columns = {name: (rng.normal(size=n) * scale).astype(dtype) for name, scale in (("w", 0.1), ("g", 0.01))}
    rows = tuple(f"n{i}" for i in range(n_rows))
    return StatTable(rows, columns, {}, offsets, {"element": counts}, {})


def with_numpy(table: StatTable) -> dict[str, Run]:
    """Whole columns with reduceat, as written by hand; float64 sums, temporaries in the stored dtype."""
    w, g = table.columns["w"], table.columns["g"]
    starts, lengths = table.offsets["element"][:-1], np.diff(table.offsets["element"])
    rows, scale = table.offsets["layer"][:-1], table.counts["element"] / lengths

    def total(x: Any) -> Any:
        return np.add.reduceat(x, starts, dtype=np.float64)

    def moments(x: Any) -> tuple[Any, Any]:
        centred = x - np.repeat((total(x) / lengths).astype(x.dtype), lengths)
        return centred, np.sqrt(total(centred * centred) / lengths)

    def zscore() -> Any:
        centred, std = moments(w)
        z = centred / np.repeat(std.astype(w.dtype), lengths)
        return np.add.reduceat(total(z * z * z) / lengths, rows)

    return {
        "snip": lambda: np.add.reduceat(total(np.abs(w * g)) * scale, rows),
        "log_mean_std": lambda: np.add.reduceat(np.log(total(np.abs(g)) / lengths / moments(g)[1]), rows),
        "zscore": zscore,
    }


def with_torch(table: StatTable) -> dict[str, Run]:
    """The same with eager torch on one thread; sums in the columns' dtype."""
    w, g = (torch.tensor(table.columns[name]) for name in ("w", "g"))
    lengths = torch.tensor(np.diff(table.offsets["element"]))
    per_row = torch.tensor(np.diff(table.offsets["layer"]))
    scale = torch.tensor(table.counts["element"]).to(w.dtype) / lengths

    def reduce(x: Any, how: str, segments: Any = lengths) -> Any:
        return torch.segment_reduce(x, how, lengths=segments, unsafe=True)

    def moments(x: Any) -> tuple[Any, Any]:
        centred = x - reduce(x, "mean").repeat_interleave(lengths)
        return centred, reduce(centred * centred, "mean").sqrt()

    def zscore() -> Any:
        centred, std = moments(w)
        return reduce(reduce((centred / std.repeat_interleave(lengths)) ** 3, "mean"), "sum", per_row)

    return {
        "snip": lambda: reduce(reduce((w * g).abs(), "sum") * scale, "sum", per_row).numpy(),
        "log_mean_std": lambda: reduce(
            (reduce(g.abs(), "mean") / moments(g)[1]).log(), "sum", per_row
        ).numpy(),
        "zscore": lambda: zscore().numpy(),
    }


@numba.njit(fastmath={"reassoc"}, nogil=True)
def _read(x):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(x)):
        total += x[i]
    return total


@numba.njit(fastmath={"reassoc"}, nogil=True)
def _read_both(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) + np.float64(y[i])
    return total


@numba.njit(nogil=True)
def _triad(out, x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = x[i] + np.float32(0.5) * y[i]


def _shared(function: Callable[..., Any], *columns: Any) -> Run:
    """Run a loop over some columns on all threads, each with its own piece."""
    pieces = list(zip(*(np.array_split(column, THREADS) for column in columns), strict=True))

    def run() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda piece: function(*piece), pieces))

    return run


def memory(columns: list[Any]) -> dict[str, Engine]:
    """Return loops that do nothing but read or copy the columns a formula reads."""
    read = _read_both if len(columns) == 2 else _read
    out, first, last = np.empty_like(columns[0]), columns[0], columns[-1]
    engines = {
        "memory: read": Engine(lambda: read(*columns)),
        f"memory: read, {THREADS} threads": Engine(_shared(read, *columns), THREADS),
        "memory: copy one": Engine(lambda: np.copyto(out, first)),
        "memory: triad": Engine(lambda: _triad(out, first, last)),
    }
    for engine in engines.values():
        engine.run()  # compiles
    return engines


def engines_of(name: str, program: Program, table: StatTable, small: bool) -> dict[str, Engine]:
    """Return everything that computes one formula."""
    dag = parse(FORMULAS[name])
    fused, parallel = FusedKernel(program), FusedKernel(program, threads=THREADS)
    eager, hand = TorchKernel(program), with_torch(table)[name]
    found: dict[str, Engine] = {}
    if small:
        reference = ReferenceKernel(program)
        found["reference"] = Engine(lambda: reference(table)[0], repeats=3)
        found["population, nothing kept"] = Engine(lambda: Population(table)([dag])[0], repeats=5)
    found["numpy reduceat"] = Engine(with_numpy(table)[name], repeats=5)
    found["torch eager"] = Engine(hand, repeats=5)
    found["torch kernel"] = Engine(lambda: eager(table)[0], repeats=3)
    try:
        fast = TorchKernel(program, compiled=True)
    except BackendUnavailable as error:
        print(f"left out: {error}")
    else:
        by_hand = torch.compile(hand, dynamic=True)
        found["torch.compile"] = Engine(by_hand, repeats=5)
        found["torch kernel, compiled"] = Engine(lambda: fast(table)[0], repeats=3)
    found["fused"] = Engine(lambda: fused(table)[0])
    found[f"fused, {THREADS} threads"] = Engine(lambda: parallel(table)[0], THREADS)
    return found


def benchmark(n_rows: int, dtype: Any, repeats: int, small: bool) -> list[Row]:
    """Return the rows of one table size and type."""
    table = synthetic(n_rows, dtype)
    base = {"n_rows": n_rows, "dtype": np.dtype(dtype).name, "elements": table.size("element")}
    rows = []
    for name, formula in FORMULAS.items():
        program = lower([parse(formula)])
        expected = ReferenceKernel(program)(table)[0]
        engines = engines_of(name, program, table, small)
        compiled.cache_clear()
        for engine, one in engines.items():
            start = time.perf_counter()
            got = one.run()
            seconds = time.perf_counter() - start
            # the third moment is near 0: errors are relative to its terms, which are of size 1
            exact = "fused" in engine or "kernel" in engine or dtype == np.float64
            close = 1e-9 if exact else 2e-3
            np.testing.assert_allclose(got, expected, close, close, err_msg=f"{engine}: {name}")
            if engine in ("fused", "torch.compile", "torch kernel, compiled"):
                about = {**base, "unit": "s", "formula": name}
                rows.append(row(f"{engine}: first call", [seconds], **about))
        columns = [table.columns[c] for c in FusedKernel(program).formulas[0].columns]
        times = measure({**memory(columns), **engines}, repeats)
        scale = 1e9 / table.size("element")
        for engine, values in times.items():
            threads = THREADS if "threads" in engine else 1
            more: dict[str, Any] = {"formula": name}
            if "memory" not in engine:
                read = times["memory: read" if threads == 1 else f"memory: read, {THREADS} threads"]
                more["of_read_bandwidth"] = float(np.median(read) / np.median(values))
                more["times_torch_eager"] = float(np.median(times["torch eager"]) / np.median(values))
            rows.append(row(engine, values, **base, unit="ns/element", threads=threads, scale=scale, **more))
        print_rows(rows[-len(times) :], "formula", "of_read_bandwidth", "times_torch_eager")
    print_rows([one for one in rows if one["unit"] == "s"], "formula")
    return rows


FRESH = """
import json, sys, time
from proxygraph.infix import parse
from proxygraph.program import lower
from benchmarks.fused import synthetic
from proxygraph.kernels.fused import FusedKernel
table, seconds = synthetic(2, "float32"), []
for formula in json.loads(sys.argv[1]):
    kernel, start = FusedKernel(lower([parse(formula)])), time.process_time()
    kernel(table)
    seconds.append(time.process_time() - start)
print(json.dumps(seconds))
"""
"""Prints the CPU seconds of the first call of each formula; numba is loaded before, by `benchmarks.fused`."""


def compiling(repeats: int) -> list[Row]:
    """Return what the first call takes for each formula, as the first of a process and as a later one."""
    formulas = [*FORMULAS.values(), *MORE_FORMULAS]
    first: dict[str, list[float]] = {}
    later: dict[str, list[float]] = {}
    for turn in range(repeats):
        for k in range(len(formulas) if turn == 0 else 1):
            order = formulas[k:] + formulas[:k]
            done = subprocess.run(
                [sys.executable, "-c", FRESH, json.dumps(order)], capture_output=True, text=True, check=True
            )
            seconds = json.loads(done.stdout)
            first.setdefault(order[0], []).append(seconds[0])
            for formula, spent in zip(order[1:], seconds[1:], strict=True):
                later.setdefault(formula, []).append(spent)
    rows = []
    for what, found in (("first of a process", first), ("a later one", later)):
        for formula in formulas:
            operators = sum(node.kind == "op" for node in lower([parse(formula)]).nodes)
            about: Row = {"n_rows": 2, "dtype": "float32", "unit": "CPU s", "formula": formula}
            rows.append(row(f"fused: compiling, {what}", found[formula], **about, operators=operators))
    return rows


def loading(repeats: int) -> Row:
    """Return what a process spends on loading numba."""
    code = "import time; a = time.process_time(); import numba; print(time.process_time() - a)"
    seconds = [
        float(
            subprocess.run(
                [sys.executable, "-c", f"import numpy; {code}"], capture_output=True, check=True
            ).stdout
        )
        for _ in range(repeats)
    ]
    return row("fused: loading numba", seconds, n_rows=0, dtype="-", unit="CPU s")


def chosen_from(program: Program, calls: int, **state: Any) -> float:
    """Return from how many entries on `choose_backend` compiles."""
    low, high = 1.0, 1e12
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        if choose_backend(program, int(middle), calls, **state) == "fused":
            high = middle
        else:
            low = middle
    return high


def breaking_even(rows: list[Row], compile_rows: list[Row]) -> list[Row]:
    """Return from how many elements on compiling pays: as measured, and as `choose_backend` has it."""

    def of(engine: str, formula: str, some: list[Row]) -> float:
        return float(
            next(one["median"] for one in some if one["engine"] == engine and one.get("formula") == formula)
        )

    start = next(one["median"] for one in compile_rows if one["engine"] == "fused: loading numba")
    least = min(one["elements"] for one in rows)
    timed = [one for one in rows if one["elements"] == least]
    found = []
    for name, text in FORMULAS.items():
        saved = 1e-9 * (of("reference", name, timed) - of("fused", name, timed))
        for fresh in (True, False):
            state = "first of a process" if fresh else "a later one"
            cost = of(f"fused: compiling, {state}", text, compile_rows) + start * fresh
            for calls in (1, 10):
                entries = cost / saved / calls
                more = {"formula": name, "calls": calls, "cost_s": cost}
                more["chosen_from"] = chosen_from(lower([parse(text)]), calls, fresh=fresh)
                about: Row = {"n_rows": 0, "dtype": "float32", "unit": "elements"}
                found.append(row(f"break-even, {state}", [entries], **about, **more))
    return found


def main() -> None:
    """Run, print, write."""
    options = arguments(__doc__)
    rows: list[Row] = []
    for n_rows, repeats, small in [(60, 5, True)] if options.quick else [(400, 5, True), (2400, 7, False)]:
        rows += benchmark(n_rows, np.float32, repeats, small)
        write(options.json, "fused", rows, THREADS)
    new = [loading(3 if options.quick else 7), *compiling(1 if options.quick else 3)]
    print_rows(new, "formula", "operators")
    more = breaking_even(rows, new)
    print_rows(more, "formula", "calls", "cost_s", "chosen_from")
    write(options.json, "fused", rows + new + more, THREADS)


if __name__ == "__main__":
    main()
