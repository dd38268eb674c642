"""Engines of symbolic regression behind one function each: rows and CPU seconds in, a formula out.

An engine chooses its formula by a rule of its own on the training rows; it gets no others. Its settings are
those it ships with, but for what its function says. Ours has its defaults for least squares: + - * /, neg,
inv, square, cube, half-integer powers, sqrt, exp, log, sin, cos; the others get + - * /, exp, log, sin, cos,
sqrt and square, as far as they have them. None is told what a problem needs.

The clock is the CPU time of the process with all its threads and children. An engine that looks at the clock
only between generations, or at none of its own, takes somewhat more than it was given: what it took is
reported.
"""

from __future__ import annotations

import functools
import os
import resource
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.problems import Floats

Predict = Callable[[Floats], Floats]
FOREVER = 10**9


@dataclass(frozen=True)
class Model:
    """What an engine hands out.

    Attributes
    ----------
    predict : callable
        Values of the formula for inputs of shape (N, columns), in float64.
    text : str
        The formula as the engine writes it.
    size : int
        Nodes of its tree, weights of variables counted.
    evaluations : int
        Formulas with their constants that were evaluated on the rows; 0: the engine does not say.
    """

    predict: Predict
    text: str
    size: int
    evaluations: int


Fit = Callable[[Floats, Floats, float, int, int], Model]
"""Inputs (N, columns), target (N,), CPU seconds, seed, threads."""


def cpu() -> float:
    """Return the CPU seconds of this process, its threads, and its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


# ---- ours --------------------------------------------------------------------------------------------------


SEARCHED = 0.85
"""Share of the time that goes to the search; the rest is for the constants of its front."""


def run_ours(X: Floats, y: Floats, seconds: float, seed: int, threads: int) -> Model:
    """Search on all rows, tune the constants of the front, and choose by the estimators' rule.

    No rows are held out: on a clean target all of them are worth more to the search than to the choice.
    """
    from proxygraph.assemble import SIZES, Settings, assembled
    from proxygraph.branches import without_idle_branches
    from proxygraph.canon import canonical
    from proxygraph.compact.forest import tree_length
    from proxygraph.dag import Dag
    from proxygraph.finish import exact_values, least_information
    from proxygraph.infix import text
    from proxygraph.loop import SETTLED, Stop, run
    from proxygraph.objective import find_objective
    from proxygraph.table import StatTable
    from proxygraph.tuning import Tuner

    def table_of(X: Floats) -> StatTable:
        return StatTable.from_columns(None, {f"x{k}": column for k, column in enumerate(X.T)})

    start, table, judge = cpu(), table_of(X), find_objective("r2")
    islands = assembled(table, y, judge, Settings(seed=seed, max_size=SIZES["fit"], threads=threads))
    late = [lambda state, wall: cpu() - start >= SEARCHED * seconds]
    state = run(islands, Stop(settled=SETTLED), late).state
    rows, tuner = np.arange(len(y)), Tuner(table, y, judge, seed)
    total = float(np.sum((y - y.mean()) ** 2))

    def loss(dag: Dag) -> float:
        with np.errstate(all="ignore"):
            unexplained = float(np.sum((y - exact_values(dag, table, rows)) ** 2)) / total
        return unexplained if np.isfinite(unexplained) else np.inf

    found: dict[str, Dag] = {}
    for one in reversed(state.hall.front()):  # the best first: it is where constants matter most
        plain = without_idle_branches(one.dag, table)
        final = canonical(judge.finish(plain, exact_values(plain, table, rows), y))
        tuned = tuner.tuned(final) if cpu() - start < seconds else final
        found |= {dag.key: dag for dag in (final, tuned)}
    dags = list(found.values())
    dag = dags[least_information([loss(one) for one in dags], [one.size for one in dags], len(y))]

    def predict(X: Floats) -> Floats:
        return exact_values(dag, table_of(X), np.arange(len(X)))

    return Model(predict, text(dag), tree_length(dag), state.counters["evaluated"])


# ---- Operon ------------------------------------------------------------------------------------------------


@contextmanager
def _watched(over: Callable[[], bool], stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` again and again, in a thread beside what is done inside, once it is `over`."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            if over():
                stop()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_operon(X: Floats, y: Floats, seconds: float, seed: int, threads: int) -> Model:
    """Run Operon's scikit-learn regressor: NSGA-II over R² and length, ten Levenberg-Marquardt steps each.

    All else is its default. Two objectives, since with R² alone its formulas fill the length allowed; of its
    front the formula with the least Bayesian information criterion is taken. Its numbers are float32: so
    that the type does not decide, the constants are fitted once more to the training rows in float64, from
    where it left them, after its time. Where that fits worse than its own numbers, these count.
    """
    regressor: Any = import_module("pyoperon.sklearn").SymbolicRegressor

    class Stoppable(regressor):  # type: ignore[misc]
        """Gives away its evaluator, whose budget ends a run at any time; its own clock is the wall's."""

        def _init_generator(self, name: str, evaluator: Any, *rest: Any) -> Any:
            self.evaluator = evaluator
            return super()._init_generator(name, evaluator, *rest)

        def stop(self) -> None:
            if hasattr(self, "evaluator"):
                self.evaluator.Budget = 0

    model = Stoppable(
        allowed_symbols="add,sub,mul,div,exp,log,sin,cos,sqrt,square,constant,variable",
        objectives=["r2", "length"],
        model_selection_criterion="bayesian_information_criterion",
        optimizer_iterations=10,
        generations=FOREVER,
        max_evaluations=FOREVER,
        n_threads=threads,
        random_state=seed,
    )
    start = cpu()
    with _watched(lambda: cpu() - start >= seconds, model.stop), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that criteria want to know the noise
        model.fit(X, y)
    evaluations = int(model.evaluator.TotalEvaluations)
    nodes = [(one.Name, one.Arity, one.Value, one.HashValue) for one in model.model_.Nodes]
    columns = {code: k for k, code in enumerate(model.variables_)}
    fine = polished(nodes, columns, X, y)

    def missed(values: Floats) -> float:
        off = float(np.sum((values - y) ** 2))
        return off if np.isfinite(off) else np.inf

    @functools.cache
    def chosen() -> Predict:  # cos(exp(large)) is another function in another type
        own: Predict = model.predict
        return fine if missed(fine(X)) <= missed(own(X)) else own

    def predict(X: Floats) -> Floats:
        return np.asarray(chosen()(X), np.float64)

    written = model.get_model_string(model.model_, 9)
    return Model(predict, written, int(model.stats_["model_complexity"]), evaluations)


