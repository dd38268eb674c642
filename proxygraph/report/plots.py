"""The figures of a report but for the graph: choices, scatter, lines. They know numbers and names, no runs.

What can be chosen is a link to what it stands for; the page's script makes them one group that arrow keys go
through. Parts of the split differ by shape and weight, not by colour: colour means axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from markupsafe import Markup

from proxygraph.report.svg import LETTER, WIDTH, Frame, Scale, apart, frame, number, short, tag

LEAST_LOSS: Final = 1e-15
"""1 - R² below this has no digits left; exact formulas are drawn there."""
PARTS: Final = ("train", "validation", "test")


@dataclass(frozen=True)
class Choice:
    """One thing to choose in a plot.

    Attributes
    ----------
    id : str
        Of the element that it stands for.
    name : str
    x : float
    y : mapping of str to float or None
        One value per part of the split.
    best : bool
    """

    id: str
    name: str
    x: float
    y: Mapping[str, float | None]
    best: bool = False


def front_plot(
    choices: Sequence[Choice],
    others: Sequence[Choice],
    *,
    x_label: str,
    y_label: str,
    name: str,
    loss: bool = False,
    decimals: int = 3,
) -> tuple[Markup, int]:
    """Return score against size (or another cost), and how many of the scored `others` lie too low for it.

    Parameters
    ----------
    choices : sequence of Choice
        By ascending x; their train, validation and test are drawn, and each can be chosen.
    others : sequence of Choice
        What they are compared with, drawn as crosses at their validation scores.
    x_label, y_label, name : str
    loss : bool
        Draw 1 - y on a logarithmic axis that points down: for scores near 1.
    decimals : int
        Of numbers in words.
    """

    def height(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return max(1.0 - value, LEAST_LOSS) if loss else value

    trained = [v for one in choices if (v := height(one.y["train"])) is not None] or [1.0]
    worst = 10.0 * max(trained) if loss else min(trained) - 0.5 * (max(trained) - min(trained) or 0.2)

    def clamped(value: float | None) -> float | None:
        """Return the height, not far below the training scores: one wild number squeezes no others."""
        at = height(value)
        return at if at is None else min(at, worst) if loss else max(at, worst)

    near = [
        (one, v)
        for one in others
        if (v := height(one.y["validation"])) is not None and (v < worst if loss else v > worst)
    ]
    heights = [v for one in choices for part in PARTS if (v := clamped(one.y[part])) is not None]
    heights += [v for _, v in near] or trained
    xs = [one.x for one in (*choices, *(other for other, _ in near))]

    def up(start: float, end: float) -> Scale:
        if loss:
            scale = Scale.around(heights, start, end, log=True)
            return Scale(scale.high, scale.low, start, end, log=True)
        return Scale.around(heights, start, end, margin=0.08)

    plot = frame(lambda start, end: Scale(min(xs) - 1.0, max(xs) + 1.0, start, end), up, height=330.0)
    marks: list[Markup] = [_crosses(near, plot, decimals)]
    for part in PARTS[:2]:
        line = [(plot.x(one.x), plot.y(v)) for one in choices if (v := clamped(one.y[part])) is not None]
        marks.append(tag("path", d=_path(line), class_=f"line {part}"))
    places = [plot.x(one.x) for one in choices]
    for one, left, right in zip(choices, *_bands(places), strict=True):
        points = {part: plot.y(v) for part in PARTS if (v := clamped(one.y[part])) is not None}
        marks.append(_pick(one, plot, left, right, points, decimals))
    ticks = sorted({one.x for one in choices})
    closest = min((b - a for a, b in pairwise(ticks)), default=1.0)
    crowded = plot.x(closest) - plot.x(0.0) < 18.0
    axes = plot.axes(x_label, y_label, x_ticks=None if crowded else ticks)
    drawn = plot.svg(axes, *marks, name=name, class_="plot picks", role="group")
    return drawn, sum(height(one.y["validation"]) is not None for one in others) - len(near)


def _bands(places: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return where the band of each place begins and ends: half way to the neighbours, 32 wide at most."""
    halves = [(a + b) / 2 for a, b in pairwise(places)]
    return (
        [max(left, x - 16.0) for x, left in zip(places, [-math.inf, *halves], strict=True)],
        [min(right, x + 16.0) for x, right in zip(places, [*halves, math.inf], strict=True)],
    )


