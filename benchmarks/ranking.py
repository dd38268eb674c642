"""How fast are Spearman's rho and Kendall's tau-b of many rows with one target: scipy, numpy, pandas, ours.

Microseconds per row: CPU time on one thread, wall time with more. Results are compared with scipy's before
anything is timed. Each run ranks all rows, so that no branch predictor learns a row by heart; the rows are
normal numbers in part along the target, and ``outlier`` and ``ties`` are rows that are harder to sort.
"""

from __future__ import annotations

import os

from benchmarks.common import Engine, Row, arguments, measure, print_rows, row, write

# isort: split
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from proxygraph.kernels.ranking import Target, kendall, spearman

try:
    import pandas
except ImportError:
    pandas = None

THRESHOLD = 0.7  # no row of the benchmark reaches it: what a hopeless row costs


def rows_of(kind: str, n_rows: int, n_values: int, target: Any) -> Any:
    """Return formulas' values, shape (P, N)."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(n_rows, n_values)) + 0.3 * target
    if kind == "outlier":
        values[:, n_values // 2] = 1e30
    return np.round(2 * values) if kind == "ties" else values


def one_by_one(statistic: Any, values: Any, target: Any) -> Any:
    """Call scipy once per row."""
    return [statistic(one, target).statistic for one in values]


def vectorised(values: Any, target: Any) -> Any:
    """All rows at once: ranks by scipy, correlation by numpy."""
    x, y = stats.rankdata(values, axis=-1), stats.rankdata(target)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean()
    return (x @ y) / np.sqrt((x * x).sum(axis=-1) * (y @ y))


def with_pandas(frame: Any, target: Any, method: str) -> Any:
    """All columns at once."""
    return frame.corrwith(target, method=method).to_numpy()


def benchmark(n_values: int, kind: str, repeats: int, threads: int) -> list[Row]:
    """Return the rows of one length and kind."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=n_values)
    prepared = Target.of(target)
    wide = rows_of(kind, max(4, min(400, 400_000 // n_values)), n_values, target)
    result: list[Row] = []
    for name, ours, scipys in (
        ("spearman", spearman, stats.spearmanr),
        ("kendall", kendall, stats.kendalltau),
    ):
        for dtype in (np.float32, np.float64):
            values = wide.astype(dtype)
            few = values[: max(2, 8000 // n_values)]  # for what is slow
            engines = {"scipy, one call a row": (Engine(partial(one_by_one, scipys, few, target)), few)}
            if name == "spearman":
                engines["scipy rankdata and numpy"] = (Engine(partial(vectorised, values, target)), values)
            if pandas is not None:
                frame, series = pandas.DataFrame(few.T), pandas.Series(target)
                engines["pandas corrwith"] = (Engine(partial(with_pandas, frame, series, name)), few)
            engines["proxygraph"] = (Engine(partial(ours, values, prepared)), values)
            hopeless = Engine(partial(ours, values, prepared, THRESHOLD))
            shared = Engine(partial(ours, values, prepared, threads=threads), threads)
            engines[f"proxygraph, {threads} threads"] = (shared, values)
            expected = np.array(one_by_one(scipys, few, target))
            for engine, (what, _) in engines.items():
                got = np.asarray(what.run())[: len(few)]
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9, err_msg=f"{engine}: {name}")
            full = ours(values, prepared)
            assert np.abs(full).max() < THRESHOLD
            engines["proxygraph, threshold missed"] = (hopeless, values)
            hopeless.run()
            times = measure({engine: what for engine, (what, _) in engines.items()}, repeats)
            base = np.median(times["scipy, one call a row"]) / len(few)
            for engine, (what, ranked) in engines.items():
                about = {"n_rows": n_values, "dtype": np.dtype(dtype).name, "threads": what.threads}
                ratio = float(base / (np.median(times[engine]) / len(ranked)))
                more = {"statistic": name, "kind": kind, "n_formulas": len(ranked), "times_scipy": ratio}
                result.append(
                    row(engine, times[engine], unit="us/row", scale=1e6 / len(ranked), **about, **more)
                )
    return result


def main() -> None:
    """Run, print a table, write the JSON."""
    options = arguments(__doc__)
    threads = min(2, os.cpu_count() or 1)
    repeats = 3 if options.quick else 9
    sizes = (100, 500) if options.quick else (100, 500, 4096, 100_000)
    rows: list[Row] = []
    for n_values in sizes:
        for kind in ("normal", "ties", "outlier"):
            some = benchmark(n_values, kind, repeats, threads)
            print_rows(some, "statistic", "kind", "times_scipy")
            rows += some
    write(options.json, "ranking", rows, threads)


if __name__ == "__main__":
    main()
