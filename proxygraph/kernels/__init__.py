"""Back ends that run programs on tables. ``compile_kernel`` is the way in."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import FINENESS
from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.ops import OPS
from proxygraph.program import Program
from proxygraph.table import StatTable

BACKENDS = ("reference", "fused", "torch")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "reference": (),
    "fused": ("threads",),
    "torch": ("device", "compiled", "dtype"),
}
"""What ``compile_kernel`` may be told about each back end."""

REFERENCE_NS: Mapping[str, float] = {"elementwise": 8.0, "reduction": 15.0}
"""Nanoseconds the reference takes per entry of the finest axis, by kind of operator."""
FUSED_NS = 0.5
"""The same for a whole formula in the fused kernel, which waits for memory or for a few operators."""
COMPILE_S, COMPILE_OP_S = 0.15, 0.015
"""Seconds numba compiles per formula, and more per operator."""
START_S = 0.5
"""Seconds more for the first formula of a process: loading numba, and what it does once."""


class Kernel(Protocol):
    """A compiled program: same numbers as the reference within 1e-9 relative; pickles as its program."""

    backend: str
    key: str
    source: str
    program: Program

    def __call__(self, table: StatTable) -> NDArray[np.float64]:
        """Return the values of every formula, shape (P, N); NaN and inf are kept."""
        ...


def compile_kernel(program: Program, backend: str = "reference", **options: Any) -> Kernel:
    """Return a kernel for `program`.

    Parameters
    ----------
    program : Program
        From `proxygraph.program.lower`.
    backend : {"reference", "fused", "torch"}
        Plain numpy, or one generated numba or torch function per formula.
    **options
        Of the back end: `threads` for "fused"; `device`, `compiled` and `dtype` for "torch".

    Raises
    ------
    BackendUnavailable
        If there is no such back end, or what it needs is missing on this machine.
    ConfigError
        If the back end has no such option.
    CompileError
        If the back end cannot run an operator of the program.
    """
    if backend not in BACKENDS:
        raise BackendUnavailable(f"no back end {backend!r}; available: {', '.join(BACKENDS)}")
    unknown = sorted(set(options) - set(OPTIONS[backend]))
    if unknown:
        raise ConfigError(
            f"the back end {backend!r} has no option {unknown[0]!r}; it has: "
            f"{', '.join(OPTIONS[backend]) or 'none'}"
        )
    if backend == "fused":
        from proxygraph.kernels.fused import FusedKernel

        return FusedKernel(program, **options)
    if backend == "torch":
        from proxygraph.kernels.fused_torch import TorchKernel

        return TorchKernel(program, **options)
    from proxygraph.kernels.reference import ReferenceKernel

    return ReferenceKernel(program)


def choose_backend(program: Program, n_entries: int, calls: int = 1, *, fresh: bool = False) -> str:
    """Return the exact back end that takes least time in all, what it compiles included.

    Parameters
    ----------
    program : Program
        What is to be run.
    n_entries : int
        Entries of a column on the finest axis that the program uses.
    calls : int
        How often it will be run on a table of that size before the process ends.
    fresh : bool
        The process has compiled nothing yet: what numba does once counts too.

    Returns
    -------
    {"reference", "fused"}
        "fused" from 3 to 7 million entries on for a formula of a few operators that is run once (10 to 25 in
        a fresh process), and from a tenth of that for one run ten times; never if an operator has no
        template, or numba is not installed.

    Notes
    -----
    The constants come from ``benchmarks/fused.py`` on two machines; it prints break-even beside what is
    chosen here. They decide within a factor of about two: the reference's time depends on the operator, and
    for large columns most of it is fresh memory.

    "torch" is never chosen: on a CPU the generated function takes 20 to 200 times as long as the fused kernel
    and ``torch.compile`` 0.1 to 7 s for what numba compiles in less than one; a device is the caller's to
    name. Neither is the population interpreter, which is another interface, for many formulas that share
    parts, each run once: it takes 9 to 25 ns per entry, what it does once for a table included.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> from proxygraph.program import lower
    >>> snip = lower([parse("sum(sum(abs(w*g)))")])
    >>> choose_backend(snip, 1_000_000), choose_backend(snip, 1_000_000, calls=50)
    ('reference', 'fused')
    """
    fineness = max((FINENESS[axis] for axis in program.axes), default=0)
    operators, reference = 0, 0.0
    for node in program.nodes:
        if node.kind != "op":
            continue
        op = OPS[node.name]
        if not (op.numba if op.kind == "elementwise" else op.init and op.final):
            return "reference"
        operators += 1
        if any(FINENESS[program.axes[j]] == fineness for j in node.args):
            reference += REFERENCE_NS[op.kind]
    compiling = START_S * fresh + COMPILE_S * len(program.outputs) + COMPILE_OP_S * operators
    saved = 1e-9 * n_entries * calls * (reference - FUSED_NS * len(program.outputs))
    return "fused" if compiling < saved and find_spec("numba") is not None else "reference"
