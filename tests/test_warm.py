"""Compiling ahead: what people are told."""

from __future__ import annotations

from numba.core.event import install_listener

from proxygraph import warm
from proxygraph.jit import jit


@jit()
def _more(x):
    return x + 1


def test_compiling_is_announced_once_and_loading_not_at_all():
    said: list[str] = []
    for values, times in (((1, 1.0), 1), ((2, 2.0), 0)):
        said.clear()
        with install_listener("numba:compile", warm._Announcer(said.append)):
            for value in values:
                fresh = jit()(_more.py_func)
                fresh(value)
        assert len(said) == times, said
