"""Draw the pictures of docs/performance.md and docs/regression.md; fill in tables, of docs/scale.md too.

    python benchmarks/plots.py

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``, and is replaced; the words around it are
not touched, so read them again when the numbers change. The pictures go to docs/images. Needs matplotlib.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.common import Row

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
UNIT = "G node-evaluations/s"
TWO = "ours, shared, 2 threads"
COLOURS = {
    "ours, shared": "#0b5394",
    "ours, plain": "#6fa8dc",
    "pyoperon": "#cc4125",
    "numpy recursion": "#38761d",
    "DEAP": "#8e7cc3",
    "sympy.lambdify": "#b45f06",
    "numexpr": "#999999",
    "torch eager": "#e69138",
}
ENGINES = {"proxygraph": "#0b5394", "pyoperon": "#cc4125", "gplearn": "#8e7cc3", "eggp": "#38761d"}
STAGES = {
    "variation": "#b6d7a8",
    "canonical form": "#ffe599",
    "planning": "#9fc5e8",
    "evaluation": "#0b5394",
    "ranking": "#cc4125",
    "selection": "#8e7cc3",
    "hall of fame": "#b45f06",
    "bookkeeping": "#bbbbbb",
}


def rows_of(name: str) -> list[Row]:
    """Return the rows of one result file; none if it is not there."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def one(rows: Sequence[Row], **about: Any) -> Row | None:
    """Return the row that has these entries."""
    found = [row for row in rows if all(row.get(key) == value for key, value in about.items())]
    return found[0] if found else None


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits that mean something; thousands in full."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def median(rows: Sequence[Row], **about: Any) -> str:
    """Return the median of one row, with a tenth below and above."""
    row = one(rows, **about)
    return "–" if row is None else f"{number(row['median'])} ({number(row['p10'])}–{number(row['p90'])})"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ---- tables ------------------------------------------------------------------------------------------------


def throughput_table(dtype: str) -> str:
    rows = [row for row in rows_of("throughput") if row["unit"] == UNIT and row["dtype"] == dtype]
    sizes = sorted({row["n_rows"] for row in rows if "trees" in row})
    engines = list(dict.fromkeys(row["engine"] for row in rows if "trees" in row))
    body = [[name, *(median(rows, engine=name, n_rows=n) for n in sizes)] for name in engines]
    if dtype == "float32":
        for name in ("ours, plain", "ours, shared"):
            ratios = [one(rows, engine=name, n_rows=n) or {} for n in sizes]
            body.append([f"*{name} / pyoperon*", *(number(row.get("times_pyoperon")) for row in ratios)])
    for name in ("ours, plain", "ours, shared"):
        ratios = [one(rows, engine=name, n_rows=n) or {} for n in sizes]
        body.append([f"*{name} / numpy recursion*", *(number(row.get("times_numpy")) for row in ratios)])
    gains = [(one(rows, engine=TWO, n_rows=n) or {}).get("times_one_thread") for n in sizes]
    body.append(["*2 threads / 1, wall time*", *("–" if g is None else median([g]) for g in gains)])
    return table([UNIT, *(f"{n:,} rows" for n in sizes)], body)


def machines_table() -> str:
    """Return on which machine every result of the page was made."""
    body = []
    for name in ("throughput", "phases", "loop", "start", "ranking", "vecmath", "fused", "memory"):
        path = HERE / "results" / f"{name}.json"
        if path.is_file():
            where = json.loads(path.read_text(encoding="utf-8"))["environment"]
            packages = ", ".join(f"{p} {where['packages'][p]}" for p in ("numpy", "numba", "torch"))
            body.append([f"`{name}.json`", where["cpu"], f"{where['python']}, {packages}"])
    return table(["file", "processor", "Python and packages"], body)


def sharing_table() -> str:
    rows = [row for row in rows_of("throughput") if row["unit"] == UNIT and "; " in row["engine"]]
    body = []
    for case in dict.fromkeys(row["engine"].partition("; ")[2] for row in rows):
        for n in sorted({row["n_rows"] for row in rows}):
            ways = {way: f"ours, {way}; {case}" for way in ("plain", "shared", "one plan")}
            rates = [median(rows, engine=engine, n_rows=n) for engine in ways.values()]
            more = [one(rows, engine=ways[way], n_rows=n) or {} for way in ("shared", "one plan")]
            body.append([case, f"{n:,}", *rates, *(number(row.get("times_plain")) for row in more)])
    ratios = ["shared / plain", "one plan / plain"]
    return table(["trees", "rows", "plain", "shared", "one plan", *ratios], body)


