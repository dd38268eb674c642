"""A piece: one block at fixed channels and sizes. Its text is the key of a latency table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from proxygraph.errors import ConfigError
from segspace.rtseg.blocks import BLOCKS, TWO_INPUTS

_TEXT = re.compile(r"(\w+):([0-9+]+)>([0-9]+):s([0-9]+):([0-9x+]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Piece:
    """One block with everything that decides its cost.

    Attributes
    ----------
    op : str
        Operator, a key of ``segspace.rtseg.blocks.BLOCKS``.
    c_in : tuple of int
        Channels of each input.
    c_out : int
        Channels of the output.
    stride : {1, 2}
        Stride.
    sizes : tuple of (int, int)
        Height and width of each input.

    Examples
    --------
    >>> piece = Piece.parse("conv3x3:16>24:s2:31x40")
    >>> piece.out, piece.macs
    ((16, 20), 1105920)
    """

    op: str
    c_in: tuple[int, ...]
    c_out: int
    stride: int
    sizes: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if self.op not in BLOCKS:
            raise ConfigError(f"piece {self.text()!r}: no operator {self.op!r}; known: {', '.join(BLOCKS)}")
        n_inputs = 2 if self.op in TWO_INPUTS else 1
        if not n_inputs == len(self.c_in) == len(self.sizes):
            raise ConfigError(f"piece {self.text()!r}: {self.op} has {n_inputs} input(s)")
        one = self.stride == 1 or (self.stride == 2 and self.op not in (*TWO_INPUTS, "classifier"))
        if not one or min(*self.c_in, self.c_out, *(side for size in self.sizes for side in size)) < 1:
            raise ConfigError(f"piece {self.text()!r}: expected positive numbers, stride 1 (or 2 in a layer)")

    @classmethod
    def parse(cls, text: str) -> Piece:
        """Return the piece of a text ``OP:C_IN>C_OUT:sSTRIDE:HxW``, numbers of two inputs joined by ``+``.

        Raises
        ------
        ConfigError
            If the text has another form.
        """
        match = _TEXT.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            op, c_in, c_out, stride, sizes = match.groups()
            pairs = [size.split("x") for size in sizes.split("+")]
            numbers = tuple((int(height), int(width)) for height, width in pairs)
            piece = cls(op, tuple(map(int, c_in.split("+"))), int(c_out), int(stride), numbers)
        except ValueError:
            raise ConfigError(f"piece {text!r}: expected OP:C_IN>C_OUT:sSTRIDE:HxW") from None
        if piece.text() != text:
            raise ConfigError(f"piece {text!r}: write {piece.text()!r}")
        return piece

    def text(self) -> str:
        """Return the text form; ``Piece.parse(piece.text()) == piece``."""
        c_in, sizes = "+".join(map(str, self.c_in)), "+".join(f"{h}x{w}" for h, w in self.sizes)
        return f"{self.op}:{c_in}>{self.c_out}:s{self.stride}:{sizes}"

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output: those of the last input over the stride, rounded up."""
        height, width = self.sizes[-1]
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolutions for one image."""
        return _counted(self)[0]

    @property
    def params(self) -> int:
        """Parameters."""
        return _counted(self)[1]

    def module(self) -> nn.Module:
        """Return the block, of any size; ``forward`` takes the inputs in order."""
        return BLOCKS[self.op](self.c_in, self.c_out, self.stride)

    def inputs(self, images: int = 1, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
        """Return zeros of the shapes that the module takes."""
        pairs = zip(self.c_in, self.sizes, strict=True)
        return tuple(torch.zeros(images, c, *size, device=device) for c, size in pairs)


@lru_cache(maxsize=1 << 16)
def _counted(piece: Piece) -> tuple[int, int]:
    """Return MACs and parameters."""
    positions = _positions(piece.op, piece.stride, piece.sizes)
    with torch.device("meta"):
        block = piece.module()
    macs = sum(positions[name] * conv.weight.numel() for name, conv in _convolutions(block))
    return macs, sum(p.numel() for p in block.parameters())


@lru_cache(maxsize=1 << 12)
def _positions(op: str, stride: int, sizes: tuple[tuple[int, int], ...]) -> dict[str, int]:
    """Return how many outputs per channel each convolution of a block has, by its name."""
    found: dict[str, int] = {}

    def note(name: str, out: Tensor) -> None:
        found[name] = out.shape[-2] * out.shape[-1]

    with torch.device("meta"), torch.no_grad():
        narrow = Piece(op, (1,) * len(sizes), 1, stride, sizes)
        block = narrow.module().eval()
        for name, conv in _convolutions(block):
            conv.register_forward_hook(lambda _, __, out, name=name: note(name, out))
        block(*narrow.inputs(device="meta"))
    return found


def _convolutions(block: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, module) for name, module in block.named_modules() if isinstance(module, nn.Conv2d)]
