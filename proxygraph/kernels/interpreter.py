"""Runs a plan: block after block of rows, instruction after instruction, each a loop over one block.

A block is a run of whole rows that fits the fast memory of a core, so values pass from one instruction to
the next without leaving it, and reductions and broadcasts stay within the block. Operands are read where
they lie. An operator is a few lines here and a row of `proxygraph.ops`, which is what it is tested against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from proxygraph.compact.forest import ACTIVATION, CODES, ELEMENT, LAYER, POW, ROW
from proxygraph.jit import jit
from proxygraph.kernels import vecmath
from proxygraph.kernels.plan import (
    A_PLACE,
    AXIS,
    B_PLACE,
    LITERAL,
    NOWHERE,
    OP,
    SPREAD,
    STORE,
    TO,
    TO_PLACE,
    WORK,
    A,
    B,
)

NEG, ABS, SIGN, SQUARE, CUBE = (CODES[name] for name in ("neg", "abs", "sign", "square", "cube"))
SQRT, LOG, LOG1P, EXP, INV = (CODES[name] for name in ("sqrt", "log", "log1p", "exp", "inv"))
TANH, SIGMOID, RELU, SIN, COS = (CODES[name] for name in ("tanh", "sigmoid", "relu", "sin", "cos"))
ADD, SUB, MUL, DIV = (CODES[name] for name in ("add", "sub", "mul", "div"))
MAXIMUM, MINIMUM = CODES["maximum"], CODES["minimum"]
SUM, MEAN, STD, MIN = (CODES[name] for name in ("sum", "mean", "std", "min"))
MAX, L1, L2, COUNT = (CODES[name] for name in ("max", "l1", "l2", "count"))


# ---- elementwise: `out` never overlaps an operand ----------------------------------------------------------


@jit()
def unary(op: int, exponent: float, out: Any, x: Any) -> None:
    """Apply a unary operator."""
    n = len(out)
    if op == NEG:
        for i in range(n):
            out[i] = -x[i]
    elif op == ABS:
        for i in range(n):
            out[i] = abs(x[i])
    elif op == SQUARE:
        for i in range(n):
            out[i] = x[i] * x[i]
    elif op == CUBE:
        for i in range(n):
            out[i] = x[i] * x[i] * x[i]
    elif op == SQRT:
        for i in range(n):
            out[i] = np.sqrt(x[i])
    elif op == INV:
        one = out.dtype.type(1.0)
        for i in range(n):
            out[i] = one / x[i]
    elif op == RELU:
        vecmath.relu_into(out, x)
    elif op == SIGN:
        vecmath.sign_into(out, x)
    elif op == EXP:
        vecmath.exp_into(out, x)
    elif op == LOG:
        vecmath.log_into(out, x)
    elif op == LOG1P:
        vecmath.log1p_into(out, x)
    elif op == TANH:
        vecmath.tanh_into(out, x)
    elif op == SIGMOID:
        vecmath.sigmoid_into(out, x)
    elif op == SIN:
        vecmath.sin_into(out, x)
    elif op == COS:
        vecmath.cos_into(out, x)
    elif op == POW:
        vecmath.pow_into(out, x, exponent)


@jit()
def binary(op: int, out: Any, x: Any, y: Any) -> None:
    """Apply a binary operator to two arrays."""
    n = len(out)
    if op == ADD:
        for i in range(n):
            out[i] = x[i] + y[i]
    elif op == SUB:
        for i in range(n):
            out[i] = x[i] - y[i]
    elif op == MUL:
        for i in range(n):
            out[i] = x[i] * y[i]
    elif op == DIV:
        for i in range(n):
            out[i] = x[i] / y[i]
    elif op == MAXIMUM:
        vecmath.maximum_into(out, x, y)
    elif op == MINIMUM:
        vecmath.minimum_into(out, x, y)


@jit()
def binary_constant(op: int, left: bool, out: Any, x: Any, constant: float) -> None:
    """Apply a binary operator to an array and a constant, which is the left operand if `left`."""
    n, c = len(out), out.dtype.type(constant)
    if c != c:
        op = ADD  # NaN whatever the operator; the comparisons below would let it go
    if op == ADD:
        for i in range(n):
            out[i] = x[i] + c
    elif op == SUB and left:
        for i in range(n):
            out[i] = c - x[i]
    elif op == SUB:
        for i in range(n):
            out[i] = x[i] - c
    elif op == MUL:
        for i in range(n):
            out[i] = x[i] * c
    elif op == DIV and left:
        for i in range(n):
            out[i] = c / x[i]
    elif op == DIV:
        for i in range(n):
            out[i] = x[i] / c
    elif op == MAXIMUM:
        for i in range(n):
            a = x[i]
            out[i] = c if a < c else a
    elif op == MINIMUM:
        for i in range(n):
            a = x[i]
            out[i] = c if a > c else a


# ---- reductions: sums in float64, their order free, so that they are vectorised ----------------------------


@jit(fastmath={"reassoc"})
def _total(x: Any, first: int, last: int) -> float:
    total = 0.0
    for i in range(first, last):
        total += np.float64(x[i])
    return total


@jit(fastmath={"reassoc"})
def _total_abs(x: Any, first: int, last: int) -> float:
    total = 0.0
    for i in range(first, last):
        total += np.float64(abs(x[i]))
    return total


@jit(fastmath={"reassoc"})
def _total_square(x: Any, first: int, last: int, centre: float) -> float:
    total = 0.0
    for i in range(first, last):
        v = np.float64(x[i]) - centre
        total += v * v
    return total


@jit(fastmath={"reassoc"})
def _total_from(x: Any, first: int, last: int, centre: float) -> float:
    total = 0.0
    for i in range(first, last):
        total += np.float64(x[i]) - centre
    return total


@jit(fastmath={"nnan", "nsz"})
def _least(x: Any, first: int, last: int) -> float:
    """Return the least of values none of which is NaN."""
    least = x[first]
    for i in range(first + 1, last):
        least = min(least, x[i])
    return least


@jit(fastmath={"nnan", "nsz"})
def _greatest(x: Any, first: int, last: int) -> float:
    greatest = x[first]
    for i in range(first + 1, last):
        greatest = max(greatest, x[i])
    return greatest


@jit()
def _any_nan(x: Any, first: int, last: int) -> bool:
    found = 0
    for i in range(first, last):
        found |= x[i] != x[i]
    return found != 0


@jit()
def reduce(op: int, out: Any, x: Any, offsets: Any, counts: Any, first: int) -> None:
    """Reduce groups to one value each; an empty group gives NaN.

    Parameters
    ----------
    op : int
    out : ndarray, shape (G,)
    x : ndarray
        The entries of these groups, one after the other.
    offsets : ndarray of int64
        Of all groups of the table.
    counts : ndarray of float64
        True number of entries of every group, of which the entries are a sample.
    first : int
        The first group.
    """
    base = offsets[first]
    for g in range(len(out)):
        begin, end = offsets[first + g] - base, offsets[first + g + 1] - base
        n, count = end - begin, counts[first + g]
        if n == 0:
            out[g] = np.nan
        elif op == SUM:
            out[g] = _total(x, begin, end) * (count / n)
        elif op == MEAN:
            out[g] = _total(x, begin, end) / n
        elif op == L1:
            out[g] = _total_abs(x, begin, end) * (count / n)
        elif op == L2:
            out[g] = np.sqrt(_total_square(x, begin, end, 0.0) * (count / n))
        elif op == STD:
            # relative to the first value, so that equal values have a deviation of exactly 0
            start = np.float64(x[begin])
            centre = start + _total_from(x, begin, end, start) / n
            out[g] = np.sqrt(_total_square(x, begin, end, centre) / n)
        elif op == COUNT:
            out[g] = count + 0.0 * _total(x, begin, end)
        elif _any_nan(x, begin, end):
            out[g] = np.nan
        elif op == MIN:
            out[g] = _least(x, begin, end)
        else:
            out[g] = _greatest(x, begin, end)


@jit()
def spread(out: Any, x: Any, offsets: Any, first: int) -> None:
    """Repeat every value for each entry of its group."""
    base = offsets[first]
    for g in range(len(x)):
        v = out.dtype.type(x[g])
        for i in range(offsets[first + g] - base, offsets[first + g + 1] - base):
            out[i] = v


# ---- the loop over blocks ----------------------------------------------------------------------------------


@jit(inline="always")
def _entries(where: int, place: int, start: int, n: int, room: int, memory: Any) -> Any:
    """Return a value's entries of the current block; `memory` is (store, work, out) of its axis."""
    store, work, out = memory
    if where == STORE:
        return store[place + start : place + start + n]
    if where == WORK:
        return work[place * room : place * room + n]
    return out[place + start : place + start + n]


