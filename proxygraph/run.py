"""The folder of a run: settings, journal, checkpoint, results. Everything is written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from proxygraph.errors import ConfigError, StorageError

FREE_ON_RESUME = frozenset(
    {"time_budget", "generations", "evaluations", "enough", "stagnation", "checkpoint_seconds", "threads"}
)
"""Settings that an interrupted run may be continued with: they do not change what is searched."""

_LATER: Mapping[str, Any] = {"also": [], "validation": None}
"""Settings that older runs do not have, and what those were run with."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], resume: bool) -> RunFolder:
        """Open a folder for a new run, or for one to be continued.

        Raises
        ------
        ConfigError
            If the folder holds another run, or is to be resumed with other settings.
        StorageError
            If it cannot be written.
        """
        folder = cls(path)
        folder.check_free(resume)
        if resume:
            folder.check_same(config)
            return folder
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot make this folder: {error.strerror}; choose another --out"
            ) from None
        folder.write("config.json", json.dumps(config, indent=2) + "\n")
        return folder

    def check_free(self, resume: bool) -> None:
        """Raise `ConfigError` if there is nothing to resume, or a run that a new one would overwrite."""
        exists = (self.path / "config.json").is_file()
        if resume and not exists:
            raise ConfigError(f"{self.path}: nothing to resume, there is no config.json")
        if exists and not resume:
            raise ConfigError(
                f"{self.path}: holds a run already; continue it with --resume or choose another --out"
            )

    def check_same(self, config: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if the stored settings differ from `config` where it matters."""
        stored = {**_LATER, **self.read("config.json")}
        config = {**_LATER, **config}
        for name in sorted((set(stored) | set(config)) - FREE_ON_RESUME):
            if stored.get(name) != config.get(name):
                raise ConfigError(
                    f"{self.path}: --resume with another {name}: it was {stored.get(name)!r}, now "
                    f"{config.get(name)!r}; use the same settings or another --out"
                )

    def write(self, name: str, content: str) -> None:
        """Write a file atomically.

        Raises
        ------
        StorageError
            If it cannot be written (full disk, read-only folder); the old file is still there.
        """
        temporary = self.path / f".{name}.part"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StorageError(
                f"{self.path / name}: cannot be written: {error.strerror}; make room or choose another --out"
            ) from None

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Append one JSON line; `StorageError` if the disk refuses, and then no part of the line stays."""
        path = self.path / name
        size = path.stat().st_size if path.is_file() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, size)
            raise StorageError(f"{self.path / name}: cannot be written: {error.strerror}") from None

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run (`ConfigError` if it is missing or damaged)."""
        try:
            data = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{self.path}: no {name}; is this the folder of a finished run?") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path / name}: cannot be read: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{self.path / name}: damaged, expected a JSON object")
        return data

    def trim_journal(self, generation: int) -> None:
        """Drop journal lines after `generation`: what came after the last checkpoint is done again."""
        path = self.path / "journal.jsonl"
        if not path.is_file():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["generation"] <= generation:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                break  # a line cut short by a crash
        self.write("journal.jsonl", "".join(kept))


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of equal keys as CSV."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()


def environment(threads: int) -> dict[str, Any]:
    """Describe where a result was made."""
    packages = {}
    for name in ("proxygraph", "numpy", "scipy", "sympy", "numba", "networkx", "torch", "safetensors"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {"python": platform.python_version(), "packages": packages, "cpu": _cpu(), "threads": threads}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
