"""The table: latencies of pieces and of whole networks in one setting; prediction and calibration.

What is not in the table is an error that names it, never a guess. Knows nothing of how things are measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError
from proxygraph.run import RunFolder

if TYPE_CHECKING:
    from segspace.latency.runtimes import Runtime
    from segspace.rtseg.arch import Arch
    from segspace.rtseg.pieces import Piece

Size = tuple[int, int]
Statistic = Literal["median", "p10", "min"]
STATISTICS: tuple[Statistic, ...] = ("median", "p10", "min")
DEFAULT_STATISTIC: Statistic = "p10"
FORMAT = "segspace latency table 2"  # goes up when pieces or the reference kernel are measured otherwise
LEAST_NETWORKS = 4  # of a calibration
LEAST_SLOPE = 1e-6  # of a calibration; what is flat comes out as a rounding error


@dataclass(frozen=True)
class Setting:
    """What a latency depends on besides the network; a table has one.

    Attributes
    ----------
    runtime, version : str
        Name of the runtime and version of its package.
    device : str
        Name of processor or GPU.
    threads : int
        Threads of one run.
    dtype, layout : str
        Of weights and activations.
    batch : int
        Images per run.
    clock : str
        ``cpu`` (CPU time of the process; one thread) or ``wall``.
    """

    runtime: str
    version: str
    device: str
    threads: int
    dtype: str
    layout: str
    batch: int
    clock: str

    @classmethod
    def of(cls, runtime: Runtime, batch: int = 1) -> Setting:
        """Return the setting of a runtime on this machine."""
        return cls(
            runtime.name,
            runtime.version,
            runtime.device,
            runtime.threads,
            runtime.dtype,
            runtime.layout,
            batch,
            runtime.clock_name,
        )

    def difference(self, other: Setting) -> str:
        """Return in words where another setting differs, empty if nowhere."""
        pairs = ((one.name, getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        return ", ".join(
            f"{name} {mine!r} is now {theirs!r}" for name, mine, theirs in pairs if mine != theirs
        )

    def __str__(self) -> str:
        return (
            f"{self.runtime} {self.version} on {self.device}, {self.threads} thread(s), {self.dtype}, "
            f"{self.layout}, batch {self.batch}"
        )


@dataclass(frozen=True)
class Record:
    """What was measured of one thing, in ms.

    Attributes
    ----------
    median, p10, p90, min : float
        Over the rounds; of a piece, differences of these quantiles with and without it.
    n : int
        Rounds.
    reference : float
        10th percentile of a fixed kernel that took turns with it: how fast the machine was.
    """

    median: float
    p10: float
    p90: float
    min: float
    n: int
    reference: float

    @classmethod
    def of(
        cls,
        seconds: NDArray[np.float64],
        reference: NDArray[np.float64],
        less: NDArray[np.float64] | None = None,
        copies: int = 1,
    ) -> Record:
        """Return the record of `seconds` (rounds,), less those of the carrier, per copy."""
        levels = [0.5, 0.1, 0.9, 0.0]
        values = np.quantile(seconds, levels)
        if less is not None:
            values = values - np.quantile(less, levels)
        median, p10, p90, least = (round(float(v), 6) for v in 1e3 * values / copies)
        return cls(median, p10, p90, least, len(seconds), round(1e3 * float(np.quantile(reference, 0.1)), 6))


class Calibration(NamedTuple):
    """``latency = slope * sum of the pieces + offset`` (ms), fitted on `n` networks, mean error `mape` %."""

    slope: float
    offset: float
    n: int
    mape: float


class Share(NamedTuple):
    """One step of a network: its name, the key of its piece, ms."""

    name: str
    key: str
    ms: float


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of pieces, and of the networks that calibrate their sum, in one setting.

    Attributes
    ----------
    setting : Setting
        Where and how it was measured.
    pieces : mapping of str to Record
        By the text of the piece.
    networks : mapping of str to Record
        Whole networks, by `network_key`.

    Examples
    --------
    >>> table = LatencyTable.load("table.json")  # doctest: +SKIP
    >>> table.predict(Arch.parse("rtseg:tiny:c2-C2z3D4-i1"), size=(120, 160), classes=11)  # doctest: +SKIP
    """

    setting: Setting
    pieces: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))
    networks: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))
    _calibrations: dict[tuple[Size, int, str], Calibration] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def load(cls, path: Path | str) -> LatencyTable:
        """Read a table.

        Raises
        ------
        ConfigError
            If it is missing or damaged.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ConfigError(
                    f"{path}: format {data['format']!r}, expected {FORMAT!r}, which is measured otherwise: "
                    "measure again into another --table"
                )
            parts = [{k: _record(v) for k, v in data[name].items()} for name in ("pieces", "networks")]
            return cls(Setting(**data["setting"]), *parts)
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such table; make it with: python -m segspace.latency build"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: no readable latency table: {type(error).__name__}: {error}") from None

    def save(self, path: Path | str) -> None:
        """Write the table atomically.

        Raises
        ------
        StorageError
            If it cannot be written; what was there is still there.
        """
        path = Path(path)
        lines = [f'{{"format": {json.dumps(FORMAT)},', f'"setting": {json.dumps(asdict(self.setting))}']
        for name, records in (("pieces", self.pieces), ("networks", self.networks)):
            rows = ",\n".join(
                f"{json.dumps(k)}: {json.dumps(list(vars(r).values()))}" for k, r in sorted(records.items())
            )
            lines[-1] += ","
            lines.append(f'"{name}": {{\n{rows}\n}}')
        path.parent.mkdir(parents=True, exist_ok=True)
        RunFolder(path.parent).write(path.name, "\n".join(lines) + "}\n")

    def adding(
        self, pieces: Mapping[str, Record] | None = None, networks: Mapping[str, Record] | None = None
    ) -> LatencyTable:
        """Return a table with more records; equal keys are replaced."""
        return replace(
            self, pieces={**self.pieces, **(pieces or {})}, networks={**self.networks, **(networks or {})}
        )

    def missing(self, arch: Arch, size: Size, classes: int) -> list[Piece]:
        """Return the pieces of a network that the table has not got."""
        from segspace.rtseg.program import program

        steps = program(arch, size, classes).steps
        return list(dict.fromkeys(s.piece for s in steps if s.piece.text() not in self.pieces))

    def shares(
        self, arch: Arch, size: Size, classes: int, statistic: Statistic = DEFAULT_STATISTIC
    ) -> list[Share]:
        """Return the latency of each step of a network, not calibrated.

        Raises
        ------
        ConfigError
            If a piece is missing; the message names it and what to do.
        """
        from segspace.rtseg.program import program

        if missing := self.missing(arch, size, classes):
            raise ConfigError(
                f"{arch} at {size[0]}x{size[1]}: the table has no {missing[0].text()} for {self.setting}"
                f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; measure with: "
                f"{self._build_command(size, classes)} {arch}, or with predict --measure-missing"
            )
        return [
            Share(step.name, step.piece.text(), float(getattr(self.pieces[step.piece.text()], statistic)))
            for step in program(arch, size, classes).steps
        ]

    def predict(
        self,
        arch: Arch,
        size: Size,
        classes: int,
        *,
        statistic: Statistic = DEFAULT_STATISTIC,
        calibrated: bool = True,
    ) -> float:
        """Return the latency of a network in ms.

        Parameters
        ----------
        arch : Arch
            The network.
        size : (int, int)
            Height and width of the image.
        classes : int
            Number of classes.
        statistic : {"p10", "median", "min"}
            What is predicted. Other work on the machine only adds time, so that the 10th percentile is
            steadier than the median; on a quiet machine they are within a few per cent.
        calibrated : bool
            Without it, the sum of the pieces.

        Raises
        ------
        ConfigError
            If a piece, or a calibration for this size and number of classes, is missing.
        """
        total = sum(share.ms for share in self.shares(arch, size, classes, statistic))
        if not calibrated:
            return total
        calibration = self.calibration(size, classes, statistic)
        return calibration.slope * total + calibration.offset

    def calibration(self, size: Size, classes: int, statistic: Statistic = DEFAULT_STATISTIC) -> Calibration:
        """Return the line from sums of pieces to latencies of networks, least squares of relative errors.

        Raises
        ------
        ConfigError
            If fewer than four measured networks have this size and number of classes, or their latencies
            do not grow with the sums.
        """
        key = (size, classes, statistic)
        if key not in self._calibrations:
            archs = self.measured(size, classes)
            if len(archs) < LEAST_NETWORKS:
                raise ConfigError(
                    f"{len(archs)} measured networks of {size[0]}x{size[1]} and {classes} classes in the "
                    f"table, a calibration needs {LEAST_NETWORKS}; measure with: "
                    f"{self._build_command(size, classes)}"
                )
            sums = [self.predict(a, size, classes, statistic=statistic, calibrated=False) for a in archs]
            records = (self.networks[network_key(a, size, classes)] for a in archs)
            line = _fitted(sums, [getattr(one, statistic) for one in records])
            if not line.slope > LEAST_SLOPE:
                raise ConfigError(
                    f"the latencies of {line.n} measured networks of {size[0]}x{size[1]} and {classes} "
                    f"classes do not grow with the sums of their pieces (slope {line.slope:.3g}): the "
                    "networks are too alike, or the machine was busy; measure more with: "
                    f"{self._build_command(size, classes)} --networks {2 * line.n}"
                )
            self._calibrations[key] = line
        return self._calibrations[key]

    def measured(self, size: Size, classes: int) -> list[Arch]:
        """Return the whole networks that the table has for this size and number of classes."""
        from segspace.rtseg.arch import Arch

        end = network_key("", size, classes)
        return [Arch.parse(key.removesuffix(end)) for key in self.networks if key.endswith(end)]

    def _build_command(self, size: Size, classes: int) -> str:
        """Return the command that measures more for this table."""
        return (
            f"python -m segspace.latency build --table FILE --runtime {self.setting.runtime} "
            f"--size {size[0]}x{size[1]} --classes {classes}"
        )


def network_key(arch: Arch | str, size: Size, classes: int) -> str:
    """Return the key of a whole network: arch, image size, classes."""
    return f"{arch}@{size[0]}x{size[1]}:{classes}"


def _fitted(sums: Sequence[float], measured: Sequence[float]) -> Calibration:
    x, y = np.asarray(sums), np.asarray(measured)
    rows = np.stack([x, np.ones_like(x)], 1) / y[:, None]
    slope, offset = (float(v) for v in np.linalg.lstsq(rows, np.ones_like(y), rcond=None)[0])
    mape = 100 * float(np.mean(np.abs((slope * x + offset) / y - 1)))
    return Calibration(slope, offset, len(y), mape)


def _record(row: list[Any]) -> Record:
    *times, n, reference = row
    median, p10, p90, least = (float(v) for v in times)
    return Record(median, p10, p90, least, int(n), float(reference))
