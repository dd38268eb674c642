"""How a run came about: its journal, what became of the formulas, settings and environment."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxygraph.report.plots import line_plot
from proxygraph.report.runs import TIERS, Run
from proxygraph.report.svg import number

MOST_POINTS: Final = 150
"""Points of a line over generations."""
MOST_ROWS: Final = 40
"""Rows of the table of the journal."""
_Row = Mapping[str, Any]


def counts_sentence(search: Mapping[str, Any]) -> str:
    """Say what became of the formulas that were proposed."""
    proposed = max(1, int(search["proposed"]))
    caught = [
        f"{n:,} by the {tier} tier ({100 * n / proposed:.1f} %)"
        for tier in TIERS
        if (n := int(search["duplicates"][tier]))
    ]
    begin = f"{proposed:,} formulas were proposed in {search['generations']:,} generations"
    end = f"{int(search['invalid']):,} were not finite on the training rows."
    if not caught:
        return f"{begin}; none was a duplicate, {end}"
    *first, last = caught
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{begin}. Duplicates caught: {listed}. Another {end}"


def _thinned(rows: Sequence[_Row], most: int) -> list[_Row]:
    """Return about `most` rows, evenly spaced, the last one among them."""
    return [*rows[: -1 : math.ceil(len(rows) / most)], rows[-1]]


def progress(run: Run) -> dict[str, Any] | None:
    """Return the plots and the table of the journal; None if the run has none."""
    if not run.journal:
        return None
    lines = _thinned(run.journal, MOST_POINTS)
    best = line_plot(
        [row["seconds"] for row in lines],
        {"best": [row["best"] for row in lines]},
        x_label="seconds",
        y_label="best fitness on training rows",
        name="Best fitness on the training rows over time; the numbers are in the table below",
        steps=True,
    )
    counted = ["proposed", *(name for name in (*TIERS, "invalid") if lines[-1][name] > 0)]
    caught = line_plot(
        [row["generation"] for row in lines],
        {name: [row[name] for row in lines] for name in counted},
        x_label="generation",
        y_label="formulas, summed up",
        name="Formulas proposed, duplicates caught by each tier, and invalid ones over the generations; "
        "the numbers are in the table below",
        from_zero=True,
        whole=True,
    )
    table = [
        [
            f"{row['generation']:,.0f}",
            f"{row['seconds']:,.1f}",
            number(row["best"], 4),
            *(f"{row[name]:,.0f}" for name in counted),
        ]
        for row in _thinned(lines, MOST_ROWS)
    ]
    return {
        "plots": [
            (best, "What the search saw: a fitness between 0 and 1 on the training rows."),
            (caught, "Formulas proposed, and duplicates among them by the tier that knew them."),
        ],
        "names": ["generation", "seconds", "best", *counted],
        "rows": table,
    }


def settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that are set, limits among them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= value
        else:
            flat[name] = value
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
        for name, value in flat.items()
        if value not in (None, [], "")
    ]


def environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return machine, Python and packages."""
    packages = dict(environment["packages"])
    rest = {name: value for name, value in environment.items() if name != "packages"}
    return [(name, str(value)) for name, value in (rest | packages).items()]
