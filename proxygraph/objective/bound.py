"""Fitness that luck with few labels does not raise: a lower confidence bound over resamples of the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.objective.plain import WEIGHTED, Codes, Floats, Objective
from proxygraph.rank import centred
from proxygraph.scores import Scores

BOUNDED = ("spearman", "kendall", *WEIGHTED)
MAX_RESAMPLES = 100_000


@dataclass(frozen=True, eq=False)
class LowerBound(Objective):
    """A quantile of an objective's statistic over bootstrap resamples of the rows, instead of the statistic.

    The percentile bootstrap (Efron 1979 [1]_): every resample draws N of the N rows with replacement. The
    statistic is exact in each of them, ranks and ties included; nothing is linearised. All formulas see the
    same resamples, which depend on the seed and N only, so that formulas are compared in pairs. The statistic
    is taken in the direction that it has on all rows, that of the final form; a bound below 0 is a fitness of
    0, and a resample in which the statistic is undefined counts as 0. Classes, final form and reported
    numbers are those of the objective itself.

    Parameters
    ----------
    inner : Objective
        spearman, kendall, pearson, r2 or mse; the bound of the last two is that of r, squared. Weights are
        kept.
    resamples : int
        At least 20, and enough for the quantile.
    quantile : float
        Share of the resamples that lie below the bound, at most 0.5; 0.16 is about one standard error.
    seed : int

    Raises
    ------
    ConfigError
        If a setting cannot be used.

    Notes
    -----
    O(N B) for each formula beyond sorting it, but O(N**2 B) for kendall.

    References
    ----------
    .. [1] B. Efron (1979), Bootstrap Methods: Another Look at the Jackknife, Ann. Stat. 7(1), 1-26.
    """

    name: str = field(init=False)
    kind: Literal["rank", "fit"] = field(init=False)
    metric: str = field(init=False)
    weights: None = field(init=False, default=None)
    inner: Objective
    resamples: int = 200
    quantile: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.inner) is not Objective or self.inner.name not in BOUNDED:
            raise ConfigError(f"no lower bound of {self.inner.name!r}; of these: {', '.join(BOUNDED)}")
        if not 20 <= self.resamples <= MAX_RESAMPLES:
            raise ConfigError(f"resamples {self.resamples}: from 20 to {MAX_RESAMPLES} can be drawn")
        if not 0.0 < self.quantile <= 0.5 or self.quantile * self.resamples < 1.0:
            raise ConfigError(
                f"quantile {self.quantile} of {self.resamples} resamples: above 0, at most 0.5, and at least "
                "one resample below it are needed"
            )
        object.__setattr__(self, "name", f"lower:{self.inner.name}:{self.quantile:g}:{self.resamples}")
        object.__setattr__(self, "kind", self.inner.kind)
        object.__setattr__(self, "metric", self.inner.metric)

    def on(self, rows: Any) -> Self:
        """Return the bound for some of the rows, with resamples of those."""
        return replace(self, inner=self.inner.on(rows))

    def judged(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return the bound as fitness, and the class, of every row of `values` (P, N)."""
        bound, codes = self._bounds(values, target, threads)[1:]
        bound = np.maximum(bound, 0.0)
        return (bound * bound if self.kind == "fit" else bound), codes

    def directed(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return the bound, at least 0, with the sign of the statistic, and the class."""
        r, bound, codes = self._bounds(values, target, threads)
        return np.copysign(np.maximum(bound, 0.0), r), codes

    def _bounds(self, values: Floats, target: Floats, threads: int) -> tuple[Floats, Floats, Codes]:
        """Return statistic, bound in its direction, and class."""
        from proxygraph.kernels import ranking, resampled

        at = math.ceil(self.quantile * self.resamples) - 1
        drawn = draws(np.shape(target)[-1], self.resamples, self.seed)
        if self.inner.name not in WEIGHTED:
            known = ranking.Target.of(target)
            return resampled.rank_bounds(
                values, known, resampled.draws_of(known, drawn), at, self.inner.name, threads
            )
        values = np.asarray(values, np.float64)
        r, codes = self.inner.directed(values, target, threads)
        weights = self.inner.weights
        rows = drawn.astype(np.float64) if weights is None else drawn * weights[:, None]
        good = np.flatnonzero(np.isfinite(r))
        bound = np.full(len(r), np.nan)
        if good.size:
            x, y = centred(values[good], weights), centred(np.asarray(target, np.float64), weights)
            bound[good] = np.round(resampled.pearson_bounds(x, y, rows, at, r[good], threads), 12)
        return r, bound, codes

    def signed(self, values: Floats, target: Floats) -> float:
        """Return the objective's own statistic with its sign."""
        return self.inner.signed(values, target)

    def line(self, values: Floats, target: Floats) -> tuple[float, float]:
        """Return slope and offset of the final form."""
        return self.inner.line(values, target)

    def finish(self, dag: Dag, values: Floats, target: Floats) -> Dag:
        """Return the objective's own final form."""
        return self.inner.finish(dag, values, target)

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the objective's own numbers: those of the rows as they are."""
        return self.inner.report(scores, target)


@lru_cache(maxsize=16)
def draws(n: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each of `n` rows is in each resample, shape (N, B)."""
    rng = np.random.default_rng([seed, n, 0xB007])
    times = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).T if n else np.zeros((0, resamples))
    times = np.ascontiguousarray(times, np.int64)
    times.flags.writeable = False
    return times
