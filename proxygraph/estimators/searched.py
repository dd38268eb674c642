"""From a table and a target to a front: the search; what follows it is `proxygraph.estimators.chosen`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proxygraph.archive import HallOfFame
from proxygraph.assemble import Settings, assembled
from proxygraph.dag import Dag
from proxygraph.estimators.chosen import Data, Floats, Rows, candidates, chosen
from proxygraph.estimators.formula import BadInput, Front, portions
from proxygraph.estimators.weighted import weighted
from proxygraph.infix import text
from proxygraph.islands import IslandsState
from proxygraph.loop import Stop, run
from proxygraph.objective import Objective
from proxygraph.table import StatTable


@dataclass(frozen=True)
class Plan:
    """How to search; see the parameters of the estimators."""

    objective: Objective
    settings: Settings
    stop: Stop
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
        If the target is constant and is to be ranked, or no formula has values on the rows and keeps the
        limits.
    """
    seen = np.setdiff1d(np.arange(table.n_rows), held_out)
    judge = weighted(plan.objective, weights)
    hall = HallOfFame()
    if target[seen].min() < target[seen].max():
        hall = _searched(table.take(seen), target[seen], judge.on(seen), plan, initial)
    elif judge.kind == "rank":
        raise BadInput(f"y is {target[seen][0]} on all rows that the search sees; there is nothing to rank")
    data = Data(table, portions(table), target, judge, seen, held_out)
    finals = candidates(hall, data, plan.settings, plan.simplify)
    if not finals:
        raise BadInput(
            f"none of {len(hall.members)} formulas has finite, varying values on the rows "
            "and keeps the limits; allow more, or look for constant columns in X"
        )
    formulas, best = chosen(finals, data)
    return Front(formulas, best, tuple(one.dag for one in hall.members))


def _searched(
    table: StatTable, target: Floats, objective: Objective, plan: Plan, initial: Sequence[Dag]
) -> HallOfFame:
    """Search until the plan is fulfilled; return the hall of fame, which may be empty."""
    search = assembled(table, target, objective, plan.settings, initial)
    watch = _Watch(plan)
    try:
        return run(search, plan.stop, [watch]).state.hall
    finally:
        watch.last()
        if search.executor is not None:
            search.executor.shutdown()


class _Watch:
    """Tells people how it goes, and ends the search if they are content or nothing can come of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told = time.monotonic()
        self.now: tuple[IslandsState, float] | None = None

    def __call__(self, state: IslandsState, seconds: float) -> bool:
        """Look at a generation."""
        self.now = state, seconds
        if self.plan.verbose > 1 or (self.plan.verbose == 1 and time.monotonic() - self.told > 1.0):
            self.last()
        content = self.plan.callback is not None and bool(self.plan.callback(state))
        return content or not state.hall.members

    def last(self) -> None:
        """Print one line on the generation seen last, once."""
        if self.plan.verbose and self.now is not None:
            state, seconds = self.now
            front = state.hall.front()
            print(
                f"generation {state.generation}, {seconds:.1f} s, "
                f"{state.counters['evaluated']:,} formulas, best {state.best:.6f}"
                + (f": {text(front[-1].dag)}" if front else ""),
                flush=True,
            )
        self.now, self.told = None, time.monotonic()
