"""The statistics of many networks: one after the other or by an executor, resumable, one table."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from proxygraph.errors import ConfigError
from proxygraph.leaves import MEASURES, STATISTICS, Leaf, Measure, register_leaf, unregister_leaf
from proxygraph.stats.identity import Untold, identity_text
from proxygraph.stats.network import BACKBONE, collect
from proxygraph.stats.request import (
    DEFINITIONS,
    Batch,
    Loss,
    checked_batches,
    digest,
    name_of,
    reason,
    wanted_leaves,
)
from proxygraph.table import StatTable

Network = tuple[str, Callable[[], nn.Module]]
"""Id, and what builds the network; for an executor of processes it must pickle (a partial of a function)."""
Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class _Settings:
    """What `collect` is called with besides network and batches."""

    leaves: tuple[str, ...]
    samples: int | None
    seed: int
    backbone: str
    device: str | None
    own: tuple[tuple[Leaf, Measure], ...]
    """What other processes do not know: the wanted statistics of users."""

    def identity(self) -> dict[str, Any]:
        """Return what the rows depend on, as JSON can hold it."""
        found = {name: getattr(self, name) for name in ("leaves", "samples", "seed", "backbone", "device")}
        if self.own:  # not else: rows that were collected before there were any stay good
            found["own"] = {leaf.name: [asdict(leaf), _told(leaf, measure)] for leaf, measure in self.own}
        return found


def _told(leaf: Leaf, measure: Measure) -> str:
    """Return the text of a measure; refuse one that a cache could take for another."""
    try:
        return identity_text(measure)
    except Untold as error:
        raise ConfigError(
            f"leaf {leaf.name!r}: a cache cannot tell its measure from another one: it holds a {error}; "
            "leave out cache, or define the measure in a file, without it"
        ) from error


def _check_pickles(own: tuple[tuple[Leaf, Measure], ...]) -> None:
    """Refuse a measure that cannot be sent to another process."""
    for leaf, measure in own:
        try:
            pickle.dumps(measure)
        except Exception as error:  # whatever a foreign class raises
            raise ConfigError(
                f"leaf {leaf.name!r}: its measure cannot be sent to other processes ({reason(error)}); "
                "define it as a function at the top level of a file, or leave out executor"
            ) from error


def collect_many(
    networks: Iterable[Network],
    batches: Sequence[Batch] | Batch,
    loss: Loss,
    *,
    cache: Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    leaves: Collection[str] | None = None,
    samples: int | None = 512,
    seed: int = 0,
    backbone: str = BACKBONE,
    device: str | None = None,
) -> StatTable:
    """Return the statistics of many networks, rows in the order of `networks`.

    Parameters
    ----------
    networks : iterable of (id, callable)
        Ids, unique, and what builds each network, ready for `collect`. A network is built only if its row is
        not in the cache.
    batches, loss, leaves, samples, seed, backbone, device
        As for `collect`, the same for all networks.
    cache : Path, optional
        Folder: every finished row is stored there at once, and rows found there are not collected again. It
        holds one folder per combination of settings, batches and versions of torch and numpy, so that no row
        of another is taken; that an id means the same network, and a loss's name the same loss, is up to you.
        Statistics of your own are told apart by their row and by the code of the measure with its defaults,
        closure, and the arguments of a partial or state of an object; not by what the code names.
    executor : Executor, optional
        Where rows are collected; without it, here. Let each worker process use one thread and start fresh:
        ``ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=torch.set_num_threads,
        initargs=(1,))``. Threads share the global random state: use processes for networks with dropout.
    progress : callable, optional
        Called with the number of rows that are ready and the id of the last one, as each becomes ready.

    Raises
    ------
    ConfigError
        If an id repeats, the cache cannot be written, or a network cannot be built or collected: the message
        names it. Rows finished before are in the cache; calling again goes on from there. Also if a measure
        of your own cannot be told from another one by the cache, or not be sent to the executor's processes.
    """
    listed = list(networks)
    ids = [row for row, _ in listed]
    if not listed:
        raise ConfigError("no networks to collect")
    if len(set(ids)) != len(ids):
        raise ConfigError(
            f"network id {next(row for row in ids if ids.count(row) > 1)!r} appears more than once"
        )
    checked = checked_batches("collect_many", batches)
    names = tuple(sorted(wanted_leaves(leaves, len(checked))))
    own = tuple((STATISTICS[name], MEASURES[name]) for name in names if name in MEASURES)
    if isinstance(executor, ProcessPoolExecutor):
        _check_pickles(own)
    settings = _Settings(names, samples, seed, backbone, device, own)
    parts = None if cache is None else _Parts.of(Path(cache), settings, checked, loss)
    tables: dict[str, StatTable] = {}
    for row, table in _ready(listed, partial(_one, checked, loss, settings), parts, executor):
        tables[row] = table
        if progress is not None:
            progress(len(tables), row)
    return StatTable.concat([tables[row] for row in ids])


@dataclass(frozen=True)
class _Parts:
    """The folder of the finished rows of one combination of settings."""

    folder: Path

    @staticmethod
    def of(cache: Path, settings: _Settings, batches: list[Batch], loss: Loss) -> _Parts:
        identity = settings.identity() | {
            "definitions": DEFINITIONS,
            "batches": digest(batches),
            "loss": name_of(loss),
            "torch": torch.__version__,
            "numpy": np.__version__,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache / f"stats-{key}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make {folder}: {error.strerror or error}; choose another cache"
            ) from error
        return _Parts(folder)

    def path(self, row: str) -> Path:
        """Return the file of a row: its id as far as a file name can hold it, and a hash of the whole."""
        readable = re.sub(r"[^\w.-]+", "_", row)[:64]
        return self.folder / f"{readable}-{hashlib.sha256(row.encode()).hexdigest()[:12]}.safetensors"

    def load(self, row: str) -> StatTable | None:
        """Return a finished row, if there is one."""
        path = self.path(row)
        if not path.exists():
            return None
        table = StatTable.load(path)
        if table.rows != (row,):
            raise ConfigError(f"{path} holds the rows {table.rows[:3]}, not {row!r}: remove it")
        return table

    def stored(self, row: str, table: StatTable) -> StatTable:
        """Store a finished row; return it as the file has it, mapped instead of held in memory."""
        table.save(self.path(row))
        return StatTable.load(self.path(row))


def _one(
    batches: list[Batch], loss: Loss, settings: _Settings, row: str, build: Callable[[], nn.Module]
) -> StatTable:
    """Build and collect one network."""
    for leaf, measure in settings.own:  # here may be another process, which knows an older row
        if leaf.name in MEASURES and STATISTICS[leaf.name] != leaf:
            unregister_leaf(leaf.name)
        register_leaf(leaf, measure)
    try:
        model = build()
    except Exception as error:  # whatever the caller's builder raises
        raise ConfigError(f"network {row!r} cannot be built: {reason(error)}") from error
    return collect(
        model,
        batches,
        loss,
        row=row,
        leaves=settings.leaves,
        samples=settings.samples,
        seed=settings.seed,
        backbone=settings.backbone,
        device=settings.device,
    )


def _ready(
    networks: list[Network],
    one: Callable[[str, Callable[[], nn.Module]], StatTable],
    parts: _Parts | None,
    executor: Executor | None,
) -> Iterator[tuple[str, StatTable]]:
    """Yield the rows as they become ready, the cached ones first; store each new one."""
    missing = []
    for row, build in networks:
        table = None if parts is None else parts.load(row)
        if table is None:
            missing.append((row, build))
        else:
            yield row, table
    collected = ((row, one(row, build)) for row, build in missing)
    for row, table in collected if executor is None else _submitted(executor, missing, one):
        yield row, table if parts is None else parts.stored(row, table)


def _submitted(
    executor: Executor, networks: list[Network], one: Callable[[str, Callable[[], nn.Module]], StatTable]
) -> Iterator[tuple[str, StatTable]]:
    """Yield results as they come, with a bounded number of rows under way (each carries the batches)."""
    waiting = iter(networks)
    running: dict[Future[StatTable], str] = {}

    def fill(n: int) -> None:
        for row, build in islice(waiting, n):
            running[executor.submit(one, row, build)] = row

    row = ""
    try:
        fill(2 * (os.cpu_count() or 1) + 2)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                row = running.pop(future)
                yield row, future.result()
                fill(1)
    except BrokenExecutor as error:
        lost = ", ".join([row, *running.values()])
        raise ConfigError(
            f"a worker died while collecting {lost}; finished rows are kept, call again"
        ) from error
    finally:
        for future in running:
            future.cancel()
