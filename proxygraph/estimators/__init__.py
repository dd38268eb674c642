"""scikit-learn estimators: a table in, formulas out.

`SymbolicRegressor` predicts a target, `ProxyRanker` ranks rows by it. Needs scikit-learn, the only part of
the package that does. numba is loaded when something is fitted, not before.
"""

from __future__ import annotations

from importlib.util import find_spec

from proxygraph.errors import BackendUnavailable

if find_spec("sklearn") is None:
    raise BackendUnavailable(
        "SymbolicRegressor and ProxyRanker need scikit-learn: pip install 'proxygraph[sklearn]'"
    )

from proxygraph.estimators.ranker import ProxyRanker
from proxygraph.estimators.regressor import SymbolicRegressor

__all__ = ["ProxyRanker", "SymbolicRegressor"]
