"""Which constants of a tree are worth fitting: compiled.

A line through a formula makes up for factors and shifts at its top. What is made up for is followed down the
tree: in ``log(c*x)`` the factor is a shift of the whole, in ``exp(c + x)`` the shift a factor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from proxygraph.compact.forest import CODES, CONST, LEAF, POW
from proxygraph.jit import jit
from proxygraph.kernels.interpreter import (
    ABS,
    ADD,
    CUBE,
    DIV,
    EXP,
    INV,
    LOG,
    MUL,
    NEG,
    SIGN,
    SQRT,
    SQUARE,
    SUB,
)

N_CODES = len(CODES)
NONE, SCALE, AFFINE, SHIFT, FREE = range(5)
"""What is made up for around a part: nothing; a factor; a factor and a shift; a shift; any change."""


@jit()
def seconds(code: Any, n: int, arity: Any, second: Any) -> bool:
    """Set the place of every second argument; False if the tree has operators that are not for rows here."""
    stack, top = np.empty(n + 1, np.int64), 0
    for at in range(n - 1, -1, -1):
        c = code[at]
        if 0 <= c < LEAF:
            if c >= N_CODES or c > POW:  # the user's, and reductions
                return False
            if arity[c] == 2:
                second[at] = stack[top - 2]
                top -= 1
            top -= 1
        stack[top] = at
        top += 1
    return True


@jit()
def _below_unary(op: int, around: int) -> int:
    """Return what is made up for around the argument of an operator."""
    scaled = around == SCALE or around == AFFINE
    if op == NEG:
        return around
    if op == EXP and scaled:  # exp(c + f) = exp(c) * exp(f)
        return SHIFT
    if op == LOG and (around == AFFINE or around == SHIFT):  # log(c*f) = log(c) + log(f)
        return SCALE
    if scaled and (op == ABS or op == SQUARE or op == CUBE or op == SQRT or op == INV or op == POW):
        return SCALE
    return NONE


@jit()
def _below_binary(op: int, around: int, first: bool, constant: bool, beside: bool) -> int:
    """Return what is made up for around an argument, which is a `constant` or has one `beside` it."""
    if op == ADD or op == SUB:
        if around == SHIFT:
            return FREE if constant else SHIFT
        if around == AFFINE and constant != beside:
            return FREE if constant else AFFINE
    elif (op == MUL or op == DIV) and (around == SCALE or around == AFFINE):
        if constant:
            return FREE
        return around if beside and (first or op == MUL) else SCALE
    return NONE


@jit()
def occurrences(
    code: Any, n: int, arity: Any, second: Any, line: bool, frozen: Any, place: Any, around: Any
) -> int:
    """Set the places of constants that are to be fitted; return how many."""
    around[0] = AFFINE if line else NONE
    lives, found = np.ones(n, np.bool_), 0
    for at in range(n):
        c = code[at]
        if c == CONST:
            if lives[at] and around[at] != FREE and not (len(frozen) and frozen[at]):
                place[found] = at
                found += 1
        elif c < LEAF:
            one, two = at + 1, at + 1
            lives[one] = lives[at] and c != SIGN
            if arity[c] == 1:
                around[one] = _below_unary(c, around[at])
                continue
            two = second[at]
            lives[two] = lives[at]
            a, b = code[one] == CONST, code[two] == CONST
            around[one] = _below_binary(c, around[at], True, a, b)
            around[two] = _below_binary(c, around[at], False, b, a)
    return found


@jit()
def tie(code: Any, value: Any, n: int, frozen: Any, place: Any, found: int, group: Any) -> int:
    """Let equal constants move together: add what equals one that is fitted; set groups; return how many.

    Groups are numbered in the order of their first members, so that none has a greater number than a member.
    """
    first = found
    for at in range(n):
        if code[at] != CONST or (len(frozen) and frozen[at]):
            continue
        known, equal = False, False
        for k in range(first):
            known |= place[k] == at
            equal |= value[place[k]] == value[at]
        if equal and not known:
            place[found] = at
            found += 1
    groups = 0
    for k in range(found):
        group[k] = groups
        for j in range(k):
            if value[place[j]] == value[place[k]]:
                group[k] = group[j]
        groups = max(groups, group[k] + 1)
    return found
