"""When a search ends, and who is told what on the way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from proxygraph.checkpoint import islands_from_json
from proxygraph.errors import ConfigError
from proxygraph.islands import IslandsState
from proxygraph.loop import Stop, run
from proxygraph.run import RunFolder
from proxygraph.watch import checkpoints, journal, tensorboard
from tests.test_islands import islands, text


def test_limits():
    made = run(islands(), Stop(generations=5))
    assert (made.state.generation, made.reason) == (5, "5 generations made")
    made = run(islands(), Stop(evaluations=300))
    assert made.state.counters["evaluated"] >= 300
    assert made.state.generation > 1
    assert run(islands(), Stop(evaluations=300)).state.generation == made.state.generation
    made = run(islands(), Stop(generations=10_000, fitness=0.5))
    assert made.state.best >= 0.5
    assert made.reason.startswith("fitness 0.")
    made = run(islands(), Stop(seconds=0.0))  # at least one generation is made
    assert (made.state.generation, made.reason) == (1, "0 s spent")


def test_stagnation():
    seen: list[IslandsState] = []
    made = run(islands(), Stop(stagnation=4, generations=400), [lambda state, _: seen.append(state)])
    assert made.reason == "nothing better for 4 generations"
    best = [state.best for state in seen]
    assert best[-1] == best[-5]
    for before, after in zip(best[:-5], best[4:-1], strict=True):
        assert before < after


def test_after_a_fitness_that_is_enough_a_search_waits_for_better_ones():
    seen: list[IslandsState] = []
    stop = Stop(fitness=0.5, settled=3, generations=400)
    made = run(islands(), stop, [lambda state, _: seen.append(state)])
    assert made.reason.startswith("fitness 0.")
    best = [state.best for state in seen]
    assert best[-1] >= 0.5
    assert best[-4] == best[-1]
    assert all(not (b >= 0.5 and a == b) for a, b in zip(best[:-4], best[3:-1], strict=True))


@pytest.mark.parametrize(
    "limits", [{"generations": 0}, {"seconds": -1.0}, {"evaluations": 0}, {"fitness": math.inf}]
)
def test_limits_that_cannot_be(limits: dict):
    with pytest.raises(ConfigError, match=r"stop after|nothing would end"):
        Stop(**limits)


def test_a_state_that_has_met_its_limit_is_left_alone():
    before = run(islands(), Stop(generations=3))
    again = run(islands(), Stop(generations=3), state=before.state, spent=7.0)
    assert again.state is before.state
    assert again.seconds >= 7.0


def test_every_callback_sees_every_generation_and_one_may_stop():
    seen: list[int] = []
    made = run(
        islands(),
        Stop(generations=50),
        [lambda state, _: state.generation == 4, lambda state, _: seen.append(state.generation)],
    )
    assert seen == [1, 2, 3, 4]
    assert made.reason == "stopped"


def test_journal_and_checkpoints(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {}, resume=False)
    made = run(islands(), Stop(generations=4), [journal(folder), checkpoints(folder, 0.0)])
    lines = [json.loads(line) for line in (folder.path / "journal.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["evaluated"] == made.state.counters["evaluated"]
    assert lines[-1]["best"] == made.state.best
    search = islands()
    stored = islands_from_json(folder.read("checkpoint.json"), search.searches[0].leaves, 3)
    straight = run(islands(), Stop(generations=stored.generation)).state
    assert text(stored) == text(straight)


def test_checkpoints_keep_their_distance(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {}, resume=False)
    run(islands(), Stop(generations=4), [checkpoints(folder, 3600.0)])
    assert not (folder.path / "checkpoint.json").exists()


def test_curves_for_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    with tensorboard(tmp_path, "r2") as write:
        run(islands(), Stop(generations=2), [write])
    assert [path.name.startswith("events") for path in tmp_path.iterdir()] == [True]


def test_tensorboard_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'proxygraph\[tensorboard\]'"),
        tensorboard(tmp_path, "r2"),
    ):
        pass
