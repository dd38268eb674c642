"""Whole networks as they were measured, beside what the latency table predicted of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxygraph.errors import ConfigError
from proxygraph.run import RunFolder
from segspace.latency.table import Record, Setting
from segspace.search.results import Results

NAME: Final = "measured.json"


@dataclass(frozen=True)
class Measured:
    """What ``python -m segspace.latency measure`` wrote.

    Attributes
    ----------
    path : Path
    setting : Setting
    records : mapping of str to Record
        ms, by arch text or name of a baseline.
    difference : str
        Where the setting differs from that of the search, in words; empty if nowhere, or not known.
    """

    path: Path
    setting: Setting
    records: Mapping[str, Record]
    difference: str


def read_measured(path: Path, results: Results) -> Measured:
    """Read a file of measurements and check that it is of this search's images and classes.

    Raises
    ------
    ConfigError
        If it is missing, damaged, or of another size or number of classes.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; make it with: python -m segspace.latency measure --study DIR"
        )
    found = RunFolder(path.parent).read(path.name)
    try:
        height, width = (int(v) for v in found["size"])
        classes, setting = int(found["classes"]), Setting(**found["setting"])
        names = ("median", "p10", "p90", "min")
        records = {}
        for row in found["networks"]:
            arch, (median, p10, p90, least) = str(row["arch"]), (float(row[name]) for name in names)
            records[arch] = Record(median, p10, p90, least, int(row["n"]), float(row["reference"]))
            if not 0 < p10 <= p90:
                raise ValueError(f"{arch}: {p10} to {p90} ms")
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: not what python -m segspace.latency measure --json writes ({error!r})"
        ) from None
    if ((height, width), classes) != (results.size, results.classes):
        raise ConfigError(
            f"{path}: measured at {height}x{width} with {classes} classes, the search is of "
            f"{results.size[0]}x{results.size[1]} with {results.classes}; measure with: "
            f"python -m segspace.latency measure --study {results.path}"
        )
    difference = "" if results.setting is None else results.setting.difference(setting)
    return Measured(path, setting, records, difference)
