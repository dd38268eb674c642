"""The compact form of formulas and the way to and from `Dag`.

A tree is one row of codes in prefix order: an operator stands directly before its arguments, so every part
is one contiguous piece, and exchanging parts is copying pieces. Parts that a Dag shares are written out once
per use. The exponent of ``pow`` is kept with the operator, which makes ``pow`` unary here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag, Node
from proxygraph.errors import ConfigError
from proxygraph.leaves import Axis, Leaf
from proxygraph.ops import BUILTIN, OPS

CONST = -1
LEAF = 1000
"""Code of the first leaf; codes below it are positions in `OPS`."""
AXES: tuple[Axis, ...] = ("row", "layer", "element", "activation")
ROW, LAYER, ELEMENT, ACTIVATION = range(4)
COARSER = (-1, ROW, LAYER, LAYER)
CODES: Mapping[str, int] = {name: i for i, name in enumerate(name for name in OPS if name in BUILTIN)}
"""Codes of the built-in operators; user operators follow."""
POW = CODES["pow"]


class Symbols(NamedTuple):
    """What compiled code knows about codes.

    Attributes
    ----------
    arity : ndarray of int8
        Of every operator; 1 for pow.
    reduces, commutes : ndarray of bool
        Of every operator.
    leaf_axis : ndarray of int8
        Position in `AXES` of every leaf.
    """

    arity: NDArray[np.int8]
    reduces: NDArray[np.bool_]
    commutes: NDArray[np.bool_]
    leaf_axis: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names of codes: the operators known when it was made, and the leaves of one table, in order."""

    ops: tuple[str, ...]
    leaves: Mapping[str, Leaf]
    names: tuple[str, ...]
    symbols: Symbols

    @classmethod
    def of(cls, leaves: Mapping[str, Leaf]) -> Vocabulary:
        """Return the vocabulary over `leaves` and all operators registered now."""
        ops = tuple(OPS)
        rows = [OPS[name] for name in ops]
        symbols = Symbols(
            np.array([1 if op.name == "pow" else op.arity for op in rows], np.int8),
            np.array([op.kind == "reduction" for op in rows]),
            np.array([op.commutative for op in rows]),
            np.array([AXES.index(leaf.axis) for leaf in leaves.values()], np.int8),
        )
        return cls(ops, dict(leaves), tuple(leaves), symbols)


class Forest(NamedTuple):
    """Many trees, one per row.

    Attributes
    ----------
    code : ndarray of int16, shape (P, L)
        In prefix order; entries behind a tree's length mean nothing.
    value : ndarray of float64, shape (P, L)
        Of constants, and the exponent of pow.
    length : ndarray of int32, shape (P,)
    """

    code: NDArray[np.int16]
    value: NDArray[np.float64]
    length: NDArray[np.int32]

    @classmethod
    def empty(cls, n: int, capacity: int) -> Forest:
        """Return `n` trees of no nodes yet, with room for `capacity`."""
        return cls(np.zeros((n, capacity), np.int16), np.zeros((n, capacity)), np.zeros(n, np.int32))

    def take(self, rows: Any) -> Forest:
        """Return the chosen trees."""
        return Forest(self.code[rows], self.value[rows], self.length[rows])

    def joined(self, other: Forest) -> Forest:
        """Return these trees and others of the same capacity."""
        return Forest(
            np.concatenate([self.code, other.code]),
            np.concatenate([self.value, other.value]),
            np.concatenate([self.length, other.length]),
        )


def tree_length(dag: Dag) -> int:
    """Return the nodes of `dag` written out as a tree, without the exponents of pow."""
    lengths: list[int] = []
    for node in dag.nodes:
        args = node.args[:1] if node.name == "pow" and node.kind == "op" else node.args
        lengths.append(1 + sum(lengths[j] for j in args))
    return lengths[-1]


def folded(dag: Dag) -> dict[int, float]:
    """Return the value of every node made of constants alone, computed as the reference does."""
    values: dict[int, float] = {}
    for i, node in enumerate(dag.nodes):
        if node.kind == "const":
            values[i] = node.value
        elif node.kind == "op" and all(j in values for j in node.args):
            with np.errstate(all="ignore"):
                values[i] = float(OPS[node.name].numpy(np, *(np.array([values[j]]) for j in node.args))[0])
    return values


def to_forest(dags: Sequence[Dag], vocabulary: Vocabulary, capacity: int) -> Forest:
    """Write formulas as trees; what is made of constants alone becomes one constant.

    Raises
    ------
    ConfigError
        If one is longer than `capacity` as a tree, or uses a name that the vocabulary lacks.
    """
    forest = Forest.empty(len(dags), capacity)
    code = {name: i for i, name in enumerate(vocabulary.ops)}
    leaf = {name: LEAF + i for i, name in enumerate(vocabulary.names)}
    for i, dag in enumerate(dags):
        constants = folded(dag)
        n = tree_length(dag)
        if n > capacity:
            raise ConfigError(f"a formula of {dag.size} nodes is a tree of {n}; at most {capacity} fit")
        stack, at = [len(dag.nodes) - 1], 0
        while stack:
            k = stack.pop()
            node = dag.nodes[k] if k not in constants else Node("const", value=constants[k])
            args = node.args
            try:
                if node.kind == "const":
                    forest.code[i, at], forest.value[i, at] = CONST, node.value
                elif node.kind == "leaf":
                    forest.code[i, at] = leaf[node.name]
                else:
                    forest.code[i, at] = code[node.name]
                    if node.name == "pow":
                        forest.value[i, at] = dag.nodes[args[1]].value
                        args = args[:1]
            except KeyError:
                raise ConfigError(f"{node.kind} {node.name!r} is not in this vocabulary") from None
            stack.extend(reversed(args))
            at += 1
        forest.length[i] = at
    return forest


def to_dag(forest: Forest, i: int, vocabulary: Vocabulary) -> Dag:
    """Return tree `i` as a checked Dag, equal parts made one."""
    nodes: list[Node] = []
    stack: list[int] = []
    for at in range(int(forest.length[i]) - 1, -1, -1):
        code, value = int(forest.code[i, at]), float(forest.value[i, at])
        if code == CONST:
            nodes.append(Node("const", value=value))
        elif code >= LEAF:
            nodes.append(Node("leaf", vocabulary.names[code - LEAF]))
        elif code == POW:
            nodes += [Node("const", value=value), Node("op", "pow", (stack.pop(), len(nodes)))]
        else:
            args = tuple(stack.pop() for _ in range(vocabulary.symbols.arity[code]))
            nodes.append(Node("op", vocabulary.ops[code], args))
        stack.append(len(nodes) - 1)
    return Dag(nodes, vocabulary.leaves)


def check_trees(forest: Forest, n_leaves: int) -> None:
    """Refuse arrays that are no trees, before compiled code reads them unchecked.

    Raises
    ------
    ValueError
        If a length, a code or the number of arguments is wrong.
    """
    arity = [1 if name == "pow" else op.arity for name, op in OPS.items()]
    for code, length in zip(forest.code.tolist(), forest.length.tolist(), strict=True):
        if not 1 <= length <= len(code):
            raise ValueError(f"a tree of length {length}")
        missing = 1
        for c in code[:length]:
            if not (c == CONST or 0 <= c < len(arity) or LEAF <= c < LEAF + n_leaves) or missing == 0:
                raise ValueError(f"code {c} where no tree has it")
            missing += (arity[c] if 0 <= c < LEAF else 0) - 1
        if missing:
            raise ValueError("a tree that lacks arguments")
