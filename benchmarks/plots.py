"""Draw the pictures of docs/performance.md and docs/regression.md; fill in tables, of docs/scale.md too.

    python benchmarks/plots.py

From the files in benchmarks/results; ``benchmarks/pages.py`` says how a page names its tables. Needs
matplotlib.
"""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks import performance_plots, regression_plots
from benchmarks.pages import DOCS, filled, rows_of


def main() -> None:
    """Draw, fill in."""
    mpl.use("svg")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams["svg.hashsalt"] = "proxygraph"  # the same numbers give the same file
    (DOCS / "images").mkdir(exist_ok=True)
    performance_plots.growth_picture()
    performance_plots.stages_picture()
    if rows_of("regression"):
        regression_plots.regression_picture()
    tables = {**performance_plots.TABLES, **regression_plots.TABLES}
    for page in (DOCS / name for name in ("performance.md", "regression.md", "scale.md")):
        page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
