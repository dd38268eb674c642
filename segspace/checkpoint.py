"""A training or a network in one safetensors file; what it needs besides tensors is JSON in its header."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from proxygraph.errors import ConfigError, StorageError
from segspace.models import build
from segspace.recipe import Recipe
from segspace.training import load_part

FORMAT: Final = "segspace-checkpoint-1"
NAME: Final = "checkpoint.safetensors"


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself.

    Attributes
    ----------
    arch : str
    classes : tuple of str
    palette : tuple of (r, g, b)
    protocol : str
        Of the data it is trained on.
    recipe : Recipe
    seed, step, steps : int
    cpu_seconds : float
        Of all sittings so far, all threads, without processes that prepare pictures; 0 in older checkpoints.
    """

    arch: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    protocol: str
    recipe: Recipe
    seed: int
    step: int
    steps: int
    cpu_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {**self.__dict__, "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Header:
        """Return the header of ``to_json``, which may have been through a file."""
        palette = tuple((int(r), int(g), int(b)) for r, g, b in found["palette"])
        changed = {
            "classes": tuple(found["classes"]),
            "palette": palette,
            "recipe": Recipe.from_json(found["recipe"]),
        }
        return cls(**found | changed)


def write_checkpoint(path: Path, header: Header, tensors: dict[str, Tensor]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    StorageError
        If the disk refuses; an older file is still there.
    """
    partial = path.with_name(f".{path.name}.part")
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(stored, partial, {"format": FORMAT, "header": json.dumps(header.to_json())})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error}") from None


def read_checkpoint(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Read a checkpoint, or the one in a run's folder; nothing in it is executed.

    Raises
    ------
    ConfigError
        If there is none, or it is damaged or of another program.
    """
    return _read(path, tensors=True)


def read_header(path: Path) -> Header:
    """Return what a checkpoint says of itself, without its tensors; as `read_checkpoint` otherwise."""
    return _read(path, tensors=False)[0]


def _read(path: Path, *, tensors: bool) -> tuple[Header, dict[str, Tensor]]:
    path = path / NAME if path.is_dir() else path
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ConfigError(f"{path}: not a checkpoint of this program ({FORMAT})")
            header = Header.from_json(json.loads(metadata["header"]))
            names = file.keys() if tensors else ()
            return header, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such checkpoint; train one with python -m segspace.train") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as a checkpoint: {error}") from None


def trained_network(path: Path) -> tuple[Header, nn.Module]:
    """Return a checkpoint's header and the network that counts, in evaluation mode."""
    header, tensors = read_checkpoint(path)
    network = build(header.arch, len(header.classes))
    load_part(network, tensors, "average." if header.recipe.ema else "network.")
    return header, network.eval()
