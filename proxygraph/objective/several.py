"""One formula for several problems: as good as it is on the worst of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.objective.bound import LowerBound
from proxygraph.objective.custom import line_codes
from proxygraph.objective.plain import Codes, Floats, Objective
from proxygraph.objective.top import TopK
from proxygraph.rank import centred
from proxygraph.scores import Scores

PREFIX = "least:"
"""What the name of the objective begins with; the name of the inner one follows."""
LEAST_ROWS = 3
"""Rows of a problem without which nothing can be said about it."""


@dataclass(frozen=True, eq=False)
class Several(Objective):
    """The least of an objective over several problems, whose rows stand in one table.

    A formula has one final form for all problems. Rank objectives: it has one direction, in which its fitness
    is the least of the problems' signed statistics, or 0 if it ranks some problem backwards either way.
    Least squares: it has one line through all rows, and its fitness is the least of the problems' r2 of that
    line's predictions, or 0.

    Parameters
    ----------
    inner : Objective
        Of a rank objective, also `TopK` or `LowerBound`. Its weights, if any, are of all rows.
    parts : ndarray of int or str, shape (N,)
        To which problem each row belongs; at least three rows each, at least two problems.

    Raises
    ------
    ConfigError
        If a part is too small, there is one only, or `inner` cannot be had part by part.
    """

    name: str = field(init=False)
    kind: Literal["rank", "fit"] = field(init=False)
    metric: str = field(init=False, default="worst")
    weights: None = field(init=False, default=None)
    inner: Objective
    parts: NDArray[Any]

    def __post_init__(self) -> None:
        inner = self.inner
        known = type(inner) in (Objective, TopK, LowerBound)
        if not known or (inner.kind == "fit" and type(inner) is not Objective):
            raise ConfigError(f"objective {inner.name!r} cannot be taken over several problems")
        labels = np.array(self.parts)
        if labels.ndim != 1:
            raise ShapeMismatch(f"parts of shape {labels.shape}: expected one label for every row")
        labels.flags.writeable = False
        object.__setattr__(self, "parts", labels)
        object.__setattr__(self, "name", PREFIX + inner.name)
        object.__setattr__(self, "kind", inner.kind)

    @property
    def basis(self) -> str:
        """Name of a plain objective that needs the same compiled code."""
        return self.inner.basis

    def on(self, rows: Any) -> Self:
        """Return the objective for some of the rows."""
        return replace(self, inner=self.inner.on(rows), parts=self.parts[rows])

    def directed(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return the least statistic, at least 0, with the sign of the direction, and the class.

        Parameters
        ----------
        values : ndarray of float, shape (P, N)
        target : ndarray of float, shape (N,)
        threads : int

        Returns
        -------
        r : ndarray of float64, shape (P,)
            NaN for a formula that is invalid on one of the problems. Of least squares: the root of the
            least r2, without a sign.
        codes : ndarray of uint64, shape (P,)
            Equal where all problems' orders are the same, or all are reversed; of least squares, where the
            values are the same up to a line.
        """
        target = np.asarray(target, np.float64)
        chosen = self._rows(len(target))
        if self.kind == "fit":
            return self._fitted(np.asarray(values, np.float64), target, chosen)
        judged = [self.inner.on(rows).directed(values[:, rows], target[rows], threads) for rows in chosen]
        r = np.stack([part for part, _ in judged])
        low, high = r.min(axis=0), r.max(axis=0)
        forward = low >= -high
        signed = np.where(forward, np.maximum(low, 0.0), -np.maximum(-high, 0.0))
        # part by part a class is undirected; together the parts' directions to each other count. Where one
        # has none, r = 0, the fitness is 0 whatever they are.
        sign = np.nan_to_num(np.sign(r))
        relative = (sign * sign[np.argmax(sign != 0.0, axis=0), np.arange(r.shape[1])]).astype(np.int64)
        codes = np.zeros(r.shape[1], np.uint64)
        for (_, code), side in zip(judged, relative, strict=True):
            codes = _mixed(codes + _mixed(code + side.astype(np.uint64)))
        return np.where(np.isnan(r).any(axis=0), np.nan, signed), codes

    def judged(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return fitness and class of every row of `values` (P, N)."""
        r, codes = self.directed(values, target, threads)
        return (r * r if self.kind == "fit" else np.abs(r)), codes

    def _fitted(
        self, values: Floats, target: Floats, chosen: list[NDArray[np.int64]]
    ) -> tuple[Floats, Codes]:
        """Return the root of the least r2 of the best line's predictions, and the class, of every row."""
        weights = self.inner.weights
        w = np.ones(len(target)) if weights is None else weights
        r, codes = np.full(len(values), np.nan), np.zeros(len(values), np.uint64)
        good = np.flatnonzero(np.isfinite(self.inner.directed(values, target)[0]))
        z = centred(values[good], weights)
        mean = np.sum(w * target) / np.sum(w)
        slope = (z * (w * (target - mean))).sum(axis=1) / (z * z * w).sum(axis=1)
        squares = w * (target - mean - slope[:, None] * z) ** 2
        least = np.full(len(good), np.inf)
        for rows in chosen:
            y, v = target[rows], w[rows]
            total = float(np.sum(v * (y - np.sum(v * y) / np.sum(v)) ** 2)) if v.any() else 0.0
            share = squares[:, rows].sum(axis=1) / total if total > 0.0 else np.full(len(good), np.nan)
            least = np.minimum(least, 1.0 - share)
        r[good], codes[good] = np.sqrt(np.maximum(np.round(least, 12), 0.0)), line_codes(z)
        return r, codes

    def _rows(self, n: int) -> list[NDArray[np.int64]]:
        """Return the rows of every problem, checked."""
        if len(self.parts) != n:
            raise ShapeMismatch(
                f"parts of {len(self.parts)} rows but {n} targets; take those of the rows with on()"
            )
        names, place, count = np.unique(self.parts, return_inverse=True, return_counts=True)
        if len(names) < 2:
            raise ConfigError("several problems: all rows belong to one")
        if count.min() < LEAST_ROWS:
            few = names[np.argmin(count)]
            raise ConfigError(f"problem {few!s} has {count.min()} rows; at least {LEAST_ROWS} are needed")
        return [np.flatnonzero(place == k) for k in range(len(names))]

    def signed(self, values: Floats, target: Floats) -> float:
        """Return the least statistic with the sign of the direction; NaN where undefined.

        Problems of which fewer than three rows are left do not count.
        """
        found = self._by_problem(values, target)
        if not found or np.isnan(found).any():
            return float("nan")
        low, high = min(found), max(found)
        return low if low >= -high else high

    def _by_problem(self, values: Floats, target: Floats) -> list[float]:
        rows = [np.flatnonzero(self.parts == name) for name in np.unique(self.parts)]
        return [
            self.inner.on(some).signed(values[some], target[some]) for some in rows if len(some) >= LEAST_ROWS
        ]

    def line(self, values: Floats, target: Floats) -> tuple[float, float]:
        """Return slope and offset of the final form, one for all problems."""
        if self.kind == "rank":
            return super().line(values, target)
        return self.inner.line(values, target)

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the numbers of all rows together, and as ``"worst"`` the least of the problems' own.

        The final form has a direction, and is held to it: ``"worst"`` is the least signed statistic. Problems
        of fewer than three rows are left out. The statistic of every problem is there, too, as ``"METRIC in
        PROBLEM"``.
        """
        found: dict[str, float | None] = {}
        for name in dict.fromkeys(self.parts.tolist()):
            rows = np.flatnonzero(self.parts == name)
            if len(rows) >= LEAST_ROWS:
                part = Scores(scores.values[rows], scores.ok[rows])
                value = self.inner.on(rows).report(part, target[rows])[self.inner.metric]
                found[f"{self.inner.metric} in {name}"] = value
        known = [value for value in found.values() if value is not None]
        worst = min(known) if found and len(known) == len(found) else None
        return {**self.inner.report(scores, target), "worst": worst, **found}


def _mixed(x: Codes) -> Codes:
    """Return 64 well mixed bits of 64 bits (the finaliser of MurmurHash3, Appleby 2011)."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))
