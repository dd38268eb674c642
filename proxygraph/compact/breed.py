"""Making new trees: at random, by crossover, by mutation; compiled, many at a time.

Types are kept by construction: a part is only ever exchanged for a part on the same axis. Every child has a
random stream of its own, a function of seed, generation and position, so that children do not depend on how
the work is shared out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.forest import CONST, LEAF, POW, ROW, Symbols, Vocabulary
from proxygraph.compact.keys import mixed
from proxygraph.errors import ConfigError
from proxygraph.jit import jit

_GOLD = np.uint64(0x9E3779B97F4A7C15)
_S11, _S32 = np.uint64(11), np.uint64(32)
MAX_CONSTANT = 1e30
TRIES = 6
KINDS = ("fresh", "crossover", "subtree", "point", "hoist", "insert", "constant")
"""Ways to make a child, in the order of `Choices.rates`."""
FRESH, CROSSOVER, SUBTREE, POINT, HOIST, INSERT, CONSTANT = range(7)


UNARY, BINARY, REDUCTIONS, LEAVES, FINER, COARSER = 0, 1, 2, 3, 7, 11
"""Pools of `Choices`; from LEAVES, FINER and COARSER on there is one for each axis."""


class Choices(NamedTuple):
    """What trees may be made of, as arrays.

    Attributes
    ----------
    symbols : Symbols
    entries, begin : ndarray of int16, ndarray of int64, shape (16,)
        Pools to pick from, one after the other: codes of the unary (pow among them) and binary operators, of
        the reductions, of the leaves on each axis; then the axes that can be reduced to each axis, and those
        that can be spread to each axis and have something on them.
    constants : ndarray of float64
        Values that random constants start from.
    rates : ndarray of float64, shape (7,)
        Cumulative probabilities of `KINDS`.
    max_size : int
        Most nodes of a tree made here.
    """

    symbols: Symbols
    entries: NDArray[np.int16]
    begin: NDArray[np.int64]
    constants: NDArray[np.float64]
    rates: NDArray[np.float64]
    max_size: int


RATES: Mapping[str, float] = {
    "fresh": 0.08,
    "crossover": 0.35,
    "subtree": 0.114,
    "point": 0.114,
    "hoist": 0.114,
    "insert": 0.114,
    "constant": 0.114,
}


def choices(
    vocabulary: Vocabulary,
    ops: Sequence[str],
    max_size: int,
    constants: Sequence[float] = (0.5, 1.0, 2.0, 3.0, 10.0, 0.1, -1.0),
    rates: Mapping[str, float] = RATES,
) -> Choices:
    """Return the choices of a search.

    Parameters
    ----------
    vocabulary : Vocabulary
    ops : sequence of str
        Names of the operators allowed.
    max_size : int
        Most nodes of a tree.
    constants : sequence of float
        Values that random constants start from.
    rates : mapping of str to float
        Weight of each of `KINDS`.

    Raises
    ------
    ConfigError
        If no formula can be made of them.
    """
    symbols, code = vocabulary.symbols, {name: i for i, name in enumerate(vocabulary.ops)}
    reductions = [code[name] for name in ops if symbols.reduces[code[name]]]
    plain = [code[name] for name in ops if not symbols.reduces[code[name]]]
    leaves = [[LEAF + k for k, on in enumerate(symbols.leaf_axis) if on == axis] for axis in range(4)]
    under: tuple[tuple[int, ...], ...] = ((1,), (2, 3), (), ())

    def made(axis: int) -> bool:
        """Whether anything but constants can be had on an axis."""
        return bool(leaves[axis]) or any(made(finer) for finer in under[axis] if reductions)

    if not made(ROW):
        raise ConfigError(
            "no formula can be made: there is no leaf on the row axis, and none that can be reduced"
        )
    pools = [
        [c for c in plain if symbols.arity[c] == 1],
        [c for c in plain if symbols.arity[c] == 2],
        reductions,
        *leaves,
        *([finer for finer in under[axis] if reductions and made(finer)] for axis in range(4)),
        *([coarse for coarse in ((), (0,), (1, 0), (1, 0))[axis] if made(coarse)] for axis in range(4)),
    ]
    weights = np.array([rates[kind] for kind in KINDS])
    return Choices(
        symbols,
        np.array([entry for pool in pools for entry in pool], np.int16),
        np.cumsum([0, *map(len, pools)]).astype(np.int64),
        np.array(constants, np.float64),
        np.cumsum(weights) / weights.sum(),
        max_size,
    )


# ---- random numbers ----------------------------------------------------------------------------------------


@jit()
def _bits(state: NDArray[np.uint64]) -> Any:
    """Return 64 random bits (SplitMix64, Steele et al. 2014)."""
    state[0] += _GOLD
    return mixed(state[0])


@jit()
def _uniform(state: NDArray[np.uint64]) -> float:
    """Return a number in [0, 1)."""
    return np.float64(_bits(state) >> _S11) * (1.0 / 9007199254740992.0)


@jit()
def _below(state: NDArray[np.uint64], n: int) -> int:
    """Return an integer in [0, n)."""
    return np.int64(((_bits(state) >> _S32) * np.uint64(n)) >> _S32)


@jit()
def _normal(state: NDArray[np.uint64]) -> float:
    """Return a standard normal number (Box & Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log(1.0 - _uniform(state)))
    return radius * np.cos(2.0 * np.pi * _uniform(state))


