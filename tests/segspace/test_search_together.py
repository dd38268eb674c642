"""What the processes of one search do when the first is killed, Ctrl-C is pressed, or one does not end."""

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segspace.search import together
from segspace.search.study import candidates, open_study
from segspace.search.together import Prepared
from tests.segspace.test_search_study import Digits, database, rules, score


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """Of a toy space: nothing is measured, nothing built."""
    prepared = Prepared(Digits(), score, {})  # type: ignore[arg-type]
    return SimpleNamespace(
        scoring=lambda: None,
        prepared=lambda _: prepared,
        url=database(tmp_path),
        study="s",
        rules=rules("random"),
    )


@pytest.mark.parametrize("alive", [True, False])
def test_a_process_ends_with_the_first(job: Any, monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    monkeypatch.setattr(together, "parent_process", lambda: SimpleNamespace(is_alive=lambda: alive))
    together._take_part(job, 3, 1, threading.Event())  # type: ignore[arg-type]
    assert len(candidates(open_study(job.url, job.study, {}))) == (3 if alive else 0)


def test_ctrl_c_is_the_first_process_s_business(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others ignore it from the start, which they inherit; one that never ends is told."""
    inherited: list[Any] = []

    class Stuck:
        exitcode = None

        def start(self) -> None:
            inherited.append(signal.getsignal(signal.SIGINT))

        def join(self, seconds: float) -> None:
            assert seconds == together.PATIENCE

    context = SimpleNamespace(Event=threading.Event, Process=lambda **_: Stuck())
    monkeypatch.setattr(together, "get_context", lambda _: context)
    before, warned = signal.getsignal(signal.SIGINT), list[str]()
    options: dict[str, Any] = {"stop": lambda: False, "told": lambda _: None, "warn": warned.append}
    assert together.search(job, job.prepared(job.scoring()), 3, 3, **options) == "enough"
    assert inherited == [signal.SIG_IGN] * 2
    assert signal.getsignal(signal.SIGINT) is before
    assert warned[0].startswith("process 1 did not finish in 120 s")
