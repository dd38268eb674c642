"""Constants of trees fitted to a target by least squares; compiled, one tree after the other.

Levenberg-Marquardt (Marquardt 1963, SIAM J. Appl. Math. 11) on the constants of a tree, with exact
derivatives. What is judged is the best line through a formula, so slope and offset are projected out
(variable projection, Golub & Pereyra 1973, SIAM J. Numer. Anal. 10; Jacobian as simplified by Kaufman 1975,
BIT 15) instead of being fitted along: every trial has the best slope and offset for its constants, which
needs fewer trials than two parameters more (of 200 known problems of one to three constants, started 50 %
off, five trials solve 60 %, with slope and offset as parameters 34 %); and constants that a line makes up
for, as `c` in ``c*x``, are left out.

Sums are taken in one order whatever the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.breed import MAX_CONSTANT
from proxygraph.compact.forest import LEAF
from proxygraph.jit import jit
from proxygraph.kernels.adjoint import derivatives, values
from proxygraph.kernels.free import occurrences, seconds, tie

BLOCK = 1024
"""Rows in a block: the values of a tree and their derivatives fit the second cache of a core."""
DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-12, 1e12
RAISE, LOWER = 8.0, 0.1
"""Damping after a trial that failed is so much higher, and after a good one so much lower at most."""
DEAD = 1e-20
"""Share of a derivative's square that must remain after projection, or its constant is made up for."""
ROUNDING = 1e-31
"""Share of the target's variance below which residuals are rounding."""


# ---- least squares -----------------------------------------------------------------------------------------


@jit(fastmath={"reassoc"})
def _dot(w: Any, a: Any, b: Any) -> float:
    total = 0.0
    for i in range(len(a)):
        total += w[i] * a[i] * b[i]
    return total


@jit(fastmath={"reassoc"})
def _mean(w: Any, a: Any) -> float:
    """Return the weighted mean; the weights have mean 1."""
    total = 0.0
    for i in range(len(a)):
        total += w[i] * a[i]
    return total / len(a)


@jit()
def _residuals(f: Any, target: Any, w: Any, line: bool, centred: Any, rest: Any) -> Any:
    """Set what the best line through `f` (or `f` itself) leaves; return its square, the slope, f's square."""
    if not line:
        for i in range(len(f)):
            rest[i] = target[i] - f[i]
        return _dot(w, rest, rest), 1.0, 1.0
    mean = _mean(w, f)
    for i in range(len(f)):
        centred[i] = f[i] - mean
    spread = _dot(w, centred, centred)
    if not spread > 1e-28 * len(f) * mean * mean:  # equal values up to rounding, or none
        return np.nan, 0.0, spread
    slope = _dot(w, centred, target) / spread
    for i in range(len(f)):
        rest[i] = target[i] - slope * centred[i]
    return _dot(w, rest, rest), slope, spread


@jit()
def _project(j: Any, w: Any, slope: float, centred: Any, spread: float) -> bool:
    """Take out of a derivative what a line makes up for, in place; False if nothing but rounding is left."""
    mean = _mean(w, j)
    along = _dot(w, j, centred) / spread
    before = _dot(w, j, j)
    for i in range(len(j)):
        j[i] = slope * (j[i] - mean - along * centred[i])
    return _dot(w, j, j) > DEAD * before * slope * slope


@jit()
def _step(gram: Any, grad: Any, k: int, damping: float, chol: Any, step: Any) -> float:
    """Set the damped step; return the decrease of the sum of squares it promises, NaN if it has none.

    Parameters are scaled by the size of their derivatives (Marquardt 1963, section on scaling).
    """
    for a in range(k):
        for b in range(a + 1):
            s = gram[a, b] / np.sqrt(gram[a, a] * gram[b, b]) + (damping if a == b else 0.0)
            for c in range(b):
                s -= chol[a, c] * chol[b, c]
            if a == b:
                if not s > 0.0:
                    return np.nan
                chol[a, a] = np.sqrt(s)
            else:
                chol[a, b] = s / chol[b, b]
    for a in range(k):
        s = grad[a] / np.sqrt(gram[a, a])
        for c in range(a):
            s -= chol[a, c] * step[c]
        step[a] = s / chol[a, a]
    promised = 0.0
    for a in range(k - 1, -1, -1):
        s = step[a]
        for c in range(a + 1, k):
            s -= chol[c, a] * step[c]
        step[a] = s / chol[a, a]
        promised += step[a] * (grad[a] / np.sqrt(gram[a, a]) + damping * step[a])
    for a in range(k):
        step[a] /= np.sqrt(gram[a, a])
    return promised


