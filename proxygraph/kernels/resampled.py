"""Correlations in many resamples of the rows at once, and rank agreement that counts the top most; compiled.

A resample is how often every row was drawn. A row of values is sorted once; the ranks it has within each
resample follow from running sums of those numbers, so that ranks and ties are exact in every resample. The
inner loops run over resamples, which lie next to each other in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.jit import jit
from proxygraph.kernels.ranking import Target, kendall_row, spearman_row
from proxygraph.kernels.sorting import Work, set_ranks

Floats = NDArray[np.float64]
Codes = NDArray[np.uint64]
MAX_RESAMPLED: Final = 32_767
"""Rows beyond which the sums of drawn rows would leave int16."""


class Draws(NamedTuple):
    """Resamples of the rows, and what the target is in each; made by `draws_of`.

    Attributes
    ----------
    times : ndarray of float32, shape (N, B)
        How often a row is in a resample.
    moved : ndarray of float32, shape (N, B)
        That times the target's rank within the resample, doubled and centred.
    square : ndarray of float64, shape (B,)
        Sum of the squares of the target's ranks.
    later : ndarray of int16, shape (N, B)
        `times` of the rows by increasing target.
    untied : ndarray of float64, shape (B,)
        Pairs of drawn rows with different targets.
    """

    times: NDArray[np.float32]
    moved: NDArray[np.float32]
    square: Floats
    later: NDArray[np.int16]
    untied: Floats


def draws_of(target: Target, times: NDArray[np.int64]) -> Draws:
    """Prepare resamples of the rows of a target.

    Parameters
    ----------
    target : Target
        Of N rows.
    times : ndarray of int, shape (N, B)
        How often each row is in each resample; N in sum.

    Raises
    ------
    ConfigError
        If there are more than `MAX_RESAMPLED` rows.
    """
    n = len(times)
    if n > MAX_RESAMPLED:
        raise ConfigError(
            f"{n} rows are too many to resample (at most {MAX_RESAMPLED}); judge by the objective itself"
        )
    if not len(target.order) or target.square == 0.0:
        nothing = np.zeros(times.shape[1])
        flat = np.zeros(times.shape, np.float32)
        return Draws(times.astype(np.float32), flat, nothing, times.astype(np.int16), nothing)
    later = times[target.order]
    drawn = np.add.reduceat(later, target.edges[:-1], axis=0)
    ranks = np.repeat(2 * np.cumsum(drawn, axis=0) - drawn - n, np.diff(target.edges), axis=0)
    moved = np.empty(times.shape, np.int64)
    moved[target.order] = later * ranks
    return Draws(
        times.astype(np.float32),
        moved.astype(np.float32),
        np.sum(later * ranks * ranks, axis=0).astype(np.float64),
        later.astype(np.int16),
        0.5 * (n * float(n) - np.sum(drawn * drawn, axis=0)),
    )


@jit()
def _spearman_draws(work: Work, n: int, draws: Draws, some: Any, out: Any) -> None:
    """Set `out` to Spearman's rho in every resample, 0 where undefined; `some` has 5 rows to work in."""
    order, edges = work.order, work.edges
    below, drawn, moved, total, square = some[0], some[1], some[2], some[3], some[4]
    below[:], total[:], square[:] = 0.0, 0.0, 0.0
    p, g = 0, 0
    while p < n:
        i = order[p]
        for b in range(len(out)):
            drawn[b], moved[b] = draws.times[i, b], draws.moved[i, b]
        g += 1
        for q in range(p + 1, edges[g]):
            i = order[q]
            for b in range(len(out)):
                drawn[b] += draws.times[i, b]
                moved[b] += draws.moved[i, b]
        for b in range(len(out)):
            rank = 2.0 * below[b] + drawn[b] - n
            total[b] += rank * moved[b]
            square[b] += rank * rank * drawn[b]
            below[b] += drawn[b]
        p = edges[g]
    for b in range(len(out)):
        scale = square[b] * draws.square[b]
        out[b] = total[b] / np.sqrt(scale) if scale > 0.0 else 0.0


@jit()
def _kendall_draws(
    work: Work, n: int, target: Target, draws: Draws, group: Any, surplus: Any, total: Any, out: Any
) -> None:
    """Set `out` to Kendall's tau-b in every resample, 0 where undefined."""
    order, edges = work.order, work.edges
    untied = out
    untied[:], total[:] = 0.0, 0
    g, p = 0, 0
    while p < n:
        g += 1
        surplus[:] = 0
        for q in range(p, edges[g]):
            group[order[q]] = g
            for b in range(len(out)):
                surplus[b] += np.int16(draws.times[order[q], b])
        for b in range(len(out)):
            untied[b] += np.float64(surplus[b]) * surplus[b]
        p = edges[g]
    k, start = 0, 0
    for p in range(n):
        if p == target.edges[k + 1]:
            k, start = k + 1, p
        if start == 0:
            continue
        own = group[target.order[p]]
        surplus[:] = 0
        for q in range(start):
            other = group[target.order[q]]
            sign = np.int16(own > other) - np.int16(own < other)
            for b in range(len(out)):
                surplus[b] += np.int16(sign * draws.later[q, b])
        for b in range(len(out)):
            total[b] += np.int32(draws.later[p, b]) * np.int32(surplus[b])
    for b in range(len(out)):
        scale = 0.5 * (n * np.float64(n) - untied[b]) * draws.untied[b]
        out[b] = total[b] / np.sqrt(scale) if scale > 0.0 else 0.0