# ---- parts of trees ----------------------------------------------------------------------------------------


@jit()
def _end(code: NDArray[np.int16], at: int, symbols: Any) -> int:
    """Return the place behind the part that begins at `at`."""
    missing = 1
    while missing > 0:
        c = code[at]
        missing += (symbols.arity[c] if 0 <= c < LEAF else 0) - 1
        at += 1
    return at


@jit()
def _axes(code: NDArray[np.int16], length: int, symbols: Any, axis: NDArray[np.int8]) -> None:
    """Set the axis of every node."""
    stack, top = np.empty(length + 1, np.int8), 0
    for at in range(length - 1, -1, -1):
        c = code[at]
        if c == CONST:
            axis[at] = ROW
        elif c >= LEAF:
            axis[at] = symbols.leaf_axis[c - LEAF]
        elif symbols.arity[c] == 1:
            top -= 1
            axis[at] = stack[top]
            if symbols.reduces[c]:
                axis[at] = ROW if axis[at] == 1 else 1
        else:
            top -= 2
            axis[at] = max(stack[top], stack[top + 1])
        stack[top] = axis[at]
        top += 1


@jit()
def _size(have: Any, pool: int) -> int:
    """Return the number of entries of a pool."""
    return have.begin[pool + 1] - have.begin[pool]


@jit()
def _pick(state: Any, have: Any, pool: int) -> int:
    """Return a random entry of a pool."""
    return have.entries[have.begin[pool] + _below(state, _size(have, pool))]


@jit()
def _random_exponent(state: Any) -> float:
    return (-2.0, -1.0, -0.5, 0.5, 1.5, 4.0)[_below(state, 6)]


