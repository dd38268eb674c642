"""Filling a table: which pieces a space has, measuring them in turns, whole networks for the calibration."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxygraph.errors import ConfigError
from segspace.latency.clock import in_turns
from segspace.latency.context import COPIES, Carrier, images_for
from segspace.latency.load import Load, machine_load, reference_kernel, refuse_if_busy
from segspace.latency.runtimes import Runtime
from segspace.latency.table import LatencyTable, Record, Setting, Size, network_key

if TYPE_CHECKING:
    from segspace.rtseg.arch import Arch
    from segspace.rtseg.pieces import Piece
    from segspace.rtseg.space import Space

Report = Callable[[str, int, int], None]
ROUNDS = 15
TOGETHER = 96  # pieces that take turns: at most so many are lost by Ctrl-C
SLOW = 1.1  # times the reference kernel of the best group: a group measured at a bad time


def open_table(path: Path, runtime: Runtime, batch: int = 1) -> LatencyTable:
    """Return the table at `path`, an empty one if there is none.

    Raises
    ------
    ConfigError
        If the table there is of another setting.
    """
    setting = Setting.of(runtime, batch)
    if not path.exists():
        return LatencyTable(setting)
    table = LatencyTable.load(path)
    if difference := table.setting.difference(setting):
        raise ConfigError(f"{path}: the table is of another setting: {difference}; choose another file")
    return table


def pieces_of(space: Space, size: Size, classes: int) -> list[Piece]:
    """Return the pieces that the networks of a space have at one size, cheapest first.

    Networks are drawn until 3000 in a row bring nothing new; a piece that is still missing is named when a
    prediction needs it.
    """
    from segspace.rtseg.program import program

    rng = np.random.default_rng(0)
    found: dict[Piece, None] = {}
    since = 0
    while since < 3000:
        before = len(found)
        found.update(dict.fromkeys(s.piece for s in program(space.diverse(rng), size, classes).steps))
        since = since + 1 if len(found) == before else 0
    return sorted(found, key=lambda piece: (piece.macs, piece.text()))


def add_pieces(
    table: LatencyTable,
    path: Path,
    runtime: Runtime,
    pieces: Iterable[Piece],
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    busy_ok: bool = False,
    refresh: bool = False,
    report: Report = lambda what, done, total: None,
    warn: Callable[[str], None] = lambda text: None,
    load: Callable[[], Load] = machine_load,
) -> LatencyTable:
    """Measure the pieces that a table has not got, group by group; each group is stored when it is done.

    Parameters
    ----------
    table : LatencyTable
        What there is.
    path : Path
        Where the table is stored.
    runtime : Runtime
        Runs the pieces.
    pieces : iterable of Piece
        What the table is to contain.
    rounds : int
        Turns of each piece.
    seed : int
        Of the order of measuring.
    busy_ok : bool
        Measure on a busy machine too.
    refresh : bool
        Measure again what was measured while the reference kernel was 10 % slower than at its best.
    report, warn, load : callable
        Progress, warnings, and what says how busy the machine is.

    Returns
    -------
    LatencyTable
        With all of them.

    Raises
    ------
    ConfigError
        If the machine is busy and that is not `busy_ok`; what was measured before is stored.
    """
    rng = np.random.default_rng(seed)
    old = set(slow_keys(table.pieces)) if refresh else set()
    todo = [p for p in dict.fromkeys(pieces) if p.text() not in table.pieces or p.text() in old]
    todo = [todo[k] for k in rng.permutation(len(todo))]  # a bad minute hits all sorts alike
    for at in range(0, len(todo), TOGETHER):
        group = todo[at : at + TOGETHER]
        if warning := refuse_if_busy(load(), busy_ok):
            warn(warning)
        table = table.adding(pieces=_measure_pieces(group, runtime, table.setting.batch, rounds, rng))
        table.save(path)
        report("pieces", at + len(group), len(todo))
    return table


def add_networks(
    table: LatencyTable,
    path: Path,
    runtime: Runtime,
    archs: Sequence[Arch],
    size: Size,
    classes: int,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    busy_ok: bool = False,
    warn: Callable[[str], None] = lambda text: None,
    load: Callable[[], Load] = machine_load,
) -> LatencyTable:
    """Measure whole networks that a table has not got, to calibrate with; parameters as of `add_pieces`."""
    todo = [a for a in archs if network_key(a, size, classes) not in table.networks]
    if not todo:
        return table
    if warning := refuse_if_busy(load(), busy_ok):
        warn(warning)
    records = measure_networks(todo, size, classes, runtime, table.setting.batch, rounds, seed)
    keys = (network_key(a, size, classes) for a in todo)
    table = table.adding(networks=dict(zip(keys, records, strict=True)))
    table.save(path)
    return table


def measure_networks(
    archs: Sequence[Arch | str],
    size: Size,
    classes: int,
    runtime: Runtime,
    batch: int,
    rounds: int,
    seed: int = 0,
) -> list[Record]:
    """Return the latency of whole networks of any space, untrained weights; they take turns."""
    from segspace.models import build

    image = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))
    networks = [build(str(arch), classes, seed=k).eval() for k, arch in enumerate(archs)]
    runs = {k: runtime.session(network, (image,)).run for k, network in enumerate(networks)}
    seconds, reference = _with_reference(runs, rounds, runtime, np.random.default_rng(seed))
    return [Record.of(seconds[k], reference) for k in range(len(archs))]


def slow_keys(pieces: Mapping[str, Record]) -> list[str]:
    """Return the keys that were measured while the machine was clearly slower than at its best."""
    best = min((record.reference for record in pieces.values()), default=0.0)
    return [key for key, record in pieces.items() if record.reference > SLOW * best]


def typical_reference(records: Iterable[Record]) -> float:
    """Return the median of the reference kernel over some records, ms."""
    return statistics.median(record.reference for record in records)


def _measure_pieces(
    group: Sequence[Piece], runtime: Runtime, batch: int, rounds: int, rng: np.random.Generator
) -> dict[str, Record]:
    runs: dict[Hashable, Callable[[], Any]] = {}
    for piece in group:
        images = images_for(piece, batch)
        for key in (piece, _inputs(piece)):
            if key not in runs:
                carrier = Carrier(piece, loaded=key is piece, sinks=runtime.own_layout)
                runs[key] = runtime.session(carrier, images).run
    seconds, reference = _with_reference(runs, rounds, runtime, rng)
    return {
        piece.text(): Record.of(seconds[piece], reference, seconds[_inputs(piece)], COPIES) for piece in group
    }


def _inputs(piece: Piece) -> Hashable:
    """Return what the empty carrier of a piece depends on: pieces with equal inputs share it."""
    return piece.c_in, piece.sizes


def _with_reference(
    runs: Mapping[Any, Callable[[], Any]], rounds: int, runtime: Runtime, rng: np.random.Generator
) -> tuple[dict[Any, NDArray[np.float64]], NDArray[np.float64]]:
    """Return the seconds of each run, and of the reference kernel that takes turns with them."""
    seconds = in_turns({None: reference_kernel(), **runs}, rounds, runtime.clock, rng)
    return seconds, seconds.pop(None)
