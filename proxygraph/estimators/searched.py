"""From a table and a target to a front: the search, the final forms and the choice among them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.archive import HallOfFame
from proxygraph.canon import canonical
from proxygraph.dag import Dag, Node
from proxygraph.estimators.formula import BadInput, Formula, Front, portions, values
from proxygraph.estimators.weighted import weighted
from proxygraph.finish import simplified
from proxygraph.infix import parse, text
from proxygraph.kernels.population import Population
from proxygraph.leaves import Leaf
from proxygraph.objective import Objective
from proxygraph.scores import Scores
from proxygraph.search import Search, SearchConfig, SearchState
from proxygraph.sympy_worker import SympyWorker
from proxygraph.table import StatTable

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

PERFECT = 1.0 - 1e-13
"""Fitness at which a search ends."""
CHILDREN = 4
"""Children per living formula and generation on plain tables, where scoring is cheap."""
SAMPLES, SCREEN_SAMPLES = 64, 16
"""Samples per layer that the search sees, and on which hopeless formulas are sorted out."""
LOSS_FLOOR = 1e-12
"""Differences of loss below this one are rounding."""
LOSS_SLACK = 1.5
"""The parsimony rule takes no formula whose loss is that many times the least."""


@dataclass(frozen=True)
class Plan:
    """How to search; see the parameters of the estimators."""

    objective: Objective
    ops: tuple[str, ...]
    seed: int
    threads: int
    generations: int | None
    time_budget: float | None
    max_evaluations: int | None
    population: int
    max_size: int
    parsimony: float
    simplify: bool
    callback: Callable[[Any], Any] | None
    verbose: int


def front(
    table: StatTable,
    target: Floats,
    weights: Floats | None,
    held_out: Rows,
    plan: Plan,
    initial: Sequence[Dag],
) -> Front:
    """Search for formulas and return their front.

    Parameters
    ----------
    table : StatTable
    target : ndarray, shape (N,)
    weights : ndarray, shape (N,), optional
        Positive.
    held_out : ndarray of int
        Rows that the search does not see and the best formula is chosen on; none: chosen by parsimony.
    plan : Plan
    initial : sequence of Dag
        Formulas to start from.

    Raises
    ------
    BadInput
        If the target is constant and is to be ranked, or no formula has values on the rows.
    """
    n = table.n_rows
    seen = np.setdiff1d(np.arange(n), held_out)
    hall: tuple[Dag, ...] = ()
    if target[seen].min() < target[seen].max():
        judge = weighted(plan.objective, None if weights is None else weights[seen])
        hall = _searched(table.take(seen), target[seen], judge, plan, initial)
    elif plan.objective.kind == "rank":
        raise BadInput(f"y is {target[seen][0]} on all rows that the search sees; there is nothing to rank")
    data = _Data(portions(table), target, weights, plan.objective)
    candidates = _candidates(hall, data, seen, held_out, plan.simplify)
    if not candidates:
        raise BadInput("no formula has finite, varying values on the rows; look for constant columns in X")
    best = _chosen_on_rows(candidates, data, held_out) if held_out.size else _chosen_by_parsimony(candidates)
    formulas = [one.formula for one in _front(candidates)]
    if best.formula not in formulas:  # better on the rows held out, though not on all
        formulas = [one for one in formulas if one.dag.size != best.formula.dag.size] + [best.formula]
        formulas.sort(key=lambda one: one.dag.size)
    return Front(tuple(formulas), formulas.index(best.formula), hall)


# ---- the search --------------------------------------------------------------------------------------------


def _searched(
    table: StatTable, target: Floats, objective: Objective, plan: Plan, initial: Sequence[Dag]
) -> tuple[Dag, ...]:
    """Search until the plan is fulfilled; return the hall of fame. All that is known of `Search` is here."""
    ragged = bool(table.offsets)
    search = Search(
        SearchConfig(
            seed=plan.seed,
            population=plan.population,
            children=0 if ragged else CHILDREN * plan.population,
            max_size=plan.max_size,
            parsimony=plan.parsimony,
        ),
        plan.ops,
        objective,
        Population(table.thin(SAMPLES), plan.threads),
        target,
        initial,
        Population(table.thin(SCREEN_SAMPLES), plan.threads) if ragged else None,
    )
    watch = _Watch(plan)
    state = search.start()
    while not watch.ends(state) and state.hall.members:
        state = search.step(state)
    watch.last(state)
    hall: HallOfFame = state.hall
    return tuple(one.dag for one in hall.members)


class _Watch:
    """Tells people how it goes, and the search when to end."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.begin = self.told = time.monotonic()

    def ends(self, state: SearchState) -> bool:
        """Whether the generations, seconds or evaluations are spent, the fit perfect or the user content."""
        plan = self.plan
        seconds = time.monotonic() - self.begin
        if plan.verbose > 1 or (plan.verbose == 1 and time.monotonic() - self.told > 1.0):
            self.last(state)
        content = plan.callback is not None and bool(plan.callback(state))
        return (
            content
            or state.best >= PERFECT
            or (plan.generations is not None and state.generation >= plan.generations)
            or (plan.time_budget is not None and seconds >= plan.time_budget)
            or (plan.max_evaluations is not None and state.counters["evaluated"] >= plan.max_evaluations)
        )

    def last(self, state: SearchState) -> None:
        """Print one line."""
        self.told = time.monotonic()
        if self.plan.verbose:
            members = state.hall.front()
            print(
                f"generation {state.generation}, {self.told - self.begin:.1f} s, "
                f"{state.counters['evaluated']:,} formulas, best {state.best:.6f}"
                + (f": {text(members[-1].dag)}" if members else ""),
                flush=True,
            )


