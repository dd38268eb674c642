"""Decoded pictures of a split, kept in memory as uint8 where they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from proxygraph.errors import ConfigError
from segspace.datasets.base import BadFile, Source, refuse

MEMORY: Final = 2 << 30
"""Bytes that one split may take in memory; a larger one is decoded again every time."""
Size: TypeAlias = tuple[int, int]


class Pictures:
    """Pictures of a split as tensors, in sizes that suit their use.

    Parameters
    ----------
    source : Source
    image_size, label_size : callable, optional
        The (height, width) to reduce to, given the stored one; by default that. Labels: nearest pixel.
    memory : int
        Bytes to keep at most.
    report : callable, optional
        ``(what, done, total)`` while decoding.

    Raises
    ------
    ConfigError
        If files cannot be used; all that are decoded now are listed.
    """

    def __init__(
        self,
        source: Source,
        image_size: Callable[[Size], Size] | None = None,
        label_size: Callable[[Size], Size] | None = None,
        *,
        memory: int = MEMORY,
        report: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.source, self._sizes = source, (image_size, label_size)
        self._kept: list[tuple[Tensor, Tensor]] | None = None
        first = self._one(0)
        if len(source) * sum(part.numel() for part in first) > memory:
            return
        kept, faults = [first], []
        for i in range(1, len(source)):
            try:
                kept.append(self._one(i))
            except ConfigError as error:
                faults.append(str(error).partition(": ")[2])
            if report is not None:
                report("decoding pictures", i + 1, len(source))
        refuse(faults)
        self._kept = kept

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Return picture (h, w, 3) and labels (h, w), both uint8."""
        return self._kept[i] if self._kept is not None else self._one(i)

    def _one(self, i: int) -> tuple[Tensor, Tensor]:
        try:
            images = self.source.item(i)
        except BadFile as error:
            refuse([str(error)])
            raise AssertionError from None  # refuse has raised
        ways = (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
        picture, labels = (
            _as_tensor(_resized(image, size, way))
            for image, size, way in zip(images, self._sizes, ways, strict=True)
        )
        return picture, labels


def _resized(image: Image.Image, size: Callable[[Size], Size] | None, way: Image.Resampling) -> Image.Image:
    if size is None:
        return image
    height, width = size((image.height, image.width))
    return image if (width, height) == image.size else image.resize((width, height), way)


def _as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))
