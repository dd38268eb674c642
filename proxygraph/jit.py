"""Compiled functions whose machine code is kept between runs.

numba keeps compiled code beside a source file and looks only at that one file to see whether the code is
stale, although it holds the code of every function it calls. Here all compiled code of the package lives in
one folder whose name is a digest of all sources it may come from and of the versions that made it, so that
old code is never met. numba stores code with pickle: the folder is the user's own and is never exchanged.

numba makes machine code of every function it meets, also of those that only other compiled functions call,
and optimises a function again in each of its callers. `jit` gives those callers a twin of the function of
which there is nothing but unoptimised intermediate code: it is optimised once, in what Python calls.

For the sake of compile time, compiled functions copy arrays in loops: numba makes a second of code, which
spells out an error, of the first slice to which an array is assigned.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.registry import CPUDispatcher

from proxygraph.cache import cache_folder

F = TypeVar("F", bound=Callable[..., Any])
_SOURCES = Path(__file__).parent
_PATTERNS = ("jit.py", "ops.py", "kernels/*.py", "compact/*.py")
_PREFIX = "machine-code-"
_LOCK = "writing.lock"
_KEPT_S = 30 * 86400
"""Time without use after which machine code of other versions is removed."""


@lru_cache(maxsize=1)
def code_folder() -> Path:
    """Return the folder of machine code for these sources, numba, numpy and processor."""
    from llvmlite import binding

    digest = hashlib.blake2b(digest_size=8)
    for pattern in _PATTERNS:
        for path in sorted(_SOURCES.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    machine = f"{numba.__version__} {np.__version__} {binding.get_host_cpu_name()}"
    digest.update(machine.encode())
    return cache_folder() / f"{_PREFIX}{digest.hexdigest()}"


def is_cold() -> bool:
    """Whether nothing has been compiled yet, so that the first run will take longer."""
    # numba makes the folder when functions are declared, its index files when they are compiled
    return next(code_folder().rglob("*.nbi"), None) is None


@lru_cache(maxsize=1)
def is_writable() -> bool:
    """Whether machine code can be kept; numba by itself would go on to keep it beside the sources."""
    try:
        code_folder().mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=code_folder()):
            os.utime(code_folder())  # in use: see `forget_old_code`
            return True
    except OSError:
        return False


class _PartLibrary(JITCodeLibrary):
    """Code that is only ever linked into other code: neither optimised nor turned into machine code alone."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _PartCompiler(Compiler):
    """Compiles for `_PartLibrary`; what it returns can be called from compiled code only."""

    def _compile_core(self) -> Any:
        state = self.state
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        name = state.func_id.func_qualname

        def part(*args: Any) -> None:
            raise TypeError(f"{name}: this part of compiled code cannot be called from Python")

        result = super()._compile_core()._replace(entry_point=part)
        state.targetctx.insert_user_function(part, result.fndesc, [result.library])
        return result


class _Part(CPUDispatcher):
    """What compiled callers get of a function."""

    def add_overload(self, result: Any) -> None:
        # without what the original does for calls from Python
        self.overloads[tuple(result.signature.args)] = result


class _WholeCompiler(Compiler):
    """Compiles what Python calls, and lets the parts linked into it find their environments."""

    def _compile_core(self) -> Any:
        result = super()._compile_core()
        for environment in result._find_referenced_environments():
            result.library.codegen.set_env(environment.env_name, environment)
        return result


class _Cache(FunctionCache):
    """Machine code on disk that several processes may add to.

    numba reads the index of a function, adds a line and writes it back: of two processes with other types
    each, both give their code the same file name, and one of them then finds the other's code under its own
    types.
    """

    def save_overload(self, sig: Any, data: Any) -> None:
        from filelock import FileLock

        with FileLock(code_folder() / _LOCK):
            super().save_overload(sig, data)


class _Dispatcher(CPUDispatcher):
    """A compiled function; other compiled functions that call it get its part."""

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        options = {**options, "nopython": True}
        super().__init__(function, {}, {**options, "nogil": True}, _WholeCompiler)
        options.update(no_cpython_wrapper=True, no_cfunc_wrapper=True)
        self._part = _Part(function, {}, options, _PartCompiler)
        self.typingctx._remove_global(self)
        self.typingctx.insert_global(self, self._numba_type_)

    def enable_caching(self) -> None:
        self._cache = _Cache(self.py_func)

    @property
    def _numba_type_(self) -> Any:
        return self._part._numba_type_


def jit(**options: Any) -> Callable[[F], F]:
    """Return ``numba.njit`` without the GIL and with IEEE division, its code kept between runs.

    Parameters
    ----------
    **options
        Further options of ``numba.njit``, such as ``fastmath`` or ``inline``.
    """

    def decorate(function: F) -> F:
        compiled: Any = _Dispatcher(function, {"error_model": "numpy", **options})
        if is_writable():
            settings: Any = numba.config
            before = settings.CACHE_DIR
            settings.CACHE_DIR = str(code_folder())
            try:
                compiled.enable_caching()
            finally:
                settings.CACHE_DIR = before
        made: F = compiled
        return made

    return decorate


@contextmanager
def in_one_go() -> Iterator[None]:
    """Leave out the collection of garbage while importing and compiling: a sixth of the time, for nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def load_without_blas() -> None:
    """Load what numba needs before its first function, but not scipy.linalg: it takes a quarter of a second.

    numba looks whether it is there for the sake of ``np.convolve`` and ``np.correlate`` alone, which then go
    without it for as long as the process lives. For commands, which own their process.
    """
    if "scipy.linalg" in sys.modules:
        return
    sys.modules["scipy.linalg"] = None  # type: ignore[assignment]
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        del sys.modules["scipy.linalg"]


def forget_old_code() -> None:
    """Remove machine code of other versions that has not been used for 30 days.

    Other checkouts, environments and processors (of a cluster with one home) may share the cache.
    """
    for folder in cache_folder().glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process may be removing it too
            if folder != code_folder() and time.time() - folder.stat().st_mtime > _KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)
