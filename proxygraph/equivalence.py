"""Do two formulas have the same values? Asked on random tables from the declared domain of their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.program import lower
from proxygraph.table import StatTable

PROBE_ROWS = 48


def probe_table(leaves: Mapping[str, Leaf], seed: int = 0) -> StatTable:
    """Return a small ragged table with random values for `leaves`, >= 0 where they promise it.

    On a third of the rows some values are exactly 0.
    """
    rng = np.random.default_rng([seed, 0x9B0E])
    layers = rng.integers(1, 5, size=PROBE_ROWS)
    n = {axis: rng.integers(1, 7, size=int(layers.sum())) for axis in ("element", "activation")}
    row_of = {"row": np.arange(PROBE_ROWS), "layer": np.repeat(np.arange(PROBE_ROWS), layers)}
    row_of |= {axis: np.repeat(row_of["layer"], sizes) for axis, sizes in n.items()}
    columns: dict[str, NDArray[Any]] = {}
    for name in sorted(leaves):
        rows = row_of[leaves[name].axis]
        # several magnitudes, so that 1 + a and a, or a and its rounding, cannot be mistaken for each other
        values = rng.standard_normal(rows.size) * np.power(10.0, rng.uniform(-1.0, 1.5, rows.size))
        values[(rows < PROBE_ROWS // 3) & (rng.random(rows.size) < 0.3)] = 0.0
        columns[name] = values if leaves[name].sign == "any" else np.abs(values)
    used = {leaf.axis for leaf in leaves.values()}
    offsets: dict[str, NDArray[Any]] = {}
    counts: dict[str, NDArray[Any]] = {}
    if used - {"row"}:
        offsets["layer"] = np.concatenate([[0], np.cumsum(layers)])
        counts["layer"] = layers.astype(np.float64)
    for axis in ("element", "activation"):
        if axis in used:
            offsets[axis] = np.concatenate([[0], np.cumsum(n[axis])])
            counts[axis] = 3.0 * n[axis]
    ids = tuple(f"probe{i}" for i in range(PROBE_ROWS))
    return StatTable(ids, columns, dict(leaves), offsets, counts, {})


def same_values(first: Dag, second: Dag, rtol: float = 1e-6) -> bool:
    """Whether `second` has the value of `first` on every probe row where `first` is finite.

    At least a quarter of the probe rows must be finite, or nothing is known and the answer is no.
    """
    leaves = {**first.leaves, **second.leaves}
    for seed in range(2):
        a, b = ReferenceKernel(lower([first, second]))(probe_table(leaves, seed))
        ok = np.isfinite(a)
        if ok.sum() < PROBE_ROWS // 4 or not np.isfinite(b[ok]).all():
            return False
        if not np.allclose(a[ok], b[ok], rtol=rtol, atol=1e-9 * float(np.median(np.abs(a[ok])))):
            return False
    return True
