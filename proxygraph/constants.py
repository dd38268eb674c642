"""Constants of finished formulas: fitted with more care than a population can pay for, and made simple.

A formula is seen here as its structure and the vector of its distinct constants, in the order of its nodes; a
constant that occurs twice is one number, so that no formula grows. Exponents of pow belong to the structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxygraph.canon import canonical
from proxygraph.compact.forest import CONST, Forest, to_dag, to_forest, tree_length
from proxygraph.dag import Dag, Node
from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.simple_numbers import is_simple, simple_numbers

Floats = NDArray[np.float64]

START_TRIALS: Final = 12
FULL_TRIALS: Final = 200
KEPT_STARTS: Final = 4
NOISE_FREE: Final = 1e-11
"""Relative size of residuals that are rounding: what is fitted better than this is fitted exactly."""
TOLERANCE: Final = 1.0
"""Nats of likelihood that a constant may cost; one is what Akaike's criterion grants a parameter."""
NEAR: Final = 0.25
"""A simple number further away than this share of a constant is tried only as it is, without a fit."""


# ---- structure and numbers ---------------------------------------------------------------------------------


def constant_places(dag: Dag) -> list[int]:
    """Return the positions of the nodes that are constants, without exponents of pow."""
    used = {j for node in dag.nodes for k, j in enumerate(node.args) if not (node.name == "pow" and k == 1)}
    top = len(dag.nodes) - 1
    return [i for i, node in enumerate(dag.nodes) if node.kind == "const" and (i in used or i == top)]


def constants_of(dag: Dag) -> Floats:
    """Return the distinct constants of a formula, in the order of `constant_places`."""
    return np.array([dag.nodes[i].value for i in constant_places(dag)], float)


def with_constants(dag: Dag, values: ArrayLike) -> Dag:
    """Return the formula with other constants, in the order of `constants_of`.

    Raises
    ------
    ShapeMismatch
        If the formula has another number of constants.

    Examples
    --------
    >>> from proxygraph.infix import parse, text
    >>> text(with_constants(parse("2*params + 2"), [3.0]))
    '3 * params + 3'
    """
    places, numbers = constant_places(dag), np.asarray(values, float)
    if numbers.shape != (len(places),):
        raise ShapeMismatch(f"the formula has {len(places)} constants, not {numbers.size}")
    value_at = dict(zip(places, numbers.tolist(), strict=True))
    nodes: list[Node] = []
    moved: list[int] = []
    for i, node in enumerate(dag.nodes):
        args = tuple(moved[j] for j in node.args)
        if node.name == "pow" and node.kind == "op":  # its exponent may be a constant used elsewhere too
            nodes.append(Node("const", value=dag.nodes[node.args[1]].value))
            args = (args[0], len(nodes) - 1)
        nodes.append(Node(node.kind, node.name, args, value_at.get(i, node.value)))
        moved.append(len(nodes) - 1)
    return Dag(nodes, dag.leaves)


def _tree(dag: Dag, fitter: Fitter) -> Forest:
    return to_forest([dag], fitter.vocabulary, tree_length(dag))


# ---- least squares -----------------------------------------------------------------------------------------


def polished(
    dag: Dag, fitter: Fitter, *, starts: int = 32, seed: int = 0, line: bool = True, trials: int = FULL_TRIALS
) -> Dag:
    """Return the formula with constants fitted from many starts until nothing is gained.

    Parameters
    ----------
    dag : Dag
        Of built-in operators on the row axis.
    fitter : Fitter
    starts : int
        Sets of constants to start from: those of the formula, then others around them, of other sizes and
        of other signs, then small ones.
    seed : int
        Of the starts.
    line : bool
        Whether the best line through the formula is judged, or the formula itself.
    trials : int
        Most sets of constants that are tried from each of the best starts.

    Returns
    -------
    Dag
        The same formula if no better constants were found.

    Raises
    ------
    ConfigError
        If there are no starts.
    """
    if starts < 1:
        raise ConfigError(f"starts {starts}: a fit needs at least one")
    one = _tree(dag, fitter)
    spread = one.take(np.zeros(starts, np.int64))
    spread.value[:] = _starts(one, starts, np.random.default_rng(seed))
    first = fitter.fitted(spread, START_TRIALS, line=line, tied=True)
    best = np.argsort(first.loss, kind="stable")[:KEPT_STARTS]  # NaN comes last
    last = fitter.fitted(first.trees.take(best), trials, line=line, tied=True, enough=0.0)
    if not np.isfinite(last.loss).any():
        return dag
    k = int(np.nanargmin(last.loss))
    before = float(fitter.losses(one, line=line)[0])
    if before <= last.loss[k]:
        return dag
    return to_dag(last.trees, k, fitter.vocabulary)


