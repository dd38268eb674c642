"""Other programs that evaluate many trees: each takes trees, then columns, and returns what evaluates all of
them once. ``pip install -e '.[bench]'``.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.common import Row, row
from benchmarks.trees import BINARY, N_COLUMNS, TREES, UNARY, Columns, Tree, columns_of, count, prefix

import numpy as np  # isort: skip

Values = Iterable[Any]
Run = Callable[[], Values]
Compiled = Callable[[Columns], Run]

NUMPY: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in UNARY},
    **dict(zip(BINARY, (np.add, np.subtract, np.multiply, np.divide), strict=True)),
}


def with_numpy(trees: Sequence[Tree]) -> Compiled:
    """Return plain recursion; constants take the type of the columns."""

    def values(tree: Tree, columns: Columns) -> Any:
        name = tree[0]
        if name == "x":
            return columns[tree[1]]
        if name == "c":
            return tree[1]
        return NUMPY[name](*(values(one, columns) for one in tree[1:]))

    return lambda columns: lambda: (values(tree, columns) for tree in trees)


def with_torch(trees: Sequence[Tree]) -> Compiled:
    """Return eager torch on one thread."""
    import torch

    torch.set_num_threads(1)
    names = {"sub": "subtract", "mul": "multiply", "div": "divide"}
    functions = {name: getattr(torch, names.get(name, name)) for name in (*UNARY, *BINARY)}

    def values(tree: Tree, columns: Any) -> Any:
        name = tree[0]
        if name == "x":
            return columns[tree[1]]
        if name == "c":
            return tree[1]
        args = [values(one, columns) for one in tree[1:]]
        if name == "div" and isinstance(args[0], float):
            return args[0] / args[1]
        if isinstance(args[0], float):  # torch functions take a number on the right only
            return args[0] - args[1] if name == "sub" else functions[name](args[1], args[0])
        return functions[name](*args)

    def run(columns: Columns) -> Run:
        tensors = [torch.from_numpy(column) for column in columns]
        return lambda: (values(tree, tensors).numpy() for tree in trees)

    return run


def with_operon(trees: Sequence[Tree]) -> Compiled:
    """Return Operon's own evaluation of many trees (float32); a variable has a weight there, here 1."""
    import pyoperon

    names = dict(zip(BINARY, ("Add", "Sub", "Mul", "Div"), strict=True))
    kinds = {name: getattr(pyoperon.NodeType, names.get(name, name.title())) for name in (*UNARY, *BINARY)}

    def run(columns: Columns) -> Run:
        data = np.asfortranarray(np.stack(columns, axis=1).astype(np.float32))
        dataset = pyoperon.Dataset(data)  # does not own the data
        variables = sorted(dataset.Variables, key=lambda variable: variable.Index)

        def node(one: Tree) -> Any:
            if one[0] == "c":
                return pyoperon.Node.Constant(one[1])
            if one[0] != "x":
                return pyoperon.Node(kinds[one[0]])
            leaf = pyoperon.Node(pyoperon.NodeType.Variable, variables[one[1]].Hash)
            leaf.Value = 1.0
            return leaf

        # its order is prefix order backwards
        built = [pyoperon.Tree([node(one) for one in prefix(tree)][::-1]).UpdateNodes() for tree in trees]
        rows, out = pyoperon.Range(0, len(data)), np.empty((len(trees), len(data)), np.float32)

        def evaluated(_keep: Any = data) -> Any:
            pyoperon.EvaluateTrees(built, dataset, rows, out, 1)
            return out

        return evaluated

    return run


def with_deap(trees: Sequence[Tree]) -> Compiled:
    """Return DEAP's compiled Python functions over numpy."""
    from deap import gp

    primitives = gp.PrimitiveSet("main", N_COLUMNS, "x")
    for name, function in NUMPY.items():
        primitives.addPrimitive(function, 1 if name in UNARY else 2, name)

    def text(tree: Tree) -> str:
        if tree[0] in ("x", "c"):
            return f"x{tree[1]}" if tree[0] == "x" else repr(tree[1])
        return f"{tree[0]}({', '.join(text(one) for one in tree[1:])})"

    functions = [
        gp.compile(gp.PrimitiveTree.from_string(text(tree), primitives), primitives) for tree in trees
    ]
    return lambda columns: lambda: (function(*columns) for function in functions)


def with_gplearn(trees: Sequence[Tree]) -> Compiled:
    """Return gplearn's programs with unprotected functions; its constants make everything float64."""
    from gplearn._program import _Program
    from gplearn.functions import _Function

    functions = {name: _Function(f, name, 1 if name in UNARY else 2) for name, f in NUMPY.items()}

    def program(tree: Tree) -> Any:
        nodes = [functions[one[0]] if len(one) == 1 else one[1] for one in prefix(tree)]
        return _Program(
            list(functions.values()), {}, (2, 6), "grow", N_COLUMNS, None, None, 0.0, 0.0, None, program=nodes
        )

    programs = [program(tree) for tree in trees]

    def run(columns: Columns) -> Run:
        data = np.stack(columns).T  # whole columns, faster for it than the rows that it gets from its users
        return lambda: (one.execute(data) for one in programs)

    return run


