"""Runs a plan: block after block of rows, instruction after instruction, each a loop over one block.

A block is a run of whole rows that fits the fast memory of a core, so values pass from one instruction to
the next without leaving it, and reductions and broadcasts stay within the block. Operands are read where
they lie, through bare pointers: a view of an array counts references, which costs more than a short loop,
above all where threads share the array. An operator is a few lines here and a row of `proxygraph.ops`,
which is what it is tested against.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

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


RIGHT: Final = len(CODES)
LEFT: Final = 2 * len(CODES)
"""Added to an operator whose right or left argument is a constant."""


# ---- where values lie --------------------------------------------------------------------------------------


def _pointer(typing_context: Any, array: Any, entry: Any) -> Any:
    """The address of an entry of a contiguous array."""
    kind: Any = types.CPointer(array.dtype)  # type: ignore[no-untyped-call]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        index = args[1] if args[1].type == ir.IntType(64) else builder.sext(args[1], ir.IntType(64))
        return builder.gep(data, [index])

    return kind(array, entry), code


address: Any = intrinsic(_pointer)


def _moved(typing_context: Any, pointer: Any, entries: Any) -> Any:
    """The address so many entries further."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), code


moved: Any = intrinsic(_moved)


@jit(inline="always")
def _addresses(memory: Any) -> Any:
    """Return where the store, work and out of an axis begin; the caller holds the arrays."""
    store, work, out = memory
    return address(store, 0), address(work, 0), address(out, 0)


@jit(inline="always")
def _entries(where: int, place: int, start: int, room: int, extent: int, memory: Any) -> Any:
    """Return the address of a value's entries of the current block.

    `memory` is (store, work, out) of its axis, `room` the entries of a value in work, `extent` elsewhere.
    """
    store, work, out = memory
    if where == STORE:
        return moved(store, place * extent + start)
    if where == WORK:
        return moved(work, place * room)
    return moved(out, place * extent + start)


# ---- elementwise: `out` never overlaps an operand ----------------------------------------------------------


