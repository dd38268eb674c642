"""One network for the template: its drawing with the table of its steps, and what training made of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from proxygraph.errors import ConfigError
from proxygraph.report.svg import tag
from segspace.report.archs import KINDS, arch_markup, drawing, kind_of, name_of, node_of
from segspace.report.figures import bar
from segspace.report.trained import RGB, Trained
from segspace.rtseg.arch import Arch
from segspace.rtseg.program import Program, program
from segspace.search.results import Results


def drawn(arch: str, results: Results) -> dict[str, Any] | None:
    """Return drawing, key and steps of a network; None for one of another space."""
    try:
        network = Arch.parse(arch)
    except ConfigError:
        return None
    steps = program(network, results.size, results.classes)
    times = _times(arch, steps, results)
    total = sum(times) if times is not None else 0.0
    shares = [ms / total for ms in times] if times is not None else None
    layout = drawing(network, steps, shares)
    kinds = {kind_of(step) for step in steps.steps}
    rows = []
    for k, step in enumerate(steps.steps):
        piece = step.piece
        rows.append(
            {
                "node": node_of(step),
                "name": step.name,
                "op": piece.op,
                "channels": f"{'+'.join(map(str, piece.c_in))} → {piece.c_out}",
                "size": f"{piece.out[0]}×{piece.out[1]}" if piece.op != "resize" else _image(results),
                "macs": f"{piece.macs / 1e6:,.2f}",
                "ms": "" if times is None else f"{times[k]:.3f}",
                "share": "" if times is None else f"{100 * times[k] / total:.1f}",
            }
        )
    return {
        "svg": arch_markup(layout, f"{name_of(arch)}; as a table below"),
        "key": [(kind, words) for kind, (_, words) in KINDS.items() if kind in kinds],
        "rows": rows,
        "timed": times is not None,
    }


def _times(arch: str, steps: Program, results: Results) -> list[float] | None:
    """Return ms of the steps by the latency table; None if the search did not keep them.

    A piece that takes less than its measurement spreads by can come out below zero.
    """
    known = {share.name: share.ms for share in results.shares.get(arch, ())}
    if not all(step.name in known for step in steps.steps):
        return None
    times = [max(0.0, known[step.name]) for step in steps.steps]
    return times if sum(times) > 0 else None


def seen(run: Trained, results: Results) -> dict[str, Any]:
    """Return what the page shows of a trained network beside its class table."""
    there = [name for name, iou in run.class_iou.items() if iou is not None]
    return {
        "path": str(run.path),
        "miou": f"{run.miou:.2f}",
        "protocol": run.protocol,
        "unfinished": unfinished(run),
        "pictures": run.pictures,
        "key": [(swatch(run.palette[name]), name) for name in there if name in run.palette],
        "size": other_size(run, results),
        "evaluate": _evaluate_command(run),
    }


def _evaluate_command(run: Trained) -> str:
    """Return the command that makes pictures; nothing if the run or its data is not known."""
    if run.run is None or not run.data:
        return ""
    return f"python -m segspace.evaluate {shlex.quote(str(run.run))} --data {shlex.quote(run.data)}"


def other_size(run: Trained, results: Results) -> str:
    """Say at which size a network saw pictures; nothing if it is that of the search, of which latency is."""
    return "" if run.size == results.size else f"seen at {run.size[0]}×{run.size[1]}"


def unfinished(run: Trained) -> str:
    """Say that a network was judged before its training ended; nothing if it was not."""
    return "" if run.unfinished is None else "after step {:,} of {:,}".format(*run.unfinished)


def swatch(colour: RGB) -> Markup:
    """Return a small square; the page's policy allows no colour in a style attribute."""
    square = tag("rect", width=12, height=12, rx=2, fill="rgb({},{},{})".format(*colour))
    return tag("svg", square, viewBox="0 0 12 12", aria_hidden="true")


def table_of_classes(runs: Sequence[tuple[str, Trained]]) -> dict[str, Any] | None:
    """Return IoU by class and trained network; None if there are none."""
    if not runs:
        return None
    classes = list(dict.fromkeys(name for _, run in runs for name in run.class_iou))
    rows = []
    for name in classes:
        colours = [run.palette[name] for _, run in runs if name in run.palette]
        cells = [run.class_iou.get(name) for _, run in runs]
        rows.append(
            (
                swatch(colours[0]) if colours else "",
                name,
                [("–" if iou is None else f"{iou:.1f}", "" if iou is None else bar(iou)) for iou in cells],
            )
        )
    return {"names": [(arch, str(run.path)) for arch, run in runs], "rows": rows}


def _image(results: Results) -> str:
    return f"{results.size[0]}×{results.size[1]}"
