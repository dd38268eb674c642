"""Putting a search together: from a table, a target and settings to islands that are ready to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from proxygraph.behaviour import Behaviour
from proxygraph.constraints import Constraints
from proxygraph.dag import Dag
from proxygraph.islands import Islands, Migration, island_seed
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.leaves import Leaf
from proxygraph.objective import Objective
from proxygraph.rank import Floats
from proxygraph.search import Search, SearchConfig, default_ops
from proxygraph.table import StatTable

SEARCH_SAMPLES: Final = 64
"""Samples per layer that the search sees. A prefix of the random samples is a fair sample itself; what
is reported is recomputed on all of them."""
SCREEN_SAMPLES: Final = 16
"""Samples per layer on which hopeless formulas are sorted out."""
TABLE_CHILDREN: Final = 4
"""Children per living formula and generation on plain tables, where scoring is cheap."""
MEMORY: Final = 128_000_000
"""Bytes for values that are kept between generations, on all islands together."""
REMEMBERED: Final = 1 << 23
"""Keys of formulas remembered, on all islands together."""


@dataclass(frozen=True)
class Settings:
    """What a user decides about a search.

    Attributes
    ----------
    seed : int
    population : int or None
        Formulas alive on all islands together; by default 400 on networks, 1000 on plain tables.
    islands : int
    migration : Migration
    max_size : int
        Most nodes of a formula.
    ops : sequence of str or None
        Operators allowed; by default those that suit the leaves (`search.default_ops`).
    constraints : Constraints
    behaviour : Behaviour
    fit_constants : bool
        Whether constants are fitted while searching; least squares on plain tables only.
    parsimony : float
        Fitness that a node costs in selection.
    threads : int
        The result does not depend on it.
    """

    seed: int = 0
    population: int | None = None
    islands: int = 4
    migration: Migration = field(default_factory=Migration)
    max_size: int = 15
    ops: Sequence[str] | None = None
    constraints: Constraints = field(default_factory=Constraints)
    behaviour: Behaviour = field(default_factory=Behaviour)
    fit_constants: bool = True
    parsimony: float = 0.001
    threads: int = 1


def assembled(
    table: StatTable, target: Floats, objective: Objective, settings: Settings, seeds: Sequence[Dag] = ()
) -> Islands:
    """Return a search that sees just these rows.

    Parameters
    ----------
    table : StatTable
        The training rows.
    target : ndarray, shape (N,)
    objective : Objective
    settings : Settings
    seeds : sequence of Dag
        Formulas to start from, beside random ones; those too large for `max_size` are left out.

    Raises
    ------
    ConfigError
        If the settings contradict each other or no formula can be made of the leaves.
    """
    ragged, n = bool(table.offsets), settings.islands
    population = settings.population or (400 if ragged else 1000)
    each = max(10, population // n)
    config = SearchConfig(
        population=each,
        children=0 if ragged else TABLE_CHILDREN * each,
        max_size=settings.max_size,
        parsimony=settings.parsimony,
        remembered=REMEMBERED // n,
    )
    # with an island for every thread there is no work left to share out within an island
    within = settings.threads if n == 1 else 1
    table = _with_leaves(table, settings.constraints.allowed_leaves(table.leaves))
    fitting = settings.fit_constants and not ragged and objective.basis in ("r2", "mse", "pearson")
    fine, coarse = table.thin(SEARCH_SAMPLES), table.thin(SCREEN_SAMPLES)

    def search(island: int) -> Search:
        return Search(
            replace(config, seed=island_seed(settings.seed, island)),
            settings.ops or default_ops(table.leaves),
            objective,
            Population(fine, within, MEMORY // n),
            target,
            seeds,
            Population(coarse, within, MEMORY // n) if ragged else None,
            settings.constraints,
            None if settings.behaviour.is_empty else settings.behaviour.on(fine, within),
            Fitter(table, target, objective.weights, within) if fitting else None,
        )

    executor = ThreadPoolExecutor(settings.threads) if n > 1 and settings.threads > 1 else None
    return Islands([search(island) for island in range(n)], settings.migration, executor)


def _with_leaves(table: StatTable, leaves: Mapping[str, Leaf]) -> StatTable:
    """Return the table with these leaves only: what may not be used is not bred with either."""
    if len(leaves) == len(table.leaves):
        return table
    columns = {name: table.columns[name] for name in leaves}
    return StatTable(table.rows, columns, leaves, table.offsets, table.counts, table.header)
