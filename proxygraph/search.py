"""The one loop: from selection back to new formulas.

A search is a value, `SearchState`, and a function from one generation to the next. ``run(10)`` is ``run(5)``
twice; the result depends on the seed and not on threads or interruptions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from proxygraph import variation
from proxygraph.archive import HallOfFame, Individual
from proxygraph.canon import Canonicaliser
from proxygraph.dag import Dag, Node
from proxygraph.errors import ConfigError, ProxyGraphError
from proxygraph.kernels.population import Population
from proxygraph.leaves import Leaf
from proxygraph.objective import Objective
from proxygraph.ops import OPS
from proxygraph.rank import Floats
from proxygraph.selection import survivors, tournament
from proxygraph.variation import Grammar

COUNTERS = ("proposed", "evaluated", "invalid", "oversize", "structural", "algebraic", "numeric", "rank")


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search.

    Attributes
    ----------
    seed : int
    population : int
        Formulas that live at the same time.
    max_size : int
        Most nodes of a formula.
    parsimony : float
        Fitness that a node costs in selection.
    crossover, fresh : float
        Share of children by crossover and of new random formulas; the others are mutations.
    restart_after : int
        Generations without a better formula after which all but the hall of fame is made anew.
    """

    seed: int = 0
    population: int = 400
    max_size: int = 15
    parsimony: float = 0.001
    crossover: float = 0.35
    fresh: float = 0.08
    restart_after: int = 40

    def __post_init__(self) -> None:
        if self.population < 10:
            raise ConfigError(f"population {self.population}: at least 10 formulas are needed")
        if self.max_size < 2:
            raise ConfigError(f"max_size {self.max_size}: a formula needs at least 2 nodes")


@dataclass(frozen=True, eq=False)
class SearchState:
    """Everything a search is at one moment.

    Attributes
    ----------
    generation : int
    population : tuple of Individual
    hall : HallOfFame
    known : frozenset-like dict of str to None
        Keys met so far, as written and canonical: none is scored twice.
    counters : mapping of str to int
    last_gain : int
        Generation of the last better formula.
    rng : mapping
        State of the random generator.
    """

    generation: int
    population: tuple[Individual, ...]
    hall: HallOfFame
    known: dict[str, None]
    counters: Mapping[str, int]
    last_gain: int
    rng: Mapping[str, Any]

    @property
    def best(self) -> float:
        """The highest fitness so far."""
        return max((one.fitness for one in self.hall.members), default=0.0)