@jit()
def _grow(state: Any, axis: int, budget: int, have: Any, code: Any, value: Any, at: int, room: int) -> int:
    """Write a random part of about `budget` nodes on `axis` from place `at`; return the place behind it.

    Returns -1 if it would not end before `room`.
    """
    axes, budgets = np.empty(64, np.int8), np.empty(64, np.int64)
    axes[0], budgets[0], top = axis, budget, 1
    while top > 0:
        top -= 1
        axis, budget = axes[top], budgets[top]
        if at >= room or top > 60:
            return -1
        value[at] = 0.0
        if axis < 0:
            code[at], value[at] = CONST, have.constants[_below(state, len(have.constants))]
            at += 1
            continue
        leaves = _size(have, LEAVES + axis) > 0
        # going down to finer axes is where most statistics are; leaves of this axis are the short cut
        unary, binary = 1.0 * (_size(have, UNARY) > 0), 2.0 * (_size(have, BINARY) > 0 and budget > 2)
        reduce, leaf = 3.0 * (_size(have, FINER + axis) > 0), 0.5 * leaves
        if budget <= 1 and leaves:
            unary, binary, reduce = 0.0, 0.0, 0.0
        elif budget <= 2 and not leaves and reduce > 0.0:
            unary, binary = 0.0, 0.0
        draw = _uniform(state) * (unary + binary + reduce + leaf)
        if draw < leaf:
            code[at] = _pick(state, have, LEAVES + axis)
            at += 1
        elif draw < leaf + reduce:
            code[at] = _pick(state, have, REDUCTIONS)
            at += 1
            axes[top], budgets[top] = _pick(state, have, FINER + axis), budget - 1
            top += 1
        elif draw < leaf + reduce + binary:
            code[at] = _pick(state, have, BINARY)
            at += 1
            left = 1 + _below(state, max(1, budget - 2))
            other, kind = axis, _uniform(state)
            if kind < 0.2:
                other = -1  # a constant
            elif kind < 0.44 and _size(have, COARSER + axis) > 0:
                other = _pick(state, have, COARSER + axis)
            own_last = _uniform(state) < 0.5
            axes[top], budgets[top] = (axis, left) if own_last else (other, budget - 1 - left)
            axes[top + 1], budgets[top + 1] = (other, budget - 1 - left) if own_last else (axis, left)
            top += 2
        else:
            code[at] = _pick(state, have, UNARY)
            if code[at] == POW:
                value[at] = _random_exponent(state)
            at += 1
            axes[top], budgets[top] = axis, budget - 1
            top += 1
    return at


@jit()
def _copy(code: Any, value: Any, begin: int, end: int, to_code: Any, to_value: Any, at: int) -> int:
    """Copy nodes `begin` to `end` to place `at`; return the place behind them."""
    for k in range(begin, end):
        to_code[at], to_value[at] = code[k], value[k]
        at += 1
    return at


@jit()
def _tournament(state: Any, score: NDArray[np.float64], rounds: int) -> int:
    """Return the best of `rounds` random members."""
    best = _below(state, len(score))
    for _ in range(rounds - 1):
        other = _below(state, len(score))
        if score[other] > score[best]:
            best = other
    return best


# ---- children ----------------------------------------------------------------------------------------------


@jit()
def _crossover(
    state: Any, host: Any, host_n: int, donor: Any, donor_n: int, have: Any, limit: int, out: Any
) -> int:
    """Replace one part of the host by a part of the donor on the same axis; -1 if none was found."""
    code, value, axis = host
    other_code, other_value, other_axis = donor
    for _ in range(TRIES):
        at, from_ = _below(state, host_n), _below(state, donor_n)
        # the next donor on the same axis, round the tree: each is as good as another
        for _ in range(donor_n):
            if other_axis[from_] == axis[at] and other_code[from_] != CONST:
                break
            from_ = (from_ + 1) % donor_n
        if other_axis[from_] != axis[at] or other_code[from_] == CONST:
            continue
        end, until = _end(code, at, have.symbols), _end(other_code, from_, have.symbols)
        if host_n - (end - at) + (until - from_) > limit:
            continue
        n = _copy(code, value, 0, at, out[0], out[1], 0)
        n = _copy(other_code, other_value, from_, until, out[0], out[1], n)
        return _copy(code, value, end, host_n, out[0], out[1], n)
    return -1


@jit()
def _subtree(state: Any, host: Any, host_n: int, have: Any, limit: int, out: Any) -> int:
    """Replace one part by a random one on the same axis."""
    code, value, axis = host
    for _ in range(TRIES):
        at = _below(state, host_n)
        end = _end(code, at, have.symbols)
        n = _copy(code, value, 0, at, out[0], out[1], 0)
        n = _grow(state, axis[at], 1 + _below(state, 5), have, out[0], out[1], n, limit - (host_n - end))
        if n >= 0:
            return _copy(code, value, end, host_n, out[0], out[1], n)
    return -1


