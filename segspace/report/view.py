"""From a search, measurements and trained networks to what the template shows; nothing left to compute."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from proxygraph.errors import ProxyGraphError
from proxygraph.infix import parse
from proxygraph.mathml import mathml_lines
from proxygraph.rank import rank_report
from proxygraph.report.history import environment, settings
from proxygraph.report.page import asset, page
from proxygraph.report.plots import line_plot
from proxygraph.report.svg import number
from proxygraph.scores import Scores
from proxygraph.zoo import ZOO
from segspace.latency.table import Record
from segspace.report.figures import Dot, agreement_figure, front_figure, score_text
from segspace.report.measured import Measured
from segspace.report.networks import drawn, other_size, seen, table_of_classes, unfinished
from segspace.report.trained import Trained
from segspace.search.results import Results
from segspace.search.study import Candidate

PACKAGE: Final = "segspace.report"
RUN: Final = "r0"
MOST_ROWS: Final = 3000
"""Candidates that are drawn and listed; of more, evenly many."""
MOST_POINTS: Final = 200
LONGEST_NAME: Final = 40


@dataclass(frozen=True)
class Network:
    """A network that has an article: on the front, or trained."""

    id: str
    arch: str
    candidate: Candidate | None
    on_front: bool
    chosen: bool
    record: Record | None
    trained: tuple[Trained, ...]


def study_page(results: Results, measured: Measured | None, trained: Sequence[Trained]) -> str:
    """Return the page of a search."""
    networks = _networks(results, measured, trained)
    shown = [_network(one, results, f"runs/found-{k}") for k, one in enumerate(networks, start=1)]
    ids = {one.arch: one.id for one in networks}
    rows = _thinned([one for one in results.candidates if one.score is not None])
    proxy, formula = _proxy(results)
    title = f"{results.result['settings']['space']} by {proxy}"
    return page(
        "study.html",
        PACKAGE,
        style=asset("arch.css", PACKAGE) + asset("study.css", PACKAGE),
        pictures=True,
        title=f"{title} · segspace report",
        heading=title,
        version=version("proxygraph"),
        run=RUN,
        name=results.path.resolve().name,
        sentence=_sentence(results, proxy),
        facts=_facts(results),
        front_plot=_front(results, ids, rows, proxy) if rows else "",
        front=[one for one, network in zip(shown, networks, strict=True) if network.on_front],
        networks=shown,
        any_trained=bool(trained),
        candidates=_candidate_rows(rows, ids),
        candidates_shown=_count_shown(len(rows), results),
        formula=formula,
        infix=results.result["proxy"]["infix"],
        agreement=_agreement(results, measured, networks),
        measure_command=f"python -m segspace.latency measure --study {_path(results)}",
        trained_table=_trained_table(networks, results),
        class_table=table_of_classes([(one.arch, run) for one in networks for run in one.trained]),
        train_command=_train_command(results),
        report_command=f"python -m segspace.report {_path(results)} --trained RUN",
        counts=_counts(results),
        reasons=list(results.result.get("invalid_reasons", {}).items()),
        progress=_progress(results, proxy),
        latency=_latency(results),
        settings=settings(_settings(results)),
        environment=environment(results.result["environment"]),
        data={one["id"]: one["copies"] for one in shown},
    )


def _networks(results: Results, measured: Measured | None, trained: Sequence[Trained]) -> list[Network]:
    """Return the front, cheapest first, then trained networks that are not on it."""
    known = {one.arch: one for one in results.candidates}
    front = [one.arch for one in results.front]
    records = {} if measured is None else measured.records
    archs = dict.fromkeys([*front, *(one.arch for one in trained)])
    chosen = results.chosen
    return [
        Network(
            f"{RUN}-n{k}",
            arch,
            known.get(arch),
            arch in front,
            chosen is not None and arch == chosen.arch,
            records.get(arch),
            tuple(one for one in trained if one.arch == arch),
        )
        for k, arch in enumerate(archs)
    ]


def _network(one: Network, results: Results, out: str) -> dict[str, Any]:
    """Return what the page shows of one network, which is trained into the folder `out`."""
    found = one.candidate
    facts = []
    if found is not None:
        facts = [
            ("predicted latency", f"{_ms(found.cost)} ms"),
            ("score", score_text(found.score)),
            ("multiply-accumulates", f"{found.macs / 1e6:,.1f} M"),
            ("parameters", f"{found.params / 1e3:,.0f} k"),
        ]
    if one.record is not None:
        facts.insert(1, ("measured, 10th to 90th percentile", _spread(one.record)))
    for run in one.trained:
        when = unfinished(run)
        facts.append((f"mIoU, {when}" if when else "mIoU, trained", f"{run.miou:.1f} %"))
    return {
        "id": one.id,
        "arch": one.arch,
        "best": one.chosen,
        "on_front": one.on_front,
        "facts": facts,
        "latency": "–" if found is None else _ms(found.cost),
        "score": score_text(None if found is None else found.score),
        "macs": "–" if found is None else f"{found.macs / 1e6:,.1f}",
        "miou": ", ".join(_miou(run) for run in one.trained) or "–",
        "copies": {
            "text": one.arch,
            "command to train": _train_command(results, one.arch, out),
            **_export_command(one.trained, results),
        },
        "drawn": drawn(one.arch, results),
        "trained": [seen(run, results) for run in one.trained],
    }


def _front(results: Results, ids: Mapping[str, str], rows: Sequence[Candidate], proxy: str) -> Markup:
    dots = []
    for one in results.front:
        best = " (chosen)" if one is results.chosen else ""
        words = f"{one.arch}{best}: {_ms(one.cost)} ms, score {score_text(one.score)}"
        cost, score = one.cost, one.score if one.score is not None else 0.0
        dots.append(Dot(ids[one.arch], words, cost, score, cost, cost, bool(best)))
    return front_figure(
        dots,
        [(one.cost, one.score) for one in rows if one.score is not None],
        budget=results.budget,
        y_label=f"score by {proxy}",
        name="Front: score against predicted latency; the numbers are in the tables",
        rows=f"{RUN}-candidates",
    )


def _agreement(
    results: Results, measured: Measured | None, networks: Sequence[Network]
) -> dict[str, Any] | None:
    """Return predicted against measured latency; None if nothing was measured."""
    if measured is None:
        return None
    predicted = {one.arch: one.cost for one in results.candidates}
    ids = {one.arch: one.id for one in networks}
    dots, others, rows = [], [], []
    for arch, record in measured.records.items():
        ms = predicted.get(arch)
        error = "–" if ms is None else f"{100 * (ms / record.p10 - 1):+.1f}".replace("-", "−")
        low, median, high = (_ms(v) for v in (record.p10, record.median, record.p90))
        rows.append((ids.get(arch, ""), arch, "–" if ms is None else _ms(ms), low, error, median, high))
        if ms is not None and arch not in ids:
            others.append((record.p10, ms))
        elif ms is not None:
            chosen = results.chosen is not None and arch == results.chosen.arch
            words = f"{arch}: predicted {_ms(ms)} ms, measured {_ms(record.p10)} ms"
            dots.append(Dot(ids[arch], words, record.p10, ms, record.p10, record.p90, chosen))
    return {
        "plot": agreement_figure(
            dots, others, name="Predicted against measured latency; the numbers are in the table beside it"
        )
        if dots or others
        else "",
        "others": bool(others),
        "sentence": _error_sentence([*((one.y, one.x) for one in dots), *((y, x) for x, y in others)]),
        "difference": measured.difference,
        "setting": str(measured.setting),
        "rows": rows,
    }


def _error_sentence(pairs: Sequence[tuple[float, float]]) -> str:
    """Say how far predictions are from measurements."""
    if not pairs:
        return "None of the networks of this search is among those that were measured."
    predicted, measured = np.array(pairs).T
    errors = 100 * np.abs(predicted / measured - 1)
    text = f"{len(pairs)} networks: the prediction is off by {errors.mean():.1f} % on average"
    if len(pairs) < 3:
        return f"{text}."
    tau = rank_report(Scores.of(predicted.tolist()), measured).tau_b
    order = "" if tau is None else f"; Kendall's τ of the order is {number(tau, 2)}"  # None: all are equal
    return f"{text}, by {errors.max():.1f} % at most{order}."


def _trained_table(networks: Sequence[Network], results: Results) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "arch": one.arch,
            "path": str(run.path),
            "miou": f"{run.miou:.2f}",
            "accuracy": f"{run.accuracy:.2f}",
            "latency": "–" if one.candidate is None else _ms(one.candidate.cost),
            "measured": "–" if one.record is None else _ms(one.record.p10),
            "about": [words for words in (unfinished(run), other_size(run, results)) if words],
        }
        for one in networks
        for run in one.trained
    ]


# ---- sentences and tables of the whole ---------------------------------------------------------------------


def _proxy(results: Results) -> tuple[str, list[Markup]]:
    """Return a name for the proxy, and the formula set, nothing if it has operators of the user's."""
    found = results.result["proxy"]
    names = [name for name, one in ZOO.items() if one.dag.key == found.get("key")]
    infix = str(found["infix"])
    name = names[0] if names else infix if len(infix) <= LONGEST_NAME else "a formula"
    try:
        return name, [Markup(line) for line in mathml_lines(parse(infix), 4)]
    except ProxyGraphError:
        return name, []


