"""From many trees to one list of instructions: equal parts once, every value with a place in memory.

Compiled, since a search plans more than it computes. What is written per part is small and lies together:
planning a tree would otherwise cost about as much as running it on a few hundred rows. Values on the row and
layer axes that are likely to come back are kept between plans.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.forest import CONST, LEAF, POW, ROW, Symbols
from proxygraph.compact.keys import code_key, mixed, value_key
from proxygraph.jit import jit

SPREAD = -2
"""Code of the instruction that repeats a coarser value."""
NOWHERE, STORE, WORK, OUT, LITERAL = 0, 1, 2, 3, 4
"""Where a value lies: leaves and kept values in the store, passing ones in work memory, results in out,
constants in the instruction itself."""
FIELDS: Final = 8
OP, AXIS, TO, TO_PLACE, A, A_PLACE, B, B_PLACE = range(FIELDS)
"""Columns of an instruction: operator, axis of the first argument, where and place of result and arguments.
Places count values of the axis, not entries. A unary instruction has the axis of its result in `B_PLACE`."""
WAYS: Final = 8
"""Kept values that may take the place of each other."""


PARTS: Final = 7
P_OP, P_A, P_B, P_AXIS, P_USES, P_WHERE, P_PLACE = range(PARTS)
"""Columns of a part: operator, leaf, constant or `SPREAD`; positions of the arguments, -1 for none; axis;
how many uses are still to come; and where it lies."""
_ODD_A, _ODD_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_ODD_OP, _HALF = np.uint64(0xA0761D6478BD642F), np.uint64(32)


class Nodes(NamedTuple):
    """The distinct parts of many trees, arguments before their users.

    Attributes
    ----------
    part : ndarray of int32, shape (n, PARTS)
    key : ndarray of uint64, shape (n,)
        Equal for equal parts only, up to chance (once in about 2**64 pairs).
    value : ndarray of float64, shape (n,)
        Of constants, and the exponent of pow.
    """

    part: NDArray[np.int32]
    key: NDArray[np.uint64]
    value: NDArray[np.float64]


class Memory(NamedTuple):
    """Which values are kept between plans, on the row and on the layer axis.

    Attributes
    ----------
    key : tuple of two ndarray of uint64
        Of every slot, 0 for an empty one; sets of `WAYS` slots.
    stamp : tuple of two ndarray of int64
        The plan that last used it.
    made : tuple of two ndarray of int64
        The plan that computes it.
    base : ndarray of int64, shape (2,)
        Values before the slots in the axis' store.
    counts : ndarray of int64, shape (2,)
        Values found and values computed, of those that could be kept.
    """

    key: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    stamp: tuple[NDArray[np.int64], NDArray[np.int64]]
    made: tuple[NDArray[np.int64], NDArray[np.int64]]
    base: NDArray[np.int64]
    counts: NDArray[np.int64]


@jit()
def _find(memory: Memory, axis: int, key: Any, now: int, settled: int) -> int:
    """Return the slot that holds a value, marking it used; -1 if none does or it may not be computed yet."""
    keys = memory.key[axis]
    first = np.int64(key % np.uint64(len(keys) // WAYS)) * WAYS
    for slot in range(first, first + WAYS):
        if keys[slot] == key and memory.made[axis][slot] <= settled:
            memory.stamp[axis][slot] = now
            return slot
    return -1


@jit()
def _claim(memory: Memory, axis: int, key: Any, now: int, settled: int) -> int:
    """Return a slot for a new value, in place of the one used longest ago.

    -1 if all are in use by plans that may still run, or one of these has the same value underway.
    """
    keys, stamps = memory.key[axis], memory.stamp[axis]
    if len(keys) == 0:
        return -1
    first = np.int64(key % np.uint64(len(keys) // WAYS)) * WAYS
    best = first
    for slot in range(first, first + WAYS):
        if keys[slot] == key:
            return -1
        if stamps[slot] < stamps[best]:
            best = slot
    if stamps[best] > settled:
        return -1
    keys[best], stamps[best], memory.made[axis][best] = key, now, now
    return best


@jit(inline="always")
def _pair_key(op: Any, a: Any, b: Any) -> Any:
    """Return the key of an operator and two keys; these are well mixed, so one round is enough."""
    return mixed(np.uint64(op + 12345) * _ODD_OP + a * _ODD_A + ((b << _HALF) | (b >> _HALF)) * _ODD_B)


@jit()
def _place_of(
    nodes: Nodes, n: int, table: Any, mask: Any, op: int, a: int, b: int, value: float, axis: int, key: Any
) -> int:
    """Return the position of a part: an equal one's, or `n`, where it is written."""
    at = key & mask
    while table[at] >= 0:
        if nodes.key[table[at]] == key:
            return np.int64(table[at])
        at = (at + np.uint64(1)) & mask
    table[at] = n
    part = nodes.part
    part[n, P_OP], part[n, P_A], part[n, P_B], part[n, P_AXIS] = op, a, b, axis
    part[n, P_USES], part[n, P_WHERE], part[n, P_PLACE] = 0, NOWHERE, 0
    nodes.key[n], nodes.value[n] = key, value
    return n


