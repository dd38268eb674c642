"""Pictures of predictions: image, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def coloured(labels: NDArray[np.integer], palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Return a label map in colours."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORED] = 0
    return Image.fromarray(table[labels])
