"""What is to be ranked or predicted: a table of statistics, a target, and which rows belong together.

A problem comes from a registered loader (entry-point group ``proxygraph.problems``), from a ``.csv`` or
``.parquet`` table, or from a saved problem. The split into train, validation and test keeps groups whole:
networks that are equal after pruning never fall on both sides.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError, ShapeMismatch, UnknownName
from proxygraph.table import StatTable

MIN_ROWS = 10
ENTRY_POINTS = "proxygraph.problems"
Report = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, how many there are."""


@dataclass(frozen=True)
class Split:
    """Row numbers: the search sees `train`, the winner is picked on `validation`, `test` is only reported."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows with a target.

    Attributes
    ----------
    name : str
    table : StatTable
    target : ndarray of float64, shape (N,)
        What formulas are to rank or predict; higher is better for rank objectives.
    target_name : str
    groups : tuple of str, length N
        Rows of one group stay on one side of a split.
    objective : str
        The objective to use unless the user says otherwise.

    Raises
    ------
    ConfigError
        If the target is not finite or constant, or there are fewer than 10 rows.
    """

    name: str
    table: StatTable
    target: NDArray[np.float64]
    target_name: str
    groups: tuple[str, ...]
    objective: str = "spearman"

    def __post_init__(self) -> None:
        n = self.table.n_rows
        if self.target.shape != (n,) or len(self.groups) != n:
            raise ShapeMismatch(
                f"problem {self.name!r}: {n} rows, {self.target.size} targets, {len(self.groups)} groups"
            )
        if n < MIN_ROWS:
            raise ConfigError(
                f"problem {self.name!r}: {n} rows; at least {MIN_ROWS} are needed to split and rank"
            )
        bad = np.flatnonzero(~np.isfinite(self.target))
        if bad.size:
            raise ConfigError(
                f"problem {self.name!r}: target {self.target_name!r} is {self.target[bad[0]]} on row "
                f"{self.table.rows[bad[0]]!r} and {bad.size - 1} others; remove or repair these rows"
            )
        if self.target.min() == self.target.max():
            raise ConfigError(
                f"problem {self.name!r}: target {self.target_name!r} is {self.target[0]} on every row; "
                "there is nothing to rank"
            )

    @property
    def digest(self) -> str:
        """sha256, in hex, of everything a search depends on: table, target and groups."""
        sha = hashlib.sha256(self.table.digest.encode())
        sha.update(np.ascontiguousarray(self.target).tobytes())
        sha.update(json.dumps([self.target_name, *self.groups]).encode())
        return sha.hexdigest()

    def split(self, seed: int, n_train: int | None = None, n_validation: int | None = None) -> Split:
        """Split the rows by seed, groups kept whole.

        Parameters
        ----------
        seed : int
        n_train : int, optional
            Rows to train on; by default half of them.
        n_validation : int, optional
            Rows that choose the winner; by default a quarter, or with `n_train` as many as train, but at most
            half of what is left. The others test.

        Raises
        ------
        ConfigError
            If that leaves fewer than two rows for a part, or `n_train` is below 5.
        """
        n = self.table.n_rows
        if n_validation is None:
            n_validation = n // 4 if n_train is None else min(n_train, (n - n_train) // 2)
        n_train = n // 2 if n_train is None else n_train
        if n_train < 5 or n_validation < 2 or n - n_train - n_validation < 2:
            raise ConfigError(
                f"problem {self.name!r}: cannot split {n} rows into {n_train} for training and "
                f"{n_validation} for validation, with 2 to test; choose --train between 5 and "
                f"{max(5, n - 4)} and a smaller --validation"
            )
        members: dict[str, list[int]] = {}
        for i, group in enumerate(self.groups):
            members.setdefault(group, []).append(i)
        order = sorted(members)
        np.random.default_rng([seed, 0x5917]).shuffle(order)
        parts: list[list[int]] = [[], [], []]
        for large in LARGE_GROUP:
            parts = _dealt([members[group] for group in order], n_train, n_validation, large)
            if len(parts[0]) >= n_train and len(parts[1]) >= n_validation:
                break
        if min(len(p) for p in parts) < 2:
            raise ConfigError(
                f"problem {self.name!r}: its {len(members)} groups of equal rows cannot be split in three"
            )
        train, validation, test = (np.array(sorted(p), dtype=np.int64) for p in parts)
        return Split(train, validation, test)

    def save(self, path: str | Path) -> None:
        """Write the problem as one file that ``evolve`` accepts as SOURCE."""
        extra = {
            "name": self.name,
            "target_name": self.target_name,
            "target": self.target.tolist(),
            "groups": list(self.groups),
            "objective": self.objective,
        }
        header = {**self.table.header, "problem": extra}
        table = self.table
        StatTable(table.rows, table.columns, table.leaves, table.offsets, table.counts, header).save(
            Path(path)
        )

    @classmethod
    def load(cls, path: str | Path) -> Problem:
        """Read a saved problem.

        Raises
        ------
        ConfigError
            If the file is no table, or a table without a target.
        """
        table = StatTable.load(Path(path))
        extra: Any = table.header.get("problem")
        try:
            return cls(
                str(extra["name"]),
                table,
                np.array(extra["target"], dtype=np.float64),
                str(extra["target_name"]),
                tuple(map(str, extra["groups"])),
                str(extra["objective"]),
            )
        except (TypeError, KeyError, ValueError):
            raise ConfigError(
                f"{path}: a table of statistics, but not a saved problem (no target in it); "
                "make one with Problem.save"
            ) from None


