"""How good a network is: whole pictures, one scale, at the size of the label maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segspace.augment import normalised
from segspace.datasets.base import IGNORED
from segspace.datasets.pictures import Pictures
from segspace.training import memory_format


@dataclass(frozen=True)
class Judgement:
    """What a network does on a split; shares in percent.

    Attributes
    ----------
    miou : float
        Mean over classes that are there or predicted.
    class_iou : tuple of float
        NaN for a class that is neither.
    accuracy : float
        Of labelled pixels.
    confusion : ndarray of int64, shape (classes, classes)
        Pixels by true and predicted class.
    """

    miou: float
    class_iou: tuple[float, ...]
    accuracy: float
    confusion: NDArray[np.int64]


def judgement(
    network: nn.Module,
    pictures: Pictures,
    classes: int,
    *,
    device: str = "cpu",
    report: Callable[[str, int, int], None] | None = None,
) -> Judgement:
    """Return how well the network labels all pixels of a split, pooled; the network is left in its mode.

    Parameters
    ----------
    network : nn.Module
        On `device`.
    pictures : Pictures
        Images in the size that the network sees, labels in full size.
    """
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(classes, average="none", ignore_index=IGNORED, validate_args=False)
    metric = metric.to(device)
    before = network.training
    network.eval()
    for i in range(len(pictures)):
        image, labels = pictures[i]
        metric.update(prediction(network, image, labels.shape, device)[None], labels[None].long().to(device))
        if report is not None:
            report("evaluating", i + 1, len(pictures))
    network.train(before)
    counts = metric.confmat.cpu().numpy().astype(np.int64)
    ious = metric.compute().double().cpu().numpy()
    there = counts.sum(0) + counts.sum(1) > 0
    ious = np.where(there, 100 * ious, np.nan)
    accuracy = 100 * float(np.diag(counts).sum() / max(1, counts.sum()))
    return Judgement(float(np.nanmean(ious)), tuple(ious.tolist()), accuracy, counts)


@torch.no_grad()
def prediction(network: nn.Module, image: Tensor, size: tuple[int, ...], device: str = "cpu") -> Tensor:
    """Return the classes, shape `size`, of a uint8 picture (H, W, 3): logits are resized, not classes."""
    batch = normalised(image.to(device).permute(2, 0, 1)[None].float() / 255)
    logits: Tensor = network(batch.contiguous(memory_format=memory_format(network))).float()
    if logits.shape[-2:] != size:
        logits = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits[0].argmax(0)
