"""What was found: the front, the chosen network, a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from proxygraph.errors import BackendUnavailable, StorageError
from proxygraph.run import RunFolder, csv_text
from segspace.search.study import Candidate


def front(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats in score without costing more, cheapest first.

    Of candidates with equal score and cost the first one found stays.
    """
    best: list[Candidate] = []
    highest = -math.inf
    scored = [(one.cost, -one.score, one.number, one) for one in found if one.score is not None]
    for _, negative, _, one in sorted(scored, key=lambda row: row[:3]):
        if -negative > highest:
            highest = -negative
            best.append(one)
    return best


def table_text(found: Sequence[Candidate], cost_name: str) -> str:
    """Return candidates as CSV: arch, score, cost, MACs, parameters; no score where it is invalid."""
    return csv_text(
        [
            {
                "arch": one.arch,
                "score": "" if one.score is None else repr(one.score),
                cost_name: f"{one.cost:.6g}",
                "macs": one.macs,
                "params": one.params,
            }
            for one in found
        ]
    )


def write_results(
    folder: RunFolder, found: Sequence[Candidate], cost_name: str, result: dict[str, Any]
) -> Candidate | None:
    """Write ``front.csv``, ``candidates.csv`` and ``result.json``; return the chosen network.

    It is the one with the best score: all candidates are within the budget. ``None`` if there is none.
    """
    best = front(found)
    chosen = best[-1] if best else None
    shown = None if chosen is None else {k: v for k, v in asdict(chosen).items() if k != "reason"}
    if shown is not None:
        shown[cost_name] = shown.pop("cost")
    folder.write("front.csv", table_text(best, cost_name))
    folder.write("candidates.csv", table_text(found, cost_name))
    folder.write("result.json", json.dumps({"chosen": shown, "front": len(best), **result}, indent=2) + "\n")
    return chosen


def plot(
    found: Sequence[Candidate], path: Path, *, proxy: str, cost_label: str, budget: float, title: str
) -> None:
    """Draw score over cost: all candidates, the front, the chosen network, the budget (needs matplotlib).

    Raises
    ------
    BackendUnavailable
        If matplotlib is missing.
    StorageError
        If the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendUnavailable(
            "a picture needs matplotlib, which is not installed: pip install 'proxygraph[report]'"
        ) from None
    scored = [(one.cost, one.score) for one in found if one.score is not None]
    best = [(one.cost, one.score) for one in front(found) if one.score is not None]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for points, style, size, color, label in (
        (scored, "o", 3, "#bbbbbb", f"{len(scored)} candidates"),
        (best, "o-", 4, "#0b5394", f"front, {len(best)}"),
    ):
        axes.plot(*zip(*points, strict=True), style, ms=size, lw=1, color=color, label=label)
    axes.plot(*best[-1], "*", ms=13, color="#cc4125", label="chosen")
    if budget < float("inf"):
        axes.axvline(budget, color="#cc4125", lw=1, ls="--", label=f"budget {budget:g}")
    axes.set(xlabel=cost_label, ylabel=proxy if len(proxy) <= 60 else f"{proxy[:57]}...")
    if best[0][1] > 0 and best[-1][1] > 1e3 * min(score for _, score in scored) > 0:
        axes.set_yscale("log")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8, loc="lower right")
    try:
        for suffix in (".png", ".svg"):
            figure.savefig(path.with_suffix(suffix), dpi=120)
    except OSError as error:
        raise StorageError(f"{path}: the picture cannot be written: {error}") from None
