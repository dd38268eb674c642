"""Which short training tells networks apart: spread between networks beside the spread between seeds.

Ground truth is worth as much as it repeats. Four networks of the tiny space, two seeds each, are trained on
CamVid by each recipe; ``python benchmarks/recipes.py --data camvid:DIR`` trains for hours, keeps each one
in ``--kept`` and goes on from there. The chosen recipe is the default of ``segspace.groundtruth``.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.common import Row, print_rows, row, write

import numpy as np  # isort: skip

from segspace.groundtruth import Bench, trained_row  # isort: skip
from segspace.recipe import Recipe  # isort: skip

NETWORKS = (
    "rtseg:tiny:C1-I4-s4",
    "rtseg:tiny:i2s1i3y3y0y4-z1c4D2d2Y3d4-0",
    "rtseg:tiny:0-z0i0z4Z3-c3c0i3c4z0",
    "rtseg:tiny:z3y2y2c2d2c4-y0D4Z0z2d3-I0",
)
SEEDS = (0, 1)
RECIPES: dict[str, dict[str, Any]] = {
    "batch 8, lr .004": {"batch": 8, "lr": 4e-3},
    "batch 4, lr .004": {"batch": 4, "lr": 4e-3},
    "batch 4, lr .004, no class weights": {"batch": 4, "lr": 4e-3, "class_weight_power": 0.0},
    "batch 2, lr .002": {"batch": 2, "lr": 2e-3},
}


def train(job: tuple[str, str, str, int]) -> dict[str, Any]:
    """Return what one training gives."""
    import torch

    from segspace.datasets import open_dataset

    data, name, arch, seed = job
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    shared: dict[str, Any] = {"size": (120, 160), "epochs": 30, "class_weight_power": -0.3}
    bench = Bench(data, Recipe(**(shared | RECIPES[name])))
    dataset = open_dataset(data)
    found = trained_row(arch, seed, bench, dataset, *bench.pictures(dataset))
    return {"recipe": name, "arch": arch, "seed": seed, "miou": found.miou, "seconds": found.seconds}


def rows_of(found: list[dict[str, Any]], n_networks: int) -> list[Row]:
    """Return a row per recipe: mIoU, and the two standard deviations (seeds: pooled over networks)."""
    rows = []
    for name in RECIPES:
        mine = [one for one in found if one["recipe"] == name]
        values = {(one["arch"], one["seed"]): one["miou"] for one in mine}
        table = np.array([[values[arch, seed] for seed in SEEDS] for arch in NETWORKS[:n_networks]])
        seed_sd = float(np.sqrt(np.mean(np.var(table, axis=1, ddof=1))))
        arch_sd = float(np.std(table.mean(axis=1), ddof=1))
        seconds = float(np.mean([one["seconds"] for one in mine]))
        more: dict[str, Any] = {"arch_sd": arch_sd, "seed_sd": seed_sd, "cpu_seconds": seconds, "runs": mine}
        rows.append(
            row(name, table.ravel().tolist(), n_rows=len(table), dtype="float32", unit="% mIoU", **more)
        )
    return rows


def main() -> None:
    """Train what is missing, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", default="streetscenes:64x96?train=64&val=16", help="as segspace.train takes"
    )
    parser.add_argument(
        "--kept", type=Path, default=Path("build/recipes.jsonl"), help="trainings that are done"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two networks")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    asked = parser.parse_args()
    asked.kept.parent.mkdir(parents=True, exist_ok=True)
    lines = asked.kept.read_text(encoding="utf-8").splitlines() if asked.kept.exists() else []
    found = [json.loads(line) for line in lines]
    done = {(one["recipe"], one["arch"], one["seed"]) for one in found}
    n = 2 if asked.quick else len(NETWORKS)
    wanted = [(name, arch, seed) for name in RECIPES for arch in NETWORKS[:n] for seed in SEEDS]
    jobs = [(asked.data, *one) for one in wanted if one not in done]
    with ProcessPoolExecutor(asked.processes, get_context("spawn")) as pool, asked.kept.open("a") as file:
        for one in pool.map(train, jobs):
            file.write(json.dumps(one) + "\n")
            file.flush()
            found.append(one)
            print(f"{one['recipe']}: {one['arch']} seed {one['seed']}: mIoU {one['miou']:.2f}", flush=True)
    rows = rows_of(found, n)
    print_rows(rows, "arch_sd", "seed_sd", "cpu_seconds")
    write(asked.json, "recipes", rows)


if __name__ == "__main__":
    main()