@jit()
def elementwise(kind: int, constant: float, n: int, to: Any, left: Any, right: Any) -> None:
    """Apply an elementwise operator.

    Parameters
    ----------
    kind : int
        An operator, with `RIGHT` or `LEFT` added if that argument is the constant, not NaN.
    constant : float
        An argument, or the exponent of pow.
    n : int
        Entries.
    to, left, right : pointers
        Result and arguments; if there is one argument, it is `left`.
    """
    vecmath.use_wide_vectors()
    out, x, y = carray(to, (n,)), carray(left, (n,)), carray(right, (n,))
    c, one = out.dtype.type(constant), out.dtype.type(1.0)
    if kind == ADD:
        for i in range(n):
            out[i] = x[i] + y[i]
    elif kind == SUB:
        for i in range(n):
            out[i] = x[i] - y[i]
    elif kind == MUL:
        for i in range(n):
            out[i] = x[i] * y[i]
    elif kind == DIV:
        for i in range(n):
            out[i] = x[i] / y[i]
    elif kind == ADD + RIGHT or kind == ADD + LEFT:
        for i in range(n):
            out[i] = x[i] + c
    elif kind == SUB + RIGHT:
        for i in range(n):
            out[i] = x[i] - c
    elif kind == SUB + LEFT:
        for i in range(n):
            out[i] = c - x[i]
    elif kind == MUL + RIGHT or kind == MUL + LEFT:
        for i in range(n):
            out[i] = x[i] * c
    elif kind == DIV + RIGHT:
        for i in range(n):
            out[i] = x[i] / c
    elif kind == DIV + LEFT:
        for i in range(n):
            out[i] = c / x[i]
    elif kind == NEG:
        for i in range(n):
            out[i] = -x[i]
    elif kind == ABS:
        for i in range(n):
            out[i] = abs(x[i])
    elif kind == SQUARE:
        for i in range(n):
            out[i] = x[i] * x[i]
    elif kind == CUBE:
        for i in range(n):
            out[i] = x[i] * x[i] * x[i]
    elif kind == SQRT:
        for i in range(n):
            out[i] = np.sqrt(x[i])
    elif kind == INV:
        for i in range(n):
            out[i] = one / x[i]
    elif kind == EXP:
        for i in range(n):
            out[i] = vecmath.exp(x[i])
    elif kind == LOG:
        for i in range(n):
            out[i] = vecmath.log(x[i])
    elif kind == LOG1P:
        for i in range(n):
            out[i] = vecmath.log1p(x[i])
    elif kind == TANH:
        for i in range(n):
            out[i] = vecmath.tanh(x[i])
    elif kind == SIGMOID:
        for i in range(n):
            out[i] = vecmath.sigmoid(x[i])
    elif kind == SIGN:
        for i in range(n):
            out[i] = vecmath.sign(x[i])
    elif kind == RELU:
        vecmath.relu_into(out, x)
    elif kind == SIN:
        vecmath.sin_into(out, x)
    elif kind == COS:
        vecmath.cos_into(out, x)
    elif kind == POW:
        vecmath.pow_into(out, x, constant)
    elif kind == MAXIMUM:
        for i in range(n):
            out[i] = vecmath.maximum(x[i], y[i])
    elif kind == MINIMUM:
        for i in range(n):
            out[i] = vecmath.minimum(x[i], y[i])
    elif kind == MAXIMUM + RIGHT or kind == MAXIMUM + LEFT:
        for i in range(n):
            a = x[i]
            out[i] = c if a < c else a
    elif kind == MINIMUM + RIGHT or kind == MINIMUM + LEFT:
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
def _instruction(
    steps: Any, literal: Any, j: int, start: int, n: int, room: int, extent: int, memory: Any
) -> None:
    """Compute an elementwise instruction."""
    kind, constant = np.int64(steps[j, OP]), literal[j]
    a, b, a_place, b_place = steps[j, A], steps[j, B], steps[j, A_PLACE], steps[j, B_PLACE]
    if a == LITERAL or b == LITERAL:
        if constant != constant:
            kind = np.int64(ADD)  # NaN whatever the operator; comparisons with it would let it go
        kind += LEFT if a == LITERAL else RIGHT
    if a == LITERAL:
        a, a_place = b, b_place
    to = _entries(steps[j, TO], steps[j, TO_PLACE], start, room, extent, memory)
    x = _entries(a, a_place, start, room, extent, memory)
    if b != NOWHERE and b != LITERAL:
        y = _entries(b, b_place, start, room, extent, memory)
    else:
        y = x
    elementwise(kind, constant, n, to, x, y)


@jit()
def run_rows(
    steps: Any,
    literal: Any,
    stretches: Any,
    starts: Any,
    first: int,
    last: int,
    room: int,
    extent: int,
    memory: Any,
) -> None:
    """Run a plan that has the row axis only on blocks `first` to `last`.

    Parameters
    ----------
    steps
        From `proxygraph.kernels.plan.arrange`.
    literal : ndarray of float64, shape (C, n)
        Constants of the instructions, one line for each set of constants. Results of the line `c` lie `c`
        values behind their places.
    stretches : ndarray of int64, shape (S, 3)
        Instructions to be run one after the other: the first one, the first one that is run for every line
        and not only for the first line, and the end.
    starts : ndarray of int64
        First row of every block, and the end.
    room, extent : int
        Rows of the longest block, and of the table.
    memory : tuple of three ndarray
        Store, work and out, of one dtype; work is this thread's own.
    """
    store, work, out = _addresses(memory)
    for block in range(first, last):
        start = starts[block]
        n = starts[block + 1] - start
        for k in range(len(stretches)):
            begin = stretches[k, 0]
            for c in range(len(literal)):
                line, places = literal[c], (store, work, moved(out, c * extent))
                for j in range(begin, stretches[k, 2]):
                    _instruction(steps, line, j, start, n, room, extent, places)
                begin = stretches[k, 1]