def _sentence(results: Results, proxy: str) -> str:
    """Say the result."""
    counts, best = results.result["counts"], results.chosen
    within = "" if results.budget is None else f" within {results.budget:g} ms"
    if best is None:
        return f"None of {counts['candidates']:,} networks{within} has a score."
    return (
        f"Of {counts['candidates']:,} untrained networks{within}, {best.arch} has the best score by {proxy}: "
        f"{_ms(best.cost)} ms predicted, {best.macs / 1e6:,.1f} M multiply-accumulates, "
        f"{best.params / 1e3:,.0f} k parameters."
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    found, setting = results.result, results.setting
    where = "" if setting is None else f"{setting.runtime} on {setting.device}"
    facts = [
        ("images", _size(results).replace("x", "×")),
        ("classes", str(results.classes)),
        ("latency of", where),
        ("budget", "none" if results.budget is None else f"{results.budget:g} ms"),
        ("networks scored", f"{_n_scored(results):,}"),
        ("on the front", f"{len(results.front):,}"),
        ("sampler", str(found["settings"]["sampler"])),
        ("seed", str(found["settings"]["seed"])),
    ]
    return [(label, value) for label, value in facts if value]


def _n_scored(results: Results) -> int:
    """Return how many networks have a score: a proxy may have no finite value."""
    return sum(one.score is not None for one in results.candidates)


def _counts(results: Results) -> list[tuple[str, str, str]]:
    """Return what became of the networks that were proposed: what, how many, what that means."""
    counts = {name: int(results.result["counts"][name]) for name in _MEANINGS}
    proposed = sum(counts.values())
    rows = [("proposed", f"{proposed:,}", "drawn by the sampler")]
    scored = _n_scored(results)
    rows.append(("scored", f"{scored:,}", "have a score, and a predicted latency within the budget"))
    rows.append(("invalid", f"{counts['candidates'] - scored:,}", "the proxy has no finite value"))
    rows += [
        (name.replace("_", " "), f"{counts[name]:,}", meaning)
        for name, meaning in _MEANINGS.items()
        if meaning
    ]
    return rows


_MEANINGS: Final = {
    "candidates": "",
    "duplicate": "known already, drawn again",
    "over_budget": "slower than the budget, drawn again",
    "unmeasured": "with a piece that the latency table lacks, drawn again",
}


def _progress(results: Results, proxy: str) -> Markup | str:
    """Return the best score after every candidate."""
    best, points = -np.inf, []
    for k, one in enumerate(results.candidates, start=1):
        if one.score is not None and one.score > best:
            best = one.score
            points.append((k, best))
    if not points:
        return ""
    if points[-1][0] < len(results.candidates):
        points.append((len(results.candidates), best))
    points = [*points[: -1 : -(-len(points) // MOST_POINTS)], points[-1]]
    return line_plot(
        [k for k, _ in points],
        {"best": [v for _, v in points]},
        x_label="networks, with a score or without",
        y_label=f"best score by {proxy}",
        name="Best score over the networks in their order; the numbers are in the table of candidates",
        steps=True,
        whole=True,
    )


def _latency(results: Results) -> str:
    """Say what latency is of."""
    found = results.result.get("latency")
    if found is None or results.setting is None:
        return str(results.result["settings"]["latency"])
    line = found["calibration"]
    sign = "−" if line["offset"] < 0 else "+"
    return (
        f"{results.setting}; sum of the pieces in {found['table']} × {line['slope']:.3f} "
        f"{sign} {abs(line['offset']):.3f} ms, mean error {line['mape']:.1f} % "
        f"on the {line['n']} networks it was fitted to"
    )


def _settings(results: Results) -> dict[str, Any]:
    """Return the settings but for latency, which has a line of its own, and how the search ended."""
    found = {name: value for name, value in results.result["settings"].items() if name != "latency"}
    return found | {name: results.result[name] for name in ("ended", "seconds")}


def _candidate_rows(rows: Sequence[Candidate], ids: Mapping[str, str]) -> list[tuple[str, ...]]:
    return [
        (
            ids.get(one.arch, ""),
            one.arch,
            _ms(one.cost),
            score_text(one.score),
            f"{one.macs / 1e6:,.1f}",
            f"{one.params / 1e3:,.0f}",
        )
        for one in rows
    ]


def _thinned(found: Sequence[Candidate]) -> list[Candidate]:
    places = np.linspace(0, len(found) - 1, min(len(found), MOST_ROWS)).round().astype(int)
    return [found[i] for i in places.tolist()]


def _count_shown(n: int, results: Results) -> str:
    total = _n_scored(results)
    return (
        f"all {total:,} networks with a score" if n == total else f"{n:,} of {total:,} networks with a score"
    )


def _train_command(results: Results, arch: str = "ARCH", out: str = "runs/found") -> str:
    data = str(results.result["settings"].get("data", ""))
    given = f" --data {shlex.quote(data)}" if ":" in data else ""
    return f"python -m segspace.train {shlex.quote(arch)}{given} --size {_size(results)} --out {out}"


def _export_command(trained: Sequence[Trained], results: Results) -> dict[str, str]:
    """Return the command that exports a trained network; none if it is not known where the training lies."""
    runs = [one.run for one in trained if one.run is not None]
    if not runs:
        return {}
    folder = runs[0] if runs[0].is_dir() else runs[0].parent
    run, onnx = shlex.quote(str(runs[0])), shlex.quote(str(folder / "network.onnx"))
    command = f"python -m segspace.export {run} --size {_size(results)} --onnx {onnx}"
    return {"command to export": command}


def _path(results: Results) -> str:
    return shlex.quote(str(results.path))


def _size(results: Results) -> str:
    return f"{results.size[0]}x{results.size[1]}"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.2f}"


def _miou(run: Trained) -> str:
    return f"{run.miou:.1f}" + (f" ({unfinished(run)})" if run.unfinished else "")


def _spread(record: Record) -> str:
    return f"{_ms(record.p10)} to {_ms(record.p90)} ms"
