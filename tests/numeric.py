"""When two formulas have the same values, for tests of rewrites.

A rewrite promises: wherever every part of the left side is finite, the right side has the same value up to
rounding. Rows on which rounding decides are found with the noise of `tests.contracts.agreement` and left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag
from proxygraph.kernels.reference import ReferenceKernel, reduce, spread
from proxygraph.ops import OPS
from proxygraph.program import Program, lower
from proxygraph.table import StatTable
from tests.contracts.agreement import same, well_conditioned

LARGE = 1e100
"""Parts beyond it, or nearer to 0 than its inverse, may over- or underflow in another order of operations."""


def all_finite(program: Program, table: StatTable, large: float = LARGE) -> NDArray[np.bool_]:
    """Where every part of every formula is finite and of moderate size, shape (P, N)."""
    values: list[NDArray[np.float64]] = []
    good: list[NDArray[np.float64]] = []
    with np.errstate(all="ignore"):
        for node, axis in zip(program.nodes, program.axes, strict=True):
            if node.kind == "const":
                value, fine = np.full(table.n_rows, node.value), np.ones(table.n_rows)
            elif node.kind == "leaf":
                value = table.columns[node.name].astype(np.float64)
                fine = np.ones(len(value))
            elif OPS[node.name].kind == "reduction":
                (j,) = node.args
                value = reduce(table, node.name, values[j], program.axes[j])
                fine = reduce(table, "min", good[j], program.axes[j])
            else:
                places = [(j, program.axes[j]) for j in node.args]
                value = OPS[node.name].numpy(np, *(spread(table, values[j], a, axis) for j, a in places))
                fine = np.minimum.reduce([spread(table, good[j], a, axis) for j, a in places])
            size = np.abs(value)
            moderate = np.isfinite(value) & (size < large) & ((size > 1 / large) | (value == 0.0))
            values.append(value)
            good.append(np.where(moderate, fine, 0.0))
    return np.stack([good[i] for i in program.outputs]) == 1.0


def disagreement(left: Dag, right: Dag, table: StatTable) -> str | None:
    """Return the first row on which `right` breaks the promise, in words; `None` if there is none."""
    both = lower([left, right])
    a, b = ReferenceKernel(both)(table)
    differs = ~(np.isfinite(b) & same(a, b)) & all_finite(lower([left]), table)[0]
    if not differs.any():
        return None
    # many runs: where a sign hangs on the last digit, each has an even chance not to show it
    wrong = np.flatnonzero(differs & well_conditioned(both, table, runs=16).all(axis=0))
    return f"row {wrong[0]}: {a[wrong[0]]!r} became {b[wrong[0]]!r}" if wrong.size else None
