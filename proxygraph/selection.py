"""Who stays: the survivors of a generation, on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def representatives(
    fitness: NDArray[np.float64], size: NDArray[Any], code: NDArray[np.uint64], key: NDArray[np.uint64]
) -> NDArray[np.intp]:
    """Return one formula of every class of equal `code`: the smallest, by `key` among equally small ones.

    Of formulas of equal fitness, too, only the smallest stays: nearly always they rank the rows alike up to
    ties, and few rows have few values of rho.
    """
    for label in (code, fitness.view(np.uint64)):
        order = np.lexsort((key, size, label))
        first = np.ones(len(order), bool)
        first[1:] = label[order][1:] != label[order][:-1]
        keep = np.zeros(len(order), bool)
        keep[order[first]] = True
        code = np.where(keep, code, np.uint64(0))
        fitness = np.where(keep, fitness, -1.0)
    return np.flatnonzero(fitness >= 0.0)


def rank_within(
    group: NDArray[Any], score: NDArray[np.float64], key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return how many of the same group are better, by `key` between equals.

    Examples
    --------
    >>> rank_within(np.array([3, 3, 5]), np.array([0.1, 0.2, 0.0]), np.zeros(3, np.uint64)).tolist()
    [1, 0, 0]
    """
    order = np.lexsort((key, -score, group))
    ordered = group[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(order) else np.zeros(0, int)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return rank


def survivors(
    score: NDArray[np.float64], key: NDArray[np.uint64], n: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the positions of `n` of the pool: the best quarter, the others by small tournaments.

    Parameters
    ----------
    score : ndarray of float64, shape (P,)
        Fitness less what size costs.
    key : ndarray of uint64, shape (P,)
        Decides between equal scores.
    n : int
    rng : Generator
    """
    ordered = np.lexsort((key, -score))
    if len(ordered) <= n:
        return ordered
    kept, rest = ordered[: n // 4], ordered[n // 4 :]
    # in an ordered list the winner of a tournament is the least index drawn; noise keys do it without
    # replacement
    draws = np.sort(rng.random((len(rest), 2)), axis=1)[:, 0] * len(rest) + np.arange(len(rest))
    chosen = np.sort(np.argsort(draws, kind="stable")[: n - len(kept)])
    return np.concatenate([kept, rest[chosen]])
