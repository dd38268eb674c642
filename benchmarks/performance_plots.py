"""Tables and pictures of docs/performance.md, from benchmarks/results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.common import Row
from benchmarks.pages import DOCS, median, number, one, result, rows_of, table

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
        if where := result(name).get("environment"):
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
    "features": features_table,
    "features together": together_table,
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