@jit()
def _point(state: Any, host: Any, host_n: int, have: Any, out: Any) -> int:
    """Exchange one operator or leaf for another of the same shape, or change a constant."""
    code, value, axis = host
    n = _copy(code, value, 0, host_n, out[0], out[1], 0)
    at = _below(state, n)
    c = code[at]
    if c == CONST:
        out[1][at] = _changed(state, value[at], have)
    elif c >= LEAF:
        out[0][at] = _pick(state, have, LEAVES + axis[at])
    else:
        same = UNARY
        if have.symbols.reduces[c]:
            same = REDUCTIONS
        elif have.symbols.arity[c] == 2:
            same = BINARY
        if _size(have, same) > 0:
            out[0][at] = _pick(state, have, same)
            out[1][at] = _random_exponent(state) if out[0][at] == POW else 0.0
    return n


@jit()
def _hoist(state: Any, host: Any, host_n: int, have: Any, out: Any) -> int:
    """Replace one part by a smaller part of itself on the same axis."""
    code, value, axis = host
    for _ in range(TRIES):
        at = _below(state, host_n)
        end = _end(code, at, have.symbols)
        if end - at < 2:
            continue
        inner = at + 1 + _below(state, end - at - 1)
        if axis[inner] != axis[at] or code[inner] == CONST:
            continue
        n = _copy(code, value, 0, at, out[0], out[1], 0)
        n = _copy(code, value, inner, _end(code, inner, have.symbols), out[0], out[1], n)
        return _copy(code, value, end, host_n, out[0], out[1], n)
    return -1


@jit()
def _insert(state: Any, host: Any, host_n: int, have: Any, limit: int, out: Any) -> int:
    """Put one operator on top of a part: unary, or binary with a new leaf or constant."""
    code, value, axis = host
    if host_n + 2 > limit:
        return -1
    at = _below(state, host_n)
    end = _end(code, at, have.symbols)
    n = _copy(code, value, 0, at, out[0], out[1], 0)
    if _size(have, UNARY) > 0 and (_size(have, BINARY) == 0 or _uniform(state) < 0.5):
        out[0][n] = _pick(state, have, UNARY)
        out[1][n] = _random_exponent(state) if out[0][n] == POW else 0.0
        n = _copy(code, value, at, end, out[0], out[1], n + 1)
    elif _size(have, BINARY) > 0:
        out[0][n], out[1][n] = _pick(state, have, BINARY), 0.0
        n += 1
        before = _uniform(state) < 0.5
        if not before:
            n = _copy(code, value, at, end, out[0], out[1], n)
        on = axis[at]
        if _size(have, COARSER + on) > 0 and _uniform(state) < 0.3:
            on = _pick(state, have, COARSER + on)
        if _uniform(state) < 0.3 or _size(have, LEAVES + on) == 0:
            out[0][n], out[1][n] = CONST, have.constants[_below(state, len(have.constants))]
        else:
            out[0][n], out[1][n] = _pick(state, have, LEAVES + on), 0.0
        n += 1
        if before:
            n = _copy(code, value, at, end, out[0], out[1], n)
    else:
        return -1
    return _copy(code, value, end, host_n, out[0], out[1], n)


@jit()
def _changed(state: Any, value: float, have: Any) -> float:
    """Return a constant near `value`, now and then quite another one."""
    draw = _uniform(state)
    if draw < 0.2:
        return have.constants[_below(state, len(have.constants))]
    if draw < 0.3:
        return -value
    value = value * np.exp(0.5 * _normal(state)) if value != 0.0 else _normal(state)
    return min(max(value, -MAX_CONSTANT), MAX_CONSTANT)


