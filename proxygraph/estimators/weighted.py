"""Objectives that give every row a weight.

A weight of 2 means the same as having the row twice. Where an objective knows weights itself, it is asked;
for the others here is plain numpy, one formula after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.estimators.formula import BadInput
from proxygraph.objective import Objective
from proxygraph.scores import Scores

Floats = NDArray[np.float64]
NUMPY: Final = ("spearman", "kendall", "pearson", "r2", "mse")
"""Objectives that are computed here if they do not take weights."""
DIGITS: Final = 12
"""Of a correlation, as in `proxygraph.rank`: beyond, the order of summation would decide."""


def weighted(objective: Objective, weights: Floats | None) -> Objective:
    """Return the objective with these weights of the rows, shape (N,); as it is if there are none.

    Raises
    ------
    BadInput
        If it takes no weights.
    """
    if weights is None:
        return objective
    try:
        return replace(objective, weights=weights)  # type: ignore[call-arg, unused-ignore]
    except (TypeError, ValueError, ConfigError):  # it has no weights, or not for its statistic
        if objective.name not in NUMPY or type(objective) is not Objective:
            raise BadInput(f"objective {objective.name!r} takes no sample_weight") from None
    return Weighted(objective.name, objective.kind, objective.metric, weights)


@dataclass(frozen=True, eq=False)
class Weighted(Objective):
    """An objective of the package with a weight for every row, shape (N,), none of them negative."""

    weights: Floats

    def __post_init__(self) -> None:
        """Check nothing: weights are checked where they come from."""

    def _statistic(self, x: Floats, y: Floats, w: Floats) -> float:
        if self.name == "kendall":
            return _tau(x, y, w)
        if self.name == "spearman":
            x, y = _ranks(x, w), _ranks(y, w)
        return _correlation(x, y, w)

    def fitness(self, values: Floats, target: Floats) -> Floats:
        """Return the fitness of every row of `values` (P, N), in [0, 1]; NaN for invalid formulas."""
        values = np.asarray(values, np.float64)
        r = np.full(len(values), np.nan)
        for i in np.flatnonzero(np.isfinite(values).all(axis=1)):
            r[i] = self._statistic(values[i], target, self.weights)
        return np.asarray(np.abs(r) if self.kind == "rank" else r * r)

    def judged(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, NDArray[np.uint64]]:
        """Return fitness and class of every row of `values`: formulas of equal fitness are one class."""
        fitness = self.fitness(values, target)
        return fitness, np.where(np.isfinite(fitness), fitness + 2.0, 0.0).view(np.uint64)

    def finish(self, dag: Dag, values: Floats, target: Floats) -> Dag:
        """Return the formula negated if it ranks backwards, or with the weighted line's constants."""
        ok = np.isfinite(values) & (self.weights > 0.0)
        x, y, w = values[ok], target[ok], self.weights[ok]
        plain = Objective(self.name, self.kind, self.metric)
        if self.kind == "rank":
            # ordered by the sign alone: two rows stand for the direction
            backwards = bool(ok.any()) and self._statistic(x, y, w) < 0.0
            return plain.finish(dag, np.array([0.0, 1.0]), np.array([1.0, 0.0] if backwards else [0.0, 1.0]))
        # the weighted line is the plain one through two of its own points
        if not ok.any() or x.min() == x.max():
            return plain.finish(dag, np.zeros(2), np.full(2, _mean(y, w)))
        centre = _mean(x, w)
        z = (x - centre) / np.max(np.abs(x - centre))
        slope = _mean(z * (y - _mean(y, w)), w) / _mean(z * z, w) / np.max(np.abs(x - centre))
        ends = np.array([x.min(), x.max()])
        return plain.finish(dag, ends, _mean(y, w) + slope * (ends - centre))

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the number `metric` for one formula, and on how many rows it has a value."""
        x, y, w = scores.values[scores.ok], target[scores.ok], self.weights[scores.ok]
        value = np.nan
        if x.size and w.any():
            if self.kind == "rank":
                value = self._statistic(x, y, w)
            else:
                with np.errstate(all="ignore"):
                    total = _mean((y - _mean(y, w)) ** 2, w)
                    value = 1.0 - _mean((y - x) ** 2, w) / total if total > 0.0 else np.nan
        return {
            self.metric: float(value) if np.isfinite(value) else None,
            "n": int(x.size),
            "invalid": int((~scores.ok).sum()),
        }


def _mean(x: Floats, w: Floats) -> float:
    return float(np.dot(x, w / w.sum()))


def _correlation(x: Floats, y: Floats, w: Floats) -> float:
    """Return Pearson's r; NaN where either is constant."""
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return float("nan")
    with np.errstate(all="ignore"):
        x, y = x / np.max(np.abs(x)), y / np.max(np.abs(y))
        x, y = x - _mean(x, w), y - _mean(y, w)
        x, y = x / np.max(np.abs(x)), y / np.max(np.abs(y))
        r = np.dot(w, x * y) / np.sqrt(np.dot(w, x * x) * np.dot(w, y * y))
    return float(np.round(np.clip(r, -1.0, 1.0), DIGITS))


def _ranks(x: Floats, w: Floats) -> Floats:
    """Return the mean rank that each row would have if it stood there as often as its weight says."""
    _, place = np.unique(x, return_inverse=True)
    mass = np.bincount(place, w)
    return np.asarray((np.cumsum(mass) - mass / 2.0)[place])


def _tau(x: Floats, y: Floats, w: Floats) -> float:
    """Return Kendall's tau-b over pairs of weight w_i w_j; O(N²) time, O(N) memory."""
    agree = in_x = in_y = 0.0
    for i in range(1, len(x)):
        a, b, pair = np.sign(x[:i] - x[i]), np.sign(y[:i] - y[i]), w[:i] * w[i]
        agree += float(np.dot(pair, a * b))
        in_x += float(np.dot(pair, np.abs(a)))
        in_y += float(np.dot(pair, np.abs(b)))
    return round(agree / np.sqrt(in_x * in_y), DIGITS) if in_x > 0.0 and in_y > 0.0 else float("nan")
