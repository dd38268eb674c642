"""The data set ``streetscenes``: generated, the same everywhere, no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from segspace import streetscenes as scenes
from segspace.datasets.base import Dataset

SEEDS = {"train": 1, "val": 2, "test": 3}


@dataclass(frozen=True)
class Scenes:
    """The first `n` scenes of a seed."""

    seed: int
    n: int
    size: tuple[int, int]

    def __len__(self) -> int:
        """Return how many scenes there are."""
        return self.n

    def name(self, i: int) -> str:
        """Return seed and number."""
        return f"scene-{self.seed}-{i:04}"

    def item(self, i: int) -> tuple[Image.Image, Image.Image]:
        """Return scene `i` with its labels; none is ignored."""
        seed = int(np.random.SeedSequence(self.seed).generate_state(i + 1, np.uint64)[i])
        image, labels = scenes.scene(seed, *self.size)
        return Image.fromarray(image), Image.fromarray(labels)


def streetscenes(size: tuple[int, int], train: int, val: int) -> Dataset:
    """Return `train` and `val` (also as ``test``) generated scenes of ``size`` (height, width)."""
    counts = {"train": train, "val": val, "test": val}
    return Dataset(
        "streetscenes",
        f"streetscenes version {scenes.VERSION}, {len(scenes.CLASSES)} classes, "
        f"{size[0]}x{size[1]}, {train} train and {val} val scenes",
        scenes.CLASSES,
        scenes.PALETTE,
        {name: Scenes(SEEDS[name], n, size) for name, n in counts.items()},
    )
