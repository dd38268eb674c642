"""Who breeds and who stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxygraph.archive import Individual


def tournament(
    population: Sequence[Individual], parsimony: float, rng: np.random.Generator, rounds: int = 5
) -> Individual:
    """Return the best of `rounds` random members, where every node costs `parsimony` of fitness."""
    picks = [population[i] for i in rng.integers(len(population), size=rounds)]
    best: Individual = max(picks, key=lambda one: one.fitness - parsimony * one.size)
    return best


def survivors(
    pool: Sequence[Individual], n: int, parsimony: float, rng: np.random.Generator
) -> tuple[Individual, ...]:
    """Return `n` of the pool: the best quarter, the others by small tournaments without repetition.

    Of formulas of equal fitness only the smallest stays: nearly always they rank the rows alike, and few rows
    have few values of rho, so that now and then two different orders are taken for one.
    """
    best: dict[float, Individual] = {}
    for one in pool:
        known = best.get(one.fitness)
        if known is None or (one.size, one.dag.key) < (known.size, known.dag.key):
            best[one.fitness] = one
    ordered = sorted(best.values(), key=lambda one: (-(one.fitness - parsimony * one.size), one.dag.key))
    if len(ordered) <= n:
        return tuple(ordered)
    kept, rest = ordered[: n // 4], ordered[n // 4 :]
    # in an ordered list the winner of a tournament is the least index drawn; noise keys do it without
    # replacement
    draws = np.sort(rng.random((len(rest), 2)), axis=1)[:, 0] * len(rest) + np.arange(len(rest))
    chosen = np.sort(np.argsort(draws, kind="stable")[: n - len(kept)])
    return (*kept, *(rest[i] for i in chosen))