@jit()
def _normal(
    slopes: Any, k: int, w: Any, rest: Any, line: bool, slope: float, centred: Any, spread: float, room: Any
) -> None:
    """Set the normal equations; a constant whose derivative is no use gets a step of 0."""
    for a in range(k):
        good = True
        if line:
            good = _project(slopes[a], w, slope, centred, spread)
        square = _dot(w, slopes[a], slopes[a])
        if not (good and 1e-280 < square < 1e280):
            slopes[a, :] = 0.0
            square = 1.0
        room.gram[a, a] = square
        room.grad[a] = _dot(w, slopes[a], rest)
        for b in range(a):
            room.gram[a, b] = _dot(w, slopes[a], slopes[b])


# ---- one tree, and many ------------------------------------------------------------------------------------


class Room(NamedTuple):
    """Arrays that a thread works in; L nodes, N rows, blocks of B."""

    node: NDArray[np.float64]
    """Values of parts, shape (L, B)."""
    up: NDArray[np.float64]
    """Derivatives of the formula by parts, shape (L, B)."""
    slopes: NDArray[np.float64]
    """Derivatives of the formula by constants, shape (L, N)."""
    f: NDArray[np.float64]
    centred: NDArray[np.float64]
    rest: NDArray[np.float64]
    gram: NDArray[np.float64]
    chol: NDArray[np.float64]
    grad: NDArray[np.float64]
    step: NDArray[np.float64]
    tried: NDArray[np.float64]
    """Values of constants on trial."""
    place: NDArray[np.int64]
    """Of each constant that is fitted."""
    group: NDArray[np.int64]
    """The parameter that each follows."""
    row: NDArray[np.int64]
    """Where in `slopes` the constant at a place has its derivative."""
    second: NDArray[np.int64]
    around: NDArray[np.int64]
    skip: NDArray[np.bool_]
    """Parts that hold no constant that is fitted."""
    nothing: NDArray[np.bool_]


@jit()
def _room(capacity: int, n_rows: int) -> Room:
    block = min(BLOCK, n_rows)
    return Room(
        np.empty((capacity, block)),
        np.empty((capacity, block)),
        np.empty((capacity, n_rows)),
        np.empty(n_rows),
        np.empty(n_rows),
        np.empty(n_rows),
        np.empty((capacity, capacity)),
        np.empty((capacity, capacity)),
        np.empty(capacity),
        np.empty(capacity),
        np.empty(capacity),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.bool_),
        np.zeros(capacity, np.bool_),
    )


@jit()
def _prepared(
    code: Any, value: Any, n: int, arity: Any, line: bool, tied: bool, frozen: Any, room: Any
) -> int:
    """Find what is to be fitted in a tree; return the number of places, -1 if nothing can be."""
    if not seconds(code, n, arity, room.second):
        return -1
    k = occurrences(code, n, arity, room.second, line, frozen, room.place, room.around)
    if k == 0:
        return 0
    for o in range(k):
        room.group[o] = o
    if tied:
        k = tie(code, value, n, frozen, room.place, k, room.group)
    room.skip[:n] = True
    for o in range(k):
        room.skip[room.place[o]] = False
        room.row[room.place[o]] = o
    for at in range(n - 1, -1, -1):
        c = code[at]
        if 0 <= c < LEAF:
            room.skip[at] = room.skip[at + 1] and (arity[c] == 1 or room.skip[room.second[at]])
    return k


@jit()
def _evaluated(code: Any, n: int, arity: Any, skip: Any, columns: Any, room: Any) -> None:
    """Compute the values of the tree on trial."""
    for lo in range(0, len(room.f), BLOCK):
        f = room.f[lo : lo + BLOCK]
        values(code, room.tried, n, arity, room.second, skip, columns, lo, room.node, f)


@jit()
def _derived(code: Any, n: int, arity: Any, columns: Any, k: int, room: Any) -> int:
    """Compute the derivatives of the tree that was evaluated last; return the number of parameters."""
    for lo in range(0, len(room.f), BLOCK):
        f = room.f[lo : lo + BLOCK]
        if len(room.f) > BLOCK:  # of several blocks only the last one is still there
            values(code, room.tried, n, arity, room.second, room.nothing, columns, lo, room.node, f)
        derivatives(
            code,
            room.tried,
            n,
            arity,
            room.second,
            room.skip,
            room.row,
            columns,
            lo,
            room.node,
            f,
            room.up,
            room.slopes,
        )
    parameters = 0
    for o in range(k):
        g = room.group[o]
        if g == parameters:
            parameters += 1
            if g < o:
                for i in range(len(room.f)):
                    room.slopes[g, i] = room.slopes[o, i]
        else:
            for i in range(len(room.f)):
                room.slopes[g, i] += room.slopes[o, i]
    return parameters