@jit()
def _spread(nodes: Nodes, n: int, table: Any, mask: Any, arg: int, axis: int) -> int:
    """Return the position of a value repeated on another axis."""
    op, none = np.int64(SPREAD), np.int64(-1)
    key = _pair_key(op, nodes.key[arg], code_key(axis))
    return _place_of(nodes, n, table, mask, op, np.int64(arg), none, np.float64(0.0), axis, key)


@jit()
def _cleared(trees: Any, table: Any, factor: int) -> Any:
    """Empty as much of the table as these trees need, and return its mask."""
    code, _, length = trees
    n = 8
    for i in range(len(length)):
        for at in range(length[i]):
            n += code[i, at] < LEAF
    size = 1
    while size < factor * n and size < len(table):
        size *= 2
    for i in range(size):
        table[i] = -1
    return np.uint64(size - 1)


@jit()
def collect_parts(trees: Any, symbols: Symbols, nodes: Nodes, table: Any, roots: NDArray[np.int32]) -> int:
    """Write the distinct parts of all trees; return how many there are.

    Leaves come first, in order. `table` (a power of two long, twice the number of parts) is scratch memory.
    """
    code, value, length = trees
    part, keys, values = nodes
    n, ragged = np.int64(0), False
    for leaf in range(len(symbols.leaf_axis)):
        axis = np.int64(symbols.leaf_axis[leaf])
        ragged |= axis != ROW
        part[leaf, P_OP], part[leaf, P_A], part[leaf, P_B], part[leaf, P_AXIS] = LEAF + leaf, -1, -1, axis
        part[leaf, P_USES] = 0
        keys[leaf], values[leaf] = code_key(LEAF + leaf), 0.0
        n += 1
    mask = _cleared(trees, table, 4 if ragged else 2)
    stack = np.empty(code.shape[1] + 1, np.int32)
    for i in range(len(length)):
        top = 0
        for at in range(length[i] - 1, -1, -1):
            c = np.int64(code[i, at])
            if c >= LEAF:  # found by its code; the table holds the others
                stack[top] = c - LEAF
                top += 1
                continue
            a, b, v, axis = np.int64(-1), np.int64(-1), np.float64(0.0), np.int64(ROW)
            if c == CONST:
                v = value[i, at]
                key = value_key(v)
            elif symbols.arity[c] == 1:
                top -= 1
                a = np.int64(stack[top])
                axis = np.int64(part[a, P_AXIS])
                if symbols.reduces[c]:
                    axis = np.int64(ROW) if axis == 1 else np.int64(1)
                own = np.uint64(0)
                if c == POW:
                    v = value[i, at]
                    own = value_key(v)
                key = _pair_key(c, keys[a], own)
            else:
                top -= 2
                a, b = np.int64(stack[top + 1]), np.int64(stack[top])
                axis = np.int64(max(part[a, P_AXIS], part[b, P_AXIS]))
                key = _pair_key(c, keys[a], keys[b])
                if part[a, P_AXIS] != axis and part[a, P_OP] != CONST:
                    a = _spread(nodes, n, table, mask, a, axis)
                    n += a == n
                if part[b, P_AXIS] != axis and part[b, P_OP] != CONST:
                    b = _spread(nodes, n, table, mask, b, axis)
                    n += b == n
            place = _place_of(nodes, n, table, mask, c, a, b, v, axis, key)
            n += place == n
            stack[top] = place
            top += 1
        roots[i] = stack[0]
    return n


