"""All networks of a space in one store of weights, trained together.

The store has, for every *slot* (position in a path, operator, scales), the weights of its widest piece. A
network runs on slices of them: the leading channels of each convolution, and batch normalisation that is its
own for every width. The network itself is the one of ``segspace.rtseg.network``, so nothing is written twice.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from proxygraph.errors import ConfigError, StorageError
from segspace.rtseg.arch import MOST_HALVINGS, OPS, PATHS, Arch, Preset
from segspace.rtseg.blocks import initialise
from segspace.rtseg.network import NOMINAL_SIZE, Network
from segspace.rtseg.pieces import Piece
from segspace.rtseg.program import program
from segspace.rtseg.space import Space

_FORMAT: Final = "rtseg supernet 1"


class Supernet(nn.Module):
    """The shared weights of a space's networks.

    ``supernet(images, arch)`` runs one of them: images (N, 3, H, W) -> logits (N, classes, H, W). In training
    mode the running statistics of the widths in use follow every network that runs, so a network that is to
    be evaluated should be extracted and recalibrated first (`recalibrate`).

    Parameters
    ----------
    preset : Preset
        The space.
    classes : int
        Number of classes, at least 1.
    seed : int, optional
        Of the weights; the global random state is left as it was. Without it they come from the global
        generator.

    References
    ----------
    .. [1] J. Yu, T. Huang (2019), Universally slimmable networks, arXiv:1903.05134.
    .. [2] W. Chen et al. (2020), FasterSeg, arXiv:1912.10917.
    """

    def __init__(self, preset: Preset, classes: int, seed: int | None = None) -> None:
        super().__init__()
        if classes < 1:
            raise ConfigError(f"classes = {classes}: expected at least 1")
        self.preset, self.classes = preset, classes
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for slot, widest_first in slots(preset, classes).items():
            for piece in widest_first:
                self._keep_missing(slot, piece, generator)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        network = _plan(arch, self.classes).network.train(self.training)
        out: Tensor = torch.func.functional_call(network, self.slices(arch), (x,), strict=True)
        return out

    def slices(self, arch: Arch) -> dict[str, Tensor]:
        """Return the state of the network of ``arch``, by the names it has there, as views of the store.

        Raises
        ------
        ConfigError
            If ``arch`` is of another space.
        """
        if arch.preset != self.preset:
            raise ConfigError(f"arch {str(arch)!r} is not of the supernet's preset {self.preset.name!r}")
        views = {}
        for name, (key, part) in _plan(arch, self.classes).slices.items():
            stored = self._parameters[key] if key in self._parameters else self._buffers[key]
            assert stored is not None
            views[name] = stored[part] if part else stored  # running counts have no dimension
        return views

    def extract(self, arch: Arch) -> Network:
        """Return the network of ``arch`` with a copy of its weights, in the supernet's mode."""
        views = self.slices(arch)
        device = next(iter(views.values())).device
        network = _on_meta(arch, self.classes).to_empty(device=device).train(self.training)
        network.load_state_dict({name: view.detach() for name, view in views.items()})
        return network

    def save(self, path: Path) -> None:
        """Write weights, preset and number of classes to a safetensors file, all or nothing.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        what = {"format": _FORMAT, "preset": json.dumps(asdict(self.preset)), "classes": str(self.classes)}
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file(self.state_dict(), partial, metadata=what)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{path}: cannot be written: {error}") from None
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Supernet:
        """Return the supernet of a file that `save` wrote.

        Raises
        ------
        ConfigError
            If it is no such file.
        """
        try:
            with safe_open(path, framework="pt") as file:
                what = file.metadata() or {}
            if what.get("format") != _FORMAT:
                raise ConfigError(
                    f"{path}: expected a file of format {_FORMAT!r}, got {what.get('format')!r}"
                )
            supernet = cls(_preset(what["preset"]), int(what["classes"]), seed=0)
            supernet.load_state_dict(load_file(path))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{path}: no supernet can be read from it: {error}") from None
        return supernet

    def _keep_missing(self, slot: str, piece: Piece, generator: torch.Generator | None) -> None:
        for local, module in _with_tensors(piece):
            if isinstance(module, nn.BatchNorm2d):
                fresh: nn.Module = nn.BatchNorm2d(module.num_features)
            elif _key(slot, local, "weight", module) not in self._parameters:
                fresh = copy.deepcopy(module).to_empty(device="cpu")
                initialise(fresh, generator)
            else:
                continue
            for name, parameter in fresh.named_parameters():
                self.register_parameter(_key(slot, local, name, module), parameter)
            for name, buffer in fresh.named_buffers():
                self.register_buffer(_key(slot, local, name, module), buffer)


def slots(preset: Preset, classes: int) -> dict[str, list[Piece]]:
    """Return the pieces that fit each slot of a space: every width once, the widest first."""
    widest_first = preset.widths[::-1]
    found: dict[str, list[Piece]] = {}

    def add(name: str, op: str, c_in: Sequence[Sequence[int]], c_out: Sequence[int], scales: _Scales) -> None:
        sizes = tuple((NOMINAL_SIZE[0] // scale, NOMINAL_SIZE[1] // scale) for scale in scales[:-1])
        stride = scales[-1] // scales[-2]
        pieces = [Piece(op, tuple(c), out, stride, sizes) for c, out in zip(c_in, c_out, strict=True)]
        found[_slot(name, pieces[0])] = pieces

    for k, (c, out) in enumerate(zip((3, *preset.stem), preset.stem, strict=False)):
        add(f"stem.{k}", "conv3x3", [(c,)], [out], (1 << k, 2 << k))
    for path, k, before, after in _positions(preset):
        # the trunk's first layer follows the stem, every other one a layer of any width
        c_in = [preset.stem[-1] if (path, k) == ("trunk", 0) else w << before for w in widest_first]
        c_out = [w << after for w in widest_first]
        for op in OPS.values():
            add(f"{path}.{k}", op, [(c,) for c in c_in], c_out, (8 << before, 8 << after))
    head = [preset.head]
    for detail in range(MOST_HALVINGS["detail"] + 1):
        at = 8 << detail
        for deep in range(detail + 1, MOST_HALVINGS["deep"] + 1):
            widest = [widest_first[0] << deep, widest_first[0] << detail]
            add("head.fuse", "fuse", [widest], head, (8 << deep, at, at))
        add("head.refine", "conv3x3", [head], head, (at, at))
        add("head.classifier", "classifier", [head], [classes], (at, at))
    return found


def sandwich(space: Space, rng: np.random.Generator) -> list[Arch]:
    """Return the networks of one step: one at its largest widths, the same at its smallest, two as drawn."""
    first = space.diverse(rng)
    last = len(space.settings.widths) - 1
    return [at_width(first, last), at_width(first, 0), space.diverse(rng), space.diverse(rng)]


def at_width(arch: Arch, width: int) -> Arch:
    """Return the arch with every layer at one width number; skips that become identities are left out."""
    return Arch.of(arch.preset, [[layer._replace(width=width) for layer in path] for path in arch.paths])


def sandwich_step(
    supernet: Supernet,
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    space: Space,
    rng: np.random.Generator,
) -> float:
    """Add the gradients of one step by the sandwich rule and return the mean loss.

    The optimiser's ``zero_grad(set_to_none=True)`` before and ``step`` after are the caller's; weights that
    no network of the step used have no gradient then, and stay as they are.

    Parameters
    ----------
    supernet : Supernet
        In training mode.
    images, labels : Tensor
        Batch (N, 3, H, W) and its labels, on the supernet's device.
    loss : callable
        ``(logits, labels) -> scalar``.
    space : Space
        Of the supernet's preset.
    rng : Generator
        Draws the networks (`sandwich`).
    """
    archs = sandwich(space, rng)
    total = 0.0
    for arch in archs:
        value = loss(supernet(images, arch), labels) / len(archs)
        value.backward()
        total += float(value.detach())
    return total


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of batch normalisation to the mean over batches, in place.

    Parameters
    ----------
    network : Module
        Such as ``supernet.extract(arch)``; its mode stays what it was.
    batches : iterable of Tensor
        Images as the network takes them; all batches count alike.

    Raises
    ------
    ConfigError
        If there is no batch.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    modes = [(m, m.training) for m in network.modules()]
    momenta = [m.momentum for m in norms]
    network.eval()
    n_batches = 0
    try:
        for norm in norms:
            norm.train()
            norm.momentum = None  # a cumulative mean
        for images in batches:
            if not n_batches:
                for norm in norms:
                    norm.reset_running_stats()
            network(images)
            n_batches += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
    if not n_batches:
        raise ConfigError("recalibrate: expected at least one batch of images")


_Scales = tuple[int, ...]
"""Denominators of the resolutions of the inputs and the output."""


def _preset(text: str) -> Preset:
    """Return the preset that `save` wrote as JSON; lists are tuples."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
    }
    return Preset(**fields)


