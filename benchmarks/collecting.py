"""What do more images buy? CPU seconds of the statistics, and how well the hand-made proxies then rank.

    python benchmarks/collecting.py CSV [--networks 40] [--target seg_valid_miou] [--quick] [--json FILE]

CSV holds published results of the micro networks of TransNAS-Bench-101 (columns ``arch`` and the target).
Statistics of a seeded draw of them are collected with 2 to 16 images of 64 x 64 per batch and one or two
batches; networks without a path from input to output, on which some proxies are undefined, are not drawn. The
spread of a correlation is that of resampled networks: settings closer than that cannot be told apart.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Row, print_rows, row, write

# isort: split
import numpy as np
import torch
from numpy.typing import NDArray

from proxygraph.finish import exact_values
from proxygraph.rank import spearman
from proxygraph.stats import collect
from proxygraph.table import StatTable
from proxygraph.zoo import available
from segspace import streetscenes
from segspace.transnas101 import Arch, build

IMAGES, BATCHES = (2, 4, 8, 16), (1, 2)
SIZE = 64
RESAMPLED = 200


def drawn(path: Path, target: str, n_networks: int) -> dict[Arch, float]:
    """Return a seeded draw of connected networks with their measured result."""
    with path.open(encoding="utf-8", newline="") as file:
        measured = {Arch.parse(line["arch"]): float(line[target]) for line in csv.DictReader(file)}
    archs = [arch for arch in measured if arch.connected]
    chosen = np.random.default_rng(11).choice(len(archs), min(n_networks, len(archs)), replace=False)
    return {archs[i]: measured[archs[i]] for i in chosen}


def collected(archs: Sequence[Arch], images: int, batches: int) -> tuple[StatTable, list[float]]:
    """Return the statistics of networks and the CPU seconds that each took."""
    data = []
    for i in range(batches):  # later batches are half as large, as in segspace.problems
        n_images = images if i == 0 else images // 2
        inputs, labels = streetscenes.batch(1000 + i, n_images, SIZE, SIZE)
        data.append((torch.from_numpy(inputs), torch.from_numpy(labels)))
    tables, seconds = [], []
    for arch in archs:
        network = build(arch, classes=len(streetscenes.CLASSES))
        start = time.process_time()
        tables.append(collect(network, data, torch.nn.functional.cross_entropy, row=str(arch)))
        seconds.append(time.process_time() - start)
    return StatTable.concat(tables), seconds


def correlations(table: StatTable, target: NDArray[np.float64]) -> dict[str, tuple[float, list[float]]]:
    """Return for every proxy Spearman's rho on all networks, and on resamples of them."""
    index = np.arange(table.n_rows)
    resamples = np.random.default_rng(12).integers(0, table.n_rows, size=(RESAMPLED, table.n_rows))
    found = {}
    for proxy in available(table.leaves):
        scores = exact_values(proxy.dag, table, index)
        whole = float(spearman(scores[None], target)[0])
        with np.errstate(all="ignore"):  # a resample of one network has no correlation
            again = [float(spearman(scores[i][None], target[i])[0]) for i in resamples]
        found[proxy.name] = whole, [rho for rho in again if np.isfinite(rho)]
    return found


def rows_of(
    setting: dict[str, int], table: StatTable, seconds: list[float], y: NDArray[np.float64]
) -> list[Row]:
    """Return the cost of one setting and the correlations that it gives; a constant proxy has none."""
    about: Row = {"n_rows": table.n_rows, "dtype": "float32", **setting}
    rows = [row("collect", seconds, unit="CPU s per network", mean=float(np.mean(seconds)), **about)]
    for name, (rho, again) in correlations(table, y).items():
        if again:
            rows.append(
                row(name, again, unit="Spearman, resampled", rho=None if np.isnan(rho) else rho, **about)
            )
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("csv", type=Path, help="published results of the micro networks")
    parser.add_argument("--networks", type=int, default=40, help="how many to draw (default 40)")
    parser.add_argument("--target", default="seg_valid_miou", help="column to rank by")
    parser.add_argument("--quick", action="store_true", help="6 networks, 2 and 8 images")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks = drawn(args.csv, args.target, 6 if args.quick else args.networks)
    archs, y = list(networks), np.array(list(networks.values()))
    collected(archs[:1], 2, 1)  # the first network pays for what torch loads lazily
    rows: list[Row] = []
    for batches in BATCHES:
        for images in (2, 8) if args.quick else IMAGES:
            new = rows_of({"images": images, "batches": batches}, *collected(archs, images, batches), y)
            print_rows(new, "batches", "images")
            rows += new
    write(args.json, "statistics", rows)


if __name__ == "__main__":
    main()
