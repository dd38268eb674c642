"""From a hall of fame to a result: final forms, exact numbers, the choice on validation, the test once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from proxygraph import zoo
from proxygraph.archive import HallOfFame
from proxygraph.branches import without_idle_branches
from proxygraph.canon import canonical
from proxygraph.dag import Dag, Node
from proxygraph.equivalence import same_values
from proxygraph.infix import text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.latex import latex
from proxygraph.objective import Objective
from proxygraph.objective.plain import wrapped
from proxygraph.problem import Problem, Split
from proxygraph.program import lower
from proxygraph.scores import Scores
from proxygraph.sympy_worker import SympyWorker
from proxygraph.table import StatTable

if TYPE_CHECKING:
    # compiled code, which is not needed to use a formula
    from proxygraph.limits import Limits
    from proxygraph.tuning import Tuner

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
CHUNK_VALUES = 4_000_000
LOSS_FLOOR = 1e-15
"""Least loss that is told from none: 1 - R² has no more digits. Formulas below it are exact."""
ROUNDING = 1e-12
"""Differences of an objective's number that are none."""
CHOICE_SIZES = 3
"""Sizes of formulas among which all rows seen choose, for rank objectives."""
LOSS_SLACK = 1.5
"""The parsimony rule takes no formula whose loss is that many times the least."""
PARTS = ("train", "validation", "test")
SEEN = ("train", "validation", "seen")
"""What is looked at before the choice; the last is the other two together."""
KEPT_ROWS = 2000
"""Rows whose scores a run keeps, for plots."""


