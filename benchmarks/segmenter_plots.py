"""Draw the pictures and fill in the tables of the pages on segmenters.

    python benchmarks/segmenter_plots.py [--work runs/segmenters --data camvid:DIR --archs ARCH...]

From the files in benchmarks/results, in the manner of ``benchmarks/plots.py``; a table or picture of a result
that is not there stays as it is. With --work also what the named networks predict: from the runs, since the
result file has no pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks import search_plots, winner_plots
from benchmarks.pages import DOCS, filled, number, rows_of, table

PAGES = ("latency.md", "rtseg.md", "segmenter-search.md", "segmenter.md")


def latency_table() -> str:
    """Return the errors of the predictions, three statistics per runtime."""
    head = ["runtime", "statistic", "MAPE %", "worst %", "τ_b", "Spearman", "MAPE % of the sum alone"]
    body = [
        [
            f"{one['engine']} {one['version']}",
            one["statistic"],
            *(f"{one[key]:.1f}" for key in ("mape", "worst")),
            f"{one['tau_b']:.2f}",
            f"{one['spearman']:.3f}",
            f"{one['sum_mape']:.1f}",
            f"{one['slope']:.2f} × sum {one['offset_ms']:+.3f}",
        ]
        for one in rows_of("latency")
    ]
    return table([*head, "calibration, ms"], body)


def conditions_table() -> str:
    """Return how quiet the machine was when the latencies were measured."""
    head = ["runtime", "networks, ms", "spread %", "cores used by others at the start", "pace"]
    body = [
        [
            one["engine"],
            f"{min(one['measured_ms']):.2f}–{max(one['measured_ms']):.2f}",
            f"{100 * one['spread']:.0f}",
            f"{one['others']:.2f}",
            f"{one['pace']:.2f}",
        ]
        for one in rows_of("latency")
        if one["statistic"] == "p10"
    ]
    return table(head, body)


def scoring_table() -> str:
    """Return what the score of one segmenter costs."""
    head = ["preset", "images", "CPU s of", "median", "p90", "dearest network"]
    body = [
        [
            one["preset"],
            "×".join(map(str, one["size"])),
            one["engine"],
            *(number(one[key], 2) for key in ("median", "p90", "worst")),
        ]
        for one in rows_of("scoring")
    ]
    return table(head, body)


TABLES: Mapping[str, Callable[[], str]] = {
    "latency": latency_table,
    "latency conditions": conditions_table,
    "scoring": scoring_table,
    "budget": winner_plots.budget_table,
}


def latency_picture() -> None:
    """Draw predicted over measured latency of unseen networks, one panel per runtime."""
    rows = [one for one in rows_of("latency") if one["statistic"] == "p10"]
    figure, panels = plt.subplots(1, len(rows), figsize=(3.2 * len(rows), 3.2), squeeze=False)
    for axis, one in zip(panels[0], rows, strict=True):
        x, y = one["measured_ms"], one["predicted_ms"]
        ends = [0.95 * min(*x, *y), 1.05 * max(*x, *y)]
        axis.plot(ends, ends, color="#999999", lw=1)
        axis.scatter(x, y, s=12, color="#0b5394")
        axis.set(xlim=ends, ylim=ends, xlabel="measured, ms", aspect="equal")
        axis.set_title(f"{one['engine']}: MAPE {one['mape']:.1f} %, τ {one['tau_b']:.2f}", fontsize=9)
    panels[0][0].set_ylabel("predicted, ms")
    figure.tight_layout()
    figure.savefig(DOCS / "images" / "latency.svg", metadata={"Date": None})
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, fill in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, help="folder of benchmarks/segmenters.py")
    parser.add_argument("--data", help="its data set")
    parser.add_argument("--archs", nargs="+", help="networks whose predictions are drawn")
    options = parser.parse_args(arguments)
    mpl.use("svg")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams["svg.hashsalt"] = "proxygraph"  # the same numbers give the same file
    latency_picture()
    search_plots.pictures()
    winner_plots.draw_archs()
    if options.work:
        winner_plots.draw_predictions(options.work, options.archs, options.data)
    tables = {**TABLES, **search_plots.tables()}
    for page in (DOCS / name for name in PAGES if (DOCS / name).is_file()):
        page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
