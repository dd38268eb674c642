"""Tables and pictures of what a search is worth, and of segmenters beside baselines, from benchmarks/results.

Used by ``benchmarks/segmenter_plots.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.common import Row
from benchmarks.pages import DOCS, number, one, rows_of, table

PROBLEMS = ("transnas101", "camvid")
BLUE, GREY, RED, GREEN = "#0b5394", "#999999", "#cc4125", "#38761d"
KINDS = {
    "formula": (BLUE, "formula"),
    "handmade": ("#bbbbbb", "hand-made proxies"),
    "oneshot": (GREEN, "one-shot"),
}
LIGHTER = "lighter half"


# ---- searches ----------------------------------------------------------------------------------------------


def regret_table(problem: str) -> str:
    """Return what every way to choose is worth in the pool of all networks, the least regret first."""
    rows = [r for r in rows_of("search") if r["problem"] == problem]
    here = [r for r in rows if r["pool"] == "all"]
    body = [_random_line(r, rows) for r in here if r["kind"] == "random" and r["n_rows"] in (0, 1, 10)]
    last = [r for r in here if r["sampler"] == "random" and r["n_rows"] == r["networks"]]
    for r in sorted((r for r in last if r["kind"] != "random"), key=lambda r: r["median"]):
        body.append(
            [
                _name(r),
                f"{r['median']:.2f} ({r['low']:.2f}–{r['high']:.2f})",
                f"{r['percentile']:.1f}",
                number(r["cost_seconds"]),
                f"{number(r['trainings'], 2)}: {r['random_median']:.2f}",
                _worth(r),
                _lighter(rows, r["engine"]),
            ]
        )
    for r in (r for r in here if r["kind"] == "noise"):
        body.append(
            [f"noise: {r['engine']}", f"{r['median']:.2f} ({r['p10']:.2f}–{r['p90']:.2f})", *["–"] * 5]
        )
    head = [
        "chosen by",
        "regret, points",
        "percentile",
        "CPU s",
        "equal cost: trainings, regret of random search",
    ]
    picture = f"![Regret against cost, {problem}](images/search_{problem}.svg)"
    return (
        f"{picture}\n\n{table([*head, 'trainings for the same regret', 'regret in the lighter half'], body)}"
    )


def _random_line(r: Row, rows: Sequence[Row]) -> list[str]:
    what = r["engine"] if r["n_rows"] == 0 else f"random search, {r['n_rows']} trained"
    lighter = one(rows, pool=LIGHTER, engine=r["engine"], n_rows=r["n_rows"])
    return [
        what,
        f"{r['median']:.2f} ({r['p10']:.2f}–{r['p90']:.2f})",
        f"{r['percentile']:.1f}",
        number(r["cost_seconds"]),
        "–",
        str(r["n_rows"] or "–"),
        "–" if lighter is None else f"{lighter['median']:.2f}",
    ]


def _name(r: Row) -> str:
    name = str(r["engine"]).replace("|", "\\|")
    return f"`{name}`" if r["kind"] == "formula" else name


def _worth(r: Row) -> str:
    return "more than there are" if r["worth"] is None else str(r["worth"])


def _lighter(rows: Sequence[Row], engine: str) -> str:
    found = one(rows, pool=LIGHTER, engine=engine, sampler="random")
    return "–" if found is None else f"{found['median']:.2f}"


def formulas_table(problem: str) -> str:
    """Return what formulas choose among the networks that their runs have not seen."""
    rows = [r for r in rows_of("search") if r["problem"] == problem and r["pool"] not in ("all", LIGHTER)]
    body = []
    for pool in dict.fromkeys(r["pool"] for r in rows):
        mine = [r for r in rows if r["pool"] == pool and r["sampler"] == "random" and r["kind"] != "random"]
        pick = one(rows, pool=pool, engine="random pick")
        for engine in dict.fromkeys(r["engine"] for r in mine):
            curve = {r["n_rows"]: r for r in mine if r["engine"] == engine}
            last = curve[max(curve)]
            body.append(
                [
                    pool,
                    "the formula" if last["kind"] == "formula" else f"{engine} (best on its training rows)",
                    str(last["networks"]),
                    *("–" if n not in curve else _spread(curve[n]) for n in (20, 100)),
                    f"{last['median']:.2f} ({last['low']:.2f}–{last['high']:.2f})",
                    f"{last['percentile']:.1f}",
                    "–" if pick is None else f"{pick['median']:.2f}",
                    _worth(last),
                ]
            )
    head = ["run", "chosen by", "networks", "regret after 20", "after 100", "after all", "percentile"]
    return "" if not body else table([*head, "random pick", "trainings for the same regret"], body)


def samplers_table(problem: str) -> str:
    """Return the regret of the same score under the samplers of the search, after equally many networks."""
    rows = [r for r in rows_of("search") if r["problem"] == problem and r["pool"] != LIGHTER]
    body = []
    for r in (r for r in rows if r["sampler"] == "evolution"):
        same = {"pool": r["pool"], "engine": r["engine"], "n_rows": r["n_rows"]}
        others = [one(rows, sampler=sampler, **same) for sampler in ("random", "evolution", "nsga2")]
        spreads = ["–" if found is None else _spread(found) for found in others]
        body.append([_name(r) if r["pool"] == "all" else r["pool"], str(r["n_rows"]), *spreads])
    head = ["score", "networks looked at", "random", "evolution", "nsga2"]
    return table(head, body) if body else ""


def _spread(r: Row) -> str:
    return f"{r['median']:.2f} ({r['p10']:.2f}–{r['p90']:.2f})"


def regret_picture(problem: str) -> None:
    """Draw regret against cost: random search that trains, and all that does not."""
    rows = [r for r in rows_of("search") if r["problem"] == problem and r["pool"] != LIGHTER]
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    labelled: set[str] = set()
    for kind, (colour, label) in reversed(KINDS.items()):
        mine = [r for r in rows if r["kind"] == kind and r["sampler"] == "random"]
        mine = [r for r in mine if kind == "formula" or r["pool"] == "all"]
        for pool, engine in dict.fromkeys((r["pool"], r["engine"]) for r in mine):
            curve = [r for r in mine if (r["pool"], r["engine"]) == (pool, engine)]
            width = 0.8 if kind == "handmade" else 1.6
            text = None if label in labelled else label
            labelled.add(label)
            x, y = [r["cost_seconds"] for r in curve], [r["median"] for r in curve]
            axis.plot(x, y, color=colour, lw=width, label=text, zorder=1 if kind == "handmade" else 3)
    trained = [r for r in rows if r["engine"] == "random search" and r["pool"] == "all"]
    x = [r["cost_seconds"] for r in trained]
    axis.plot(x, [r["median"] for r in trained], color=RED, lw=1.6, label="random search, networks trained")
    axis.fill_between(
        x, [r["p10"] for r in trained], [r["p90"] for r in trained], color=RED, alpha=0.15, lw=0
    )
    pick = one(rows, engine="random pick", pool="all")
    if pick is not None:
        axis.axhline(pick["median"], color=GREY, lw=1, ls="--", label="random pick")
    axis.set_xscale("log")
    axis.set(xlabel="CPU seconds", ylabel="regret, points of mIoU (median)", title=problem)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8, frameon=False)
    _save(figure, f"search_{problem}")


# ---- segmenters --------------------------------------------------------------------------------------------


def _segmenters() -> list[Row]:
    """Return a row per network: ``each`` finished seed (sketches if there is none) and their ``mean``."""
    rows, networks = rows_of("segmenters"), []
    for engine in dict.fromkeys(r["engine"] for r in rows):
        own = sorted((r for r in rows if r["engine"] == engine), key=lambda r: r["seed"])
        own = [r for r in own if r["epochs"] == r["epochs_planned"]] or own
        each = [r["median"] for r in own]
        networks.append(own[0] | {"each": each, "mean": float(np.mean(each))})
    return sorted(networks, key=lambda r: -r["mean"])


def segmenters_table() -> str:
    """Return found segmenters and baselines, the best first."""
    rows = _segmenters()
    runtimes = list(dict.fromkeys(runtime for r in rows for runtime in r["latency_ms"]))
    body = []
    for r in rows:
        times = (r["latency_ms"].get(runtime) for runtime in runtimes)
        body.append(
            [
                f"`{r['engine']}`",
                f"{r['mean']:.2f}",
                ", ".join(f"{miou:.2f}" for miou in r["each"]),
                "–" if r["params"] is None else number(r["params"] / 1e3),
                "–" if r["macs"] is None else number(r["macs"] / 1e6),
                *("–" if t is None else _milliseconds(t) for t in times),
                f"{r['epochs']:g} of {r['epochs_planned']}",
                number(r["cpu_minutes"]),
            ]
        )
    head = ["network", "mIoU on val, %", "by seed", "k parameters", "M multiply-accumulates"]
    head += [f"{runtime}: ms (p10–p90), FPS" for runtime in runtimes]
    return table([*head, "epochs", "CPU minutes"], body)


def _milliseconds(t: Mapping[str, Any]) -> str:
    return f"{t['median']:.2f} ({t['p10']:.2f}–{t['p90']:.2f}), {1e3 / t['median']:.0f}"


def segmenters_picture() -> None:
    """Draw mIoU over latency, one panel per runtime: of what is trained to the end, if anything is."""
    rows = _segmenters()
    whole = [r for r in rows if r["epochs"] == r["epochs_planned"]]
    rows = whole or rows  # a sketch would set the scale
    seen = [miou for r in rows for miou in r["each"]]
    runtimes = list(dict.fromkeys(runtime for r in rows for runtime in r["latency_ms"]))
    if not runtimes:
        return
    figure, panels = plt.subplots(1, len(runtimes), figsize=(4.6 * len(runtimes), 3.8), squeeze=False)
    for axis, runtime in zip(panels[0], runtimes, strict=True):
        for r in (r for r in rows if runtime in r["latency_ms"]):
            found = r["kind"] == "found"
            x, colour = r["latency_ms"][runtime]["median"], BLUE if found else GREY
            axis.plot(x, r["mean"], "o" if found else "s", color=colour)
            axis.plot([x, x], [min(r["each"]), max(r["each"])], color=colour, lw=1, alpha=0.5)
            place = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 7}
            axis.annotate(r["engine"].removeprefix("rtseg:"), (x, r["mean"]), color=colour, **place)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator([2, 3, 5, 10, 20, 50, 100]))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(xlabel=f"ms per image, {runtime}, one thread", ylim=_around(seen))
        axis.margins(x=0.2)
    panels[0][0].set_ylabel("mIoU on val, %")
    figure.suptitle(
        "found (circles) and hand-made (squares), means; lines span the seeds"
        + ("" if whole else ", training not finished"),
        fontsize=9,
    )
    _save(figure, "segmenters")


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    return low - 0.1 * (high - low + 1), high + 0.1 * (high - low + 1)


def _save(figure: Any, name: str) -> None:
    figure.tight_layout()
    (DOCS / "images").mkdir(exist_ok=True)
    figure.savefig(DOCS / "images" / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


# ---- what there are numbers for ----------------------------------------------------------------------------


def tables() -> dict[str, Callable[[], str]]:
    """Return the tables that there are results for, by name."""
    found: dict[str, Callable[[], str]] = {}
    rows = rows_of("search")
    for problem in (name for name in PROBLEMS if any(r["problem"] == name for r in rows)):
        found |= {
            f"search {problem}": partial(regret_table, problem),
            f"search formulas {problem}": partial(formulas_table, problem),
            f"search samplers {problem}": partial(samplers_table, problem),
        }
    if rows_of("segmenters"):
        found["segmenters"] = segmenters_table
    return found


def pictures() -> None:
    """Draw what there are results for."""
    rows = rows_of("search")
    for problem in (name for name in PROBLEMS if any(r["problem"] == name for r in rows)):
        regret_picture(problem)
    if rows_of("segmenters"):
        segmenters_picture()
