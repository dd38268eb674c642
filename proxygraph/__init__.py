"""proxygraph: discover training-free proxies as typed computation graphs.

The names below are loaded on first use, so that ``import proxygraph`` is quick and loads none of torch, numba
and sympy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxygraph.canon import canonical
    from proxygraph.dag import Dag, Node
    from proxygraph.estimators import ProxyRanker, SymbolicRegressor
    from proxygraph.infix import parse, text
    from proxygraph.kernels import compile_kernel
    from proxygraph.leaves import STATISTICS, Leaf, register_leaf, unregister_leaf
    from proxygraph.ops import OPS, Op, register, unregister
    from proxygraph.problem import Problem
    from proxygraph.program import lower
    from proxygraph.rank import rank_report
    from proxygraph.scores import Scores
    from proxygraph.stats import collect, collect_many
    from proxygraph.table import StatTable
    from proxygraph.zoo import ZOO

_HOME = {
    "canonical": "canon",
    "Dag": "dag",
    "Node": "dag",
    "ProxyRanker": "estimators",
    "SymbolicRegressor": "estimators",
    "parse": "infix",
    "text": "infix",
    "compile_kernel": "kernels",
    "STATISTICS": "leaves",
    "Leaf": "leaves",
    "register_leaf": "leaves",
    "unregister_leaf": "leaves",
    "OPS": "ops",
    "Op": "ops",
    "register": "ops",
    "unregister": "ops",
    "Problem": "problem",
    "lower": "program",
    "rank_report": "rank",
    "Scores": "scores",
    "collect": "stats",
    "collect_many": "stats",
    "StatTable": "table",
    "ZOO": "zoo",
}

__all__ = [
    "OPS",
    "STATISTICS",
    "ZOO",
    "Dag",
    "Leaf",
    "Node",
    "Op",
    "Problem",
    "ProxyRanker",
    "Scores",
    "StatTable",
    "SymbolicRegressor",
    "canonical",
    "collect",
    "collect_many",
    "compile_kernel",
    "lower",
    "parse",
    "rank_report",
    "register",
    "register_leaf",
    "text",
    "unregister",
    "unregister_leaf",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'proxygraph' has no attribute {name!r}")
    return getattr(import_module(f"proxygraph.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
