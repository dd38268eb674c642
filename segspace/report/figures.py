"""The figures of a search: score over latency, and predicted over measured latency. They know no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from proxygraph.report.svg import LETTER, WIDTH, Frame, Scale, frame, number, short, tag

WIDE_RANGE: Final = 1e3
"""Scores that differ by this factor are drawn on a logarithmic axis, as in ``front.png``."""


@dataclass(frozen=True)
class Dot:
    """A network in a figure.

    Attributes
    ----------
    id : str
        Of the article that it stands for.
    words : str
        What a screen reader says.
    x, y : float
    low, high : float
        Ends of its spread in x; equal to x if it has none.
    chosen : bool
    """

    id: str
    words: str
    x: float
    y: float
    low: float
    high: float
    chosen: bool = False


def front_figure(
    front: Sequence[Dot],
    cloud: Sequence[tuple[float, float]],
    *,
    budget: float | None,
    y_label: str,
    name: str,
    rows: str,
) -> Markup:
    """Return score over latency: all candidates faint, the front linked, the budget, the chosen network.

    Parameters
    ----------
    front : sequence of Dot
        Cheapest first.
    cloud : sequence of (float, float)
        Latency and score of the candidates, in the order of the rows of a table.
    budget : float or None
    y_label, name : str
    rows : str
        Id of that table: what is pointed at is named by it.
    """
    xs = [x for x, _ in cloud] + ([] if budget is None else [budget])
    scores = [y for _, y in cloud]
    log = bool(scores) and min(scores) > 0 and max(scores) > WIDE_RANGE * min(scores)
    plot = frame(
        lambda start, end: Scale.around(xs, start, end),
        lambda start, end: Scale.around(scores, start, end, margin=0.08, log=log),
        height=330.0,
    )
    marks: list[Markup] = []
    if budget is not None:
        x = plot.x(budget)
        label = f"budget {budget:g} ms"
        marks.append(tag("line", x1=x, x2=x, y1=plot.y.end, y2=plot.bottom, class_="budget"))
        near = x + 6 + LETTER * len(label) > WIDTH
        end = "tick end" if near else "tick"
        marks.append(tag("text", label, x=x - 6 if near else x + 6, y=plot.bottom - 6, class_=end))
    places = "".join(f"M{short(plot.x(x))} {short(plot.y(y))}h0" for x, y in cloud)
    marks.append(tag("path", d=places, class_="cloud"))
    marks.append(tag("path", d=_stairs([(plot.x(one.x), plot.y(one.y)) for one in front]), class_="line"))
    for one in front:
        if one.chosen:
            x, y = plot.x(one.x), plot.y(one.y)
            near = x + 12 + LETTER * len("chosen") > WIDTH
            end = "tick end" if near else "tick"
            marks.append(
                tag("text", "chosen", x=x - 12 if near else x + 12, y=y - 8, class_=end, aria_hidden="true")
            )
    marks += [_pick(one, plot) for one in front]
    y_name = f"{y_label}, logarithmic" if log else y_label
    axes = plot.axes("predicted latency, ms", y_name)
    return plot.svg(axes, *marks, name=name, class_="plot picks", role="group", data_cloud=rows)


def agreement_figure(dots: Sequence[Dot], others: Sequence[tuple[float, float]], *, name: str) -> Markup:
    """Return predicted over measured latency (its 10th percentile, whiskers to the 90th) and equality.

    `others` are networks that cannot be chosen: measured, predicted.
    """
    both = [v for one in dots for v in (one.low, one.x, one.y)] + [v for pair in others for v in pair]
    highs = sorted(one.high for one in dots)
    far = highs[len(highs) // 2] if highs else both[0]  # one network in a bad moment squeezes no others
    plot = frame(
        lambda start, end: Scale.around([*both, far], start, end),
        lambda start, end: Scale.around([*both, far], start, end),
        height=340.0,
    )
    low, high = plot.y.low, plot.y.high
    equal = f"M{short(plot.x(low))} {short(plot.y(low))}L{short(plot.x(high))} {short(plot.y(high))}"
    marks = [tag("path", d=equal, class_="equal")]
    for one in dots:
        ends = (plot.x(one.low), min(plot.x(one.high), plot.x.end))
        y = plot.y(one.y)
        marks.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="whisker"))
    crosses = (f"M{short(plot.x(x) - 3.5)} {short(plot.y(y) - 3.5)}l7 7m0-7l-7 7" for x, y in others)
    marks.append(tag("path", d="".join(crosses), class_="cross"))
    marks += [_pick(one, plot) for one in dots]
    axes = plot.axes("measured, ms", "predicted, ms")
    return plot.svg(axes, *marks, name=name, class_="plot picks", role="group")


def bar(share: float) -> Markup:
    """Return a bar for a cell of a table, `share` of 100 % long."""
    full = tag("rect", width=100, height=8, class_="full")
    part = tag("rect", width=max(0.0, min(100.0, share)), height=8, class_="part")
    return tag(
        "svg", full, part, viewBox="0 0 100 8", preserveAspectRatio="none", class_="bar", aria_hidden="true"
    )


def _pick(one: Dot, plot: Frame) -> Markup:
    """Return what stands for a network: a disc, in a larger one that can be pointed at."""
    x, y = plot.x(one.x), plot.y(one.y)
    around = tag("circle", cx=x, cy=y, r=10.0, class_="band")
    shape = _star(x, y) if one.chosen else tag("circle", cx=x, cy=y, r=4.5, class_="dot validation")
    return tag("a", around, shape, href=f"#{one.id}", data_pick=one.id, aria_label=one.words, class_="pick")


def _star(x: float, y: float) -> Markup:
    return tag("path", d=f"M{short(x)} {short(y - 7)}l7 7-7 7-7-7z", class_="dot validation")


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """Return a path that stays level until a better network is cheap enough."""
    if not points:
        return ""
    parts = [f"M{short(points[0][0])} {short(points[0][1])}"]
    parts += [f"H{short(x)}V{short(y)}" for _, (x, y) in pairwise(points)]
    return "".join(parts)


def score_text(value: float | None) -> str:
    """Return a score with five digits: proxies have any scale."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e4 or 0 < size < 1e-3:
        return number(value) if size >= 1e4 else f"{value:.3e}".replace("-", "−")
    decimals = next(d for d, least in ((1, 1e3), (2, 100.0), (3, 10.0), (4, 1.0), (5, 0.0)) if size >= least)
    return number(value, decimals)
