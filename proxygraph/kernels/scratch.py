"""Memory for planning and running a batch, kept from one batch to the next."""

from __future__ import annotations

import math
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE: Final = 64
"""Bytes of a cache line, and of the longest vectors there are."""


class Scratch(threading.local):
    """Arrays by name, which every thread has for itself and uses again.

    Memory that is given back and asked for anew may come in fresh pages, which the system fills one by one:
    some 300 of them for a batch of a thousand trees. A name keeps room for the largest array that was asked
    under it.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def empty(self, name: str, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an array with anything in it; the one that had this name in this thread is no more."""
        n = math.prod(shape) if isinstance(shape, tuple) else shape
        held = self._arrays.get(name)
        if held is None or held.size < n or held.dtype != dtype:
            self._arrays[name] = held = aligned(n + n // 4, dtype)
        return held[:n].reshape(shape)


def aligned(n: int, dtype: Any) -> NDArray[Any]:
    """Return room for `n` entries that begins where a cache line does."""
    item = np.dtype(dtype).itemsize
    raw = np.empty(n + LINE // item, dtype)
    first = -raw.ctypes.data % LINE // item
    return raw[first : first + n]