def planning_table() -> str:
    rows = [row for row in rows_of("throughput") if row["unit"] == "us/tree" and "growth" not in row]
    body = [
        [row["engine"], row["dtype"], f"{row['n_rows']:,}", f"{number(row['median'])}"]
        for row in rows
        if row["n_rows"] in (500, 100_000) or "prepare" in row["engine"]
    ]
    return table(["what", "type", "rows", "µs per tree"], body)


def loop_table(problem: str) -> str:
    rows = [row for row in rows_of("loop") if row.get("problem") == problem and row["unit"] == "1/s"]
    body = [
        [
            row["engine"],
            str(row["threads"]),
            number(row.get("mean")),
            median([row]),
            number(row.get("per_cpu_second")),
        ]
        for row in rows
    ]
    return table(["what", "threads", "mean per second", "median (10 %–90 %)", "per CPU second"], body)


def stages_table() -> str:
    rows = [row for row in rows_of("loop") if row["unit"] == "% of CPU time"]
    body = []
    for stage in STAGES:
        found = [one(rows, engine=f"search: {stage}", problem=p) or {} for p in ("500 rows", "networks")]
        body.append([stage, *(number(row.get(key)) for row in found for key in ("median", "us_per_formula"))])
    return table(["stage", "500 rows: %", "µs per formula", "networks: %", "µs per formula"], body)


def start_table() -> str:
    rows = rows_of("start")
    body = [
        [what, *(median(rows, engine=what, unit=unit) for unit in ("s", "CPU s"))]
        for what in dict.fromkeys(row["engine"] for row in rows)
    ]
    return table(["what", "seconds", "CPU seconds"], body)


def ranking_table() -> str:
    rows = rows_of("ranking")
    body = []
    for kind, dtype in (
        ("normal", "float64"),
        ("normal", "float32"),
        ("outlier", "float64"),
        ("ties", "float64"),
    ):
        for statistic in ("spearman", "kendall"):
            for n in sorted({row["n_rows"] for row in rows if row.get("kind") == kind}):
                about = {"statistic": statistic, "n_rows": n, "kind": kind, "dtype": dtype}
                scipy = median(rows, engine="scipy, one call a row", **about)
                ours = median(rows, engine="proxygraph", **about)
                both = median(rows, engine="proxygraph, 2 threads", **about)
                ratio = number((one(rows, engine="proxygraph", **about) or {}).get("times_scipy"))
                body.append([f"{kind}, {dtype}", statistic, f"{n:,}", scipy, ours, ratio, both])
    head = ["values", "statistic", "rows", "scipy, µs", "ours, µs", "ratio", "2 threads, µs by the clock"]
    return table(head, body)


def vecmath_table() -> str:
    rows = rows_of("vecmath")
    body = []
    for name in dict.fromkeys(row["function"] for row in rows):
        cells = [name]
        for dtype in ("float32", "float64"):
            theirs = one(rows, function=name, dtype=dtype, engine="numpy") or {}
            ours = one(rows, function=name, dtype=dtype, engine="vecmath") or {}
            both = [theirs.get("median"), ours.get("median")]
            ratio = both[0] / both[1] if both[0] and both[1] else None
            cells += [number(both[0]), number(both[1]), number(ratio, 2), number(ours.get("max_ulp"), 2)]
        body.append(cells)
    one_type = ["numpy", "ours", "ratio", "max ulp"]
    return table(["function", *(f"{t}: {x}" for t in ("f4", "f8") for x in one_type)], body)


