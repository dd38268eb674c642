"""What a formula is judged by: fitness on the training rows, the final form, and the numbers reported.

Rank objectives judge the order only, up to direction: a formula that ranks backwards is as good as its
negative, and the final form is negated explicitly. Least-squares objectives judge the best line through the
formula, and the final form carries that line's two constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag, Node
from proxygraph.errors import UnknownName
from proxygraph.rank import correlation, kendall, ordered, rank_report, spearman
from proxygraph.scores import Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """One way to judge formulas.

    Attributes
    ----------
    name : str
    kind : {"rank", "fit"}
        Whether the order or the values count.
    metric : str
        The entry of `report` that larger-is-better choices (validation) use.
    """

    name: str
    kind: Literal["rank", "fit"]
    metric: str

    def fitness(self, values: Floats, target: Floats) -> Floats:
        """Return the fitness of every row of `values` (P, N), in [0, 1]; NaN for invalid formulas."""
        if self.name == "spearman":
            return np.abs(spearman(values, target))
        if self.name == "kendall":
            return np.asarray(np.abs(kendall(values, target)))
        finite = np.isfinite(values).all(axis=1)
        out = np.full(len(values), np.nan)
        if finite.any():
            r = correlation(values[finite], target)
            out[finite] = np.abs(r) if self.name == "pearson" else r * r
        return out

    def judged(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, NDArray[np.uint64]]:
        """Return fitness and class of every row of `values` (P, N).

        Formulas of one class cannot be told apart by this objective: they give the rows the same order up to
        direction (rank objectives), or values that are the same up to a line (the others).
        """
        if self.name in ("spearman", "kendall"):
            r, codes = ordered(values, target, self.name, threads)
            return np.abs(r), codes
        fitness = self.fitness(np.asarray(values, np.float64), target)
        return fitness, np.where(np.isfinite(fitness), fitness + 2.0, 0.0).view(np.uint64)

    def finish(self, dag: Dag, values: Floats, target: Floats) -> Dag:
        """Return the formula as it is to be used: negated if it ranks backwards, or with a line's constants.

        Parameters
        ----------
        dag : Dag
        values, target : ndarray, shape (N,)
            On the training rows; only these decide.
        """
        ok = np.isfinite(values)
        if not ok.any():
            return dag
        if self.kind == "rank":
            rho = self.signed(values[ok], target[ok])
            return _wrapped(dag, -1.0, 0.0) if rho < 0 else dag
        x, y = values[ok], target[ok]
        slope, offset = _line(x, y)
        if slope is None:
            return Dag([Node("const", value=offset)], dag.leaves)
        return _wrapped(dag, slope, offset)

    def signed(self, values: Floats, target: Floats) -> float:
        """Return a rank objective's own statistic with its sign; NaN where undefined."""
        agree = {"pearson": correlation, "spearman": spearman, "kendall": kendall}[self.name]
        return float(agree(values[None, :], target)[0])

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the numbers that ``result.json`` carries for one formula on one part of the rows."""
        if self.kind == "rank":
            ranks = rank_report(scores, target)
            ranked: dict[str, Any] = {"spearman": ranks.rho, "kendall": ranks.tau_b}
            if self.name == "pearson":
                value = float(correlation(scores.values[None, scores.ok], target[scores.ok])[0])
                ranked["pearson"] = value if np.isfinite(value) else None
            return {**ranked, "n": ranks.n_used, "invalid": ranks.n_invalid}
        x, y = scores.values[scores.ok], target[scores.ok]
        numbers: dict[str, Any] = {
            "r2": None,
            "rmse": None,
            "n": int(x.size),
            "invalid": int((~scores.ok).sum()),
        }
        if x.size:
            with np.errstate(all="ignore"):
                residual = float(np.sum((y - x) ** 2))
                total = float(np.sum((y - y.mean()) ** 2))
            if np.isfinite([residual, total]).all():
                numbers["r2"] = 1.0 - residual / total if total > 0.0 else None
                numbers["rmse"] = float(np.sqrt(residual / x.size))
        return numbers


def _line(x: Floats, y: Floats) -> tuple[float | None, float]:
    """Return slope and offset of the least-squares line; without a slope if `x` says nothing."""
    mean = float(y.mean())
    if x.min() == x.max():
        return None, mean
    with np.errstate(all="ignore"):
        # centred and scaled: the normal equations lose half the digits when |mean| >> spread
        centre = float(np.mean(x / x.size) * x.size)
        spread = float(np.max(np.abs(x - centre)))
        z = (x - centre) / spread
        slope = float(np.dot(z, y - mean) / np.dot(z, z)) / spread
        offset = mean - slope * centre
    return (slope, offset) if np.isfinite([slope, offset]).all() else (None, mean)


def _wrapped(dag: Dag, slope: float, offset: float) -> Dag:
    """Return ``slope * dag + offset`` without needless nodes."""
    nodes = list(dag.nodes)

    def add(node: Node) -> int:
        nodes.append(node)
        return len(nodes) - 1

    top = len(nodes) - 1
    if slope == -1.0:
        top = add(Node("op", "neg", (top,)))
    elif slope != 1.0:
        top = add(Node("op", "mul", (add(Node("const", value=slope)), top)))
    if offset != 0.0:
        top = add(Node("op", "add", (top, add(Node("const", value=offset)))))
    return Dag(nodes, dag.leaves)


_ROWS = (
    Objective("spearman", "rank", "spearman"),
    Objective("kendall", "rank", "kendall"),
    Objective("pearson", "rank", "pearson"),
    Objective("r2", "fit", "r2"),
    Objective("mse", "fit", "r2"),
)

OBJECTIVES: Mapping[str, Objective] = MappingProxyType({o.name: o for o in _ROWS})
"""All objectives by name."""


def find_objective(name: str) -> Objective:
    """Return an objective by name (`UnknownName` if there is none)."""
    if name not in OBJECTIVES:
        raise UnknownName(f"no objective named {name!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
