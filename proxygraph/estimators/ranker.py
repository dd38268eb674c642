"""Formulas that rank, for scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from proxygraph.estimators.base import FormulaEstimator, checked_weights, same_length
from proxygraph.estimators.docs import documented
from proxygraph.estimators.formula import BadInput
from proxygraph.table import StatTable


@documented('"spearman" (by default), "kendall" or "pearson".')
class ProxyRanker(FormulaEstimator):
    """Formulas whose values order rows as a target does, found by a search.

    `X` may be a `StatTable` with statistics of networks on several axes, beside arrays and DataFrames.

    {parameters}

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(1, 3, size=(80, 2))
    >>> model = ProxyRanker(generations=10, random_state=0).fit(X, np.exp(X[:, 0] * X[:, 1]))
    >>> model.formula()
    'x0 * x1'
    """

    _kind = "rank"
    _objective = "spearman"

    def _data(self, X: Any, y: Any) -> tuple[Any, Any]:
        if not isinstance(X, StatTable):
            return super()._data(X, y)
        if y is None:
            raise BadInput("ProxyRanker requires y to be passed, but the target y is None")
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", ensure_min_samples=2)
        same_length(X.rows, y)
        for name, column in X.columns.items():
            used = self.leaves is None or name in self.leaves
            if used and not np.isfinite(column).all():
                remedy = "leave it out of `leaves`, or drop the rows"
                raise BadInput(f"column {name!r} of X contains NaN or infinity; {remedy}")
        self.n_features_in_ = len(X.columns)
        self.feature_names_in_ = np.array(list(X.columns), dtype=object)
        return X, y

    def _table(self, X: Any) -> StatTable:
        return X if isinstance(X, StatTable) else super()._table(X)

    def _rows(self, X: Any) -> StatTable:
        if isinstance(X, StatTable):
            return X
        if self._ragged:
            raise BadInput(f"fitted on statistics of networks: X must be a StatTable, not {type(X).__name__}")
        return super()._rows(X)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return Spearman's rho with `y`, the mean over targets.

        A row without a finite score ranks last. Scores without an order count 0.
        """
        from proxygraph.estimators.weighted import weighted
        from proxygraph.objective import find_objective
        from proxygraph.scores import Scores

        scores = np.atleast_2d(self.predict(X).T)
        targets = np.atleast_2d(np.asarray(y, np.float64).T)
        same_length(scores.T, targets.T)
        judge = weighted(find_objective("spearman"), checked_weights(sample_weight, scores.shape[1]))
        rho = []
        for one, target in zip(scores, targets, strict=True):
            ok = np.isfinite(one)
            last = np.min(one, where=ok, initial=0.0)
            one = np.where(ok, one, np.nextafter(last, -np.inf))
            rho.append(judge.report(Scores.of(one), target)["spearman"] or 0.0)
        return float(np.mean(rho))
