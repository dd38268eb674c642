"""Draw the pictures of docs/proxies.md and fill in its tables, from benchmarks/results and the kept runs.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``, and is replaced; a picture is drawn where
there are numbers for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import discovery, pages, transfer
from benchmarks.common import Row
from benchmarks.pages import table

mpl.use("Agg")

DOCS = Path(__file__).parent.parent / "docs"
COLOURS = {"formula": "#0b5394", "forest": "#38761d", "linear": "#b45f06", "handmade": "#999999"}
NAMES = {
    "formula": "formula found",
    "forest": "random forest",
    "linear": "ridge regression",
    "handmade": "best hand-made proxy on train",
}
GOALS = {50: 0.85, 100: 0.88, 400: 0.90}
"""Goals for unseen micro networks, Spearman."""
TASKS = ("segmentation", "objects", "scenes", "normals", "autoencoding")


# ---- hand-made proxies -------------------------------------------------------------------------------------


def handmade_table(rows: Sequence[Row], problem: str) -> str:
    """Return the proxies of one problem: rho, tau, top tenth on segmentation, and rho on the other tasks."""
    mine = [r for r in rows if r.get("problem") == problem and r.get("task") == "segmentation"]
    names = sorted({r["engine"] for r in mine}, key=lambda name: -_value(rows, problem, name, "Spearman"))
    others = [task for task in TASKS[1:] if any(r.get("task") == task for r in rows)]
    others = others if problem == "transnas101" else []
    head = [
        "proxy",
        "networks",
        "ρ",
        "τ",
        "best tenth",
        "undefined",
        *(f"ρ {task}" for task in others),
        "CPU s",
    ]
    body = []
    for name in names:
        about = {"problem": problem, "task": "segmentation", "engine": name}
        rho = pages.one(rows, unit="Spearman", **about)
        tau, top = pages.one(rows, unit="Kendall", **about), pages.one(rows, unit="top tenth", **about)
        cost = pages.one(rows, engine=name, unit="CPU s per network")
        line = [
            name,
            "–" if rho is None else str(rho["n_rows"]),
            _interval(rho),
            _interval(tau),
            _interval(top),
        ]
        line.append("–" if rho is None else str(rho["invalid"]))
        for task in others:
            other = pages.one(rows, problem=problem, task=task, engine=name, unit="Spearman")
            line.append("–" if other is None else f"{other['value']:.2f}")
        body.append([*line, "–" if cost is None else f"{cost['median']:.2f}"])
    return table(head, body)


def _value(rows: Sequence[Row], problem: str, name: str, unit: str) -> float:
    found = pages.one(rows, problem=problem, task="segmentation", engine=name, unit=unit)
    return -2.0 if found is None else float(found["value"])


def _interval(found: Row | None) -> str:
    return "–" if found is None else f"{found['value']:.3f} ({found['low']:.2f}–{found['high']:.2f})"


def published_table(rows: Sequence[Row]) -> str:
    """Return the agreement with the published scores of the same proxies."""
    mine = [r for r in rows if r.get("problem") == "nbsuitezero"]
    body = [
        [r["engine"], str(r["n_rows"]), f"{r['value']:.4f}"] for r in sorted(mine, key=lambda r: -r["value"])
    ]
    return table(["proxy", "networks", "Spearman with the published scores"], body)


def cost_table(rows: Sequence[Row]) -> str:
    """Return the CPU seconds of the classes of leaves."""
    mine = [
        r
        for r in rows
        if r["unit"] == "CPU s per network" and (" " in r["engine"] or r["engine"] in ("static", "forward"))
    ]
    body = [[r["engine"], f"{r['median']:.2f} ({r['p10']:.2f}–{r['p90']:.2f})"] for r in mine]
    return table(["leaves", "CPU seconds per network"], body)


def tasks_picture(rows: Sequence[Row]) -> None:
    """Draw rho of every proxy on segmentation beside the other tasks."""
    mine = [r for r in rows if r.get("problem") == "transnas101" and r["unit"] == "Spearman"]
    names = sorted(
        {r["engine"] for r in mine}, key=lambda name: _value(rows, "transnas101", name, "Spearman")
    )
    figure, axis = plt.subplots(figsize=(7.5, 0.28 * len(names) + 1.2))
    for task, marker in zip(TASKS, "os^dv", strict=True):
        found = [pages.one(mine, task=task, engine=name) for name in names]
        points = [(r["value"], i, r) for i, r in enumerate(found) if r is not None]
        if not points:
            continue
        main = task == "segmentation"
        colour = COLOURS["formula"] if main else None
        axis.plot(
            [p[0] for p in points],
            [p[1] for p in points],
            marker,
            label=task,
            color=colour,
            markersize=7 if main else 4,
            alpha=1.0 if main else 0.6,
        )
        if main:
            for _, i, r in points:
                axis.plot([r["low"], r["high"]], [i, i], color=colour, linewidth=1.2)
    axis.set_yticks(range(len(names)), names)
    axis.axvline(0, color="#bbbbbb", linewidth=0.8)
    axis.set_xlabel("Spearman with the result of training (bar: 95 % of resamples, segmentation)")
    axis.legend(frameon=False, loc="lower right", fontsize=8)
    _save(figure, "proxies_tasks")


# ---- discovered formulas -----------------------------------------------------------------------------------


def discovery_table(rows: Sequence[Row]) -> str:
    """Return rho and tau by labels and engine, mean over seeds and range."""
    body = []
    for r in sorted(rows, key=lambda r: (r["problem"], r["labels"], discovery.ENGINES.index(r["engine"]))):
        seen = f"{r['rows']['train']} + {r['rows']['validation']}"
        rho, tau = defined(r["spearman"]), defined(r["kendall"])
        line = [r["problem"], seen, NAMES[r["engine"]], f"{r['mean']:.3f} ({min(rho):.3f}–{max(rho):.3f})"]
        line += [f"{np.mean(tau):.3f}", f"{np.mean(defined(r['distinct'])):.3f}"]
        line += [f"{np.mean(r['regret']):.2f}", f"{np.mean(r['better']):.1%}"]
        undefined = len(r["seeds"]) - len(rho)
        seeds = f"{len(r['seeds'])} ({undefined} undefined)" if undefined else str(len(r["seeds"]))
        body.append([*line, seeds, f"{r['n_rows']}", ", ".join(map(str, r["invalid"]))])
    head = [
        "problem",
        "labels (train + choice)",
        "what",
        "ρ, mean (range)",
        "τ",
        "ρ, distinct networks",
        "regret",
        "better networks",
    ]
    return table([*head, "seeds", "test rows", "undefined"], body)


def defined(values: Sequence[float | None]) -> list[float]:
    """Return the values that are not None."""
    return [v for v in values if v is not None]


def _decimals(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def formulas_table(rows: Sequence[Row]) -> str:
    """Return the formulas that were found."""
    body = []
    for r in sorted((r for r in rows if r["engine"] == "formula"), key=lambda r: (r["problem"], r["labels"])):
        for i, seed in enumerate(r["seeds"]):
            validation, test, cpu = r["validation"][i], r["spearman"][i], r["cpu_seconds"][i]
            gap = None if validation is None or test is None else validation - test
            numbers = [_decimals(validation), _decimals(test), _decimals(gap, "+.3f")]
            numbers.append(_decimals(None if cpu is None else cpu / 60, ".1f"))
            text = r["formulas"][i].replace("|", "\\|")
            body.append(
                [r["problem"], str(r["labels"]), str(seed), f"`{text}`", str(r["sizes"][i]), *numbers]
            )
    head = ["problem", "labels", "seed", "formula", "size", "validation ρ", "test ρ", "gap", "CPU min"]
    return table(head, body)


def transfer_table(rows: Sequence[Row]) -> str:
    """Return what formulas do on problems that the search did not see, and on test rows of those it saw."""
    body = []
    for problem in dict.fromkeys(r["problem"] for r in rows):
        mine = [r for r in rows if r["problem"] == problem and defined(r["spearman"])]
        formulas = [r for r in mine if r["searched_on"]]
        best = max((r for r in mine if not r["searched_on"]), key=lambda r: r["mean"], default=None)
        for r in [*formulas, *([best] if best else [])]:
            rho = defined(r["spearman"])
            spread = f" ({min(rho):.3f} to {max(rho):.3f}, {len(rho)} runs)" if len(rho) > 1 else ""
            searched = ", ".join(r["searched_on"]) or "– (best of the hand-made, known afterwards)"
            rows_seen = "test rows" if r["unit"] == transfer.UNIT_TEST else "all"
            body.append(
                [problem, rows_seen, str(r["n_rows"]), r["engine"], searched, f"{r['mean']:.3f}{spread}"]
            )
    return table(["judged on", "networks", "n", "what", "searched on", "ρ"], body)


def choice_table(rows: Sequence[Row]) -> str:
    """Return what rules of choice reach on the networks apart."""
    body = [
        [
            str(r["labels"]),
            f"{r['objective']}, {r['max_size']} nodes, {r['evaluations']:,} formulas",
            r["engine"],
            f"{r['mean']:.3f} ({r['least']:.3f})",
            str(r["runs"]),
        ]
        for r in sorted(rows, key=lambda r: (r["labels"], r["objective"], r["max_size"], r["evaluations"]))
    ]
    return table(["labels", "search", "choice", "test ρ, mean (least)", "runs"], body)


def ablation_table(rows: Sequence[Row]) -> str:
    """Return what changes of leaves, other draws and joined scores bring, seed by seed."""
    body = [
        [
            str(r["labels"]),
            r["engine"],
            r["change"],
            f"{r['mean']:.3f} ({r['least']:.3f})",
            f"{r['gain']:+.3f} ± {r['gain_sd']:.3f}",
            str(r["runs"]),
        ]
        for r in sorted(rows, key=lambda r: (r["labels"], r["engine"] != "leaves"))
    ]
    return table(
        ["labels", "kind", "change", "test ρ, mean (least)", "gain on the same seeds (s.d.)", "runs"], body
    )


def labels_picture(rows: Sequence[Row], problem: str) -> None:
    """Draw rho against labels, with the baselines and the goals."""
    mine = [r for r in rows if r["problem"] == problem]
    figure, axis = plt.subplots(figsize=(5.5, 4))
    for engine in discovery.ENGINES:
        line = sorted((r for r in mine if r["engine"] == engine), key=lambda r: r["labels"])
        if not line:
            continue
        x, y = [r["labels"] for r in line], [r["mean"] for r in line]
        error = [
            [max(0.0, m - min(defined(r["spearman"]))) for m, r in zip(y, line, strict=True)],  # rounding
            [max(0.0, max(defined(r["spearman"])) - m) for m, r in zip(y, line, strict=True)],
        ]
        axis.errorbar(x, y, error, label=NAMES[engine], color=COLOURS[engine], marker="o", capsize=3)
    if problem == "transnas101":
        axis.plot(list(GOALS), list(GOALS.values()), "_", color="#cc0000", markersize=16, label="goal")
    axis.set_xscale("log")
    axis.set_xticks(
        sorted({r["labels"] for r in mine}), [str(n) for n in sorted({r["labels"] for r in mine})]
    )
    axis.minorticks_off()
    axis.set_xlabel("labels: networks whose mIoU is known")
    axis.set_ylabel("Spearman on test rows (mean and range over seeds)")
    axis.legend(frameon=False, fontsize=8)
    _save(figure, f"discovery_labels_{problem}")


def front_picture(runs: Sequence[Mapping[str, Any]], problem: str) -> None:
    """Draw rho of the fronts against the size of formulas, for train, validation and test."""
    labels = sorted({run["labels"] for run in runs})
    figure, axes = plt.subplots(1, len(labels), figsize=(3.6 * len(labels), 3.4), sharey=True, squeeze=False)
    for axis, n in zip(axes[0], labels, strict=True):
        for part, colour in (("train", "#bbbbbb"), ("validation", "#b45f06"), ("test", "#0b5394")):
            for i, run in enumerate([run for run in runs if run["labels"] == n]):
                points = [(one["size"], one[part]["spearman"]) for one in run["front"]]
                points = [p for p in points if p[1] is not None]
                axis.plot(
                    [p[0] for p in points],
                    [p[1] for p in points],
                    color=colour,
                    marker=".",
                    linewidth=1,
                    label=part if i == 0 else None,
                )
        axis.set_title(f"{n} labels", fontsize=10)
        axis.set_xlabel("nodes of the formula")
    axes[0][0].set_ylabel("Spearman")
    axes[0][0].legend(frameon=False, fontsize=8)
    _save(figure, f"discovery_front_{problem}")


def scatter_picture(runs: Sequence[Mapping[str, Any]], problem: str) -> None:
    """Draw score against result on the test rows, for the first seed of every number of labels."""
    labels = sorted({run["labels"] for run in runs})
    figure, axes = plt.subplots(1, len(labels), figsize=(3.6 * len(labels), 3.4), sharey=True, squeeze=False)
    for axis, n in zip(axes[0], labels, strict=True):
        run = min((run for run in runs if run["labels"] == n), key=lambda run: run["seed"])
        target = np.array(run["scatter"]["target"])
        scores = np.array([np.nan if v is None else v for v in run["scatter"]["formula"]])
        ok = np.isfinite(scores)
        order = np.argsort(np.argsort(scores[ok])) / max(1, ok.sum() - 1)
        axis.plot(order, target[ok], ".", color=COLOURS["formula"], markersize=4, alpha=0.6)
        rho = run["test"]["formula"]["spearman"]
        axis.set_title(f"{n} labels, seed {run['seed']}: ρ {_decimals(rho)}", fontsize=9)
        axis.set_xlabel("rank of the score (0 worst, 1 best)")
    axes[0][0].set_ylabel("mIoU after training, %")
    _save(figure, f"discovery_scatter_{problem}")


def uses_picture(runs: Sequence[Mapping[str, Any]], problem: str) -> None:
    """Draw which leaves, axes and operators the good formulas use."""
    dags = list(discovery.used(runs))
    counts = {
        "leaves": Counter(name for dag in dags for name in dag.leaves),
        "axes of leaves": Counter(
            axis for dag in dags for axis in {leaf.axis for leaf in dag.leaves.values()}
        ),
        "operators": Counter(
            name for dag in dags for name in {node.name for node in dag.nodes if node.kind == "op"}
        ),
    }
    most = max(1, *(min(15, len(count)) for count in counts.values()))
    figure, axes = plt.subplots(1, 3, figsize=(9, 0.22 * most + 1.2))
    for axis, (what, count) in zip(axes, counts.items(), strict=True):
        common = count.most_common(15)[::-1]
        axis.barh([name for name, _ in common], [n / max(1, len(dags)) for _, n in common], color="#6fa8dc")
        axis.set_title(f"{what} ({len(dags)} formulas)", fontsize=9)
        axis.set_xlabel("share of formulas", fontsize=8)
        axis.tick_params(labelsize=8)
    _save(figure, f"discovery_uses_{problem}")


def _save(figure: Any, name: str) -> None:
    figure.tight_layout()
    (DOCS / "images").mkdir(exist_ok=True)
    figure.savefig(DOCS / "images" / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


# ---- the command -------------------------------------------------------------------------------------------


def main(work: Path = Path("runs/proxies"), variant: str = "default") -> None:
    """Draw what there are numbers for, and fill in the tables of the page."""
    plt.rcParams.update(
        {"svg.hashsalt": "proxygraph", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    rows, runs = pages.rows_of("handmade"), discovery.runs_of(work / variant)
    if variant == "default":
        found = pages.rows_of("discover")
    else:  # of a variant there is no published result
        found = discovery.rows_of(discovery.newest(runs))
    runs = discovery.of_rows(runs, found)
    tables = {}
    if rows:
        tasks_picture(rows)
        tables |= {
            f"handmade {problem}": handmade_table(rows, problem)
            for problem in ("transnas101", "streetscenes", "camvid")
            if any(r.get("problem") == problem for r in rows)
        }
        tables |= {"published": published_table(rows), "cost": cost_table(rows)}
    if moved := pages.rows_of("transfer"):
        tables["transfer"] = transfer_table(moved)
    if rules := pages.rows_of("choice"):
        tables["choice"] = choice_table(rules)
    if changes := pages.rows_of("ablation"):
        tables["ablation"] = ablation_table(changes)
    if found:
        tables |= {"discovery": discovery_table(found), "formulas": formulas_table(found)}
        for problem in sorted({r["problem"] for r in found}):
            labels_picture(found, problem)
    for problem in sorted({run["problem"] for run in runs}):
        mine = [run for run in runs if run["problem"] == problem]
        front_picture(mine, problem)
        scatter_picture(mine, problem)
        uses_picture(mine, problem)
    page = DOCS / "proxies.md"
    makers = {name: partial(str, text) for name, text in tables.items()}
    page.write_text(pages.filled(page.read_text(encoding="utf-8"), makers), encoding="utf-8")
