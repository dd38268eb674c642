"""What the docstrings of both estimators share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

E = TypeVar("E", bound=type)

PARAMETERS: Final = """Parameters
    ----------
    objective : str or Objective, optional
        {objective}
    generations : int or None, default=100
        The search ends after so many generations; None for no such end.
    time_budget : float or None
        Seconds per target after which the search ends. The result then depends on the machine.
    max_evaluations : int or None
        The search of a target ends after the generation in which so many formulas have been scored.
    population : int or None
        Formulas that live at the same time; None: 1000 on tables, 400 on networks.
    max_size : int, default=15
        Most nodes of a formula while searching; sign, scale and offset come on top.
    parsimony : float, default=0.001
        Fitness that a node costs while searching.
    operators : sequence of str or None
        Names of operators; None: all that suit the data.
    initial : sequence of str or None
        Formulas to start from, as text.
    validation_fraction : float, "auto" or None, default="auto"
        Share of the rows that the search does not see and on which the best formula of the front is chosen;
        its constants are then fitted to all rows. "auto" is a quarter of 100 rows or more, none of fewer.
        None, or without rows held out: the formula where the loss falls most per node (PySR's rule).
    simplify : bool, default=False
        Let sympy look for smaller forms of the results, in a process of its own.
    warm_start : bool, default=False
        Start from the formulas of the last fit.
    callback : callable or None
        Called with the `SearchState` after every generation; the search ends when it returns something true.
    random_state : int, RandomState or None
    n_jobs : int or None
        Threads; the result does not depend on it. -1 for all processors.
    verbose : int, default=0
        1: a line every second; 2: a line every generation.

    Attributes
    ----------
    front_ : list of dict
        The formulas from small to large, each better on the rows of the fit than all smaller ones: "size",
        "score" (R² or the rank correlation, on all rows of the fit), "validation" (on the rows held out, if
        any, before the constants saw them), "formula", "latex". One such list per target if `y` has columns.
    equations_ : list of dict
        The same.
    best_index_ : int or list of int
        Position of the formula that `predict` uses.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If `X` has names of columns. Formulas use them, in backticks where they are no identifiers; without
        names the columns are x0, x1, ..."""


def documented(objective: str) -> Callable[[E], E]:
    """Return a decorator that puts the shared parameters and attributes into the docstring of a class."""

    def decorate(cls: E) -> E:
        doc = cls.__doc__ or ""
        cls.__doc__ = doc.replace("{parameters}", PARAMETERS.replace("{objective}", objective))
        return cls

    return decorate
