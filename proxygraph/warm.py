"""Compiling what a search needs before it starts: once per machine and version, in two processes."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import numpy as np
from numba.core.event import Listener, install_listener

from proxygraph.compact.forest import CONST, Forest
from proxygraph.jit import code_folder, forget_old_code, in_one_go, is_cold, is_writable
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.objective import find_objective
from proxygraph.search import Search, SearchConfig
from proxygraph.search_state import Living
from proxygraph.table import StatTable


class _Announcer(Listener):
    """Says a line to people when the first function is compiled."""

    def __init__(self, tell: Callable[[str], None], line: str) -> None:
        self.tell: Callable[[str], None] | None = tell
        self.line = line

    def on_start(self, event: Any) -> None:
        tell, self.tell = self.tell, None
        if tell is not None:
            tell(self.line)

    def on_end(self, event: Any) -> None:
        pass


def warm(search: Search, tell: Callable[[str], None]) -> None:
    """Compile the kernels of a search, or load them where they have been compiled before.

    numba compiles one function at a time in a process; so another one compiles meanwhile what takes about
    half of the time: fitting constants where the search does, else making formulas (and ranking them where
    this process has the kernels of networks to compile). What it has compiled is then loaded from the disk.

    Parameters
    ----------
    search : Search
    tell : callable
        Gets a line for people if it will take a while.
    """
    with in_one_go():
        if not is_writable() or not is_cold():
            line = "Compiling kernels that this kind of search needs, once for this version."
            if not is_writable():  # nor could another process hand over what it compiles
                line = (
                    f"Compiling kernels, in every run anew: {code_folder()} cannot be written. "
                    "PROXYGRAPH_CACHE may name another folder."
                )
            with install_listener("numba:compile", _Announcer(tell, line)):
                _everything(search)
            return
        tell("Compiling kernels for this machine, once for this version: about a quarter of a minute.")
        forget_old_code()
        networks = bool(search.evaluate.table.offsets)
        beside = get_context("spawn").Process(
            target=_beside, args=(search.objective.basis, search.fitter is not None, networks), daemon=True
        )
        beside.start()
        _run(search)
        if search.fitter is not None:
            _make(search)
        if not networks:
            _rank(search)
        beside.join()
        if beside.exitcode:
            tell(f"The second process ended with code {beside.exitcode}; this one compiles its part too.")
        _everything(search)


def _everything(search: Search) -> None:
    """Use all that a search needs: what is not there yet is loaded or compiled."""
    _run(search)
    _make(search)
    _rank(search)
    _fit(search)


def _one(capacity: int) -> Forest:
    """Return one tree, a constant."""
    trees = Forest.empty(1, capacity)
    trees.code[0, 0], trees.length[0] = CONST, 1
    return trees


def _run(search: Search) -> None:
    """Plan and run one constant: it takes all of the code."""
    search.evaluate.run(_one(search.capacity))
    if search.screen is not None:
        search.screen.run(_one(search.capacity))


def _fit(search: Search) -> None:
    """Fit one constant where the search fits any."""
    if search.fitter is not None:
        search.fitter.fitted(_one(search.capacity))


def _make(search: Search) -> None:
    """Make a generation and bring it into one spelling."""
    search.tidied(search.children(Living.none(search.capacity), 0)[0])


def _rank(search: Search) -> None:
    """Judge one formula."""
    search.objective.judged(np.zeros((1, len(search.target)), search.evaluate.dtype), search.target)


def _beside(objective: str, fits: bool, networks: bool) -> None:
    """Compile with a small table, in a process of its own: what fits constants, or what makes formulas."""
    columns = {"x": np.arange(3.0), "y": np.ones(3)}
    table = StatTable.from_columns(None, columns)
    with in_one_go():
        if fits:
            Fitter(table, columns["x"]).fitted(_one(1))
            return
        small = Search(
            SearchConfig(population=10),
            ("add", "neg"),
            find_objective(objective),
            Population(table, memory=0),
            columns["x"],
        )
        _make(small)
        if networks:
            _rank(small)
