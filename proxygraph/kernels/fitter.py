"""Constants of formulas over one table, fitted by least squares; trees are shared out over threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxygraph.compact.forest import Forest, Vocabulary
from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.kernels.fit import fit
from proxygraph.table import StatTable

TRIALS = 5
"""Sets of constants that are tried for a tree of a population."""
ENOUGH = 1e-6
"""A step that promises less than this share of the loss is not worth a trial in a population."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Trees with fitted constants.

    Attributes
    ----------
    trees : Forest
    loss : ndarray of float64, shape (P,)
        Share of the target's variance that is left: 1 - R². NaN where nothing was fitted: the tree has no
        constant that matters or operators that cannot be fitted, its values are not finite on all rows, or
        they or the target are constant.
    """

    trees: Forest
    loss: NDArray[np.float64]


class Fitter:
    """Fits constants to a target on one table.

    Parameters
    ----------
    table : StatTable
        With leaves on the row axis only.
    target : array_like, shape (N,)
        Finite.
    weights : array_like, shape (N,), optional
        Of rows; not negative, finite, not all 0. Only their ratios matter.
    threads : int
        Results do not depend on it.

    Raises
    ------
    ConfigError
        If the table has other axes, or the target or weights cannot be used.
    ShapeMismatch
        If their lengths differ from the table's.
    """

    def __init__(
        self, table: StatTable, target: ArrayLike, weights: ArrayLike | None = None, threads: int = 1
    ) -> None:
        other = [name for name, leaf in table.leaves.items() if leaf.axis != "row"]
        if other:
            raise ConfigError(
                f"leaf {other[0]!r} is on the {table.leaves[other[0]].axis} axis; constants are fitted by "
                "least squares on the row axis only, use constants.searched for other tables"
            )
        self.vocabulary = Vocabulary.of(table.leaves)
        self.target = np.array(target, np.float64)
        given = np.ones(table.n_rows) if weights is None else np.array(weights, np.float64)
        for name, array in (("target", self.target), ("weights", given)):
            if array.shape != (table.n_rows,):
                raise ShapeMismatch(f"{name} of shape {array.shape} for a table of {table.n_rows} rows")
            if not np.isfinite(array).all():
                raise ConfigError(f"{name}: every value must be finite")
        if (given < 0.0).any() or not (given.max(initial=0.0) > 0.0):
            raise ConfigError("weights: none may be negative, and one must be positive")
        given = given / given.max()
        self.weights = given / given.mean()
        self.columns = np.empty((len(table.leaves), table.n_rows))
        for row, name in zip(self.columns, table.leaves, strict=True):
            row[:] = table.columns[name]
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def fitted(
        self,
        trees: Forest,
        trials: int = TRIALS,
        *,
        line: bool = True,
        tied: bool = False,
        frozen: NDArray[np.bool_] | None = None,
        enough: float = ENOUGH,
    ) -> Fitted:
        """Return trees with better constants where some are found; a loss is never higher than before.

        Parameters
        ----------
        trees : Forest
            In `vocabulary`. Exponents of pow stay: they are multiples of 1/2.
        trials : int
            Most sets of constants that are tried for each tree; 0 only measures, also trees that have nothing
            to fit.
        line : bool
            Whether the best line through a formula is judged, or the formula itself.
        tied : bool
            Whether equal constants of a tree stay equal, so that no part is counted twice that was once.
        frozen : ndarray of bool, shape (P, L), optional
            Constants that stay as they are.
        enough : float
            Stop when a step promises less than this share of the loss.
        """
        n = len(trees.length)
        held = np.zeros((0, 0), np.bool_) if frozen is None else np.ascontiguousarray(frozen, np.bool_)
        if frozen is not None and held.shape != trees.code.shape:
            raise ShapeMismatch(f"frozen has shape {held.shape}, the trees {trees.code.shape}")
        code, length = np.ascontiguousarray(trees.code), np.ascontiguousarray(trees.length)
        value, loss = np.array(trees.value, order="C"), np.full(n, np.nan)
        arity = self.vocabulary.symbols.arity

        def work(first: int, last: int) -> None:
            fit(
                code,
                value,
                length,
                arity,
                self.columns,
                self.target,
                self.weights,
                line,
                tied,
                held,
                trials,
                enough,
                first,
                last,
                loss,
            )

        if self.threads == 1 or n < 2:
            work(0, n)
        else:
            self._pool = self._pool or ThreadPoolExecutor(self.threads)
            parts = min(n, 4 * self.threads)  # trees take unequal times
            bounds = [k * n // parts for k in range(parts + 1)]
            for future in wait([self._pool.submit(work, a, b) for a, b in pairwise(bounds)]).done:
                future.result()
        return Fitted(Forest(trees.code, value, trees.length), loss)

    def losses(self, trees: Forest, *, line: bool = True) -> NDArray[np.float64]:
        """Return the loss of trees as they are; NaN where values or operators do not allow one."""
        return self.fitted(trees, 0, line=line).loss
