"""The parameters of an estimator, checked, as the search takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from proxygraph.assemble import SIZES, Settings
from proxygraph.behaviour import Behaviour
from proxygraph.constraints import Constraints, Units
from proxygraph.estimators.formula import BadInput, refusing
from proxygraph.leaves import Leaf
from proxygraph.loop import SETTLED, Stop
from proxygraph.ops import OPS
from proxygraph.table import StatTable
from proxygraph.units import parse_unit

Parameters = Mapping[str, Any]

OPTIONAL: Final = {
    "max_size": 2,
    "parsimony": 0,
    "generations": 1,
    "time_budget": 0,
    "max_evaluations": 1,
    "population": 10,
    "enough": 0,
}
OPTIONAL_WHOLE: Final = {"islands": 1, "max_depth": 0, "max_constants": 0, "stagnation": 1}
NETWORKS, ROWS = 400, 1000
"""Formulas alive by default."""
ISLANDS, EACH = 4, 50
"""Most islands by default, and formulas that one should have."""


def searching(given: Parameters, kind: str, table: StatTable, seed: int, threads: int) -> Settings:
    """Return the settings of a search that is to "rank" or to "fit".

    Raises
    ------
    BadInput
        If a parameter cannot be used.
    """
    for name, lowest in {**OPTIONAL, **OPTIONAL_WHOLE}.items():
        _check_number(name, given[name], lowest)
    for name in ("operators", "leaves"):
        if isinstance(given[name], str):
            raise BadInput(f"{name}={given[name]!r}: a sequence of names is needed, not one text")
    for name in ("nesting", "units", "trends"):
        if given[name] is not None and not isinstance(given[name], Mapping):
            raise BadInput(f"{name}={given[name]!r}: a mapping is needed")
    for outer, inner in (given["nesting"] or {}).items():
        if not isinstance(inner, Mapping):
            raise BadInput(f"nesting of {outer!r}: {inner!r} is no mapping of operators to numbers")
    if unknown := [name for name in given["operators"] or () if name not in OPS]:
        raise BadInput(f"operators: no operator named {unknown[0]!r}; known: {', '.join(OPS)}")
    operators = tuple(given["operators"]) if given["operators"] else None
    population = given["population"] or (NETWORKS if table.offsets else ROWS)
    with refusing():
        constraints = _constraints(given, operators, table.leaves)
        constraints.allowed_leaves(table.leaves)
        behaviour = Behaviour(dict(given["trends"] or {}), given["sign"])
        for name in behaviour.trends:
            if name not in table.leaves:
                raise BadInput(f"trends: no column named {name!r}; known: {', '.join(table.leaves)}")
    return Settings(
        seed=seed,
        population=population,
        islands=given["islands"] or min(ISLANDS, max(1, int(population) // EACH)),
        max_size=given["max_size"] or SIZES[kind],
        ops=operators,
        constraints=constraints,
        behaviour=behaviour,
        fit_constants=bool(given["fit_constants"]),
        parsimony=given["parsimony"],
        threads=threads,
    )


def _check_number(name: str, value: Any, lowest: int) -> None:
    if value is None:
        return
    kinds = (int, np.integer) if name in OPTIONAL_WHOLE else (int, float, np.number)
    if not isinstance(value, kinds) or not value >= lowest:
        what = "a whole number" if name in OPTIONAL_WHOLE else "a number"
        raise BadInput(f"{name}={value!r}: {what} from {lowest} on is needed")


def _constraints(
    given: Parameters, operators: tuple[str, ...] | None, leaves: Mapping[str, Leaf]
) -> Constraints:
    units = None
    if given["units"] is not None or given["target_unit"] is not None:
        found = {str(name): parse_unit(unit) for name, unit in (given["units"] or {}).items()}
        target = given["target_unit"]
        units = Units(found, None if target is None else parse_unit(target))
    return Constraints(
        max_depth=given["max_depth"],
        max_constants=given["max_constants"],
        ops=operators,
        leaves=None if given["leaves"] is None else tuple(map(str, given["leaves"])),
        max_cost=given["max_cost"],
        nesting={outer: dict(inner) for outer, inner in (given["nesting"] or {}).items()},
        units=units,
    )


def stopping(given: Parameters) -> Stop:
    """Return when a search ends.

    Raises
    ------
    BadInput
        If it never would.
    """
    limits = (given["generations"], given["max_evaluations"], given["time_budget"])
    stagnation, enough = given["stagnation"], given["enough"]
    if all(limit is None for limit in (*limits, stagnation)):
        raise BadInput(
            "the search would never end; set generations, time_budget, max_evaluations or stagnation"
        )
    if enough is None:
        return Stop(*limits, stagnation=stagnation, settled=SETTLED)
    return Stop(*limits, fitness=float(enough), stagnation=stagnation)
