"""Tables and the picture of docs/regression.md, tables of docs/scale.md, from benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt

from benchmarks.pages import DOCS, number, one, rows_of, table

ENGINES = {"proxygraph": "#0b5394", "pyoperon": "#cc4125", "gplearn": "#8e7cc3", "eggp": "#38761d"}


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
    "regression known": lambda: regression_table("known"),
    "regression drawn": lambda: regression_table("drawn"),
    "regression totals": regression_totals,
    "scale": scale_table,
    "scale runs": scale_runs_table,
}
