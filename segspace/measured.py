"""A table of measured networks: rows that are appended one by one, and what they tell of the noise."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from proxygraph.errors import ParseError

_FIRST = ("arch", "seed", "miou", "accuracy", "seconds", "params", "macs")


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one training: percent, CPU seconds, parameters and multiply-adds."""

    arch: str
    seed: int
    miou: float
    accuracy: float
    seconds: float
    params: int
    macs: int
    class_iou: tuple[float, ...]


def header(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns."""
    return (*_FIRST, *(f"iou_{name}" for name in classes))


def read_rows(path: Path, classes: Sequence[str]) -> list[Row]:
    """Return the rows of a table, none if there is no file; a last line that was cut off is left out.

    Raises
    ------
    ParseError
        If the file is another table.
    """
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    lines = list(csv.reader(whole.splitlines()))
    if not lines or tuple(lines[0]) != header(classes):
        raise ParseError(f"{path}: the header is not {','.join(header(classes))}; move the file away")
    try:
        return [_row(line) for line in lines[1:]]
    except (ValueError, TypeError) as error:
        raise ParseError(f"{path}: not a table of measured networks: {error}") from None


def write_rows(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Write a whole table, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join([",".join(header(classes)), *map(_line, rows)]) + "\n", encoding="utf-8")
    partial.replace(path)


def append_row(path: Path, row: Row) -> None:
    """Append a row; it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def noise(rows: Sequence[Row]) -> dict[str, float | int]:
    """Return what two seeds of one arch differ by, beside what archs differ by (mIoU, percent)."""
    first = {row.arch: row.miou for row in rows if row.seed == 0}
    pairs = np.array([(first[row.arch], row.miou) for row in rows if row.seed == 1 and row.arch in first])
    found: dict[str, float | int] = {"networks": len(first), "second_seeds": len(pairs)}
    if len(first) > 1:
        values = np.array(list(first.values()))
        spread = float(np.std(values, ddof=1))
        found |= {"miou_min": round(float(values.min()), 4), "miou_max": round(float(values.max()), 4)}
        found["arch_sd"] = round(spread, 4)
        if len(pairs) > 2:
            seed_sd = float(np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) / 2))
            found["seed_sd"] = round(seed_sd, 4)
            found["seed_spearman"] = round(float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic), 4)
            found["arch_sd_over_seed_sd"] = round(spread / seed_sd, 2) if seed_sd else float("inf")
    return found


def _row(line: list[str]) -> Row:
    arch, seed, miou, accuracy, seconds, params, macs, *ious = line
    numbers = float(miou), float(accuracy), float(seconds), int(params), int(macs)
    return Row(arch, int(seed), *numbers, tuple(map(float, ious)))


def _line(row: Row) -> str:
    shares = f"{row.miou:.4f},{row.accuracy:.4f},{row.seconds:.1f},{row.params},{row.macs}"
    return ",".join([row.arch, str(row.seed), shares, *(f"{iou:.3f}" for iou in row.class_iou)])
