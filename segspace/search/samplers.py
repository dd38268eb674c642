"""Which network is looked at next: NSGA-II, regularised evolution, random search.

Networks are proposed as texts by the space's own operators, not as a vector of categorical parameters. A
space such as ``rtseg`` has paths of varying length and one text per network; a flat encoding would need a
repair, many vectors would be one network, and inserting a layer would change the meaning of all positions
behind it, so that crossover and mutation of vectors tear apart what belongs together. The operators of the
space keep networks valid, distinct and one edit apart. Optuna does the rest: generations, non-dominated
sorting and crowding (its ``NSGAIISampler``), the database, and several processes on one study; the text
stands in each trial's user attribute ``candidate``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from segspace.search.space import SearchSpace

Proposal = Callable[[np.random.Generator], str]
CROSSED, ALSO_MUTATED = 0.5, 0.5
"""Share of children with two parents; of these, share that is mutated too. The others always are."""
TOURNAMENT: Final = 0.25
"""Of regularised evolution: share of the population that a parent is the best of (Real et al.: 25 of 100)."""


class Sampler(Protocol):
    """Proposes networks for the trials of a study."""

    def proposal(self, study: Study, trial: FrozenTrial) -> Proposal:
        """Return what draws networks for a trial: as often as it takes until one may be scored."""
        ...


class Nsga2:
    """NSGA-II (Deb et al. 2002): parents are the elite of a generation, children come from the space.

    Parents are the better of two drawn, by dominance. The first generation is sampled.
    """

    def __init__(self, space: SearchSpace, population: int) -> None:
        self._space, self._optuna = space, NSGAIISampler(population_size=population)

    def proposal(self, study: Study, trial: FrozenTrial) -> Proposal:
        """Return what draws children of the generation before the trial's."""
        generation = self._optuna.get_trial_generation(study, trial)
        parents = self._optuna.get_parent_population(study, generation)
        if len(parents) < 2:
            return self._space.sample

        def child(rng: np.random.Generator) -> str:
            one = arch_of(_better_of_two(parents, rng))
            if rng.random() < CROSSED:
                one = self._space.crossover(one, arch_of(_better_of_two(parents, rng)), rng)
                if rng.random() >= ALSO_MUTATED:
                    return one
            return self._space.mutate(one, rng)

        return child


class Evolution:
    """Regularised evolution (Real et al. 2019, arXiv:1802.01548), of the score alone.

    The population are the youngest networks; a child is a mutation of the best of a few drawn ones.
    """

    def __init__(self, space: SearchSpace, population: int) -> None:
        self._space, self._population = space, population
        self._tournament = max(2, round(TOURNAMENT * population))

    def proposal(self, study: Study, trial: FrozenTrial) -> Proposal:
        """Return what draws mutations of tournament winners."""
        young = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[-self._population :]
        if len(young) < self._population:
            return self._space.sample

        def child(rng: np.random.Generator) -> str:
            drawn = rng.choice(len(young), self._tournament, replace=False).tolist()
            best = max(drawn, key=lambda i: young[i].values[0])
            return self._space.mutate(arch_of(young[best]), rng)

        return child


class Random:
    """Random search: every network as the first ones of the others."""

    def __init__(self, space: SearchSpace, population: int) -> None:
        self._space = space

    def proposal(self, study: Study, trial: FrozenTrial) -> Proposal:
        """Return what samples the space."""
        return self._space.sample


SAMPLERS: Final[dict[str, Callable[[SearchSpace, int], Sampler]]] = {
    "nsga2": Nsga2,
    "evolution": Evolution,
    "random": Random,
}


def arch_of(trial: FrozenTrial) -> str:
    """Return the network of a trial."""
    return str(trial.user_attrs["candidate"]["arch"])


def _better_of_two(parents: Sequence[FrozenTrial], rng: np.random.Generator) -> FrozenTrial:
    """Return the one that dominates the other, the first if neither does."""
    first, second = (parents[int(i)] for i in rng.choice(len(parents), 2, replace=False))
    (score, cost), (other_score, other_cost) = first.values, second.values
    dominated = other_score >= score and other_cost <= cost and (other_score, other_cost) != (score, cost)
    return second if dominated else first