class _Plan(NamedTuple):
    """How a network runs on a store: its modules without weights, and by name the stored tensor and slice."""

    network: Network
    slices: dict[str, tuple[str, tuple[slice, ...]]]


@lru_cache(maxsize=4096)
def _with_tensors(piece: Piece) -> tuple[tuple[str, nn.Module], ...]:
    """Return the convolutions and normalisations of a piece's block by name, without weights."""
    with torch.device("meta"):
        block = piece.module()
    return tuple((n, m) for n, m in block.named_modules() if isinstance(m, nn.BatchNorm2d | nn.Conv2d))


@lru_cache(maxsize=1024)
def _plan(arch: Arch, classes: int) -> _Plan:
    network = _on_meta(arch, classes)
    slices = {}
    for step in program(arch, NOMINAL_SIZE, classes).steps:
        slot = _slot(step.name, step.piece)
        for local, module in network.get_submodule(step.name).named_modules():
            tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in tensors:
                where = ".".join(filter(None, (step.name, local, name)))
                part = tuple(slice(n) for n in tensor.shape)
                slices[where] = (_key(slot, local, name, module), part)
    return _Plan(network, slices)


def _on_meta(arch: Arch, classes: int) -> Network:
    with torch.device("meta"):
        return Network(program(arch, NOMINAL_SIZE, classes))


def _slot(name: str, piece: Piece) -> str:
    """Return the name of the slot that a piece at the nominal size takes at a place in the network."""
    scales = "+".join(str(NOMINAL_SIZE[0] // height) for height, _ in piece.sizes)
    return f"{name.replace('.', '/')}/{piece.op}/{scales}>{NOMINAL_SIZE[0] // piece.out[0]}"


def _key(slot: str, local: str, name: str, module: nn.Module) -> str:
    """Return the name in the store of a tensor of a block's module; normalisation has one for every width."""
    width = f"@{module.num_features}" if isinstance(module, nn.BatchNorm2d) else ""
    return "/".join(filter(None, (slot, local.replace(".", "/"), name))) + width


def _positions(preset: Preset) -> Iterator[tuple[str, int, int, int]]:
    """Yield path, position and halvings before and after it, for every place that a layer can take."""
    for path in PATHS:
        most = MOST_HALVINGS[path]
        starts = 0 if path == "trunk" else MOST_HALVINGS["trunk"]
        for k in range(preset.longest):
            for before in range(min(starts + k, most) + 1):
                for after in range(before, min(before + 1, most) + 1):
                    yield path, k, before, after