@jit(inline="always")
def _group_entries(where: int, place: int, start: int, n: int, axis: int, sizes: Any, memory: Any) -> Any:
    """Return a value's entries of the current block as an array."""
    room, extent = sizes
    return carray(_entries(where, place, start, room[axis], extent[axis], memory), (n,))


@jit()
def run_ragged(
    steps: Any,
    literal: Any,
    count: int,
    starts: Any,
    first: int,
    last: int,
    sizes: Any,
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
    sizes : tuple of two ndarray of int64, shape (4,)
        Entries of the longest block, and of the table, on every axis.
    coarse, fine : tuple
        Memories (store, work, out) of row and layer, and of element and activation.
    offsets : tuple of five ndarray
        Row to layer, layer to element, layer to activation, row to element, row to activation.
    counts : tuple of three ndarray of float64
        True numbers of layers, of elements and of activations of every group.
    """
    row, layer = _addresses(coarse[0]), _addresses(coarse[1])
    element, activation = _addresses(fine[0]), _addresses(fine[1])
    room, extent = sizes
    row_layer, layer_element, layer_activation, row_element, row_activation = offsets
    for block in range(first, last):
        r, s = starts[ROW, block], starts[LAYER, block]
        e, a = starts[ELEMENT, block], starts[ACTIVATION, block]
        n_r, n_s = starts[ROW, block + 1] - r, starts[LAYER, block + 1] - s
        n_e, n_a = starts[ELEMENT, block + 1] - e, starts[ACTIVATION, block + 1] - a
        for j in range(count):
            step = steps[j]
            op, axis, to = np.int64(step[OP]), step[AXIS], step[B_PLACE]
            if op == SPREAD:
                if axis == ROW:
                    x = _group_entries(step[A], step[A_PLACE], r, n_r, ROW, sizes, row)
                else:
                    x = _group_entries(step[A], step[A_PLACE], s, n_s, LAYER, sizes, layer)
                if to == LAYER:
                    out = _group_entries(step[TO], step[TO_PLACE], s, n_s, LAYER, sizes, layer)
                    spread(out, x, row_layer, r)
                elif to == ELEMENT:
                    target = _group_entries(step[TO], step[TO_PLACE], e, n_e, ELEMENT, sizes, element)
                    spread(target, x, row_element if axis == ROW else layer_element, r if axis == ROW else s)
                else:
                    target = _group_entries(step[TO], step[TO_PLACE], a, n_a, ACTIVATION, sizes, activation)
                    groups = row_activation if axis == ROW else layer_activation
                    spread(target, x, groups, r if axis == ROW else s)
            elif step[B] == NOWHERE and axis != to:
                if axis == LAYER:
                    out = _group_entries(step[TO], step[TO_PLACE], r, n_r, ROW, sizes, row)
                    x = _group_entries(step[A], step[A_PLACE], s, n_s, LAYER, sizes, layer)
                    reduce(op, out, x, row_layer, counts[0], r)
                else:
                    out = _group_entries(step[TO], step[TO_PLACE], s, n_s, LAYER, sizes, layer)
                    if axis == ELEMENT:
                        fx = _group_entries(step[A], step[A_PLACE], e, n_e, ELEMENT, sizes, element)
                        reduce(op, out, fx, layer_element, counts[1], s)
                    else:
                        fx = _group_entries(step[A], step[A_PLACE], a, n_a, ACTIVATION, sizes, activation)
                        reduce(op, out, fx, layer_activation, counts[2], s)
            elif axis == ROW:
                _instruction(steps, literal, j, r, n_r, room[ROW], extent[ROW], row)
            elif axis == LAYER:
                _instruction(steps, literal, j, s, n_s, room[LAYER], extent[LAYER], layer)
            elif axis == ELEMENT:
                _instruction(steps, literal, j, e, n_e, room[ELEMENT], extent[ELEMENT], element)
            else:
                _instruction(steps, literal, j, a, n_a, room[ACTIVATION], extent[ACTIVATION], activation)