@jit()
def _fit_one(
    code: Any,
    value: Any,
    n: int,
    k: int,
    arity: Any,
    columns: Any,
    target: Any,
    weights: Any,
    variance: float,
    line: bool,
    trials: int,
    enough: float,
    room: Any,
) -> float:
    """Improve the constants in `value`; return the sum of squares that is left, NaN if it is not finite."""
    tried, place, group, step = room.tried, room.place, room.group, room.step
    for i in range(n):
        tried[i] = value[i]
    _evaluated(code, n, arity, room.nothing, columns, room)
    left, slope, spread = _residuals(room.f, target, weights, line, room.centred, room.rest)
    if not left < np.inf:
        return np.nan
    settled = room.skip if len(room.f) <= BLOCK else room.nothing
    damping, raised, fresh, parameters = DAMPING, RAISE, True, 0
    for _ in range(trials):
        if fresh:
            parameters = _derived(code, n, arity, columns, k, room)
            _normal(room.slopes, parameters, weights, room.rest, line, slope, room.centred, spread, room)
        promised = _step(room.gram, room.grad, parameters, damping, room.chol, step)
        if not promised > enough * left or left <= ROUNDING * variance or damping > MOST_DAMPING:
            break
        small = True
        for o in range(k):
            tried[place[o]] = value[place[o]] + step[group[o]]
            small &= abs(tried[place[o]]) < MAX_CONSTANT
        now, new_slope, new_spread = np.nan, 0.0, 1.0
        if small:
            _evaluated(code, n, arity, settled, columns, room)
            now, new_slope, new_spread = _residuals(room.f, target, weights, line, room.centred, room.rest)
        fresh = now < left
        if fresh:
            # a good model is trusted more, a bad one less (Nielsen 1999, IMM-REP-1999-05)
            gain = (left - now) / promised
            damping = max(LEAST_DAMPING, damping * max(LOWER, 1.0 - (2.0 * gain - 1.0) ** 3))
            raised = RAISE
            left, slope, spread = now, new_slope, new_spread
            for o in range(k):
                value[place[o]] = tried[place[o]]
        else:
            damping *= raised
            raised *= 2.0
    return left


@jit()
def fit(
    code: NDArray[np.int16],
    value: NDArray[np.float64],
    length: NDArray[np.int32],
    arity: NDArray[np.int8],
    columns: NDArray[np.float64],
    target: NDArray[np.float64],
    weights: NDArray[np.float64],
    line: bool,
    tied: bool,
    frozen: NDArray[np.bool_],
    trials: int,
    enough: float,
    first: int,
    last: int,
    loss: NDArray[np.float64],
) -> None:
    """Fit the constants of trees `first` to `last`, in place: where better ones are found.

    Parameters
    ----------
    code, value, length : ndarray
        Of a forest.
    arity : ndarray of int8
        Of every operator.
    columns : ndarray of float64, shape (leaves, N), contiguous
    target, weights : ndarray of float64, shape (N,)
        The weights have mean 1.
    line : bool
        Whether the best line through the formula is judged, or the formula itself.
    tied : bool
        Whether equal constants of a tree stay equal.
    frozen : ndarray of bool, shape (P, L) or (0, 0)
        Constants that stay.
    trials : int
        Most sets of constants that are tried; 0 only measures, also trees that have nothing to fit.
    enough : float
        Stop when a step promises less than this share of what is left.
    loss : ndarray of float64, shape (P,)
        Gets the share of the target's variance that is left; NaN for a tree that has nothing to fit, is not
        finite on all rows, or is constant.
    """
    room = _room(code.shape[1], len(target))
    none = np.zeros(0, np.bool_)
    centred = target - _mean(weights, target)
    variance = _dot(weights, centred, centred)
    y = centred if line else target
    for i in range(first, last):
        loss[i] = np.nan
        held = frozen[i] if len(frozen) > 0 else none
        n = length[i]
        k = _prepared(code[i], value[i], n, arity, line, tied, held, room) if variance > 0.0 else -1
        if k > 0 or (k == 0 and trials == 0):
            left = _fit_one(
                code[i], value[i], n, k, arity, columns, y, weights, variance, line, trials, enough, room
            )
            loss[i] = left / variance
