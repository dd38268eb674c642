"""Compiling what a search needs before it starts: once per machine and version, in two processes."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context

import numpy as np

from proxygraph.compact.forest import CONST, Forest
from proxygraph.jit import forget_old_code, is_cold
from proxygraph.kernels.population import Population
from proxygraph.objective import find_objective
from proxygraph.search import Living, Search, SearchConfig
from proxygraph.table import StatTable


def warm(search: Search, tell: Callable[[str], None]) -> None:
    """Compile the kernels of a search, or load them where they have been compiled before.

    numba compiles one function at a time in a process; so another one compiles what makes formulas while this
    one compiles what runs them. What ranks them goes to the one that has less to do: tables of rows need a
    third of the code that networks need. What the other one has compiled is then loaded from the disk.

    Parameters
    ----------
    search : Search
    tell : callable
        Gets a line for people if it will take a while.
    """
    if is_cold():
        tell("Compiling kernels for this machine, once for this version: about half a minute.")
        forget_old_code()
        only_rows = not search.evaluate.table.offsets
        beside = get_context("spawn").Process(
            target=_beside, args=(search.objective.basis, not only_rows), daemon=True
        )
        beside.start()
        _run(search)
        if only_rows:
            _rank(search)
        _fit(search)
        beside.join()
    else:
        _run(search)
        _fit(search)
    _make(search)
    _rank(search)


def _run(search: Search) -> None:
    """Plan and run one constant: it takes all of the code."""
    trees = Forest.empty(1, search.capacity)
    trees.code[0, 0], trees.length[0] = CONST, 1
    search.evaluate.run(trees)
    if search.screen is not None:
        search.screen.run(trees)


def _fit(search: Search) -> None:
    """Fit one constant where the search fits any."""
    if search.fitter is not None:
        trees = Forest.empty(1, search.capacity)
        trees.code[0, 0], trees.length[0] = CONST, 1
        search.fitter.fitted(trees)


def _make(search: Search) -> None:
    """Make a generation and bring it into one spelling."""
    search.tidied(search.children(Living.none(search.capacity), 0)[0])


def _rank(search: Search) -> None:
    """Judge one formula."""
    search.objective.judged(np.zeros((1, len(search.target)), search.evaluate.dtype), search.target)


def _beside(objective: str, ranks: bool) -> None:
    """Make formulas of a small table, and judge them if asked to, in a process of its own."""
    columns = {"x": np.arange(3.0), "y": np.ones(3)}
    evaluate = Population(StatTable.from_columns(None, columns), memory=0)
    small = Search(
        SearchConfig(population=10), ("add", "neg"), find_objective(objective), evaluate, columns["x"]
    )
    _make(small)
    if ranks:
        _rank(small)