@dataclass(frozen=True, eq=False)
class Finalist:
    """A formula in its final form with what it scores on each part of the rows that has been looked at.

    ``"seen"`` is train and validation together.
    """

    dag: Dag
    reports: Mapping[str, Mapping[str, Any]]

    def metric(self, name: str, part: str) -> float:
        """A reported number, minus infinity where it is undefined."""
        value = self.reports[part][name]
        return -np.inf if value is None else float(value)

    def invalid(self, part: str) -> int:
        """Rows on which the formula has no finite value."""
        return int(self.reports[part]["invalid"])

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``result.json``."""
        dag = self.dag
        return {
            "infix": text(dag),
            "latex": latex(dag),
            "size": dag.size,
            "key": dag.key,
            "graph": dag.to_json(),
            **{part: dict(self.reports[part]) for part in PARTS if part in self.reports},
        }


def exact_values(dag: Dag, table: StatTable, rows: Rows) -> NDArray[np.float64]:
    """Return the values of one formula on `rows`, float64, by the reference, in portions that fit memory."""
    kernel = ReferenceKernel(lower([dag]))
    fine = max(table.size("element"), table.size("activation"), table.size("layer"), table.n_rows)
    portion = max(1, int(CHUNK_VALUES * table.n_rows / fine))
    values = [kernel(table.take(rows[i : i + portion]))[0] for i in range(0, len(rows), portion)]
    return np.concatenate(values) if values else np.empty(0)


def finalists(
    hall: HallOfFame,
    objective: Objective,
    problem: Problem,
    split: Split,
    progress: Callable[[int, int], None],
    hurry: Callable[[], bool] = lambda: False,
    limits: Limits | None = None,
    worker: SympyWorker | None = None,
) -> list[Finalist]:
    """Return the hall of fame in final form, with exact numbers on train and validation.

    Final forms are what the training rows say (`final_forms`), without branches that none of these rows takes
    (`without_idle_branches`). Formulas of the front are simplified before,
    with sympy, where that is proven equal on probe values, and are there again with constants tuned on the
    training rows. All of them keep the `limits`. A `worker` for sympy may be given, prepared before; it is
    closed.
    """
    from proxygraph.tuning import Tuner

    found: dict[str, Finalist] = {}
    members = hall.members
    front = {one.dag.key for one in hall.front()}
    rows, target, judge = split.train, problem.target[split.train], objective.on(split.train)
    seen = problem.table.take(rows)
    tuner = Tuner(seen, target, judge)

    def values(dag: Dag) -> Floats:
        return exact_values(dag, problem.table, rows)

    with worker or SympyWorker() as worker:
        for i, one in enumerate(members):
            progress(i + 1, len(members))
            plain = values(one.dag)
            if not np.isfinite(plain).any():
                continue
            chosen = one.dag.key in front and not hurry()
            plainer = without_idle_branches(one.dag, seen)
            dag = simplified(plainer, worker) if chosen else plainer
            forms = final_forms(dag, plain, target, judge, limits)
            if not forms and dag is not one.dag:
                forms = final_forms(one.dag, plain, target, judge, limits)
            final = list(forms.values())
            if chosen:
                final += [made for form in final[:1] if (made := tuned_form(form, tuner, values, limits))]
            for form in final:
                if form.key not in found:
                    found[form.key] = measured(form, objective, problem, split, SEEN)
    return list(found.values())


def final_forms(
    dag: Dag, values: Floats, target: Floats, judge: Objective, limits: Limits | None = None
) -> dict[str, Dag]:
    """Return a formula in the forms in which it may be used: negated if it ranks backwards, scaled, shifted.

    Parameters
    ----------
    dag : Dag
    values, target : ndarray, shape (N,)
        On the rows that decide; where `values` are finite.
    judge : Objective
        For these rows.
    limits : Limits, optional

    Returns
    -------
    dict of str to Dag
        By what was added ("line", "scale", "shift" or "nothing"), the best first: all that keep the limits
        and that no smaller one equals, up to rounding. Canonical, unless the limits ask for another spelling.
    """
    ok = np.isfinite(values)
    x, y, judge = values[ok], target[ok], judge.on(ok)
    found: list[tuple[float, str, Dag]] = []
    for way, form, final in _forms(dag, x, y, judge):
        kept = form if limits is None else limits.kept(form)
        if kept is not None:
            found.append((_number(final, y, judge), way, kept))
    if judge.kind == "fit" and len(y):
        mean = _number(np.full(len(y), judge.line(np.zeros(len(y)), y)[1]), y, judge)
        found = [
            one for one in found if one[0] >= mean - ROUNDING
        ] or found  # who predicts worse says nothing
    best: list[tuple[float, str, Dag]] = []
    for one in sorted(found, key=lambda one: (one[2].size, -one[0])):
        if not best or one[0] > best[-1][0] + ROUNDING:
            best.append(one)
    return {way: form for _, way, form in reversed(best)}


def _number(values: Floats, target: Floats, judge: Objective) -> float:
    number = judge.report(Scores.of(values), target)[judge.metric]
    return -np.inf if number is None else float(number)


def _forms(dag: Dag, x: Floats, y: Floats, judge: Objective) -> Iterator[tuple[str, Dag, Floats]]:
    """Yield what is added to a formula of values `x`, the form that it has then, and its values."""
    slope, offset = judge.line(x, y)
    if slope == 0.0:
        yield "line", Dag([Node("const", value=offset)], dag.leaves), np.full(len(x), offset)
        return
    lines = {"line": (slope, offset)}
    if judge.kind == "fit" and len(x):
        weights = np.ones(len(x)) if judge.weights is None else judge.weights
        with np.errstate(all="ignore"):
            lines["scale"] = float(np.sum(weights * x * y) / np.sum(weights * x * x)), 0.0
            lines["shift"] = 1.0, float(np.sum(weights * (y - x)) / np.sum(weights))
        lines["nothing"] = 1.0, 0.0
    for way, (a, b) in lines.items():
        if a != 0.0 and np.isfinite([a, b]).all():
            with np.errstate(all="ignore"):
                final = a * x + b
            yield way, canonical(wrapped(dag, a, b)), final


def tuned_form(
    form: Dag, tuner: Tuner, values: Callable[[Dag], Floats], limits: Limits | None = None
) -> Dag | None:
    """Return a final form with better and simpler constants; None if it then breaks the limits.

    Parameters
    ----------
    form : Dag
    tuner : Tuner
    values : callable
        From a formula to its values on the rows of the tuner, shape (N,).
    limits : Limits, optional
    """
    tuned = tuner.tuned(form)
    if tuner.objective.kind == "rank":  # other constants may rank the other way round
        forms = final_forms(tuned, values(tuned), tuner.target, tuner.objective, limits)
        return next(iter(forms.values()), None)
    return tuned if limits is None else limits.kept(tuned)


def simplified(dag: Dag, worker: SympyWorker) -> Dag:
    """Return a smaller formula of the same meaning if sympy finds one in time, else the same."""
    other = worker.simplified(dag)
    if other is None:
        return dag
    spelled = canonical(other)
    if spelled.size < dag.size and spelled.axes[-1] == dag.axes[-1] and same_values(dag, spelled):
        return spelled
    return dag


def measured(
    dag: Dag, objective: Objective, problem: Problem, split: Split, parts: Sequence[str]
) -> Finalist:
    """Score a formula on some parts of the rows."""
    found: dict[str, tuple[Rows, Floats]] = {}
    reports = {}
    for part in parts:
        if part == "seen":
            rows, values = map(np.concatenate, zip(*(found[one] for one in PARTS[:2]), strict=True))
        else:
            rows = getattr(split, part)
            values = exact_values(dag, problem.table, rows)
        found[part] = rows, values
        reports[part] = objective.on(rows).report(Scores.of(values), problem.target[rows])
    return Finalist(dag, reports)


def choose(candidates: Sequence[Finalist], objective: Objective) -> tuple[Finalist, list[Finalist]]:
    """Return the winner and the front: for each size what no smaller one beats on train.

    A formula without a value on some validation rows, for rank objectives also on training rows, loses to
    any that has more values: a correlation over the few rows it likes says nothing. Of the others the
    validation rows choose: for least squares the formula, for rank objectives the three sizes whose formulas
    are best on average, and all rows seen then choose among the formulas of these sizes. A tie goes to the
    smaller formula; of formulas that are alike in all that, the shorter text wins. The winner is on the front
    even if another of its size trains better.

    Notes
    -----
    With few labels the best of a hundred formulas on validation is the luckiest. How large a formula may be
    is asked of the mean of several, which luck moves less (docs/proxies.md says what it buys).
    """
    metric = objective.metric
    part = "seen" if objective.kind == "rank" else "validation"
    fewest = min(one.invalid(part) for one in candidates)
    whole = [one for one in candidates if one.invalid(part) == fewest]
    if part == "seen":
        by_size: dict[int, list[float]] = {}
        for one in whole:
            by_size.setdefault(one.dag.size, []).append(max(-1.0, one.metric(metric, "validation")))
        sizes = sorted(by_size, key=lambda size: (-np.mean(by_size[size]), size))[:CHOICE_SIZES]
        whole = [one for one in whole if one.dag.size in sizes]
    best = min(whole, key=lambda f: (-f.metric(metric, part), f.dag.size, *named(f.dag)))
    front: list[Finalist] = []
    record = -np.inf
    for one in sorted(candidates, key=lambda f: (f.dag.size, -f.metric(metric, "train"), *named(f.dag))):
        if one.metric(metric, "train") > record:
            record = one.metric(metric, "train")
            front.append(one)
    if best not in front:
        front = sorted([*(f for f in front if f.dag.size != best.dag.size), best], key=lambda f: f.dag.size)
    return best, front


def named(dag: Dag) -> tuple[int, str]:
    """Return what decides between formulas that are equally good and large: digits, then the key."""
    return len(text(dag)), dag.key


def steepest(losses: Sequence[float], sizes: Sequence[int]) -> int:
    """Return which formula has the steepest fall of log loss per node, among those of little loss.

    A position, for a choice without rows held out.

    Parameters
    ----------
    losses : sequence of float, shape (P,)
        On the rows of the fit, for instance 1 - R² or 1 - |rho|; those below `LOSS_FLOOR` count as equal.
    sizes : sequence of int, shape (P,)

    Notes
    -----
    The rule "best" of PySR (Cranmer 2023, arXiv:2305.01582), on the formulas that are better than all smaller
    ones. Among formulas that are exact the smallest one is taken, however gentle the fall to it.

    Examples
    --------
    >>> steepest([0.5, 0.01, 0.008], [1, 3, 7])
    1
    """
    line, loss, size = _falling(losses, sizes)
    if loss[-1] == LOSS_FLOOR:
        return line[-1]
    gain = np.zeros(len(line))
    with np.errstate(invalid="ignore"):  # of no finite loss there is no fall
        gain[1:] = -np.diff(np.log(loss)) / np.diff(size)
    gain[loss > LOSS_SLACK * loss[-1]] = -np.inf
    return line[int(np.argmax(gain))]


def least_information(losses: Sequence[float], sizes: Sequence[int], n_rows: float) -> int:
    """Return which formula has the least Bayesian information criterion, every node counted as a parameter.

    A position, for a choice among least squares without rows held out. Of formulas that are exact it is the
    smallest one.

    Parameters
    ----------
    losses : sequence of float, shape (P,)
        1 - R² on the rows of the fit; those below `LOSS_FLOOR` count as equal.
    sizes : sequence of int, shape (P,)
    n_rows : float
        Rows of the fit; with weights, their sum.

    Notes
    -----
    ``n log(loss) + size log(n)`` (Schwarz 1978, Ann. Stat. 6, 461-464). On noisy rows the steepest fall of
    the loss stops at a formula with half of the terms (docs/regression.md).

    Examples
    --------
    >>> least_information([0.5, 0.01, 0.008], [1, 3, 7], 500)
    2
    >>> least_information([0.5, 0.01, 0.0098], [1, 3, 7], 500)
    1
    """
    line, loss, size = _falling(losses, sizes)
    if loss[-1] == LOSS_FLOOR:
        return line[-1]
    return line[int(np.argmin(n_rows * np.log(loss) + size * np.log(n_rows)))]


def _falling(losses: Sequence[float], sizes: Sequence[int]) -> tuple[list[int], Floats, Floats]:
    """Return positions, losses and sizes of the formulas that are better than all smaller ones."""
    floored = np.maximum(np.nan_to_num(losses, nan=np.inf, posinf=np.inf), LOSS_FLOOR)
    line: list[int] = []
    for i in np.lexsort((floored, np.asarray(sizes))).tolist():
        if not line or floored[i] < floored[line[-1]]:
            line.append(i)
    return line, floored[line], np.asarray(sizes, float)[line]


def tested(one: Finalist, objective: Objective, problem: Problem, split: Split) -> Finalist:
    """Add the numbers on the test rows."""
    return Finalist(
        one.dag, {**one.reports, **measured(one.dag, objective, problem, split, ("test",)).reports}
    )


def baselines(objective: Objective, problem: Problem, split: Split) -> list[tuple[str, Finalist]]:
    """Score every hand-made proxy whose leaves the table has; signs as published."""
    if objective.kind != "rank":
        return []
    return [
        (proxy.name, measured(proxy.dag, objective, problem, split, PARTS))
        for proxy in zoo.available(problem.table.leaves if problem.table.offsets else {})
    ]


def row_scores(
    formulas: Mapping[str, Dag], problem: Problem, split: Split, most: int = KEPT_ROWS
) -> list[dict[str, str]]:
    """Return what formulas say about rows, one dict per row: id, part of the split, target, one value each.

    Parameters
    ----------
    formulas : mapping of str to Dag
        By the name their values are to have.
    problem : Problem
    split : Split
    most : int
        Of more rows than these, as many of every part are taken as are its share, evenly spaced.

    Returns
    -------
    list of dict
        ``row``, ``part``, ``target`` and the names, nine significant digits; empty where not finite.
    """
    found: list[dict[str, str]] = []
    share = min(1.0, most / problem.table.n_rows)
    for part in PARTS:
        rows: Rows = getattr(split, part)
        some = rows[np.linspace(0, len(rows) - 1, max(2, int(share * len(rows)))).astype(int)]
        values = {name: exact_values(dag, problem.table, some) for name, dag in formulas.items()}
        for k, i in enumerate(some):
            numbers = {name: f"{v[k]:.9g}" if np.isfinite(v[k]) else "" for name, v in values.items()}
            found.append(
                {
                    "row": problem.table.rows[i],
                    "part": part,
                    "target": f"{problem.target[i]:.9g}",
                    **numbers,
                }
            )
    return found