@jit()
def _lower(r: float, found: Any, at: int) -> float:
    """Return the `at`-th smallest number of the resamples, in the direction of `r`."""
    if r < 0.0:
        for b in range(len(found)):
            found[b] = -found[b]
    return float(np.partition(found, at)[at])


@jit()
def _spearman_bounds(
    values: Any, target: Target, draws: Draws, at: int, work: Work, out: Any, bounds: Any, codes: Any
) -> None:
    """Fill `out`, `bounds` and `codes` for every row."""
    found, some = np.empty(draws.times.shape[1]), np.empty((5, draws.times.shape[1]))
    for r in range(len(values)):
        out[r], codes[r] = spearman_row(values[r], target, work, 0.0)
        bounds[r] = np.nan
        if np.isfinite(out[r]):
            _spearman_draws(work, len(values[r]), draws, some, found)
            bounds[r] = _lower(out[r], found, at)


@jit()
def _kendall_bounds(
    values: Any, target: Target, draws: Draws, at: int, work: Work, out: Any, bounds: Any, codes: Any
) -> None:
    """Fill `out`, `bounds` and `codes` for every row."""
    n_draws = draws.times.shape[1]
    found, group = np.empty(n_draws), np.empty(values.shape[1], np.int32)
    surplus, total = np.empty(n_draws, np.int16), np.empty(n_draws, np.int32)
    for r in range(len(values)):
        out[r], codes[r] = kendall_row(values[r], target, work, 0.0)
        bounds[r] = np.nan
        if np.isfinite(out[r]):
            _kendall_draws(work, len(values[r]), target, draws, group, surplus, total, found)
            bounds[r] = _lower(out[r], found, at)


@jit()
def _pearson_draws(x: Any, y: Any, weights: Any, some: Any, out: Any) -> None:
    """Set `out` to Pearson's r of x and y under every column of `weights`, 0 where undefined."""
    for k in range(6):
        some[k, :] = 0.0
    for i in range(len(x)):
        xi, yi = x[i], y[i]
        for b in range(len(out)):
            w = weights[i, b]
            some[0, b] += w
            some[1, b] += w * xi
            some[2, b] += w * yi
            some[3, b] += w * xi * xi
            some[4, b] += w * yi * yi
            some[5, b] += w * xi * yi
    for b in range(len(out)):
        n, sx, sy = some[0, b], some[1, b], some[2, b]
        a, c = some[3, b] - sx * sx / n, some[4, b] - sy * sy / n
        # x and y are within [-1, 1]: what is left of a constant is rounding
        good = n > 0.0 and a > 1e-13 * some[3, b] and c > 1e-13 * some[4, b]
        out[b] = (some[5, b] - sx * sy / n) / np.sqrt(a * c) if good else 0.0
        out[b] = min(max(out[b], -1.0), 1.0)


@jit()
def _pearson_bounds(x: Any, y: Any, weights: Any, at: int, r: Any, bounds: Any) -> None:
    """Fill `bounds` for every row of x whose `r` is finite."""
    found, some = np.empty(weights.shape[1]), np.empty((6, weights.shape[1]))
    for k in range(len(x)):
        bounds[k] = np.nan
        if np.isfinite(r[k]):
            _pearson_draws(x[k], y, weights, some, found)
            bounds[k] = _lower(r[k], found, at)


class Top(NamedTuple):
    """How much every row counts when its place is compared with all others'; made by `top_of`.

    Attributes
    ----------
    rows : ndarray of int64, shape (K,)
        Those that count at all, best first.
    weights : ndarray of float64, shape (K,)
    square : float
        Weighted number of pairs with different targets.
    """

    rows: NDArray[np.int64]
    weights: Floats
    square: float


def top_of(target: Target, k: int) -> Top:
    """Return hyperbolic weights 1, 1/2, 1/3, ... of the `k` highest targets; tied rows share theirs."""
    n = len(target.order)
    if target.square == 0.0:
        return Top(np.zeros(0, np.int64), np.zeros(0), 0.0)
    weight = np.zeros(n)
    weight[: min(k, n)] = 1.0 / np.arange(1.0, min(k, n) + 1.0)
    edges = n - target.edges[::-1].astype(np.int64)
    sizes = np.diff(edges)
    weight = np.repeat(np.add.reduceat(weight, edges[:-1]) / sizes, sizes)
    rows = target.order[::-1].astype(np.int64)
    square = float(np.sum(weight * (n - np.repeat(sizes, sizes))))
    return Top(rows[weight > 0.0], weight[weight > 0.0], square)


