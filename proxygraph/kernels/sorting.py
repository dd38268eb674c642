"""Sorting rows of numbers for their ranks, exact with ties, compiled.

A row is quantised to integers that carry the row index in their low bits; two passes of a radix sort bring
the 22 highest bits into order, without a branch that depends on the numbers, and an insertion sort has next
to nothing left to do. Two quantisations are known: one linear and, for outliers and heavy tails, one by the
bits of the floating-point form. Where both pile the values up, a radix sort over all bits takes over, so
that no input takes more than a fixed time per value. The quantised numbers decide only where they differ,
and the values themselves where they agree: the order is exact.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.jit import jit

_MAGNITUDE, _INFINITE = 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000  # of the bits of a float64
_OCTAVE = 1 << 52  # bits of values that differ by a factor of 2 differ by that
_MOVES = 8  # per value that the insertion sort may make
_CROWD = 0.25  # pairs of numbers with the same high digit: an outlier leaves the others next to no digits
_DIGIT = 11  # most bits that a pass of the radix sort looks at
COARSE: Final = 6
"""Bits of the coarse buckets that `Work.coarse` has room for."""


class Work(NamedTuple):
    """Working memory for rows of up to n values; every thread needs its own."""

    x: NDArray[np.float64]
    packed: NDArray[np.uint64]
    spare: NDArray[np.uint64]
    counts: NDArray[np.int32]
    order: NDArray[np.int32]
    edges: NDArray[np.int32]
    coarse: NDArray[np.int64]
    route: NDArray[np.int32]
    words: NDArray[np.uint64]
    near: NDArray[np.int16]
    far: NDArray[np.int32]

    @classmethod
    def of(cls, n: int) -> Work:
        """Return working memory for rows of length `n`."""
        blocks = (n >> 12) + 1  # of 64 words of 64 positions
        return cls(
            x=np.empty(n),
            packed=np.empty(n, np.uint64),
            spare=np.empty(n, np.uint64),
            route=np.empty(n, np.int32),
            counts=np.empty(max(512, 2 << _bits(n)), np.int32),
            order=np.empty(n, np.int32),
            edges=np.empty(n + 1, np.int32),
            coarse=np.empty((2, 1 << COARSE), np.int64),
            words=np.empty((n >> 6) + 1, np.uint64),
            near=np.empty((blocks, 64), np.int16),
            far=np.empty(blocks, np.int32),
        )


@jit()
def _bits(n: int) -> int:
    """Return how many bits the numbers below n need."""
    bits = 0
    while (1 << bits) < n:
        bits += 1
    return bits


@jit(fastmath={"nnan", "ninf", "nsz", "reassoc"})
def _extent(x: Any) -> tuple[float, float]:
    """Return the least and the largest of finite values."""
    low, high = x[0], x[0]
    for i in range(len(x)):
        low, high = min(low, x[i]), max(high, x[i])
    return low, high


@jit()
def _linear(x: Any, low: float, scale: float, shift: int, packed: Any, spare: Any) -> None:
    """Pack (x - low) * scale, which is below 2**(64 - shift), and the index."""
    shifted, bits = spare.view(np.float64), spare
    for i in range(len(x)):
        # 2**52: from there to 2**53 the last bits of a float64 are an integer. Every step is monotone.
        shifted[i] = (x[i] - low) * scale + 4503599627370496.0
    for i in range(len(x)):
        packed[i] = (bits[i] << np.uint64(shift)) | np.uint64(i)


@jit()
def _logarithmic(x: Any, shift: int, packed: Any) -> None:
    """Pack the bits of x, counted from the least magnitude towards both sides, and the index."""
    bits = x.view(np.int64)
    least, largest = _INFINITE, 0
    for i in range(len(x)):
        magnitude = bits[i] & _MAGNITUDE
        least = min(least, magnitude if magnitude > 0 else _INFINITE)
        largest = max(largest, magnitude)
    base = max(least - _OCTAVE, 0)  # an octave below, so that 0 is a number of its own
    span = largest - base
    room = 0
    while (span >> (62 - room)) == 0:
        room += 1
    for i in range(len(x)):
        magnitude = max((bits[i] & _MAGNITUDE) - base, 0)
        number = span - magnitude if bits[i] < 0 else span + magnitude
        packed[i] = (np.uint64(number << room) >> np.uint64(shift) << np.uint64(shift)) | np.uint64(i)


@jit()
def _digit(n: int) -> int:
    """Return the bits of a pass of the radix sort."""
    return min(max(_bits(n), 8), _DIGIT)


@jit()
def _histogram(packed: Any, bits: int, counts: Any) -> float:
    """Set counts to where numbers with each low digit and each high digit go.

    Returns the share of pairs, each number with itself included, that agree in the high digit.
    """
    size = 1 << bits
    down, mask = np.uint64(64 - 2 * bits), np.uint64(size - 1)
    low, high = counts[:size], counts[size : 2 * size]
    for b in range(size):
        low[b] = 0
    for b in range(size):
        high[b] = 0
    for i in range(len(packed)):
        both = packed[i] >> down
        low[both & mask] += np.int32(1)
        high[both >> np.uint64(bits)] += np.int32(1)
    before, after, crowd = np.int32(0), np.int32(0), 0
    for b in range(size):
        some, more = low[b], high[b]
        low[b], high[b] = before, after
        before += some
        after += more
        crowd += np.int64(more) * np.int64(more)
    return crowd / (float(len(packed)) * len(packed))


@jit()
def _radix_pass(numbers: Any, down: int, bits: int, starts: Any, out: Any) -> None:
    """Move numbers to where those with their digit go, stable."""
    shift, mask = np.uint64(down), np.uint64((1 << bits) - 1)
    for i in range(len(numbers)):
        digit = (numbers[i] >> shift) & mask
        place = starts[digit]
        starts[digit] = place + np.int32(1)
        out[place] = numbers[i]


@jit()
def _nearly_sorted(packed: Any, bits: int, counts: Any, spare: Any) -> bool:
    """Sort numbers whose histogram is known.

    False if that takes too long, with the numbers still all there.
    """
    size = 1 << bits
    _radix_pass(packed, 64 - 2 * bits, bits, counts[:size], spare)
    _radix_pass(spare, 64 - bits, bits, counts[size : 2 * size], packed)
    return _insertion(packed)


@jit()
def quantised(values: Any, work: Work) -> bool:
    """Set work.x, work.packed and the histogram; False if a value is not finite or all are equal."""
    n = len(values)
    if n < 2:
        return False
    x, packed = work.x[:n], work.packed[:n]
    for i in range(n):
        x[i] = np.float64(values[i]) + 0.0  # -0.0 becomes 0.0
    bits: Any = x.view(np.int64)
    largest = 0
    for i in range(n):
        largest = max(largest, bits[i] & _MAGNITUDE)
    if largest >= _INFINITE:
        return False
    low, high = _extent(x)
    if low == high:
        return False
    shift, crowd = max(12, _bits(n)), 1.0
    scale = (2.0 ** (64 - shift) - 1024.0) / (high - low)
    if 0.0 < scale < np.inf:
        _linear(x, low, scale, shift, packed, work.spare)
        crowd = _histogram(packed, _digit(n), work.counts)
    if crowd > _CROWD:
        _logarithmic(x, shift, packed)
        _histogram(packed, _digit(n), work.counts)
    return True


@jit()
def _insertion(a: Any) -> bool:
    """Sort numbers that nearly are in order; stop at too many moves, with the numbers still all there."""
    moves = 0
    for p in range(1, len(a)):
        number = a[p]
        q = p
        while q > 0 and a[q - 1] > number:
            a[q] = a[q - 1]
            q -= 1
        a[q] = number
        moves += p - q
        if moves > _MOVES * len(a):
            return False
    return True


@jit()
def _radix_sort(x: Any, order: Any, keys: Any, other: Any, counts: Any) -> None:
    """Sort indices by value, stable: eight bits at a time from the least, without bits in which all agree."""
    n, bits, differ = len(x), x.view(np.int64), np.uint64(0)
    for i in range(n):
        # a negative number has every bit turned, another its sign: then integers are ordered as the values
        keys[i] = np.uint64(bits[i] ^ ((bits[i] >> 63) | -0x8000000000000000))
        differ |= keys[i] ^ keys[0]
        order[i] = i
    down = np.uint64(0)
    while differ >> down != 0:
        if (differ >> down) & np.uint64(1) == 0:
            down += np.uint64(1)
            continue
        counts[:256] = 0
        for i in range(n):
            counts[(keys[i] >> down) & np.uint64(255)] += np.int32(1)
        start = 0
        for b in range(256):
            start, counts[b] = start + counts[b], start
        for p in range(n):
            i = order[p]
            bucket = (keys[i] >> down) & np.uint64(255)
            other[counts[bucket]] = i
            counts[bucket] += np.int32(1)
        for p in range(n):
            order[p] = other[p]
        if down > np.uint64(55):
            break
        down += np.uint64(8)


@jit()
def order_groups(work: Work, n: int) -> int:
    """Sort what `quantised` left: set work.order and work.edges, return the number of different values."""
    x, packed, spare = work.x[:n], work.packed[:n], work.spare[:n]
    order, edges, counts = work.order[:n], work.edges, work.counts
    shift, digit = np.uint64(max(12, _bits(n))), _digit(n)
    done = _nearly_sorted(packed, digit, counts, spare)
    if not done:  # heavy tails; should they have been quantised like this before, it does not happen again
        _logarithmic(x, max(12, _bits(n)), packed)
        _histogram(packed, digit, counts)
        done = _nearly_sorted(packed, digit, counts, spare)
    index = (np.uint64(1) << shift) - np.uint64(1)
    distinct = done
    for p in range(n):
        order[p] = np.int32(packed[p] & index)
        edges[p] = p
    for p in range(1, n):
        distinct &= packed[p - 1] >> shift != packed[p] >> shift
    groups = n
    if done and not distinct:
        groups = 1
        for p in range(1, n):
            before, value = x[order[p - 1]], x[order[p]]
            done &= before <= value  # equal numbers of different values stand in the order of the rows
            if before != value:
                edges[groups] = p
                groups += 1
    if not done:
        _radix_sort(x, order, packed, spare.view(np.int32)[:n], counts)
        groups = 1
        for p in range(1, n):
            if x[order[p - 1]] != x[order[p]]:
                edges[groups] = p
                groups += 1
    edges[groups] = n
    return groups


@jit()
def sorted_groups(values: Any, work: Work) -> int:
    """Set work.order and work.edges; return the number of different values, 0 where there is no order."""
    return order_groups(work, len(values)) if quantised(values, work) else 0


@jit()
def set_ranks(order: Any, edges: Any, groups: int, ranks: Any) -> None:
    """Set the doubled, centred average ranks."""
    for g in range(groups):
        for p in range(edges[g], edges[g + 1]):
            ranks[order[p]] = edges[g] + edges[g + 1] - len(order)
