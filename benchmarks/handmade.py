"""How the hand-made proxies rank networks on several tasks, how sure that is, and what each of them costs."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Row, row

# isort: split
import numpy as np
import torch
from numpy.typing import NDArray

from proxygraph.finish import exact_values
from proxygraph.leaves import STATISTICS
from proxygraph.problem import Report
from proxygraph.rank import kendall, spearman
from proxygraph.stats import collect
from proxygraph.stats.request import wanted_leaves
from proxygraph.table import StatTable
from proxygraph.zoo import ZOO, available
from segspace import problems, streetscenes
from segspace.transnas101 import Arch, build

Floats = NDArray[np.float64]

TASKS = {
    "segmentation": "seg_valid_miou",
    "objects": "class_object_valid_top1",
    "scenes": "class_scene_valid_top1",
    "normals": "normal_valid_ssim",
    "autoencoding": "autoencoder_valid_ssim",
}
"""The tasks of TransNAS-Bench-101 and the columns of their results; higher is better in all of them."""
AZ_NAS = ("expressivity", "progressivity", "trainability", "macs")
RESAMPLES = 1000
INTERVAL = (0.025, 0.975)
TOP_SHARE = 0.1
DEAR = ("hg", "ntk_cond")
"""The leaves that are collected only when asked for."""
SAME_AS_PUBLISHED = {"macs": "flops"} | {
    name: name
    for name in [
        "fisher",
        "grad_norm",
        "grasp",
        "jacov",
        "l2_norm",
        "nwot",
        "params",
        "plain",
        "snip",
        "zen",
        "synflow",
    ]
}
"""Our names of the proxies of NAS-Bench-Suite-Zero, and theirs."""


@dataclass(frozen=True)
class Measure:
    """One way to say how well scores agree with results."""

    name: str
    value: float
    resampled: Floats


# ---- scores ------------------------------------------------------------------------------------------------


def scores_of(table: StatTable) -> dict[str, Floats]:
    """Return the values (N,) of every proxy that the table's leaves allow, not finite where undefined."""
    every = np.arange(table.n_rows)
    scores = {proxy.name: exact_values(proxy.dag, table, every) for proxy in available(table.leaves)}
    if set(AZ_NAS) <= set(scores):
        scores["az_nas"] = added_ranks([scores[name] for name in AZ_NAS])
    return scores


def added_ranks(parts: Sequence[Floats]) -> Floats:
    """Return the sum of log(rank / N) over several scores, NaN where one is not finite.

    Lee and Ham (2024, AZ-NAS), eq. 8: the best network has rank N in a score, equal ones share a rank.
    """
    ok = np.isfinite(parts).all(axis=0)
    total = np.where(ok, 0.0, np.nan)
    for part in parts:
        values = part[ok]
        ranks = (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) + 1) / 2
        total[ok] += np.log(ranks / max(1, len(values)))
    return total


# ---- agreement ---------------------------------------------------------------------------------------------


def in_top(values: Floats, k: int) -> Floats:
    """Return with which probability (N,) each row is among the k largest, ties broken by chance.

    Rows that are not finite come last.
    """
    values = np.where(np.isfinite(values), values, -np.inf)
    least = np.sort(values)[-k]
    above, tied = values > least, values == least
    return above + tied * (k - above.sum()) / tied.sum()


def top_overlap(scores: Floats, target: Floats) -> float:
    """Return the share of the best tenth of the networks that the scores' best tenth holds."""
    k = max(1, round(TOP_SHARE * len(target)))
    return float((in_top(scores, k) * in_top(target, k)).sum() / k)


def last(scores: Floats) -> Floats:
    """Return scores in which whatever is not finite ranks below everything else."""
    ok = np.isfinite(scores)
    return np.where(ok, scores, np.nextafter(np.min(scores, where=ok, initial=0.0), -np.inf))


def measures(scores: Floats, target: Floats, draws: NDArray[np.int64]) -> list[Measure]:
    """Return Spearman's and Kendall's correlation and the overlap of the best, on all rows and on resamples.

    Parameters
    ----------
    scores : ndarray, shape (N,)
        The correlations are over the rows on which it is finite; then once more with the others last.
    target : ndarray, shape (N,)
    draws : ndarray, shape (resamples, N)
        Row numbers, drawn with replacement.
    """
    ok = np.isfinite(scores)

    def judged(name: str, x: Floats, used: NDArray[np.bool_]) -> Measure:
        function = kendall if name == "Kendall" else spearman

        def one(rows: NDArray[np.int64]) -> float:
            rows = rows[used[rows]]
            if len(rows) < 2:
                return np.nan
            return float(function(x[rows][None], target[rows])[0])

        return Measure(name, one(np.arange(len(x))), np.array([one(rows) for rows in draws]))

    found = [judged("Spearman", scores, ok), judged("Kendall", scores, ok)]
    if not ok.all():
        found.append(judged("Spearman, undefined last", last(scores), np.ones_like(ok)))
    again = np.array([top_overlap(scores[rows], target[rows]) for rows in draws])
    return [*found, Measure("top tenth", top_overlap(scores, target), again)]


