"""The hall of fame: the best formulas of every size."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    members: tuple[Individual, ...] = ()
    keep: int = 4

    def updated(self, candidates: list[Individual]) -> HallOfFame:
        """Return the hall of fame after meeting `candidates`."""
        by_size: dict[int, dict[str, Individual]] = {}
        for one in (*self.members, *candidates):
            by_size.setdefault(one.size, {}).setdefault(one.dag.key, one)
        kept: list[Individual] = []
        for size in sorted(by_size):
            best = sorted(by_size[size].values(), key=lambda i: (-i.fitness, i.dag.key))
            # equal fitness nearly always means the same order of the rows: one of them is enough
            distinct: list[Individual] = []
            for one in best:
                if not distinct or one.fitness != distinct[-1].fitness:
                    distinct.append(one)
            kept.extend(distinct[: self.keep])
        return HallOfFame(tuple(kept), self.keep)

    def least(self, size: int) -> float:
        """Return the fitness that a formula of this size must exceed to enter."""
        fitness = sorted((one.fitness for one in self.members if one.size == size), reverse=True)
        return fitness[self.keep - 1] if len(fitness) >= self.keep else -1.0

    def front(self) -> tuple[Individual, ...]:
        """Return the formulas that no smaller or equally large one equals or beats."""
        best = -1.0
        front: list[Individual] = []
        for one in sorted(self.members, key=lambda i: (i.size, -i.fitness)):
            if one.fitness > best:
                best = one.fitness
                front.append(one)
        return tuple(front)
