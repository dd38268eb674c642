"""What the score of one segmenter costs: CPU seconds of its statistics and of the proxies, on one core.

    python benchmarks/scoring.py [--networks 20] [--quick] [--json FILE]

Networks of the space ``rtseg`` are drawn evenly over multiply-adds. Of each, untrained, all statistics that
need no second-order gradient are collected, as the problem ``camvid`` does it (8 and 4 generated scenes), and
every hand-made proxy is computed from them; a search computes one formula. ``worst`` is the dearest network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.common import Row, print_rows, row, write

# isort: split
import numpy as np
import torch

from proxygraph.finish import exact_values
from proxygraph.stats import collect
from proxygraph.zoo import available
from segspace import streetscenes
from segspace.losses import segmentation_loss
from segspace.problems import Measurement
from segspace.rtseg.arch import Arch
from segspace.rtseg.network import build
from segspace.rtseg.space import Space

SETTINGS = (("tiny", (120, 160)), ("tiny", (64, 64)), ("base", (128, 256)))
"""Preset, and size of the images that statistics are taken on."""
CLASSES = len(streetscenes.CLASSES)


def batches_of(height: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return scenes and their labels, as many per batch as problems take."""
    how, data = Measurement(), []
    for i in range(how.batches):
        n_images = how.images if i == 0 else how.images // 2
        images, labels = streetscenes.batch(1000 + i, n_images, height, width)
        data.append((torch.from_numpy(images), torch.from_numpy(labels)))
    return data


def seconds_of(arch: Arch, data: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float]:
    """Return the CPU seconds of building and collecting, and of all proxies."""
    start = time.process_time()
    network = build(arch, CLASSES, seed=0)
    table = collect(network, data, segmentation_loss, row=str(arch))
    middle = time.process_time()
    for proxy in available(table.leaves):
        exact_values(proxy.dag, table, np.arange(1))
    return middle - start, time.process_time() - middle


def rows_of(preset: str, size: tuple[int, int], n: int) -> list[Row]:
    """Return one row for the statistics, one for the proxies and one for both."""
    space, data = Space.preset(preset), batches_of(*size)
    archs = space.stratified(n, np.random.default_rng(13), size=size, classes=CLASSES)
    seconds_of(archs[0], data)  # the first network pays for what torch loads lazily
    found = np.array([seconds_of(arch, data) for arch in archs])
    costs = {"statistics": found[:, 0], "proxies": found[:, 1], "score": found.sum(1)}
    return [
        row(
            name,
            values.tolist(),
            n_rows=n,
            dtype="float32",
            unit="CPU s per network",
            preset=preset,
            size=size,
            worst=float(values.max()),
        )
        for name, values in costs.items()
    ]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", type=int, default=20, help="how many to draw (default 20)")
    parser.add_argument("--quick", action="store_true", help="3 networks")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for preset, size in SETTINGS:
        rows += rows_of(preset, size, 3 if args.quick else args.networks)
        write(args.json, "scoring", rows)
    print_rows(rows, "preset", "size", "worst")


if __name__ == "__main__":
    main()
