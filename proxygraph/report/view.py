"""From runs to what the template shows of them: sentences, figures, tables; nothing left to compute."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from markupsafe import Markup

from proxygraph.export import PARTS
from proxygraph.latex import INDEX, RUNS_OVER, latex
from proxygraph.leaves import Axis
from proxygraph.mathml import leaf_mathml, mathml_lines, symbol_mathml
from proxygraph.ops import OPS
from proxygraph.report.graphs import graph, graph_rows
from proxygraph.report.history import counts_sentence, environment, progress, settings
from proxygraph.report.page import page
from proxygraph.report.plots import Choice, front_plot, scatter, sparkline, thumbnail
from proxygraph.report.runs import Formula, Run
from proxygraph.report.svg import number
from proxygraph.torch_source import formula_python
from proxygraph.zoo import ZOO

DIGITS: Final = 4
"""Of constants where a formula is set; copies have all."""
MOST_DOTS: Final = 300
"""About so many rows are drawn in a scatter plot; more would hide each other and make the page heavy."""
LEAST_DOTS: Final = 20
"""Of every part of the split, however small its share."""
AXES: Final[tuple[Axis, ...]] = ("element", "activation", "layer", "row")
NAMES: Final[Mapping[str, str]] = {
    "spearman": "Spearman correlation",
    "kendall": "Kendall correlation",
    "pearson": "Pearson correlation",
    "r2": "R²",
    "rmse": "RMSE",
    "topk": "weighted top-k agreement",
    "worst": "correlation in the worst problem",
}
SHORT: Final = {
    "spearman": "Spearman",
    "kendall": "Kendall",
    "pearson": "Pearson",
    "r2": "R²",
    "rmse": "RMSE",
    "n": "rows",
}


def report_page(runs: Sequence[Run]) -> str:
    """Return the page that shows these runs."""
    shown = [_run(run, f"r{k}") for k, run in enumerate(runs)]
    if len(runs) > 1:
        _add_sparks(runs, shown)
    heading = _heading(runs[0]) if len(runs) == 1 else f"{len(runs)} runs"
    return page(
        "report.html",
        title=f"{heading} · proxygraph report",
        heading=heading,
        version=version("proxygraph"),
        parts=PARTS,
        runs=shown,
        data={one["id"]: one["copies"] for run in shown for one in run["formulas"]},
    )


def _heading(run: Run) -> str:
    return str(run.result["problem"]["name"])


def _add_sparks(runs: Sequence[Run], shown: Sequence[dict[str, Any]]) -> None:
    """Add the front of every run as a small line; runs of one metric share its ranges."""
    for run, row in zip(runs, shown, strict=True):
        same = [one for other in runs if other.metric == run.metric for one in other.front]
        values = [v for one in same if (v := one.reports["validation"][run.metric]) is not None]
        row["spark"] = sparkline(
            [one.dag.size for one in run.front],
            [one.reports["validation"][run.metric] for one in run.front],
            min(values, default=0.0),
            max(values, default=1.0),
            max(one.dag.size for one in same),
        )


def _run(run: Run, id: str) -> dict[str, Any]:
    """Return everything the page shows of one run."""
    decimals = _decimals(run)
    dots = _dots(run)
    names = {one.name: f"{id}-f{k}" for k, one in enumerate(run.formulas)}
    formulas = [_formula(one, names[one.name], run, decimals, dots) for one in run.formulas]
    by_name = {one.name: shown for one, shown in zip(run.formulas, formulas, strict=True)}
    search, problem = run.result["search"], run.result["problem"]
    front, below = _front(run, names, decimals)
    unscored = sum(one.reports["validation"][run.metric] is None for one in run.baselines)
    gallery = [by_name[one.name] for one in (run.best, *run.baselines)]
    return {
        "id": id,
        "name": run.name,
        "problem": f"{problem['name']} → {problem['target']}",
        "target": problem["target"],
        "objective": run.result["objective"],
        "seed": run.result["seed"],
        "metric_name": NAMES.get(run.metric, run.metric),
        "sentence": _sentence(run, decimals),
        "facts": _facts(run),
        "front_plot": front,
        "far": far_sentence(below, unscored),
        "best": by_name[run.best.name],
        "front": [by_name[one.name] for one in run.front],
        "baselines": [by_name[one.name] for one in run.baselines],
        "formulas": formulas,
        "gallery": gallery if run.baselines else [],
        "gallery_note": "Signs are as published. Small plots: the score to the right, the target upwards."
        if dots is not None
        else "",
        "rows_note": _rows_note(run, dots),
        "no_scatter": "This run kept no scores of rows (scores.csv), so there is no scatter plot; runs made "
        "with this version keep them.",
        "row_table": _row_table(run, dots),
        "counts_sentence": counts_sentence(search),
        "progress": progress(run),
        "settings": settings(run.settings),
        "environment": environment(run.result["environment"]),
        "scored": f"{search['evaluated']:,}",
        "seconds": f"{search['seconds']:,.0f}",
        "spark": "",
    }


def _decimals(run: Run) -> int:
    """Return how many decimals tell the front's scores apart: more where they are close to 1."""
    values = [v for one in run.front for part in PARTS if (v := one.reports[part][run.metric]) is not None]
    losses = [1.0 - v for v in values if v < 1.0]
    return min(8, max(3, math.ceil(-math.log10(min(losses, default=0.1))) + 1))


