"""What one formula says about every row, and which of its values count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxygraph.errors import ShapeMismatch
from proxygraph.kernels import Kernel
from proxygraph.table import StatTable


@dataclass(frozen=True, eq=False)
class Scores:
    """Values of one formula.

    Attributes
    ----------
    values : ndarray of float64, shape (N,)
    ok : ndarray of bool, shape (N,)
        Entries not ok are never compared with anything.
    """

    values: NDArray[np.float64]
    ok: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.values.shape != self.ok.shape or self.values.ndim != 1:
            raise ShapeMismatch(f"scores of shape {self.values.shape} with ok of shape {self.ok.shape}")

    @classmethod
    def of(cls, values: ArrayLike) -> Scores:
        """Take values as they are; what is not finite is not ok."""
        array = np.asarray(values, dtype=np.float64)
        return cls(array, np.isfinite(array))


def scores(kernel: Kernel, table: StatTable) -> list[Scores]:
    """Run a kernel; return one `Scores` per formula."""
    return [Scores.of(row) for row in kernel(table)]