def _crosses(others: Sequence[tuple[Choice, float]], plot: Frame, decimals: int) -> Markup:
    """Return a cross for everything that is compared with; the first, which is the best, has its name."""
    marks = []
    for k, (one, height) in enumerate(others):
        x, y = plot.x(one.x), plot.y(height)
        cross = tag("path", d=f"M{short(x - 3.5)} {short(y - 3.5)}l7 7m0-7l-7 7", class_="cross")
        words = tag("title", f"{one.name}: validation {number(one.y['validation'], decimals)}")
        label = tag("text", one.name, x=x + 7, y=y + 4, class_="tick") if k == 0 else ""
        marks.append(tag("g", words, cross, label, data_mark=one.id))
    return tag("g", *marks, aria_hidden="true")


def _pick(
    one: Choice, plot: Frame, left: float, right: float, points: Mapping[str, float], decimals: int
) -> Markup:
    """Return a choice: its marks above a band that can be pointed at."""
    x, top = plot.x(one.x), plot.y.end - 8
    band = tag("rect", x=left, y=top, width=right - left, height=plot.bottom - top, rx=4.0, class_="band")
    drawing = {"train": _ring, "test": _diamond, "validation": _disc}
    marks = [draw(x, points[part]) for part, draw in drawing.items() if part in points]
    words = ", ".join(f"{part} {number(one.y[part], decimals)}" for part in PARTS)
    words = f"{one.name}{' (best)' if one.best else ''}: {words}"
    return tag("a", band, *marks, href=f"#{one.id}", data_pick=one.id, aria_label=words, class_="pick")


def _ring(x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=3.5, class_="dot train")


def _disc(x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=4.5, class_="dot validation")


def _diamond(x: float, y: float) -> Markup:
    return tag("path", d=f"M{short(x)} {short(y - 5)}l5 5-5 5-5-5z", class_="dot test")


def _path(points: Sequence[tuple[float, float]]) -> str:
    drawn = [f"{short(x)} {short(y)}" for x, y in points if math.isfinite(y)]
    return "M" + "L".join(drawn) if drawn else ""


# ---- scatter -----------------------------------------------------------------------------------------------

Kind = Literal["values", "ranks"]
_MARKS: Final[Mapping[str, str]] = {"train": "h0", "validation": "m-2.5 0h5m-2.5-2.5v5", "test": "h0"}


def scatter(
    values: Sequence[float],
    target: Sequence[float],
    parts: Sequence[str],
    *,
    id: str,
    x_label: str,
    y_label: str,
    name: str,
    fit: bool,
) -> Markup:
    """Return values against targets; each row is a dot (train, test) or a plus (validation).

    Predictions (`fit`) share the axis of the target and have the line of equality; of scores only the order
    counts, and where a few of them would squeeze all others into a corner their ranks are drawn instead.
    Rows without a value are left out.
    """
    ok = [k for k, v in enumerate(values) if math.isfinite(v)]
    shown = [values[k] for k in ok]
    ranked = not fit and _squeezed(shown)
    if ranked:
        order = {v: k + 1 for k, v in enumerate(sorted(set(shown)))}
        shown = [float(order[v]) for v in shown]
    wanted = [target[k] for k in ok]
    both = [*target, *_tamed(shown, target)] if fit else [*target]
    plot = frame(
        lambda start, end: Scale.around(both if fit else shown, start, end),
        lambda start, end: Scale.around(both, start, end),
        height=340.0,
    )
    marks: list[Markup] = []
    if fit:
        low, high = plot.y.low, plot.y.high
        ends = [(plot.x(low), plot.y(low)), (plot.x(high), plot.y(high))]
        marks.append(tag("path", d=_path(ends), class_="equal"))
    groups = []
    for part in PARTS:
        places = [
            f"M{short(min(max(plot.x(x), plot.left), plot.x.end))} {short(plot.y(y))}{_MARKS[part]}"
            for k, x, y in zip(ok, shown, wanted, strict=True)
            if parts[k] == part
        ]
        groups.append(tag("path", d="".join(places), class_=f"rows {part}"))
    dots = tag("g", *groups, id=f"dots-{id}")
    label = f"{x_label}, as ranks" if ranked else x_label
    return plot.svg(plot.axes(label, y_label), *marks, dots, name=name, class_="plot scatter")


