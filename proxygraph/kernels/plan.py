"""From many trees to one list of instructions: equal parts once, every value with a place in memory.

Compiled, since a search plans more than it computes: planning a tree costs about as much as running it on
a few hundred rows. Values on the row and layer axes that are likely to come back are kept between plans.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.forest import CONST, LEAF, POW, ROW, Symbols
from proxygraph.compact.keys import code_key, combined, value_key
from proxygraph.jit import jit

SPREAD = -2
"""Code of the instruction that repeats a coarser value."""
NOWHERE, STORE, WORK, OUT, LITERAL = 0, 1, 2, 3, 4
"""Where a value lies: leaves and kept values in the store, passing ones in work memory, results in out,
constants in the instruction itself."""
FIELDS: Final = 8
OP, AXIS, TO, TO_PLACE, A, A_PLACE, B, B_PLACE = range(FIELDS)
"""Columns of an instruction: operator, axis of the first argument, where and place of result and arguments.
A unary instruction has the axis of its result in `B_PLACE`."""
WAYS: Final = 8
"""Kept values that may take the place of each other."""


PARTS: Final = 9
P_OP, P_A, P_B, P_AXIS, P_KEY, P_LAST, P_USES, P_WHERE, P_PLACE = range(PARTS)
"""Columns of a part: operator, leaf, constant or `SPREAD`; positions of the arguments, -1 for none; axis;
key; position of the last part that uses it; how many use it, 0: nobody needs it; and where it lies."""


class Nodes(NamedTuple):
    """The distinct parts of many trees, arguments before their users.

    Attributes
    ----------
    part : ndarray of int64, shape (n, PARTS)
    value : ndarray of float64, shape (n,)
        Of constants, and the exponent of pow.
    """

    part: NDArray[np.int64]
    value: NDArray[np.float64]

    @classmethod
    def empty(cls, n: int) -> Nodes:
        """Return room for `n` parts."""
        return cls(np.empty((n, PARTS), np.int64), np.empty(n))


class Memory(NamedTuple):
    """Which values are kept between plans, on the row and on the layer axis.

    Attributes
    ----------
    key : tuple of two ndarray of uint64
        Of every slot, 0 for an empty one; sets of `WAYS` slots.
    stamp : tuple of two ndarray of int64
        The plan that last used it.
    base : ndarray of int64, shape (2,)
        Where the slots begin in the axis' store.
    extent : ndarray of int64, shape (2,)
        Entries of one slot.
    counts : ndarray of int64, shape (2,)
        Values found and values computed, of those that could be kept.
    """

    key: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    stamp: tuple[NDArray[np.int64], NDArray[np.int64]]
    base: NDArray[np.int64]
    extent: NDArray[np.int64]
    counts: NDArray[np.int64]


@jit()
def _find(memory: Memory, axis: int, key: Any, now: int) -> int:
    """Return the slot that holds a value, marking it used; -1 if none does."""
    keys, stamps = memory.key[axis], memory.stamp[axis]
    if len(keys) == 0:
        return -1
    first = np.int64(key % np.uint64(len(keys) // WAYS)) * WAYS
    for slot in range(first, first + WAYS):
        if keys[slot] == key:
            stamps[slot] = now
            return slot
    return -1


@jit()
def _claim(memory: Memory, axis: int, key: Any, now: int) -> int:
    """Return a slot for a new value, in place of the one used longest ago; -1 if all are in use now."""
    keys, stamps = memory.key[axis], memory.stamp[axis]
    if len(keys) == 0:
        return -1
    first = np.int64(key % np.uint64(len(keys) // WAYS)) * WAYS
    best = first
    for slot in range(first, first + WAYS):
        if stamps[slot] < stamps[best]:
            best = slot
    if stamps[best] == now:
        return -1
    keys[best], stamps[best] = key, now
    return best


@jit()
def _node(
    nodes: Nodes, n: int, table: Any, op: int, a: int, b: int, value: float, axis: int, key: Any
) -> int:
    """Return the position of a part: an equal one's, or `n`, where it is written."""
    mask = np.uint64(len(table) - 1)
    at = key & mask
    while table[at] >= 0:
        if nodes.part[table[at], P_KEY] == np.int64(key):
            return table[at]
        at = (at + np.uint64(1)) & mask
    table[at] = n
    part = nodes.part[n]
    part[P_OP], part[P_A], part[P_B], part[P_AXIS], part[P_KEY] = op, a, b, axis, np.int64(key)
    part[P_LAST], part[P_USES], part[P_WHERE], part[P_PLACE] = -1, 0, NOWHERE, 0
    nodes.value[n] = value
    return n


