"""How values of a block lie on a fine axis: the first samples of all layers, then the second ones, and so on.

Layers with equally many samples, one after the other, would each be summed across the entries of a vector, at
several times the cost of reading them. Here a layer is a lane: its samples are a constant distance apart, so
that a reduction adds whole rows of lanes, each in the order of its samples, and a value per layer is repeated
by copying one row. Lanes are sorted by their number of samples; those that have run out are at the end of a
row and are left out of it, so that nothing is padded (jagged diagonals: Saad 1989, SIAM J. Sci. Stat.
Comput. 10(6), 1200-1232).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from proxygraph.jit import jit
from proxygraph.kernels import vecmath
from proxygraph.kernels.groups import COUNT, L1, L2, MAX, MEAN, MIN, STD, SUM
from proxygraph.kernels.intrinsics import address


class Lanes(NamedTuple):
    """Where the entries of a fine axis lie, and to which layers they belong.

    Attributes
    ----------
    width : ndarray of int64, shape (R,)
        Entries of every row of lanes of every block, which are the layers with so many samples; they fall
        within a block.
    first : ndarray of int64, shape (blocks + 1,)
        First row of every block, and the end.
    layer : ndarray of int64, shape (L,)
        Of every lane: its layer, counted from the first of the block.
    samples, count : ndarray of float64, shape (L,)
        Of every lane: entries, and the true number of which they are a sample.
    share : ndarray of float64, shape (L,)
        1 / samples.
    """

    width: NDArray[np.int64]
    first: NDArray[np.int64]
    layer: NDArray[np.int64]
    samples: NDArray[np.float64]
    count: NDArray[np.float64]
    share: NDArray[np.float64]


def lanes_of(
    offsets: NDArray[np.int64], counts: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[Lanes, NDArray[np.int64]]:
    """Return the lanes of an axis, and the place of every entry among them.

    Parameters
    ----------
    offsets : ndarray of int64, shape (L + 1,)
        First entry of every layer, and the end.
    counts : ndarray of float64, shape (L,)
        True number of entries of every layer.
    starts : ndarray of int64, shape (blocks + 1,)
        First layer of every block, and the end.

    Returns
    -------
    Lanes
    ndarray of int64, shape (E,)
        Entry ``i`` of a column lies at ``places[i]``. Entries stay within their block.
    """
    samples = np.diff(offsets)
    block = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((-samples, block))
    lane = np.empty(len(order), np.int64)
    lane[order] = np.arange(len(order)) - starts[block]
    rows = np.zeros(len(starts) - 1, np.int64)
    np.maximum.at(rows, block, samples)
    first = np.concatenate([[0], np.cumsum(rows)])
    row = np.arange(offsets[-1]) + np.repeat(first[block] - offsets[:-1], samples)
    width = np.bincount(row, minlength=int(first[-1]))
    begin = np.cumsum(width) - width
    entries = samples[order].astype(np.float64)
    with np.errstate(divide="ignore"):
        lanes = Lanes(width, first, order - starts[block], entries, counts[order], 1.0 / entries)
    return lanes, begin[row] + np.repeat(lane, samples)


# ---- reductions: sums in float64, each lane in the order of its samples, whatever lies beside it -----------


@jit(inline="always")
def _four(x: Any, at: int, n: int) -> Any:
    """Return four rows of lanes."""
    return (
        carray(address(x, at), (n,)),
        carray(address(x, at + n), (n,)),
        carray(address(x, at + 2 * n), (n,)),
        carray(address(x, at + 3 * n), (n,)),
    )


@jit()
def _add(total: Any, x: Any, width: Any) -> None:
    """Add every lane up."""
    at = row = 0
    while row < len(width):
        n = width[row]
        if row + 3 < len(width) and width[row + 3] == n:
            a, b, c, d = _four(x, at, n)
            for g in range(n):
                t = total[g] + np.float64(a[g])
                t += np.float64(b[g])
                t += np.float64(c[g])
                total[g] = t + np.float64(d[g])
            at, row = at + 4 * n, row + 4
        else:
            a = carray(address(x, at), (n,))
            for g in range(n):
                total[g] += np.float64(a[g])
            at, row = at + n, row + 1


@jit()
def _add_abs(total: Any, x: Any, width: Any) -> None:
    at = row = 0
    while row < len(width):
        n = width[row]
        if row + 3 < len(width) and width[row + 3] == n:
            a, b, c, d = _four(x, at, n)
            for g in range(n):
                t = total[g] + np.float64(abs(a[g]))
                t += np.float64(abs(b[g]))
                t += np.float64(abs(c[g]))
                total[g] = t + np.float64(abs(d[g]))
            at, row = at + 4 * n, row + 4
        else:
            a = carray(address(x, at), (n,))
            for g in range(n):
                total[g] += np.float64(abs(a[g]))
            at, row = at + n, row + 1


@jit(fastmath={"contract"})
def _add_squares(total: Any, square: Any, centre: Any, x: Any, width: Any) -> None:
    """Add up what every lane differs from its centre by, and the squares of that."""
    at = row = 0
    while row < len(width):
        n = width[row]
        if row + 3 < len(width) and width[row + 3] == n:
            a, b, c, d = _four(x, at, n)
            for g in range(n):
                p, q = np.float64(a[g]) - centre[g], np.float64(b[g]) - centre[g]
                r, s = np.float64(c[g]) - centre[g], np.float64(d[g]) - centre[g]
                total[g] = total[g] + p + q + r + s
                square[g] = square[g] + p * p + q * q + r * r + s * s
            at, row = at + 4 * n, row + 4
        else:
            a = carray(address(x, at), (n,))
            for g in range(n):
                p = np.float64(a[g]) - centre[g]
                total[g] += p
                square[g] += p * p
            at, row = at + n, row + 1


@jit()
def _extreme(op: int, end: Any, x: Any, width: Any) -> None:
    """Find the least or greatest value of every lane, NaN if it has one."""
    for g in range(width[0] if len(width) else 0):
        end[g] = x[g]
    at = row = 0
    while row < len(width):
        n = width[row]
        a = carray(address(x, at), (n,))
        if op == MIN:
            for g in range(n):
                end[g] = vecmath.minimum(end[g], a[g])
        else:
            for g in range(n):
                end[g] = vecmath.maximum(end[g], a[g])
        at, row = at + n, row + 1


@jit()
def _beyond(x: Any, width: Any, g: int) -> float:
    """Return the deviation of a lane whose squares are not finite: inf, but NaN if its values are not."""
    at = row = 0
    while row < len(width) and g < width[row]:
        if not abs(np.float64(x[at + g]) - np.float64(x[g])) < np.inf:
            return np.nan
        at, row = at + width[row], row + 1
    return np.inf


@jit()
def reduce_lanes(op: int, out: Any, x: Any, lanes: Any, scratch: Any) -> None:
    """Reduce the samples of every layer of a block to one value; a layer without any gives NaN.

    Parameters
    ----------
    op : int
    out : ndarray, shape (G,)
    x : ndarray
        The entries of the block.
    lanes : tuple of five ndarray
        Width of the block's rows; layer, samples, count and share of its lanes; as in `Lanes`.
    scratch : tuple of four ndarray, shape (>= G,)
        Three of float64, and one of the dtype of `x`.
    """
    width, layer, samples, count, share = lanes
    total, square, centre, end = scratch
    n = width[0] if len(width) else 0
    if op == MIN or op == MAX:
        _extreme(op, end, x, width)
        for g in range(n):
            total[g] = end[g]
    else:
        for g in range(n):
            total[g] = 0.0
        if op == L2 or op == STD:
            for g in range(n):
                square[g] = centre[g] = 0.0
        if op == L1:
            _add_abs(total, x, width)
        elif op == L2:
            _add_squares(total, square, centre, x, width)
        elif op == STD:
            # relative to the first value: equal values have a deviation of exactly 0, and squares cancel to
            # at most 1 / n of their size, wherever that value lies (it is part of the deviation)
            for g in range(n):
                centre[g] = x[g]
            _add_squares(total, square, centre, x, width)
        else:
            _add(total, x, width)
        if op == SUM or op == L1:
            for g in range(n):
                total[g] *= count[g] / samples[g]
        elif op == MEAN:
            for g in range(n):
                total[g] /= samples[g]
        elif op == L2:
            for g in range(n):
                total[g] = np.sqrt(square[g] * (count[g] / samples[g]))
        elif op == COUNT:
            for g in range(n):
                total[g] = count[g] + 0.0 * total[g]
        elif op == STD:
            for g in range(n):
                # never below 0 by more than rounding; NaN stays
                variance = (square[g] - total[g] * (total[g] * share[g])) * share[g]
                total[g] = np.sqrt(vecmath.maximum(variance, 0.0))
            beyond = 0
            for g in range(n):
                beyond |= not square[g] < np.inf
            if beyond:
                for g in range(n):
                    if not square[g] < np.inf:
                        total[g] = _beyond(x, width, g)
    if n > 0 and n == len(out) and width[-1] == n:  # no layer runs out before another: they lie in order
        for g in range(n):
            out[g] = total[g]
    else:
        for g in range(n):
            out[layer[g]] = total[g]
    for g in range(n, len(out)):
        out[layer[g]] = np.nan


@jit()
def repeat_lanes(out: Any, values: Any, lanes: Any, end: Any) -> None:
    """Repeat the value of every layer of a block for each of its samples.

    Parameters
    ----------
    out : ndarray
        The entries of the block.
    values : ndarray, shape (>= G,)
        By layer.
    lanes : tuple of five ndarray
        As of `reduce_lanes`.
    end : ndarray, shape (>= G,)
        Scratch memory of the dtype of `out`.
    """
    width, layer, _, _, _ = lanes
    for g in range(len(layer)):
        end[g] = values[layer[g]]
    at = 0
    for row in range(len(width)):
        a = carray(address(out, at), (width[row],))
        for g in range(len(a)):
            a[g] = end[g]
        at += width[row]
