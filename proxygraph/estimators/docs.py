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
    stagnation : int or None
        The search ends after so many generations without a better formula.
    enough : float or None
        The search ends when a formula has this fitness, from 0 to 1, on the rows that it sees: R² to fit a
        target, the size of the rank correlation to rank; None: when one is perfect up to rounding and eight
        generations have found nothing better.
    population : int or None
        Formulas that live at the same time; None: 1000 on tables, 400 on networks.
    islands : int or None
        Parts of the population that evolve apart and exchange their best now and then; None: one for each 50
        formulas, at most 4. The result depends on it, but not on how many run at the same time.
    max_size : int or None
        Most nodes of a formula, sign, scale and offset included, as in all limits; None: 30 to fit a
        target, 15 to rank.
    max_depth, max_constants : int or None
        Most operators above one another; most constants.
    parsimony : float or None
        What a node costs while searching: fitness, 0.001 by default, or for r2 and mse the share of the loss
        1 - R² that it must save, 0.05 by default.
    operators : sequence of str or None
        The only operators allowed; None: all that suit the data, for r2 and mse those without bends (abs,
        sign, relu, max, min) and levels (tanh, sigmoid, log1p).
    leaves : sequence of str or None
        The only columns allowed.
    max_cost : {"static", "forward", "backward", "second-order"} or None
        Of statistics of networks: the dearest pass that one may need.
    nesting : mapping or None
        ``{"sin": {"sin": 0, "exp": 1}}``: below a sin no other sin, and one exp at most.
    units : mapping of str to str, or None
        Units of columns, as in ``{"x": "m", "t": "s"}``; those not named are plain numbers. Only formulas
        that make sense are searched; constants carry any unit.
    target_unit : str or None
        Unit of the target; a fitted factor leads to any.
    trends : mapping of str to {"increasing", "decreasing"}, or None
        How formulas go with columns, checked on all rows of the fit.
    sign : {"positive", "nonneg", "negative", "nonpos"} or None
        Of the values of formulas on all rows of the fit.
    fit_constants : bool, default=True
        Fit constants inside of formulas, while searching (least squares) and on the front. Scale and offset
        are fitted in any case.
    initial : sequence of str or None
        Formulas to start from, as text.
    validation_fraction : float, "auto" or None, default="auto"
        Share of the rows that the search does not see and on which the best formula of the front is chosen;
        its constants are then fitted to all rows. "auto" is a quarter of 100 rows or more, none of fewer.
        Without rows held out: to fit a target the formula of the least Bayesian information criterion, each
        node a parameter; to rank, the one where the loss falls most per node (PySR's rule).
    simplify : bool, default=False
        Let sympy look for smaller forms of the best formulas, in a process of its own.
    warm_start : bool, default=False
        Start from the formulas of the last fit.
    callback : callable or None
        Called with the `IslandsState` after every generation; the search ends when it returns something true.
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
