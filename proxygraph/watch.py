"""What is written while a search runs: its journal, its checkpoints, curves for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from proxygraph.checkpoint import islands_to_json
from proxygraph.errors import ConfigError, StorageError
from proxygraph.islands import IslandsState
from proxygraph.loop import Callback
from proxygraph.run import RunFolder

CHECKPOINT_SHARE: Final = 20.0
"""Times as long as a checkpoint takes to write, the search goes on before the next: a twentieth at most."""


def journal(folder: RunFolder) -> Callback:
    """Return a callback that appends a line to ``journal.jsonl`` after every generation."""

    def write(state: IslandsState, seconds: float) -> None:
        line = {
            "generation": state.generation,
            "seconds": round(seconds, 2),
            "best": state.best,
            "front": len(state.hall.front()),
            **state.counters,
        }
        folder.append("journal.jsonl", line)

    return write


def checkpoint(folder: RunFolder, state: IslandsState, seconds: float) -> None:
    """Write ``checkpoint.json``, whole or not at all."""
    folder.write("checkpoint.json", json.dumps({**islands_to_json(state), "seconds": seconds}))


def checkpoints(folder: RunFolder, every: float) -> Callback:
    """Return a callback that writes a checkpoint every so many seconds, less often where that takes long."""
    saved, pause = time.monotonic(), every

    def write(state: IslandsState, seconds: float) -> None:
        nonlocal saved, pause
        begin = time.monotonic()
        if begin - saved >= pause:
            checkpoint(folder, state, seconds)
            saved = time.monotonic()
            pause = max(every, CHECKPOINT_SHARE * (saved - begin))

    return write


@contextmanager
def tensorboard(folder: Path, metric: str) -> Iterator[Callback]:
    """Yield a callback that writes curves for TensorBoard into `folder`, about once a second.

    Raises
    ------
    ConfigError
        If the package is missing.
    StorageError
        If the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "--tensorboard needs the package tensorboard: pip install 'proxygraph[tensorboard]'"
        ) from None
    try:
        writer: Any = SummaryWriter(str(folder))
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None
    last = -1e9

    def write(state: IslandsState, seconds: float) -> None:
        nonlocal last
        if seconds - last < 1.0:
            return
        last = seconds
        at = state.counters["evaluated"]
        writer.add_scalar(f"{metric}/best", state.best, at)
        for one in state.hall.front():
            writer.add_scalar(f"{metric} by size/{one.size:02d}", one.fitness, at)
        for name, count in state.counters.items():
            writer.add_scalar(f"formulas/{name}", count, state.generation)
        writer.add_scalar("formulas per second", at / max(seconds, 1e-9), state.generation)

    try:
        yield write
    finally:
        writer.close()
