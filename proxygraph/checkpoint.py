"""A search as plain data, to be written to disk and read again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.archive import HallOfFame, Individual
from proxygraph.compact.breed import KINDS
from proxygraph.compact.forest import Forest, Vocabulary, check_trees, to_dag
from proxygraph.compact.keys import KeySet
from proxygraph.dag import Dag, Node
from proxygraph.errors import ConfigError, ProxyGraphError
from proxygraph.islands import IslandsState
from proxygraph.leaves import Leaf
from proxygraph.search_state import COUNTERS, COUNTERS_AFTER, Living, SearchState


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _unpacked(text: Any, dtype: Any, *shape: int) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype).reshape(shape or -1).copy()


def state_to_json(state: SearchState) -> dict[str, Any]:
    """Return the state as plain data: arrays in base64, formulas of the hall of fame node by node."""

    def nodes(dag: Dag) -> list[Any]:
        return [n.value if n.kind == "const" else [n.name, *n.args] for n in dag.nodes]

    living = state.population
    return {
        "generation": state.generation,
        "population": {
            "capacity": living.trees.code.shape[1],
            **{name: _packed(array) for name, array in living.trees._asdict().items()},
            **{name: _packed(getattr(living, name)) for name in ("key", "size", "fitness")},
            "order": _packed(living.code),
        },
        "hall": [[nodes(one.dag), one.fitness] for one in state.hall.members],
        "known": [_packed(array) for array in state.known.content()],
        "classes": [_packed(array) for array in state.classes.content()],
        "fitted": [_packed(array) for array in state.fitted.content()],
        "counters": dict(state.counters),
        "last_gain": state.last_gain,
        "renewed": state.renewed,
        "credit": state.credit.tolist(),
        "remembered": state.known.capacity,
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

    def keys(parts: Any) -> KeySet:
        key, least = parts
        return KeySet.of(remembered, _unpacked(key, np.uint64), _unpacked(least, np.uint8))

    try:
        hall = tuple(Individual(Dag([node(n) for n in nodes], leaves), float(f)) for nodes, f in data["hall"])
        generation, last_gain = int(data["generation"]), int(data["last_gain"])
        renewed = int(data["renewed"])
        remembered = int(data["remembered"])
        credit = np.array(data["credit"], np.float64)
        if credit.shape != (2, len(KINDS)) or not (np.isfinite(credit) & (credit >= 0)).all():
            raise ValueError("credit that is none")
        if not 0 <= min(last_gain, renewed) <= max(last_gain, renewed) <= generation < 1 << 31:
            raise ValueError(f"generation {generation}, its last gain in {last_gain}, renewed in {renewed}")
        return SearchState(
            generation,
            _living_from_json(data["population"], leaves),
            HallOfFame(hall),
            keys(data["known"]),
            keys(data["classes"]),
            {name: int(data["counters"][name]) for name in (*COUNTERS, *COUNTERS_AFTER)},
            last_gain,
            renewed,
            credit,
            keys(data["fitted"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, ProxyGraphError) as error:
        raise ConfigError(f"the checkpoint is damaged ({error!r}); start again without --resume") from None


def _living_from_json(data: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> Living:
    """Read a population; `ValueError` if it is not one, since compiled code checks nothing."""
    capacity = int(data["capacity"])
    trees = Forest(
        _unpacked(data["code"], np.int16, -1, capacity),
        _unpacked(data["value"], np.float64, -1, capacity),
        _unpacked(data["length"], np.int32),
    )
    living = Living(
        trees,
        _unpacked(data["key"], np.uint64),
        _unpacked(data["order"], np.uint64),
        _unpacked(data["size"], np.int32),
        _unpacked(data["fitness"], np.float64),
    )
    vocabulary = Vocabulary.of(leaves)
    if len({len(a) for a in (*trees, living.key, living.code, living.size, living.fitness)}) != 1:
        raise ValueError("a population of unequal lengths")
    check_trees(trees, len(leaves))
    for i in range(len(living)):
        to_dag(trees, i, vocabulary)
    return living


def islands_to_json(state: IslandsState) -> dict[str, Any]:
    """Return the states of all islands as plain data."""
    return {"islands": [state_to_json(one) for one in state.islands]}


def islands_from_json(data: Mapping[str, Any], leaves: Mapping[str, Leaf], islands: int) -> IslandsState:
    """Read what `islands_to_json` wrote.

    Raises
    ------
    ConfigError
        If it is damaged, or of another number of islands.
    """
    try:
        stored = list(data["islands"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the checkpoint is damaged ({error!r}); start again without --resume") from None
    states = tuple(state_from_json(one, leaves) for one in stored)
    if len(states) != islands or len({one.generation for one in states}) != 1:
        raise ConfigError(
            f"the checkpoint is damaged: {len(states)} islands instead of {islands}, or in several "
            "generations; start again without --resume"
        )
    return IslandsState(states)
