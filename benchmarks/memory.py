"""Does a long search stay within its memory?

    python benchmarks/memory.py [--quick] [--json FILE] [--minutes 30]

Starts ``python -m proxygraph.evolve`` on a table of 500 rows that no formula explains wholly, by Spearman
(the most formulas per second), and looks every two seconds at the resident memory of its process and of those
it started. A row per tenth of the run: the median of that tenth. What a search remembers is bounded
(`SearchConfig.remembered`), so memory may grow until the bound is reached and must be level from there on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Row, print_rows, row, write
from benchmarks.start import N_ROWS, table

import psutil  # isort: skip

EVERY = 2.0
"""Seconds between two looks."""
PARTS = 10


def resident(process: psutil.Process) -> float:
    """Return the MB that a process and its children have in memory."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended while we looked
    return total / 1e6


def watched(minutes: float, folder: Path) -> tuple[list[float], int]:
    """Run a search for so long; return its MB, look by look, and how many formulas it scored."""
    data, out = folder / "table.csv", folder / "run"
    table(data)
    command = [
        sys.executable,
        "-m",
        "proxygraph.evolve",
        str(data),
        "--target",
        "y",
        "--objective",
        "spearman",
    ]
    command += ["--time-budget", str(60 * minutes), "--threads", "1", "--quiet", "--out", str(out)]
    megabytes: list[float] = []
    with subprocess.Popen(command) as process:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            megabytes.append(resident(seen))
            time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return megabytes, int(result["search"]["evaluated"])


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half a minute")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    asked = parser.parse_args()
    minutes = 0.5 if asked.quick else asked.minutes
    with tempfile.TemporaryDirectory() as name:
        megabytes, evaluated = watched(minutes, Path(name))
    rows: list[Row] = []
    for k in range(PARTS):
        part = megabytes[k * len(megabytes) // PARTS : (k + 1) * len(megabytes) // PARTS]
        about = {"n_rows": N_ROWS, "dtype": "-", "minutes": minutes, "formulas": evaluated}
        rows.append(row(f"tenth {k + 1}", part, **about, unit="MB"))
    print_rows(rows)
    write(asked.json, "memory", rows)


if __name__ == "__main__":
    main()