# ---- final forms -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Data:
    """The rows of one fit, the table in portions."""

    parts: Sequence[StatTable]
    target: Floats
    weights: Floats | None
    objective: Objective

    @property
    def leaves(self) -> Mapping[str, Leaf]:
        """The columns formulas may use."""
        return self.parts[0].leaves

    def judge(self, rows: Rows) -> Objective:
        """Return the objective for some of the rows."""
        return weighted(self.objective, None if self.weights is None else self.weights[rows])

    def number(self, values: Floats, rows: Rows) -> float:
        """Return the objective's number for values on some of the rows; minus infinity without one."""
        judge = self.judge(rows)
        number = judge.report(Scores.of(values), self.target[rows])[judge.metric]
        return -np.inf if number is None else float(number)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A formula that may be chosen, how many rows it has no value on, and its values on rows held out."""

    formula: Formula
    invalid: int
    unseen: Floats

    @property
    def order(self) -> tuple[int, float, str]:
        """Small ones first, then good ones."""
        return self.formula.dag.size, -self.formula.score, self.formula.dag.key


def _candidates(
    hall: Sequence[Dag], data: _Data, seen: Rows, held_out: Rows, simplify: bool
) -> list[_Candidate]:
    """Return the hall of fame in final form; only formulas with values on as many rows as any other."""
    raw = list(hall)
    if simplify and raw:
        with SympyWorker(timeout_s=2.0) as worker:
            raw = [simplified(dag, worker) for dag in raw]
    if data.objective.kind == "fit":
        raw.insert(0, Dag([Node("const", value=0.0)], data.leaves))  # becomes the mean
    found: dict[str, _Candidate] = {}
    for dag in raw:
        one = _candidate(dag, data, seen, held_out)
        if one is not None:
            found.setdefault(one.formula.dag.key, one)
    least = min((one.invalid for one in found.values()), default=0)
    return sorted((one for one in found.values() if one.invalid == least), key=lambda one: one.order)


def _candidate(dag: Dag, data: _Data, seen: Rows, held_out: Rows) -> _Candidate | None:
    """Return one formula in final form, or nothing if it says nothing about the rows."""
    everywhere = np.arange(len(data.target))
    plain = values(dag, data.parts)
    if not np.isfinite(plain[seen]).any():
        return None
    final, score = _final(dag, plain, data, everywhere)
    if not np.isfinite(score):
        if final.leaves:
            return None
        score = 0.0  # R² of the mean of a constant target
    unseen, validation = np.empty(0), None
    if held_out.size:
        trained, _ = _final(dag, plain, data, seen)
        unseen = values(trained, data.parts)[held_out]
        validation = data.number(unseen, held_out)
    return _Candidate(Formula(final, score, validation), int((~np.isfinite(plain)).sum()), unseen)


def _final(dag: Dag, plain: Floats, data: _Data, rows: Rows) -> tuple[Dag, float]:
    """Return the formula with the sign, or the line's constants, that some of the rows give, and its number.

    A line that improves nothing, of slope 1 and offset 0 up to rounding, is left out.
    """
    finished = canonical(data.judge(rows).finish(dag, plain[rows], data.target[rows]))
    number = data.number(values(finished, data.parts)[rows], rows)
    if data.objective.kind == "fit":
        bare = data.number(plain[rows], rows)
        if np.isfinite(bare) and bare >= number - LOSS_FLOOR:
            finished, number = canonical(dag), bare
    # parsed: the nodes in the order in which a file gives them back
    return parse(text(finished), data.leaves), number


# ---- the choice --------------------------------------------------------------------------------------------


def _front(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Return those that are better than all smaller ones on the rows of the fit."""
    kept: list[_Candidate] = []
    for one in sorted(candidates, key=lambda one: one.order):
        if not kept or one.formula.score > kept[-1].formula.score:
            kept.append(one)
    return kept