def _starts(tree: Forest, n: int, rng: np.random.Generator) -> Floats:
    """Return values of a tree to start from, shape (n, L): equal constants stay equal."""
    own = tree.value[0]
    at = tree.code[0] == CONST
    distinct, which = np.unique(own[at], return_inverse=True)
    numbers = np.tile(distinct, (n, 1))
    shape = (n - 1, len(distinct))
    factor = np.exp(rng.normal(scale=rng.choice([0.3, 1.0, 2.5], size=(n - 1, 1)), size=shape))
    factor *= np.where(rng.random(shape) < 0.25, -1.0, 1.0)
    fresh = rng.normal(size=shape) * 10.0 ** rng.uniform(-1.0, 1.0, size=shape)
    new = (rng.random((n - 1, 1)) < 0.4) | (distinct == 0.0)
    numbers[1:] = np.where(new, fresh, np.clip(distinct * factor, -1e30, 1e30))
    values = np.tile(own, (n, 1))
    values[:, at] = numbers[:, which]
    return values


def refit(dag: Dag, fitter: Fitter, free: Sequence[bool], *, line: bool = False) -> Dag:
    """Return the formula with some of its constants fitted from where they are; for `snapped`.

    Parameters
    ----------
    dag : Dag
    fitter : Fitter
    free : sequence of bool
        For each of `constants_of`, whether it may move.
    line : bool
        Whether the best line through the formula is judged, or the formula itself.
    """
    held = [c for c, moves in zip(constants_of(dag), free, strict=True) if not moves]
    tree = _tree(dag, fitter)
    frozen = (tree.code == CONST) & np.isin(tree.value, held)
    found = fitter.fitted(tree, FULL_TRIALS, line=line, tied=True, frozen=frozen, enough=1e-12)
    return to_dag(found.trees, 0, fitter.vocabulary)


def likelihood(dag: Dag, fitter: Fitter, *, line: bool = False) -> float:
    """Return `nats` of a formula by least squares, or of the best line through it; for `snapped`."""
    unexplained = float(fitter.losses(_tree(dag, fitter), line=line)[0])
    return nats(unexplained, len(fitter.target))


def nats(unexplained: float, n: int) -> float:
    """Return the Gaussian log likelihood of a fit, ``-n/2 * log(unexplained)``, up to a constant.

    Parameters
    ----------
    unexplained : float
        Share of the variance that is left: ``1 - R²``; for rank objectives ``1 - rho²`` does the same. What
        is below the square of `NOISE_FREE` is rounding and counts as that; NaN gives minus infinity.
    n : int
        Rows.

    Examples
    --------
    >>> nats(1e-30, 100) == nats(0.0, 100) > nats(1e-20, 100)
    True
    """
    if math.isnan(unexplained):
        return -math.inf
    return -0.5 * n * math.log(max(unexplained, NOISE_FREE**2))


# ---- without derivatives -----------------------------------------------------------------------------------


def searched(
    dag: Dag,
    evaluate: Population,
    fitness: Callable[[Floats], Floats],
    *,
    rounds: int = 40,
    seed: int = 0,
) -> Dag:
    """Return the formula with constants of higher fitness, found without derivatives; on every axis.

    For objectives that only change in steps, such as rank correlations. A pattern search (Torczon 1997, SIAM
    J. Optim. 7) that polls both ways along the axes and along random orthogonal directions, all at once; the
    steps double after a success and halve after a failure. A constant moves in proportion to its size, or to
    1 if it is small.

    Parameters
    ----------
    dag : Dag
        Of built-in operators.
    evaluate : Population
    fitness : callable
        From values (C, N) to fitness (C,), larger is better, NaN for what is invalid; for instance
        ``lambda values: objective.fitness(values, target)``.
    rounds : int
        Most polls. It ends earlier when steps are below a millionth.
    seed : int
        Of the directions.

    Returns
    -------
    Dag
        The same formula if nothing better was found.
    """
    run = _evaluator(dag, evaluate, fitness)
    start = constants_of(dag)
    k = len(start)
    if k == 0 or run is None:
        return dag
    rng = np.random.default_rng(seed)
    best, record = start, float(run(start[None])[0])
    far = np.concatenate([start * f for f in _far(k)]).reshape(-1, k)
    polls, step = far, 0.5
    for _ in range(rounds):
        scores = run(polls)
        i = int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))
        if scores[i] > record or (np.isnan(record) and not np.isnan(scores[i])):
            best, record, step = polls[i], float(scores[i]), min(1.0, 2.0 * step)
        elif polls is not far:
            step *= 0.5
        if step < 1e-6:
            break
        turned, _ = np.linalg.qr(rng.normal(size=(k, k)))
        ways = np.concatenate([np.eye(k), turned])
        size = step * np.maximum(np.abs(best), 0.1)
        polls = best + np.concatenate([ways, -ways]) * size
    return dag if best is start else with_constants(dag, best)


