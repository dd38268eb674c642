"""A training under way: network, optimizer and step, to be run, stored and continued to the bit.

Order, windows and colours of a step depend on seed and step alone, so a state is tensors and a number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from proxygraph.errors import ConfigError
from segspace.augment import Crops, Item, normalised, recoloured
from segspace.datasets.pictures import Pictures
from segspace.losses import class_weights, distillation_loss, segmentation_loss
from segspace.recipe import Recipe, learning_rate

_COUNTED = 400  # label maps that the class weights are taken from


class Training:
    """One network being trained.

    Parameters
    ----------
    network : nn.Module
        Images (n, 3, h, w) to logits (n, classes, h, w); trained in place.
    recipe : Recipe
    pictures : Pictures
        To train on.
    classes : int
    seed : int
        Of order, windows, colours and dropout.
    device : str
    workers : int
        Processes that prepare pictures; the result does not depend on it.
    teacher : nn.Module, optional
        Same classes; used if ``recipe.distill`` is above 0.

    Attributes
    ----------
    step, steps, steps_per_epoch : int
        Steps done, of the whole schedule, of an epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        pictures: Pictures,
        classes: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        workers: int = 0,
        teacher: nn.Module | None = None,
    ) -> None:
        self.recipe, self.seed, self.workers = recipe, seed, workers
        self.device = torch.device(device)
        self.layout = memory_format(network)
        self.network = _placed(network, self.device, self.layout)
        self.average = copy.deepcopy(network).eval().requires_grad_(False) if recipe.ema else None
        self.teacher = None if teacher is None else _placed(teacher, self.device, self.layout).eval()
        self.optimizer = _optimizer(network, recipe)
        self.weights = None
        if recipe.class_weight_power:
            chosen = np.linspace(0, len(pictures) - 1, min(_COUNTED, len(pictures))).round().astype(int)
            maps = (pictures[int(i)][1] for i in chosen)
            self.weights = class_weights(maps, classes, recipe.class_weight_power).to(self.device)
        self.crops = Crops(pictures, recipe, seed)
        self.step, self.steps_per_epoch = 0, max(1, len(pictures) // recipe.batch)
        self.steps = recipe.epochs * self.steps_per_epoch

    @property
    def judged(self) -> nn.Module:
        """The network that counts: the running mean if there is one."""
        return self.network if self.average is None else self.average

    def run(
        self,
        on_step: Callable[[int, int], None] | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the schedule is complete or `stop` says so; return whether it is complete.

        ``on_step(steps done, steps)`` is called after every step and ``on_epoch(epochs done, mean loss)``
        after every epoch.

        Raises
        ------
        ConfigError
            If the loss is not finite any more.
        """
        total, counted = torch.zeros((), device=self.device), 0
        for batch in self._batches():
            total, counted = total + self._stepped(batch), counted + 1
            if on_step is not None:
                on_step(self.step, self.steps)
            if self.step % self.steps_per_epoch == 0:
                mean = float(total) / counted
                if not np.isfinite(mean):
                    raise ConfigError(f"the loss is {mean} after step {self.step}: lower the learning rate")
                if on_epoch is not None:
                    on_epoch(self.step // self.steps_per_epoch, mean)
                total, counted = torch.zeros_like(total), 0
            if stop():
                break
        return self.step == self.steps

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that ``load_state`` needs to go on as if nothing had happened."""
        found = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    found[f"optimizer.{name}.{key}"] = value
        return found

    def load_state(self, found: dict[str, Tensor], step: int) -> None:
        """Continue from a state of the same recipe and network after `step` steps."""
        load_part(self.network, found, "network.")
        if self.average is not None:
            load_part(self.average, found, "average.")
        for name, parameter in self.network.named_parameters():
            start = f"optimizer.{name}."
            entries = {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}
            entries = {k: v for k, v in entries.items() if "." not in k}
            self.optimizer.state[parameter] = {k: _like(v, parameter) for k, v in entries.items()}
        self.step = step

    def _batches(self) -> Iterator[Item]:
        keys = self._keys()
        extra: dict[str, Any] = {"multiprocessing_context": "spawn"} if self.workers else {}
        loader: DataLoader[Item] = DataLoader(
            self.crops,
            batch_sampler=keys,  # keys of items need not be numbers
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator().manual_seed(self.seed),
            **extra,
        )
        return iter(loader)

    def _keys(self) -> list[list[tuple[int, int]]]:
        """Return the (epoch, picture) of every item of every batch that is left."""
        n = min(self.recipe.batch, len(self.crops))
        batches = []
        for epoch in range(self.step // self.steps_per_epoch, self.recipe.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.crops)).tolist()
            done = max(0, self.step - epoch * self.steps_per_epoch)
            batches += [
                [(epoch, i) for i in order[k * n : (k + 1) * n]] for k in range(done, self.steps_per_epoch)
            ]
        return batches

    def _stepped(self, batch: Item) -> Tensor:
        """Do one step and return its loss."""
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0]))
        images, labels, jitter = (part.to(self.device, non_blocking=True) for part in batch)
        images = normalised(recoloured(images.float() / 255, jitter)).contiguous(memory_format=self.layout)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, self.steps)
        self.network.train()
        self.optimizer.zero_grad()
        loss = self.add_gradients(images, labels.long())
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return loss

    def add_gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add the gradients of a batch, normalised images and their labels, and return its loss."""
        with autocast(self.device):
            logits = self.network(images)
            loss = segmentation_loss(logits.float(), labels, self.weights, ohem=self.recipe.ohem)
            if self.teacher is not None and self.recipe.distill:
                with torch.no_grad():
                    opinion = self.teacher(images)
                part = distillation_loss(logits.float(), opinion.float(), self.recipe.temperature)
                loss = loss + self.recipe.distill * part
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True)
        for mean, now in pairs:
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def memory_format(network: nn.Module) -> torch.memory_format:
    """Return channels-last, a third faster here, where it is safe.

    The backward pass of a channels-last 1x1 convolution with stride 2 corrupts the heap where its input
    has fewer channels than a vector register has numbers (torch 2.13, CPU: below 8 with AVX2, below 16 with
    AVX-512, on some sizes only). So none is trusted.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and max(module.stride) > 1:
            return torch.contiguous_format
    return torch.channels_last


def load_part(module: nn.Module, found: dict[str, Tensor], start: str) -> None:
    """Load the tensors whose names begin with `start` into a module.

    Raises
    ------
    ConfigError
        If they are not those of the module.
    """
    part = {name.removeprefix(start): tensor for name, tensor in found.items() if name.startswith(start)}
    try:
        module.load_state_dict(part)
    except RuntimeError as error:
        raise ConfigError(f"checkpoint of another network: {str(error).splitlines()[-1].strip()}") from None


def _placed(network: nn.Module, device: torch.device, layout: torch.memory_format) -> nn.Module:
    return network.to(device).to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a stored tensor with the parameter's device and layout: sums then run in the same order."""
    if tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a forward pass: bfloat16 on CUDA."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    def group(parameters: Iterable[nn.Parameter], decay: float) -> dict[str, Any]:
        return {"params": list(parameters), "weight_decay": decay}

    decayed = [p for p in network.parameters() if p.ndim > 1]
    spared = [p for p in network.parameters() if p.ndim <= 1]
    groups = [group(decayed, recipe.weight_decay), group(spared, 0.0)]
    groups = [one for one in groups if one["params"]]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)
