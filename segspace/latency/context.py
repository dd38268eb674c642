"""How one piece is measured so that the pieces of a network add up.

Alone in a session a piece pays what it does not pay inside a network: the call of the session, and, in a
runtime with a layout of its own, the conversion of its inputs and outputs. So copies of the piece (weights of
their own) stand side by side behind one convolution that makes the input, and in front of one that takes the
output; the latency of a piece is that of many copies less that of one, divided by the copies more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from segspace.rtseg.pieces import Piece

IMAGE_CHANNELS = 3


class Copies(nn.Module):
    """A piece, several times side by side.

    Parameters
    ----------
    piece : Piece
        What is measured.
    copies : int
        How often.
    """

    def __init__(self, piece: Piece, copies: int) -> None:
        super().__init__()
        self.feeds = nn.ModuleList(_Feed(channels) for channels in piece.c_in)
        self.copies = nn.ModuleList(piece.module() for _ in range(copies))
        self.sinks = nn.ModuleList(_Sink(piece.c_out, piece.out) for _ in range(copies))

    def forward(self, *images: Tensor) -> Tensor:
        """Return something small that needs every copy; `images` (N, 3, H, W), one for each input."""
        values = [feed(image) for feed, image in zip(self.feeds, images, strict=True)]
        ends = [sink(copy(*values)) for copy, sink in zip(self.copies, self.sinks, strict=True)]
        return torch.cat(ends, 1)


def images_for(piece: Piece, batch: int) -> tuple[Tensor, ...]:
    """Return one image (N, 3, H, W) for each input of a piece, always the same."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(batch, IMAGE_CHANNELS, *size, generator=generator) for size in piece.sizes)


class _Feed(nn.Module):
    """Makes an input from an image, as a network does: by a convolution; the image itself is fed as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.is_image = channels == IMAGE_CHANNELS
        self.convolution = None if self.is_image else nn.Conv2d(IMAGE_CHANNELS, channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        return image if self.convolution is None else torch.relu(self.convolution(image))


class _Sink(nn.Module):
    """Needs the whole output in the runtime's own layout, and costs little: a 1 x 1 convolution at one position."""

    def __init__(self, channels: int, out: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 8, 1, stride=out)

    def forward(self, value: Tensor) -> Tensor:
        return self.convolution(value)