LARGE_GROUP = (0.1, 0.25, 1.0)
"""Shares of a part that one group may fill; the next is tried where groups are too large for the last."""


def _dealt(groups: Sequence[list[int]], n_train: int, n_validation: int, large: float) -> list[list[int]]:
    """Deal out groups: to train until it is full, to validation until that is, the others to test."""
    parts: list[list[int]] = [[], [], []]
    wanted = (n_train, n_validation)
    for rows in groups:
        part = next((k for k in (0, 1) if len(parts[k]) < wanted[k]), 2)
        fits = part == 2 or len(rows) <= max(1.0, large * wanted[part])
        parts[part if fits else 2].extend(rows)
    return parts


def load_problem(source: str, target: str | None, report: Report) -> Problem:
    """Return the problem that SOURCE names.

    Parameters
    ----------
    source : str
        ``NAME`` or ``NAME:ARGUMENT`` of a registered problem, or the path of a ``.csv``, ``.parquet`` or
        saved problem.
    target : str, optional
        Column to predict, for tables.
    report : callable
        Progress, ``(what, done, total)``.

    Raises
    ------
    ConfigError, UnknownName
        If it cannot be read or does not exist; the message says what would help.
    """
    suffix = Path(source).suffix.lower() if ":" not in source or Path(source).is_file() else ""
    if suffix in (".csv", ".parquet"):
        return table_problem(Path(source), target)
    if suffix == ".safetensors":
        if target is not None:
            raise ConfigError(f"--target goes with a table; the saved problem {source} has its own target")
        return Problem.load(source)
    name, _, argument = source.partition(":")
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        raise UnknownName(
            f"no problem named {name!r}; give one of {', '.join(sorted(found))}, or a .csv, .parquet or "
            "saved .safetensors file"
        )
    if target is not None:
        raise ConfigError(f"--target goes with a table; problem {name!r} has its own target")
    problem = found[name].load()(argument, report=report)
    if not isinstance(problem, Problem):
        raise ConfigError(f"the loader of problem {name!r} returned {type(problem).__name__}, not a Problem")
    return problem


