"""The ground-truth table: plan, rows, resuming, refusals, noise; and the problem that reads it."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from proxygraph.errors import ConfigError, ParseError, UnknownName
from segspace import groundtruth as command
from segspace import problems
from segspace.datasets import open_dataset
from segspace.measured import Row, append_row, noise, read_rows, write_rows
from segspace.plan import planned
from segspace.recipe import Recipe
from segspace.rtseg.arch import Arch
from segspace.rtseg.program import program
from segspace.transnas101 import Arch as Micro

DATA = "streetscenes:16x24?train=8&val=2"
CLASSES = ("sky", "road")


def row(arch: str, seed: int, miou: float = 20.0) -> Row:
    return Row(arch, seed, miou, 50.0, 1.0, 10, 20, (1.0, float("nan")))


def settings(networks: int = 2, second_seeds: int = 1) -> dict[str, Any]:
    recipe = Recipe(size=(16, 24), epochs=1, batch=4)
    return {
        "data": DATA,
        "space": "rtseg:tiny",
        "networks": networks,
        "second_seeds": second_seeds,
        "seed": 1,
        "recipe": recipe.to_json(),
    }


class Here(ThreadPoolExecutor):
    """A pool in threads of this process, in the place of one of processes."""

    def __init__(self, workers: int, context: object, initializer: object, initargs: tuple[Any]) -> None:
        bench = initargs[0]
        data = open_dataset(bench.data)
        command._shared = (bench, data, *bench.pictures(data))
        super().__init__(workers)


def few(space: str, n: int, n_second: int, **_: object) -> list[tuple[str, int]]:
    """A plan that takes no time to make."""
    archs = [f"{space}:c{k % 5}-C0{'c1' * (k // 5)}-0" for k in range(n)]
    return [(arch, seed) for k, arch in enumerate(archs) for seed in range(1 + (k < n_second))]


@pytest.fixture(autouse=True)
def _in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(command, "planned", few)
    monkeypatch.setattr(command, "_shared", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def measured(out: Path, wanted: dict[str, Any], processes: int = 1) -> bool:
    return command.measure(DATA, wanted, out, processes, lambda *_: None, lambda _: None)


def test_segmenters_are_spread_over_cost() -> None:
    plan = planned("rtseg:tiny", 40, 10, size=(60, 80), classes=11, seed=3)
    archs = [Arch.parse(text) for text, seed in plan if seed == 0]
    assert (len(set(archs)), len(plan)) == (40, 50)
    cost = np.log([program(arch, (60, 80), 11).macs for arch in archs])
    middle = (cost.min() + cost.max()) / 2
    assert 12 <= (cost < middle).sum() <= 28
    assert len({arch.n_layers for arch in archs}) > 6


def test_plans_are_repeatable() -> None:
    first, again, other = (
        planned("streetscenes", 20, 5, size=(32, 32), classes=11, seed=seed) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_micro_networks_are_connected_and_distinct() -> None:
    plan = planned("streetscenes", 200, 0, size=(32, 32), classes=11, seed=0)
    archs = [Micro.parse(text.removeprefix("streetscenes:")) for text, _ in plan]
    assert all(arch.connected for arch in archs)
    assert len({arch.live() for arch in archs}) == 200
    with pytest.raises(ConfigError, match="expected 1 to 2127"):
        planned("streetscenes", 5000, 0, size=(32, 32), classes=11, seed=0)


def test_second_seeds_are_spread() -> None:
    plan = planned("streetscenes", 136, 24, size=(32, 32), classes=11, seed=0)
    assert len(plan) == len(set(plan)) == 160
    twice = [k for k, (_, seed) in enumerate(plan) if seed == 1]
    assert len(twice) == 24
    assert all((plan[k][0], 0) in plan[:k] for k in twice)
    assert max(np.diff(twice)) <= 7
    for n, again in ((5, 6), (0, 0), (3, -1)):
        with pytest.raises(ConfigError, match="expected n >= 1"):
            planned("streetscenes", n, again, size=(32, 32), classes=11, seed=0)
    with pytest.raises(UnknownName, match="known: rtseg:PRESET"):
        planned("rtseg", 5, 0, size=(32, 32), classes=11, seed=0)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), max_size=8))
def test_rows_round_trip(tmp_path_factory: pytest.TempPathFactory, values: list[tuple[int, float]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    rows = [row(f"rtseg:tiny:c{k}-C0-0", 0, round(miou, 4)) for k, miou in values]
    write_rows(path, rows[:3], CLASSES)
    for one in rows[3:]:
        append_row(path, one)
    assert repr(read_rows(path, CLASSES)) == repr(rows)  # NaN is not equal to itself
    with path.open("a") as file:
        file.write("rtseg:tiny:c3-C0-0,0,22.5,60.")  # the machine went down while it wrote
    assert repr(read_rows(path, CLASSES)) == repr(rows)
    with pytest.raises(ParseError, match="the header is not"):
        read_rows(path, ("sky", "tree"))


def test_noise_is_that_of_pairs() -> None:
    rows = [row(str(k), 0, 10.0 * k) for k in range(5)]
    assert noise(rows)["arch_sd"] == round(float(np.std([0, 10, 20, 30, 40], ddof=1)), 4)
    assert "seed_sd" not in noise(rows)
    found = noise([*rows, row("1", 1, 12.0), row("2", 1, 16.0), row("4", 1, 40.0), row("9", 1, 7.0)])
    assert found["second_seeds"] == 3
    assert found["seed_sd"] == round(float(np.sqrt((2**2 + 4**2) / 6)), 4)
    assert found["seed_spearman"] == 1.0


def test_table_is_resumed_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, wanted = tmp_path / "sub" / "t.csv", settings()
    real, trained = command.trained_row, list[tuple[str, int]]()

    def counted(arch: str, seed: int, *rest: Any) -> Row:
        if len(trained) == 2:
            raise RuntimeError("out of memory")
        trained.append((arch, seed))
        return real(arch, seed, *rest)

    monkeypatch.setattr(command, "trained_row", counted)
    with pytest.raises(RuntimeError, match="out of memory"):
        measured(out, wanted)
    before = out.read_text()
    assert before.count("\n") == 3
    with out.open("a") as file:
        file.write("rtseg:tiny:0-C0")
    monkeypatch.setattr(command, "trained_row", real)
    assert measured(out, wanted)
    assert out.read_text().startswith(before)
    classes = open_dataset(DATA).classes
    plan = few("rtseg:tiny", 2, 1)
    rows = read_rows(out, classes)
    assert [(r.arch, r.seed) for r in rows] == plan
    assert rows[0].macs == program(Arch.parse(rows[0].arch), (16, 24), 11).macs
    monkeypatch.setattr(command, "trained_row", None)  # nothing is left to train
    assert measured(out, wanted)
    beside = json.loads(out.with_suffix(".json").read_text())
    assert beside["settings"] == wanted
    assert beside["noise"]["networks"] == 2
    assert beside["classes"] == list(classes)
    assert str(tmp_path) not in out.with_suffix(".json").read_text()


def test_the_same_row_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        measured(tmp_path / f"{name}.csv", settings(1, 0))
    first, again = (read_rows(tmp_path / f"{n}.csv", open_dataset(DATA).classes)[0] for n in "ab")
    assert (first.miou, first.accuracy) == (again.miou, again.accuracy)


def test_every_machine_that_made_rows_is_named(tmp_path: Path) -> None:
    out, data = tmp_path / "t.csv", open_dataset(DATA)
    beside = out.with_suffix(".json")
    command.write_provenance(out, settings(), data, [])
    command.write_provenance(out, settings(), data, [])
    (here,) = json.loads(beside.read_text())["environments"]
    there = here | {"cpu": "another"}
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"environments": [there]}))
    command.write_provenance(out, settings(), data, [])
    assert json.loads(beside.read_text())["environments"] == [there, here]
    older = json.loads(beside.read_text())
    del older["environments"]
    beside.write_text(json.dumps(older | {"environment": there}))  # as older versions wrote it
    command.write_provenance(out, settings(), data, [])
    assert json.loads(beside.read_text())["environments"] == [there, here]


def test_another_table_or_process_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    with command.owned(out, settings()):
        command.write_provenance(out, settings(), open_dataset(DATA), [])
        with pytest.raises(ConfigError, match="another process writes it"):
            command.owned(out, settings()).__enter__()
    with pytest.raises(ConfigError, match="made with another networks"):
        command.owned(out, settings(networks=3)).__enter__()
    (tmp_path / "u.csv").write_text("mine\n")
    with pytest.raises(ConfigError, match=r"exists without its u.json"):
        command.owned(tmp_path / "u.csv", settings()).__enter__()


def test_ctrl_c_keeps_the_trainings_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def interrupted(arch: str, seed: int, *_: Any) -> Row:
        calls.append(arch)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02 * len(calls))
        return Row(arch, seed, 20.0, 50.0, 1.0, 1, 1, (1.0,) * 11)

    monkeypatch.setattr(command, "trained_row", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert not measured(tmp_path / "t.csv", settings(30, 0), processes=2)
    assert signal.getsignal(signal.SIGINT) is before
    assert 3 <= len(calls) <= 5
    rows = read_rows(tmp_path / "t.csv", open_dataset(DATA).classes)
    assert sorted(r.arch for r in rows) == sorted(calls)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    app = typer.Typer()
    app.command()(command.groundtruth)
    trained = CliRunner().invoke(
        app,
        f"--data {DATA} --space rtseg:tiny --size 16x24 --networks 2 --second-seeds 0 --epochs 1 "
        f"--batch 4 --processes 1 --out {tmp_path / 's.csv'}",
    )
    assert trained.exit_code == 0, trained.output
    assert "training networks: 2 of 2" in trained.output
    assert "complete" in trained.output
    wrong = CliRunner().invoke(app, ["--data", DATA, "--space", "x", "--out", str(tmp_path / "s.txt")])
    assert "ends in .csv" in str(wrong.exception)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A small table, not really trained, where the installed one would be."""

    def made() -> Path:
        out, data = tmp_path / "data" / "camvid_rtseg.csv", open_dataset(DATA)
        jobs = few("rtseg:tiny", 11, 1)
        rows = [Row(arch, s, 30.0 + k, 80.0, 1.0, 1, 1, (30.0,) * 11) for k, (arch, s) in enumerate(jobs)]
        write_rows(out, rows, data.classes)
        command.write_provenance(out, settings(11, 1), data, rows)
        return out

    monkeypatch.setattr(problems, "files", lambda _: tmp_path)
    monkeypatch.setenv("PROXYGRAPH_CACHE", str(tmp_path / "cache"))
    return made