def _sentence(run: Run, decimals: int) -> str:
    """Say the result."""
    problem, best = run.result["problem"], run.best
    n = int(best.reports["test"]["n"] or 0)
    score = number(best.reports["test"][run.metric], decimals)
    metric = NAMES.get(run.metric, run.metric)
    nodes = f"{best.dag.size} node{'s' if best.dag.size != 1 else ''}"
    if run.kind == "fit":
        rmse = best.reports["test"].get("rmse")
        error = f" and an RMSE of {rmse:.3g}" if rmse is not None else ""
        what = f"A formula of {nodes} predicts {problem['target']} on {n:,} unseen rows"
        return f"{what} with {metric} {score}{error}."
    what = "rows" if problem.get("tabular") else "networks"
    text = f"A formula of {nodes} ranks {n:,} unseen {what} by {problem['target']} with a {metric} of {score}"
    if not run.baselines:
        return f"{text}."
    other = run.baselines[0]
    return (
        f"{text}; the hand-made proxy that does best on validation, {other.name}, reaches "
        f"{number(other.reports['test'][run.metric], decimals)}."
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    rows, search = run.result["problem"]["rows"], run.result["search"]
    seconds = float(search["seconds"])
    known = sum(search["duplicates"].values())
    return [
        ("rows to train, validate, test", " / ".join(f"{rows[part]:,}" for part in PARTS)),
        ("formulas scored", f"{search['evaluated']:,}"),
        ("duplicates caught", f"{known:,}"),
        ("seconds", f"{seconds:,.0f}"),
        ("objective", str(run.result["objective"])),
        ("seed", str(run.result["seed"])),
    ]


def _formula(one: Formula, id: str, run: Run, decimals: int, dots: Sequence[int] | None) -> dict[str, Any]:
    """Return what the page shows of one formula."""
    dag, text = one.dag, one.entry["infix"]
    nodes = f"{dag.size} node{'s' if dag.size != 1 else ''}"
    copies = {"LaTeX": latex(dag), "text": text}
    if one.front:
        tabular = bool(run.result["problem"].get("tabular"))
        scored = {part: json.dumps(one.entry[part]) for part in PARTS}
        copies["Python"] = formula_python(dag, provenance=scored, tabular=tabular)
    names = list(one.reports["train"])
    source = ZOO[one.name].source if not one.front and one.name in ZOO else ""
    shown = {
        "id": id,
        "title": "best formula" if one.best else one.name,
        "short": nodes if one.front else one.name,
        "heading": nodes if one.front else f"{one.name} · hand-made, {nodes}",
        "size": dag.size,
        "best": one.best,
        "source": f"Source: {source}" if source else "",
        "math": [Markup(line) for line in mathml_lines(dag, DIGITS, marked=True)],
        "rounded": any(
            node.kind == "const" and float(f"{node.value:.{DIGITS}g}") != node.value for node in dag
        ),
        "copies": copies,
        "text": text,
        "graph": graph(dag, f"Graph of {text}; as a table below"),
        "nodes": graph_rows(dag),
        "axes": [axis for axis in AXES if axis in dag.axes],
        "scores": {part: number(one.reports[part][run.metric], decimals) for part in PARTS},
        "report_names": [SHORT.get(name, name) for name in names],
        "reports": [
            (part, [_cell(name, one.reports[part].get(name), decimals) for name in names]) for part in PARTS
        ],
        "symbols": _symbols(one),
        "scatter": "",
        "thumbnail": "",
    }
    if dots is not None and run.scores is not None:
        values = [run.scores.values[one.name][k] for k in dots]
        fit = run.kind == "fit"
        target = run.result["problem"]["target"]
        shown["scatter"] = scatter(
            values,
            [run.scores.target[k] for k in dots],
            [run.scores.parts[k] for k in dots],
            id=id,
            x_label=f"predicted {target}" if fit else "value of the formula",
            y_label=target,
            name=f"{target} against the {'prediction' if fit else 'score'} of {shown['title']}; "
            "the values are in the table of rows",
            fit=fit,
        )
        if run.baselines and (one.best or not one.front):
            shown["thumbnail"] = thumbnail(id)
    return shown


def _cell(name: str, value: float | None, decimals: int) -> str:
    if value is not None and name in ("n", "invalid"):
        return f"{value:,.0f}"
    if value is not None and name == "rmse":
        return f"{value:.4g}"
    return number(value, decimals)


def _symbols(one: Formula) -> list[dict[str, Any]]:
    """Return the meaning of leaves and indices, the finest axis first."""
    found: list[dict[str, Any]] = []
    for leaf in sorted(one.dag.leaves.values(), key=lambda leaf: AXES.index(leaf.axis)):
        meaning = leaf.meaning or ("column of the table" if leaf.axis == "row" else "")
        name = (
            ""
            if not leaf.latex or leaf.latex in (leaf.name, rf"\mathrm{{{leaf.name}}}")
            else f"{leaf.name}: "
        )
        found.append({"math": _inline(leaf_mathml(leaf)), "meaning": f"{name}{meaning}", "axis": leaf.axis})
    reduced = {one.dag.axes[n.args[0]] for n in one.dag if n.kind == "op" and OPS[n.name].kind == "reduction"}
    for axis in AXES:
        if axis in reduced:
            found.append(
                {
                    "math": _inline(symbol_mathml(INDEX[axis])),
                    "meaning": f"runs over {RUNS_OVER[axis]}",
                    "axis": axis,
                }
            )
    if all(symbol["meaning"] == "column of the table" for symbol in found):
        return []
    return found


def _inline(content: str) -> Markup:
    return Markup(f"<math>{content}</math>")


def _front(run: Run, names: Mapping[str, str], decimals: int) -> tuple[Markup, int]:
    """Return the plot of the front, and how many baselines lie below it."""

    def choice(one: Formula) -> Choice:
        scores = {part: one.reports[part][run.metric] for part in PARTS}
        title = f"{one.dag.size} nodes" if one.front else one.name
        return Choice(names[one.name], title, float(one.dag.size), scores, one.best)

    loss = _on_losses(run)
    metric = NAMES.get(run.metric, run.metric)
    return front_plot(
        [choice(one) for one in run.front],
        [choice(one) for one in run.baselines],
        x_label="nodes",
        y_label=f"1 − {metric}, logarithmic, better upwards" if loss else metric,
        name=f"Front: {metric} against number of nodes",
        loss=loss,
        decimals=decimals,
    )


def far_sentence(below: int, unscored: int) -> str:
    """Say which of what the front is compared with are not drawn; nothing if all are."""
    counts = ((below, "lies", "lie", "below the plot"), (unscored, "has", "have", "no validation score"))
    parts = [f"{n} of them {one if n == 1 else many} {what}" for n, one, many, what in counts if n]
    return f"{', '.join(parts)}." if parts else ""


def _on_losses(run: Run) -> bool:
    """Whether the scores are so near to 1 that only a logarithm of what is missing tells them apart."""
    values = [v for one in run.front if (v := one.reports["train"][run.metric]) is not None]
    return run.metric == "r2" and max(values, default=0.0) > 0.98


def _dots(run: Run) -> list[int] | None:
    """Return which rows are drawn, evenly spaced in every part; None if there are no scores."""
    if run.scores is None:
        return None
    n = len(run.scores.rows)
    if n <= MOST_DOTS:
        return list(range(n))
    chosen: list[int] = []
    for part in PARTS:
        members = [k for k, p in enumerate(run.scores.parts) if p == part]
        count = max(min(len(members), LEAST_DOTS), len(members) * MOST_DOTS // n)
        chosen += [members[int(i * len(members) / count)] for i in range(count)]
    return chosen


def _rows_note(run: Run, dots: Sequence[int] | None) -> str:
    total = sum(int(run.result["problem"]["rows"][part]) for part in PARTS)
    if dots is None or len(dots) == total:
        return ""
    return f"{len(dots):,} of {total:,} rows are drawn."


def _row_table(run: Run, dots: Sequence[int] | None) -> dict[str, Any] | None:
    """Return the numbers of the scatter plots."""
    if dots is None or run.scores is None:
        return None
    titles = [f"{one.dag.size} nodes" if one.front else one.name for one in run.formulas]
    rows = [
        [
            run.scores.rows[k],
            run.scores.parts[k],
            _short(run.scores.target[k]),
            *(_short(run.scores.values[one.name][k]) for one in run.formulas),
        ]
        for k in dots
    ]
    total = sum(int(run.result["problem"]["rows"][part]) for part in PARTS)
    shown = f"all {total:,} rows" if len(dots) == total else f"{len(dots):,} of {total:,} rows"
    return {"names": titles, "rows": rows, "shown": shown}


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"  # a hyphen: thousands of them
