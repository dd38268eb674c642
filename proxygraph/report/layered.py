"""Where the nodes of a rooted graph stand when it is drawn in layers, and how its edges run.

The method of Sugiyama, Tagawa and Toda (1981, IEEE Trans. SMC 11(2), 109-125): layers by the longest way to
the root, placeholders where an edge crosses a layer, orders by barycentres, then places nearest to the
neighbours' in the sense of least squares (isotonic regression), so that no two nodes of a layer can overlap.
Graphs of formulas and of networks are small; nothing here is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

SWEEPS: Final = 24
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """Places of a drawing, in the units of the widths given.

    Attributes
    ----------
    x, y : ndarray of float64, shape (N,)
        Centres of the nodes; the root has the least y.
    edges : tuple of (int, int, int, list of (float, float))
        From which node, argument slot, to which node, and the points it runs through: the middle of the
        user's lower side, the places where it crosses layers, the middle of the argument's upper side.
    width, height : float
    """

    x: _Floats
    y: _Floats
    edges: tuple[tuple[int, int, int, list[tuple[float, float]]], ...]
    width: float
    height: float


def layered(
    arguments: Sequence[Sequence[int]],
    widths: Sequence[float],
    height: float,
    *,
    gap: float = 16.0,
    between: float = 30.0,
) -> Drawing:
    """Lay out a graph whose last node is the root.

    Parameters
    ----------
    arguments : sequence of sequence of int
        For every node, in topological order, the nodes it uses; every node is used, but for the last one.
    widths : sequence of float, shape (N,)
    height : float
        Of every node.
    gap, between : float
        Least space between neighbours of a layer, and space between layers.

    Examples
    --------
    >>> drawing = layered([[], [], [0, 1]], [40.0, 40.0, 40.0], 20.0)
    >>> drawing.y.tolist(), drawing.x.tolist()
    ([60.0, 60.0, 10.0], [20.0, 76.0, 48.0])
    """
    level = _levels(arguments)
    chains, edges = _chains(arguments, level)
    n_layers = max(level) + 1
    place_of = [*level, *(lv for _, lv in chains)]
    room = np.array([*widths, *([2.0] * len(chains))])
    above: list[list[int]] = [[] for _ in place_of]  # one list per node or placeholder
    below: list[list[int]] = [[] for _ in place_of]
    for path in edges:
        for upper, lower in pairwise(path[2:]):
            below[upper].append(lower)
            above[lower].append(upper)
    layers = _ordered(_first_order(below, len(arguments) - 1, place_of, n_layers), above, below)
    x = _places(layers, above, below, room, gap)
    x -= min(x[i] - room[i] / 2 for i in range(len(x)))
    y = np.array([lv * (height + between) + height / 2 for lv in place_of])
    drawn = []
    for user, slot, *path in edges:
        inner = [(float(x[i]), float(y[i])) for i in path[1:-1]]
        top = (float(x[path[0]]), float(y[path[0]] + height / 2))
        bottom = (float(x[path[-1]]), float(y[path[-1]] - height / 2))
        drawn.append((user, slot, path[-1], [top, *inner, bottom]))
    n = len(arguments)
    right = max(x[i] + room[i] / 2 for i in range(len(x)))
    return Drawing(x[:n], y[:n], tuple(drawn), float(right), float(n_layers * (height + between) - between))


def _levels(arguments: Sequence[Sequence[int]]) -> list[int]:
    """Return how many edges the longest way to the root has."""
    level = [0] * len(arguments)
    for i in reversed(range(len(arguments))):
        for j in arguments[i]:
            level[j] = max(level[j], level[i] + 1)
    return level


def _chains(
    arguments: Sequence[Sequence[int]], level: Sequence[int]
) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Return the placeholders as (argument, layer), and every edge as [user, slot, user, ..., argument].

    Edges to one argument share placeholders, so that they run together. Two edges between the same two nodes,
    as of ``x * x``, are two.
    """
    chains: list[tuple[int, int]] = []
    known: dict[tuple[int, int], int] = {}
    edges: list[list[int]] = []
    for i, nodes in enumerate(arguments):
        for slot, j in enumerate(nodes):
            path = [i]
            for lv in range(level[i] + 1, level[j]):
                if (j, lv) not in known:
                    known[j, lv] = len(arguments) + len(chains)
                    chains.append((j, lv))
                path.append(known[j, lv])
            edges.append([i, slot, *path, j])
    return chains, edges


def _first_order(
    below: Sequence[Sequence[int]], root: int, place_of: Sequence[int], n_layers: int
) -> list[list[int]]:
    """Return the layers in the order in which a walk from the root meets them: no crossings in trees."""
    layers: list[list[int]] = [[] for _ in range(n_layers)]
    met: set[int] = set()

    def walk(i: int) -> None:
        if i not in met:
            met.add(i)
            layers[place_of[i]].append(i)
            for j in below[i]:
                walk(j)

    walk(root)
    return layers


def _ordered(
    layers: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return the layers in the order of the fewest crossings that sweeps of barycentres find."""
    best, fewest = layers, _crossings(layers, below)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        rank = {i: k for layer in layers for k, i in enumerate(layer)}
        near, order = (above, range(len(layers))) if sweep % 2 == 0 else (below, range(len(layers))[::-1])
        layers = [list(layer) for layer in layers]
        for k in order:
            if sweep % 4 > 1:  # ties the other way round, or they would stay as they are for ever
                layers[k].reverse()
            layers[k].sort(
                key=lambda i: float(np.mean([rank[j] for j in near[i]])) if near[i] else float(rank[i])
            )
            rank.update({i: place for place, i in enumerate(layers[k])})
        if (crossings := _crossings(layers, below)) < fewest:
            best, fewest = layers, crossings
    return best


def _crossings(layers: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    """Count the pairs of edges between neighbouring layers that cross."""
    count = 0
    for upper, lower in pairwise(layers):
        rank = {i: k for k, i in enumerate(lower)}
        ends = [(k, rank[j]) for k, i in enumerate(upper) for j in below[i]]
        count += sum(
            (a < c and b > d) or (a > c and b < d) for n, (a, b) in enumerate(ends) for c, d in ends[:n]
        )
    return count


def _places(
    layers: Sequence[Sequence[int]],
    above: Sequence[Sequence[int]],
    below: Sequence[Sequence[int]],
    room: _Floats,
    gap: float,
) -> _Floats:
    """Return centres, as near to the mean of the neighbours' as order and room allow."""
    x = np.zeros(len(room))
    for sweep in range(SWEEPS):
        order = layers if sweep % 2 else layers[::-1]
        for layer in order:
            near = [(above if sweep % 2 else below)[i] for i in layer]
            wish = np.array([np.mean(x[js]) if js else x[i] for i, js in zip(layer, near, strict=True)])
            half = room[list(layer)] / 2
            apart = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:] + gap)])
            # centres minus the room to their left may only grow: an isotonic regression
            x[list(layer)] = isotonic_regression(wish - apart).x + apart
    return x
