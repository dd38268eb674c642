"""The generated source of the fused kernel run as plain Python: without numba, so nothing is compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.kernels.fused import FusedKernel, arguments, plus, plus_product
from proxygraph.kernels.reference import require_leaves
from proxygraph.program import Program
from proxygraph.table import StatTable


class _Scalars:
    """numpy whose constants are numpy scalars: Python's own floats raise where numba gives inf or NaN."""

    nan = np.float64(math.nan)
    inf = np.float64(math.inf)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class PlainFused:
    backend = "fused"

    def __init__(self, program: Program) -> None:
        self.program = program
        self.fused = FusedKernel(program)
        self.key = self.fused.key
        self.source = self.fused.source

    def __reduce__(self) -> tuple[Any, ...]:
        return (PlainFused, (self.program,))

    def __call__(self, table: StatTable) -> NDArray[np.float64]:
        require_leaves(self.program, table)
        result = np.empty((len(self.fused.formulas), table.n_rows))
        with np.errstate(all="ignore"):
            for formula, out in zip(self.fused.formulas, result, strict=True):
                # numpy's functions on scalars stand for math's, which raise instead of giving inf or NaN
                namespace: dict[str, Any] = {"np": _Scalars(), "math": np, "vec": np, "plus": plus}
                namespace["plus_product"] = plus_product
                exec(compile(formula.text, formula.name, "exec"), namespace)
                namespace[formula.name](out, 0, table.n_rows, *arguments(formula, table))
        return result
