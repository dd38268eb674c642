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
from proxygraph.limits import Limits
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
PARSIMONY: Final = {"rank": 0.001, "fit": 0.05}
"""What a node costs in selection, by kind of objective."""
MEMORY: Final = 128_000_000
"""Bytes for values that are kept between generations, on all islands together."""
REMEMBERED: Final = 1 << 23
"""Keys of formulas remembered, on all islands together."""


SIZES: Final = {"rank": 15, "fit": 30}
"""Most nodes of a formula by default, for each kind of objective."""


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
        Most nodes of a formula, sign, scale and offset included.
    ops : sequence of str or None
        Operators allowed; by default those that suit the leaves (`search.default_ops`).
    constraints : Constraints
    behaviour : Behaviour
    fit_constants : bool
        Whether constants are fitted while searching; least squares on plain tables only.
    parsimony : float or None
        Fitness that a node costs in selection; for least squares the share of the loss 1 - R² that it must
        save. By default `PARSIMONY`.
    threads : int
        The result does not depend on it.
    """

    seed: int = 0
    population: int | None = None
    islands: int = 4
    migration: Migration = field(default_factory=Migration)
    max_size: int = SIZES["rank"]
    ops: Sequence[str] | None = None
    constraints: Constraints = field(default_factory=Constraints)
    behaviour: Behaviour = field(default_factory=Behaviour)
    fit_constants: bool = True
    parsimony: float | None = None
    threads: int = 1

    def limits(self, table: StatTable) -> Limits:
        """Return what formulas of the result must keep; behaviour is looked at on the rows of a table."""
        return Limits(self.max_size, self.constraints, self.behaviour, table, self.threads)


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that the search of an island is made from; it pickles, a search does not.

    Attributes
    ----------
    table : StatTable
        The training rows, thinned to what the search sees, with the leaves it may use.
    target : ndarray, shape (N,)
    objective : Objective
    settings : Settings
    seeds : sequence of Dag
    config : SearchConfig
        Of island 0; the others have other seeds.
    """

    table: StatTable
    target: Floats
    objective: Objective
    settings: Settings
    seeds: Sequence[Dag]
    config: SearchConfig

    def seed(self, island: int) -> int:
        """Return the seed of one island."""
        return island_seed(self.settings.seed, island)

    def search(self, island: int, threads: int = 1, memory: int = MEMORY) -> Search:
        """Return the search of one island; values take `memory` bytes, on each sample of the rows."""
        table, settings, objective = self.table, self.settings, self.objective
        ragged, behaviour = bool(table.offsets), settings.behaviour
        # who names operators means them, with bends and levels too
        smooth = objective.kind == "fit" and settings.constraints.ops is None
        fitting = settings.fit_constants and not ragged and objective.basis in ("r2", "mse", "pearson")
        return Search(
            replace(self.config, seed=self.seed(island)),
            settings.ops or default_ops(table.leaves, smooth=smooth),
            objective,
            Population(table, threads, memory),
            self.target,
            self.seeds,
            Population(table.thin(SCREEN_SAMPLES), threads, memory) if ragged else None,
            settings.constraints,
            None if behaviour.is_empty else behaviour.on(table, threads),
            Fitter(table, self.target, objective.weights, threads) if fitting else None,
        )


@dataclass(frozen=True, eq=False)
class Assembled(Islands):
    """A search that knows what it is made from."""

    recipe: Recipe = field(kw_only=True)

    @property
    def limits(self) -> Limits:
        """What formulas of its result must keep; behaviour as on the rows that it sees."""
        return self.recipe.settings.limits(self.recipe.table)


def recipe(
    table: StatTable, target: Floats, objective: Objective, settings: Settings, seeds: Sequence[Dag] = ()
) -> Recipe:
    """Return what a search that sees just these rows is made from; parameters as of `assembled`."""
    ragged, n = bool(table.offsets), settings.islands
    population = settings.population or (400 if ragged else 1000)
    each = max(10, population // n)
    config = SearchConfig(
        seed=settings.seed,
        population=each,
        children=0 if ragged else TABLE_CHILDREN * each,
        max_size=settings.max_size,
        parsimony=PARSIMONY[objective.kind] if settings.parsimony is None else settings.parsimony,
        remembered=REMEMBERED // n,
    )
    table = _with_leaves(table, settings.constraints.allowed_leaves(table.leaves))
    return Recipe(table.thin(SEARCH_SAMPLES), target, objective, settings, seeds, config)


def assembled(
    table: StatTable,
    target: Floats,
    objective: Objective,
    settings: Settings,
    seeds: Sequence[Dag] = (),
    *,
    apart: bool = True,
) -> Assembled:
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
    apart : bool
        Whether every island has memory of its own, so that they can run at the same time. Those that run
        elsewhere (`proxygraph.remote`) need none.

    Raises
    ------
    ConfigError
        If the settings contradict each other or no formula can be made of the leaves.
    """
    parts, n = recipe(table, target, objective, settings, seeds), settings.islands
    # with an island for every thread there is no work left to share out within an island
    within = settings.threads if n == 1 else 1
    if not apart:
        one = parts.search(0, settings.threads)
        taking_turns = [one.reseeded(parts.seed(island)) for island in range(n)]
        return Assembled(taking_turns, settings.migration, recipe=parts)
    executor = ThreadPoolExecutor(settings.threads) if n > 1 and settings.threads > 1 else None
    searches = [parts.search(island, within, MEMORY // n) for island in range(n)]
    return Assembled(searches, settings.migration, executor, recipe=parts)


def _with_leaves(table: StatTable, leaves: Mapping[str, Leaf]) -> StatTable:
    """Return the table with these leaves only: what may not be used is not bred with either."""
    if len(leaves) == len(table.leaves):
        return table
    columns = {name: table.columns[name] for name in leaves}
    return StatTable(table.rows, columns, leaves, table.offsets, table.counts, table.header)
