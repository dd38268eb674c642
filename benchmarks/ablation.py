"""What holds formulas from few labels back, one change at a time: leaves, noise of the statistics, joining.

    python benchmarks/ablation.py PROBLEM [--draws PROBLEM...] [--labels 50 100] [--seeds 0 1 2] [--json FILE]

PROBLEM is a saved problem apart from those that results are reported on (``benchmarks/proxies.py apart``);
every change is a set of runs of its protocol (``proxies.py discover --variant``), kept in --work. Judged on
test rows of these networks. Draws are the same networks with other initial weights and other pictures
(``proxies.py apart --draw 1``): formulas of the unchanged runs, their ranks averaged. Joined are the ranks
that several formulas, or a formula and the random forest, give to the test rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.common import Row, print_rows, row, write

# isort: split
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks import discovery
from benchmarks.choice import Hall, rho
from proxygraph.command import console, reporting
from proxygraph.dag import Dag
from proxygraph.finish import exact_values
from proxygraph.leaves import Leaf
from proxygraph.problem import Problem, Report

Floats = NDArray[np.float64]
EVALUATIONS = 60_000
BASE = "nothing changed"
GRADIENTS = ("g", "gs", "gv", "g_mean", "g_std", "da", "fisher", "live")
SHAPES = ("numel", "fan_in", "c_in", "c_out", "kernel", "stride", "hw", "macs", "depth", "backbone", "params")
SHAPES += ("macs_total", "n_layers")
SCORES = ("jacov", "nwot_total", "zen", "swap", "expressivity", "progressivity", "trainability")
UNIT = "Spearman, test rows"


def without(*names: str, axes: Sequence[str] = ()) -> Mapping[str, Sequence[str]]:
    """Return a change of leaves: some names and some axes are not there."""
    return {"names": names, "axes": axes}


CHANGES = {
    BASE: without(),
    "without receptive": without("receptive"),
    "without published scores": without(*SCORES),
    "without shapes": without(*SHAPES),
    "no leaf that needs a gradient": without(*GRADIENTS, "receptive", "trainability", "jacov"),
    "without element and activation leaves": without(axes=("element", "activation")),
    "element and activation leaves alone": without(axes=("layer", "row")),
}
"""Leaves of each set of runs."""


def kept(leaves: Mapping[str, Leaf], change: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the leaves that a change leaves."""
    return [
        name
        for name, leaf in leaves.items()
        if name not in change["names"] and leaf.axis not in change["axes"]
    ]


def folder_of(name: str) -> str:
    """Return the name of the variant of a change."""
    return name.replace(" ", "-")


def runs_of(problem: Problem, options: argparse.Namespace, report: Report) -> dict[str, list[Row]]:
    """Run what is missing of every change, and return its runs."""
    found = {}
    for name, change in CHANGES.items():
        leaves = kept(problem.table.leaves, change)
        extra = "" if name == BASE else f"--leaves {','.join(leaves)}"
        about = {"variant": folder_of(name), "options": extra, "quick": False}
        asked = argparse.Namespace(**{**vars(options), **about})
        rows = discovery.rows(asked, report)
        found[name] = [one for one in rows if one["engine"] == "formula"]
    return found


def joined(scores: Iterable[Floats], target: Floats) -> float:
    """Return Spearman of the mean of the ranks that scores give; what is undefined ranks last."""
    ranks = [rankdata(np.where(np.isfinite(one), one, -np.inf)) for one in scores]
    return rho(np.mean(ranks, axis=0), target)


def joined_rhos(folder: Path, problem: Problem, draws: Sequence[Problem], seed: int) -> dict[str, float]:
    """Return what a finished run reaches on test rows if its scores are averaged with others."""
    run, one = discovery.read(folder / "result.json"), Hall.read(folder, problem)
    test, formula = one.split.test, Dag.from_json(run["best"]["graph"])
    target = problem.target[test]
    score = exact_values(formula, problem.table, test)
    best = np.argsort(
        [-np.nan_to_num(rho(v[one.seen], problem.target[one.seen]), nan=-1.0) for v in one.values]
    )
    forest = discovery.learnt(problem, one.split, seed)["forest"]
    found = {
        f"the {n} best formulas on the rows seen": joined(one.values[best[:n]][:, test], target)
        for n in (3, 5)
    }
    found["formula and forest"] = joined([score, forest], target)
    if draws:
        again = [exact_values(formula, other.table, test) for other in draws]
        found["another draw of weights and pictures"] = float(np.mean([joined([s], target) for s in again]))
        found[f"mean of {1 + len(draws)} draws"] = joined([score, *again], target)
    return found


def change_row(
    name: str, kind: str, labels: int, values: Sequence[float], base: Sequence[float], n: int
) -> Row:
    """Return a row of the result: what a change reaches, and what it gains on the same seeds."""
    apart = np.asarray(values) - np.asarray(base)
    about = {"change": name, "labels": labels, "mean": float(np.mean(values)), "least": float(min(values))}
    about |= {"gain": float(apart.mean()), "gain_sd": float(apart.std(ddof=1)) if len(apart) > 1 else 0.0}
    return row(kind, values, n_rows=n, dtype="float64", unit=UNIT, runs=len(values), **about)


def rows_of(
    problem: Problem, draws: Sequence[Problem], options: argparse.Namespace, report: Report
) -> list[Row]:
    """Return a row per change and number of labels."""
    runs, rows = runs_of(problem, options, report), list[Row]()
    for labels in options.labels:
        base = next(one["spearman"] for one in runs[BASE] if one["labels"] == labels)
        n = problem.table.n_rows - labels
        for name, found in runs.items():
            values = next(one["spearman"] for one in found if one["labels"] == labels)
            rows.append(change_row(name, "leaves", labels, values, base, n))
        ends = [f"{labels}-{seed}-{options.evaluations}" for seed in options.seeds]
        folders = [
            options.work / folder_of(BASE) / f"{problem.name}-{problem.digest[:8]}-{end}" for end in ends
        ]
        each = [
            joined_rhos(run, problem, draws, seed) for run, seed in zip(folders, options.seeds, strict=True)
        ]
        rows += [change_row(name, "joined", labels, [one[name] for one in each], base, n) for name in each[0]]
    return rows


def main() -> None:
    """Run, compare, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help="saved problem")
    parser.add_argument("--draws", nargs="*", type=Path, default=[], help="the same problem drawn anew")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 100], help="(50 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of every search (60000)")
    parser.add_argument("--threads", type=int, default=1, help="of every search (1)")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="where runs are kept")
    parser.add_argument("--quick", action="store_true", help="one seed, short runs, no result file")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    if options.quick:
        options.labels, options.seeds, options.evaluations, options.json = [50], [0], 3_000, None
        options.work /= "quick"
    with reporting(console()) as report:
        problem, draws = Problem.load(Path(options.source)), [Problem.load(path) for path in options.draws]
        rows = rows_of(problem, draws, options, report)
    print_rows(rows, "labels", "change", "mean", "least", "gain", "gain_sd")
    write(options.json, "ablation", rows)


if __name__ == "__main__":
    main()
