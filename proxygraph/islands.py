"""Several searches of one problem side by side, which now and then exchange their best formulas.

What an island does between two migrations depends on nothing outside of it, so the work can be cut and
spread over threads, processes or machines in any way without changing the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from proxygraph.archive import HallOfFame
from proxygraph.errors import ConfigError
from proxygraph.search import Search
from proxygraph.search_state import SearchState


@dataclass(frozen=True)
class Migration:
    """When and how much islands exchange.

    Attributes
    ----------
    every : int
        Generations between two migrations.
    migrants : int
        Formulas that each island copies to the next one of the ring.
    """

    every: int = 10
    migrants: int = 5

    def __post_init__(self) -> None:
        if self.every < 1 or self.migrants < 0:
            raise ConfigError(
                f"migration of {self.migrants} formulas every {self.every} generations: the first must be "
                "at least 0, the second at least 1"
            )


class Moment(Protocol):
    """What is known of one island in one generation: a `SearchState`, or `Figures` of it."""

    @property
    def generation(self) -> int:
        """Generations made."""

    @property
    def last_gain(self) -> int:
        """Generation of the last better formula."""

    @property
    def best(self) -> float:
        """The highest fitness so far."""

    @property
    def counters(self) -> Mapping[str, int]:
        """How many formulas met which fate."""


@dataclass(frozen=True)
class Figures:
    """The figures of a `SearchState` that has been left behind."""

    generation: int
    last_gain: int
    best: float
    counters: Mapping[str, int]

    @classmethod
    def of(cls, state: SearchState) -> Figures:
        """Return the figures of a state."""
        return cls(state.generation, state.last_gain, state.best, dict(state.counters))


@dataclass(frozen=True, eq=False)
class Overview:
    """The figures of all islands, each in the same generation."""

    islands: tuple[Moment, ...]

    @property
    def generation(self) -> int:
        """Generations made."""
        return self.islands[0].generation

    @property
    def last_gain(self) -> int:
        """Last generation in which the best fitness of any island got better."""
        best = self.best
        return min(one.last_gain for one in self.islands if one.best == best)

    @property
    def best(self) -> float:
        """The highest fitness so far."""
        return max(state.best for state in self.islands)

    @property
    def counters(self) -> Mapping[str, int]:
        """Sums over the islands."""
        total: Counter[str] = Counter()
        for state in self.islands:
            total.update(state.counters)
        return dict(total)


@dataclass(frozen=True, eq=False)
class IslandsState(Overview):
    """The states of all islands, each in the same generation."""

    islands: tuple[SearchState, ...]

    @cached_property
    def hall(self) -> HallOfFame:
        """The best formulas of all islands."""
        first, *others = self.islands
        return first.hall.updated([one for state in others for one in state.hall.members])


Met = Callable[[Overview], bool]
"""Whether a search has come to its end in this generation."""


@dataclass(frozen=True, eq=False)
class Islands:
    """A search on several islands.

    A step makes one generation here; islands that are far away make several of them at a time, up to the next
    migration, to generation `last`, or to the first one that has `met` an end.

    Attributes
    ----------
    searches : sequence of Search
        One per island: the same problem, other seeds.
    migration : Migration
    executor : Executor, optional
        Runs the islands' tasks; without it they run one after the other.
    """

    searches: Sequence[Search]
    migration: Migration = field(default_factory=Migration)
    executor: Executor | None = None

    def start(self, last: int | None = None, met: Met | None = None) -> IslandsState:
        """Return generation 0 of every island."""
        return IslandsState(tuple(self._all(_start, [(search,) for search in self.searches])))

    def step(self, state: IslandsState, last: int | None = None, met: Met | None = None) -> IslandsState:
        """Return the next generation of every island, after a migration where one is due."""
        if state.generation % self.migration.every == 0:
            state = self.migrated(state)
        return IslandsState(tuple(self._all(_step, list(zip(self.searches, state.islands, strict=True)))))

    def migrated(self, state: IslandsState) -> IslandsState:
        """Return the state after each island has sent its best to the next one of the ring."""
        if len(self.searches) == 1 or not self.migration.migrants:
            return state
        both = list(zip(self.searches, state.islands, strict=True))
        leaving = [search.emigrants(one, self.migration.migrants) for search, one in both]
        arriving = leaving[-1:] + leaving[:-1]
        return IslandsState(
            tuple(search.welcomed(one, guests) for (search, one), guests in zip(both, arriving, strict=True))
        )

    def _all(
        self, task: Callable[..., SearchState], arguments: Sequence[tuple[object, ...]]
    ) -> list[SearchState]:
        if self.executor is None or len(arguments) == 1:
            return [task(*each) for each in arguments]
        return list(self.executor.map(task, *zip(*arguments, strict=True)))


def _start(search: Search) -> SearchState:
    return search.start()


def _step(search: Search, state: SearchState) -> SearchState:
    return search.step(state)


def island_seed(seed: int, island: int) -> int:
    """Return the seed of one island; the first has the search's own."""
    if island == 0:
        return seed
    return int(np.random.SeedSequence([seed, island]).generate_state(1, np.uint32)[0])