@jit()
def _random_constant(state: Any, host: Any, host_n: int) -> int:
    """Return the place of a random constant or pow, each as likely as another; -1 without any."""
    code = host[0]
    n, at = 0, -1
    for k in range(host_n):
        if code[k] == CONST or code[k] == POW:
            n += 1
            if _below(state, n) == 0:
                at = k
    return at


@jit()
def _perturb(state: Any, host: Any, host_n: int, have: Any, out: Any) -> int:
    """Perturb one constant (exponents of pow by halves); without constants, exchange a point."""
    at = _random_constant(state, host, host_n)
    if at < 0:
        return _point(state, host, host_n, have, out)
    code, value, _ = host
    n = _copy(code, value, 0, host_n, out[0], out[1], 0)
    if code[at] == POW:
        exponent = value[at] + (-1.0, -0.5, 0.5, 1.0)[_below(state, 4)]
        exponent = min(max(exponent, -4.0), 4.0)
        out[1][at] = exponent if exponent != 0.0 else 1.0
    else:
        out[1][at] = _changed(state, value[at], have)
    return n


@jit()
def breed(
    parents: Any,
    score: NDArray[np.float64],
    have: Any,
    seed: int,
    generation: int,
    first: int,
    last: int,
    children: Any,
    kinds: NDArray[np.int8],
) -> None:
    """Make children `first` to `last`.

    Parameters
    ----------
    parents : Forest
        May be empty: then all children are random.
    score : ndarray of float64, shape (P,)
        What tournaments go by.
    have : Choices
    seed, generation : int
        The children are a function of these and of their positions.
    first, last : int
        Which children to make.
    children : Forest
        Written to.
    kinds : ndarray of int8
        Set to the way each child was made, a position in `KINDS`.
    """
    code, value, length = children
    state = np.empty(1, np.uint64)
    longest = max(code.shape[1], parents[0].shape[1])
    axis, other_axis = np.empty(longest, np.int8), np.empty(longest, np.int8)
    for i in range(first, last):
        state[0] = mixed(mixed(np.uint64(seed) * _GOLD + np.uint64(generation)) + np.uint64(i) * _GOLD)
        out = (code[i], value[i])
        n, kind, draw = -1, 0, _uniform(state)
        if len(parents[2]) > 0:
            while kind < 6 and draw >= have.rates[kind]:
                kind += 1
        p = _tournament(state, score, 5) if kind != FRESH else 0
        if kind != FRESH and parents[2][p] <= code.shape[1]:
            host, host_n = (parents[0][p], parents[1][p], axis), parents[2][p]
            limit = min(max(have.max_size, host_n), code.shape[1])
            _axes(host[0], host_n, have.symbols, axis)
            if kind == CROSSOVER:
                q = _tournament(state, score, 2)
                donor, donor_n = (parents[0][q], parents[1][q], other_axis), parents[2][q]
                _axes(donor[0], donor_n, have.symbols, other_axis)
                n = _crossover(state, host, host_n, donor, donor_n, have, limit, out)
            elif kind == SUBTREE:
                n = _subtree(state, host, host_n, have, limit, out)
            elif kind == POINT:
                n = _point(state, host, host_n, have, out)
            elif kind == HOIST:
                n = _hoist(state, host, host_n, have, out)
            elif kind == INSERT:
                n = _insert(state, host, host_n, have, limit, out)
            else:
                n = _perturb(state, host, host_n, have, out)
        if n < 0:
            kind = FRESH
            size = 2 + _below(state, max(1, have.max_size - 2))
            for _ in range(100):
                n = _grow(state, ROW, size, have, out[0], out[1], 0, min(have.max_size, code.shape[1]))
                if n > 0:
                    break
            while n < 0:  # even the least budget may fail by chance where finer axes must be gone through
                n = _grow(state, ROW, 1, have, out[0], out[1], 0, code.shape[1])
        length[i], kinds[i] = n, kind
