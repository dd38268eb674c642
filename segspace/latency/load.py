"""Is the machine quiet enough to measure? What others use of it, and how steady a fixed kernel runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proxygraph.errors import ConfigError

LIMIT_CORES = 0.3  # what others may use, in cores, before a measurement is refused
LIMIT_SPREAD = 0.25  # (p90 - p10) / median of the reference kernel


@dataclass(frozen=True)
class Load:
    """The state of the machine.

    Attributes
    ----------
    cores : float
        Cores that others use (other processes, and what a hypervisor takes away).
    spread : float
        (p90 - p10) / median of the wall time of the reference kernel.
    """

    cores: float
    spread: float

    @property
    def busy(self) -> bool:
        """Whether measurements mean little now."""
        return self.cores > LIMIT_CORES or self.spread > LIMIT_SPREAD

    def __str__(self) -> str:
        return f"others use {self.cores:.2f} cores, the reference kernel spreads by {100 * self.spread:.0f} %"


def reference_kernel() -> Callable[[], Any]:
    """Return fixed work of about 1 ms in one thread: 48 x 48 float32 products in cache, then 1 MB of memory.

    Larger products are shared out by OpenBLAS to threads that spin while they wait, and on a busy machine the
    CPU time of the process is then a hundred times that of the work.
    """
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(48, 48)).astype(np.float32)
    product = np.empty_like(matrix)
    memory = rng.normal(size=2**18).astype(np.float32)
    out = np.empty_like(memory)

    def run() -> None:
        for _ in range(300):
            np.matmul(matrix, matrix, out=product)
        np.add(memory, memory, out=out)

    return run


def machine_load(seconds: float = 0.4) -> Load:
    """Measure the load for so many seconds, in which the reference kernel runs."""
    kernel = reference_kernel()
    kernel()
    busy, own, begin = _busy_seconds(), time.process_time(), time.perf_counter()
    walls = []
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        kernel()
        walls.append(time.perf_counter() - start)
    elapsed = time.perf_counter() - begin
    if busy is not None and (after := _busy_seconds()) is not None:
        cores = max(0.0, (after - busy - (time.process_time() - own)) / elapsed)
    else:  # no /proc: the average of a minute, less what this process may have added
        cores = max(0.0, os.getloadavg()[0] - 1.0) if hasattr(os, "getloadavg") else 0.0
    p10, median, p90 = np.quantile(walls, [0.1, 0.5, 0.9])
    return Load(round(cores, 3), round(float((p90 - p10) / median), 4))


def refuse_if_busy(load: Load, busy_ok: bool) -> str | None:
    """Return a warning if the machine is busy, ``None`` if not.

    Raises
    ------
    ConfigError
        If it is busy and that is not `busy_ok`.
    """
    if not load.busy:
        return None
    if not busy_ok:
        raise ConfigError(
            f"the machine is busy ({load}; limits {LIMIT_CORES} and {100 * LIMIT_SPREAD:.0f} %): wait and "
            "run the same command, which goes on where it stopped, or give --busy-ok"
        )
    return f"the machine is busy ({load}): expect errors of that order; the spread is kept with each record"


def _busy_seconds() -> float | None:
    """Return the seconds that all cores together were busy since the start, ``None`` if unknown."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
        user, nice, system, _idle, _wait, irq, soft, steal = (int(word) for word in line[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
