"""Groups whose values lie one after the other: the layers of a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from proxygraph.compact.forest import CODES
from proxygraph.jit import jit

SUM, MEAN, STD, MIN = (CODES[name] for name in ("sum", "mean", "std", "min"))
MAX, L1, L2, COUNT = (CODES[name] for name in ("max", "l1", "l2", "count"))


# ---- reductions: sums in float64, their order free, so that they are vectorised ----------------------------


@jit(fastmath={"reassoc"})
def _total(x: Any, first: int, last: int) -> float:
    total = 0.0
    for i in range(first, last):
        total += np.float64(x[i])
    return total


@jit(fastmath={"reassoc"})
def _total_abs(x: Any, first: int, last: int) -> float:
    total = 0.0
    for i in range(first, last):
        total += np.float64(abs(x[i]))
    return total


@jit(fastmath={"reassoc"})
def _total_square(x: Any, first: int, last: int, centre: float) -> float:
    total = 0.0
    for i in range(first, last):
        v = np.float64(x[i]) - centre
        total += v * v
    return total


@jit(fastmath={"reassoc"})
def _total_from(x: Any, first: int, last: int, centre: float) -> float:
    total = 0.0
    for i in range(first, last):
        total += np.float64(x[i]) - centre
    return total


@jit(fastmath={"nnan", "nsz"})
def _least(x: Any, first: int, last: int) -> float:
    """Return the least of values none of which is NaN."""
    least = x[first]
    for i in range(first + 1, last):
        least = min(least, x[i])
    return least


@jit(fastmath={"nnan", "nsz"})
def _greatest(x: Any, first: int, last: int) -> float:
    greatest = x[first]
    for i in range(first + 1, last):
        greatest = max(greatest, x[i])
    return greatest


@jit()
def _any_nan(x: Any, first: int, last: int) -> bool:
    found = 0
    for i in range(first, last):
        found |= x[i] != x[i]
    return found != 0


@jit()
def reduce(op: int, out: Any, x: Any, offsets: Any, counts: Any, first: int) -> None:
    """Reduce groups to one value each; an empty group gives NaN.

    Parameters
    ----------
    op : int
    out : ndarray, shape (G,)
    x : ndarray
        The entries of these groups, one after the other.
    offsets : ndarray of int64
        Of all groups of the table.
    counts : ndarray of float64
        True number of entries of every group, of which the entries are a sample.
    first : int
        The first group.
    """
    base = offsets[first]
    for g in range(len(out)):
        begin, end = offsets[first + g] - base, offsets[first + g + 1] - base
        n, count = end - begin, counts[first + g]
        if n == 0:
            out[g] = np.nan
        elif op == SUM:
            out[g] = _total(x, begin, end) * (count / n)
        elif op == MEAN:
            out[g] = _total(x, begin, end) / n
        elif op == L1:
            out[g] = _total_abs(x, begin, end) * (count / n)
        elif op == L2:
            out[g] = np.sqrt(_total_square(x, begin, end, 0.0) * (count / n))
        elif op == STD:
            # relative to the first value, so that equal values have a deviation of exactly 0
            start = np.float64(x[begin])
            centre = start + _total_from(x, begin, end, start) / n
            out[g] = np.sqrt(_total_square(x, begin, end, centre) / n)
        elif op == COUNT:
            out[g] = count + 0.0 * _total(x, begin, end)
        elif _any_nan(x, begin, end):
            out[g] = np.nan
        elif op == MIN:
            out[g] = _least(x, begin, end)
        else:
            out[g] = _greatest(x, begin, end)


@jit()
def spread(out: Any, x: Any, offsets: Any, first: int) -> None:
    """Repeat every value for each entry of its group."""
    base = offsets[first]
    for g in range(len(x)):
        v = out.dtype.type(x[g])
        for i in range(offsets[first + g] - base, offsets[first + g + 1] - base):
            out[i] = v
