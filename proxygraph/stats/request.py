"""What a caller may ask of `collect`: checked leaves, batches and targets, and how they are named."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from typing import Any, Final

import torch
from torch import Tensor, nn

from proxygraph.errors import ConfigError, UnknownName
from proxygraph.leaves import STATISTICS

DEFINITIONS: Final = 1
"""Version of what the leaves mean; stored with every table, so that a cache is not reused across a change."""

Batch = tuple[Tensor, Any]
Loss = Callable[[Any, Any], Tensor]

TWO_BATCHES: Final = frozenset({"g_mean", "g_std"})
"""Leaves that say how batches differ."""


def wanted_leaves(leaves: Collection[str] | None, n_batches: int) -> frozenset[str]:
    """Return the names of the leaves to collect, checked.

    Parameters
    ----------
    leaves : collection of str or None
        None stands for all but those of the cost "second-order" and ``latency_ms``, as far as the batches
        suffice.
    n_batches : int
        Number of batches.
    """
    if leaves is None:
        cheap = {name for name, leaf in STATISTICS.items() if leaf.cost != "second-order"} - {"latency_ms"}
        return frozenset(cheap - (TWO_BATCHES if n_batches < 2 else frozenset()))
    if isinstance(leaves, str):
        raise ConfigError(f"leaves = {leaves!r}: expected a collection of names, such as [{leaves!r}]")
    for name in leaves:
        if name not in STATISTICS:
            raise UnknownName(f"unknown leaf {name!r}; known: {', '.join(STATISTICS)}")
    if "latency_ms" in leaves:
        raise ConfigError("leaf 'latency_ms' is measured on a device, not collected: add it as a column")
    short = sorted(TWO_BATCHES & set(leaves)) if n_batches < 2 else []
    if short:
        raise ConfigError(
            f"leaves {', '.join(short)} need at least two batches, got {n_batches}: pass another one"
        )
    return frozenset(leaves)


def checked_batches(row: str, batches: Sequence[Batch] | Batch) -> list[Batch]:
    """Return the batches as a list; a single one, too."""
    if isinstance(batches, tuple) and len(batches) == 2 and isinstance(batches[0], Tensor):
        batches = [batches]
    listed = list(batches)
    if not listed:
        raise ConfigError(f"network {row!r}: no batch; pass at least one (inputs, targets)")
    for number, batch in enumerate(listed):
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[0], Tensor):
            raise ConfigError(f"network {row!r}, batch {number}: expected (inputs, targets), inputs a tensor")
        if batch[0].dim() == 0 or len(batch[0]) == 0:
            raise ConfigError(
                f"network {row!r}, batch {number}: no images in inputs of shape {tuple(batch[0].shape)}"
            )
    return [(batch[0], batch[1]) for batch in listed]


def check_settings(samples: int | None, backbone: str) -> None:
    """Refuse a number of samples or a regular expression that cannot be."""
    if samples is not None and samples < 1:
        raise ConfigError(f"samples = {samples}: expected at least 1, or None for all")
    try:
        re.compile(backbone)
    except re.error as error:
        raise ConfigError(f"backbone = {backbone!r} is no regular expression: {error}") from None


def moved(targets: Any, device: torch.device, copy: bool = False) -> Any:
    """Return the targets, however nested, with their tensors on `device`; copies of all if asked for."""
    if isinstance(targets, Tensor):
        return (targets.clone() if copy or targets.is_inference() else targets).to(device)
    if isinstance(targets, dict):
        return {key: moved(value, device, copy) for key, value in targets.items()}
    if isinstance(targets, list | tuple) and not hasattr(targets, "_fields"):
        return type(targets)(moved(value, device, copy) for value in targets)
    return deepcopy(targets) if copy else targets


def digest(batches: Sequence[Batch]) -> str:
    """Return the sha256, in hex, of all tensors of the batches and of the text of what else they hold."""
    sha = hashlib.sha256()

    def feed(item: Any) -> None:
        if isinstance(item, Tensor):
            flat = item.detach().cpu().contiguous()
            sha.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
            sha.update(flat.reshape(-1).view(torch.uint8).numpy().data if flat.numel() else b"")
        elif isinstance(item, dict):
            for key in item:
                sha.update(str(key).encode())
                feed(item[key])
        elif isinstance(item, list | tuple):
            for part in item:
                feed(part)
        else:
            sha.update(repr(item).encode())

    feed([list(batch) for batch in batches])
    return sha.hexdigest()


def name_of(loss: Loss) -> str:
    """Return how a loss is named in headers and caches: the text of a module, the name of a function."""
    return repr(loss) if isinstance(loss, nn.Module) else getattr(loss, "__qualname__", type(loss).__name__)


def reason(error: BaseException) -> str:
    """Return the type and the first line of an error that foreign code raised."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
