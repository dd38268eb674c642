"""Rank correlations that give every row a weight; least squares has weights of its own.

A weight of 2 means the same as having the row twice. Plain numpy, one formula after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from proxygraph.errors import ConfigError
from proxygraph.estimators.formula import BadInput
from proxygraph.objective import Objective
from proxygraph.objective.plain import WEIGHTED, Codes, Floats
from proxygraph.rank import weighted_correlation
from proxygraph.scores import Scores

RANKED: Final = ("spearman", "kendall")
DIGITS: Final = 12
"""Of tau, as in `proxygraph.rank`: beyond, the order of summation would decide."""


def weighted(objective: Objective, weights: Floats | None) -> Objective:
    """Return the objective with these weights of the rows, shape (N,); as it is if there are none.

    Raises
    ------
    BadInput
        If it takes no weights, or not these.
    """
    if weights is None:
        return objective
    if type(objective) is not Objective or objective.name not in (*WEIGHTED, *RANKED):
        raise BadInput(f"objective {objective.name!r} takes no sample_weight")
    try:
        if objective.name in WEIGHTED:
            return replace(objective, weights=weights)
        return Weighted(objective.name, objective.kind, objective.metric, weights)
    except ConfigError as error:
        raise BadInput(f"sample_weight: {error}") from None


@dataclass(frozen=True, eq=False)
class Weighted(Objective):
    """Spearman's rho or Kendall's tau-b with a weight for every row, shape (N,), none of them negative."""

    def __post_init__(self) -> None:
        """Check nothing: weights are checked where they come from."""

    def directed(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return the statistic of every row of `values` (P, N), and a class for each absolute value."""
        values = np.asarray(values, np.float64)
        r = np.full(len(values), np.nan)
        for i in np.flatnonzero(np.isfinite(values).all(axis=1)):
            r[i] = self.signed(values[i], target)
        return r, np.where(np.isfinite(r), np.abs(r) + 2.0, 0.0).view(np.uint64)

    def signed(self, values: Floats, target: Floats) -> float:
        """Return the statistic of one formula; NaN where undefined."""
        assert self.weights is not None
        counts = self.weights > 0.0
        x, y, w = values[counts], target[counts], self.weights[counts]
        if x.size < 2 or x.min() == x.max() or y.min() == y.max():
            return float("nan")
        if self.name == "kendall":
            return _tau(x, y, w)
        return float(weighted_correlation(_ranks(x, w)[None, :], _ranks(y, w), w)[0])

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the statistic of one formula, and on how many rows it has a value."""
        value = self.on(scores.ok).signed(scores.values[scores.ok], target[scores.ok])
        counts = {"n": int(scores.ok.sum()), "invalid": int((~scores.ok).sum())}
        return {self.metric: value if np.isfinite(value) else None, **counts}


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
