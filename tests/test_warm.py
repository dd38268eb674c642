"""Compiling ahead: what people are told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba.core.event import Listener, install_listener

from proxygraph import jit as jitting
from proxygraph import warm
from proxygraph.jit import jit
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.population import Population
from proxygraph.objective import find_objective
from proxygraph.search import Search, SearchConfig
from proxygraph.table import StatTable
from tests.strategies import random_table

ROOT = Path(__file__).resolve().parent.parent


@jit()
def _more(x):
    return x + 1


class _Counter(Listener):
    """Counts the functions that are compiled."""

    def __init__(self) -> None:
        self.compiled = 0

    def on_start(self, event: Any) -> None:
        self.compiled += 1

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def counted() -> Iterator[_Counter]:
    with install_listener("numba:compile", _Counter()) as counter:
        yield counter


def search_of(table: StatTable, objective: str) -> Search:
    target = np.arange(float(table.n_rows))
    return Search(
        SearchConfig(population=10),
        ("add", "mul"),
        find_objective(objective),
        Population(table, memory=0),
        target,
        fitter=None if table.offsets else Fitter(table, target),
    )


def plain() -> Search:
    return search_of(StatTable.from_columns(None, {"x": np.arange(5.0), "y": np.ones(5)}), "r2")


def test_compiling_is_announced_once_and_loading_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(
        jitting, "code_folder", lambda: tmp_path
    )  # that of the tests has it from the last run
    said: list[str] = []
    for values, times in (((1, 1.0), 1), ((2, 2.0), 0)):
        said.clear()
        with install_listener("numba:compile", warm._Announcer(said.append, "compiling")):
            for value in values:
                fresh = jit()(_more.py_func)
                fresh(value)
        assert said == ["compiling"] * times


def plain_is_ready() -> None:
    """What was compiled beside is what a search fits constants with."""
    search = plain()
    warm._beside("r2", True, False)
    with counted() as counter:
        warm._fit(search)
    assert counter.compiled == 0


def networks_are_ready() -> None:
    """What was compiled beside is what a search of networks makes and ranks formulas with."""
    search = search_of(random_table(np.random.default_rng(0)), "spearman")
    assert search.evaluate.table.offsets
    warm._beside("spearman", False, True)
    with counted() as counter:
        warm._make(search)
        warm._rank(search)
    assert counter.compiled == 0


@pytest.mark.parametrize("check", [plain_is_ready, networks_are_ready])
def test_what_is_compiled_beside_runs(check: Callable[[], None]):
    check()


@pytest.mark.slow
@pytest.mark.parametrize("check", [plain_is_ready, networks_are_ready])
def test_what_is_compiled_beside_is_what_the_search_needs(check: Callable[[], None], tmp_path: Path):
    """Without what other tests have compiled."""
    program = f"from tests.test_warm import {check.__name__}; {check.__name__}()"
    environment = {**os.environ, "PROXYGRAPH_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_a_second_process_that_fails_is_reported_and_its_part_compiled_here(
    code: int, monkeypatch: pytest.MonkeyPatch
):
    began: list[tuple[Any, ...]] = []

    class Process:
        exitcode = None

        def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
            assert target is warm._beside
            began.append(args)

        def start(self) -> None:
            pass

        def join(self) -> None:
            self.exitcode = code

    done: list[Search] = []
    monkeypatch.setattr(warm, "is_cold", lambda: True)
    monkeypatch.setattr(warm, "is_writable", lambda: True)
    monkeypatch.setattr(warm, "forget_old_code", lambda: None)
    monkeypatch.setattr(warm, "get_context", lambda method: SimpleNamespace(Process=Process))
    monkeypatch.setattr(warm, "_everything", done.append)
    said: list[str] = []
    search = plain()
    warm.warm(search, said.append)
    assert began == [("r2", True, False)]
    assert done == [search]
    assert [f"ended with code {code}" in line for line in said] == [False, True][: 1 + code]


def test_where_nothing_can_be_kept_one_process_compiles_and_says_so(monkeypatch: pytest.MonkeyPatch):
    def everything(search: Search) -> None:
        jit()(_more.py_func)(1j)

    monkeypatch.setattr(warm, "is_cold", lambda: True)
    monkeypatch.setattr(warm, "is_writable", lambda: False)
    monkeypatch.setattr(warm, "code_folder", lambda: Path("/nowhere"))
    monkeypatch.setattr(warm, "_everything", everything)
    monkeypatch.setattr(warm, "get_context", lambda method: pytest.fail("a second process"))
    monkeypatch.setattr("proxygraph.jit.is_writable", lambda: False)
    said: list[str] = []
    warm.warm(plain(), said.append)
    (line,) = said
    assert "/nowhere cannot be written" in line
