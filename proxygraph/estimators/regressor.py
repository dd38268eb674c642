"""Symbolic regression for scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from proxygraph.estimators.base import FormulaEstimator
from proxygraph.estimators.docs import documented


@documented('"r2" (by default) or "mse".')
class SymbolicRegressor(RegressorMixin, FormulaEstimator):  # type: ignore[misc]
    """Formulas that predict a target, found by a search.

    {parameters}

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(1, 3, size=(80, 2))
    >>> model = SymbolicRegressor(generations=10, random_state=0).fit(X, X[:, 0] * X[:, 1])
    >>> model.formula()
    'x0 * x1'
    """

    _kind = "fit"
    _objective = "r2"

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return R², the mean over targets.

        A row without a finite prediction counts as if the mean of `y` had been predicted.
        """
        predicted = self.predict(X)
        y = np.asarray(y, np.float64)
        weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        mean = np.broadcast_to(np.average(y, axis=0, weights=weights), predicted.shape)
        finite = np.where(np.isfinite(predicted), predicted, mean)
        return float(r2_score(y, finite, sample_weight=sample_weight))
