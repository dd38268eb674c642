"""Objectives that are one statistic of a formula's values and the target; the base of all others."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag, Node
from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.rank import correlation, kendall, ordered, rank_report, spearman, weighted_correlation
from proxygraph.scores import Scores

Floats = NDArray[np.float64]


Codes = NDArray[np.uint64]
WEIGHTED = ("pearson", "r2", "mse")


@dataclass(frozen=True, eq=False)
class Objective:
    """One way to judge formulas.

    Attributes
    ----------
    name : str
        As `find_objective` reads it.
    kind : {"rank", "fit"}
        Whether the order or the values count.
    metric : str
        The entry of `report` that larger-is-better choices (validation) use.
    weights : ndarray of float, shape (N,), optional
        How much every row counts, for pearson, r2 and mse; set with ``dataclasses.replace``. They belong to
        rows: `on` takes those of some rows along.

    Raises
    ------
    ConfigError
        If weights are negative, not finite, or nearly all 0, or the objective takes none.
    """

    name: str
    kind: Literal["rank", "fit"]
    metric: str
    weights: Floats | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        if self.name not in WEIGHTED:
            raise ConfigError(f"objective {self.name!r} takes no weights; those with: {', '.join(WEIGHTED)}")
        weights = np.array(self.weights, np.float64)
        if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0.0).any():
            raise ConfigError("weights: one finite number >= 0 for every row is needed")
        if (weights > 0.0).sum() < 2:
            raise ConfigError("weights: fewer than two rows have a weight above 0")
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)

    @property
    def basis(self) -> str:
        """Name of a plain objective that needs the same compiled code."""
        return self.name

    def on(self, rows: Any) -> Self:
        """Return the objective for some of the rows, by number or mask; what belongs to rows follows."""
        if self.weights is None:
            return self
        some = copy(self)  # not checked again: of few rows all weights may be 0
        object.__setattr__(some, "weights", self.weights[rows])
        return some

    def fitness(self, values: Floats, target: Floats) -> Floats:
        """Return the fitness of every row of `values` (P, N), in [0, 1]; NaN for invalid formulas."""
        return self.judged(values, target)[0]

    def judged(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return fitness and class of every row of `values` (P, N).

        Formulas of one class cannot be told apart by this objective: they give the rows the same order up to
        direction (rank objectives), or values that are the same up to a line (the others).

        Returns
        -------
        fitness : ndarray of float64, shape (P,)
            In [0, 1]; NaN for formulas that are not finite everywhere, or constant.
        codes : ndarray of uint64, shape (P,)
        """
        r, codes = self.directed(values, target, threads)
        fitness = r * r if self.kind == "fit" else np.abs(r)
        if self.name in WEIGHTED:
            codes = np.where(np.isfinite(fitness), fitness + 2.0, 0.0).view(np.uint64)
        return fitness, codes

    def directed(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return the statistic with its sign, NaN where undefined, and the class, of every row of `values`.

        The statistic of negated values is the negative one. That of r2 and mse is Pearson's r.
        """
        if self.name not in WEIGHTED:
            return ordered(values, target, self.name, threads)
        values = np.asarray(values, np.float64)
        finite = np.isfinite(values).all(axis=1)
        r = np.full(len(values), np.nan)
        if finite.any():
            r[finite] = self._correlation(values[finite], target)
        return r, np.where(np.isfinite(r), np.abs(r) + 2.0, 0.0).view(np.uint64)

    def finish(self, dag: Dag, values: Floats, target: Floats) -> Dag:
        """Return the formula as it is to be used: negated if it ranks backwards, or with a line's constants.

        Parameters
        ----------
        dag : Dag
        values, target : ndarray, shape (N,)
            On the training rows; only these decide, where they are finite.
        """
        slope, offset = self.line(values, target)
        if slope == 0.0:
            return Dag([Node("const", value=offset)], dag.leaves)
        return wrapped(dag, slope, offset)

    def line(self, values: Floats, target: Floats) -> tuple[float, float]:
        """Return slope and offset of the final form: those of `finish`, which the values (N,) decide."""
        ok = np.isfinite(values)
        if not ok.any():
            return 1.0, 0.0
        judge = self.on(ok)
        if self.kind == "rank":
            return (-1.0, 0.0) if judge.signed(values[ok], target[ok]) < 0 else (1.0, 0.0)
        return best_line(values[ok], target[ok], judge.weights)

    def lines(self, values: Floats, target: Floats) -> Floats:
        """Return `line` of every row of `values` (P, N), shape (P, 2)."""
        agree = {"spearman": spearman, "kendall": kendall}.get(self.name)
        if type(self) is Objective and agree is not None and np.isfinite(values).all():
            backwards = agree(values, target) < 0
            return np.stack([np.where(backwards, -1.0, 1.0), np.zeros(len(values))], axis=1)
        return np.array([self.line(each, target) for each in values]).reshape(-1, 2)

    def signed(self, values: Floats, target: Floats) -> float:
        """Return the objective's own statistic with its sign; NaN where undefined."""
        if self.name in WEIGHTED:
            return float(self._correlation(np.asarray(values, np.float64)[None, :], target)[0])
        agree = {"spearman": spearman, "kendall": kendall}[self.name]
        return float(agree(values[None, :], target)[0])

    def _correlation(self, values: Floats, target: Floats) -> Floats:
        if self.weights is None:
            return correlation(values, target)
        self._check_rows(np.shape(target)[-1])
        return weighted_correlation(values, target, self.weights)

    def _check_rows(self, n: int) -> None:
        if self.weights is not None and len(self.weights) != n:
            raise ShapeMismatch(f"{len(self.weights)} weights for {n} rows; take those of the rows with on()")

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the numbers that ``result.json`` carries for one formula on one part of the rows."""
        if self.kind == "rank":
            ranks = rank_report(scores, target)
            own = {}
            if self.metric not in ("spearman", "kendall"):
                value = self.on(scores.ok).signed(scores.values[scores.ok], target[scores.ok])
                own[self.metric] = value if np.isfinite(value) else None
            counts = {"n": ranks.n_used, "invalid": ranks.n_invalid}
            return {"spearman": ranks.rho, "kendall": ranks.tau_b, **own, **counts}
        self._check_rows(len(target))
        return fit_report(scores, target, self.weights)


def fit_report(scores: Scores, target: Floats, weights: Floats | None = None) -> dict[str, Any]:
    """Return r2 and rmse of predictions, weighted if asked, ``None`` where undefined."""
    x, y = scores.values[scores.ok], target[scores.ok]
    w = np.ones(x.size) if weights is None else weights[scores.ok]
    counts = {"n": int(x.size), "invalid": int((~scores.ok).sum())}
    numbers: dict[str, Any] = {"r2": None, "rmse": None, **counts}
    if w.sum() > 0.0:
        with np.errstate(all="ignore"):
            residual = float(np.sum(w * (y - x) ** 2))
            total = float(np.sum(w * (y - _mean(y, w)) ** 2))
        if np.isfinite([residual, total]).all():
            heard = y[w > 0.0]  # of equal targets the mean may be rounded, and `total` not be 0
            numbers["r2"] = None if total == 0.0 or (heard == heard[0]).all() else 1.0 - residual / total
            numbers["rmse"] = float(np.sqrt(residual / w.sum()))
    return numbers


def _mean(y: Floats, w: Floats) -> float:
    return float(np.sum(w * y) / np.sum(w))


def best_line(x: Floats, y: Floats, weights: Floats | None = None) -> tuple[float, float]:
    """Return slope and offset of the least-squares line, finite; slope 0 if `x` says nothing.

    Parameters
    ----------
    x, y : ndarray of float64, shape (N,)
        Finite.
    weights : ndarray of float64, shape (N,), optional
    """
    w = np.ones(x.size) if weights is None else weights
    used = w > 0.0
    if not used.any():
        return 0.0, 0.0
    x, y, w = x[used], y[used], w[used]
    mean = _mean(y, w)
    if x.min() == x.max():
        return 0.0, mean
    with np.errstate(all="ignore"):
        # centred and scaled: the normal equations lose half the digits when |mean| >> spread
        centre = float(np.sum(x * (w / np.sum(w))))
        spread = float(np.max(np.abs(x - centre)))
        z = (x - centre) / spread
        slope = float(np.dot(w * z, y - mean) / np.dot(w * z, z)) / spread
        offset = mean - slope * centre
    return (slope, offset) if np.isfinite([slope, offset]).all() else (0.0, mean)


def wrapped(dag: Dag, slope: float, offset: float) -> Dag:
    """Return ``slope * dag + offset`` without needless nodes."""
    nodes = list(dag.nodes)

    def add(node: Node) -> int:
        nodes.append(node)
        return len(nodes) - 1

    if slope == 1.0 and offset == 0.0:
        return dag
    top = len(nodes) - 1
    if slope == -1.0:
        top = add(Node("op", "neg", (top,)))
    elif slope != 1.0:
        top = add(Node("op", "mul", (add(Node("const", value=slope)), top)))
    if offset != 0.0:
        top = add(Node("op", "add", (top, add(Node("const", value=offset)))))
    return Dag(nodes, dag.leaves)