POLISH_STEPS = 40
"""Steps, each with a Jacobian of differences: plenty where the formula is right, else of no use."""
Node = tuple[str, int, float, int]
"""Name, number of arguments, weight or value, hash of the variable."""
_OPERON: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "sqrt": np.sqrt,
    "square": np.square,
}


def postfix_values(nodes: Sequence[Node], columns: Mapping[int, int], constants: Floats, X: Floats) -> Floats:
    """Return the values of a formula in Operon's order: arguments before operators, the first one last."""
    stack: list[Any] = []
    given = iter(constants)
    for name, arity, _, code in nodes:
        if arity == 0:
            stack.append(next(given) * X[:, columns[code]] if name == "variable" else next(given))
            continue
        args = [stack.pop() for _ in range(arity)]
        value = _OPERON[name](*args[: 1 if arity == 1 else 2])
        for one in args[2:]:
            value = _OPERON[name](value, one)
        stack.append(value)
    return np.asarray(stack.pop() + np.zeros(len(X)), np.float64)


def polished(nodes: Sequence[Node], columns: Mapping[int, int], X: Floats, y: Floats) -> Predict:
    """Return the formula with constants fitted in float64 when first called, unless its own are better."""
    from scipy.optimize import least_squares

    first = np.array([value for _, arity, value, _ in nodes if arity == 0], np.float64)

    def residual(constants: Floats) -> Floats:
        with np.errstate(all="ignore"):
            off = postfix_values(nodes, columns, constants, X) - y
        return np.where(np.isfinite(off), off, 1e6 * (1 + np.abs(y)))

    @functools.cache
    def best() -> Floats:
        if not 0 < len(first) <= len(y):
            return first
        exact = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": POLISH_STEPS * (len(first) + 1)}
        fitted: Floats = least_squares(residual, first, method="lm", **exact).x
        return min(first, fitted, key=lambda c: float(np.sum(residual(c) ** 2)))

    def predict(X: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return postfix_values(nodes, columns, best(), X)

    return predict


# ---- gplearn -----------------------------------------------------------------------------------------------


def run_gplearn(X: Floats, y: Floats, seconds: float, seed: int, threads: int) -> Model:
    """Run gplearn generation by generation, with its own settings; the fittest of the last is taken."""
    joblib: Any = import_module("joblib")
    model = import_module("gplearn.genetic").SymbolicRegressor(
        population_size=1000,
        generations=0,
        function_set=("add", "sub", "mul", "div", "sqrt", "log", "sin", "cos"),
        random_state=seed,
        n_jobs=threads,
        warm_start=True,
    )
    start = cpu()
    with warnings.catch_warnings(), joblib.parallel_config("threading"):
        warnings.simplefilter("ignore")
        while model.generations == 0 or cpu() - start < seconds:
            model.set_params(generations=model.generations + 1)
            model.fit(X, y)
    program = model._program

    def predict(X: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.asarray(program.execute(X), np.float64) + np.zeros(len(X))

    return Model(predict, str(program), int(program.length_), 1000 * model.generations)


# ---- eggp --------------------------------------------------------------------------------------------------


EGGP_MARGIN = 4
"""Seconds before the end of its time at which eggp begins no further generation."""


def run_eggp(X: Floats, y: Floats, seconds: float, seed: int, threads: int) -> Model:
    """Run eggp with its own settings, again while time is left; the least loss on the rows, its own rule.

    Its clock is the wall's. It takes no seed, and says nothing about the number of evaluations.
    """
    os.environ["GHCRTS"] = f"-N{threads}"  # read when it is first called
    module: Any = import_module("eggp")
    start, best, loss = cpu(), None, float("inf")
    while best is None or seconds - (cpu() - start) > 0.1 * seconds:
        left = max(0.0, seconds - (cpu() - start)) / threads
        model = module.EGGP(
            gen=FOREVER,
            nonterminals="add,sub,mul,div,exp,log,sin,cos,sqrt,square",
            max_time=round(left) + EGGP_MARGIN,
        )
        model.fit(X, y)
        found = float(model._best_row()["loss_train"])
        if best is None or found < loss:
            best, loss = model, found
    chosen = best

    def predict(X: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.asarray(chosen.predict(X), np.float64) + np.zeros(len(X))

    about = chosen._best_row()
    return Model(predict, str(about["Expression"]), int(about["size"]), 0)


ENGINES: Mapping[str, tuple[Fit, str]] = {
    "proxygraph": (run_ours, "proxygraph"),
    "pyoperon": (run_operon, "pyoperon"),
    "gplearn": (run_gplearn, "gplearn"),
    "eggp": (run_eggp, "eggp"),
}
"""What runs an engine, and the package it comes from."""