@jit()
def _elementwise(step: Any, literal: float, start: int, n: int, room: int, memory: Any) -> None:
    """Compute one elementwise instruction."""
    op = step[OP]
    out = _entries(step[TO], step[TO_PLACE], start, n, room, memory)
    if step[A] == LITERAL:
        y = _entries(step[B], step[B_PLACE], start, n, room, memory)
        binary_constant(op, True, out, y, literal)
        return
    x = _entries(step[A], step[A_PLACE], start, n, room, memory)
    if step[B] == NOWHERE:
        unary(op, literal, out, x)
    elif step[B] == LITERAL:
        binary_constant(op, False, out, x, literal)
    else:
        binary(op, out, x, _entries(step[B], step[B_PLACE], start, n, room, memory))


@jit()
def run_rows(
    steps: Any, literal: Any, count: int, starts: Any, first: int, last: int, room: int, memory: Any
) -> None:
    """Run a plan that has the row axis only on blocks `first` to `last`.

    Parameters
    ----------
    steps, literal, count
        From `proxygraph.kernels.plan.arrange`.
    starts : ndarray of int64
        First row of every block, and the end.
    room : int
        Rows of the longest block.
    memory : tuple of three ndarray
        Store, work and out, of one dtype; work is this thread's own.
    """
    for block in range(first, last):
        start = starts[block]
        for j in range(count):
            _elementwise(steps[j], literal[j], start, starts[block + 1] - start, room, memory)


