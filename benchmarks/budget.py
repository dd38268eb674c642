"""How long a whole training-free search takes, and whether what it chooses is as fast as it was said to be.

    python benchmarks/budget.py [--proxy found_short] [--budgets 0.5 0.75 1 10] [--size 180x240] [--json FILE]

Begins with nothing: ``segspace.search`` times the pieces of the space, then looks for networks within the
largest budget, with two processes. The front is measured as whole networks that take turns
(``segspace.latency measure``). For each budget, the choice is the network of the front that is best within
it, by the predicted latency alone. Needs a quiet machine; --quick tries it on a busy one. The errors of
predictions for networks that no search chose are those of benchmarks/latency.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, print_rows, row, write

# isort: split
from proxygraph.run import RunFolder

DONE = "timed.json"


def seconds_of(command: Sequence[str]) -> dict[str, float]:
    """Run a command, and return the wall and CPU seconds of it and its processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", *command], check=True)
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


def searched(options: argparse.Namespace) -> RunFolder:
    """Search, measure the front, and return the folder; what is there already is not done again."""
    run = RunFolder(options.work / "search")
    options.work.mkdir(parents=True, exist_ok=True)
    if not (run.path / DONE).is_file():
        table = options.work / f"latency-{options.runtime}.json"
        if table.exists():
            raise SystemExit(f"{table} is there already: the search would not be timed whole; move it away")
        busy = ["--busy-ok"] if options.quick else []
        data = ["--data", options.data] if options.data else []
        setting = ["--runtime", options.runtime, "--size", options.size, "--table", str(table)]
        limits = ["--max-latency-ms", str(max(options.budgets)), "--trials", str(options.trials)]
        words = ["--proxy", options.proxy, "--processes", "2", "--out", str(run.path)]
        whole = seconds_of(["segspace.search", *words, *setting, *limits, *data, *busy])
        subprocess.run(
            [sys.executable, "-m", "segspace.latency", "measure", "--study", str(run.path), *busy], check=True
        )
        run.write(DONE, json.dumps(whole) + "\n")
    return run


def rows_of(run: RunFolder, options: argparse.Namespace) -> list[Row]:
    """Return one row for the whole search, one per budget, and one for the errors of the whole front."""
    result, timed, about = run.read("result.json"), run.read(DONE), {"proxy": options.proxy}
    setting = result["latency"]["setting"]
    about |= {
        "size": result["settings"]["size"],
        "runtime": setting["runtime"],
        "version": setting["version"],
    }
    measured = {one["arch"]: one for one in run.read("measured.json")["networks"]}
    with (run.path / "front.csv").open(encoding="utf-8", newline="") as file:
        front = [one | {"latency_ms": float(one["latency_ms"])} for one in csv.DictReader(file)]
    n, same = result["counts"]["candidates"], {"n_rows": len(front), "dtype": "float32"}
    found = [row("whole search", [timed["wall"]], unit="s", threads=2, **same, **about)]
    found[0] |= {"cpu_seconds": timed["cpu"], "scoring_seconds": result["seconds"], "candidates": n}
    for budget in options.budgets:
        within = [one for one in front if one["latency_ms"] <= budget]
        if within:
            found.append(chosen(within[-1], measured[within[-1]["arch"]], budget) | about)
    errors = [abs(error_of(one, measured[one["arch"]])) for one in front]
    found.append(row("error of the front", errors, unit="%", **same, **about) | {"worst": max(errors)})
    return found


def error_of(one: dict[str, Any], times: dict[str, Any]) -> float:
    """Return by how many percent the prediction is above what it predicts, the tenth percentile."""
    return float(100 * (one["latency_ms"] / times["p10"] - 1))


def chosen(one: dict[str, Any], times: dict[str, Any], budget: float) -> Row:
    """Return the row of a budget: the measured latency and what was predicted."""
    about = {"budget_ms": budget, "predicted_ms": one["latency_ms"], "error_percent": error_of(one, times)}
    about |= {key: times[key] for key in ("params", "macs")}
    measured = {key: times[key] for key in ("median", "p10", "p90")}
    return (
        {"engine": one["arch"], "n_rows": times["n"], "dtype": "float32", "threads": 1}
        | measured
        | about
        | {"unit": "ms"}
    )


def main() -> None:
    """Search, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--proxy", default="found_short", help="as for segspace.search (found_short)")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.75, 1, 10], help="ms")
    parser.add_argument("--size", default="180x240", help="HxW (180x240)")
    parser.add_argument("--runtime", default="onnxruntime", help="(onnxruntime)")
    parser.add_argument("--data", help="as for segspace.search; by default generated scenes")
    parser.add_argument("--trials", type=int, default=1000, help="networks to score (1000)")
    parser.add_argument("--work", type=Path, default=Path("runs/budget"), help="a new folder")
    parser.add_argument("--quick", action="store_true", help="tiny pictures, 20 networks, on a busy machine")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    if options.quick:
        options.size, options.trials, options.work = "64x96", 20, options.work.with_name("budget-quick")
    rows = rows_of(searched(options), options)
    print_rows(rows, "budget_ms", "predicted_ms")
    write(options.json, "budget", rows)


if __name__ == "__main__":
    main()