def _far(k: int) -> Iterator[Floats]:
    """Yield factors of the first poll: each constant alone of another sign or size."""
    for i in range(k):
        for factor in (-1.0, 0.1, 0.5, 2.0, 10.0):
            one = np.ones(k)
            one[i] = factor
            yield one


def _evaluator(
    dag: Dag, evaluate: Population, fitness: Callable[[Floats], Floats]
) -> Callable[[Floats], Floats] | None:
    """Return a function from sets of constants (C, K) to fitness (C,); None if the constants fold."""
    tree = to_forest([dag], evaluate.vocabulary, tree_length(dag))
    own = tree.value[0][tree.code[0] == CONST]
    known = {value: i for i, value in enumerate(constants_of(dag).tolist())}
    if not all(value in known for value in own.tolist()) or len(set(own.tolist())) < len(known):
        return None  # operators of constants alone: canonical formulas have none that could be moved
    which = [known[value] for value in own.tolist()]
    return lambda sets: fitness(np.asarray(evaluate.over_constants(dag, sets[:, which]), np.float64))


# ---- simple numbers ----------------------------------------------------------------------------------------


def snapped(
    dag: Dag,
    score: Callable[[Dag], float],
    tolerance: float = TOLERANCE,
    refit: Callable[[Dag, Sequence[bool]], Dag] | None = None,
) -> Dag:
    """Return the formula with as many simple constants as its score allows, in canonical form.

    One constant after the other, the one next to a simple number first, becomes the simplest number with
    which the score stays good enough; then the others are fitted again. Those left over keep all digits.

    After `k` constants the score may have lost ``k * tolerance`` against where it began, not more; so errors
    do not add up unseen. With `likelihood` (or `nats` of another objective) as the score and a tolerance of 1
    that is Akaike's criterion (1974, IEEE Trans. Autom. Control 19): a constant may be given up if the
    residual sum of squares grows by less than a share of about 2/N, which is when the formula with one
    parameter less is expected to predict new rows no worse. So noise does not stop 0.4991±0.002 from
    becoming 1/2, and a constant that matters stays. Without noise the same rule asks for equality: residuals
    are rounding below a relative size of 1e-11, and a number that is wrong by more makes them grow many
    times over.

    Parameters
    ----------
    dag : Dag
        Its constants should be fitted; those that are simple stay.
    score : callable
        From a formula to a number, larger is better; NaN for what is invalid.
    tolerance : float
        Score that one constant may cost, at least 0.
    refit : callable, optional
        From a formula and, for each of `constants_of`, whether it may move, to the formula with those
        fitted; see `refit` of this module.

    Returns
    -------
    Dag
        As given, in canonical form, if its score is not a number.

    Raises
    ------
    ConfigError
        If the tolerance is negative.
    """
    if not tolerance >= 0.0:
        raise ConfigError(f"tolerance {tolerance}: must not be negative")
    now = canonical(dag)
    least = score(now)
    if math.isnan(least):
        return now
    for _ in range(len(constant_places(now)) + 1):  # canonical form may make more of them, seldom
        least -= tolerance
        better = _one_snapped(now, score, least, refit)
        if better is None:
            return now
        now = better
    return now


def _one_snapped(
    dag: Dag,
    score: Callable[[Dag], float],
    least: float,
    refit: Callable[[Dag, Sequence[bool]], Dag] | None,
) -> Dag | None:
    """Return the formula with one more simple constant, its score not below `least`; None if none is left."""
    values = constants_of(dag)
    fixed = [is_simple(c) for c in values.tolist()]

    def distance(i: int) -> float:
        c = float(values[i])
        return min(abs(s - c) for s in simple_numbers(c)) / abs(c)

    for i in sorted((i for i in range(len(values)) if not fixed[i]), key=distance):
        for number in simple_numbers(float(values[i])):
            changed = values.copy()
            changed[i] = number
            try:
                other = with_constants(dag, changed)
                found = canonical(other)
            except (ArithmeticError, ValueError):
                continue
            if found.leaves and score(found) >= least:
                return found
            free = [not (simple or j == i) for j, simple in enumerate(fixed)]
            if refit is None or not any(free) or abs(number - values[i]) > NEAR * abs(values[i]):
                continue
            if len(constants_of(other)) == len(values):
                found = canonical(refit(other, free))
                if found.leaves and score(found) >= least:
                    return found
    return None
