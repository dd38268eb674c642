"""Which entries are kept: the beginning of a random permutation that a key fixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

_PERMUTED: Final = 1 << 14  # up to here a whole permutation is cheap


def prefix(key: Sequence[int], n: int, k: int | None) -> Index:
    """Return the first `k` entries (None: all) of the random permutation of 0..n-1 that `key` fixes.

    The first k of it are the first k of any longer prefix, so a table thinned to k samples equals one
    collected with k.

    Notes
    -----
    A long permutation is not written down: the first quarter of it is what a stream of independent uniform
    numbers gives when repetitions are dropped, which has the same distribution.
    """
    k = n if k is None else min(k, n)
    rng = np.random.default_rng([*key, 0])
    if n <= _PERMUTED:
        return rng.permutation(n)[:k]
    streamed = min(k, n // 4)
    numbers = rng.integers(0, n, size=streamed + streamed**2 // n + 32)
    while len(head := _first_occurrences(numbers)) < streamed:
        numbers = np.concatenate([numbers, rng.integers(0, n, size=32 + streamed // 8)])
    head = head[:streamed]
    if k == streamed:
        return head
    # the rest depends on a whole quarter and on a generator of its own, never on how much was asked for
    left = np.ones(n, dtype=bool)
    left[head] = False
    rest = np.random.default_rng([*key, 1]).permutation(np.flatnonzero(left))
    return np.concatenate([head, rest[: k - streamed]])


def _first_occurrences(numbers: Index) -> Index:
    """Return the distinct numbers in the order in which they first appear."""
    first = np.unique(numbers, return_index=True)[1]
    return numbers[np.sort(first)]


def merged(key: Sequence[int], sizes: Sequence[int], k: int | None) -> tuple[Index, Index]:
    """Return a sample of several populations joined, given a sample of each.

    Population c has `sizes[c]` members, of which ``prefix`` fixed an order of their own.

    Returns
    -------
    population : ndarray, shape (min(k, sum(sizes)),)
        Which population each sample comes from.
    place : ndarray, same shape
        Its place in that population's order; within a population 0, 1, 2, ...

    Notes
    -----
    Uniform over the union: a permutation of the union, read as a sequence of populations, with each
    population's members put in their own random order.
    """
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    population = np.searchsorted(ends, prefix(key, int(ends[-1]), k), side="right")
    place = np.empty(len(population), dtype=np.int64)
    for c in range(len(sizes)):
        mine = population == c
        place[mine] = np.arange(int(mine.sum()))
    return population, place
