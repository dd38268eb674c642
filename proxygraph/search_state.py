"""What a search is at one moment: the formulas alive, what it remembers, what it counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from proxygraph.archive import HallOfFame
from proxygraph.compact.breed import KINDS
from proxygraph.compact.forest import Forest
from proxygraph.compact.keys import KeySet
from proxygraph.rank import Floats

COUNTERS: Final = ("proposed", "evaluated", "invalid", "oversize", "screened", "structural", "algebraic")
COUNTERS_AFTER: Final = ("numeric", "rank", "forbidden", "fitted")


@dataclass(frozen=True, eq=False)
class Living:
    """The formulas alive, one entry each.

    Attributes
    ----------
    trees : Forest
    key, code : ndarray of uint64
        Key of the tree; hash of the order (or of the values) it gives the rows.
    size : ndarray of int32
        Distinct nodes.
    fitness : ndarray of float64
    """

    trees: Forest
    key: NDArray[np.uint64]
    code: NDArray[np.uint64]
    size: NDArray[np.int32]
    fitness: Floats

    @classmethod
    def none(cls, capacity: int) -> Living:
        """Return an empty population."""
        empty = np.zeros(0, np.uint64)
        return cls(Forest.empty(0, capacity), empty, empty, np.zeros(0, np.int32), np.zeros(0))

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: Any) -> Living:
        """Return the chosen ones."""
        return Living(
            self.trees.take(rows), self.key[rows], self.code[rows], self.size[rows], self.fitness[rows]
        )

    def joined(self, other: Living) -> Living:
        """Return these and others."""
        return Living(
            self.trees.joined(other.trees),
            np.concatenate([self.key, other.key]),
            np.concatenate([self.code, other.code]),
            np.concatenate([self.size, other.size]),
            np.concatenate([self.fitness, other.fitness]),
        )


@dataclass(frozen=True, eq=False)
class SearchState:
    """Everything a search is at one moment. A step takes over the sets: a state can be stepped once.

    Attributes
    ----------
    generation : int
    population : Living
    hall : HallOfFame
    known : KeySet
        Keys of all trees met so far: none is scored twice.
    classes : KeySet
        Codes of all orders met so far, with the size of the smallest formula that gives each.
    counters : mapping of str to int
    last_gain, renewed : int
        Generation of the last better formula, and of the last restart.
    credit : ndarray of float64, shape (2, 7)
        For each of `breed.KINDS`: new children made lately, and how many of them survived.
    fitted : KeySet
        Keys of structures whose constants have been fitted.
    """

    generation: int
    population: Living
    hall: HallOfFame
    known: KeySet
    classes: KeySet
    counters: Mapping[str, int]
    last_gain: int
    renewed: int = 0
    credit: Floats = field(default_factory=lambda: np.zeros((2, len(KINDS))))
    fitted: KeySet = field(default_factory=KeySet)

    @property
    def best(self) -> float:
        """The highest fitness so far."""
        return self.hall.best