def fused_table() -> str:
    rows = [row for row in rows_of("fused") if row["unit"] == "ns/element"]
    most = max((row["n_rows"] for row in rows), default=0)
    rows = [row for row in rows if row["n_rows"] == most]
    body = []
    for formula in dict.fromkeys(row["formula"] for row in rows):
        of = {row["engine"]: row for row in rows if row["formula"] == formula}
        fused = of.get("fused", {})
        two = [of.get(name, {}).get("median") for name in ("fused, 2 threads", "memory: read, 2 threads")]
        cells = [of.get(name, {}).get("median") for name in ("torch eager", "torch.compile", "fused")]
        read = [of.get("memory: read", {}).get("median")]
        ratios = [fused.get("times_torch_eager"), fused.get("of_read_bandwidth")]
        body.append([f"`{formula}`", *map(number, cells + read + ratios + two)])
    head = [
        "formula",
        "torch eager",
        "torch.compile",
        "fused",
        "reading alone",
        "× eager",
        "of read bandwidth",
    ]
    return table([*head, "fused, 2 threads", "reading, 2 threads"], body)


def compiling_table() -> str:
    """Return what compiling a formula costs, and from where on it pays."""
    rows = rows_of("fused")
    body = []
    for state in ("first of a process", "a later one"):
        for found in (row for row in rows if row["engine"] == f"break-even, {state}" and row["calls"] == 1):
            often = one(rows, engine=found["engine"], formula=found["formula"], calls=10) or {}
            entries = [found["median"], found["chosen_from"], often.get("median"), often.get("chosen_from")]
            millions = [number(None if x is None else x / 1e6) for x in entries]
            body.append([f"`{found['formula']}`", state, number(found["cost_s"]), *millions])
    calls = [f"{what}, {n}" for n in ("once", "10 calls") for what in ("M elements", "chosen from")]
    return table(["formula", "compiled as", "CPU s", *calls], body)


# ---- where the time goes -----------------------------------------------------------------------------------

STEPS = {
    "equal parts": "planning: finding equal parts",
    "places": "planning: giving out places",
    "instructions: dispatch": "instructions: choosing the operator",
    "instructions: cheap": "instructions: add sub mul abs square",
    "instructions: division": "instructions: div sqrt",
    "instructions: functions": "instructions: exp log tanh sin cos",
    "instructions: results": "instructions: results to memory",
    "instructions: waiting": "instructions: rest (operands not in the first cache)",
    "copying": "copying equal results",
    "python and memory": "Python, asking for memory",
}


def phases_table(way: str) -> str:
    """Return what every part of an evaluation takes."""
    rows = [row for row in rows_of("phases") if row["part"] == "evaluation" and row["way"] == way]
    sizes = sorted({row["n_rows"] for row in rows})

    def cell(n: int, name: str) -> str:
        row, whole = one(rows, engine=name, n_rows=n), one(rows, engine="all", n_rows=n)
        if row is None or whole is None:
            return "–"
        return f"{number(row['median'])} ({100 * row['median'] / whole['median']:.0f} %)"

    body = [[shown, *(cell(n, name) for n in sizes)] for name, shown in STEPS.items()]
    body.append(["**all**", *(median(rows, engine="all", n_rows=n) for n in sizes)])
    for kind in ("cheap", "division", "functions"):
        found = [one(rows, engine=f"instructions: {kind}", n_rows=n) for n in sizes]
        each = [
            "–"
            if row is None
            else number(1e3 * row["median"] * row["trees"] / (row["instructions"] * row["n_rows"]), 2)
            for row in found
        ]
        body.append([f"*ns per value: {STEPS[f'instructions: {kind}'].partition(': ')[2]}*", *each])
    return table(["µs per tree", *(f"{n:,} rows" for n in sizes)], body)


def threads_table() -> str:
    """Return what two threads do by the clock."""
    rows = [row for row in rows_of("phases") if row["part"] == "threads"]
    sizes = sorted({row["n_rows"] for row in rows})

    def of(n: int, name: str, threads: int) -> float:
        return float((one(rows, engine=name, n_rows=n, threads=threads) or {"median": math.nan})["median"])

    body = [
        [f"{name}, {threads} thread{'s' * (threads > 1)}", *(number(of(n, name, threads)) for n in sizes)]
        for name in ("all", "planning", "instructions")
        for threads in (1, 2)
    ]
    body.append(["both threads at work, 2 threads", *(number(of(n, "both threads", 2)) for n in sizes)])
    body.append(["*gain of two threads*", *(number(of(n, "all", 1) / of(n, "all", 2)) for n in sizes)])
    ceiling = [2 * of(n, "all", 1) / of(n, "as much again at once", 1) for n in sizes]
    body.append(["*gain of two runs of one thread at once*", *(number(gain) for gain in ceiling)])
    return table(["µs per tree by the clock", *(f"{n:,} rows" for n in sizes)], body)


