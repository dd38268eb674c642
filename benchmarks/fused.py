"""How fast is one formula on a ragged table: reference, numpy, torch, the fused kernel, and the memory.

Nanoseconds of CPU time per element on one thread (the row with more threads is wall time), beside the cost of
copying or reading the same columns in the same run. Results are compared with the reference before anything
is timed; engines take turns, so that a slow minute of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np

from proxygraph.infix import parse
from proxygraph.kernels.fused import FusedKernel, compiled
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.program import lower
from proxygraph.table import StatTable

try:
    import torch
except ImportError:
    torch = None

FORMULAS = {
    "snip": "sum(sum(abs(w * g)))",
    "log_mean_std": "sum(log(mean(abs(g)) / std(g)))",
    "zscore": "sum(mean(((w - mean(w)) / std(w))**3))",
}
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
    torch.set_num_threads(1)
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
def _read(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) + np.float64(y[i])
    return total


def measure(engines: dict[str, tuple[Run, bool]], repeats: int) -> dict[str, list[float]]:
    """Return seconds of each engine, taken in turns: CPU time, or wall time where the flag says so."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name, (run, wall) in engines.items():
            clock = time.perf_counter if wall else time.process_time
            start = clock()
            run()
            times[name].append(clock() - start)
    return times


def benchmark(n_rows: int, dtype: Any, repeats: int, threads: int) -> list[dict[str, Any]]:
    """Return the rows of one table size and type."""
    table = synthetic(n_rows, dtype)
    w, g, copy = table.columns["w"], table.columns["g"], np.empty(table.size("element"), dtype)
    hand_made = {"numpy reduceat": with_numpy(table), **({"torch eager": with_torch(table)} if torch else {})}
    rows = []
    for name, formula in FORMULAS.items():
        program = lower([parse(formula)])
        reference, fused = ReferenceKernel(program), FusedKernel(program)
        compiled.cache_clear()
        start = time.process_time()
        fused(table)
        seconds = time.process_time() - start
        parallel = FusedKernel(program, threads=threads)
        engines: dict[str, tuple[Run, bool]] = {"reference": (lambda k=reference: k(table)[0], False)}
        engines |= {engine: (runs[name], False) for engine, runs in hand_made.items()}
        engines["fused"] = (lambda k=fused: k(table)[0], False)
        engines[f"fused, {threads} threads"] = (lambda k=parallel: k(table)[0], True)
        expected = reference(table)[0]
        for engine, (run, _) in engines.items():
            # the third moment is near 0: errors are relative to its terms, which are of size 1
            close = 1e-9 if "fused" in engine or dtype == np.float64 else 2e-3
            np.testing.assert_allclose(run(), expected, close, close, err_msg=f"{engine}: {name}")
        engines["read w and g"] = (lambda: _read(w, g), False)
        engines["copy w"] = (lambda: np.copyto(copy, w), False)
        _read(w, g)
        scale = 1e9 / table.size("element")
        base = {"formula": name, "n_rows": n_rows, "dtype": np.dtype(dtype).name}
        for engine, times in measure(engines, repeats).items():
            p10, median, p90 = (float(q) for q in np.quantile(np.array(times) * scale, [0.1, 0.5, 0.9]))
            used = {"threads": threads if "threads" in engine else 1, "unit": "ns/element"}
            rows.append({"engine": engine, **base, **used, "median": median, "p10": p10, "p90": p90})
        once = {"threads": 1, "unit": "s", "median": seconds, "p10": seconds, "p90": seconds}
        rows.append({"engine": "fused: compile", **base, **once})
    return rows


def environment(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.is_file() else []
    packages = {"numpy": np.__version__, "numba": numba.__version__}
    packages["torch"] = torch.__version__ if torch else "absent"
    cpu = names[0].split(":")[1].strip() if names else platform.machine()
    return {"python": platform.python_version(), "packages": packages, "cpu": cpu, "threads": threads}


def main() -> None:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small table, few repeats")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    threads = os.cpu_count() or 1
    n_rows, repeats = (60, 5) if options.quick else (400, 15)
    rows = []
    print(f"{'formula':14}{'engine':20}{'dtype':10}{'median':>9}{'p10':>9}{'p90':>9}  unit")
    for dtype in (np.float32, np.float64):
        for row in benchmark(n_rows, dtype, repeats, threads):
            rows.append(row)
            numbers = "".join(f"{row[key]:9.3f}" for key in ("median", "p10", "p90"))
            print(f"{row['formula']:14}{row['engine']:20}{row['dtype']:10}{numbers}  {row['unit']}")
    if options.json:
        result = {"name": "fused", "environment": environment(threads), "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
