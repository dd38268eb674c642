"""What a search left in its folder, read back and checked. Knows nothing of the database."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from proxygraph.errors import ConfigError
from proxygraph.run import RunFolder
from segspace.latency.table import Setting, Share, Size
from segspace.search.study import Candidate

COUNTS: Final = ("candidates", "invalid", "duplicate", "over_budget", "unmeasured")
COST: Final = "latency_ms"
T = TypeVar("T")


@dataclass(frozen=True)
class Results:
    """A search that wrote its results; it may go on later.

    Attributes
    ----------
    path : Path
        Its folder.
    result : dict
        ``result.json``.
    candidates : tuple of Candidate
        In the order in which they were scored; `number` counts them, `reason` is empty.
    front : tuple of Candidate
        Cheapest first; the last one is the chosen network.
    shares : mapping of str to tuple of Share
        What each step takes, by arch of the front; empty if the search was of an older version.
    size : (int, int)
        Height and width of the images that latency is of.
    classes : int
    setting : Setting or None
        Of the latency table; None if the search was of an older version.
    """

    path: Path
    result: dict[str, Any]
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    shares: Mapping[str, tuple[Share, ...]]
    size: Size
    classes: int
    setting: Setting | None

    @property
    def chosen(self) -> Candidate | None:
        """The network with the best score; None if none has one."""
        return self.front[-1] if self.front else None

    @property
    def budget(self) -> float | None:
        """Most latency, ms; None if there was no budget."""
        found = self.result["settings"]["max_latency_ms"]
        return None if found is None else float(found)


def read_results(path: Path) -> Results:
    """Read the folder that `python -m segspace.search` wrote (``--out``).

    Raises
    ------
    ConfigError
        If it is no such folder, the search wrote no results yet, or a file is damaged.
    """
    if path.is_file():
        raise ConfigError(f"{path}: is a file; give the folder that segspace.search wrote (--out)")
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; give the one that segspace.search wrote (--out)")
    if not (path / "result.json").is_file() and (path / "study.db").is_file():
        raise ConfigError(
            f"{path}: this search has not written its results; run its command again, which goes on"
        )
    if not (path / "result.json").is_file() or not (path / "candidates.csv").is_file():
        raise ConfigError(
            f"{path}: not the folder of a search: result.json and candidates.csv are what "
            "python -m segspace.search writes"
        )
    result = RunFolder(path).read("result.json")
    candidates = _candidates(path / "candidates.csv")
    by_arch = {one.arch: one for one in candidates}
    front = _parsed(path / "front.csv", lambda rows: tuple(by_arch[row["arch"]] for row in rows))
    try:
        height, width = (int(v) for v in result["settings"]["size"])
        latency = result.get("latency")
        for name in COUNTS:
            int(result["counts"][name])
        for name in ("space", "max_latency_ms", "sampler", "seed", "latency"):
            result["settings"][name]
        if (result["chosen"] or {}).get("arch") != (front[-1].arch if front else None):
            raise ValueError("the chosen network is not the last one of front.csv")
        (
            dict(result["environment"]["packages"]),
            str(result["proxy"]["infix"]),
            float(result["seconds"]),
            str(result["ended"]),
        )
        return Results(
            path,
            result,
            candidates,
            front,
            _shares(path / "shares.csv"),
            (height, width),
            int(result["settings"]["classes"]),
            None if latency is None else Setting(**latency["setting"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path / 'result.json'}: damaged or of another version ({error!r})") from None


def _candidates(path: Path) -> tuple[Candidate, ...]:
    def parsed(rows: Iterable[dict[str, str]]) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(
                k,
                row["arch"],
                float(row["score"]) if row["score"] else None,
                float(row[COST]),
                int(row["macs"]),
                int(row["params"]),
            )
            for k, row in enumerate(rows)
        )

    return _parsed(path, parsed)


def _shares(path: Path) -> dict[str, tuple[Share, ...]]:
    """Return the shares; none if the file is missing."""

    def parsed(rows: Iterable[dict[str, str]]) -> dict[str, tuple[Share, ...]]:
        found: dict[str, list[Share]] = {}
        for row in rows:
            found.setdefault(row["arch"], []).append(Share(row["step"], row["piece"], float(row["ms"])))
        return {arch: tuple(shares) for arch, shares in found.items()}

    return _parsed(path, parsed) if path.is_file() else {}


def _parsed(path: Path, parse: Callable[[Iterable[dict[str, str]]], T]) -> T:
    """Return what a CSV file holds."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return parse(csv.DictReader(file))
    except FileNotFoundError:
        raise ConfigError(f"{path}: missing; run the command of the search again, which writes it") from None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path}: damaged ({error!r}); run the command of the search again, which writes it"
        ) from None