def ranking_phases_table() -> str:
    """Return what every phase of ranking takes."""
    rows = [row for row in rows_of("phases") if row["part"] == "ranking"]
    phases = ("quantise", "sort", "sum ranks (Spearman)", "count pairs (Kendall)", "spearman", "kendall")
    body = []
    for n in sorted({row["n_rows"] for row in rows}):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            found = [one(rows, engine=name, n_rows=n, kind=kind) or {} for name in phases]
            body.append([kind, f"{n:,}", *(number(row.get("median")) for row in found)])
    return table(["values", "rows", *phases[:4], "Spearman in all", "Kendall in all"], body)


# ---- goals -------------------------------------------------------------------------------------------------

GOALS = {
    500: (3.5, None, 4.5, 6.0),
    4096: (2.8, 2.0, 6.0, 8.0),
    10_000: (3.0, None, 6.5, 8.5),
    100_000: (3.5, None, 7.0, 9.0),
}
"""Rows: plain over Operon, plain over numpy, G node evaluations per second plain and shared."""


def goals_table() -> str:
    """Return goals of evaluating populations beside what was measured."""
    rows = [row for row in rows_of("throughput") if row["unit"] == UNIT and "trees" in row]
    body: list[list[str]] = []

    def line(what: str, goal: float, got: float | None, unit: str) -> None:
        verdict = (
            "–" if got is None else ("reached" if got >= goal else f"missed: {100 * got / goal:.3g} % of it")
        )
        body.append([what, f"{goal:g}{unit}", "–" if got is None else f"{got:.3g}{unit}", verdict])

    for n, (operon, numpy, absolute, together) in GOALS.items():
        plain = one(rows, engine="ours, plain", n_rows=n, dtype="float32") or {}
        shared = one(rows, engine="ours, shared", n_rows=n, dtype="float32") or {}
        both = one(rows, engine=TWO, n_rows=n, dtype="float32") or {}
        line(f"{n:,} rows, plain, beside Operon", operon, plain.get("times_pyoperon"), " ×")
        if numpy:
            line(f"{n:,} rows, plain, beside numpy", numpy, plain.get("times_numpy"), " ×")
        line(f"{n:,} rows, plain", absolute, plain.get("median"), " G")
        line(f"{n:,} rows, shared", together, shared.get("median"), " G")
        line(f"{n:,} rows, 2 threads beside 1", 1.8, both.get("times_one_thread", {}).get("median"), " ×")
        double = one(rows, engine="ours, plain", n_rows=n, dtype="float64") or {}
        line(f"{n:,} rows, float64, plain, beside numpy", 2.0, double.get("times_numpy"), " ×")
    return table(["what", "goal", "measured", ""], body)


def regression_table(which: str) -> str:
    """Return R² and exact recovery of every engine on every problem of a set."""
    rows = [row for row in rows_of("regression") if row["set"] == which]
    engines = [name for name in ENGINES if any(row["engine"] == name for row in rows)]
    body = []
    for problem in dict.fromkeys(row["problem"] for row in rows if not row["problem"].startswith("all ")):
        cells = [problem]
        for name in engines:
            row = one(rows, engine=name, problem=problem)
            if row is None:
                cells += ["–"] * 3
                continue
            exact, size = f"{row['recovered']}/{row['runs']}", number(row["size"])
            cells += [f"{row['median']:.6f} ({row['p10']:.3f}–{row['p90']:.3f})", exact, size]
        body.append(cells)
    head = [entry for name in engines for entry in (f"{name}: R²", "exact", "nodes")]
    return table(["problem", *head], body)