@jit()
def run_ragged(
    steps: Any,
    literal: Any,
    count: int,
    starts: Any,
    first: int,
    last: int,
    room: Any,
    coarse: Any,
    fine: Any,
    offsets: Any,
    counts: Any,
) -> None:
    """Run a plan on blocks `first` to `last` of a ragged table.

    Parameters
    ----------
    steps, literal, count
        From `proxygraph.kernels.plan.arrange`.
    starts : ndarray of int64, shape (4, blocks + 1)
        First entry of every block on every axis, and the end.
    room : ndarray of int64, shape (4,)
        Entries of the longest block on every axis.
    coarse, fine : tuple
        Memories (store, work, out) of row and layer, and of element and activation.
    offsets : tuple of five ndarray
        Row to layer, layer to element, layer to activation, row to element, row to activation.
    counts : tuple of three ndarray of float64
        True numbers of layers, of elements and of activations of every group.
    """
    row, layer = coarse
    element, activation = fine
    row_layer, layer_element, layer_activation, row_element, row_activation = offsets
    for block in range(first, last):
        r, s = starts[ROW, block], starts[LAYER, block]
        e, a = starts[ELEMENT, block], starts[ACTIVATION, block]
        n_r, n_s = starts[ROW, block + 1] - r, starts[LAYER, block + 1] - s
        n_e, n_a = starts[ELEMENT, block + 1] - e, starts[ACTIVATION, block + 1] - a
        for j in range(count):
            step = steps[j]
            op, axis, to = step[OP], step[AXIS], step[B_PLACE]
            if op == SPREAD:
                if axis == ROW:
                    x = _entries(step[A], step[A_PLACE], r, n_r, room[ROW], row)
                else:
                    x = _entries(step[A], step[A_PLACE], s, n_s, room[LAYER], layer)
                if to == LAYER:
                    out = _entries(step[TO], step[TO_PLACE], s, n_s, room[LAYER], layer)
                    spread(out, x, row_layer, r)
                elif to == ELEMENT:
                    target = _entries(step[TO], step[TO_PLACE], e, n_e, room[ELEMENT], element)
                    spread(target, x, row_element if axis == ROW else layer_element, r if axis == ROW else s)
                else:
                    target = _entries(step[TO], step[TO_PLACE], a, n_a, room[ACTIVATION], activation)
                    groups = row_activation if axis == ROW else layer_activation
                    spread(target, x, groups, r if axis == ROW else s)
            elif step[B] == NOWHERE and axis != to:
                if axis == LAYER:
                    out = _entries(step[TO], step[TO_PLACE], r, n_r, room[ROW], row)
                    x = _entries(step[A], step[A_PLACE], s, n_s, room[LAYER], layer)
                    reduce(op, out, x, row_layer, counts[0], r)
                else:
                    out = _entries(step[TO], step[TO_PLACE], s, n_s, room[LAYER], layer)
                    if axis == ELEMENT:
                        fx = _entries(step[A], step[A_PLACE], e, n_e, room[ELEMENT], element)
                        reduce(op, out, fx, layer_element, counts[1], s)
                    else:
                        fx = _entries(step[A], step[A_PLACE], a, n_a, room[ACTIVATION], activation)
                        reduce(op, out, fx, layer_activation, counts[2], s)
            elif axis == ROW:
                _elementwise(step, literal[j], r, n_r, room[ROW], row)
            elif axis == LAYER:
                _elementwise(step, literal[j], s, n_s, room[LAYER], layer)
            elif axis == ELEMENT:
                _elementwise(step, literal[j], e, n_e, room[ELEMENT], element)
            else:
                _elementwise(step, literal[j], a, n_a, room[ACTIVATION], activation)
