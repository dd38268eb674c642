"""Pictures as a network sees them: random scale, crop and flip; colours changed; normalised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from segspace.datasets.base import IGNORED
from segspace.datasets.pictures import Pictures
from segspace.recipe import Recipe

MEAN: Final = (0.485, 0.456, 0.406)
SPREAD: Final = (0.229, 0.224, 0.225)
"""Of ImageNet's channels, as published networks expect them."""
Item: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Crops(TorchDataset[Item]):
    """Random windows of pictures; item ``(epoch, i)`` depends on the seed, the epoch and ``i`` alone.

    An item is the window (3, h, w) and its labels (h, w), uint8, and how its colours are to be changed (3,).
    """

    def __init__(self, pictures: Pictures, recipe: Recipe, seed: int) -> None:
        self.pictures, self.recipe, self.seed = pictures, recipe, seed

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Return the window of picture ``i`` in an epoch."""
        epoch, i = key
        rng = np.random.default_rng([self.seed, epoch, i])
        picture, labels = self.pictures[i]
        window, classes = random_window(picture.numpy(), labels.numpy(), self.recipe, rng)
        jitter = rng.uniform(-self.recipe.jitter, self.recipe.jitter, 3).astype(np.float32)
        chw = np.ascontiguousarray(window.transpose(2, 0, 1))
        return (
            torch.from_numpy(chw),
            torch.from_numpy(np.ascontiguousarray(classes)),
            torch.from_numpy(jitter),
        )


def random_window(
    picture: NDArray[np.uint8], labels: NDArray[np.uint8], recipe: Recipe, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a window (h, w, 3) of a picture at a random scale, and its labels; uint8.

    At scale 1 the whole picture, whatever its stored size, counts as ``recipe.size``. What lies outside is
    mean grey and ignored.
    """
    scale = float(np.exp(rng.uniform(*np.log(recipe.scale))))
    boxes, slots = [], []
    for stored, full, seen in zip(labels.shape, recipe.size, recipe.window, strict=True):
        length = max(1, round(full * scale))  # of the whole picture at this scale
        shown = min(length, seen)
        start, slot = rng.uniform(0, length - shown), int(rng.integers(0, seen - shown + 1))
        boxes.append((start * stored / length, min(stored, (start + shown) * stored / length)))
        slots.append(slice(slot, slot + shown))
    (top, bottom), (left, right) = boxes
    rows, columns = slots
    size, box = (columns.stop - columns.start, rows.stop - rows.start), (left, top, right, bottom)
    window = np.empty((*recipe.window, 3), np.uint8)
    window[:] = np.round(255 * np.array(MEAN))
    classes = np.full(recipe.window, IGNORED, np.uint8)
    shown_part = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, box)
    its_classes = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST, box)
    window[rows, columns], classes[rows, columns] = np.asarray(shown_part), np.asarray(its_classes)
    if recipe.flip and rng.random() < 0.5:
        window, classes = window[:, ::-1], classes[:, ::-1]
    return window, classes


def stored_size(recipe: Recipe) -> Callable[[tuple[int, int]], tuple[int, int]]:
    """Return the size to keep a picture in: no more than the largest scale shows."""
    height, width = (int(np.ceil(length * recipe.scale[1])) for length in recipe.size)
    return partial(_at_most, height, width)


def _at_most(height: int, width: int, native: tuple[int, int]) -> tuple[int, int]:
    return min(native[0], height), min(native[1], width)


def recoloured(images: Tensor, jitter: Tensor) -> Tensor:
    """Return images (n, 3, h, w) in [0, 1] with changed brightness, contrast and saturation.

    ``jitter`` (n, 3) has the relative change of each.
    """
    brightness, contrast, saturation = (1 + part.view(-1, 1, 1, 1) for part in jitter.unbind(1))
    images = images * brightness
    grey = images.mean(1, keepdim=True)
    middle = grey.mean((2, 3), keepdim=True)
    images = grey + (images - grey) * saturation
    return (middle + (images - middle) * contrast).clamp(0, 1)


def normalised(images: Tensor) -> Tensor:
    """Return images (n, 3, h, w) of [0, 1] as the network takes them."""
    mean, spread = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, SPREAD))
    return (images - mean) / spread