def regression_totals() -> str:
    """Return what every engine comes to on both sets."""
    rows = [row for row in rows_of("regression") if row["problem"].startswith("all ")]
    body = [
        [
            row["set"],
            row["engine"],
            f"{row['recovered']}/{row['runs']}",
            f"{row['solved']}/{row['problems']}",
            f"{row['mean']:.4f}",
            number(row["size"]),
            number(row["evaluations_per_second"]),
            number(row["cpu_seconds"]),
        ]
        for row in rows
    ]
    head = ["problems", "engine", "exact", "R² ≥ .9999", "mean R²", "nodes", "formulas per CPU s", "CPU s"]
    return table(head, body)


def features_table() -> str:
    """Return what each feature of a search leaves of its speed."""
    rows = [row for row in rows_of("features") if row["part"] == "apart"]
    body = [
        [
            f"{row['objective'].rpartition(':')[2]}, {row['engine']}",
            median(rows, engine=row["engine"], objective=row["objective"]),
            f"{100 * row['share']:.0f} %",
        ]
        for row in rows
    ]
    return table(["search", "distinct formulas per CPU s", "of the plain one"], body)


def together_table() -> str:
    """Return the speed by the clock of searches with more and more of the features, by threads."""
    rows = [row for row in rows_of("features") if row["part"] == "together"]
    threads = sorted({row["threads"] for row in rows})
    body = []
    for engine in dict.fromkeys(row["engine"] for row in rows):
        mine = {row["threads"]: row for row in rows if row["engine"] == engine}
        cells = [median(rows, engine=engine, threads=n) for n in threads]
        body.append([engine, *cells, *(f"{100 * mine[n]['share']:.0f} %" for n in threads)])
    names = [f"{n} thread{'s' if n > 1 else ''}" for n in threads]
    head = ["search by Spearman", *(f"{name}: distinct formulas/s" for name in names)]
    return table([*head, *(f"{name}: of the first" for name in names)], body)


def scale_table() -> str:
    """Return the constants of the model of docs/scale.md."""
    rows = {row["engine"]: row for row in rows_of("scale")}

    def cell(engine: str, scale: float, digits: int, unit: str) -> str:
        m, low, high = (f"{rows[engine][key] * scale:,.{digits}f}" for key in ("median", "p10", "p90"))
        return f"{m} {unit} ({low}–{high})" if low != high else f"{m} {unit}"

    body = [
        ["formulas scored by one core", cell("one core: formulas", 1, 0, "/s")],
        ["work of one island between two migrations", cell("one core: epoch of an island", 1, 3, "s")],
        ["recipe", cell("recipe of a table", 1e-3, 0, "kB")],
        ["state of one island, over the run", cell("state of an island", 1e-3, 0, "kB")],
        ["growth of a state per generation", cell("growth of a state per generation", 1e-3, 1, "kB")],
        ["pack a state", cell("client: pack a state", 1e3, 2, "ms")],
        ["unpack a state", cell("client: unpack a state", 1e3, 2, "ms")],
        ["migrate an island", cell("client: migration of an island", 1e3, 2, "ms")],
        ["Dask: one empty task", cell("Dask: empty task, several at a time", 1e3, 2, "ms")],
        ["Dask: bytes through the scheduler, one way",
         cell("Dask: throughput through the scheduler, one way", 1e-6, 0, "MB/s")],
    ]  # fmt: skip
    for samples in (512, 64, 16):
        name = f"recipe per network, {samples} samples per layer and leaf"
        body.append([name, cell(f"recipe per network, {samples} samples", 1e-3, 0, "kB")])
    return table(["what", "median (10 %–90 %)"], body)


