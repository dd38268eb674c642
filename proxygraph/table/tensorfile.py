"""Named arrays and texts in one safetensors file: written whole or not at all, read as views of the file.

Follows the published layout (eight bytes: the length of a JSON head; the head; the bytes of the tensors), so
that any safetensors reader opens the files. Knows nothing of what the arrays mean.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from proxygraph.errors import ConfigError

Array = NDArray[Any]

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_HEAD: Final = 100_000_000  # safetensors refuses a longer one
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write(path: Path, metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> None:
    """Write `arrays` (one dimension; float32, float64 or int64) and `metadata` to `path`.

    The bytes go to a file beside it, which takes the name when they are on the disk: an interruption leaves
    the old file or none.

    Raises
    ------
    ConfigError
        If the disk is full, the folder is missing or cannot be written, or the head is too long.
    """
    # eight-byte numbers first: then every array in the file is aligned
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    head = _head(metadata, ordered)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        try:
            with open(part, "xb") as file:
                file.write(len(head).to_bytes(8, "little") + head)
                for _, array in ordered:
                    file.write(array.view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        remedy = (
            "free some space" if error.errno in _FULL else "choose a folder that exists and can be written"
        )
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def _head(metadata: Mapping[str, str], ordered: list[tuple[str, Array]]) -> bytes:
    head: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        head[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEAD:
        raise ConfigError(f"ids and header take {len(text)} bytes of {_MAX_HEAD} allowed: use shorter ids")
    return text


def read(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Return metadata and arrays of `path`; the arrays are read-only views of the mapped file.

    Tensors of other types or dimensions than `write` makes are left out.

    Raises
    ------
    ConfigError
        If the file is missing, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:  # checks head, offsets and length of the file
            metadata = dict(file.metadata() or {})
        with open(path, "rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            head = json.loads(raw.read(length))
        entries = {name: entry for name, entry in head.items() if name != "__metadata__"}
        empty = not any(entry["data_offsets"][1] for entry in entries.values())  # nothing cannot be mapped
        data = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r", offset=8 + length)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except SafetensorError as error:
        kind = "is truncated" if "ncomplete" in str(error) else "is not a safetensors file"
        raise ConfigError(f"{path} {kind} ({error}); make it again or check the path") from error
    arrays: dict[str, Array] = {}
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is not None and len(entry["shape"]) == 1:
            begin, end = entry["data_offsets"]
            arrays[name] = np.asarray(data[begin:end]).view(dtype)
    return metadata, arrays
