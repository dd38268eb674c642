"""The torch kernel: every formula is one generated torch function over the columns of a ragged table.

The source comes from ``fused_torch_source.py``; here is what it calls, and where it runs: on any device torch
has, eagerly or through ``torch.compile``. torch is imported when a kernel is made, never with this file.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import BackendUnavailable, CompileError, ConfigError
from proxygraph.kernels.fused_plan import formula_of
from proxygraph.kernels.fused_torch_source import TorchSource, emit_torch
from proxygraph.kernels.reference import require_leaves
from proxygraph.leaves import Axis
from proxygraph.program import Program
from proxygraph.table import StatTable

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("float64", "float32")
MAX_COMPILED = 512
"""Functions that are remembered; beyond that the one used longest ago is dropped."""


class Segments(NamedTuple):
    """How the entries of one axis are cut into groups, as tensors on one device.

    Attributes
    ----------
    lengths : Tensor of int64, shape (K,)
        Entries of each group.
    n, true_n : Tensor, shape (K,)
        The same as numbers, and how many entries they are a sample of.
    starts : Tensor of int64, shape (K,)
        Index of each group's first entry; of an empty group, that of any entry.
    group : Tensor of int64, shape (M,)
        Group of each entry; empty if the formula never asks for it.
    """

    lengths: Tensor
    n: Tensor
    true_n: Tensor
    starts: Tensor
    group: Tensor


class TorchKernel:
    """Runs a program on a table, one generated torch function per formula.

    Parameters
    ----------
    program : Program
        One or many formulas, each with its root on the row axis.
    device : str
        Any device of torch, such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. Columns are copied there at each
        call; on the CPU they are read in place.
    compiled : bool
        Whether the functions go through ``torch.compile``, which fuses their elementwise parts.
    dtype : {"float64", "float32"}
        What is computed in. Columns stay in their stored dtype until they are used.

    Attributes
    ----------
    source : str
        The generated functions, one after the other.
    formulas : tuple of TorchSource
        The same one by one, in the order of the program's outputs.

    Raises
    ------
    CompileError
        If an operator has no form in torch; the message names it and the remedy.
    BackendUnavailable
        If torch is not installed, the device cannot be used, or a compiler is missing.

    Notes
    -----
    In float64 values agree within 1e-9, relative, with the reference wherever the formula itself is well
    conditioned; in float32 nothing is promised beyond about five digits of well conditioned results. How many
    threads run is torch's own setting (``torch.set_num_threads``).

    Sums over groups are ``torch.segment_reduce``: on CPU and CUDA it gives the same digits in every run,
    which the atomic additions of ``index_add`` on CUDA do not, and on the CPU it takes a third of their time.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> from proxygraph.program import lower
    >>> TorchKernel(lower([parse("sum(sum(abs(w*g)))")])).formulas[0].columns
    ('g', 'w')
    """

    backend = "torch"

    def __init__(
        self, program: Program, device: str = "cpu", compiled: bool = False, dtype: str = "float64"
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype={dtype!r}: the torch kernel computes in {' or '.join(DTYPES)}")
        self.program = program
        self.key = program.key
        self.device, self.compiled, self.dtype = device, compiled, dtype
        self.formulas = tuple(emit_torch(formula_of(program, output)) for output in program.outputs)
        self.source = "\n\n".join(formula.text for formula in self.formulas)
        _require_device(device, dtype)
        if compiled:
            _require_compiler(device)

    def __call__(self, table: StatTable) -> NDArray[np.float64]:
        """Return the values of every formula, shape (P, N), float64; NaN and inf are kept.

        Raises
        ------
        UnknownName, ConfigError
            If the table lacks a leaf or has it on another axis.
        CompileError
            If torch refuses an operator's template.
        """
        import torch

        require_leaves(self.program, table)
        result = np.empty((len(self.formulas), table.n_rows))
        dtype = getattr(torch, self.dtype)
        with torch.no_grad():
            for formula, out in zip(self.formulas, result, strict=True):
                run = function(formula.name, formula.text, self.compiled)
                segments = [
                    _segments(table, axis, self.device, dtype, indexed=axis in formula.spread)
                    for axis in formula.axes
                ]
                columns = [_tensor(table.columns[name], self.device) for name in formula.columns]
                values = _called(formula, run, dtype, *segments, *columns)
                out[:] = values.to("cpu", torch.float64).numpy()
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return (TorchKernel, (self.program, self.device, self.compiled, self.dtype))

    def __repr__(self) -> str:
        about = f"device={self.device!r}, compiled={self.compiled}, dtype={self.dtype!r}"
        return f"TorchKernel({len(self.formulas)} formulas, key={self.key!r}, {about})"


@lru_cache(maxsize=MAX_COMPILED)
def function(name: str, source: str, compiled: bool) -> Callable[..., Tensor]:
    """Return the torch function of a source text; with `compiled` it is compiled at its first call."""
    import torch

    helpers = (total, lowest, highest, first, spread, each, root)
    namespace: dict[str, Any] = {"torch": torch, "math": math, **{f.__name__: f for f in helpers}}
    try:
        exec(compile(source, f"<{name}>", "exec"), namespace)
    except SyntaxError as error:
        raise CompileError(
            f"an operator's torch template is not Python: {(error.text or '').strip()!r}"
        ) from None
    made: Callable[..., Tensor] = namespace[name]
    return torch.compile(made, dynamic=True) if compiled else made


def _called(formula: TorchSource, run: Callable[..., Tensor], *args: Any) -> Tensor:
    """Call a generated function; what goes wrong in it comes from a user's template."""
    try:
        return run(*args)
    except (NameError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise CompileError(f"torch refuses an operator's template in {formula.name}: {error}") from None


def _require_device(device: str, dtype: str) -> None:
    """Refuse a device that cannot hold numbers and give them back."""
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(
            f"the back end 'torch' needs torch ({error}); install it or choose 'reference'"
        ) from None
    try:
        torch.zeros(1, dtype=getattr(torch, dtype), device=device).cpu().numpy()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BackendUnavailable(
            f"the back end 'torch' cannot compute in {dtype} on the device {device!r}: {reason}"
        ) from None


def _require_compiler(device: str) -> None:
    """Refuse ``torch.compile`` where what it calls is missing; it would find out in the first call only."""
    if device.partition(":")[0] == "cpu":
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise BackendUnavailable(
                f"the back end 'torch' with compiled=True needs a C++ compiler and there is no {compiler!r}; "
                "install one, name yours in the environment variable CXX, or use compiled=False"
            )
    elif importlib.util.find_spec("triton") is None:
        raise BackendUnavailable(
            f"the back end 'torch' with compiled=True needs triton for the device {device!r}; install it or "
            "use compiled=False"
        )


# ---- tables as tensors ----


class _Writable:
    """A read-only array shown as one that may be written, since torch warns of others; not a copy."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        about = array.__array_interface__
        self.__array_interface__ = {**about, "data": (about["data"][0], False)}


def _tensor(array: NDArray[Any], device: str) -> Tensor:
    import torch

    return torch.from_numpy(np.asarray(_Writable(array))).to(device)


def _segments(table: StatTable, axis: Axis, device: str, dtype: Any, *, indexed: bool) -> Segments:
    import torch

    lengths = torch.from_numpy(np.diff(table.offsets[axis]))
    size = int(table.offsets[axis][-1])
    starts = torch.from_numpy(table.offsets[axis][:-1].clip(max=max(size - 1, 0)))
    group = torch.repeat_interleave(lengths, output_size=size) if indexed else lengths[:0]
    parts = (lengths, lengths.to(dtype), _tensor(table.counts[axis], "cpu").to(dtype), starts, group)
    return Segments(*(part.to(device) for part in parts))


# ---- what generated functions call ----


def total(x: Tensor, segments: Segments) -> Tensor:
    """Return the sum of each group; 0 if it is empty."""
    import torch

    return torch.segment_reduce(x, "sum", lengths=segments.lengths, unsafe=True)


def lowest(x: Tensor, segments: Segments) -> Tensor:
    """Return the least value of each group, NaN if it has one."""
    import torch

    return torch.segment_reduce(x, "min", lengths=segments.lengths, unsafe=True)


def highest(x: Tensor, segments: Segments) -> Tensor:
    """Return the greatest value of each group, NaN if it has one."""
    import torch

    return torch.segment_reduce(x, "max", lengths=segments.lengths, unsafe=True)


def first(x: Tensor, segments: Segments) -> Tensor:
    """Return the first value of each group; of an empty group, any number."""
    return x[segments.starts] if x.shape[0] else segments.n


def spread(x: Tensor, segments: Segments) -> Tensor:
    """Return the value of each group for every one of its entries."""
    return x.index_select(0, segments.group)


def each(reduction: Callable[[Tensor], Any], x: Tensor, segments: Segments) -> Tensor:
    """Return `reduction` of the groups, one call for each; NaN if it is empty."""
    import torch

    groups = torch.split(x, segments.lengths.tolist()) if segments.lengths.shape[0] else ()
    result = torch.full_like(segments.n, math.nan)
    for k, group in enumerate(groups):
        if group.shape[0]:
            result[k] = reduction(group)
    return result


def root(x: Tensor) -> Tensor:
    """Return the square root as numpy's power has it: inf for -inf, 0.0 for -0.0."""
    import torch

    return torch.sqrt(torch.where((x == -math.inf) | (x == 0.0), torch.abs(x), x))
