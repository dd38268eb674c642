"""What the search needs of a space, and the real-time segmenters as such a space.

A network is its arch text throughout: that is what a database keeps and what no network is scored twice by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from segspace.latency.table import LatencyTable, Share, Size
from segspace.rtseg.arch import Arch
from segspace.rtseg.program import program
from segspace.rtseg.space import Space


class SearchSpace(Protocol):
    """Networks by their texts. Equal networks have equal texts; every function takes and gives valid ones."""

    @property
    def cost_name(self) -> str:
        """Name of the cost with its unit, such as ``latency_ms``: a column of the results."""
        ...

    def sample(self, rng: np.random.Generator) -> str:
        """Return a network to start from."""
        ...

    def mutate(self, arch: str, rng: np.random.Generator) -> str:
        """Return a network next to this one."""
        ...

    def crossover(self, one: str, other: str, rng: np.random.Generator) -> str:
        """Return a network between two."""
        ...

    def cost(self, arch: str) -> float:
        """Return what is minimised, NaN if it is not known. Asked of more networks than are scored."""
        ...

    def size(self, arch: str) -> tuple[int, int]:
        """Return multiply-accumulates and parameters."""
        ...


@dataclass(frozen=True)
class Segmenters:
    """The space ``rtseg``; its cost is the latency that a table predicts.

    Attributes
    ----------
    preset : str
        Name of the preset.
    table : LatencyTable
        With the pieces of the space and a calibration, for the size and number of classes.
    image : (int, int)
        Height and width of the image.
    classes : int
        Number of classes.
    """

    preset: str
    table: LatencyTable
    image: Size
    classes: int

    cost_name = "latency_ms"

    @cached_property
    def space(self) -> Space:
        """The networks."""
        return Space.preset(self.preset)

    def sample(self, rng: np.random.Generator) -> str:
        """Return a network, small and large ones alike: nearly all are large, and few of them fast enough."""
        return str(self.space.diverse(rng))

    def mutate(self, arch: str, rng: np.random.Generator) -> str:
        """Return a network one edit away."""
        return str(self.space.mutate(Arch.parse(arch), rng))

    def crossover(self, one: str, other: str, rng: np.random.Generator) -> str:
        """Return a network whose paths begin as one parent's and go on as the other's."""
        return str(self.space.crossover(Arch.parse(one), Arch.parse(other), rng))

    def cost(self, arch: str) -> float:
        """Return the predicted latency in ms; NaN if the table has not got one of the pieces."""
        network = Arch.parse(arch)
        if self.table.missing(network, self.image, self.classes):
            return float("nan")
        return self.table.predict(network, self.image, self.classes)

    def shares(self, arch: str) -> list[Share]:
        """Return what each step of a network takes by the table, not calibrated."""
        return self.table.shares(Arch.parse(arch), self.image, self.classes)

    def size(self, arch: str) -> tuple[int, int]:
        """Return multiply-accumulates and parameters."""
        steps = program(Arch.parse(arch), self.image, self.classes)
        return steps.macs, steps.params
