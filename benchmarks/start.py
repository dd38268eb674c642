"""How long does a user wait for the first result, and for the commands to answer at all?

    python benchmarks/start.py [--quick] [--json FILE]

Every number is a fresh process, by the clock from start to end; beside it stands the CPU time of the
process and those it starts, which other work on the machine hardly touches. "Cold" has an empty cache
folder of its own, so that it compiles; "warm" has what a cold one left. The first result is that of one
generation. The full run adds formulas that are judged by ranks, and networks.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, arguments, print_rows, row, write

import numpy as np  # isort: skip

N_ROWS = 500
COMMANDS = (
    *(f"proxygraph.{name}" for name in ("evolve", "export", "report", "score")),
    *(
        f"segspace.{name}"
        for name in (
            *("train", "evaluate", "export", "groundtruth", "latency", "oneshot", "search", "report"),
            "report.archs",
        )
    ),
)


def elapsed(command: Sequence[str], cache: Path) -> tuple[float, float]:
    """Run a command in a process of its own.

    Return seconds by the clock and of CPU time, children included.
    """

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    environment = {**os.environ, "PROXYGRAPH_CACHE": str(cache)}
    start, spent = time.perf_counter(), cpu()
    done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True, check=False)
    seconds, spent = time.perf_counter() - start, cpu() - spent
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return seconds, spent


def table(path: Path) -> None:
    """Write a table of `N_ROWS` rows, five columns and a target that a formula explains in part."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_ROWS, 5))
    y = x[:, 0] ** 2 + np.sin(x[:, 1]) * x[:, 2] + 0.1 * rng.normal(size=N_ROWS)
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header="a,b,c,d,e,y", comments="")


def rows_of(what: str, times: Sequence[tuple[float, float]], n_rows: int) -> list[Row]:
    """Return the clock's row and the CPU's."""
    about: dict[str, Any] = {"n_rows": n_rows, "dtype": "-", "repeats": len(times)}
    wall, cpu = zip(*times, strict=True)
    return [row(what, wall, **about, unit="s"), row(what, cpu, **about, unit="CPU s")]


def first_results(problems: Mapping[str, Sequence[str]], cold: int, warm: int, folder: Path) -> list[Row]:
    """Time the first result of each problem from cold caches, and again from the last of them."""
    rows: list[Row] = []
    for name, source in problems.items():
        times: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
        for k in range(cold + warm):
            state = "cold" if k < cold else "warm"
            cache = folder / f"{len(rows)}-{min(k, cold - 1)}"
            cache.mkdir(exist_ok=True)
            out = cache / f"run-{k}"
            command = [sys.executable, "-m", "proxygraph.evolve", *source, "--generations", "1", "--quiet"]
            times[state].append(elapsed([*command, "--out", str(out)], cache))
        n = N_ROWS if "csv" in source[0] else 0
        for state, seconds in times.items():
            some = rows_of(f"first result, {name}, {state}", seconds, n)
            print_rows(some)
            rows += some
    return rows


def answers(repeats: int, folder: Path) -> list[Row]:
    """Time the import of the package and the help of every command."""
    asked = {"python alone": ["-c", ""], "import proxygraph": ["-c", "import proxygraph"]}
    asked |= {f"{name} --help": ["-m", name, "--help"] for name in COMMANDS}
    times: dict[str, list[tuple[float, float]]] = {what: [] for what in asked}
    for _ in range(repeats):
        for what, words in asked.items():
            times[what].append(elapsed([sys.executable, *words], folder))
    rows = [one for what, seconds in times.items() for one in rows_of(what, seconds, 0)]
    print_rows(rows)
    return rows


def main() -> None:
    """Run, print, write."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "table.csv"
        table(data)
        problems = {"table": [str(data), "--target", "y"]}
        if not options.quick:
            problems["table by rank"] = [str(data), "--target", "y", "--objective", "spearman"]
            problems["networks"] = ["streetscenes"]
        rows = answers(3 if options.quick else 9, folder)
        rows += first_results(problems, *((1, 3) if options.quick else (3, 9)), folder)
    write(options.json, "start", rows)


if __name__ == "__main__":
    main()
