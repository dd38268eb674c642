"""Which networks of a space are measured, and in which order: any first part of a plan is spread as well."""

from __future__ import annotations

import numpy as np

from proxygraph.errors import ConfigError, UnknownName

SPACES = "rtseg:PRESET, streetscenes"


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


def _segmenters(
    preset: str, n: int, size: tuple[int, int], classes: int, rng: np.random.Generator
) -> list[str]:
    from segspace.rtseg.space import Space

    return [str(arch) for arch in Space.preset(preset).stratified(n, rng, size=size, classes=classes)]


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
