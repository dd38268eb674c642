"""The fused kernel: every formula is one compiled function that passes over the ragged table once.

The source comes from ``fused_source.py``; here it is compiled with numba at the first call and run, over
several threads if asked. numba is imported only then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import BackendUnavailable, CompileError, ConfigError
from proxygraph.kernels.fused_plan import formula_of
from proxygraph.kernels.fused_source import FusedSource, emit
from proxygraph.kernels.reference import require_leaves
from proxygraph.program import Program
from proxygraph.table import StatTable

MAX_COMPILED = 512
"""Compiled functions that are remembered; beyond that the one used longest ago is dropped."""

_CHUNKS_PER_THREAD = 4


class FusedKernel:
    """Runs a program on a table, one generated function per formula.

    Parameters
    ----------
    program : Program
        One or many formulas, each with its root on the row axis.
    threads : int
        Rows are shared out among that many threads; the results do not depend on it.

    Attributes
    ----------
    source : str
        The generated functions, one after the other.
    formulas : tuple of FusedSource
        The same one by one, in the order of the program's outputs.

    Raises
    ------
    CompileError
        If an operator has no template for compilation; the message names it and the remedy.

    Notes
    -----
    Strict IEEE arithmetic in float64 (no fast-math): NaN and inf mean what they mean in the reference. Only
    the order in which a segment is summed up is free, so that loops are vectorised, and a product may be
    added without being rounded before; values agree within 1e-9, relative, with the reference wherever the
    formula itself is well conditioned. Columns are read in their stored dtype.

    Threads are Python threads, each with its own range of rows, and not numba's: numba's default threading
    layer aborts the process when two Python threads enter it at once, and a parallel build compiles several
    times longer.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> from proxygraph.program import lower
    >>> FusedKernel(lower([parse("sum(sum(abs(w*g)))")])).formulas[0].columns
    ('g', 'w')
    """

    backend = "fused"

    def __init__(self, program: Program, threads: int = 1) -> None:
        if threads < 1:
            raise ConfigError(f"threads={threads}: at least one thread is needed")
        self.program = program
        self.key = program.key
        self.threads = threads
        self.formulas = tuple(emit(formula_of(program, output)) for output in program.outputs)
        self.source = "\n\n".join(formula.text for formula in self.formulas)

    def __call__(self, table: StatTable) -> NDArray[np.float64]:
        """Return the values of every formula, shape (P, N), float64; NaN and inf are kept.

        Raises
        ------
        UnknownName, ConfigError
            If the table lacks a leaf or has it on another axis.
        CompileError
            If numba refuses an operator's template.
        """
        require_leaves(self.program, table)
        result = np.empty((len(self.formulas), table.n_rows))
        calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        step = table.n_rows
        if self.threads > 1:
            step = math.ceil(table.n_rows / (_CHUNKS_PER_THREAD * self.threads))
        for formula, out in zip(self.formulas, result, strict=True):
            function, data = compiled(formula.name, formula.text), arguments(formula, table)
            for first in range(0, table.n_rows, max(step, 1)):
                calls.append((function, (out, first, min(first + step, table.n_rows), *data)))
        if self.threads == 1:
            for call in calls:
                _run(*call)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                for done in [pool.submit(_run, *call) for call in calls]:
                    done.result()
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return (FusedKernel, (self.program, self.threads))

    def __repr__(self) -> str:
        return f"FusedKernel({len(self.formulas)} formulas, key={self.key!r}, threads={self.threads})"


def arguments(formula: FusedSource, table: StatTable) -> list[NDArray[Any]]:
    """Return offsets, counts and columns in the order of the function's arguments."""
    ragged: list[NDArray[Any]] = []
    for axis in formula.axes:
        ragged += [table.offsets[axis], table.counts[axis]]
    return [*ragged, *(table.columns[name] for name in formula.columns)]


@lru_cache(maxsize=MAX_COMPILED)
def compiled(name: str, source: str) -> Callable[..., None]:
    """Return the numba function of a source text; machine code is made at its first call for each dtype.

    The text is the key of the memory, not the formula's: a user operator may come back with another template.

    Raises
    ------
    BackendUnavailable
        If numba is not installed.
    CompileError
        If an operator's template is not Python.
    """
    try:
        import numba
    except ImportError as error:
        raise BackendUnavailable(
            f"the back end 'fused' needs numba ({error}); install it or choose 'reference'"
        ) from None
    namespace: dict[str, Any] = {"np": np, "math": math, **_compiled_sums()}
    if "vec." in source:
        from proxygraph.kernels import vecmath

        namespace["vec"] = vecmath
    try:
        exec(compile(source, f"<{name}>", "exec"), namespace)
    except SyntaxError as error:
        raise CompileError(
            f"an operator's numba template is not Python: {(error.text or '').strip()!r}"
        ) from None
    function: Callable[..., None] = numba.njit(nogil=True, fastmath=False, error_model="numpy")(
        namespace[name]
    )
    return function


def plus(total: float, x: float) -> float:
    """Return the sum; the generated code adds up entries with it."""
    return total + x


def plus_product(total: float, x: float, y: float) -> float:
    """Return the sum with a product, in one instruction where the processor has one."""
    return total + x * y


@lru_cache(maxsize=1)
def _compiled_sums() -> dict[str, Callable[..., float]]:
    import numba

    # The one place where the order of operations is free: without it no loop that adds up is vectorised, and
    # SNIP takes 4 times as long. NaN and inf keep their meaning; nothing but these sums is regrouped.
    free = {"plus": {"reassoc"}, "plus_product": {"reassoc", "contract"}}
    return {
        function.__name__: numba.njit(fastmath=free[function.__name__], error_model="numpy")(function)
        for function in (plus, plus_product)
    }


def _run(function: Callable[..., None], data: tuple[Any, ...]) -> None:
    """Call a compiled function; numba's own complaints become a `CompileError`."""
    from numba.core.errors import NumbaError

    try:
        function(*data)
    except NumbaError as error:
        reason = " ".join(str(error).split())
        raise CompileError(f"numba refuses an operator's template: {reason[:300]}") from None