@jit()
def _needed(
    nodes: Nodes, n: int, n_leaves: int, roots: NDArray[np.int32], memory: Memory, now: int, settled: int
) -> None:
    """Count the uses of every part that is needed, from the roots down; kept values need nothing."""
    part = nodes.part
    for i in range(len(roots)):
        part[roots[i], P_USES] += 1
    for k in range(n - 1, n_leaves - 1, -1):
        if part[k, P_USES] == 0 or part[k, P_OP] == CONST:
            continue
        axis = np.int64(part[k, P_AXIS])
        if axis <= 1 and len(memory.key[axis]) > 0:
            slot = _find(memory, axis, nodes.key[k], now, settled)
            if slot >= 0:
                part[k, P_WHERE], part[k, P_PLACE] = STORE, memory.base[axis] + slot
                memory.counts[0] += 1
                continue
        part[part[k, P_A], P_USES] += 1
        if part[k, P_B] >= 0:
            part[part[k, P_B], P_USES] += 1


@jit()
def arrange(
    nodes: Nodes,
    n: int,
    n_leaves: int,
    roots: NDArray[np.int32],
    symbols: Symbols,
    memory: Memory,
    now: int,
    settled: int,
    leaf_place: NDArray[np.int64],
    steps: NDArray[np.int32],
    literal: NDArray[np.float64],
    slots: NDArray[np.int64],
    free: NDArray[np.int32],
) -> int:
    """Decide what is computed and where every value lies.

    Parameters
    ----------
    nodes, n, n_leaves, roots
        From `collect_parts`.
    symbols, memory : Symbols, Memory
    now : int
        Number of this plan; larger than all before.
    settled : int
        Number of the last plan that has surely been run, with all before: what later ones compute is not
        there yet, and what they use must stay.
    leaf_place : ndarray of int64
        The position of every leaf in its axis' store.
    steps : ndarray of int32, shape (n, FIELDS)
        Set to the instructions.
    literal : ndarray of float64
        Set to the constant of every instruction: an argument, or the exponent of pow.
    slots : ndarray of int64, shape (4,)
        Set to the number of slots of work memory needed on every axis.
    free : ndarray of int32, shape (4, n + 1)
        Scratch memory.

    Returns
    -------
    int
        The number of instructions.
    """
    part = nodes.part
    for i in range(n_leaves):
        part[i, P_WHERE], part[i, P_PLACE] = STORE, leaf_place[i]
    _needed(nodes, n, n_leaves, roots, memory, now, settled)
    for i in range(len(roots)):
        k = roots[i]
        if part[k, P_WHERE] == NOWHERE and part[k, P_OP] != CONST:
            part[k, P_WHERE], part[k, P_PLACE] = OUT, i
    n_free = np.zeros(4, np.int64)
    slots[:] = 0
    count = 0
    for k in range(n_leaves, n):
        op, where = np.int64(part[k, P_OP]), part[k, P_WHERE]
        if part[k, P_USES] == 0 or op == CONST or where == STORE:
            continue
        axis = np.int64(part[k, P_AXIS])
        if where == NOWHERE:
            if axis <= 1 and op >= 0 and (symbols.reduces[op] or part[k, P_USES] > 1):
                memory.counts[1] += 1
                slot = _claim(memory, axis, nodes.key[k], now, settled)
                if slot >= 0:
                    part[k, P_WHERE], part[k, P_PLACE] = STORE, memory.base[axis] + slot
            if part[k, P_WHERE] == NOWHERE:
                # taken before the arguments are given back: a value never overwrites what it is made of
                part[k, P_WHERE] = WORK
                if n_free[axis] > 0:
                    n_free[axis] -= 1
                    part[k, P_PLACE] = free[axis, n_free[axis]]
                else:
                    part[k, P_PLACE] = slots[axis]
                    slots[axis] += 1
        a, b = part[k, P_A], part[k, P_B]
        steps[count, OP], steps[count, AXIS] = op, part[a, P_AXIS]
        steps[count, TO], steps[count, TO_PLACE] = part[k, P_WHERE], part[k, P_PLACE]
        steps[count, A], steps[count, A_PLACE] = part[a, P_WHERE], part[a, P_PLACE]
        steps[count, B], steps[count, B_PLACE] = NOWHERE, axis
        literal[count] = nodes.value[k]
        if part[a, P_OP] == CONST:
            steps[count, A], literal[count], steps[count, AXIS] = LITERAL, nodes.value[a], axis
        if b >= 0:
            steps[count, B], steps[count, B_PLACE] = part[b, P_WHERE], part[b, P_PLACE]
            if part[b, P_OP] == CONST:
                steps[count, B], literal[count], steps[count, AXIS] = LITERAL, nodes.value[b], axis
        count += 1
        for arg in (a, b):
            if arg >= 0:
                part[arg, P_USES] -= 1
                if part[arg, P_USES] == 0 and part[arg, P_WHERE] == WORK:
                    on = part[arg, P_AXIS]
                    free[on, n_free[on]] = part[arg, P_PLACE]
                    n_free[on] += 1
    return count


