"""What both estimators share: parameters, checks of data, the search per target, reading the front, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from proxygraph.errors import ProxyGraphError
from proxygraph.estimators.files import plain, read, write
from proxygraph.estimators.formula import BadInput, Formula, Front, portions, refusing, values
from proxygraph.infix import parse
from proxygraph.leaves import Leaf
from proxygraph.table import StatTable

if TYPE_CHECKING:
    from proxygraph.estimators.searched import Plan
    from proxygraph.islands import IslandsState
    from proxygraph.objective import Objective

HOLD_OUT_FROM, HOLD_OUT = 100, 0.25
"""By default a quarter of the rows is held out where there are 100 or more."""
Floats = NDArray[np.float64]


class FormulaEstimator(BaseEstimator):  # type: ignore[misc]
    """Formulas found by a search, one front per target."""

    _kind: ClassVar[str]
    _objective: ClassVar[str]

    def __init__(
        self,
        *,
        objective: str | Objective | None = None,
        generations: int | None = 100,
        time_budget: float | None = None,
        max_evaluations: int | None = None,
        stagnation: int | None = None,
        enough: float | None = None,
        population: int | None = None,
        islands: int | None = None,
        max_size: int | None = None,
        max_depth: int | None = None,
        max_constants: int | None = None,
        parsimony: float | None = None,
        operators: Sequence[str] | None = None,
        leaves: Sequence[str] | None = None,
        max_cost: str | None = None,
        nesting: Mapping[str, Mapping[str, int]] | None = None,
        units: Mapping[str, str] | None = None,
        target_unit: str | None = None,
        trends: Mapping[str, str] | None = None,
        sign: str | None = None,
        fit_constants: bool = True,
        initial: Sequence[str] | None = None,
        validation_fraction: float | str | None = "auto",
        simplify: bool = False,
        warm_start: bool = False,
        callback: Callable[[IslandsState], Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.objective = objective
        self.generations = generations
        self.time_budget = time_budget
        self.max_evaluations = max_evaluations
        self.stagnation = stagnation
        self.enough = enough
        self.population = population
        self.islands = islands
        self.max_size = max_size
        self.max_depth = max_depth
        self.max_constants = max_constants
        self.parsimony = parsimony
        self.operators = operators
        self.leaves = leaves
        self.max_cost = max_cost
        self.nesting = nesting
        self.units = units
        self.target_unit = target_unit
        self.trends = trends
        self.sign = sign
        self.fit_constants = fit_constants
        self.initial = initial
        self.validation_fraction = validation_fraction
        self.simplify = simplify
        self.warm_start = warm_start
        self.callback = callback
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Say that it needs targets, and takes several."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    # ---- fitting -------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Search for formulas.

        Parameters
        ----------
        X : array_like or DataFrame, shape (N, F)
            Finite numbers.
        y : array_like, shape (N,) or (N, T)
            One target, or one search for each of T.
        sample_weight : array_like, shape (N,), optional
            Not negative. A weight of 2 means the same as having the row twice: their sum is the number of
            rows that the choice of a formula's size goes by.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or a parameter cannot be used; the message says why.
        """
        data, y = self._data(X, y)
        table, target = self._table(data), np.asarray(y, np.float64)
        return self._fitted(table, target, checked_weights(sample_weight, table.n_rows))

    def _data(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Check arrays as scikit-learn does; remember the names of columns."""
        checked: tuple[Any, Any] = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        return checked

    def _fitted(self, table: StatTable, target: Floats, weights: Floats | None) -> Self:
        """Search once per target."""
        from proxygraph.estimators.searched import front

        before = self._halls(table) if self.warm_start else []
        random = check_random_state(self.random_state)
        if weights is not None:  # a row that counts nothing is no row
            rows = np.flatnonzero(weights > 0.0)
            table, target, weights = table.take(rows), target[rows], weights[rows]
        held_out = self._held_out(table.n_rows, random)
        start = self._parsed(table.leaves)
        columns = target[:, None] if target.ndim == 1 else target
        fronts = []
        for k, column in enumerate(columns.T):
            plan = self._plan(table, int(random.randint(np.iinfo(np.int32).max)))
            seeds = [*start, *(before[k] if k < len(before) else ())]
            with refusing():
                fronts.append(front(table, np.ascontiguousarray(column), weights, held_out, plan, seeds))
        self._fronts, self._many, self._leaves = tuple(fronts), target.ndim > 1, dict(table.leaves)
        self._ragged = bool(table.offsets)
        self._publish()
        return self

    def _halls(self, table: StatTable) -> list[tuple[Any, ...]]:
        """Return the formulas of the last fit that the table has the columns for."""
        return [
            tuple(
                dag for dag in one.hall if all(table.leaves.get(n) == leaf for n, leaf in dag.leaves.items())
            )
            for one in getattr(self, "_fronts", ())
        ]

    def _publish(self) -> None:
        """Set the attributes that people read."""
        fronts = [[one.record for one in front.formulas] for front in self._fronts]
        best = [front.best for front in self._fronts]
        self.front_: list[Any] = fronts if self._many else fronts[0]
        self.best_index_: int | list[int] = best if self._many else best[0]

    @property
    def equations_(self) -> list[Any]:
        """The front, under the name that users of PySR know."""
        check_is_fitted(self, "front_")
        return self.front_

    def _table(self, X: Floats) -> StatTable:
        """Return checked columns as a table."""
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{k}" for k in range(X.shape[1])]
        for name in names:
            if not name or set(name) & set("`\r\n"):
                raise BadInput(
                    f"column {name!r} of X: names with backticks or line breaks, and empty ones, cannot "
                    "stand in a formula; rename the column"
                )
        return StatTable.from_columns(None, {str(name): X[:, k] for k, name in enumerate(names)})

    def _held_out(self, n: int, random: np.random.RandomState) -> NDArray[np.intp]:
        """Return the rows that the search does not see."""
        share = self.validation_fraction
        if share == "auto":
            share = HOLD_OUT if n >= HOLD_OUT_FROM else 0.0
        if share is None or share == 0:
            return np.empty(0, np.intp)
        if isinstance(share, str) or not 0.0 < share < 1.0:
            raise BadInput(f"validation_fraction={share!r}: a number from 0 to below 1, 'auto' or None")
        k = round(share * n)
        if n - k < 2 or k < 1:
            raise BadInput(f"validation_fraction={share}: of {n} rows, {n - k} are left to the search")
        return np.sort(random.permutation(n)[:k])

    def _parsed(self, leaves: Mapping[str, Leaf]) -> list[Any]:
        if isinstance(self.initial, str):
            raise BadInput("initial: a sequence of formulas is needed, not one text")
        try:
            return [parse(one, leaves) for one in self.initial or ()]
        except ProxyGraphError as error:
            raise BadInput(f"initial: {error}") from None

    def _plan(self, table: StatTable, seed: int) -> Plan:
        """Check the parameters."""
        from proxygraph.estimators.searched import Plan
        from proxygraph.estimators.settings import searching, stopping

        parameters = self.get_params(deep=False)
        return Plan(
            objective=self._judge(),
            settings=searching(parameters, self._kind, table, seed, effective_n_jobs(self.n_jobs)),
            stop=stopping(parameters),
            simplify=self.simplify,
            callback=self.callback,
            verbose=int(self.verbose),
        )

    def _judge(self) -> Objective:
        """Return the objective, which must be of the estimator's kind."""
        from proxygraph.objective import OBJECTIVES, Objective, find_objective

        given = self._objective if self.objective is None else self.objective
        known = ", ".join(one.name for one in OBJECTIVES.values() if one.kind == self._kind)
        refusal = f"objective={given!r}: {type(self).__name__} has {known}"
        try:
            judge = given if isinstance(given, Objective) else find_objective(given)
        except (ProxyGraphError, TypeError, AttributeError):
            raise BadInput(refusal) from None
        if judge.kind != self._kind:
            raise BadInput(refusal)
        return judge

    # ---- using ---------------------------------------------------------------------------------------------

    def predict(self, X: Any, index: int | Sequence[int] | None = None, *, size: int | None = None) -> Floats:
        """Return the values of a formula.

        Parameters
        ----------
        X : array_like or DataFrame, shape (N, F)
        index : int or sequence of int, optional
            Position on the front, one for all targets or one each; by default `best_index_`.
        size : int, optional
            Instead of `index`: the number of nodes of the formula.

        Returns
        -------
        ndarray of float64, shape (N,) or (N, T)
            NaN or infinite where the formula is: nothing is put in its place.
        """
        check_is_fitted(self, "front_")
        parts = portions(self._rows(X))
        columns = [values(one.dag, parts) for one in self._formulas(index, size)]
        return np.stack(columns, axis=1) if self._many else columns[0]

    def _rows(self, X: Any) -> StatTable:
        """Check rows to predict."""
        return self._table(validate_data(self, X, dtype=np.float64, reset=False))

    def _formulas(self, index: int | Sequence[int] | None, size: int | None = None) -> list[Formula]:
        """Return one formula per target."""
        n = len(self._fronts)
        places = list(index) if isinstance(index, (Sequence, np.ndarray)) else [index] * n
        if len(places) != n:
            raise BadInput(f"index {index!r}: there are {n} targets")
        return [front.at(place, size) for front, place in zip(self._fronts, places, strict=True)]

    def _shown(self, show: Callable[[Formula], Any], index: int | Sequence[int] | None) -> Any:
        """Return what `show` makes of the formula, a list for several targets."""
        check_is_fitted(self, "front_")
        shown = [show(one) for one in self._formulas(index)]
        return shown if self._many else shown[0]

    def formula(self, index: int | Sequence[int] | None = None) -> Any:
        """Return a formula as text, which `proxygraph.parse` reads; a list for several targets."""
        return self._shown(lambda one: one.record["formula"], index)

    def sympy(self, index: int | Sequence[int] | None = None) -> Any:
        """Return a formula as a ``sympy.Expr``; a list for several targets."""
        from proxygraph.symbolic import to_sympy

        return self._shown(lambda one: to_sympy(one.dag), index)

    def latex(self, index: int | Sequence[int] | None = None) -> str | list[str]:
        """Return a formula as LaTeX for math mode; a list for several targets."""
        return self._shown(lambda one: one.record["latex"], index)  # type: ignore[no-any-return]

    def python(self, index: int | Sequence[int] | None = None) -> str | list[str]:
        """Return a formula as a Python file of its own; a list for several targets."""
        from proxygraph.torch_source import formula_python

        def source(one: Formula) -> str:
            numbers = {name: one.record[name] for name in ("score", "validation")}
            return formula_python(one.dag, provenance=numbers, tabular=not self._ragged)

        return self._shown(source, index)  # type: ignore[no-any-return]

    # ---- files ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one JSON file: parameters, formulas as text, numbers.

        Parameters that JSON cannot hold (a callback, a RandomState, an objective of your own) are left out.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        check_is_fitted(self, "front_")
        names = getattr(self, "feature_names_in_", None)
        content = {
            "class": type(self).__name__,
            "parameters": plain(self.get_params(deep=False)),
            "features": self.n_features_in_,
            "names": None if names is None else [str(name) for name in names],
            "ragged": self._ragged,
            "leaves": {name: [leaf.axis, leaf.sign] for name, leaf in self._leaves.items()},
            "many": self._many,
            "targets": [front.to_json() for front in self._fronts],
        }
        write(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return what `save` wrote. The file is read as JSON and its formulas are parsed; nothing is run.

        Raises
        ------
        ValueError
            If the file is missing, damaged, of another version or holds another estimator.
        """
        data = read(Path(path), cls.__name__)
        try:
            return cls(**data["parameters"])._restored(data)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ProxyGraphError) as error:
            raise BadInput(f"{path}: damaged: {error!r}") from None

    def _restored(self, data: Mapping[str, Any]) -> Self:
        """Take over what a file says."""
        self._leaves = {name: Leaf(name, axis, sign=sign) for name, (axis, sign) in data["leaves"].items()}
        self._fronts = tuple(Front.from_json(one, self._leaves) for one in data["targets"])
        self._many, self._ragged = bool(data["many"]), bool(data["ragged"])
        self.n_features_in_ = int(data["features"])
        if data["names"] is not None:
            self.feature_names_in_ = np.array(data["names"], dtype=object)
        self._publish()
        return self


def checked_weights(weights: ArrayLike | None, n: int) -> Floats | None:
    """Check weights of rows."""
    if weights is None:
        return None
    checked = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if checked.shape != (n,):
        raise BadInput(
            f"sample_weight has the shape {checked.shape}; one number for each of {n} rows is needed"
        )
    if (checked < 0.0).any():
        raise BadInput(f"sample_weight: {checked.min()} is negative")
    if (checked > 0.0).sum() < 2:
        raise BadInput("sample_weight: all weights but one at most are zero; two rows must count")
    return np.asarray(checked, np.float64)


def same_length(*arrays: Any) -> None:
    """Raise scikit-learn's error unless all have as many rows."""
    check_consistent_length(*arrays)
