"""Measure the ground truth of the ``streetscenes`` problem: train micro networks, write their mIoU.

    python tools/train_streetscenes.py run      # resumable; one row per training in WORK/rows.csv
    python tools/train_streetscenes.py export   # rows -> packaged table and provenance

Every training is one process with one thread, from a seeded start to learning rate zero; what counts is
the last step, never the best one. The same recipe, arch and seed give the same row on the same machine.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.stats import spearmanr
from torch import Tensor, nn

from proxygraph.errors import ConfigError, ParseError, ProxyGraphError
from segspace import streetscenes
from segspace.transnas101 import Arch, SegmentationNet, all_archs, build

PACKAGED: Final = Path(__file__).parents[1] / "segspace" / "data" / "streetscenes_micro.csv"
WORK: Final = Path("build") / "streetscenes"
SAMPLE_SEED: Final = 2026  # of the choice of networks
TRAIN_SCENES_SEED: Final = 1
VAL_SCENES_SEED: Final = 2


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training depends on besides its arch and seed."""

    scenes_version: int = streetscenes.VERSION
    size: int = 64
    stem_stride: int = 2
    width: int = 8
    train_scenes: int = 1024
    val_scenes: int = 256
    batch: int = 16
    steps: int = 420
    optimiser: str = "AdamW"
    schedule: str = "one-cycle, cosine, 25 % warm-up, to zero"
    peak_lr: float = 0.012
    weight_decay: float = 0.01
    class_weights: str = "share ** -0.5, mean 1"

    @property
    def digest(self) -> dict[str, Any]:
        """Return the recipe as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one training: percent, and CPU seconds."""

    arch: str
    seed: int
    miou: float
    accuracy: float
    seconds: float
    class_iou: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scenes:
    """Training and validation scenes, normalised, as tensors."""

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor


HEADER: Final = ("arch", "seed", "miou", "accuracy", "seconds", *(f"iou_{name}" for name in streetscenes.CLASSES))


def scenes(recipe: Recipe) -> Scenes:
    """Return the recipe's scenes; training and validation scenes have different seeds."""
    side = recipe.size
    pairs = (
        streetscenes.batch(TRAIN_SCENES_SEED, recipe.train_scenes, side, side),
        streetscenes.batch(VAL_SCENES_SEED, recipe.val_scenes, side, side),
    )
    tensors = [torch.from_numpy(array) for pair in pairs for array in pair]
    return Scenes(*tensors)


def confusion(network: nn.Module, images: Tensor, labels: Tensor, n_classes: int) -> NDArray[np.int64]:
    """Return the counts [true class, predicted class] over all pixels, in evaluation mode."""
    network.eval()
    counts = torch.zeros(n_classes * n_classes, dtype=torch.int64)
    with torch.no_grad():
        for x, y in zip(images.split(32), labels.split(32), strict=True):
            predicted = network(x).argmax(1)
            counts += torch.bincount((y * n_classes + predicted).flatten(), minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).numpy()


def class_ious(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection over union of each class; NaN where a class is neither there nor predicted."""
    both = np.diag(counts).astype(np.float64)
    either = counts.sum(0) + counts.sum(1) - both
    return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


def fitted(network: SegmentationNet, recipe: Recipe, data: Scenes, seed: int) -> SegmentationNet:
    """Train ``network`` in place by the recipe's whole schedule and return it."""
    rng = np.random.default_rng([seed, 77])
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.peak_lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_lr, total_steps=recipe.steps + 1, pct_start=0.25, final_div_factor=1e9
    )
    share = torch.bincount(data.train_labels.flatten(), minlength=len(streetscenes.CLASSES)).double()
    weights = (share / share.sum()).clamp(min=1e-4) ** float(recipe.class_weights.split()[2].strip(","))
    weights = (weights / weights.mean()).float()
    network.train()
    order = np.empty(0, np.int64)
    for _ in range(recipe.steps):
        if len(order) < recipe.batch:
            order = rng.permutation(len(data.train_images))
        chosen, order = torch.from_numpy(order[: recipe.batch]), order[recipe.batch :]
        images, labels = data.train_images[chosen], data.train_labels[chosen]
        flip = torch.from_numpy(rng.random(len(chosen)) < 0.5)
        images[flip], labels[flip] = images[flip].flip(-1), labels[flip].flip(-1)
        logits = network(images.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        loss = nn.functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network


def trained_row(arch: Arch, seed: int, recipe: Recipe, data: Scenes) -> Row:
    """Return what one training gives on the validation scenes."""
    begin = time.process_time()
    n_classes = len(streetscenes.CLASSES)
    network = build(arch, classes=n_classes, width=recipe.width, stem_stride=recipe.stem_stride, seed=seed)
    network = fitted(network.to(memory_format=torch.channels_last), recipe, data, seed)  # type: ignore[call-overload]
    counts = confusion(network, data.val_images, data.val_labels, n_classes)
    ious = class_ious(counts)
    accuracy = float(np.diag(counts).sum() / counts.sum())
    seconds = time.process_time() - begin
    return Row(str(arch), seed, 100 * float(np.nanmean(ious)), 100 * accuracy, seconds, tuple((100 * ious).tolist()))
