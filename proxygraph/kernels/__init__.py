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

REFERENCE_NS = 14.0
"""Nanoseconds the reference takes per entry of the finest axis and operator on it."""
FUSED_NS = 0.3
"""The same for the fused kernel; most of its time is reading memory."""
COMPILE_S, COMPILE_OP_S = 0.25, 0.03
"""Seconds numba compiles per formula, and more per operator."""


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


def choose_backend(program: Program, n_entries: int, calls: int = 1) -> str:
    """Return the exact back end that takes least time in all, what it compiles included.

    Parameters
    ----------
    program : Program
        What is to be run.
    n_entries : int
        Entries of a column on the finest axis of the table.
    calls : int
        How often it will be run on a table of that size before the process ends.

    Returns
    -------
    {"reference", "fused"}
        "fused" from about ten million entries on for a formula run once, and from a million for one run
        ten times; never if an operator has no template, or numba is not installed.

    Notes
    -----
    The constants were measured with ``benchmarks/fused.py`` on one core (AMD EPYC, Zen 3), with 64 to 512
    entries in a layer; they decide within a factor of about two. The reference spends 5 ns per entry on an
    elementwise operator and 15 to 25 on a reduction (a Python loop over the groups); the fused kernel 0.3 to
    0.5 ns in all.

    "torch" is never chosen: on a CPU the generated function takes ten times as long as the fused kernel and
    ``torch.compile`` 1 to 15 s for what numba compiles in half a second; a device is the caller's to name.
    Neither is the population interpreter, which is another interface: it takes 2 to 6 ns per entry and is for
    many formulas that share parts, each run once.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> from proxygraph.program import lower
    >>> snip = lower([parse("sum(sum(abs(w*g)))")])
    >>> choose_backend(snip, 1_000_000), choose_backend(snip, 1_000_000, calls=50)
    ('reference', 'fused')
    """
    fineness = max((FINENESS[axis] for axis in program.axes), default=0)
    operators = work = 0
    for node in program.nodes:
        if node.kind != "op":
            continue
        op = OPS[node.name]
        if not (op.numba if op.kind == "elementwise" else op.init and op.final):
            return "reference"
        operators += 1
        work += any(FINENESS[program.axes[j]] == fineness for j in node.args)
    compiling = COMPILE_S * len(program.outputs) + COMPILE_OP_S * operators
    entries = 1e-9 * n_entries * calls
    pays = compiling + FUSED_NS * entries < REFERENCE_NS * entries * work
    return "fused" if pays and find_spec("numba") is not None else "reference"
