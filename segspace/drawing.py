"""Pictures of predictions: image, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from proxygraph.errors import ConfigError
from segspace.datasets.base import IGNORED

_GAP = 4  # white pixels between the parts


def triptych(
    image: Image.Image,
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    palette: Sequence[tuple[int, int, int]],
) -> Image.Image:
    """Return image · truth · prediction at the size of the label maps; ignored pixels are black."""
    height, width = truth.shape
    parts = [image.resize((width, height)), coloured(truth, palette), coloured(predicted, palette)]
    drawn = Image.new("RGB", (3 * width + 2 * _GAP, height), "white")
    for k, part in enumerate(parts):
        drawn.paste(part, (k * (width + _GAP), 0))
    return drawn


def parts_of(drawn: Image.Image) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return image, truth and prediction of a `triptych`.

    Raises
    ------
    ConfigError
        If it cannot be one.
    """
    width, rest = divmod(drawn.width - 2 * _GAP, 3)
    if width < 1 or rest:
        raise ConfigError(f"{drawn.width} pixels wide: not three pictures side by side")
    image, truth, predicted = (
        drawn.crop((left, 0, left + width, drawn.height)) for left in (k * (width + _GAP) for k in range(3))
    )
    return image, truth, predicted


def coloured(labels: NDArray[np.integer], palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Return a label map in colours."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORED] = 0
    return Image.fromarray(table[labels])
