"""Training a supernet with the recipe of any network, and judging networks on the weights they share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from proxygraph.errors import ConfigError
from segspace.augment import normalised
from segspace.checkpoint import Header, read_checkpoint
from segspace.cost import cost
from segspace.datasets import Dataset, Pictures
from segspace.judging import judgement
from segspace.losses import segmentation_loss
from segspace.measured import Row
from segspace.recipe import Recipe
from segspace.rtseg.arch import Arch
from segspace.rtseg.space import Space
from segspace.rtseg.supernet import Supernet, recalibrate, sandwich_step
from segspace.training import Training, autocast, load_part, memory_format

KIND: Final = "supernet:rtseg:"
"""What the arch of a supernet's checkpoint begins with; its preset follows."""
CALIBRATION_BATCH: Final = 8


class SupernetTraining(Training):
    """The supernet of a space being trained by the sandwich rule; parameters as of `Training`.

    The networks of a step depend on seed and step alone.
    """

    network: Supernet

    def __init__(
        self, space: Space, recipe: Recipe, pictures: Pictures, classes: int, *, seed: int = 0, **more: Any
    ) -> None:
        self.space = space
        super().__init__(
            Supernet(space.settings, classes, seed=seed), recipe, pictures, classes, seed=seed, **more
        )

    def add_gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        rng = np.random.default_rng([self.seed, self.step, 0x5A])

        def loss(logits: Tensor, truth: Tensor) -> Tensor:
            return segmentation_loss(logits.float(), truth, self.weights, ohem=self.recipe.ohem)

        with autocast(self.device):
            mean = sandwich_step(self.network, images, labels, loss, self.space, rng)
        return torch.tensor(mean, device=self.device)


def trained_supernet(path: Path) -> tuple[Header, Supernet]:
    """Return the header and the weights of a supernet's checkpoint, in evaluation mode.

    Raises
    ------
    ConfigError
        If there is none, it is of something else, or its training is not complete.
    """
    header, tensors = read_checkpoint(path)
    if not header.arch.startswith(KIND):
        raise ConfigError(
            f"{path}: holds {header.arch}, no supernet; train one: python -m segspace.oneshot train"
        )
    if header.step < header.steps:
        raise ConfigError(
            f"{path}: its training stopped after step {header.step} of {header.steps}; go on with --resume"
        )
    space = Space.preset(header.arch.removeprefix(KIND))
    supernet = Supernet(space.settings, len(header.classes), seed=0)
    load_part(supernet, tensors, "network.")
    return header, supernet.eval()


class Judge:
    """Gives networks the mIoU that they have in a supernet.

    Parameters
    ----------
    supernet : Supernet
        Trained, on `device`.
    header : Header
        Of its checkpoint.
    dataset : Dataset
        Of the same classes.
    split : str
        What networks are judged on.
    batches : int
        Of training pictures that calibrate the normalisation; fewer if there are not so many pictures.
    device : str
    report : callable, optional
        ``(what, done, total)`` while pictures are decoded.
    """

    def __init__(
        self,
        supernet: Supernet,
        header: Header,
        dataset: Dataset,
        split: str,
        batches: int,
        *,
        device: str = "cpu",
        report: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.supernet, self.header, self.device = supernet, header, device
        self._size = header.recipe.size
        self._judged_on = Pictures(dataset.split(split), lambda _: self._size, report=report)
        # memory 0: only the pictures that calibrate are decoded
        train = Pictures(dataset.split("train"), lambda _: self._size, lambda _: self._size, memory=0)
        n = min(len(train), batches * CALIBRATION_BATCH)
        chosen = np.linspace(0, len(train) - 1, n).round().astype(int)
        self._seen = []
        for k, i in enumerate(chosen.tolist(), start=1):
            self._seen.append(train[i][0])
            if report is not None:
                report("decoding pictures", k, n)

    def row(self, arch: Arch) -> Row:
        """Return what a network reaches with the shared weights, its normalisation calibrated."""
        begin = time.process_time()
        network = self.supernet.extract(arch)
        network = network.to(memory_format=memory_format(network))  # type: ignore[call-overload]
        recalibrate(network, self._batches())
        found = judgement(network, self._judged_on, len(self.header.classes), device=self.device)
        spent = cost(network, self._size)
        seconds = time.process_time() - begin
        return Row(
            str(arch),
            self.header.seed,
            found.miou,
            found.accuracy,
            seconds,
            spent.params,
            spent.macs,
            found.class_iou,
        )

    def _batches(self) -> Iterator[Tensor]:
        for at in range(0, len(self._seen), CALIBRATION_BATCH):
            images = torch.stack(self._seen[at : at + CALIBRATION_BATCH]).to(self.device)
            yield normalised(images.permute(0, 3, 1, 2).float() / 255)