@jit()
def collect_parts(trees: Any, symbols: Symbols, nodes: Nodes, table: Any, roots: NDArray[np.int32]) -> int:
    """Write the distinct parts of all trees; return how many there are.

    Leaves come first, in order. `table` (a power of two long, twice the number of parts) is scratch memory.
    """
    code, value, length = trees
    table[:] = -1
    n = 0
    for leaf in range(len(symbols.leaf_axis)):
        _node(nodes, n, table, LEAF + leaf, -1, -1, 0.0, symbols.leaf_axis[leaf], code_key(LEAF + leaf))
        n += 1
    stack = np.empty(code.shape[1] + 1, np.int32)
    for i in range(len(length)):
        top = 0
        for at in range(length[i] - 1, -1, -1):
            c, v = code[i, at], value[i, at]
            if c == CONST:
                place = _node(nodes, n, table, CONST, -1, -1, v, ROW, value_key(v))
            elif c >= LEAF:
                place = c - LEAF
            elif symbols.arity[c] == 1:
                top -= 1
                a, own = stack[top], code_key(c)
                axis = nodes.part[a, P_AXIS]
                if symbols.reduces[c]:
                    axis = ROW if axis == 1 else 1
                if c == POW:
                    own = combined(own, value_key(v))
                else:
                    v = 0.0
                place = _node(
                    nodes, n, table, c, a, -1, v, axis, combined(own, np.uint64(nodes.part[a, P_KEY]))
                )
            else:
                top -= 2
                a, b = stack[top + 1], stack[top]
                axis = max(nodes.part[a, P_AXIS], nodes.part[b, P_AXIS])
                key = combined(
                    combined(code_key(c), np.uint64(nodes.part[a, P_KEY])), np.uint64(nodes.part[b, P_KEY])
                )
                for side in range(2):
                    arg = a if side == 0 else b
                    if nodes.part[arg, P_AXIS] != axis and nodes.part[arg, P_OP] != CONST:
                        spread = combined(code_key(SPREAD - axis), np.uint64(nodes.part[arg, P_KEY]))
                        arg = _node(nodes, n, table, SPREAD, arg, -1, 0.0, axis, spread)
                        n += arg == n
                        if side == 0:
                            a = arg
                        else:
                            b = arg
                place = _node(nodes, n, table, c, a, b, 0.0, axis, key)
            n += place == n
            stack[top] = place
            top += 1
        roots[i] = stack[0]
    return n