def test_problem_without_table_is_told(packaged: Callable[[], Path]) -> None:
    with pytest.raises(ConfigError, match=r"camvid_rtseg.csv is missing; make it with segspace.groundtruth"):
        problems.camvid("", report=lambda *_: None)


@pytest.mark.slow
def test_problem_reads_its_table(packaged: Callable[[], Path]) -> None:
    rows = read_rows(packaged(), open_dataset(DATA).classes)
    problem = problems.camvid("", report=lambda *_: None)
    assert len(rows) == 12
    assert problem.target.tolist() == [30.5, *(32.0 + k for k in range(10))]
    assert problem.groups == tuple(dict.fromkeys(r.arch for r in rows))


def test_another_draw_has_other_weights_and_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(problems, "_collected", lambda *args: asked.append(args))
    arch = Micro.parse("64-41414-2_12_212")
    for draw in (0, 1):
        problems.statistics([arch], problems.Measurement(size=16, width=8, draw=draw), lambda *_: None)
    weights = [next(args[0][0][1]().parameters()) for args in asked]
    pictures = [args[1][0][0] for args in asked]
    assert weights[0].shape == weights[1].shape
    assert not torch.equal(*weights)
    assert not torch.equal(*pictures)
    assert asked[0][4] != asked[1][4]  # what is kept of one draw is not taken for the other