def _squeezed(values: Sequence[float]) -> bool:
    """Whether the middle nine tenths of the values fill less than a quarter of their range."""
    ordered = sorted(values)
    if len(ordered) < 3 or ordered[0] == ordered[-1]:
        return False
    cut = len(ordered) // 20
    return ordered[-1 - cut] - ordered[cut] < 0.25 * (ordered[-1] - ordered[0])


def _tamed(values: Sequence[float], target: Sequence[float]) -> list[float]:
    """Return predictions not far outside the targets: a few wild ones are drawn at the edge."""
    low, high = min(target), max(target)
    room = 0.5 * (high - low)
    return [min(max(v, low - room), high + room) for v in values]


def thumbnail(id: str, height: float = 340.0) -> Markup:
    """Return the dots of a scatter plot again, small and without axes."""
    use = tag("use", href=f"#dots-{id}")
    return tag(
        "svg",
        use,
        viewBox=f"40 22 {short(WIDTH - 44)} {short(height - 60)}",
        aria_hidden="true",
        class_="thumbnail",
    )


# ---- lines -------------------------------------------------------------------------------------------------


def line_plot(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    name: str,
    steps: bool = False,
    from_zero: bool = False,
    whole: bool = False,
) -> Markup:
    """Return lines over a common x (`whole` numbers or not), each with its name at its end."""
    ends = [line[-1] for line in lines.values()]
    every = [v for line in lines.values() for v in line] + ([0.0] if from_zero else [])
    room = 14.0 + (LETTER * max(map(len, lines)) if len(lines) > 1 else 0.0)

    def up(start: float, end: float) -> Scale:
        scale = Scale.around(every, start, end)
        return Scale(0.0, scale.high, start, end) if from_zero else scale

    low, high = min(x), max(x)
    plot = frame(
        lambda start, end: Scale(low, high if high > low else low + 1.0, start, end),
        up,
        height=280.0,
        right=room,
    )
    marks = []
    for k, line in enumerate(lines.values()):
        points = [(plot.x(a), plot.y(b)) for a, b in zip(x, line, strict=True)]
        if steps:
            points = [
                p
                for (a, b), (c, _) in zip(points, points[1:] or points, strict=False)
                for p in ((a, b), (c, b))
            ] + points[-1:]
        marks.append(tag("path", d=_path(points), class_=f"line l{k}"))
    if len(lines) > 1:
        places = apart([plot.y(v) for v in ends], 15.0, plot.y.end, plot.bottom)
        marks += [
            tag("text", label, x=plot.x.end + 6, y=place + 4, class_=f"tick label l{k}")
            for k, (label, place) in enumerate(zip(lines, places, strict=True))
        ]
    ticks = [v for v in plot.x.ticks() if not whole or v.is_integer()]
    return plot.svg(plot.axes(x_label, y_label, x_ticks=ticks), *marks, name=name)


def sparkline(x: Sequence[float], y: Sequence[float | None], low: float, high: float, most: float) -> Markup:
    """Return a small line on given ranges, so that several can be compared."""
    across = Scale(0.0, most, 4.0, 116.0)
    up = Scale(low, high if high > low else low + max(1.0, abs(low)), 30.0, 4.0)
    points = [(across(a), up(b)) for a, b in zip(x, y, strict=True) if b is not None]
    ends = tag("circle", cx=points[-1][0], cy=points[-1][1], r=2.5, class_="dot validation") if points else ""
    return tag(
        "svg",
        tag("path", d=_path(points), class_="line validation"),
        ends,
        viewBox="0 0 120 34",
        class_="spark",
        aria_hidden="true",
    )
