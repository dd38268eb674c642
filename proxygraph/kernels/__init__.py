"""Back ends that run programs on tables. ``compile_kernel`` is the way in."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import BackendUnavailable
from proxygraph.program import Program
from proxygraph.table import StatTable

BACKENDS = ("reference", "fused")


class Kernel(Protocol):
    """A compiled program: same numbers as the reference within 1e-9 relative; pickles as its program."""

    backend: str
    key: str
    source: str
    program: Program

    def __call__(self, table: StatTable) -> NDArray[np.float64]:
        """Return the values of every formula, shape (P, N); NaN and inf are kept."""
        ...


def compile_kernel(program: Program, backend: str = "reference") -> Kernel:
    """Return a kernel for `program`.

    Parameters
    ----------
    program : Program
        From `proxygraph.program.lower`.
    backend : {"reference", "fused"}
        Plain numpy, or one generated numba function per formula.

    Raises
    ------
    BackendUnavailable
        If there is no such back end.
    CompileError
        If the back end cannot run an operator of the program.
    """
    if backend == "reference":
        from proxygraph.kernels.reference import ReferenceKernel

        return ReferenceKernel(program)
    if backend == "fused":
        from proxygraph.kernels.fused import FusedKernel

        return FusedKernel(program)
    raise BackendUnavailable(f"no back end {backend!r}; available: {', '.join(BACKENDS)}")