def scale_runs_table() -> str:
    """Return searches on Dask workers, measured and by the model."""
    rows = rows_of("scale")
    measured = {row["threads"]: row for row in rows if row["engine"] == "search on Dask workers"}
    model = {r["threads"]: r["median"] for r in rows if r["engine"] == "search on Dask workers, by the model"}
    seconds = [f"{one['median']:.2f} ({one['p10']:.2f}–{one['p90']:.2f})" for one in measured.values()]
    ratio = [f"{model[n] / one['median'] - 1:+.0%}".replace("%", " %") for n, one in measured.items()]
    return table(
        ["workers", *map(str, measured)],
        [
            ["measured, s", *seconds],
            ["model, s", *(f"{model[n]:.2f}" for n in measured)],
            ["model beside measured", *ratio],
        ],
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "machines": machines_table,
    "throughput float32": lambda: throughput_table("float32"),
    "throughput float64": lambda: throughput_table("float64"),
    "sharing": sharing_table,
    "planning": planning_table,
    "loop rows": lambda: loop_table("500 rows"),
    "loop networks": lambda: loop_table("networks"),
    "stages": stages_table,
    "start": start_table,
    "ranking": ranking_table,
    "vecmath": vecmath_table,
    "fused": fused_table,
    "compiling": compiling_table,
    "phases plain": lambda: phases_table("plain"),
    "phases shared": lambda: phases_table("shared"),
    "threads": threads_table,
    "ranking phases": ranking_phases_table,
    "goals": goals_table,
    "regression known": lambda: regression_table("known"),
    "regression drawn": lambda: regression_table("drawn"),
    "regression totals": regression_totals,
    "features": features_table,
    "features together": together_table,
    "scale": scale_table,
    "scale runs": scale_runs_table,
}


# ---- pictures ----------------------------------------------------------------------------------------------


def _line(axis: Any, rows: Sequence[Row], x: str, label: str) -> None:
    rows = sorted(rows, key=lambda row: row[x])
    at, values = [row[x] for row in rows], [row["median"] for row in rows]
    colour = COLOURS.get(label, "black")
    axis.plot(at, values, "o-", color=colour, label=label, markersize=3.5, linewidth=1.4)
    axis.fill_between(
        at, [row["p10"] for row in rows], [row["p90"] for row in rows], color=colour, alpha=0.15, linewidth=0
    )