@jit()
def _top_rows(values: Any, target: Target, top: Top, work: Work, out: Any, codes: Any) -> None:
    """Fill `out` and `codes` for every row."""
    n = values.shape[1]
    ranks, sizes = np.empty(n, np.int32), np.empty(n, np.int32)
    for r in range(len(values)):
        rho, codes[r] = spearman_row(values[r], target, work, 0.0)
        out[r] = np.nan
        if not np.isfinite(rho):
            continue
        groups, p = 0, 0
        while p < n:
            groups += 1
            for q in range(p, work.edges[groups]):
                sizes[work.order[q]] = work.edges[groups] - p
            p = work.edges[groups]
        set_ranks(work.order[:n], work.edges, groups, ranks)
        total, square = 0.0, 0.0
        for k in range(len(top.rows)):
            i = top.rows[k]
            own, aim, surplus = ranks[i], target.ranks[i], 0
            for j in range(n):
                x = np.int32(own > ranks[j]) - np.int32(own < ranks[j])
                y = np.int32(aim > target.ranks[j]) - np.int32(aim < target.ranks[j])
                surplus += x * y
            total += top.weights[k] * surplus
            square += top.weights[k] * (n - sizes[i])
        # no pair that counts may be told apart by the values: then they say nothing about the top
        tau = total / np.sqrt(square * top.square) if square > 0.0 else 0.0
        out[r] = np.rint(min(max(tau, -1.0), 1.0) * 1e12) / 1e12


# ---- many rows ---------------------------------------------------------------------------------------------


def _rows(values: Any, n: int) -> NDArray[Any]:
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if values.ndim != 2 or values.shape[1] != n:
        raise ShapeMismatch(f"values of shape {values.shape}: expected (P, {n}) as the target")
    return np.ascontiguousarray(values)


def _shared(work: Callable[[slice], None], n: int, threads: int) -> None:
    """Run ``work(part)`` on all of `n` rows, shared out over threads."""
    if threads < 1:
        raise ConfigError(f"threads={threads}: at least one thread is needed")
    ends = np.linspace(0, n, min(threads, max(1, n)) + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in pairwise(ends)]
    if len(parts) == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts))


def rank_bounds(
    values: Any, target: Target, draws: Draws, at: int, statistic: str, threads: int = 1
) -> tuple[Floats, Floats, Codes]:
    """Return a rank statistic of every row of `values` (P, N), its lower bound, and the code of the order.

    Parameters
    ----------
    values : ndarray of float, shape (P, N)
    target : Target
    draws : Draws
        B resamples of the N rows.
    at : int
        The bound is the statistic of the resample that ranks `at`-th from below, in the direction of the
        statistic of all rows; a resample in which it is undefined counts as 0.
    statistic : {"spearman", "kendall"}
    threads : int
    """
    values = _rows(values, len(target.ranks))
    r, bounds, codes = np.empty(len(values)), np.empty(len(values)), np.empty(len(values), np.uint64)
    fill = _spearman_bounds if statistic == "spearman" else _kendall_bounds

    def work(part: slice) -> None:
        room = Work.of(values.shape[1])
        fill(values[part], target, draws, at, room, r[part], bounds[part], codes[part])

    _shared(work, len(values), threads)
    return r, bounds, codes


def pearson_bounds(x: Floats, y: Floats, weights: Floats, at: int, r: Floats, threads: int = 1) -> Floats:
    """Return the lower bound of Pearson's r, as `rank_bounds`, of every row of `x` (P, N) with `y` (N,).

    Parameters
    ----------
    x, y : ndarray of float64
        Centred and within [-1, 1].
    weights : ndarray of float64, shape (N, B)
        Of every row in every resample.
    r : ndarray of float64, shape (P,)
        The statistic of all rows; where it is NaN so is the bound.
    """
    x, y, bounds = _rows(x, len(y)), np.ascontiguousarray(y), np.empty(len(x))
    _shared(lambda part: _pearson_bounds(x[part], y, weights, at, r[part], bounds[part]), len(x), threads)
    return bounds


def top_tau(values: Any, target: Target, top: Top, threads: int = 1) -> tuple[Floats, Codes]:
    """Return the weighted tau of every row of `values` (P, N), and the code of the order.

    Every pair of rows counts with the sum of their weights (Vigna 2015 [1]_, additive), which depend on the
    target alone: turned values have the negative tau. O(N K) for each row.

    References
    ----------
    .. [1] S. Vigna (2015), A Weighted Correlation Index for Rankings with Ties, WWW, 1166-1176.
    """
    values = _rows(values, len(target.ranks))
    tau, codes = np.empty(len(values)), np.empty(len(values), np.uint64)

    def work(part: slice) -> None:
        _top_rows(values[part], target, top, Work.of(values.shape[1]), tau[part], codes[part])

    _shared(work, len(values), threads)
    return tau, codes
