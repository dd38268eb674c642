"""Draw the picture of the README and of docs/start.md: the front of a run beside the hand-made proxies.

    python -m proxygraph.evolve --out runs/first
    python benchmarks/first.py --run runs/first --json benchmarks/results/first.json
    python benchmarks/first.py                  # the picture alone, from the file

The file keeps what the picture shows of ``result.json``. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.pages import DOCS

RESULTS = Path(__file__).parent / "results" / "first.json"
OURS, THEIRS = "#0b5394", "#cc4125"


def rows_of_run(run: Path) -> dict[str, Any]:
    """Return what the picture needs of a run, in the form of a benchmark's result."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    rows = [
        {
            "engine": "front" if name is None else name,
            "best": name is None and one["key"] == result["best"]["key"],
            "size": one["size"],
            "formula": one["infix"],
            **{part: one[part]["spearman"] for part in ("train", "validation", "test")},
            "n_rows": one["test"]["n"],
        }
        for name, one in [
            *((None, one) for one in result["front"]),
            *((one["name"], one) for one in result["baselines"]),
        ]
    ]
    about = {"problem": result["problem"], "seed": result["seed"], "search": result["search"]}
    return {"name": "first", "environment": result["environment"], **about, "rows": rows}


def picture(found: dict[str, Any], path: Path) -> None:
    """Draw Spearman on the test rows against the size of the formula."""
    front = sorted((row for row in found["rows"] if row["engine"] == "front"), key=lambda row: row["size"])
    others = [row for row in found["rows"] if row["engine"] != "front" and row["test"] is not None]
    figure, axes = plt.subplots(figsize=(7.6, 3.9), layout="constrained")
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.plot([r["size"] for r in front], [r["test"] for r in front], "o-", color=OURS, label="found here")
    best = next(row for row in front if row["best"])
    axes.plot(best["size"], best["test"], "o", markersize=13, markerfacecolor="none", color=OURS)
    axes.annotate(
        f"chosen: {best['formula']}",
        (best["size"], best["test"]),
        xytext=(10.0, best["test"] - 0.4),
        ha="center",
        arrowprops={"arrowstyle": "-", "color": OURS},
        color=OURS,
    )
    axes.plot(
        [r["size"] for r in others],
        [r["test"] for r in others],
        "x",
        color=THEIRS,
        label="hand-made, signs as published",
    )
    for row in others:
        if row["engine"] in ("snip", "synflow", "jacov", "zico", "progressivity", "fisher", "swap", "plain"):
            axes.annotate(
                row["engine"], (row["size"] + 0.15, row["test"]), color=THEIRS, fontsize=8, va="center"
            )
    axes.set(
        xlabel="size of the formula, nodes",
        ylabel=f"Spearman with mIoU, {best['n_rows']} unseen networks",
        xlim=(0, max(row["size"] for row in front) + 1),
        ylim=(-1, 1),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, help="take the result of this run, instead of the file's")
    parser.add_argument("--json", type=Path, help="write it to this file")
    given = parser.parse_args()
    found = rows_of_run(given.run) if given.run else json.loads(RESULTS.read_text(encoding="utf-8"))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    mpl.rcParams.update({"svg.hashsalt": "proxygraph", "font.size": 9})
    picture(found, DOCS / "images" / "first.svg")


if __name__ == "__main__":
    main()
