"""A training in the folder of its run: journal, checkpoints, Ctrl-C, and the way back to where it stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from proxygraph.errors import ConfigError
from proxygraph.run import RunFolder
from segspace.checkpoint import NAME, Header, read_checkpoint, write_checkpoint
from segspace.datasets import Dataset
from segspace.recipe import learning_rate
from segspace.training import Training

_CHECKPOINT_SECONDS = 120.0


def check_device(device: str) -> None:
    """Raise `ConfigError` if torch cannot use the device."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from None


def header_of(arch: str, dataset: Dataset, training: Training) -> Header:
    """Return what the checkpoints of a training say of it; `arch` is the text of what is trained."""
    return Header(
        arch,
        dataset.classes,
        dataset.palette,
        dataset.protocol,
        training.recipe,
        training.seed,
        training.step,
        training.steps,
    )


def run(
    training: Training,
    header: Header,
    folder: RunFolder,
    *,
    resume: bool,
    report: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> float:
    """Run a training to its end, with a checkpoint now and then and at the end; return its CPU seconds.

    Parameters
    ----------
    training : Training
        At its start.
    header : Header
        Of it (`header_of`).
    folder : RunFolder
        Where journal and checkpoint are.
    resume : bool
        Go on from the checkpoint in the folder, if there is one.
    report : callable
        ``(what, done, total)``.
    stop : callable
        Whether to stop after the step under way.

    Raises
    ------
    ConfigError
        If the checkpoint is of another training.
    SystemExit
        With 130, if it was stopped; the folder then has its checkpoint.
    """
    before = _restore(folder, header, training) if resume else 0.0
    begin = last = time.monotonic()
    start = time.process_time()

    def keep() -> float:
        spent = round(before + time.process_time() - start, 3)
        now = replace(header, step=training.step, cpu_seconds=spent)
        write_checkpoint(folder.path / NAME, now, training.state())
        return spent

    def on_step(done: int, steps: int) -> None:
        nonlocal last
        report("training", done, steps)
        if time.monotonic() - last > _CHECKPOINT_SECONDS:
            keep()
            last = time.monotonic()

    def on_epoch(epoch: int, loss: float) -> None:
        rate = learning_rate(training.recipe, training.step, training.steps)
        seconds = round(time.monotonic() - begin, 1)
        line = {"generation": epoch, "step": training.step, "loss": loss, "lr": rate, "seconds": seconds}
        folder.append("journal.jsonl", line)

    complete = training.run(on_step, on_epoch, stop)
    spent = keep()
    if not complete:
        print(f"stopped after step {training.step} of {training.steps}; --resume goes on", flush=True)
        raise SystemExit(130)  # typer.Exit would be taken for a failure
    return spent


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C was pressed; a second one interrupts at once."""
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _restore(folder: RunFolder, header: Header, training: Training) -> float:
    """Bring a training to where its checkpoint is, return its CPU seconds; without one it begins anew."""
    if not (folder.path / NAME).exists():
        folder.trim_journal(0)  # of a run that died before its first checkpoint
        return 0.0
    stored, tensors = read_checkpoint(folder.path)
    if (stored.arch, stored.steps, stored.classes) != (header.arch, header.steps, header.classes):
        raise ConfigError(f"{folder.path / NAME}: belongs to another training; choose another --out")
    training.load_state(tensors, stored.step)
    folder.trim_journal(training.step // training.steps_per_epoch)
    return stored.cpu_seconds
