"""Spearman's rho and Kendall's tau-b of many rows with one target, exact with ties, compiled.

Sorting is nearly all of the work (`proxygraph.kernels.sorting`). Rows are independent and sums are of
integers: a result depends neither on the batch nor on threads.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.jit import jit
from proxygraph.kernels.sorting import COARSE, Work, order_groups, quantised, set_ranks, sorted_groups

Floats = NDArray[np.float64]
Codes = NDArray[np.uint64]
MAX_ROWS = 1 << 21  # beyond, sums of products of doubled ranks would leave int64
_MARGIN = 1e-9  # by which a bound must miss the threshold: far above the rounding of either
_PORTION = 128  # rows after which Kendall's tau looks whether it is worth going on
_LEAST_SHARE = 1 << 16  # values that are worth a thread
_SHORT = 1 << 14  # rows up to which preparing the target takes a part worth saving of a small batch


class Target(NamedTuple):
    """What is known of a target once and for all rows.

    Attributes
    ----------
    ranks : ndarray of int64, shape (N,)
        Average ranks, doubled and centred: integers that sum to 0.
    square : float
        The sum of their squares; 0 where no correlation with the target is defined.
    order, edges : ndarray of int64, shapes (N,) and (G + 1,)
        Indices by increasing target, and where each group of equal targets starts.
    untied : float
        Pairs of rows with different targets.
    codes : ndarray of uint64, shape (N,)
        Factors of the hash of an ordering; the same for every target of this length.
    """

    ranks: NDArray[np.int32]
    square: float
    order: NDArray[np.int32]
    edges: NDArray[np.int32]
    untied: float
    codes: NDArray[np.uint64]

    @classmethod
    def of(cls, target: Any) -> Target:
        """Prepare a target of shape (N,); with a value that is not finite, no correlation is defined.

        Raises
        ------
        ShapeMismatch
            If it is not one-dimensional, or longer than `MAX_ROWS`.
        """
        target = np.ascontiguousarray(target, dtype=np.float64)
        n = target.size
        if target.ndim != 1 or n > MAX_ROWS:
            raise ShapeMismatch(f"target of shape {target.shape}: expected (N,), N at most {MAX_ROWS}")
        codes = np.frombuffer(hashlib.shake_128(b"ordering").digest(8 * n), np.uint64).copy()
        ranks, work = np.zeros(n, np.int32), Work.of(n)
        groups = sorted_groups(target, work)
        order, edges = work.order[:n].copy(), work.edges[: groups + 1].copy()
        if groups:
            set_ranks(order, edges, groups, ranks)
        sizes = np.diff(edges).astype(np.float64)
        untied = 0.5 * (n * (n - 1.0) - np.sum(sizes * (sizes - 1.0))) if groups else 0.0
        square = float(np.sum(ranks.astype(np.float64) ** 2))
        return cls(ranks, square, order, edges, untied, codes)


@jit()
def _undirected(code: Any) -> Any:
    """Return the same for a hash and its negative."""
    return min(code, ~code + np.uint64(1))


@jit()
def _rounded(r: float) -> float:
    """Return r within [-1, 1], to twelve digits as `proxygraph.rank.correlation` does."""
    return float(np.rint(min(max(r, -1.0), 1.0) * 1e12) / 1e12)


@jit()
def _largest_rho(work: Work, n: int, ranks: Any, square: float) -> float:
    """Return a bound of the size of rho from the coarse buckets that the packed numbers fall into.

    Let the rank of every value in a bucket be their mean rank. The true ranks differ by d, which sums to 0 in
    a bucket of L and whose squares sum to at most (L**3 - L) / 3. What d adds to the inner product is bounded
    by Cauchy-Schwarz with the target's ranks about their mean in each bucket.
    """
    sizes, sums = work.coarse[0], work.coarse[1]
    sizes[:] = 0
    sums[:] = 0
    for i in range(n):
        bucket = work.packed[i] >> np.uint64(64 - COARSE)
        sizes[bucket] += 1
        sums[bucket] += ranks[i]
    start, total, within, between = 0, 0.0, 0.0, 0.0
    for b in range(1 << COARSE):
        size, mean = float(sizes[b]), float(sums[b])
        total += (2.0 * start + size - n) * mean
        within += (size * size - 1.0) * size
        between += mean * mean / max(size, 1.0)
        start += sizes[b]
    full = n * (float(n) * n - 1.0) / 3.0
    spread = np.sqrt(within / 3.0 * max(square - between, 0.0))
    return float((abs(total) + spread) / np.sqrt((full - within / 3.0) * square))


@jit()
def spearman_row(values: Any, target: Target, work: Work, threshold: float) -> tuple[float, Any]:
    """Return Spearman's rho of one row and the hash of its ordering; for compiled callers.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (N,), contiguous
        As long as the target: this is not checked.
    target : Target
    work : Work
        For at least N values; written to.
    threshold : float
        As in `spearman`.

    Returns
    -------
    rho : float
        NaN where undefined or given up.
    code : uint64
        The same for two rows exactly if they have the same ranks, or one has those of the other's negative
        (but for a chance near 2**-60); 0 where a value is not finite, all are equal, or the row was given up.
    """
    n = len(values)
    if not quantised(values, work):
        return np.nan, np.uint64(0)
    ranks, codes = target.ranks, target.codes
    if threshold > 0.0 and _largest_rho(work, n, ranks, target.square) < threshold - _MARGIN:
        return np.nan, np.uint64(0)
    groups = order_groups(work, n)
    order, edges = work.order, work.edges
    total, code, tied = 0, np.uint64(0), 0.0
    if groups == n:
        for p in range(n):
            rank = 2 * p + 1 - n
            total += rank * np.int64(ranks[order[p]])
            code += np.uint64(rank) * codes[order[p]]
    else:
        for g in range(groups):
            some, some_codes = 0, np.uint64(0)
            for p in range(edges[g], edges[g + 1]):
                some += ranks[order[p]]
                some_codes += codes[order[p]]
            rank, size = edges[g] + edges[g + 1] - n, float(edges[g + 1] - edges[g])
            total += rank * some
            code += np.uint64(rank) * some_codes
            tied += size * (size * size - 1.0)
    square = (n * (float(n) * n - 1.0) - tied) / 3.0
    rho = _rounded(total / np.sqrt(square * target.square)) if target.square > 0.0 else np.nan
    return rho, _undirected(code)


@jit()
def _ones(bits: Any) -> Any:
    """Return how many bits are set, summed in ever larger fields."""
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@jit()
def _above(p: int, words: Any, near: Any, far: Any) -> int:
    """Return how many positions above p are in the set.

    The set has a bit per position. For each word of 64 bits `near` knows how many are in higher words of
    its block of 64 words, and for each block `far` how many are in higher blocks.
    """
    word = p >> 6
    here = _ones(words[word] >> np.uint64(p & 63) >> np.uint64(1))
    return int(here + near[word >> 6, word & 63] + far[word >> 6])


@jit()
def _insert(p: int, words: Any, near: Any, far: Any) -> None:
    """Put a position into the set."""
    word = p >> 6
    block = word >> 6
    words[word] |= np.uint64(1) << np.uint64(p & 63)
    for b in range(block):
        far[b] += np.int32(1)
    inner = np.int16(word & 63)
    for w in range(64):  # all of them, without a branch: a few vector instructions
        near[block, w] += np.int16(np.int16(w) < inner)


@jit()
def _surplus(
    route: Any, first: int, last: int, edges: Any, free: Any, words: Any, near: Any, far: Any
) -> int:
    """Return concordant less discordant pairs of rows `first` to `last` by target with all before them.

    Given the group of values of every row. Equal values take the positions of their group as they come:
    those that came before are not above, and as many as the group has given away.
    """
    surplus = 0
    for k in range(first, last):
        p = free[route[k]]
        surplus += k - (p - edges[route[k]]) - 2 * _above(p, words, near, far)
        free[route[k]] = p + np.int32(1)
        _insert(p, words, near, far)
    return surplus


@jit()
def _surplus_tied(
    route: Any, first: int, last: int, edges: Any, free: Any, words: Any, near: Any, far: Any
) -> int:
    """Return the same of rows with the same target, which are no pairs among themselves."""
    surplus = 0
    for k in range(first, last):
        p = free[route[k]]
        surplus += first - (p - edges[route[k]]) - 2 * _above(p, words, near, far)
    for k in range(first, last):
        _insert(free[route[k]], words, near, far)
        free[route[k]] += np.int32(1)
    return surplus


@jit()
def kendall_row(values: Any, target: Target, work: Work, threshold: float) -> tuple[float, Any]:
    """Return Kendall's tau-b of one row and the hash of its ordering; for compiled callers.

    As `spearman_row`. The pairs are counted in the order of the target as Knight [1]_ does, but by asking a
    bit set with counters how many are above, rather than by a merge sort: ties then need no second sort, and
    hopeless rows can be given up on the way.

    References
    ----------
    .. [1] W. R. Knight (1966), J. Am. Stat. Assoc. 61(314), 436-439.
    """
    n = len(values)
    if not quantised(values, work):
        return np.nan, np.uint64(0)
    groups = order_groups(work, n)
    order, edges, later, later_edges = work.order, work.edges, target.order, target.edges
    group = work.counts[:n]
    code, tied = np.uint64(0), 0.0
    if groups == n:
        for p in range(n):
            group[order[p]] = p
            code += np.uint64(2 * p + 1 - n) * target.codes[order[p]]
    else:
        for g in range(groups):
            start, stop = edges[g], edges[g + 1]
            tied += 0.5 * (stop - start) * (stop - start - 1)
            rank = np.uint64(start + stop - n)
            for p in range(start, stop):
                group[order[p]] = g
                code += rank * target.codes[order[p]]
    if target.untied == 0.0:
        return np.nan, _undirected(code)
    route, free = work.route[:n], work.spare.view(np.int32)
    for p in range(n):
        route[p] = group[later[p]]
    for g in range(groups):
        free[g] = edges[g]
    pairs = 0.5 * n * (n - 1.0)
    scale = np.sqrt(pairs - tied) * np.sqrt(target.untied)
    words, near, far = work.words, work.near, work.far
    words[:] = 0
    near[:] = 0
    far[:] = 0
    surplus, seen, g, distinct = 0, 0, 0, len(later_edges) == n + 1
    while seen < n:
        start = seen
        if distinct:
            seen = min(start + _PORTION, n)
            surplus += _surplus(route, start, seen, edges, free, words, near, far)
        else:
            g += 1
            seen = later_edges[g]
            surplus += _surplus_tied(route, start, seen, edges, free, words, near, far)
        left = pairs - 0.5 * seen * (seen - 1.0)
        if abs(surplus) + left < (threshold - _MARGIN) * scale:
            return np.nan, np.uint64(0)
    return _rounded(surplus / scale), _undirected(code)


@jit()
def _spearman_rows(values: Any, target: Target, work: Work, threshold: float, out: Any, codes: Any) -> None:
    """Fill `out` and `codes` for every row."""
    for r in range(len(values)):
        out[r], codes[r] = spearman_row(values[r], target, work, threshold)


@jit()
def _kendall_rows(values: Any, target: Target, work: Work, threshold: float, out: Any, codes: Any) -> None:
    """Fill `out` and `codes` for every row."""
    for r in range(len(values)):
        out[r], codes[r] = kendall_row(values[r], target, work, threshold)


@lru_cache(maxsize=16)
def _short_target(content: bytes) -> Target:
    """Return a target of float64 by its content; a search asks for the same one in every generation."""
    return Target.of(np.frombuffer(content))


def _prepared(target: Any) -> Target:
    """Return a target, prepared."""
    if isinstance(target, Target):
        return target
    target = np.ascontiguousarray(target, dtype=np.float64)
    return (
        _short_target(target.tobytes()) if target.ndim == 1 and target.size <= _SHORT else Target.of(target)
    )


def _batch(rows: Any, values: Any, target: Any, threshold: float, threads: int) -> tuple[Floats, Codes]:
    """Run `rows` on all values, in as many threads as asked for and as are worth it."""
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    target = _prepared(target)
    if values.ndim != 2 or values.shape[1] != len(target.ranks):
        raise ShapeMismatch(
            f"values of shape {values.shape}: expected (P, {len(target.ranks)}) as the target"
        )
    if threads < 1:
        raise ConfigError(f"threads={threads}: at least one thread is needed")
    values = np.ascontiguousarray(values)
    out, codes = np.empty(len(values)), np.empty(len(values), np.uint64)

    def share(part: slice) -> None:
        rows(values[part], target, Work.of(values.shape[1]), threshold, out[part], codes[part])

    threads = min(threads, 1 + values.size // _LEAST_SHARE)
    ends = np.linspace(0, len(values), threads + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in pairwise(ends)]
    if threads == 1:
        share(parts[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(share, parts))
    return out, codes


def spearman(values: Any, target: Any, threshold: float = 0.0, threads: int = 1) -> Floats:
    """Return Spearman's rho of every row with the target.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (P, N)
        Other types are converted to float64.
    target : Target or ndarray of float, shape (N,)
        A `Target` is worth preparing where several batches have the same.
    threshold : float
        If above 0, a row may be given up as soon as abs(rho) < threshold is proven. A row that reaches the
        threshold never is, and its rho is the same as without.
    threads : int
        Rows are shared out over so many; the results do not depend on it. Small batches use fewer.

    Returns
    -------
    ndarray of float64, shape (P,)
        In [-1, 1], rounded to twelve digits. NaN where a row holds a value that is not finite, or it or the
        target is constant, or N < 2; and where a row was given up.

    Raises
    ------
    ShapeMismatch
        If the lengths differ or N is above `MAX_ROWS`.
    ConfigError
        If `threads` is less than 1.

    Examples
    --------
    >>> spearman(np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 1.0]]), np.array([10.0, 20.0, 40.0])).tolist()
    [1.0, -0.866025403784]
    """
    return _batch(_spearman_rows, values, target, threshold, threads)[0]


def spearman_and_codes(
    values: Any, target: Any, threshold: float = 0.0, threads: int = 1
) -> tuple[Floats, Codes]:
    """Return `spearman` and the hash of each row's ordering, shape (P,), as `spearman_row` describes it."""
    return _batch(_spearman_rows, values, target, threshold, threads)


