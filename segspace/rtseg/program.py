"""An arch at one image size as a straight line of pieces: what network, supernet and latency table run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxygraph.errors import ConfigError
from segspace.rtseg.arch import OPS, PATHS, Arch
from segspace.rtseg.pieces import Piece


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of a program.

    Attributes
    ----------
    name : str
        Module name, ``stem.K``, ``trunk.K``, ``deep.K``, ``detail.K`` or ``head.NAME``.
    piece : Piece
        What is computed.
    inputs : tuple of int
        Values it takes: 0 is the image, ``k + 1`` the output of step ``k``.
    """

    name: str
    piece: Piece
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order of execution; the last one gives the logits at the image's size."""

    steps: tuple[Step, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolutions for one image."""
        return sum(step.piece.macs for step in self.steps)

    @property
    def params(self) -> int:
        """Parameters."""
        return sum(step.piece.params for step in self.steps)


def program(arch: Arch, size: tuple[int, int], classes: int) -> Program:
    """Return the steps of a network.

    Parameters
    ----------
    arch : Arch
        The network.
    size : (int, int)
        Height and width of the image in pixels, at least 1; no multiple of anything is needed.
    classes : int
        Number of classes, at least 1.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    if min(size) < 1:
        raise ConfigError(f"image size {size[0]}x{size[1]}: expected at least 1x1")
    if classes < 1:
        raise ConfigError(f"classes = {classes}: expected at least 1")
    line, preset = _Line(size), arch.preset
    at = 0
    for k, channels in enumerate(preset.stem):
        at = line.add(f"stem.{k}", "conv3x3", [at], channels, 2)
    ends = []
    halvings = split_halvings = 0
    split = at
    for name, path in zip(PATHS, arch.paths, strict=True):
        at, halvings = split, split_halvings
        for k, layer in enumerate(path):
            halvings += layer.down
            channels = preset.widths[layer.width] << halvings
            at = line.add(f"{name}.{k}", OPS[layer.op], [at], channels, 1 + layer.down)
        if name == "trunk":
            split, split_halvings = at, halvings
        ends.append(at)
    _, deep, detail = ends
    at = line.add("head.fuse", "fuse", [deep, detail], preset.head)
    at = line.add("head.refine", "conv3x3", [at], preset.head)
    at = line.add("head.classifier", "classifier", [at], classes)
    line.add("head.resize", "resize", [at, 0], classes)
    return Program(tuple(line.steps))


class _Line:
    """A program under construction."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.steps: list[Step] = []
        self._values = [(3, size)]  # channels and size, the image first

    def add(self, name: str, op: str, inputs: Sequence[int], c_out: int, stride: int = 1) -> int:
        """Append a step and return the number of its value."""
        channels, sizes = zip(*(self._values[i] for i in inputs), strict=True)
        piece = Piece(op, channels, c_out, stride, sizes)
        self.steps.append(Step(name, piece, tuple(inputs)))
        self._values.append((c_out, piece.out))
        return len(self.steps)
