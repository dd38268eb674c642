"""When two kernels agree.

Any two orders of the same sum differ in their last digits, and a formula may blow that up without limit
(``sign(mean(w) - mean(w + 0))``). So the reference is run again with random relative noise of 1e-13 on the
result of every operator and on every value that is reduced, and zeros of random sign (Monte Carlo arithmetic
[1]_). Rows that the noise moves by less than `TOLERANCE` are well conditioned and must agree to `TOLERANCE`,
relative; on the others nothing can be asked, but they must stay few.

.. [1] D. S. Parker (1997), Monte Carlo Arithmetic, UCLA CSD-970002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proxygraph.kernels.reference import ReferenceKernel, reduce, spread
from proxygraph.ops import OPS
from proxygraph.program import Program
from proxygraph.table import StatTable

TOLERANCE = 1e-9
NOISE = 1e-13
TINY = 1e-290
"""Below this float64 loses digits (subnormal squares); results there agree absolutely."""

Array = NDArray[np.float64]


def shaken(values: Array, rng: np.random.Generator) -> Array:
    """The values with relative noise; zeros get a random sign."""
    noisy = values * (1.0 + NOISE * rng.uniform(-1.0, 1.0, size=values.shape))
    return np.where(values == 0.0, np.copysign(0.0, rng.normal(size=values.shape)), noisy)


def noisy_reference(program: Program, table: StatTable, rng: np.random.Generator) -> Array:
    """The reference's results, shape (P, N), with noise on every intermediate value."""
    values: list[Array] = []
    with np.errstate(all="ignore"):
        for node, axis in zip(program.nodes, program.axes, strict=True):
            if node.kind == "const":
                values.append(np.full(table.n_rows, node.value))
            elif node.kind == "leaf":
                values.append(table.columns[node.name].astype(np.float64))
            elif OPS[node.name].kind == "reduction":
                (j,) = node.args
                values.append(shaken(reduce(table, node.name, shaken(values[j], rng), program.axes[j]), rng))
            else:
                args = [spread(table, values[j], program.axes[j], axis) for j in node.args]
                values.append(shaken(np.asarray(OPS[node.name].numpy(np, *args), dtype=np.float64), rng))
    return np.stack([values[i] for i in program.outputs])


def same(a: Array, b: Array, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Where two results agree: both NaN, the same infinity, or close."""
    with np.errstate(all="ignore"):
        close = np.abs(a - b) <= tolerance * np.maximum(np.abs(a), np.abs(b)) + TINY
    return (np.isnan(a) & np.isnan(b)) | (a == b) | close


def well_conditioned(program: Program, table: StatTable, runs: int = 3) -> NDArray[np.bool_]:
    """Where results do not hang on the last digits, shape (P, N)."""
    exact = ReferenceKernel(program)(table)
    rng = np.random.default_rng(0)
    return np.logical_and.reduce([same(noisy_reference(program, table, rng), exact) for _ in range(runs)])


def compare(got: Array, program: Program, table: StatTable) -> NDArray[np.bool_]:
    """Assert that `got` agrees with the reference wherever it can; return where that was."""
    expected = ReferenceKernel(program)(table)
    assert got.shape == expected.shape
    assert got.dtype == np.float64
    checked = well_conditioned(program, table)
    wrong = checked & ~same(got, expected)
    if wrong.any():
        p, n = (int(k[0]) for k in np.nonzero(wrong))
        raise AssertionError(
            f"formula {p}, row {n}: got {got[p, n]!r}, the reference says {expected[p, n]!r}"
        )
    return checked
