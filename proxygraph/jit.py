"""Compiled functions whose machine code is kept between runs.

numba keeps compiled code beside a source file and looks only at that one file to see whether the code is
stale, although it holds the code of every function it calls. Here all compiled code of the package lives in
one folder whose name is a digest of all sources it may come from and of the versions that made it, so that
old code is never met. numba stores code with pickle: the folder is the user's own and is never exchanged.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numba
import numpy as np

from proxygraph.cache import cache_folder

F = TypeVar("F", bound=Callable[..., Any])
_SOURCES = Path(__file__).parent
_PATTERNS = ("jit.py", "ops.py", "kernels/*.py", "compact/*.py")
_PREFIX = "machine-code-"


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
            return True
    except OSError:
        return False


def jit(**options: Any) -> Callable[[F], F]:
    """Return ``numba.njit`` without the GIL and with IEEE division, its code kept between runs.

    Parameters
    ----------
    **options
        Further options of ``numba.njit``, such as ``fastmath`` or ``inline``.
    """

    def decorate(function: F) -> F:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        settings.CACHE_DIR = str(code_folder())
        try:
            make = numba.njit(nogil=True, cache=is_writable(), error_model="numpy", **options)
            compiled: F = make(function)
        finally:
            settings.CACHE_DIR = before
        return compiled

    return decorate


def forget_old_code() -> None:
    """Remove machine code of earlier versions."""
    for folder in cache_folder().glob(f"{_PREFIX}*"):
        if folder != code_folder():
            shutil.rmtree(folder, ignore_errors=True)
