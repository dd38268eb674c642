"""The fixed batches that statistics are taken on: generated street scenes, or pictures of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from proxygraph.errors import ConfigError
from segspace import streetscenes
from segspace.augment import normalised
from segspace.datasets import Dataset, Pictures


def scenes(counts: Sequence[int], size: Sequence[int], draw: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return batches of generated street scenes.

    Parameters
    ----------
    counts : sequence of int
        Pictures of each batch.
    size : (int, int)
        Height and width.
    draw : int
        Other numbers, other scenes.

    Returns
    -------
    list of (Tensor, Tensor)
        Normalised pictures (n, 3, h, w), classes (n, h, w).
    """
    drawn = [streetscenes.batch(1000 + 100 * draw + i, n, *size) for i, n in enumerate(counts)]
    return [(torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in drawn]


def photographs(dataset: Dataset, counts: Sequence[int], size: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Return batches of training pictures, spread over the split, none twice; as `scenes` otherwise.

    Raises
    ------
    ConfigError
        If the split has not got that many, or its files are not in order.
    """
    wanted, source = (size[0], size[1]), dataset.split("train")
    if len(source) < sum(counts):
        raise ConfigError(f"{dataset.name}: {len(source)} training pictures, {sum(counts)} are needed")
    kept = Pictures(source, lambda _: wanted, lambda _: wanted, memory=0)  # decodes what is asked for
    order = np.random.default_rng(1000).permutation(len(kept))[: sum(counts)].tolist()
    batches = []
    for n in counts:
        chosen, order = [kept[i] for i in order[:n]], order[n:]
        images = torch.stack([image for image, _ in chosen]).permute(0, 3, 1, 2).float() / 255
        batches.append((normalised(images), torch.stack([labels for _, labels in chosen]).long()))
    return batches
