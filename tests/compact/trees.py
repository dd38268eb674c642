"""Trees for tests: bred, written node by node, and brought into one spelling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.breed import KINDS, Choices, breed
from proxygraph.compact.forest import CONST, LEAF, Forest, Vocabulary, to_dag, tree_length
from proxygraph.compact.keys import tidy
from proxygraph.dag import Dag


def bred(
    have: Choices,
    n: int,
    parents: Forest | None = None,
    *,
    score: NDArray[np.float64] | None = None,
    seed: int = 0,
    generation: int = 0,
    capacity: int = 0,
) -> tuple[Forest, list[str]]:
    """Children, and the way each was made; random ones without parents."""
    made = Forest.empty(n, capacity or 2 * have.max_size + 2)
    kinds = np.empty(n, np.int8)
    parents = Forest.empty(0, made.code.shape[1]) if parents is None else parents
    score = np.zeros(len(parents.length)) if score is None else score
    breed(parents, score, have, seed, generation, 0, n, made, kinds)
    return made, [KINDS[kind] for kind in kinds]


def tidied(forest: Forest, vocabulary: Vocabulary) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Bring trees into one spelling, in place; return their keys and sizes."""
    n = len(forest.length)
    keys, sizes = np.full(n, 7, np.uint64), np.full(n, -1, np.int32)
    tidy(*forest, vocabulary.symbols, 0, n, keys, sizes)
    return keys, sizes


def written(dags: Sequence[Dag], vocabulary: Vocabulary) -> Forest:
    """Trees of the formulas as they stand: constants are not folded."""
    forest = Forest.empty(len(dags), max(map(tree_length, dags)))
    forest.value[:] = np.nan  # where a value means nothing, it must not be read
    for i, dag in enumerate(dags):
        rows: list[tuple[int, float]] = []

        def walk(k: int, dag: Dag = dag, rows: list[tuple[int, float]] = rows) -> None:
            node = dag.nodes[k]
            if node.kind == "const":
                rows.append((CONST, node.value))
            elif node.kind == "leaf":
                rows.append((LEAF + vocabulary.names.index(node.name), np.nan))
            else:
                power = node.name == "pow"
                rows.append(
                    (vocabulary.ops.index(node.name), dag.nodes[node.args[1]].value if power else np.nan)
                )
                for j in node.args[: 1 if power else 2]:
                    walk(j)

        walk(len(dag.nodes) - 1)
        forest.code[i, : len(rows)] = [code for code, _ in rows]
        forest.value[i, : len(rows)] = [value for _, value in rows]
        forest.length[i] = len(rows)
    return forest


def dags_of(forest: Forest, vocabulary: Vocabulary) -> list[Dag]:
    """All trees as checked Dags."""
    return [to_dag(forest, i, vocabulary) for i in range(len(forest.length))]


def spellings(forest: Forest) -> list[bytes]:
    """What counts of every tree: codes, and the values of constants and exponents."""
    found = []
    for code, value, n in zip(*forest, strict=True):
        found.append(code[:n].tobytes() + np.where(code[:n] < LEAF, value[:n], 0.0).tobytes())
    return found
