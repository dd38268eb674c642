"""How far does sampling move the hand-made proxies?

    python benchmarks/sampling.py [--quick] [--json FILE]

Collects the statistics of random micro networks on full tensors and with K samples per layer (several seeds),
and reports for every proxy of the zoo the relative error and how well the sampled scores rank the networks by
the full ones. The numbers are errors, not times.
"""

from __future__ import annotations

import argparse
import json
import platform

import numpy as np
import torch

from proxygraph.finish import exact_values
from proxygraph.rank import spearman
from proxygraph.run import environment
from proxygraph.stats import collect
from proxygraph.table import StatTable
from proxygraph.zoo import available
from segspace import streetscenes
from segspace.transnas101 import all_archs, build


def tables(
    n_networks: int, samples: list[int | None], seeds: int, width: int
) -> dict[tuple[int | None, int], StatTable]:
    """Return one table per (K, seed) of the same networks."""
    rng = np.random.default_rng(7)
    archs = [arch for arch in all_archs() if arch.connected]
    chosen = [archs[i] for i in rng.choice(len(archs), n_networks, replace=False)]
    batches = []
    for i in range(2):
        images, labels = streetscenes.batch(i, 4, 64, 64)
        batches.append((torch.from_numpy(images), torch.from_numpy(labels)))
    out = {}
    for k in samples:
        for seed in range(seeds if k else 1):
            rows = [
                collect(
                    build(arch, classes=len(streetscenes.CLASSES), width=width),
                    batches,
                    torch.nn.functional.cross_entropy,
                    row=str(arch),
                    samples=k,
                    seed=seed,
                )
                for arch in chosen
            ]
            out[k, seed] = StatTable.concat(rows)
    return out


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 networks, one K")
    parser.add_argument("--json", help="file for the result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    n, ks, seeds = (4, [512], 2) if args.quick else (20, [128, 512, 2048], 3)
    found = tables(n, [None, *ks], seeds, width=16)
    full = found[None, 0]
    index = np.arange(full.n_rows)
    rows = []
    print(f"{'proxy':10} {'K':>5} {'median error':>13} {'p90':>9} {'rank agreement':>15}")
    for proxy in available(full.columns):
        exact = exact_values(proxy.dag, full, index)
        for k in ks:
            sampled = np.stack([exact_values(proxy.dag, found[k, seed], index) for seed in range(seeds)])
            with np.errstate(all="ignore"):
                error = np.abs(sampled - exact) / np.abs(exact)
            error = error[np.isfinite(error)]
            rho = float(np.mean(spearman(sampled, exact)))
            row = {
                "engine": proxy.name,
                "n_rows": n,
                "dtype": "float32",
                "threads": 1,
                "k": k,
                "median": float(np.median(error)),
                "p10": float(np.quantile(error, 0.1)),
                "p90": float(np.quantile(error, 0.9)),
                "unit": "relative error",
                "rank_agreement": None if np.isnan(rho) else rho,
            }
            rows.append(row)
            print(f"{proxy.name:10} {k:5d} {row['median']:13.2%} {row['p90']:9.2%} {rho:15.3f}")
    if args.json:
        result = {
            "name": "sampling",
            "environment": {**environment(1), "machine": platform.machine()},
            "rows": rows,
        }
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