def table_problem(path: Path, target: str | None) -> Problem:
    """Make a problem of a table whose columns are numbers; a column ``id`` names the rows.

    Raises
    ------
    ConfigError
        If the file or the target column is missing, a column is not numeric, or ids repeat.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    columns = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    if target is None:
        raise ConfigError(f"{path}: say which column to predict with --target; columns: {_some(columns)}")
    if target not in columns:
        raise ConfigError(f"{path}: no column {target!r}; columns: {_some(columns)}")
    if target == "id":
        raise ConfigError(f"{path}: the column 'id' names the rows and cannot be the target; rename it")
    numeric: dict[str, NDArray[np.float64]] = {}
    ids: Sequence[str] | None = None
    for name, values in columns.items():
        if name == "id":
            ids = [str(int(v) if isinstance(v, float) and v.is_integer() else v) for v in values]
        else:
            numeric[name] = _numbers(path, name, values)
    y = numeric.pop(target)
    _refuse_gaps(path, numeric)
    if not numeric:
        raise ConfigError(f"{path}: no columns beside the target {target!r}")
    rows = ids if ids is not None else [str(i) for i in range(len(y))]
    if (double := _first_double(rows)) is not None:
        raise ConfigError(f"{path}: id {double!r} occurs more than once; ids must be unique")
    table = StatTable.from_columns(rows, numeric)
    return Problem(path.stem, table, y, target, tuple(rows), objective="r2")


def _refuse_gaps(path: Path, columns: Mapping[str, NDArray[np.float64]]) -> None:
    """Refuse cells without a number: a formula that uses the column would be invalid on these rows."""
    for name, values in columns.items():
        gaps = np.flatnonzero(~np.isfinite(values))
        if gaps.size:
            raise ConfigError(
                f"{path}: column {name!r} is empty or not finite on {gaps.size} row(s), first on data row "
                f"{gaps[0] + 1}; drop these rows or the column, or fill in a value"
            )


def _some(columns: Mapping[str, Any]) -> str:
    names = list(columns)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _first_double(names: Sequence[str]) -> str | None:
    """The first name that occurs more than once."""
    return next((name for name, n in Counter(names).items() if n > 1), None)


def _read_csv(path: Path) -> dict[str, Any]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = [cell.strip() for cell in next(filter(None, csv.reader(file)), [])]
            _check_header(path, header)
            try:  # all numbers: numpy's reader is ten times faster; ids must not become numbers
                if "id" in header:
                    raise ValueError
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # a table of no rows is refused later
                    data = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
                if data.shape[1] == len(header):
                    return dict(zip(header, data.T, strict=True))
            except ValueError:
                pass
            file.seek(0)
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row][1:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from None
    for line, row in rows:
        if len(row) != len(header):
            raise ConfigError(f"{path}: line {line} has {len(row)} cells, the header has {len(header)}")
    return {name: [row[j] for _, row in rows] for j, name in enumerate(header)}


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not header:
        raise ConfigError(f"{path}: empty file")
    if (double := _first_double(header)) is not None:
        raise ConfigError(f"{path}: column {double!r} occurs more than once")
    for i, name in enumerate(header):
        # in formulas a name that is no identifier stands in backticks, on one line
        if not name or set(name) & set("`\r\n"):
            raise ConfigError(
                f"{path}: column {i + 1} is called {name!r}; give it a name without backticks and "
                "line breaks ('id' if it names the rows)"
            )


def _read_parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow.parquet
        from pyarrow import ArrowException
    except ImportError:
        raise ConfigError(f"{path}: reading parquet needs pyarrow: pip install pyarrow") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise ConfigError(f"{path}: cannot be read as parquet: {error}") from None
    _check_header(path, table.column_names)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _numbers(path: Path, name: str, values: Any) -> NDArray[np.float64]:
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    out = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            out[i] = (
                math.nan if value is None or (isinstance(value, str) and not value.strip()) else float(value)
            )
        except (TypeError, ValueError):
            raise ConfigError(
                f"{path}: column {name!r} is not numeric: {value!r} on data row {i + 1}; drop the column, "
                "encode it as numbers, or call it 'id' if it names the rows"
            ) from None
    return out
