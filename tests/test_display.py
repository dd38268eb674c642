"""What a running search shows: a table on a terminal, lines in a log, nothing where it is to be quiet."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from rich.console import Console

from proxygraph import display
from proxygraph.archive import HallOfFame, Individual
from proxygraph.display import watching
from proxygraph.infix import parse

ESCAPE = "\x1b"


def state(generation: int) -> Any:
    hall = HallOfFame((Individual(parse("params"), 0.5), Individual(parse("log(params) * zen"), 0.75)))
    counters = dict.fromkeys(("evaluated", "structural", "algebraic", "numeric", "rank", "invalid"), 7)
    return SimpleNamespace(generation=generation, counters=counters, best=0.75, hall=hall)


def shown(clock: list[float], monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False) -> str:
    """Watch one generation for each time of the clock; return all that was written."""
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with watching(console, "r2", lambda one: [0.4, float("nan")], quiet) as watch:
        for k, now[0] in enumerate(clock):
            watch(state(k + 1), now[0])
    return out.getvalue()


def test_a_log_gets_a_plain_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    written = shown([0.0, 4.0, 9.0, 12.0, 15.0, 30.0], monkeypatch, terminal=False)
    lines = written.splitlines()
    assert [line.split("generation")[1].split()[0] for line in lines] == ["1", "4", "6"]
    assert all("r2 train 0.750" in line and "validation 0.400" in line for line in lines)
    assert ESCAPE not in written


def test_a_terminal_shows_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "Live", _Still)
    _Still.drawn.clear()
    shown([0.0, 1.0], monkeypatch, terminal=True)
    out = io.StringIO()
    Console(file=out, width=100).print(_Still.drawn[-1])
    assert "generation 2" in out.getvalue()
    assert "log(params) * zen" in out.getvalue()


def test_quiet_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        assert not shown([0.0, 20.0], monkeypatch, terminal=terminal, quiet=True)


class _Still:
    """Stands for rich's live display: keeps what it is given."""

    drawn: ClassVar[list[Any]] = []

    def __init__(self, **options: Any) -> None: ...

    def __enter__(self) -> _Still:
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, what: Any) -> None:
        self.drawn.append(what)
