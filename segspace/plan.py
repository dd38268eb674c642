"""Which networks of a space are measured, and in which order: any first part of a plan is spread as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError, UnknownName

SPACES = "rtseg:PRESET, streetscenes"
_POOL = 20  # networks drawn for every one that is kept


def planned(
    space: str, n: int, n_second: int, *, size: tuple[int, int], classes: int, seed: int
) -> list[tuple[str, int]]:
    """Return all (arch text, training seed) of a table.

    Parameters
    ----------
    space : str
        ``rtseg:PRESET``, stratified by multiply-adds and depth; or ``streetscenes``, drawn uniformly.
    n, n_second : int
        How many networks, and how many of them are trained twice: spread over the first three quarters.
    size, classes
        What multiply-adds are counted for.
    seed : int
        Of the choice.

    Raises
    ------
    UnknownName
        If there is no such space.
    ConfigError
        If the numbers do not fit.
    """
    if n < 1 or not 0 <= n_second <= n:
        raise ConfigError(f"{n} networks, {n_second} second seeds: expected n >= 1 and no more second seeds")
    rng = np.random.default_rng([seed, 0x6D])
    kind, _, preset = space.partition(":")
    if kind == "rtseg" and preset:
        archs = _segmenters(preset, n, size, classes, rng)
    elif space == "streetscenes":
        archs = _micro_networks(n, rng)
    else:
        raise UnknownName(f"no space {space!r} to measure; known: {SPACES}")
    again = {round(k * 0.75 * n / max(n_second, 1)) for k in range(n_second)}
    return [(arch, s) for k, arch in enumerate(archs) for s in ((0, 1) if k in again else (0,))]


def stratified(costs: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[int]:
    """Return `n` different rows of ``costs`` (rows, 2), spread evenly over the ranges of both columns.

    The range of the first column is cut into `n` intervals, and so is the second's; every interval is used
    once, in random pairs, and takes the nearest row that is left.
    """
    low, high = costs.min(0), costs.max(0)
    unit = (costs - low) / np.where(high > low, high - low, 1)
    wanted = np.stack([(rng.permutation(n) + 0.5) / n for _ in range(2)], 1)
    free = np.ones(len(unit), bool)
    chosen = []
    for point in wanted:
        away = np.where(free, np.square(unit - point) @ (4.0, 1.0), np.inf)  # the first column comes first
        chosen.append(int(away.argmin()))
        free[chosen[-1]] = False
    return chosen


def _distinct(draw: Callable[[], str], n: int) -> Sequence[str]:
    """Return up to `n` different texts, fewer if the space runs out of them."""
    found: dict[str, None] = {}
    for _ in range(20 * n):
        found[draw()] = None
        if len(found) == n:
            break
    return list(found)


def _segmenters(
    preset: str, n: int, size: tuple[int, int], classes: int, rng: np.random.Generator
) -> list[str]:
    from segspace.rtseg.space import Space

    space = Space.preset(preset)
    raise NotImplementedError((space, n, size, classes, rng))


def _micro_networks(n: int, rng: np.random.Generator) -> list[str]:
    """Return connected micro networks of distinct live cells, drawn uniformly."""
    from segspace.transnas101 import Arch, all_archs

    archs = all_archs()
    drawn: dict[Arch, Arch] = {}
    for k in rng.permutation(len(archs)).tolist():
        if archs[k].connected:
            drawn.setdefault(archs[k].live(), archs[k])
    if n > len(drawn):
        raise ConfigError(f"{n} networks: expected 1 to {len(drawn)}, the number of distinct connected cells")
    return [f"streetscenes:{arch}" for arch in list(drawn.values())[:n]]
