"""How a network is trained, as one frozen value; and the learning rate that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from proxygraph.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training depends on besides network, data and seed.

    Attributes
    ----------
    size : (int, int)
        Height and width of a whole picture at scale 1, and what the network sees when it is judged.
    crop : (int, int)
        What it sees in training; ``(0, 0)`` stands for `size`.
    epochs, batch : int
        The last, incomplete batch of an epoch is left out.
    optimizer : {"sgd", "adamw"}
    lr, weight_decay, momentum : float
        Peak learning rate; decay, which spares biases and norms; momentum of SGD (Nesterov).
    schedule : {"poly", "cosine"}
        To zero: ``(1 - t) ** 0.9`` (Liu et al. 2015) or half a cosine (Loshchilov & Hutter 2017).
    warmup : float
        Share of the steps in which the rate rises from zero.
    ohem : float
        0 for plain cross-entropy; else pixels with a probability below it for their class count, and at least
        a sixteenth of all (Shrivastava et al. 2016).
    class_weight_power : float
        Weight of a class: its share of the pixels to this power, scaled to mean 1; 0 for none.
    ema : float
        Decay of the running mean of the weights, which is then judged; 0 for none.
    scale : (float, float)
        Range of random scales.
    flip : bool
        Mirror half of the pictures.
    jitter : float
        Brightness, contrast and saturation change by up to this share.
    distill, temperature : float
        Weight of the teacher's loss, and its temperature (Hinton et al. 2015).
    """

    size: tuple[int, int]
    crop: tuple[int, int] = (0, 0)
    epochs: int = 30
    batch: int = 8
    optimizer: str = "adamw"
    lr: float = 4e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.1
    ohem: float = 0.0
    class_weight_power: float = 0.0
    ema: float = 0.0
    scale: tuple[float, float] = (0.75, 1.5)
    flip: bool = True
    jitter: float = 0.3
    distill: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        at_least_one = {"size": min(self.size), "epochs": self.epochs, "batch": self.batch}
        for name, value in at_least_one.items():
            if value < 1:
                raise ConfigError(f"{name} = {value}: expected at least 1")
        if (self.crop[0] > 0) != (self.crop[1] > 0) or min(self.crop) < 0:
            raise ConfigError(f"crop = {self.crop}: expected two numbers above 0, or (0, 0)")
        for name, known in (("optimizer", ("sgd", "adamw")), ("schedule", ("poly", "cosine"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = {getattr(self, name)!r}: expected {' or '.join(known)}")
        for name in ("lr", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected a number above 0")
        for name in ("weight_decay", "distill"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected a number not below 0")
        for name in ("momentum", "warmup", "ohem", "ema", "jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected a number in [0, 1)")
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise ConfigError(f"scale = {self.scale}: expected low and high within [0.1, 10]")

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of what the network sees in training."""
        return self.crop if self.crop[0] else self.size

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them; ``Recipe.from_json`` takes them back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Recipe:
        """Return the recipe of ``to_json``."""
        names = {field.name for field in fields(cls)}
        if set(found) != names:
            odd = ", ".join(sorted(names ^ set(found)))
            raise ConfigError(f"recipe of another version of this program: fields {odd}")
        fixed: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return cls(**fixed)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the rate of step ``step`` (from 0) of ``steps``: a linear rise, then down to zero."""
    rise = round(recipe.warmup * steps)
    if step < rise:
        return recipe.lr * (step + 1) / (rise + 1)
    t = (step - rise) / max(1, steps - rise)
    return recipe.lr * ((1 - t) ** 0.9 if recipe.schedule == "poly" else (1 + math.cos(math.pi * t)) / 2)
