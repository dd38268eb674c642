"""From a hall of fame to a front: final forms, with constants of all rows, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxygraph.archive import HallOfFame
from proxygraph.assemble import Settings
from proxygraph.branches import without_idle_branches
from proxygraph.dag import Dag, Node
from proxygraph.estimators.formula import Formula, values
from proxygraph.finish import (
    LOSS_FLOOR,
    final_forms,
    least_information,
    named,
    simplified,
    steepest,
    tuned_form,
)
from proxygraph.infix import parse, text
from proxygraph.limits import Limits
from proxygraph.objective import Objective
from proxygraph.scores import Scores
from proxygraph.sympy_worker import SympyWorker
from proxygraph.table import StatTable
from proxygraph.tuning import Tuner

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Data:
    """The rows of one fit.

    Attributes
    ----------
    table : StatTable
    parts : sequence of StatTable
        The table in portions that fit memory.
    target : ndarray, shape (N,)
    objective : Objective
        For all rows.
    seen, held_out : ndarray of int
        Rows that decide on constants first, and rows to choose on; together all of them.
    """

    table: StatTable
    parts: Sequence[StatTable]
    target: Floats
    objective: Objective
    seen: Rows
    held_out: Rows

    def number(self, values: Floats, rows: Rows) -> float:
        """Return the objective's number for values on some of the rows; minus infinity without one."""
        judge = self.objective.on(rows)
        number = judge.report(Scores.of(values), self.target[rows])[judge.metric]
        return -np.inf if number is None else float(number)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A formula that may be chosen, how many rows it has no value on, and its values on rows held out."""

    formula: Formula
    invalid: int
    unseen: Floats

    @property
    def order(self) -> tuple[int, float, int, str]:
        """Small ones first, then good ones."""
        return self.formula.dag.size, -self.formula.score, *named(self.formula.dag)


# ---- final forms -------------------------------------------------------------------------------------------


def candidates(hall: HallOfFame, data: Data, settings: Settings, simplify: bool) -> list[Candidate]:
    """Return the hall of fame in final forms that keep the limits, from small to large.

    Only formulas with values on as many rows as any other. Those of the front are there a second time with
    tuned constants, if constants are to be fitted.
    """
    finisher = _Finisher(data, settings)
    front = {one.dag.key for one in hall.front()}
    seen = data.table.take(data.seen)
    bred = [one.dag for one in hall.members]
    plain = [without_idle_branches(dag, seen) for dag in bred]
    if simplify and bred:
        with SympyWorker() as worker:
            plain = [
                simplified(dag, worker) if one.key in front else dag
                for one, dag in zip(bred, plain, strict=True)
            ]
    if data.objective.kind == "fit":
        bred.insert(0, Dag([Node("const", value=0.0)], data.table.leaves))  # becomes the mean
        plain.insert(0, bred[0])
    found: dict[str, Candidate] = {}
    for original, dag in zip(bred, plain, strict=True):
        tune = original.key in front and settings.fit_constants
        # as it was bred where the other spelling breaks a limit: abs(x) may be allowed and -x not
        for first, final in list(finisher.forms(dag, tune)) or finisher.forms(original, tune):
            one = _candidate(first, final, data)
            if one is not None:
                found.setdefault(one.formula.dag.key, one)
    least = min((one.invalid for one in found.values()), default=0)
    return sorted((one for one in found.values() if one.invalid == least), key=lambda one: one.order)


class _Finisher:
    """Brings formulas into final form twice: with constants of the rows seen, and of all rows."""

    def __init__(self, data: Data, settings: Settings) -> None:
        self.data = data
        self.limits: Limits = settings.limits(data.table)
        self.everywhere = np.arange(len(data.target))
        self.first = self._tuner(data.seen)
        self.last = self._tuner(self.everywhere) if data.held_out.size else self.first

    def _tuner(self, rows: Rows) -> Tuner:
        data = self.data
        return Tuner(data.table.take(rows), data.target[rows], data.objective.on(rows))

    def forms(self, dag: Dag, tune: bool) -> Iterator[tuple[Dag, Dag]]:
        """Yield final forms of a formula, each with the constants of the rows seen, then of all rows."""
        plain = values(dag, self.data.parts)
        if not np.isfinite(plain[self.data.seen]).any():
            return
        first = self._forms(dag, plain, self.data.seen)
        last = self._forms(dag, plain, self.everywhere) if self.data.held_out.size else first
        for way, form in first.items():
            yield form, last.get(way, form)
        for form in list(first.values())[:tune]:
            tuned = tuned_form(form, self.first, self._seen_values, self.limits)
            if tuned is not None:
                yield tuned, self._refitted(tuned)

    def _seen_values(self, dag: Dag) -> Floats:
        return values(dag, self.data.parts)[self.data.seen]

    def _forms(self, dag: Dag, plain: Floats, rows: Rows) -> dict[str, Dag]:
        judge = self.data.objective.on(rows)
        return final_forms(dag, plain[rows], self.data.target[rows], judge, self.limits)

    def _refitted(self, tuned: Dag) -> Dag:
        """Return the formula with constants of all rows if that keeps the limits, else as it is."""
        if not self.data.held_out.size:
            return tuned
        if self.data.objective.kind == "rank":
            forms = self._forms(tuned, values(tuned, self.data.parts), self.everywhere)
            return next(iter(forms.values()), tuned)
        refitted = self.limits.kept(self.last.refitted(tuned))
        return tuned if refitted is None else refitted


def _candidate(first: Dag, final: Dag, data: Data) -> Candidate | None:
    """Return a formula with its numbers, or nothing if it says nothing about the rows."""
    final = parse(text(final), data.table.leaves)  # the nodes in the order in which a file gives them back
    everywhere = values(final, data.parts)
    score = data.number(everywhere, np.arange(len(data.target)))
    if not np.isfinite(score):
        if final.leaves:
            return None
        score = 0.0  # R² of the mean of a constant target
    unseen, validation = np.empty(0), None
    if data.held_out.size:
        unseen = values(first, data.parts)[data.held_out]
        validation = data.number(unseen, data.held_out)
    return Candidate(Formula(final, score, validation), int((~np.isfinite(everywhere)).sum()), unseen)


# ---- the choice --------------------------------------------------------------------------------------------


def chosen(candidates: Sequence[Candidate], data: Data) -> tuple[tuple[Formula, ...], int]:
    """Return the front, each formula better than all smaller ones on all rows, and which of it to use.

    The formula to use is on the front even if another of its size is better on all rows.
    """
    if data.held_out.size:
        best = chosen_on_rows(candidates, data)
    else:
        losses = [1.0 - one.formula.score for one in candidates]
        sizes = [one.formula.dag.size for one in candidates]
        weights = data.objective.weights
        n_rows = len(data.target) if weights is None else float(weights.sum())
        fit = data.objective.kind == "fit" and n_rows > 1.0
        best = candidates[least_information(losses, sizes, n_rows) if fit else steepest(losses, sizes)]
    line: list[Formula] = []
    for one in sorted(candidates, key=lambda one: one.order):
        if not line or one.formula.score > line[-1].score:
            line.append(one.formula)
    if best.formula not in line:
        line = [one for one in line if one.dag.size != best.formula.dag.size] + [best.formula]
        line.sort(key=lambda one: one.dag.size)
    return tuple(line), line.index(best.formula)


def chosen_on_rows(candidates: Sequence[Candidate], data: Data) -> Candidate:
    """Return the formula for which the rows held out speak.

    Least squares: the smallest one that is not worse than the best by more than one standard error of their
    difference (Hastie, Tibshirani & Friedman 2009, section 7.10), nor than rounding. Ranks: the best one, the
    smaller of equals.
    """
    order = sorted(candidates, key=lambda one: one.order)
    best = max(order, key=_validated)  # the first, which is the smallest, of equals
    if data.objective.kind == "rank" or data.held_out.size < 3:
        return best
    y, weights = data.target[data.held_out], data.objective.on(data.held_out).weights
    share = np.ones(y.size) if weights is None else weights
    share = share / share.sum()
    rounding = LOSS_FLOOR * float(np.dot(share, (y - np.dot(share, y)) ** 2))
    with np.errstate(all="ignore"):
        least = (best.unseen - y) ** 2
        for one in order:
            worse = (one.unseen - y) ** 2 - least
            mean = float(np.dot(share, worse))
            error = float(np.sqrt(np.dot(share**2, (worse - mean) ** 2)))
            if mean <= max(error, rounding):  # False where a value is missing
                return one
    return best


def _validated(one: Candidate) -> tuple[int, float]:
    """Few missing values, then a good number, on the rows held out."""
    validation = one.formula.validation
    return -int((~np.isfinite(one.unseen)).sum()), -np.inf if validation is None else validation
