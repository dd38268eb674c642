"""Numbers that people write in formulas, and which of them are near a given number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CLOSE: Final = 1e-5
"""Less usual numbers must be as close as this, or one of them is near any number by chance."""


@dataclass(frozen=True)
class _Family:
    """Multiples of ``unit / parts``, up to a number of units."""

    unit: float
    parts: tuple[int, ...]
    most: float

    def near(self, c: float) -> Iterator[float]:
        """Yield the members next to a number, below and above, simplest divisor first."""
        for d in self.parts:
            x = c / self.unit * d
            if abs(x) <= self.most * d:
                for n in (math.floor(x), math.ceil(x)):
                    if n:
                        yield n * self.unit / d


_PLAIN: Final = (
    _Family(1.0, (1,), 1e15),
    _Family(1.0, (2, 3, 4), 100.0),
    _Family(math.pi, (1, 2), 4.0),
    _Family(math.e, (1,), 1.0),
    _Family(math.sqrt(2.0), (1, 2), 1.0),
)
_RARE: Final = (
    *(
        _Family(unit, (1, 2, 3, 4, 6, 8), 8.0)
        for unit in (
            math.pi,
            1.0 / math.pi,
            math.pi**2,
            math.e,
            1.0 / math.e,
            math.sqrt(2.0),
            math.sqrt(3.0),
            math.sqrt(5.0),
            math.sqrt(math.pi),
            1.0 / math.sqrt(math.pi),
            1.0 / math.sqrt(2.0 * math.pi),
            math.log(2.0),
        )
    ),
    _Family(1.0, (5, 6, 7, 8, 9, 12, 16), 8.0),
)


def simple_numbers(c: float) -> list[float]:
    """Return simple numbers near `c`, the simplest first.

    0 and 1 and -1 where they are near; a power of ten; integers; halves, thirds and quarters; multiples of
    pi/2; e, sqrt(2) and half of it; numbers of one, two, three digits; and, where they differ by less than a
    part in 1e5, other small multiples of these, of 1/pi, pi², 1/e, sqrt(3), sqrt(5), sqrt(pi), 1/sqrt(pi),
    1/sqrt(2*pi), log(2), and fractions of small numbers.

    Examples
    --------
    >>> simple_numbers(6.2831853)[:3]
    [6.0, 7.0, 6.5]
    >>> 2.0 * math.pi in simple_numbers(6.2831853), 2.0 * math.pi in simple_numbers(6.2)
    (True)
    """
    if c == 0.0 or not math.isfinite(c):
        return [0.0] if c == 0.0 else []
    found: list[float] = [0.0] if abs(c) < 1.0 else []
    found += [float(s) for s in (1, -1) if abs(c - s) < 0.5]
    found.append(math.copysign(float(f"1e{round(math.log10(abs(c)))}"), c))
    for family in _PLAIN:
        found += family.near(c)
    found += [float(f"{c:.{digits}e}") for digits in range(3)]
    for family in _RARE:
        found += [s for s in family.near(c) if abs(s - c) <= CLOSE * abs(c)]
    return list(dict.fromkeys(found))


def is_simple(c: float) -> bool:
    """Whether a constant is one of the simple numbers, exactly."""
    return c in simple_numbers(c)