@jit()
def move_apart(
    steps: NDArray[np.int32],
    literal: NDArray[np.float64],
    count: int,
    place: NDArray[np.int64],
    slots: NDArray[np.int64],
    which: NDArray[np.int64],
    stretches: NDArray[np.int64],
) -> None:
    """Bring what holds no constant before what does, formula by formula, with slots that nothing overwrites.

    Parameters
    ----------
    steps, literal, count, slots
        From `arrange`, for formulas of the row axis whose constants are 1, 2, 3... and whose roots are
        different operators that depend on one; nothing kept. Rewritten.
    place : ndarray of int64, shape (S,)
        Where the results of the formulas go.
    which : ndarray of int64, shape (count,)
        Set to the constant of every instruction, counted from 0; -1 where it has none.
    stretches : ndarray of int64, shape (S, 3)
        Set to what `proxygraph.kernels.interpreter.run_rows` takes, one line for every formula.
    """
    most = slots[ROW]
    varies, moved = np.zeros(most, np.bool_), np.empty(most, np.int32)
    free, later = np.empty(count, np.int64), np.empty(count, np.int64)
    n_free = n_later = n_formulas = begin = 0
    order, depends = np.empty(count, np.int64), np.empty(count, np.bool_)
    for j in range(count):
        depends[j] = steps[j, A] == LITERAL or steps[j, B] == LITERAL
        which[j] = np.int64(literal[j]) - 1 if depends[j] else -1
        for where, at in ((A, A_PLACE), (B, B_PLACE)):
            if steps[j, where] == WORK:
                depends[j] |= varies[steps[j, at]]
                steps[j, at] = moved[steps[j, at]]
        if steps[j, TO] == WORK:
            to = steps[j, TO_PLACE]
            varies[to], moved[to] = depends[j], to
            if not depends[j]:
                moved[to] = steps[j, TO_PLACE] = slots[ROW]
                slots[ROW] += 1
        if depends[j]:
            later[n_later] = j
            n_later += 1
        else:
            free[n_free] = j
            n_free += 1
        if steps[j, TO] == OUT:
            steps[j, TO_PLACE] = place[steps[j, TO_PLACE]]
            stretches[n_formulas] = (begin, begin + n_free, j + 1)
            order[begin : begin + n_free] = free[:n_free]
            order[begin + n_free : j + 1] = later[:n_later]
            n_free = n_later = 0
            n_formulas, begin = n_formulas + 1, j + 1
    steps[:count], literal[:count], which[:] = steps[order], literal[order], which[order]


@jit()
def finish(nodes: Nodes, roots: NDArray[np.int32], extent: int, store: Any, out: Any) -> None:
    """Fill in the results that no instruction writes: leaves, constants, kept values, and equal formulas."""
    part = nodes.part
    for i in range(len(roots)):
        k, at = roots[i], i * extent
        where, place = part[k, P_WHERE], part[k, P_PLACE] * extent
        if part[k, P_OP] == CONST:
            for j in range(extent):
                out[at + j] = nodes.value[k]
        elif where == STORE:
            for j in range(extent):
                out[at + j] = store[place + j]
        elif place != at:
            for j in range(extent):
                out[at + j] = out[place + j]