def _chosen_by_parsimony(candidates: Sequence[_Candidate]) -> _Candidate:
    """Return the formula of the steepest fall of log loss per node, among those of little loss.

    Notes
    -----
    The rule "best" of PySR (Cranmer 2023, arXiv:2305.01582), where the loss is 1 - R² or 1 - |rho| here.
    """
    line = _front(candidates)
    loss = np.array([max(1.0 - one.formula.score, LOSS_FLOOR) for one in line])
    size = np.array([one.formula.dag.size for one in line])
    gain = np.zeros(len(line))
    gain[1:] = -np.diff(np.log(loss)) / np.diff(size)
    gain[loss > LOSS_SLACK * loss.min()] = -np.inf
    return line[int(np.argmax(gain))]


def _chosen_on_rows(candidates: Sequence[_Candidate], data: _Data, held_out: Rows) -> _Candidate:
    """Return the formula for which the rows held out speak.

    Least squares: the smallest one that is not worse than the best by more than one standard error of their
    difference (Hastie, Tibshirani & Friedman 2009, section 7.10). Ranks: the best one, the smaller of equals.
    """
    order = sorted(candidates, key=lambda one: one.order)
    best = max(order, key=lambda one: _validated(one))  # the first, which is the smallest, of equals
    if data.objective.kind == "rank" or held_out.size < 3:
        return best
    y = data.target[held_out]
    share = np.ones(y.size) if data.weights is None else data.weights[held_out]
    share = share / share.sum()
    with np.errstate(all="ignore"):
        least = (best.unseen - y) ** 2
        for one in order:
            worse = (one.unseen - y) ** 2 - least
            mean = float(np.dot(share, worse))
            error = float(np.sqrt(np.dot(share**2, (worse - mean) ** 2)))
            if mean <= error:  # False where a value is missing
                return one
    return best


def _validated(one: _Candidate) -> tuple[int, float]:
    """Few missing values, then a good number, on the rows held out."""
    validation = one.formula.validation
    return -int((~np.isfinite(one.unseen)).sum()), -np.inf if validation is None else validation