@dataclass(frozen=True, eq=False)
class Search:
    """What stays the same during a search.

    Attributes
    ----------
    config : SearchConfig
    grammar : Grammar
    objective : Objective
    evaluate : Population
        Scores formulas on the training rows.
    target : ndarray, shape (N,)
        Of the training rows.
    seeds : sequence of Dag
        Formulas to start from, beside random ones.
    """

    config: SearchConfig
    grammar: Grammar
    objective: Objective
    evaluate: Population
    target: Floats
    seeds: Sequence[Dag] = ()
    canonical: Canonicaliser = field(default_factory=Canonicaliser, init=False, repr=False)

    def start(self) -> SearchState:
        """Return generation 0: the seeds and random formulas."""
        rng = np.random.default_rng(self.config.seed)
        state = SearchState(0, (), HallOfFame(), {}, dict.fromkeys(COUNTERS, 0), 0, rng.bit_generator.state)
        seeds = [dag for dag in self.seeds if dag.size <= self.config.max_size]
        fresh = [variation.random_dag(self.grammar, rng) for _ in range(self.config.population)]
        return self.advanced(state, [*seeds, *fresh], rng)

    def step(self, state: SearchState) -> SearchState:
        """Return the next generation."""
        rng = np.random.default_rng()
        rng.bit_generator.state = state.rng
        if state.generation - state.last_gain >= self.config.restart_after:
            # stagnation: new blood, and the front to breed with it
            state = replace(state, population=state.hall.front(), last_gain=state.generation)
            children = [variation.random_dag(self.grammar, rng) for _ in range(self.config.population)]
        else:
            children = [self.child(state.population, rng) for _ in range(self.config.population)]
        return self.advanced(state, children, rng)

    def child(self, population: Sequence[Individual], rng: np.random.Generator) -> Dag:
        """Return one new formula."""
        draw = rng.random()
        if draw < self.config.fresh or not population:
            return variation.random_dag(self.grammar, rng)
        parent = tournament(population, self.config.parsimony, rng).dag
        if draw < self.config.fresh + self.config.crossover:
            other = tournament(population, self.config.parsimony, rng, rounds=2).dag
            return variation.crossover(parent, other, self.grammar, rng)
        mutate = variation.MUTATIONS[rng.integers(len(variation.MUTATIONS))]
        child = mutate(parent, self.grammar, rng)
        if rng.random() < 0.2:
            child = variation.MUTATIONS[rng.integers(len(variation.MUTATIONS))](child, self.grammar, rng)
        return child

    def advanced(self, state: SearchState, proposed: Sequence[Dag], rng: np.random.Generator) -> SearchState:
        """Score what is new among `proposed`, update the hall of fame and choose the survivors."""
        counters = Counter(state.counters)
        known = dict(state.known)
        new = self.unknown(proposed, known, counters)
        fitness = self.objective.fitness(self.evaluate(new), self.target) if new else np.empty(0)
        counters["evaluated"] += len(new)
        counters["invalid"] += int(np.isnan(fitness).sum())
        scored = [Individual(dag, float(f)) for dag, f in zip(new, fitness, strict=True) if np.isfinite(f)]
        hall = state.hall.updated(scored)
        best = max((one.fitness for one in hall.members), default=0.0)
        population = survivors(
            [*state.population, *scored], self.config.population, self.config.parsimony, rng
        )
        return SearchState(
            generation=state.generation + 1,
            population=population,
            hall=hall,
            known=known,
            counters=dict(counters),
            last_gain=state.generation + 1 if best > state.best else state.last_gain,
            rng=rng.bit_generator.state,
        )

    def unknown(self, proposed: Sequence[Dag], known: dict[str, None], counters: Counter[str]) -> list[Dag]:
        """Return the canonical forms not met before; `known` and `counters` are brought up to date."""
        new: list[Dag] = []
        for dag in proposed:
            counters["proposed"] += 1
            if dag.key in known:
                counters["structural"] += 1
                continue
            known[dag.key] = None
            spelled = self.canonical(dag)
            if spelled.key != dag.key:
                if spelled.key in known:
                    counters["algebraic"] += 1
                    continue
                known[spelled.key] = None
            if spelled.size > self.config.max_size or not spelled.leaves:
                counters["oversize" if spelled.leaves else "invalid"] += 1
                continue
            new.append(spelled)
        return new


def grammar_for(leaves: Mapping[str, Leaf], max_size: int, without: Sequence[str] = ()) -> Grammar:
    """Return the default grammar for these leaves: every operator, but sin and cos only for plain tables."""
    tabular = all(leaf.axis == "row" for leaf in leaves.values())
    skip = set(without) | (set() if tabular else {"sin", "cos"})
    ops = tuple(
        name for name, op in OPS.items() if name not in skip and (op.kind == "elementwise" or not tabular)
    )
    return Grammar(leaves, ops, max_size=max_size)


# ---- as plain data -----------------------------------------------------------------------------------------


def state_to_json(state: SearchState) -> dict[str, Any]:
    """Return the state as plain data: formulas node by node, since their order steers what comes next."""

    def nodes(dag: Dag) -> list[Any]:
        return [n.value if n.kind == "const" else [n.name, *n.args] for n in dag.nodes]

    def people(ones: Sequence[Individual]) -> list[list[Any]]:
        return [[nodes(one.dag), one.fitness] for one in ones]

    return {
        "generation": state.generation,
        "population": people(state.population),
        "hall": people(state.hall.members),
        "known": list(state.known),
        "counters": dict(state.counters),
        "last_gain": state.last_gain,
        "rng": state.rng,
    }


def state_from_json(data: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> SearchState:
    """Read what `state_to_json` wrote.

    Raises
    ------
    ConfigError
        If it is damaged.
    """

    def node(row: Any) -> Node:
        if isinstance(row, float):
            return Node("const", value=row)
        name, *args = row
        return Node("op", name, tuple(map(int, args))) if args else Node("leaf", name)

    def people(rows: Any) -> tuple[Individual, ...]:
        return tuple(Individual(Dag([node(n) for n in nodes], leaves), float(f)) for nodes, f in rows)

    try:
        np.random.default_rng().bit_generator.state = data["rng"]  # refuses what is no such state
        return SearchState(
            int(data["generation"]),
            people(data["population"]),
            HallOfFame(people(data["hall"])),
            dict.fromkeys(map(str, data["known"])),
            {name: int(data["counters"][name]) for name in COUNTERS},
            int(data["last_gain"]),
            dict(data["rng"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, ProxyGraphError) as error:
        raise ConfigError(f"the checkpoint is damaged ({error!r}); start again without --resume") from None