@jit()
def arrange(
    nodes: Nodes,
    n: int,
    n_leaves: int,
    roots: NDArray[np.int32],
    symbols: Symbols,
    memory: Memory,
    now: int,
    extent: NDArray[np.int64],
    leaf_place: NDArray[np.int64],
    steps: NDArray[np.int64],
    literal: NDArray[np.float64],
    slots: NDArray[np.int64],
) -> int:
    """Decide what is computed and where every value lies.

    Parameters
    ----------
    nodes, n, n_leaves, roots
        From `collect_parts`.
    symbols, memory : Symbols, Memory
    now : int
        Number of this plan; larger than all before.
    extent : ndarray of int64, shape (4,)
        Entries of every axis in the whole table.
    leaf_place : ndarray of int64
        Where every leaf begins in its axis' store.
    steps : ndarray of int64, shape (n, FIELDS)
        Set to the instructions.
    literal : ndarray of float64
        Set to the constant of every instruction: an argument, or the exponent of pow.
    slots : ndarray of int64, shape (4,)
        Set to the number of slots of work memory needed on every axis.

    Returns
    -------
    int
        The number of instructions.
    """
    for i in range(n_leaves):
        nodes.part[i, P_WHERE], nodes.part[i, P_PLACE] = STORE, leaf_place[i]
    # what is needed, from the roots down; kept values need nothing
    for i in roots:
        nodes.part[i, P_USES] += 1
        nodes.part[i, P_LAST] = n
    for k in range(n - 1, n_leaves - 1, -1):
        if nodes.part[k, P_USES] == 0 or nodes.part[k, P_OP] == CONST:
            continue
        axis = nodes.part[k, P_AXIS]
        if axis <= 1:
            slot = _find(memory, axis, np.uint64(nodes.part[k, P_KEY]), now)
            if slot >= 0:
                nodes.part[k, P_WHERE], nodes.part[k, P_PLACE] = (
                    STORE,
                    memory.base[axis] + slot * memory.extent[axis],
                )
                memory.counts[0] += 1
                continue
        for arg in (nodes.part[k, P_A], nodes.part[k, P_B]):
            if arg >= 0:
                nodes.part[arg, P_USES] += 1
                nodes.part[arg, P_LAST] = max(nodes.part[arg, P_LAST], k)
    for i in range(len(roots)):
        k = roots[i]
        if nodes.part[k, P_WHERE] == NOWHERE and nodes.part[k, P_OP] != CONST:
            nodes.part[k, P_WHERE], nodes.part[k, P_PLACE] = OUT, i * extent[ROW]
    free, n_free = np.empty((4, n + 1), np.int64), np.zeros(4, np.int64)
    slots[:] = 0
    count = 0
    for k in range(n_leaves, n):
        if nodes.part[k, P_USES] == 0 or nodes.part[k, P_OP] == CONST or nodes.part[k, P_WHERE] == STORE:
            continue
        axis, op = nodes.part[k, P_AXIS], nodes.part[k, P_OP]
        if nodes.part[k, P_WHERE] == NOWHERE:
            if axis <= 1 and op >= 0 and (symbols.reduces[op] or nodes.part[k, P_USES] > 1):
                memory.counts[1] += 1
                slot = _claim(memory, axis, np.uint64(nodes.part[k, P_KEY]), now)
                if slot >= 0:
                    nodes.part[k, P_WHERE] = STORE
                    nodes.part[k, P_PLACE] = memory.base[axis] + slot * memory.extent[axis]
            if nodes.part[k, P_WHERE] == NOWHERE:
                # taken before the arguments are given back: a value never overwrites what it is made of
                nodes.part[k, P_WHERE] = WORK
                if n_free[axis] > 0:
                    n_free[axis] -= 1
                    nodes.part[k, P_PLACE] = free[axis, n_free[axis]]
                else:
                    nodes.part[k, P_PLACE] = slots[axis]
                    slots[axis] += 1
        step = steps[count]
        step[OP], step[AXIS] = op, nodes.part[nodes.part[k, P_A], P_AXIS]
        step[TO], step[TO_PLACE] = nodes.part[k, P_WHERE], nodes.part[k, P_PLACE]
        step[B], step[B_PLACE] = NOWHERE, axis
        literal[count] = nodes.value[k]
        for side in range(2):
            arg = nodes.part[k, P_A] if side == 0 else nodes.part[k, P_B]
            if arg >= 0 and nodes.part[arg, P_OP] == CONST:
                step[A + 2 * side], literal[count] = LITERAL, nodes.value[arg]
                step[AXIS] = axis
            elif arg >= 0:
                step[A + 2 * side], step[A_PLACE + 2 * side] = (
                    nodes.part[arg, P_WHERE],
                    nodes.part[arg, P_PLACE],
                )
        count += 1
        for side in range(2):
            arg = nodes.part[k, P_A] if side == 0 else nodes.part[k, P_B]
            if arg >= 0 and nodes.part[arg, P_WHERE] == WORK and nodes.part[arg, P_LAST] == k:
                if side == 1 and arg == nodes.part[k, P_A]:
                    continue
                on = nodes.part[arg, P_AXIS]
                free[on, n_free[on]] = nodes.part[arg, P_PLACE]
                n_free[on] += 1
    return count


@jit()
def finish(nodes: Nodes, roots: NDArray[np.int32], extent: int, store: Any, out: Any) -> None:
    """Fill in the results that no instruction writes: leaves, constants, kept values, and equal formulas."""
    for i in range(len(roots)):
        k, at = roots[i], i * extent
        where, place = nodes.part[k, P_WHERE], nodes.part[k, P_PLACE]
        if nodes.part[k, P_OP] == CONST:
            for j in range(extent):
                out[at + j] = nodes.value[k]
        elif where == STORE:
            for j in range(extent):
                out[at + j] = store[place + j]
        elif place != at:
            for j in range(extent):
                out[at + j] = out[place + j]
