"""Values of a tree and its derivatives by constants, a block of rows at a time: compiled.

Derivatives are taken in reverse over the prefix code: a sweep from the leaves up gives values, one from the
root down gives the derivative of the formula by every part that holds a constant (Griewank & Walther 2008,
Evaluating Derivatives, chapter 3). A part has one use in a tree, so nothing has to be added up.
"""

from __future__ import annotations

from typing import Any

from proxygraph.compact.forest import CONST, LEAF, POW
from proxygraph.jit import jit
from proxygraph.kernels import vecmath
from proxygraph.kernels.interpreter import (
    ABS,
    ADD,
    COS,
    CUBE,
    DIV,
    EXP,
    INV,
    LOG,
    LOG1P,
    MAXIMUM,
    MUL,
    NEG,
    RELU,
    SIGMOID,
    SIN,
    SQRT,
    SQUARE,
    SUB,
    TANH,
    elementwise,
)
from proxygraph.kernels.intrinsics import address


@jit()
def values(
    code: Any,
    value: Any,
    n: int,
    arity: Any,
    second: Any,
    skip: Any,
    columns: Any,
    lo: int,
    node: Any,
    f: Any,
) -> None:
    """Compute a block of rows from `lo` on: every part that is not to be skipped, and the formula `f`."""
    m = len(f)
    for at in range(n - 1, -1, -1):
        c = code[at]
        if skip[at] or (c >= LEAF and at > 0):
            continue
        out = f if at == 0 else node[at, :m]
        if c >= LEAF:
            for i in range(m):
                out[i] = columns[c - LEAF, lo + i]
            continue
        if c == CONST:
            out[:] = value[at]
            continue
        one = at + 1
        x = columns[code[one] - LEAF, lo : lo + m] if code[one] >= LEAF else node[one, :m]
        y = x
        if arity[c] == 2:
            two = second[at]
            y = columns[code[two] - LEAF, lo : lo + m] if code[two] >= LEAF else node[two, :m]
        elementwise(c, value[at], m, address(out, 0), address(x, 0), address(y, 0))


@jit()
def _through_unary(op: int, exponent: float, out: Any, up: Any, v: Any, x: Any) -> None:
    """Set `out` to `up` times the derivative of ``v = op(x)``."""
    n = len(out)
    if op == NEG:
        for i in range(n):
            out[i] = -up[i]
    elif op == ABS:
        vecmath.sign_into(out, x)
        for i in range(n):
            out[i] *= up[i]
    elif op == SQUARE:
        for i in range(n):
            out[i] = 2.0 * x[i] * up[i]
    elif op == CUBE:
        for i in range(n):
            out[i] = 3.0 * x[i] * x[i] * up[i]
    elif op == SQRT:
        for i in range(n):
            out[i] = 0.5 * up[i] / v[i]
    elif op == LOG:
        for i in range(n):
            out[i] = up[i] / x[i]
    elif op == LOG1P:
        for i in range(n):
            out[i] = up[i] / (1.0 + x[i])
    elif op == EXP:
        for i in range(n):
            out[i] = up[i] * v[i]
    elif op == INV:
        for i in range(n):
            out[i] = -up[i] * v[i] * v[i]
    elif op == TANH:
        for i in range(n):
            out[i] = up[i] * (1.0 - v[i] * v[i])
    elif op == SIGMOID:
        for i in range(n):
            out[i] = up[i] * v[i] * (1.0 - v[i])
    elif op == RELU:
        for i in range(n):
            out[i] = up[i] if x[i] > 0.0 else 0.0
    elif op == SIN:
        vecmath.cos_into(out, x)
        for i in range(n):
            out[i] *= up[i]
    elif op == COS:
        vecmath.sin_into(out, x)
        for i in range(n):
            out[i] *= -up[i]
    elif op == POW:
        vecmath.pow_into(out, x, exponent - 1.0)
        for i in range(n):
            out[i] *= exponent * up[i]
    else:
        out[:] = 0.0


@jit()
def _through_binary(op: int, first: bool, out: Any, up: Any, v: Any, x: Any, y: Any) -> None:
    """Set `out` to `up` times the derivative of ``v = op(x, y)`` by its first or second argument."""
    n = len(out)
    if op == ADD or (op == SUB and first):
        for i in range(n):
            out[i] = up[i]
    elif op == SUB:
        for i in range(n):
            out[i] = -up[i]
    elif op == MUL:
        z = y if first else x
        for i in range(n):
            out[i] = up[i] * z[i]
    elif op == DIV and first:
        for i in range(n):
            out[i] = up[i] / y[i]
    elif op == DIV:
        for i in range(n):
            out[i] = -up[i] * v[i] / y[i]
    elif op == MAXIMUM and first:  # of equal arguments the first one counts
        for i in range(n):
            out[i] = up[i] if x[i] >= y[i] else 0.0
    elif op == MAXIMUM:
        for i in range(n):
            out[i] = up[i] if x[i] < y[i] else 0.0
    elif first:
        for i in range(n):
            out[i] = up[i] if x[i] <= y[i] else 0.0
    else:
        for i in range(n):
            out[i] = up[i] if x[i] > y[i] else 0.0


@jit()
def derivatives(
    code: Any,
    value: Any,
    n: int,
    arity: Any,
    second: Any,
    skip: Any,
    row: Any,
    columns: Any,
    lo: int,
    node: Any,
    f: Any,
    up: Any,
    slopes: Any,
) -> None:
    """Compute the derivative of a block of values by every fitted constant, into its row of `slopes`."""
    m = len(f)
    up[0, :m] = 1.0
    if code[0] == CONST and not skip[0]:  # the formula is a constant
        slopes[row[0], lo : lo + m] = 1.0
    for at in range(n):
        c = code[at]
        if skip[at] or c == CONST:
            continue
        one = at + 1
        v = f if at == 0 else node[at, :m]
        x = columns[code[one] - LEAF, lo : lo + m] if code[one] >= LEAF else node[one, :m]
        if arity[c] == 1:
            out = slopes[row[one], lo : lo + m] if code[one] == CONST else up[one, :m]
            _through_unary(c, value[at], out, up[at, :m], v, x)
            continue
        two = second[at]
        y = columns[code[two] - LEAF, lo : lo + m] if code[two] >= LEAF else node[two, :m]
        if not skip[one]:
            out = slopes[row[one], lo : lo + m] if code[one] == CONST else up[one, :m]
            _through_binary(c, True, out, up[at, :m], v, x, y)
        if not skip[two]:
            out = slopes[row[two], lo : lo + m] if code[two] == CONST else up[two, :m]
            _through_binary(c, False, out, up[at, :m], v, x, y)