def agreement_rows(
    problem: str, task: str, scores: Mapping[str, Floats], target: Floats, resamples: int
) -> list[Row]:
    """Return the rows of all proxies on one task; a proxy that orders nothing has none."""
    n = len(target)
    draws = np.random.default_rng(12).integers(0, n, size=(resamples, n))
    rows = []
    for name, values in scores.items():
        for one in measures(values, target, draws):
            finite = one.resampled[np.isfinite(one.resampled)]
            if not np.isfinite(one.value) or not len(finite):
                continue
            low, high = np.quantile(finite, INTERVAL)
            about = {"problem": problem, "task": task, "value": one.value, "low": float(low)}
            about |= {"high": float(high), "invalid": int(n - np.isfinite(values).sum())}
            rows.append(row(name, finite, n_rows=n, dtype="float64", unit=one.name, **about))
    return rows


def published_rows(path: Path, table: StatTable, scores: Mapping[str, Floats]) -> list[Row]:
    """Return how our proxies agree with the published ones of NAS-Bench-Suite-Zero (Spearman).

    Parameters
    ----------
    path : Path
        Their scores, columns ``arch`` and their names.
    table : StatTable
        Rows are archs.
    scores : mapping of str to ndarray, shape (N,)
    """
    with path.open(encoding="utf-8", newline="") as file:
        theirs = {line["arch"]: line for line in csv.DictReader(file)}
    common = np.array([arch in theirs for arch in table.rows])
    rows = []
    for name, other in SAME_AS_PUBLISHED.items():
        if name not in scores:
            continue
        x = scores[name][common]
        y = np.array([float(theirs[arch][other]) for arch in table.rows if arch in theirs])
        ok = np.isfinite(x) & np.isfinite(y)
        if ok.sum() < 3:
            continue
        rho = float(spearman(x[ok][None], y[ok])[0])
        if np.isfinite(rho):
            about = {"problem": "nbsuitezero", "task": "scenes", "value": rho}
            rows.append(
                row(name, [rho], n_rows=int(ok.sum()), dtype="float64", unit="Spearman with theirs", **about)
            )
    return rows


# ---- cost --------------------------------------------------------------------------------------------------


def cost_rows(n_networks: int) -> list[Row]:
    """Return the CPU seconds per published micro network of each class of leaves, and of each proxy alone."""
    how = problems.Measurement()
    batches = []
    for i, images in enumerate((how.images, how.images // 2)):
        inputs, labels = streetscenes.batch(1000 + i, images, how.size, how.size)
        batches.append((torch.from_numpy(inputs), torch.from_numpy(labels)))
    default = wanted_leaves(None, len(batches))
    classes = {
        cost: {name for name in default if STATISTICS[name].cost in costs}
        for cost, costs in (
            ("static", ("static",)),
            ("forward", ("static", "forward")),
            ("backward (default)", ("static", "forward", "backward")),
        )
    }
    wanted = classes | {f"leaf {name}": {name} for name in DEAR}
    wanted |= {proxy.name: set(proxy.dag.leaves) for proxy in ZOO.values()}
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    archs = [Arch(tuple(np.random.default_rng([7, i]).integers(0, 4, 6).tolist())) for i in range(n_networks)]
    for turn, arch in enumerate([archs[0], *archs]):  # the first pays for what torch loads lazily
        network = build(arch, classes=len(streetscenes.CLASSES))
        for name, leaves in wanted.items():
            start = time.process_time()
            collect(network, batches, torch.nn.functional.cross_entropy, leaves=leaves, samples=how.samples)
            if turn:
                seconds[name].append(time.process_time() - start)
    return [
        row(name, taken, n_rows=n_networks, dtype="float32", unit="CPU s per network", problem="transnas101")
        for name, taken in seconds.items()
    ]


# ---- data --------------------------------------------------------------------------------------------------


def results_of(path: Path, archs: Sequence[str]) -> dict[str, Floats]:
    """Return the published results (N,) of some networks, by task."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = {line["arch"]: line for line in csv.DictReader(file)}
    return {
        task: np.array([float(lines[arch][column]) for arch in archs])
        for task, column in TASKS.items()
        if column in next(iter(lines.values()))
    }


def dear_scores(archs: Sequence[str], report: Report) -> dict[str, Floats]:
    """Return the scores of the proxies that need leaves of the second cost class."""
    how = problems.Measurement(leaves=("w", *DEAR))
    table = problems.statistics([Arch.parse(arch) for arch in archs], how, report)
    return {name: values for name, values in scores_of(table).items() if name in ("grasp", "te_ntk")}