def with_numexpr(trees: Sequence[Tree]) -> Compiled:
    """Return numexpr's compiled expressions on one thread."""
    import numexpr
    from numexpr import expressions

    numexpr.set_num_threads(1)

    def compiled(kind: str) -> list[tuple[Any, list[int]]]:
        def expression(tree: Tree) -> Any:
            if tree[0] == "x":
                return expressions.VariableNode(f"x{tree[1]}", kind)
            if tree[0] == "c":
                return expressions.ConstantNode(np.float32(tree[1]) if kind == "float" else tree[1])
            args = [expression(one) for one in tree[1:]]
            if tree[0] == "square":
                return args[0] * args[0]
            if len(args) == 1:
                return expressions.functions[tree[0]](*args)
            return {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}[
                tree[0]
            ](*args)

        found = []
        for tree in trees:
            used = sorted({node[1] for node in prefix(tree) if node[0] == "x"})
            signature = [
                (f"x{j}", float if kind == "float" else np.double) for j in used
            ]  # its "float" is C's
            found.append((numexpr.NumExpr(expression(tree), signature), used))
        return found

    def run(columns: Columns) -> Run:
        functions = compiled("float" if columns[0].dtype == np.float32 else "double")
        return lambda: (function(*(columns[j] for j in used)) for function, used in functions)

    return run


def with_sympy(trees: Sequence[Tree]) -> Compiled:
    """Return functions of sympy.lambdify; sympy is kept from rewriting the formulas."""
    import sympy

    symbols = [sympy.Symbol(f"x{j}", real=True) for j in range(N_COLUMNS)]

    def expression(tree: Tree) -> Any:
        name = tree[0]
        if name == "x":
            return symbols[tree[1]]
        if name == "c":
            return sympy.Float(tree[1], 17)
        args = [expression(one) for one in tree[1:]]
        if name == "square":
            return sympy.Pow(args[0], 2, evaluate=False)
        if name == "sqrt":
            return sympy.Pow(args[0], sympy.Rational(1, 2), evaluate=False)
        if name == "div":
            return sympy.Mul(args[0], sympy.Pow(args[1], -1, evaluate=False), evaluate=False)
        if name == "sub":
            return sympy.Add(args[0], sympy.Mul(-1, args[1], evaluate=False), evaluate=False)
        kind = {"add": sympy.Add, "mul": sympy.Mul, "abs": sympy.Abs}.get(name) or getattr(sympy, name)
        return kind(*args, evaluate=False)

    functions = [sympy.lambdify(symbols, expression(tree), "numpy") for tree in trees]
    return lambda columns: lambda: (function(*columns) for function in functions)


PEERS: Mapping[str, tuple[Callable[[Sequence[Tree]], Compiled], tuple[str, ...]]] = {
    "pyoperon": (with_operon, ("float32",)),
    "numpy recursion": (with_numpy, ("float32", "float64")),
    "DEAP": (with_deap, ("float32",)),
    "gplearn": (with_gplearn, ("float64",)),
    "numexpr": (with_numexpr, ("float32",)),
    "sympy.lambdify": (with_sympy, ("float32",)),
    "torch eager": (with_torch, ("float32",)),
}


class Peers:
    """The peers that are installed, each compiled once for the same trees."""

    def __init__(self, names: Iterable[str] = tuple(PEERS)) -> None:
        self.names = list(names)
        self._compiled: dict[tuple[str, int, int], Compiled] = {}
        self.rows: list[Row] = []

    def runs(self, trees: Sequence[Tree], n_rows: int, dtype: str) -> dict[str, Run]:
        """Return what evaluates `trees` once, of each peer that has this type."""
        columns, found = columns_of(n_rows, dtype), {}
        for name in [name for name in self.names if dtype in PEERS[name][1]]:
            key = (name, len(trees), count(trees))
            start = time.process_time()
            try:
                if key not in self._compiled:
                    PEERS[name][0](trees[:1])  # imports
                    start = time.process_time()
                    self._compiled[key] = PEERS[name][0](trees)
                found[name] = self._compiled[key](columns)
            except ImportError as error:
                print(f"left out: {name} ({error})", flush=True)
                self.names.remove(name)
                continue
            seconds = time.process_time() - start
            if len(trees) == TREES and not any(one["engine"] == f"{name}: prepare" for one in self.rows):
                about: Row = {"n_rows": n_rows, "dtype": dtype, "unit": "us/tree", "scale": 1e6 / TREES}
                self.rows.append(row(f"{name}: prepare", [seconds], **about))
        return found
