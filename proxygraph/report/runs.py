"""What a run left on disk, read and checked for a report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, ProxyGraphError
from proxygraph.export import PARTS, formula_of
from proxygraph.objective import Several, find_objective
from proxygraph.objective.several import PREFIX
from proxygraph.run import RunFolder

TIERS: Final = ("structural", "algebraic", "numeric", "rank")
COUNTS: Final = ("proposed", "evaluated", "invalid", *TIERS)
Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Formula:
    """One formula of a result.

    Attributes
    ----------
    name : str
        ``size 7`` on the front, a proxy's name among the baselines; also its column in ``scores.csv``.
    dag : Dag
    entry : dict
        As it stands in ``result.json``.
    reports : mapping of str to mapping of str to float or None
        For train, validation and test: the numbers.
    front, best : bool
    """

    name: str
    dag: Dag
    entry: dict[str, Any]
    reports: Mapping[str, Numbers]
    front: bool
    best: bool


@dataclass(frozen=True)
class RowScores:
    """What formulas say about rows.

    Attributes
    ----------
    rows, parts : tuple of str, length N
        Row ids, and the part of the split every row belongs to.
    target : tuple of float, length N
    values : mapping of str to tuple of float, length N
        By a formula's name; NaN where it has no value.
    """

    rows: tuple[str, ...]
    parts: tuple[str, ...]
    target: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    name : str
        Of its folder.
    result, settings : dict
        ``result.json`` and ``config.json``.
    metric : str
        What the choice was made by.
    kind : {"rank", "fit"}
    formulas : tuple of Formula
        The front by size, then the baselines, the best on validation first.
    journal : tuple of dict
        One per generation, the counts and best fitness in it are numbers.
    scores : RowScores or None
        None if the run was made before scores were kept.
    """

    name: str
    result: dict[str, Any]
    settings: dict[str, Any]
    metric: str
    kind: str
    formulas: tuple[Formula, ...]
    journal: tuple[dict[str, Any], ...]
    scores: RowScores | None

    @property
    def front(self) -> list[Formula]:
        """The formulas of the front, by size."""
        return [one for one in self.formulas if one.front]

    @property
    def baselines(self) -> list[Formula]:
        """The hand-made proxies, the best on validation first."""
        return [one for one in self.formulas if not one.front]

    @property
    def best(self) -> Formula:
        """The formula chosen on validation."""
        return next(one for one in self.formulas if one.best)


def read_run(path: Path) -> Run:
    """Read the folder of a finished run.

    Raises
    ------
    ConfigError
        If it is no folder of a run, the run is not finished, or a file is damaged; the message says which.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; give the folder that evolve wrote (--out)")
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path}: not the folder of a run, there is no config.json")
    if not (path / "result.json").is_file():
        raise ConfigError(
            f"{path}: this run is not finished, there is no result.json; finish it with the command that "
            "began it and --resume"
        )
    settings, result = folder.read("config.json"), folder.read("result.json")
    try:
        inner = str(result["objective"]).removeprefix(PREFIX)
        objective = find_objective(inner)
        metric = objective.metric if inner == result["objective"] else Several.metric
        formulas = _formulas(result, metric, path)
        for part in PARTS:
            int(result["problem"]["rows"][part])
        search = {**result["search"], **result["search"]["duplicates"]}
        for count in ("generations", "seconds", *COUNTS):
            float(search[count])
        for name in ("name", "target"):
            str(result["problem"][name])
        dict(result["environment"]["packages"])
    except ProxyGraphError as error:  # an operator or objective that is not known here, a broken graph
        raise ConfigError(f"{path / 'result.json'}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path / 'result.json'}: damaged or of another version ({error!r})") from None
    return Run(
        path.resolve().name,
        result,
        settings,
        metric,
        objective.kind,
        formulas,
        _journal(path / "journal.jsonl"),
        _scores(path / "scores.csv", formulas),
    )


def _formulas(result: Mapping[str, Any], metric: str, path: Path) -> tuple[Formula, ...]:
    """Return front and baselines; every formula is checked against its key."""

    def formula(name: str, entry: dict[str, Any], front: bool) -> Formula:
        reports = {part: {key: _number(value) for key, value in entry[part].items()} for part in PARTS}
        if any(metric not in report for report in reports.values()):
            raise KeyError(metric)
        best = front and entry["key"] == result["best"]["key"]
        return Formula(name, formula_of(entry, path), entry, reports, front, best)

    front = [formula(f"size {one['size']}", one, True) for one in result["front"]]
    if sum(one.best for one in front) != 1:
        raise ValueError("the best formula is not on the front")
    baselines = [formula(str(one["name"]), one, False) for one in result["baselines"]]

    def by_validation(one: Formula) -> float:
        value = one.reports["validation"][metric]
        return -math.inf if value is None else value

    front.sort(key=lambda one: one.dag.size)
    return (*front, *sorted(baselines, key=by_validation, reverse=True))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _journal(path: Path) -> tuple[dict[str, Any], ...]:
    """Read the journal; a last line cut short by a crash is left out, a missing file has no lines."""
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = []
    for k, line in enumerate(lines):
        try:
            row = json.loads(line)
            found.append({name: float(row[name]) for name in ("generation", "seconds", "best", *COUNTS)})
        except (ValueError, KeyError, TypeError) as error:
            if k == len(lines) - 1:
                break
            raise ConfigError(f"{path}: line {k + 1} is damaged ({error!r})") from None
    return tuple(found)


def _scores(path: Path, formulas: Sequence[Formula]) -> RowScores | None:
    """Read ``scores.csv`` if it is there."""
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {row["part"] for row in rows} <= set(PARTS):
            raise ValueError("no rows, or rows of no part of the split")
        return RowScores(
            tuple(row["row"] for row in rows),
            tuple(row["part"] for row in rows),
            tuple(float(row["target"]) for row in rows),
            {one.name: tuple(float(row[one.name] or "nan") for row in rows) for one in formulas},
        )
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path}: damaged ({error!r}); delete it for a report without scatter plots"
        ) from None