def _plain(axis: Any, ticks: Sequence[float]) -> None:
    """Mark these places of a logarithmic axis, as plain numbers."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_locator(NullLocator())


def growth_picture() -> None:
    """Draw how cost grows with rows, tree size, population and threads."""
    rows = rows_of("throughput")
    figure, ((by_rows, by_size), (by_number, by_threads)) = plt.subplots(2, 2, figsize=(9.5, 7))
    rates = [row for row in rows if row["unit"] == UNIT and "trees" in row]
    sizes = sorted({row["n_rows"] for row in rates})
    for name in COLOURS:
        found = [row for row in rates if row["engine"] == name and row["dtype"] == "float32"]
        if found:
            _line(by_rows, found, "n_rows", name)
    by_rows.set(xscale="log", xlabel="rows", ylabel=UNIT, ylim=(0, None), title="rows (1 thread, float32)")
    _plain(by_rows.xaxis, sizes)
    by_rows.legend(fontsize=7, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.08))
    for axis, what, x, title in (
        (by_size, "size", "mean_nodes", "tree size (500 rows, 300 trees)"),
        (by_number, "number", "trees", "population (500 rows, 19 nodes)"),
    ):
        grown = [row for row in rows if row.get("growth") == what]
        for name in dict.fromkeys(row["engine"] for row in grown):
            _line(axis, [row for row in grown if row["engine"] == name], x, name)
        label = "nodes per tree" if what == "size" else "trees evaluated together"
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="µs per tree", title=title)
        _plain(axis.xaxis, sorted({row[x] for row in grown}))
        _plain(axis.yaxis, [1, 3, 10, 30, 100])
        axis.legend(fontsize=7, frameon=False)
    for k, (name, colour) in enumerate(
        (("ours, shared, wall time", "#6fa8dc"), ("ours, shared, 2 threads", "#0b5394"))
    ):
        found = [one(rates, engine=name, n_rows=n, dtype="float32") for n in sizes]
        for i, row in enumerate(found):
            if row is not None:
                spread = [[row["median"] - row["p10"]], [row["p90"] - row["median"]]]
                label = ("1 thread", "2 threads")[k] if i == 0 else None
                place = i + 0.4 * k - 0.2
                by_threads.bar(place, row["median"], 0.38, color=colour, label=label, yerr=spread, capsize=2)
    by_threads.set_xticks(range(len(sizes)), [f"{n:,}" for n in sizes])
    by_threads.set(xlabel="rows", ylabel=UNIT, title="threads (shared, float32, wall time)")
    by_threads.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(DOCS / "images" / "throughput.svg", metadata={"Date": None})
    plt.close(figure)


def stages_picture() -> None:
    """Draw what the stages of a search take in one thread."""
    rows = [row for row in rows_of("loop") if row["unit"] == "% of CPU time"]
    figure, axis = plt.subplots(figsize=(9.5, 2.2))
    n = (one(rows, problem="networks") or {"n_rows": 0})["n_rows"]
    problems = {"500 rows": "500 rows, Spearman", "networks": f"{n} networks, element level"}
    for place, problem in enumerate(reversed(problems)):
        left = 0.0
        for stage, colour in STAGES.items():
            share = (one(rows, engine=f"search: {stage}", problem=problem) or {"median": 0.0})["median"]
            label = stage if place == 0 else None
            axis.barh(place, share, left=left, color=colour, label=label, height=0.6)
            if share > 4:
                dark = stage in ("evaluation", "ranking", "selection", "hall of fame")
                words = {"ha": "center", "va": "center", "fontsize": 8, "color": "white" if dark else "black"}
                axis.text(left + share / 2, place, f"{share:.0f}", **words)
            left += share
    axis.set_yticks(range(len(problems)), [problems[p] for p in reversed(problems)])
    axis.set(xlabel="% of CPU time, one thread", xlim=(0, 100))
    axis.legend(ncols=4, fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    figure.savefig(DOCS / "images" / "loop.svg", metadata={"Date": None})
    plt.close(figure)


def regression_picture() -> None:
    """Draw what each engine misses of R² on each problem, and the share of runs that found the formula."""
    rows = rows_of("regression")
    engines = [name for name in ENGINES if any(row["engine"] == name for row in rows)]
    single = [row for row in rows if not row["problem"].startswith("all ")]
    problems = list(dict.fromkeys(row["problem"] for row in single))
    figure, (missed, share) = plt.subplots(
        1, 2, figsize=(9.5, 2 + 0.27 * len(problems)), width_ratios=[3, 1.2]
    )
    for k, name in enumerate(engines):
        for row in (row for row in single if row["engine"] == name):
            place = problems.index(row["problem"]) + 0.16 * (k - (len(engines) - 1) / 2)
            middle, low, high = (max(1 - row[key], 1e-15) for key in ("median", "p90", "p10"))
            exact = row["recovered"] == row["runs"]
            missed.plot([low, high], [place, place], color=ENGINES[name], linewidth=1)
            missed.plot(
                middle,
                place,
                "o",
                color=ENGINES[name],
                markerfacecolor=ENGINES[name] if exact else "white",
                markersize=4,
            )
        for i, which in enumerate(("known", "drawn")):
            total = one(rows, engine=name, problem=f"all {which}")
            if total is not None:
                label = name if i == 0 else None
                height = 100 * total["recovered"] / total["runs"]
                place = i + 0.2 * (k - (len(engines) - 1) / 2)
                share.bar(place, height, 0.18, color=ENGINES[name], label=label)
                share.text(place, height + 1, f"{total['recovered']}", ha="center", fontsize=7)
    missed.set_yticks(range(len(problems)), problems, fontsize=7)
    missed.set_ylim(len(problems) - 0.5, -0.5)
    missed.set(xscale="log", xlim=(2, 5e-16), xlabel="1 − R² on test rows; filled: exact in every run")
    share.set_xticks(range(2), ["known", "drawn"])
    share.set(ylim=(0, 110), ylabel="% of runs, exact")
    share.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.tight_layout()
    figure.savefig(DOCS / "images" / "regression.svg", metadata={"Date": None})
    plt.close(figure)


def filled(text: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """Return the page with these tables made anew; others stay."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- table {name} -->\n{tables[name]()}\n<!-- end -->" if name in tables else match[0]

    return re.sub(r"<!-- table ([\w ]+) -->\n.*?<!-- end -->", replaced, text, flags=re.DOTALL)


def main() -> None:
    """Draw, fill in."""
    mpl.use("svg")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams["svg.hashsalt"] = "proxygraph"  # the same numbers give the same file
    (DOCS / "images").mkdir(exist_ok=True)
    growth_picture()
    stages_picture()
    if rows_of("regression"):
        regression_picture()
    for page in (DOCS / name for name in ("performance.md", "regression.md", "scale.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
