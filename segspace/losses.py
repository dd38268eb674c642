"""What training minimises: cross-entropy over labelled pixels, the hard ones, and a teacher's opinion."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from segspace.datasets.base import IGNORED

_LEAST_SHARE = 16  # hard pixels are at least one in so many


def segmentation_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, ohem: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of labelled pixels.

    Parameters
    ----------
    logits : Tensor
        (n, classes, h, w).
    labels : Tensor of int64
        (n, h, w); `IGNORED` does not count.
    weights : Tensor, optional
        Of each class.
    ohem : float
        If above 0, only pixels whose class has a probability below it count, and at least the hardest
        sixteenth (Shrivastava et al. 2016, arXiv:1604.03540).
    """
    logits, known = logits.contiguous(), labels != IGNORED
    if not bool(known.any()):
        return logits.sum() * 0
    if not ohem:
        return nn.functional.cross_entropy(logits, labels, weights, ignore_index=IGNORED)
    each = nn.functional.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="none")
    each = each[known]
    hardest = each.detach().kthvalue(len(each) - len(each) // _LEAST_SHARE).values
    hard = each >= hardest.clamp(max=-math.log(ohem))
    return each[hard].mean()


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean over pixels of the softened KL(teacher, student) (Hinton et al. 2015)."""
    student, target = (
        torch.log_softmax(part.permute(0, 2, 3, 1).flatten(0, 2) / temperature, 1)
        for part in (logits, teacher)
    )
    loss = nn.functional.kl_div(student, target, reduction="batchmean", log_target=True)
    return loss * temperature**2


def class_weights(label_maps: Iterable[Tensor], classes: int, power: float) -> Tensor:
    """Return weights of mean 1: each class's share of the labelled pixels to a power."""
    counts = torch.zeros(256, dtype=torch.float64)
    for labels in label_maps:
        counts += torch.bincount(labels.flatten().int(), minlength=256)
    share = (counts[:classes] / counts[:classes].sum()).clamp(min=1e-4) ** power
    return (share / share.mean()).float()
