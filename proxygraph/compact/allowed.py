"""Whether trees keep the rules of their user: operators, depth, nesting, constants, units; compiled.

One pass over a tree from its end: what is known of a part (depth, how often an operator is nested in it, its
unit) follows from its arguments and waits on a stack.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.forest import CONST, LEAF, Forest, Symbols
from proxygraph.jit import jit

KEEP, EQUAL, PRODUCT, QUOTIENT, POWER, EXPONENT, PURE, FORGET = range(8)
"""What an operator does to units: keeps that of its argument; takes equal ones and keeps them; multiplies;
divides; takes a power of its own, or its exponent's; takes and gives plain numbers; gives plain numbers."""
NO_LIMIT: Final = 32_767


class Rules(NamedTuple):
    """What is allowed, as arrays over codes.

    Attributes
    ----------
    op_ok, leaf_ok : ndarray of bool
        Of every operator and leaf.
    max_depth, max_constants : int
    slot : ndarray of int16
        Of every operator: its column in `most`, -1 if no rule counts it.
    most : ndarray of int16, shape (operators, columns)
        How often the operator of a column may stand on one path below an operator.
    has_units : bool
    op_unit : ndarray of int8
        What every operator does to units.
    factor : ndarray of float64
        The power that an operator of kind `POWER` takes.
    leaf_unit : ndarray of float64, shape (leaves, D)
        Exponents of the base units, times a common denominator.
    root_unit : ndarray of float64, shape (D,)
        The unit the whole must have, if `root_bound`.
    root_bound, free_constants : bool
        Whether a constant may carry any unit.
    """

    op_ok: NDArray[np.bool_]
    leaf_ok: NDArray[np.bool_]
    max_depth: int
    max_constants: int
    slot: NDArray[np.int16]
    most: NDArray[np.int16]
    has_units: bool
    op_unit: NDArray[np.int8]
    factor: NDArray[np.float64]
    leaf_unit: NDArray[np.float64]
    root_unit: NDArray[np.float64]
    root_bound: bool
    free_constants: bool


@jit()
def _is_plain(unit: Any) -> bool:
    """Whether a unit is that of a plain number."""
    found = 0.0
    for d in range(len(unit)):
        found += abs(unit[d])
    return bool(found == 0.0)


@jit()
def _same(a: Any, b: Any) -> bool:
    """Whether two units are the same."""
    found = 0.0
    for d in range(len(a)):
        found += abs(a[d] - b[d])
    return bool(found == 0.0)


@jit()
def _unary_unit(kind: int, power: float, unit: Any, free: Any, top: int) -> bool:
    """Set the unit of an operator over the part on top of the stack; False if it is not defined there."""
    if kind == KEEP:
        return True
    if kind == POWER or kind == EXPONENT:
        for d in range(unit.shape[1]):
            unit[top, d] *= power
        if power == 0.0:
            free[top] = False
        return True
    if kind == PURE and not free[top] and not _is_plain(unit[top]):
        return False
    free[top] = False
    for d in range(unit.shape[1]):
        unit[top, d] = 0.0
    return True


@jit()
def _binary_unit(kind: int, unit: Any, free: Any, top: int) -> bool:
    """Set the unit of an operator over the two parts on top; the left one is the uppermost."""
    left, right = top, top - 1
    if kind == EQUAL:
        if free[right]:
            free[right] = free[left]
            for d in range(unit.shape[1]):
                unit[right, d] = unit[left, d]
            return True
        return bool(free[left]) or _same(unit[left], unit[right])
    if kind == PRODUCT or kind == QUOTIENT:
        sign = 1.0 if kind == PRODUCT else -1.0
        free[right] = free[left] or free[right]
        for d in range(unit.shape[1]):
            unit[right, d] = 0.0 if free[right] else unit[left, d] + sign * unit[right, d]
        return True
    for at in (left, right):
        if kind == PURE and not free[at] and not _is_plain(unit[at]):
            return False
    free[right] = False
    for d in range(unit.shape[1]):
        unit[right, d] = 0.0
    return True


@jit()
def _allowed(
    code: Any, value: Any, length: int, symbols: Symbols, rules: Rules, depth: Any, nested: Any, unit: Any,
    free: Any,
) -> bool:  # fmt: skip
    """Whether one tree keeps the rules; the last four arguments are stacks to work in."""
    top, constants, columns = -1, 0, nested.shape[1]
    for at in range(length - 1, -1, -1):
        c = code[at]
        if c == CONST or c >= LEAF:
            constants += c == CONST
            if (c >= LEAF and not rules.leaf_ok[c - LEAF]) or constants > rules.max_constants:
                return False
            top += 1
            depth[top] = 0
            for k in range(columns):
                nested[top, k] = 0
            if rules.has_units:
                free[top] = c == CONST and rules.free_constants
                for d in range(unit.shape[1]):
                    unit[top, d] = 0.0 if c == CONST else rules.leaf_unit[c - LEAF, d]
            continue
        if not rules.op_ok[c]:
            return False
        kind = rules.op_unit[c]
        if symbols.arity[c] == 2:
            if rules.has_units and not _binary_unit(kind, unit, free, top):
                return False
            top -= 1
            depth[top] = max(depth[top], depth[top + 1])
            for k in range(columns):
                nested[top, k] = max(nested[top, k], nested[top + 1, k])
        elif rules.has_units:
            power = value[at] if kind == EXPONENT else rules.factor[c]
            if not _unary_unit(kind, power, unit, free, top):
                return False
        depth[top] += 1
        if depth[top] > rules.max_depth:
            return False
        for k in range(columns):
            if nested[top, k] > rules.most[c, k]:
                return False
        if rules.slot[c] >= 0:
            nested[top, rules.slot[c]] += 1
    return not (rules.has_units and rules.root_bound) or bool(free[0]) or _same(unit[0], rules.root_unit)


@jit()
def allowed(
    code: NDArray[np.int16],
    value: NDArray[np.float64],
    length: NDArray[np.int32],
    symbols: Symbols,
    rules: Rules,
    first: int,
    last: int,
    ok: NDArray[np.bool_],
) -> None:
    """Set ``ok[i]`` for trees `first` to `last`: whether each keeps all rules."""
    room = code.shape[1] + 1
    depth, nested = np.empty(room, np.int32), np.empty((room, rules.most.shape[1]), np.int32)
    unit, free = np.empty((room, rules.leaf_unit.shape[1])), np.zeros(room, np.bool_)
    for i in range(first, last):
        ok[i] = length[i] > 0 and _allowed(
            code[i], value[i], length[i], symbols, rules, depth, nested, unit, free
        )


def allowed_trees(forest: Forest, symbols: Symbols, rules: Rules) -> NDArray[np.bool_]:
    """Return for every tree whether it keeps all rules, shape (P,)."""
    ok = np.empty(len(forest.length), bool)
    allowed(*forest, symbols, rules, 0, len(ok), ok)
    return ok
