"""SVG elements, scales and the frame of a plot.

Plots are drawn about as wide as a phone, so that their text stays readable when the page is narrow; colours
come from the page's style sheet by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 440.0
"""Width of a plot in its own units, which are pixels on a narrow screen."""
LETTER: Final = 7.2
"""Width of a character of the labels, on the safe side."""
_FARTHEST: Final = 1e300
"""Values beyond are drawn here: differences and margins of them must not overflow."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; text is escaped, ``_`` in names of attributes is ``-``, None leaves one out.

    Examples
    --------
    >>> print(tag("text", "a < b", x=1.0, class_="label", aria_hidden="true"))
    <text x="1" class="label" aria-hidden="true">a &lt; b</text>
    """
    shown = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), shown, Markup("").join(map(escape, children)))


def _value(value: object) -> object:
    return short(value) if isinstance(value, float) else value


def short(value: float) -> str:
    """Return a coordinate with at most one decimal."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def number(value: float | None, decimals: int = 3) -> str:
    """Return a number for people: a real minus sign, powers of ten from 10,000, a dash where undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1e4:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return f"{value:,.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """From data to the page, linear or logarithmic.

    Attributes
    ----------
    low, high : float
        Of the data; above 0 if `log`.
    start, end : float
        On the page.
    log : bool
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        value = min(max(value, 1 / _FARTHEST if self.log else -_FARTHEST), _FARTHEST)
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values inside, at most about so many."""
        low, high = sorted((self.low, self.high))
        if self.log:
            first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
            every = max(1, math.ceil((last - first + 1) / most))
            if last - first < 2:  # few powers of ten: twos and fives between them
                near = [m * 10.0**k for k in range(first - 1, last + 1) for m in range(1, 10)]
                inside = [v for v in near if low <= v <= high]
                rounder = [v for v in inside if f"{v:e}"[0] in "125"]
                return rounder if len(rounder) > 1 else inside
            return [10.0**k for k in range(first, last + 1, every)]
        span = high - low
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= most)
        return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, *, margin: float = 0.06, log: bool = False
    ) -> Scale:
        """Return a scale that holds the values and some room; one that means something if all are equal."""
        least = 1 / _FARTHEST if log else -_FARTHEST
        finite = [min(max(v, least), _FARTHEST) for v in values if math.isfinite(v)]
        if log and finite:
            low, high = math.log10(min(finite)), math.log10(max(finite))
            room = max(margin * (high - low), 0.15)
            farthest = math.log10(_FARTHEST) + 1.0
            low, high = max(low - room, -farthest), min(high + room, farthest)
            return cls(10**low, 10**high, start, end, log=True)
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if high - low <= max(1e-12 * max(abs(low), abs(high)), 1 / _FARTHEST):  # no ticks fit between them
            low = high = (low + high) / 2 if max(abs(low), abs(high)) > 1 / _FARTHEST else 0.0
        room = margin * (high - low) or 0.5 * abs(high) or 1.0
        return cls(low - room, high + room, start, end)


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """Return the label of a tick, as exact as the distance of ticks asks for."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(value) or 1.0
    size = max(abs(ticks[0]), abs(ticks[-1]))
    if size >= 1e6 or (0 < size < 1e-3):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return "0" if value == 0 else f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(value) < step * 1e-6:
        value = 0.0
    return f"{value:,.{decimals}f}".replace("-", "−")


def log_text(value: float) -> str:
    """Return the label of a tick of a logarithmic scale."""
    power = round(math.log10(value))
    if -3 <= power <= 3 or not math.isclose(value, 10.0**power):
        return f"{value:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


@dataclass(frozen=True)
class Frame:
    """The axes of a plot."""

    x: Scale
    y: Scale
    height: float
    width: float = WIDTH

    @property
    def left(self) -> float:
        """Where the plotting area begins."""
        return self.x.start

    @property
    def bottom(self) -> float:
        """Where the plotting area ends."""
        return self.y.start

    def axes(
        self,
        x_label: str,
        y_label: str,
        *,
        x_ticks: Sequence[float] | None = None,
        x_text: Callable[[float], str] | None = None,
        y_text: Callable[[float], str] | None = None,
    ) -> Markup:
        """Return grid lines, labels of ticks and names of axes; the name of y stands above it, level."""
        xs = self.x.ticks() if x_ticks is None else list(x_ticks)
        ys = self.y.ticks()
        x_text = x_text or (log_text if self.x.log else lambda v: tick_text(v, xs))
        y_text = y_text or (log_text if self.y.log else lambda v: tick_text(v, ys))
        marks = []
        for v in ys:
            y = self.y(v)
            marks.append(tag("line", x1=self.left, x2=self.x.end, y1=y, y2=y, class_="grid"))
            marks.append(tag("text", y_text(v), x=self.left - 8, y=y + 4, class_="tick end"))
        for v in xs:
            x = self.x(v)
            marks.append(tag("line", x1=x, x2=x, y1=self.bottom, y2=self.bottom + 4, class_="mark"))
            marks.append(tag("text", x_text(v), x=x, y=self.bottom + 19, class_="tick middle"))
        base = tag("line", x1=self.left, x2=self.x.end, y1=self.bottom, y2=self.bottom, class_="base")
        names = (
            tag("text", y_label, x=2.0, y=14.0, class_="axis-name"),
            tag("text", x_label, x=self.x.end, y=self.height - 4, class_="axis-name end"),
        )
        return tag("g", *marks, base, *names, aria_hidden="true")

    def svg(
        self, *children: object, name: str, class_: str = "plot", role: str = "img", **attributes: str
    ) -> Markup:
        """Return the whole plot, named for screen readers."""
        return tag(
            "svg",
            *children,
            viewBox=f"0 0 {short(self.width)} {short(self.height)}",
            role=role,
            aria_label=name,
            class_=class_,
            **attributes,
        )


def frame(
    x: Callable[[float, float], Scale],
    y: Callable[[float, float], Scale],
    *,
    height: float = 320.0,
    right: float = 14.0,
) -> Frame:
    """Return a frame with room for the labels of ticks; `x` and `y` make scales of start and end."""
    up = y(height - 46.0, 30.0)
    ticks = up.ticks()
    text = [log_text(v) if up.log else tick_text(v, ticks) for v in ticks]
    left = 14.0 + LETTER * max(map(len, text), default=1)
    return Frame(x(left, WIDTH - right), up, height)


def apart(wishes: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places for labels, near their wishes, at least `gap` apart, and inside where there is room."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    order = np.argsort(wishes, kind="stable")
    steps = gap * np.arange(len(order))
    places = isotonic_regression(np.asarray(wishes, float)[order] - steps).x
    places = np.clip(places, low, max(low, high - gap * (len(order) - 1))) + steps
    out = np.empty(len(order))
    out[order] = places
    return [float(v) for v in out]
