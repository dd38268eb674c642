"""The one loop: from selection back to new formulas, on arrays.

A search is a state and a function from one generation to the next. ``run(10)`` is ``run(5)`` twice; the
result depends on the seed and not on threads or interruptions. Formulas are trees in arrays here and become
Dags where people meet them: in the hall of fame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from proxygraph.archive import HallOfFame, Individual
from proxygraph.behaviour import BehaviourCheck
from proxygraph.branches import BENT
from proxygraph.canon import Canonicaliser
from proxygraph.compact.allowed import Rules, allowed
from proxygraph.compact.breed import FRESH, KINDS, RATES, Choices, breed, choices
from proxygraph.compact.forest import CONST, Forest, to_dag, to_forest, tree_length
from proxygraph.compact.keys import EMPTY, KeySet, tidy
from proxygraph.constraints import Constraints
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.leaves import Leaf
from proxygraph.objective import Objective
from proxygraph.ops import OPS
from proxygraph.rank import Floats
from proxygraph.search_state import COUNTERS, COUNTERS_AFTER, Living, SearchState
from proxygraph.selection import rank_within, representatives, survivors
from proxygraph.weighing import weighed

CHUNK_VALUES: Final = 4_000_000
"""Values that are held at a time while a generation is scored."""
SCREEN_MARGIN: Final = 0.1
"""How much of fitness the coarse sample may be wrong by before a formula is lost."""
ANY_CONSTANT: Final = 1.2345678
"""Stands for all constants where only the structure counts."""
FITTED_AGAIN: Final = 0.75
"""A known structure is fitted again if it is better than such a share of the living ones."""
LEAST_GAIN: Final = 1e-12
"""R² by which fitted constants must be better to take the place of those there were."""
LEAST_LOSS: Final = 1e-14
"""1 - R² below which formulas are equally good: rounding."""
CROWDING: Final = 0.1
"""Logarithm of the loss that a formula is behind by for each better one of its size."""
LEVEL: Final = frozenset({"tanh", "sigmoid", "log1p"})
"""Operators that level off, and log1p, which is log with a shift."""
WEIGHED: Final = 0.3
"""Children with more constants, per living formula and generation."""
TOURNAMENT: Final = 5
"""Of so many living formulas the best one gets them."""
MEMORY_OF_RATES: Final = 0.9
"""Share of what was learnt about the ways of making children that a generation keeps."""


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search.

    Attributes
    ----------
    seed : int
    population : int
        Formulas that live at the same time.
    children : int
        Formulas made in a generation; 0: as many as live. Where constants are fitted, `WEIGHED` times
        `population` of those with more constants come on top.
    max_size : int
        Most nodes of a formula.
    parsimony : float
        Fitness that a node costs in selection; for least squares the share of the loss that it must save. For
        a user's function of kind "fit" the loss is 1 minus its fitness, which without ``bounded`` is the
        function's number squashed into 0 to 1.
    restart_after : int
        Generations without a better formula after which all but the hall of fame is made anew.
    adaptive : bool
        Whether ways of making children that give survivors are used more often.
    remembered : int
        Most keys of formulas, and of orders, that are kept to recognise repetitions; 9 to 36 bytes each.
    """

    seed: int = 0
    population: int = 400
    children: int = 0
    max_size: int = 15
    parsimony: float = 0.001
    restart_after: int = 40
    adaptive: bool = True
    remembered: int = 1 << 23

    def __post_init__(self) -> None:
        if self.population < 10:
            raise ConfigError(f"population {self.population}: at least 10 formulas are needed")
        if self.max_size < 2:
            raise ConfigError(f"max_size {self.max_size}: a formula needs at least 2 nodes")
        if self.children < 0:
            raise ConfigError(f"children {self.children}: a generation cannot have less than 0")


