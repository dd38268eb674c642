"""How well tables of latencies predict whole networks: 24 unseen ones of the tiny space, 120x160, one thread.

    python benchmarks/latency.py [--runtime NAME]... [--tables DIR] [--quick] [--json FILE]

For each runtime that is installed, a table of the pieces of the drawn networks is measured, calibrated with
12 networks and compared with 24 others (``segspace.latency``). A row is the error of the predictions in per
cent. Tables are kept in DIR: an interrupted run goes on from them, and they can be asked afterwards. The rows
of other runtimes in FILE stay, if they are of the same machine. Needs a quiet machine; nothing is refused on
a busy one, but ``others`` says how many cores others used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, print_rows, row, write, written

import numpy as np  # isort: skip

from proxygraph.errors import BackendUnavailable  # isort: skip
from segspace.latency.build import add_networks, add_pieces, open_table  # isort: skip
from segspace.latency.check import Check, check  # isort: skip
from segspace.latency.load import machine_load  # isort: skip
from segspace.latency.runtimes import Runtime, runtime  # isort: skip
from segspace.rtseg.arch import Arch  # isort: skip
from segspace.rtseg.program import program  # isort: skip
from segspace.rtseg.space import Space  # isort: skip

RUNTIMES = ("eager", "onnxruntime", "openvino")
SIZE, CLASSES = (120, 160), 11


def compare(
    engine: Runtime, calibrating: Sequence[Arch], unseen: Sequence[Arch], path: Path, rounds: int
) -> Check:
    """Return how well a table, begun here or gone on from `path`, predicts the unseen networks."""
    table = open_table(path, engine)
    pieces = [s.piece for arch in (*calibrating, *unseen) for s in program(arch, SIZE, CLASSES).steps]
    table = add_pieces(table, path, engine, pieces, rounds=rounds, busy_ok=True)
    table = add_networks(table, path, engine, calibrating, SIZE, CLASSES, rounds=rounds, busy_ok=True)
    return check(table, engine, unseen, SIZE, CLASSES, rounds=rounds)


def rows_of(report: Check, others: float) -> list[Row]:
    """Return one row per statistic."""
    rows = []
    for one in report.agreement:
        pairs = zip(report.predicted[one.statistic], report.measured[one.statistic], strict=True)
        errors = [100 * abs(predicted / measured - 1) for predicted, measured in pairs]
        more: dict[str, Any] = {
            "statistic": one.statistic, "version": report.setting.version, "size": report.size,
            "mape": one.mape,
            "worst": one.worst, "tau_b": one.tau_b, "spearman": one.rho, "sum_mape": one.sum_mape,
            "slope": one.slope, "offset_ms": one.offset, "n_calibration": one.n_calibration,
            "spread": report.spread, "pace": report.pace, "others": others,
            "networks": report.archs, "predicted_ms": report.predicted[one.statistic],
            "measured_ms": report.measured[one.statistic],
        }  # fmt: skip
        engine = report.setting.runtime
        rows.append(row(engine, errors, n_rows=one.n, dtype=report.setting.dtype, unit="% error", **more))
    return rows


def main() -> None:
    """Run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="only this one; may be repeated")
    parser.add_argument("--tables", type=Path, default=Path("build/latency"), help="where tables are kept")
    parser.add_argument("--quick", action="store_true", help="few networks, few rounds")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    n_calibrate, n_check, rounds = (5, 5, 5) if options.quick else (12, 24, 15)
    space = Space.preset("tiny")
    drawn = space.stratified(
        n_calibrate + n_check, np.random.default_rng(0), size=SIZE, classes=CLASSES, strata=n_check // 3
    )
    names = options.runtime or RUNTIMES
    rows = [one for one in written(options.json) if one["engine"] not in names]
    for name in names:
        try:
            engine = runtime(name)
        except BackendUnavailable as error:
            print(f"left out: {error}")
            continue
        others = machine_load().cores
        path = options.tables / f"{name}{'-quick' if options.quick else ''}.json"
        report = compare(engine, drawn[:n_calibrate], drawn[n_calibrate:], path, rounds)
        rows = sorted([*rows, *rows_of(report, others)], key=lambda one: RUNTIMES.index(one["engine"]))
        write(options.json, "latency", rows)  # a later runtime that fails costs nothing
    print_rows(
        rows, "statistic", "mape", "worst", "tau_b", "spearman", "sum_mape", "slope", "offset_ms", "pace"
    )


if __name__ == "__main__":
    main()
