"""The file of an estimator: one JSON object, written whole or not at all, read and never run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from proxygraph.errors import StorageError
from proxygraph.estimators.formula import BadInput
from proxygraph.run import RunFolder

FORMAT: Final = "proxygraph.estimator"
VERSION: Final = 1


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file (`StorageError` if it cannot be written)."""
    whole = {"format": FORMAT, "version": VERSION, **content}
    try:
        RunFolder(path.parent).write(path.name, json.dumps(whole, indent=2) + "\n")
    except StorageError as error:
        reason = getattr(error.__context__, "strerror", None) or error
        raise StorageError(f"{path}: cannot be written: {reason}; choose another path") from None


def read(path: Path, name: str) -> dict[str, Any]:
    """Return the content of the file of an estimator of this class.

    Raises
    ------
    BadInput
        If it is missing, no such file, or of another class or version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadInput(f"{path}: no estimator of proxygraph; write one with save()")
    if (data.get("version"), data.get("class")) != (VERSION, name):
        found = f"a {data.get('class')} of version {data.get('version')}"
        raise BadInput(f"{path}: {found}; this reads {name} of version {VERSION}")
    return data


def plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that JSON can hold, numbers and sequences of numpy as Python's."""
    found = {name: _plain(value) for name, value in parameters.items()}
    return {name: value for name, value in found.items() if value is not NotImplemented}


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it, `NotImplemented` if it cannot."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        parts = [_plain(part) for part in value]
        return NotImplemented if NotImplemented in parts else parts
    if isinstance(value, Mapping):
        held = {str(name): _plain(part) for name, part in value.items()}
        return NotImplemented if NotImplemented in held.values() else held
    return value if value is None or isinstance(value, (bool, int, float, str)) else NotImplemented
