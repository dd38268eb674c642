"""What values of formulas must be like: rise or fall with a leaf, keep a sign; checked on data.

A formula is evaluated on tables in which a leaf has been moved. That costs many evaluations, so it is for the
few formulas that would enter the hall of fame or survive, and it is a check on data, not a proof: between
the points that are looked at a formula may do anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxygraph.compact.forest import Forest
from proxygraph.errors import ConfigError, UnknownName
from proxygraph.kernels.population import Population
from proxygraph.table import StatTable

Trend = Literal["increasing", "decreasing"]
Sign = Literal["positive", "nonneg", "negative", "nonpos"]
TOLERANCE = 1e-9
"""Share of the largest value on a row's points by which a formula may go the wrong way there: rounding."""


@dataclass(frozen=True)
class Behaviour:
    """What the final form of a formula must do.

    Attributes
    ----------
    trends : mapping of str to {"increasing", "decreasing"}
        How it goes, in the weak sense, with a leaf, all others as they are in the data. A leaf on the row
        axis is moved over its own range; of a leaf on a finer axis, all values of a row are raised together.
    sign : {"positive", "nonneg", "negative", "nonpos"}, optional
        Of its values on all rows.
    rows : int
        Trends are looked at on so many rows, spread evenly over the table.
    points : int
        Points per row and leaf.

    Raises
    ------
    ConfigError
        If a trend or sign is not one of these, or fewer than one row or two points are asked for.
    """

    trends: Mapping[str, Trend] = field(default_factory=dict)
    sign: Sign | None = None
    rows: int = 200
    points: int = 9

    def __post_init__(self) -> None:
        for name, trend in self.trends.items():
            if trend not in get_args(Trend):
                raise ConfigError(f"trend of {name!r}: {trend!r} is none of {', '.join(get_args(Trend))}")
        if self.sign is not None and self.sign not in get_args(Sign):
            raise ConfigError(f"sign {self.sign!r} is none of {', '.join(get_args(Sign))}")
        if self.rows < 1 or self.points < 2:
            raise ConfigError(f"{self.rows} rows and {self.points} points: at least 1 and 2 are needed")
        object.__setattr__(self, "trends", MappingProxyType(dict(self.trends)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Behaviour, (dict(self.trends), self.sign, self.rows, self.points)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return not self.trends and self.sign is None

    def on(self, table: StatTable, threads: int = 1) -> BehaviourCheck:
        """Return the check on the rows of a table.

        Raises
        ------
        UnknownName
            If the table lacks a leaf.
        """
        for name in self.trends:
            if name not in table.leaves:
                raise UnknownName(f"no leaf named {name!r}; known: {', '.join(table.leaves)}")
        return BehaviourCheck(self, table, threads)


class BehaviourCheck:
    """The check of a `Behaviour` on one table, which stays in memory with its moved copies.

    Parameters
    ----------
    behaviour : Behaviour
    table : StatTable
    threads : int
    """

    def __init__(self, behaviour: Behaviour, table: StatTable, threads: int = 1) -> None:
        self.behaviour = behaviour
        self._whole = Population(table, threads, memory=0) if behaviour.sign else None
        chosen = np.unique(np.linspace(0, table.n_rows - 1, min(behaviour.rows, table.n_rows)).astype(int))
        some = table.take(chosen)
        self._moved = {
            name: [
                Population(_replaced(some, name, column), threads, memory=0)
                for column in _moves(table, some, name, behaviour.points)
            ]
            for name in behaviour.trends
        }

    def holds(
        self, trees: Forest, slope: ArrayLike = 1.0, offset: ArrayLike = 0.0, values: ArrayLike | None = None
    ) -> NDArray[np.bool_]:
        """Return for every tree whether its final form, ``slope * tree + offset``, behaves, shape (P,).

        Where a formula is not finite it does not.

        Parameters
        ----------
        trees : Forest
            In the vocabulary of the table; tidy.
        slope, offset : array_like of float, shape (P,) or ()
            Of the final form, see `Objective.line`.
        values : array_like of float, shape (P, N), optional
            Of the trees on the table, where they are known already.
        """
        n = len(trees.length)
        slope = np.broadcast_to(np.asarray(slope, np.float64), (n,))
        offset = np.broadcast_to(np.asarray(offset, np.float64), (n,))
        ok = np.ones(n, bool)
        if self._whole is not None:
            plain = self._whole.run(trees) if values is None else np.asarray(values, np.float64)
            with np.errstate(all="ignore"):
                ok &= _keeps_sign(plain * slope[:, None] + offset[:, None], self.behaviour.sign)
        for name, trend in self.behaviour.trends.items():
            rows = np.flatnonzero(ok)
            direction = slope[rows] if trend == "increasing" else -slope[rows]
            ok[rows] = self._goes(trees.take(rows), np.sign(direction), self._moved[name])
        return ok

    def _goes(
        self, trees: Forest, direction: NDArray[np.float64], moved: list[Population]
    ) -> NDArray[np.bool_]:
        """Whether trees times `direction`, shape (P,), never fall from one table to the next."""
        ok = np.ones(len(direction), bool)
        before: NDArray[np.float64] | None = None
        largest, drop = np.zeros((len(direction), 1)), np.zeros((len(direction), 1))
        for evaluate in moved:
            with np.errstate(all="ignore"):
                values = evaluate.run(trees) * direction[:, None]
                ok &= np.isfinite(values).all(axis=1)
                largest = np.maximum(largest, np.abs(values))
                if before is not None:
                    drop = np.maximum(drop, before - values)
            before = values
        return ok & np.asarray((drop <= TOLERANCE * largest).all(axis=1))


def _keeps_sign(values: NDArray[np.float64], sign: Sign | None) -> NDArray[np.bool_]:
    test = {"positive": np.greater, "nonneg": np.greater_equal, "negative": np.less, "nonpos": np.less_equal}
    good = np.isfinite(values) & (test[sign](values, 0.0) if sign else True)
    return np.asarray(good.all(axis=1))


def _moves(table: StatTable, some: StatTable, name: str, points: int) -> list[NDArray[np.float64]]:
    """Return the columns of a leaf, from the lowest to the highest, on some rows of the table."""
    known = np.asarray(table.columns[name], np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        raise ConfigError(f"trend of {name!r}: its column has no finite value")
    here = np.asarray(some.columns[name], np.float64)
    if table.leaves[name].axis == "row":
        return [np.full(len(here), v) for v in np.unique(np.quantile(known, np.linspace(0.0, 1.0, points)))]
    # raised, never lowered: what promises to be nonnegative stays so
    return [here + t * float(np.std(known)) for t in np.linspace(0.0, 1.0, points)]


def _replaced(table: StatTable, name: str, column: NDArray[np.float64]) -> StatTable:
    columns = {**table.columns, name: column}
    return StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, table.header)


def parse_trends(text: str) -> dict[str, Trend]:
    """Read trends: ``x=increasing,y=decreasing``.

    Raises
    ------
    ConfigError
        If the text is not of that form.

    Examples
    --------
    >>> parse_trends("x=increasing, y=decreasing")
    {'x': 'increasing', 'y': 'decreasing'}
    """
    found: dict[str, Trend] = {}
    for part in filter(str.strip, text.split(",")):
        name, equals, trend = (piece.strip() for piece in part.partition("="))
        for known in get_args(Trend):
            if equals and trend == known and name not in found:
                found[name] = known
                break
        else:
            raise ConfigError(f"trends {part.strip()!r}: expected each leaf once, as in x=increasing")
    return found
