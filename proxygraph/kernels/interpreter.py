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
from numba.np.numpy_support import carray

from proxygraph.compact.forest import ACTIVATION, CODES, ELEMENT, LAYER, POW, ROW
from proxygraph.jit import jit
from proxygraph.kernels import vecmath
from proxygraph.kernels.groups import reduce, spread
from proxygraph.kernels.intrinsics import address, bare, moved, use_wide_vectors
from proxygraph.kernels.lanes import reduce_lanes, repeat_lanes
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


RIGHT: Final = len(CODES)
LEFT: Final = 2 * len(CODES)
"""Added to an operator whose right or left argument is a constant."""


# ---- where values lie --------------------------------------------------------------------------------------


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
    use_wide_vectors()
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
def _values(where: int, place: int, axis: int, here: Any, memory: Any) -> Any:
    """Return a value's entries of the current block as an array; `here` is (starts, block, room, extent)."""
    starts, block, room, extent = here
    start, n = starts[axis, block], starts[axis, block + 1] - starts[axis, block]
    return carray(_entries(where, place, start, room[axis], extent[axis], memory), (n,))


@jit(inline="always")
def _bare(arrays: Any) -> Any:
    """Return the first three of some arrays without references to count."""
    return bare(arrays[0]), bare(arrays[1]), bare(arrays[2])


@jit(inline="always")
def _block_lanes(lanes: Any, starts: Any, block: int) -> Any:
    """Return width, layer, samples, count and share of the rows and lanes of a block."""
    first, start = lanes.first[block], starts[LAYER, block]
    n = starts[LAYER, block + 1] - start
    return (
        carray(address(lanes.width, first), (lanes.first[block + 1] - first,)),
        carray(address(lanes.layer, start), (n,)),
        carray(address(lanes.samples, start), (n,)),
        carray(address(lanes.count, start), (n,)),
        carray(address(lanes.share, start), (n,)),
    )


@jit()
def _with_layers(steps: Any, j: int, here: Any, row: Any, layer: Any, layers: Any) -> None:
    """Compute a reduction of layers to rows, or repeat values of rows for their layers."""
    offsets, counts = layers
    first = here[0][ROW, here[1]]
    if steps[j, OP] == SPREAD:
        x = _values(steps[j, A], steps[j, A_PLACE], ROW, here, row)
        out = _values(steps[j, TO], steps[j, TO_PLACE], LAYER, here, layer)
        spread(out, x, offsets, first)
    else:
        x = _values(steps[j, A], steps[j, A_PLACE], LAYER, here, layer)
        out = _values(steps[j, TO], steps[j, TO_PLACE], ROW, here, row)
        reduce(np.int64(steps[j, OP]), out, x, offsets, counts, first)


@jit()
def _with_lanes(
    steps: Any,
    j: int,
    here: Any,
    layer: Any,
    fine: Any,
    lanes: Any,
    scratch: Any,
    per_layer: Any,
) -> None:
    """Compute a reduction of samples to layers, or repeat values of layers for their samples.

    If the values to be repeated are of rows, they have been repeated for every layer, in `per_layer`.
    """
    if steps[j, OP] != SPREAD:
        y = _values(steps[j, A], steps[j, A_PLACE], np.int64(steps[j, AXIS]), here, fine)
        out = _values(steps[j, TO], steps[j, TO_PLACE], LAYER, here, layer)
        reduce_lanes(np.int64(steps[j, OP]), out, y, lanes, scratch)
        return
    y = _values(steps[j, TO], steps[j, TO_PLACE], np.int64(steps[j, B_PLACE]), here, fine)
    if steps[j, AXIS] == ROW:
        repeat_lanes(y, per_layer, lanes, scratch[3])
    else:
        x = _values(steps[j, A], steps[j, A_PLACE], LAYER, here, layer)
        repeat_lanes(y, x, lanes, scratch[3])


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
    layers: Any,
    lanes: Any,
    scratch: Any,
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
    layers : tuple of two ndarray
        First layer of every row and the end; true number of layers of every row.
    lanes : tuple of two `proxygraph.kernels.lanes.Lanes`
        Of element and activation.
    scratch : tuple of five ndarray, shape (layers of the longest block,)
        This thread's own: three of float64, one of the dtype of `fine`, one of float64.
    """
    # an instruction passes a dozen arrays on, some of them shared with other threads: to count their
    # references would take half a microsecond
    steps, literal, starts = bare(steps), bare(literal), bare(starts)
    row, layer = _addresses(coarse[0]), _addresses(coarse[1])
    element, activation = _addresses(fine[0]), _addresses(fine[1])
    room, extent = bare(sizes[0]), bare(sizes[1])
    offsets, n_layers = bare(layers[0]), bare(layers[1])
    rest, per_layer = (*_bare(scratch), bare(scratch[3])), bare(scratch[4])
    for block in range(first, last):
        element_lanes = _block_lanes(lanes[0], starts, block)
        activation_lanes = _block_lanes(lanes[1], starts, block)
        here = (starts, block, room, extent)
        for j in range(count):
            axis = np.int64(steps[j, AXIS])
            to = np.int64(steps[j, B_PLACE]) if steps[j, B] == NOWHERE else axis
            start, n = starts[axis, block], starts[axis, block + 1] - starts[axis, block]
            if axis == to:
                if axis == ROW:
                    _instruction(steps, literal, j, start, n, room[ROW], extent[ROW], row)
                elif axis == LAYER:
                    _instruction(steps, literal, j, start, n, room[LAYER], extent[LAYER], layer)
                elif axis == ELEMENT:
                    _instruction(steps, literal, j, start, n, room[ELEMENT], extent[ELEMENT], element)
                else:
                    _instruction(
                        steps, literal, j, start, n, room[ACTIVATION], extent[ACTIVATION], activation
                    )
                continue
            if max(axis, to) == LAYER:
                _with_layers(steps, j, here, row, layer, (offsets, n_layers))
                continue
            if axis == ROW:
                x = _values(steps[j, A], steps[j, A_PLACE], ROW, here, row)
                spread(per_layer, x, offsets, start)
            if max(axis, to) == ELEMENT:
                _with_lanes(steps, j, here, layer, element, element_lanes, rest, per_layer)
            else:
                _with_lanes(steps, j, here, layer, activation, activation_lanes, rest, per_layer)
