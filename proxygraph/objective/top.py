"""Whether the best rows are ranked rightly: Vigna's weighted tau on the target's top."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from proxygraph.errors import ConfigError
from proxygraph.objective.plain import Codes, Floats, Objective


@dataclass(frozen=True, eq=False)
class TopK(Objective):
    """Weighted Kendall's tau that counts the rows with the highest targets most.

    The row with the `r`-th highest target has weight ``1 / r``, and 0 beyond the `k`-th; a pair of rows
    counts with the sum of their weights (Vigna 2015 [1]_, hyperbolic and additive; the weights are those of
    the target's ranking only, so that negated values have the negative tau). Rows with equal targets share
    their weights. Ties of the values are treated as in tau-b.

    Parameters
    ----------
    k : int, optional
        How many rows have a weight; all of them if not given.

    Raises
    ------
    ConfigError
        If `k` is less than 1.

    References
    ----------
    .. [1] S. Vigna (2015), A Weighted Correlation Index for Rankings with Ties, WWW, 1166-1176.
    """

    name: str = field(init=False, default="topk")
    kind: Literal["rank", "fit"] = field(init=False, default="rank")
    metric: str = field(init=False, default="topk")
    weights: None = field(init=False, default=None)
    k: int | None = None

    def __post_init__(self) -> None:
        if self.k is not None:
            if self.k < 1:
                raise ConfigError(f"objective 'topk': k = {self.k}, at least 1 row must count")
            object.__setattr__(self, "name", f"topk:{self.k}")

    def directed(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return the weighted tau of every row of `values`, NaN where undefined, and its order's code."""
        from proxygraph.kernels import ranking, resampled

        known = ranking.Target.of(target)
        top = resampled.top_of(known, len(known.ranks) if self.k is None else self.k)
        return resampled.top_tau(values, known, top, threads)

    def signed(self, values: Floats, target: Floats) -> float:
        """Return the weighted tau of one formula; NaN where undefined."""
        return float(self.directed(np.asarray(values)[None, :], target)[0][0])