@dataclass(frozen=True, eq=False)
class Search:
    """What stays the same during a search.

    Attributes
    ----------
    config : SearchConfig
    ops : sequence of str
        Operators allowed.
    objective : Objective
    evaluate : Population
        Scores formulas on the training rows.
    target : ndarray, shape (N,)
        Of the training rows.
    seeds : sequence of Dag
        Formulas to start from, beside random ones.
    screen : Population, optional
        The same rows with fewer samples: formulas that are hopeless there are not scored on all of them.
    constraints : Constraints
        On the structure of formulas.
    behaviour : BehaviourCheck, optional
        What formulas must do on the data. It costs several evaluations of every formula it is asked about.
    fitter : Fitter, optional
        Fits the constants of new structures by least squares.
    """

    config: SearchConfig
    ops: Sequence[str]
    objective: Objective
    evaluate: Population
    target: Floats
    seeds: Sequence[Dag] = ()
    screen: Population | None = None
    constraints: Constraints = field(default_factory=Constraints)
    behaviour: BehaviourCheck | None = None
    fitter: Fitter | None = None
    canonical: Canonicaliser = field(default_factory=Canonicaliser, init=False, repr=False)
    have: Choices = field(init=False, repr=False)
    rules: Rules = field(init=False, repr=False)
    _pool: ThreadPoolExecutor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vocabulary = self.evaluate.vocabulary
        ops = self.constraints.allowed_ops(self.ops)
        object.__setattr__(self, "have", choices(vocabulary, ops, self.config.max_size))
        object.__setattr__(self, "rules", self.constraints.rules(vocabulary))
        object.__setattr__(self, "_pool", ThreadPoolExecutor(self.evaluate.threads))

    def reseeded(self, seed: int) -> Search:
        """Return this search with another seed. The two share all they work with and must take turns."""
        other = copy(self)
        object.__setattr__(other, "config", replace(self.config, seed=seed))
        return other

    @property
    def capacity(self) -> int:
        """Most nodes of a tree; more than of a formula, whose shared parts a tree writes out."""
        return 2 * self.config.max_size + 2

    @property
    def leaves(self) -> Mapping[str, Leaf]:
        """The leaves formulas are made of."""
        return self.evaluate.vocabulary.leaves

    def start(self) -> SearchState:
        """Return generation 0: the seeds and random formulas."""
        counters = dict.fromkeys((*COUNTERS, *COUNTERS_AFTER), 0)
        nobody = Living.none(self.capacity)
        known, classes, fitted = (KeySet(self.config.remembered) for _ in range(3))
        state = SearchState(0, nobody, HallOfFame(), known, classes, counters, 0, fitted=fitted)
        fitting = [dag for dag in self.seeds if self.can_hold(dag)]
        seeds = to_forest(fitting, self.evaluate.vocabulary, self.capacity)
        made, kinds = self.children(nobody, 0)
        return self.advanced(
            state, seeds.joined(made), np.append(np.full(len(fitting), FRESH, np.int8), kinds)
        )

    def can_hold(self, dag: Dag) -> bool:
        """Return whether a formula is one of those that this search may make."""
        known = dag.leaves.keys() <= self.leaves.keys() and dag.size <= self.config.max_size
        return (
            known
            and tree_length(dag) <= self.capacity
            and bool(self.constraints.admits([dag], self.evaluate.vocabulary)[0])
        )

    def step(self, state: SearchState) -> SearchState:
        """Return the next generation."""
        if state.generation - max(state.last_gain, state.renewed) >= self.config.restart_after:
            # stagnation: new blood, and the front to breed with it
            front = self.living([one for one in state.hall.front() if tree_length(one.dag) <= self.capacity])
            state = replace(state, population=front, renewed=state.generation)
            return self.advanced(state, *self.children(Living.none(self.capacity), state.generation))
        return self.advanced(state, *self.children(state.population, state.generation, state.credit))

    def children(
        self, parents: Living, generation: int, credit: Floats | None = None
    ) -> tuple[Forest, NDArray[np.int8]]:
        """Return the children of a generation and how each was made; random ones if there are no parents."""
        have = self.have
        if credit is not None and self.config.adaptive:
            have = have._replace(rates=adapted(credit))
        made = Forest.empty(self.config.children or self.config.population, self.capacity)
        kinds = np.empty(len(made.length), np.int8)
        score = self.selective(parents)

        def work(first: int, last: int) -> None:
            breed(parents.trees, score, have, self.config.seed, generation, first, last, made, kinds)

        self._shared(work, len(made.length))
        if self.fitter is not None and len(parents):
            more = self.weighed(parents, score, generation)
            made = made.joined(more)
            kinds = np.append(kinds, np.full(len(more.length), -1, np.int8))
        return made, kinds

    def weighed(self, parents: Living, score: Floats, generation: int) -> Forest:
        """Return some children with more constants; see `proxygraph.weighing`."""
        names = list(self.evaluate.vocabulary.ops)
        allowed = self.constraints.allowed_ops(self.ops)
        if "mul" not in allowed:
            return Forest.empty(0, self.capacity)
        rng = np.random.default_rng([self.config.seed, generation, 0x3E16])
        drawn = rng.integers(len(parents), size=(int(WEIGHED * self.config.population), TOURNAMENT))
        best = drawn[np.arange(len(drawn)), np.argmax(score[drawn], axis=1)]
        add = names.index("add") if "add" in allowed else None
        return weighed(parents.trees.take(best), names.index("mul"), add, rng)

    def _shared(self, work: Any, n: int) -> None:
        """Run ``work(first, last)`` on all of `n`, shared out over the threads."""
        parts = self.evaluate.threads
        if parts == 1:
            work(0, n)
            return
        bounds = [k * n // parts for k in range(parts + 1)]
        for done in [self._pool.submit(work, a, b) for a, b in pairwise(bounds)]:
            done.result()

    def living(self, ones: Sequence[Individual]) -> Living:
        """Return scored formulas as members of a population."""
        trees = to_forest([one.dag for one in ones], self.evaluate.vocabulary, self.capacity)
        key, size = self.tidied(trees)
        fitness = np.array([one.fitness for one in ones], float)
        # without the values there is no code of the order; the key makes each a class of its own
        return Living(trees, key, key.copy(), size, fitness)

    def tidied(self, trees: Forest) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Bring trees into one spelling, in place; return keys and sizes."""
        n = len(trees.length)
        key, size = np.zeros(n, np.uint64), np.zeros(n, np.int32)
        symbols = self.evaluate.vocabulary.symbols
        self._shared(lambda first, last: tidy(*trees, symbols, first, last, key, size), n)
        return key, size

    def welcomed(self, state: SearchState, guests: Living) -> SearchState:
        """Return the state with formulas of another island in its population, in place of its worst."""
        state.known.add(guests.key, np.zeros_like(guests.size))
        guests = guests.take(np.flatnonzero(state.classes.add(guests.code, guests.size)))
        stay = np.argsort(-self.selective(state.population), kind="stable")
        stay = np.sort(stay[: max(0, self.config.population - len(guests))])
        return replace(state, population=state.population.take(stay).joined(guests))

    def emigrants(self, state: SearchState, n: int) -> Living:
        """Return copies of the `n` best of the population."""
        population = state.population
        return population.take(np.lexsort((population.key, -self.selective(population)))[:n])

    def selective(self, living: Living) -> Floats:
        """Return what selection goes by: fitness less what size costs.

        Least squares go by the logarithm of the loss 1 - R², so that near a perfect fit, too, it pays to be
        better.
        """
        if self.objective.kind == "fit":
            loss: Floats = np.maximum(1.0 - living.fitness, LEAST_LOSS)
            score: Floats = -np.log(loss) - self.config.parsimony * living.size
            return score - CROWDING * rank_within(living.size, score, living.key)
        return living.fitness - self.config.parsimony * living.size

    def advanced(
        self, state: SearchState, proposed: Forest, kinds: NDArray[np.int8] | None = None
    ) -> SearchState:
        """Score what is new among `proposed`, update the hall of fame and choose the survivors.

        `kinds` says how each was made (a place in `breed.KINDS`), for the credit of the ways of making
        children; -1: in a way that takes no part in that, as in `weighed`. Without it all count as random.
        """
        config = self.config
        counters = dict(state.counters)
        key, size = self.tidied(proposed)
        fits = size <= config.max_size
        permitted = self.permitted(proposed)
        new = state.known.add(key, np.zeros_like(size))
        counters["proposed"] += len(key)
        counters["structural"] += int((~new & (key != EMPTY)).sum())
        counters["oversize"] += int((new & ~fits).sum())
        counters["forbidden"] += int((new & fits & ~permitted).sum())
        counters["invalid"] += int((key == EMPTY).sum())
        rows = np.flatnonzero(new & fits & permitted)
        trees = proposed.take(rows)
        fitness, code, passed = self.scored(trees, state.population)
        counters["evaluated"] += len(rows)
        counters["screened"] += int((~passed).sum())
        counters["invalid"] += int((passed & np.isnan(fitness)).sum())
        found = self.with_fitted(state, Living(trees, key[rows], code, size[rows], fitness), counters)
        fitness = found.fitness
        kind = (np.full(len(key), FRESH, np.int8) if kinds is None else kinds)[rows]
        usable = np.flatnonzero(passed & np.isfinite(fitness))
        found, born = found.take(usable), kind[usable]
        fresh = state.classes.add(found.code, found.size)
        counters["rank" if self.objective.kind == "rank" else "numeric"] += int((~fresh).sum())
        found, born = found.take(np.flatnonzero(fresh)), born[fresh]
        if self.behaviour is not None:
            behaves = self.behaves(found)
            counters["forbidden"] += int((~behaves).sum())
            found, born = found.take(np.flatnonzero(behaves)), born[behaves]
        honoured = self.honoured(found, state.hall)
        if honoured:
            members = {one.dag.key for one in state.hall.members}
            counters["algebraic"] += sum(one.dag.key in members for one in honoured)
        hall = state.hall.updated(honoured)
        pool = state.population.joined(found)
        born = np.append(np.full(len(state.population), -1, np.int8), born)
        apart = representatives(pool.fitness, pool.size, pool.code, pool.key)
        pool, born = pool.take(apart), born[apart]
        rng = np.random.default_rng([config.seed, state.generation, 0x5E1EC7])
        chosen = survivors(self.selective(pool), pool.key, config.population, rng)
        gained = [np.bincount(k[k >= 0], minlength=len(KINDS)) for k in (kind, born[chosen])]
        return SearchState(
            generation=state.generation + 1,
            population=pool.take(chosen),
            hall=hall,
            known=state.known,
            classes=state.classes,
            counters=counters,
            last_gain=state.generation + 1 if hall.best > state.best else state.last_gain,
            renewed=state.renewed,
            fitted=state.fitted,
            credit=MEMORY_OF_RATES * state.credit + np.array(gained, float),
        )

    def permitted(self, trees: Forest) -> NDArray[np.bool_]:
        """Return which trees keep the constraints on structure."""
        ok = np.ones(len(trees.length), bool)
        if not self.constraints.is_empty:
            symbols = self.evaluate.vocabulary.symbols
            self._shared(lambda a, b: allowed(*trees, symbols, self.rules, a, b, ok), len(ok))
        return ok

    def behaves(self, living: Living) -> NDArray[np.bool_]:
        """Return which formulas, in their final form, do on the data what they must."""
        assert self.behaviour is not None
        values = np.asarray(self.evaluate.run(living.trees), np.float64)
        lines = self.objective.lines(values, self.target)
        return self.behaviour.holds(living.trees, lines[:, 0], lines[:, 1], values)

    def with_fitted(self, state: SearchState, found: Living, counters: dict[str, int]) -> Living:
        """Return the scored formulas, those of new structures with fitted constants where that is better.

        Where a formula ends up depends little on the constants it starts with, so a structure is fitted once,
        and again only if it does better than most of the living ones with the constants it came with.
        """
        if self.fitter is None:
            return found
        constant = (found.trees.code == CONST) & (
            np.arange(found.trees.code.shape[1]) < found.trees.length[:, None]
        )
        rows = np.flatnonzero(constant.any(axis=1) & np.isfinite(found.fitness))
        bare = found.trees.take(rows)
        bare.value[constant[rows]] = ANY_CONSTANT
        structure, _ = self.tidied(bare)
        wanted = state.fitted.add(structure, np.zeros(len(rows), np.int32))
        if len(state.population):
            wanted |= found.fitness[rows] > np.quantile(state.population.fitness, FITTED_AGAIN)
        rows = rows[wanted]
        done = self.fitter.fitted(found.trees.take(rows))
        trees, loss = done.trees, done.loss
        counters["fitted"] += len(rows)
        better = 1.0 - loss > found.fitness[rows] + LEAST_GAIN
        rows, trees = rows[better], trees.take(better)
        key, size = self.tidied(trees)
        usable = (size <= self.config.max_size) & self.permitted(trees)
        usable &= state.known.add(key, np.zeros_like(size))
        rows, trees = rows[usable], trees.take(usable)
        fitness, code = self._judged(self.evaluate, trees)
        counters["evaluated"] += len(rows)
        out = found.take(np.arange(len(found)))  # a copy
        out.trees.code[rows], out.trees.value[rows] = trees.code, trees.value
        out.trees.length[rows] = trees.length
        out.key[rows], out.size[rows] = key[usable], size[usable]
        out.fitness[rows], out.code[rows] = fitness, code
        return out

    def scored(
        self, trees: Forest, population: Living
    ) -> tuple[Floats, NDArray[np.uint64], NDArray[np.bool_]]:
        """Return fitness and code of every tree, and which of them got through the screening."""
        n = len(trees.length)
        passed = np.ones(n, bool)
        if self.screen is not None and len(population) > 0:
            # a formula that falls so far short of the lower living ones would not survive anyway
            least = float(np.quantile(population.fitness, 0.25)) - SCREEN_MARGIN
            coarse, _ = self._judged(self.screen, trees)
            passed = ~(coarse < least)  # what is not finite on few samples may be on more
        fitness, code = np.full(n, np.nan), np.zeros(n, np.uint64)
        rows = np.flatnonzero(passed)
        fitness[rows], code[rows] = self._judged(self.evaluate, trees.take(rows))
        return fitness, code, passed

    def _judged(self, evaluate: Population, trees: Forest) -> tuple[Floats, NDArray[np.uint64]]:
        """Return fitness and code of every tree, in portions that fit memory."""
        portion = max(1, CHUNK_VALUES // max(1, len(self.target)))
        parts = [
            self.objective.judged(
                evaluate.run(trees.take(slice(first, first + portion))), self.target, evaluate.threads
            )
            for first in range(0, len(trees.length), portion)
        ]
        if not parts:
            return np.zeros(0), np.zeros(0, np.uint64)
        return np.concatenate([f for f, _ in parts]), np.concatenate([c for _, c in parts])

    def honoured(self, found: Living, hall: HallOfFame) -> list[Individual]:
        """Return those that may enter the hall of fame, as Dags, canonical if allowed."""
        fit = self.objective.kind == "fit"
        least = np.array([hall.least(size) for size in range(self.config.max_size + 1)])
        if fit:  # most are never chosen and each costs a canonical form: only the front counts, one a size
            least = np.maximum(least, [hall.best_up_to(size) for size in range(len(least))])
        able = np.flatnonzero(found.fitness > least[found.size])
        order = able[np.lexsort((found.key[able], -found.fitness[able], found.size[able]))]
        chosen: list[Individual] = []
        for size in np.unique(found.size[order]):
            rows = order[found.size[order] == size][: hall.keep]
            if fit:
                beaten = max((one.fitness for one in chosen if one.size <= size), default=-1.0)
                rows = rows[found.fitness[rows] > beaten]
            for i in rows:
                bred = to_dag(found.trees, int(i), self.evaluate.vocabulary)
                spelled = self.canonical(bred)
                if not self.constraints.is_empty and not self._may_stay(spelled):
                    spelled = bred  # the canonical form of x*x has an operator that may not be allowed
                if self._may_stay(spelled):
                    chosen.append(Individual(spelled, float(found.fitness[i])))
                    if fit:
                        break
        return chosen

    def _may_stay(self, dag: Dag) -> bool:
        """Whether a Dag has a leaf and keeps size and constraints."""
        vocabulary = self.evaluate.vocabulary
        fits = bool(dag.leaves) and dag.size <= self.config.max_size
        return fits and (self.constraints.is_empty or bool(self.constraints.admits([dag], vocabulary)[0]))


def default_ops(
    leaves: Mapping[str, Leaf], without: Sequence[str] = (), *, smooth: bool = False
) -> tuple[str, ...]:
    """Return the operators for these leaves: every one, but sin and cos only for plain tables.

    Parameters
    ----------
    leaves : mapping of str to Leaf
    without : sequence of str
        Operators to leave out.
    smooth : bool
        Whether to leave out those with bends and those that level off (`BENT`, `LEVEL`). A few of them fit
        any values a little, without being any part of the law behind; who expects them names them.
    """
    tabular = all(leaf.axis == "row" for leaf in leaves.values())
    skip = set(without) | (set() if tabular else {"sin", "cos"}) | (BENT | LEVEL if smooth else set())
    return tuple(
        name for name, op in OPS.items() if name not in skip and (op.kind == "elementwise" or not tabular)
    )


def adapted(credit: Floats) -> Floats:
    """Return cumulative probabilities of the ways of making children, after what each has brought lately.

    Probability matching (Goldberg 1990) around `breed.RATES`: a way whose children survive twice as often as
    the average is used twice as often; each keeps a quarter of its usual rate, and random formulas all of it.
    """
    made, survived = credit
    usual = np.array([RATES[kind] for kind in KINDS])
    usual = usual / usual.sum()
    average = (survived.sum() + 1.0) / (made.sum() + 1.0)
    # ten imagined children of average success keep a rarely used way from being judged by luck
    success = (survived + 10.0 * average) / (made + 10.0) / average
    rates = usual * np.clip(success, 0.25, 4.0)
    rates[FRESH] = 0.0
    rates *= (1.0 - usual[FRESH]) / rates.sum()
    rates[FRESH] = usual[FRESH]
    cumulative = np.cumsum(rates)
    return np.asarray(cumulative / cumulative[-1])
