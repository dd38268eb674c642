"""How one piece is measured so that the pieces of a network add up.

Alone in a session a piece pays what it does not pay inside a network: the call of the session and, in a
runtime with a memory layout of its own, the conversion of inputs and outputs. So a piece stands between a
convolution that makes its input and one that takes its output, several times side by side; the same without
the piece is subtracted.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from segspace.rtseg.pieces import Piece

COPIES = 3
IMAGE_CHANNELS = 3


class Carrier(nn.Module):
    """Copies of a piece, each behind convolutions of its own that make its inputs from images.

    Parameters
    ----------
    piece : Piece
        What is measured.
    loaded : bool
        Whether the copies are there; without them this is what to subtract.
    sinks : bool
        Whether each end is taken by a convolution at one position. A runtime that lays out tensors in its own
        way needs that: an output of the whole would have to be converted. For torch it is left out.
    copies : int
        How many.
    """

    def __init__(self, piece: Piece, *, loaded: bool, sinks: bool, copies: int = COPIES) -> None:
        super().__init__()
        ends = [(piece.c_out, piece.out)] if loaded else list(zip(piece.c_in, piece.sizes, strict=True))
        # weights of their own, for a runtime computes equal things once
        self.feeds = nn.ModuleList(nn.ModuleList(map(_feed, piece.c_in)) for _ in range(copies))
        self.copies = nn.ModuleList(piece.module() for _ in range(copies)) if loaded else None
        self.sinks = nn.ModuleList(_sink(c, out) for _ in range(copies) for c, out in ends) if sinks else None

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the ends; `images` (N, 3, H, W), one for each input of the piece."""
        made = [
            [feed(image) for feed, image in zip(feeds, images, strict=True)]
            for feeds in self.feeds
            if isinstance(feeds, nn.ModuleList)
        ]
        if self.copies is None:
            ends = list(chain.from_iterable(made))
        else:
            ends = [copy(*values) for copy, values in zip(self.copies, made, strict=True)]
        if self.sinks is None:
            return tuple(ends)
        return (torch.cat([sink(end) for sink, end in zip(self.sinks, ends, strict=True)], 1),)


def images_for(piece: Piece, batch: int) -> tuple[Tensor, ...]:
    """Return one image (N, 3, H, W) for each input of a piece, always the same."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(batch, IMAGE_CHANNELS, *size, generator=generator) for size in piece.sizes)


def _feed(channels: int) -> nn.Module:
    """Return what makes an input from an image; the image itself stays as it is."""
    if channels == IMAGE_CHANNELS:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(IMAGE_CHANNELS, channels, 1), nn.ReLU())


def _sink(channels: int, size: tuple[int, int]) -> nn.Module:
    """Return what takes one position of an end.

    Two positions where it can be: OpenVINO moves the stride of a 1 x 1 convolution to the one before it,
    which then computes that one position alone.
    """
    height, width = size
    kernel = (1, 2) if width > 1 else (min(2, height), 1)
    return nn.Conv2d(channels, 8, kernel, stride=size)
