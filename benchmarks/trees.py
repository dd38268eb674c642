"""Random trees to evaluate, and the columns they are evaluated on.

Trees: 9 to 29 nodes (19 on average, leaves and constants counted), 31 % of them unary (exp log sqrt tanh sin
cos square abs), the others add, sub, mul, div, all equally likely; a leaf beside another part is a constant 3
times in 10, no two alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNARY = ("exp", "log", "sqrt", "tanh", "sin", "cos", "square", "abs")
BINARY = ("add", "sub", "mul", "div")
N_COLUMNS, MEAN_NODES, UNARY_SHARE, CONSTANT_SHARE = 5, 19, 0.31, 0.3
TREES = 1000
"""How many are evaluated where nothing else is said."""
Tree = tuple[Any, ...]
"""("x", column), ("c", value), or an operator and its arguments."""
Columns = list[NDArray[Any]]


def random_tree(rng: np.random.Generator, unary: int, binary: int, constant: bool = False) -> Tree:
    """Return a tree of so many operators; `constant` allows a lone leaf to be a constant."""
    if unary + binary == 0:
        if constant and rng.random() < CONSTANT_SHARE:
            return ("c", float(np.float32(rng.normal() * 2)))
        return ("x", int(rng.integers(N_COLUMNS)))
    if rng.random() < unary / (unary + binary):
        return (str(rng.choice(UNARY)), random_tree(rng, unary - 1, binary))
    u, b = int(rng.integers(unary + 1)), int(rng.integers(binary))
    left = random_tree(rng, u, b, True)
    return (str(rng.choice(BINARY)), left, random_tree(rng, unary - u, binary - 1 - b, left[0] != "c"))


def random_trees(n: int, mean_nodes: int, seed: int = 0) -> list[Tree]:
    """Return trees of sizes around the mean, 31 % of the nodes unary."""
    rng = np.random.default_rng(seed)
    trees = []
    for size in rng.integers(mean_nodes - mean_nodes // 2, mean_nodes + mean_nodes // 2 + 1, n):
        unary = round(UNARY_SHARE * size)
        if (size - unary) % 2 == 0:  # what is left must be odd: operators and one leaf more
            unary += int(rng.choice([-1, 1]))
        trees.append(random_tree(rng, unary, (size - unary - 1) // 2))
    return trees


def with_constants(tree: Tree, rng: np.random.Generator) -> Tree:
    """Return the same structure with other constants."""
    if tree[0] == "c":
        return ("c", float(np.float32(rng.normal() * 2)))
    return tree if tree[0] == "x" else (tree[0], *(with_constants(one, rng) for one in tree[1:]))


def prefix(tree: Tree) -> Iterator[Tree]:
    """Return the nodes, operators before their arguments; operators without them."""
    if tree[0] in ("x", "c"):
        yield tree
    else:
        yield tree[:1]
        for one in tree[1:]:
            yield from prefix(one)


def count(trees: Sequence[Tree]) -> int:
    """Return the nodes of all trees, leaves and constants counted."""
    return sum(1 for tree in trees for _ in prefix(tree))


def columns_of(n_rows: int, dtype: Any) -> Columns:
    """Return the data: the same numbers in every type."""
    rng = np.random.default_rng(1)
    return [column.astype(dtype) for column in rng.uniform(-3, 3, (N_COLUMNS, n_rows)).astype(np.float32)]
