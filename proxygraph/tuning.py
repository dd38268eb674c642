"""Constants of the formulas that a search has found: fitted with care, then made simple where they may be."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np

from proxygraph.canon import canonical
from proxygraph.constants import (
    constants_of,
    likelihood,
    nats,
    polished,
    refit,
    searched,
    snapped,
)
from proxygraph.dag import Dag
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.objective import Objective
from proxygraph.ops import BUILTIN
from proxygraph.rank import Floats
from proxygraph.simple_numbers import is_simple
from proxygraph.table import StatTable

LEAST_SQUARES: Final = frozenset({"r2", "mse"})
"""Objectives whose constants are fitted with derivatives."""
SAMPLES: Final = 64
"""Samples per layer that a search without derivatives looks at."""


class Tuner:
    """Finds constants for formulas in their final form, on some rows.

    Parameters
    ----------
    table : StatTable
        The rows that may be seen.
    target : ndarray, shape (N,)
    objective : Objective
        For these rows.
    seed : int
        Of the places that are started from.
    """

    def __init__(self, table: StatTable, target: Floats, objective: Objective, seed: int = 0) -> None:
        self.table, self.target, self.objective, self.seed = table, target, objective, seed

    @property
    def _by_squares(self) -> bool:
        return self.objective.name in LEAST_SQUARES and not self.table.offsets

    @cached_property
    def _fitter(self) -> Fitter:
        return Fitter(self.table, self.target, self.objective.weights)

    @cached_property
    def _evaluate(self) -> Population:
        return Population(self.table.thin(SAMPLES))

    def tuned(self, dag: Dag) -> Dag:
        """Return the formula with better and simpler constants, in canonical form; as it is if it has none.

        For least squares, Levenberg-Marquardt from many places; for other objectives a search without
        derivatives. Then constants become simple numbers as long as Akaike's criterion allows it.
        """
        if not dag.leaves or not len(constants_of(dag)) or not _built_in(dag):
            return dag
        if self._by_squares:
            best = polished(dag, self._fitter, line=False, seed=self.seed)
            return snapped(
                best,
                lambda one: likelihood(one, self._fitter),
                refit=lambda one, free: refit(one, self._fitter, free),
            )
        if self.objective.kind != "rank":
            return dag
        best = searched(dag, self._evaluate, self._fitness, seed=self.seed)
        return snapped(best, self._nats)

    def refitted(self, dag: Dag) -> Dag:
        """Return the formula with the constants fitted again that are no simple numbers."""
        free = [not is_simple(c) for c in constants_of(dag).tolist()]
        if not self._by_squares or not any(free) or not _built_in(dag):
            return dag
        return canonical(refit(dag, self._fitter, free))

    def _fitness(self, values: Floats) -> Floats:
        return self.objective.judged(np.asarray(values, np.float64), self.target)[0]

    def _nats(self, dag: Dag) -> float:
        fitness = float(self._fitness(self._evaluate([dag]))[0])
        return nats(1.0 - fitness * fitness, len(self.target))


def _built_in(dag: Dag) -> bool:
    return all(node.kind != "op" or node.name in BUILTIN for node in dag.nodes)