def kendall(values: Any, target: Any, threshold: float = 0.0, threads: int = 1) -> Floats:
    """Return Kendall's tau-b of every row with the target; parameters, NaN and errors as in `spearman`.

    Examples
    --------
    >>> kendall(np.array([[1.0, 2.0, 3.0]]), np.array([70.0, 72.0, 71.0])).tolist()
    [0.333333333333]
    """
    return _batch(_kendall_rows, values, target, threshold, threads)[0]


def kendall_and_codes(
    values: Any, target: Any, threshold: float = 0.0, threads: int = 1
) -> tuple[Floats, Codes]:
    """Return `kendall` and the hash of each row's ordering, shape (P,), as `spearman_row` describes it."""
    return _batch(_kendall_rows, values, target, threshold, threads)


def average_ranks(values: Any) -> Floats:
    """Return the ranks 1..N of finite rows (P, N); equal values get the mean of their ranks."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    work = Work.of(values.shape[1])
    ranks = np.zeros(values.shape, np.int32)  # what a constant row keeps
    _rank_rows(values, work, ranks)
    return np.asarray(0.5 * (ranks + (values.shape[1] + 1.0)))


@jit()
def _rank_rows(values: Any, work: Work, ranks: Any) -> None:
    """Set the doubled, centred ranks of every row that has an order."""
    for r in range(len(values)):
        groups = sorted_groups(values[r], work)
        set_ranks(work.order[: len(values[r])], work.edges, groups, ranks[r])
