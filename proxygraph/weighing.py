"""Children with more constants: factors and shifts within a good formula, for least squares to fit.

An operator seldom puts a constant where it is needed, and one alone may be no use: ``sin(x) * exp(x)`` nears
``sin(2*x + 1) * exp(-x/3)`` only if all of them move at once. Operon gives every variable a weight for that
reason (Burlacu, Kronberger & Kommenda 2020, GECCO); here some children get some, and keep those that pay for
their nodes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from proxygraph.compact.forest import CONST, Forest

SHARE: Final = 0.3
"""Of the parts of a formula, those that get a constant, on average."""
SHIFTS: Final = 0.3
"""Of the constants, those that are added rather than multiplied by."""


def weighed(parents: Forest, mul: int, add: int | None, rng: np.random.Generator) -> Forest:
    """Return every parent with constants at random places, as it is where it would not fit.

    Parameters
    ----------
    parents : Forest
    mul, add : int
        Codes of the operators; without `add` there are no shifts.
    rng : Generator
    """
    n, capacity = parents.code.shape
    made = Forest(parents.code.copy(), parents.value.copy(), parents.length.copy())
    inside = np.arange(capacity) < parents.length[:, None]
    chosen = inside & (parents.code != CONST) & (rng.random((n, capacity)) < SHARE)
    chosen[:, 0] = False  # a line is fitted through the whole anyway
    shifted = rng.random((n, capacity)) < (SHIFTS if add is not None else 0.0)
    start = rng.normal(size=(n, capacity))
    for i in range(n):
        at = np.flatnonzero(chosen[i])
        length = int(parents.length[i]) + 2 * len(at)
        if length > capacity:
            continue
        shift = shifted[i, at]
        twice: Any = np.repeat(at, 2)
        code, value = np.empty(2 * len(at), np.int16), np.zeros(2 * len(at))
        code[::2], code[1::2] = np.where(shift, mul if add is None else add, mul), CONST
        value[1::2] = np.where(shift, 0.3 * start[i, at], np.exp(0.3 * start[i, at]))
        made.code[i, :length] = np.insert(parents.code[i, : parents.length[i]], twice, code)
        made.value[i, :length] = np.insert(parents.value[i, : parents.length[i]], twice, value)
        made.length[i] = length
    return made
