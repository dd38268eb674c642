"""The hall of fame: the best formulas of every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from proxygraph.dag import Dag


@dataclass(frozen=True, slots=True)
class Individual:
    """A scored formula; `fitness` as the objective defines it, on the training rows."""

    dag: Dag
    fitness: float

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.dag.size


@dataclass(frozen=True)
class HallOfFame:
    """The `keep` best formulas of every size, by fitness.

    More than one per size is kept because the final choice is made on other rows than the fitness. For least
    squares a search offers at most one per size and generation, and only if it beats all found so far that
    are not larger.

    Attributes
    ----------
    members : tuple of Individual
        By size, of one size the best first, as `updated` leaves them and checkpoints keep them: `least` and
        `best_up_to` rely on this order.
    keep : int
    """

    members: tuple[Individual, ...] = ()
    keep: int = 4

    @cached_property
    def best(self) -> float:
        """The highest fitness; 0 of none."""
        return max((one.fitness for one in self.members), default=0.0)

    @cached_property
    def _by_size(self) -> Mapping[int, Sequence[Individual]]:
        """The members of every size, the best first."""
        return _grouped(self.members)

    def updated(self, candidates: Sequence[Individual]) -> HallOfFame:
        """Return the hall of fame after meeting `candidates`."""
        if not candidates:
            return self
        by_size = dict(self._by_size)
        for size, new in _grouped(candidates).items():
            some: dict[str, Individual] = {}
            for one in (*by_size.get(size, ()), *new):
                some.setdefault(one.dag.key, one)
            # equal fitness nearly always means the same order of the rows: one of them is enough
            distinct: list[Individual] = []
            for one in sorted(some.values(), key=lambda i: (-i.fitness, i.dag.key)):
                if not distinct or one.fitness != distinct[-1].fitness:
                    distinct.append(one)
            by_size[size] = distinct[: self.keep]
        return HallOfFame(tuple(one for size in sorted(by_size) for one in by_size[size]), self.keep)

    def least(self, size: int) -> float:
        """Return the fitness that a formula of this size must exceed to enter."""
        members = self._by_size.get(size, ())
        return members[self.keep - 1].fitness if len(members) >= self.keep else -1.0

    def best_up_to(self, size: int) -> float:
        """Return the highest fitness of formulas that are not larger; -1 of none."""
        best = (some[0].fitness for each, some in self._by_size.items() if each <= size)
        return max(best, default=-1.0)

    def front(self) -> tuple[Individual, ...]:
        """Return the formulas that no smaller or equally large one equals or beats."""
        best = -1.0
        front: list[Individual] = []
        for one in sorted(self.members, key=lambda i: (i.size, -i.fitness)):
            if one.fitness > best:
                best = one.fitness
                front.append(one)
        return tuple(front)


def _grouped(ones: Sequence[Individual]) -> dict[int, list[Individual]]:
    """Return formulas by size, in the order they came in."""
    by_size: dict[int, list[Individual]] = {}
    for one in ones:
        by_size.setdefault(one.size, []).append(one)
    return by_size
