"""What the benchmarks share: where a number was made, engines timed in turns, rows, printing, JSON.

    from benchmarks.common import Engine, arguments, environment, measure, print_rows, row, write

works when a script is run as ``python benchmarks/NAME.py`` too, since the package is installed from the
checkout. Import this before numpy and torch: it keeps their thread pools at one thread, so that CPU time is
the time of one core and only an engine that asks for threads has them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import llvmlite.binding
import numpy as np

from proxygraph.run import environment as environment

Row = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """Something to be timed.

    Attributes
    ----------
    run : callable
        Does the work once.
    threads : int
        Threads it uses. With one CPU time is taken, which other processes hardly touch; else wall time.
    repeats : int or None
        Fewer runs than the others, for what is slow.
    """

    run: Callable[[], Any]
    threads: int = 1
    repeats: int | None = None


def measure(engines: Mapping[str, Engine], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every run; engines take turns, so that a slow minute hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(repeats):
        for name, engine in engines.items():
            if turn < (engine.repeats or repeats):
                clock = time.process_time if engine.threads == 1 else time.perf_counter
                start = clock()
                engine.run()
                times[name].append(clock() - start)
    return times


def quantiles(values: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    """Return ``median``, ``p10`` and ``p90`` of some values, each times `scale`."""
    p10, median, p90 = np.quantile(np.asarray(values) * scale, [0.1, 0.5, 0.9])
    return {"median": float(median), "p10": float(p10), "p90": float(p90)}


def row(
    engine: str,
    values: Sequence[float],
    *,
    n_rows: int,
    dtype: str,
    unit: str,
    threads: int = 1,
    scale: float = 1.0,
    **more: Any,
) -> Row:
    """Return one row of a result: who, on what, and the quantiles of `values` times `scale`."""
    about = {"engine": engine, "n_rows": n_rows, "dtype": dtype, "threads": threads, **more}
    return {**about, **quantiles(values, scale), "unit": unit}


def print_rows(rows: Iterable[Row], *more: str) -> None:
    """Print rows as a table; `more` names further keys to show in front."""
    for one in rows:
        shown = (one.get(key, "") for key in more)
        words = (f"{x:.3g}" if isinstance(x, float) else str(x) for x in shown)
        about = "".join(f"{word:>14} " for word in words)
        numbers = " ".join(f"{one[key]:10.4g}" for key in ("median", "p10", "p90"))
        size = f"{one['n_rows']:8d} {one['dtype']:9}{one['threads']:2d}"
        print(f"{about}{one['engine']:36} {size} {numbers}  {one['unit']}", flush=True)


def arguments(doc: str | None, parts: Sequence[str] = ()) -> argparse.Namespace:
    """Read the command line: ``--quick`` and ``--json FILE``, and ``--only PART`` if there are parts."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small data, few repeats")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    if parts:
        parser.add_argument("--only", choices=parts, help="run one part alone")
    return parser.parse_args()


def written(path: Path | None, threads: int = 1) -> list[Row]:
    """Return the rows that a file has already; none if another machine or other packages made them."""
    if path is None or not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return list(found["rows"]) if found["environment"] == environment(threads) else []


def write(path: Path | None, name: str, rows: Sequence[Row], threads: int = 1) -> None:
    """Write a result, ``{"name", "environment", "rows"}``, whole or not at all, if there is a path."""
    if path is not None:
        result = {"name": name, "environment": environment(threads), "rows": list(rows)}
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)


def processor() -> str:
    """Return the kind of processor, as LLVM names it; makers give kinds of unlike speed one name."""
    return str(llvmlite.binding.get_host_cpu_name())
