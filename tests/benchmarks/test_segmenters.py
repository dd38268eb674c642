"""The benchmark of segmenters: commands side by side, Ctrl-C, what is trained so far, the table."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import budget, search_plots, segmenters, winner_plots
from benchmarks.segmenters import Job, Work
from proxygraph.command import console
from proxygraph.errors import ConfigError
from segspace import evaluate, train
from segspace.checkpoint import read_header
from segspace.datasets import open_dataset
from segspace.drawing import triptych
from segspace.training import Training
from tests.segspace.test_train_commands import called, ended

DATA = "streetscenes:16x24?train=4&val=2"
FOUND, BASELINE = "rtseg:tiny:c0-C0-0", "bisenetv2:0.05"
RUNS = [(FOUND, 0), (BASELINE, 0), ("enet", 0)]


def script(folder: Path, name: str, text: str) -> Job:
    """Return a job that says when it begins and ends, and runs this in between."""
    log = folder / "order.txt"
    # where the tests run in the background, Ctrl-C is ignored from the start
    lines = "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    lines += f"log = open({str(log)!r}, 'a')\n"
    lines += f"print('begin {name}', file=log, flush=True)\n{text}\nprint('end {name}', file=log, flush=True)"
    return Job(name, (sys.executable, "-S", "-c", lines), folder / f"{name}.log")


def said(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().splitlines()


# ---- commands ----------------------------------------------------------------------------------------------


def test_so_many_commands_at_a_time(tmp_path: Path) -> None:
    jobs = [script(tmp_path, name, "time.sleep(0.3)") for name in "abcd"]
    ticks: list[int] = []
    assert segmenters.run_all(jobs, 2, tick=lambda: ticks.append(1), poll=0.01)
    under_way, most = 0, 0
    for line in said(tmp_path):
        under_way += 1 if line.startswith("begin") else -1
        most = max(most, under_way)
    assert (most, len(said(tmp_path))) == (2, 8)
    assert ticks


WAITS = """
try:
    time.sleep(60)
except KeyboardInterrupt:
    print('interrupted', file=log, flush=True)
    sys.exit(130)
"""


def test_a_stop_reaches_what_is_under_way_and_begins_nothing_more(tmp_path: Path) -> None:
    jobs = [script(tmp_path, name, WAITS) for name in "abc"]

    def stop() -> bool:
        return (tmp_path / "order.txt").is_file() and len(said(tmp_path)) >= 2

    assert not segmenters.run_all(jobs, 2, stop=stop, poll=0.01)
    assert sorted(said(tmp_path)) == ["begin a", "begin b", "interrupted", "interrupted"]


def test_a_failure_is_told_and_stops_the_others(tmp_path: Path) -> None:
    order = tmp_path / "order.txt"
    wait = f"while 'begin b' not in open({str(order)!r}).read(): time.sleep(0.01)"
    fails = script(tmp_path, "a", f"{wait}\nprint('first')\nprint('error: no such thing')\nsys.exit(2)")
    with pytest.raises(ConfigError, match=r"a: ended with code 2: error: no such thing"):
        segmenters.run_all([fails, script(tmp_path, "b", WAITS)], 2, poll=0.01)
    assert said(tmp_path)[-1] == "interrupted"


def test_ctrl_c_comes_from_us_alone(tmp_path: Path) -> None:
    job = script(tmp_path, "a", "import os\nprint(os.getsid(0), os.getpid(), file=log, flush=True)")
    assert segmenters.run_all([job], 1, poll=0.01)
    session, process = said(tmp_path)[1].split()
    assert session == process != str(os.getsid(0))


# ---- what is trained so far --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """One network trained to its end, one stopped after one of two steps, both judged; made-up times."""
    folder = tmp_path_factory.mktemp("segmenters") / "work"
    options = segmenters.options_of(
        [FOUND, BASELINE, "enet", "--data", DATA, "--size", "16x24", "--epochs", "2", "--work", str(folder)]
    )
    work, step = Work.opened(options), Training._stepped

    def interrupted(self: Training, batch: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    for arch in (FOUND, BASELINE):
        words = (
            arch,
            "--data",
            DATA,
            "--size",
            "16x24",
            "--epochs",
            2,
            "--batch",
            4,
            "--out",
            work.path((arch, 0)),
        )
        with pytest.MonkeyPatch.context() as patch:
            if arch == BASELINE:
                patch.setattr(Training, "_stepped", interrupted)
            assert ended(train.main, patch, *words) == (130 if arch == BASELINE else 0)
        assert called(evaluate.evaluate, work.path((arch, 0)), "--data", DATA, "--pictures", 0).exit_code == 0
    for runtime, ms in (("onnxruntime", 2.0), ("openvino", 1.0)):
        networks = [
            {"arch": arch, "median": ms, "p10": ms, "p90": ms, "params": 1000, "macs": 2_000_000}
            for arch in (FOUND, BASELINE, "enet")
        ]
        content = {"setting": {"version": "1.2", "threads": 1}, "networks": networks}
        (folder / f"latency-{runtime}.json").write_text(json.dumps(content))
    return work


def test_the_table_says_how_far_each_training_is(work: Work) -> None:
    rows = segmenters.table_rows(work, RUNS, segmenters.RUNTIMES)
    assert [row["engine"] for row in rows] == [FOUND, BASELINE]  # enet has not begun
    found, baseline = rows
    assert (found["kind"], found["epochs"], found["epochs_planned"]) == ("found", 2, 2)
    assert (baseline["kind"], baseline["epochs"], baseline["epochs_planned"]) == ("baseline", 1, 2)
    assert found["median"] == json.loads((work.path((FOUND, 0)) / "result.json").read_text())["miou"]
    assert found["cpu_minutes"] == round(read_header(work.path((FOUND, 0))).cpu_seconds / 60, 1)
    assert read_header(work.path((FOUND, 0))).cpu_seconds > 0
    assert (found["params"], found["macs"]) == (1000, 2_000_000)
    assert found["latency_ms"]["openvino"]["median"] == 1
    assert (found["n_rows"], found["seed"]) == (2, 0)
    head, *lines = segmenters.shown(rows, segmenters.RUNTIMES)
    assert "openvino ms, FPS" in head
    assert any("1 of 2" in line and line.endswith(BASELINE) for line in lines)
    without = segmenters.table_rows(work, RUNS[:1], ["cuda"])
    assert (without[0]["latency_ms"], without[0]["params"]) == ({}, None)
    assert segmenters.shown(without, ["cuda"])[1].count("–") == 3


def test_only_what_is_not_done_is_done(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Job] = []

    def noted(jobs: list[Job], *_: Any, **__: Any) -> bool:
        asked.extend(jobs)
        return True

    monkeypatch.setattr(segmenters, "run_all", noted)
    assert segmenters.train(work, [*RUNS, ("enet", 3)], 2, None, segmenters.console())
    assert [job.name for job in asked] == [BASELINE, "enet", "enet, seed 3"]
    assert [job.command[-1] == "--resume" for job in asked] == [True, False, False]
    assert asked[1].command[2:5] == ("segspace.train", "enet", "--data")
    seeds = [job.command[job.command.index("--seed") + 1] for job in asked]
    assert seeds == ["0", "0", "3"]
    assert len({job.command[-1] for job in asked[1:]}) == 2  # folders
    asked.clear()
    segmenters.judge(work, RUNS, 2)
    assert asked == []  # both are judged at their present step
    path = work.path((BASELINE, 0)) / "evaluation-val" / "evaluation.json"
    stored = path.read_text()
    path.write_text(json.dumps(json.loads(stored) | {"step": [0, 2]}))
    segmenters.judge(work, RUNS, 2)
    assert [job.name for job in asked] == [BASELINE]
    assert [row["engine"] for row in segmenters.table_rows(work, RUNS, [])] == [FOUND]  # no stale number
    path.write_text(stored)


def test_seconds_and_ctrl_c_stop_trainings(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_stopped(jobs: Any, at_a_time: int, stop: Any, tick: Any) -> bool:
        begin = time.monotonic()
        while not stop():
            tick()
            assert time.monotonic() - begin < 20
            if pressed:
                os.kill(os.getpid(), pressed.pop())
        return False

    monkeypatch.setattr(segmenters, "run_all", until_stopped)
    pressed = [signal.SIGINT]
    assert not segmenters.train(work, RUNS[1:2], 2, None, segmenters.console())
    assert segmenters.train(work, RUNS[1:2], 2, 0.05, segmenters.console())


def test_another_plan_needs_another_folder(work: Work) -> None:
    options = segmenters.options_of(["enet", "--data", DATA, "--size", "16x24", "--work", str(work.folder)])
    with pytest.raises(ConfigError, match="with another epochs: it was 2, now 200"):
        Work.opened(options)


def test_options() -> None:
    quick = segmenters.options_of(["--quick"])
    assert (quick.archs, quick.json, quick.busy_ok) == (list(segmenters.QUICK), None, True)
    assert segmenters.options_of(["enet", "--data", DATA]).json.name == "segmenters.json"
    with pytest.raises(SystemExit):
        segmenters.options_of(["enet"])
    with pytest.raises(SystemExit):
        segmenters.options_of(["enet", "--data", DATA, "--options=--batch 4 --seed=1"])


@pytest.fixture
def there(work: Work, tmp_path: Path) -> Path:
    """Return a result file of two networks, both timed."""
    rows = [one | {"median": 1.0} for one in segmenters.table_rows(work, RUNS[:2], segmenters.RUNTIMES)]
    path = tmp_path / "segmenters.json"
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_rows_are_added_to_those_of_another_machine(work: Work, there: Path) -> None:
    here = segmenters.table_rows(work, RUNS[:1], [])  # not timed here
    assert (here[0]["latency_ms"], here[0]["params"]) == ({}, None)
    both = segmenters.added([here[0] | {"seed": 1}, here[0]], there)
    assert [(one["engine"], one["seed"]) for one in both] == [(FOUND, 0), (BASELINE, 0), (FOUND, 1)]
    assert [one["median"] == 1.0 for one in both] == [False, True, False]
    for one in both:
        assert one["latency_ms"]["openvino"]["median"] == 1
        assert one["params"] == 1000


def test_latencies_of_here_take_the_place_of_those_in_the_file(work: Work, there: Path) -> None:
    timed = segmenters.table_rows(work, RUNS[:1], ["openvino"])[0] | {"seed": 1}
    timed["latency_ms"]["openvino"]["median"] = 7.0
    both = segmenters.added([timed], there)
    of_found = [one["latency_ms"] for one in both if one["engine"] == FOUND]
    assert [(t["onnxruntime"]["median"], t["openvino"]["median"]) for t in of_found] == [(2, 7), (2, 7)]
    timed["latency_ms"]["openvino"]["processor"] = "another"
    with pytest.raises(ConfigError, match="another kind of processor; time all of its networks here"):
        segmenters.added([timed], there)


def test_a_sketch_does_not_take_the_place_of_a_training(work: Work, there: Path) -> None:
    here = segmenters.table_rows(work, RUNS[:1], [])[0]
    kept = segmenters.added([here | {"epochs": 1, "median": 2.0}], there)
    assert [one["median"] for one in kept] == [1.0, 1.0]


@pytest.mark.parametrize("key", ["recipe", "protocol", "size"])
def test_what_is_not_comparable_is_not_added(key: str, work: Work, there: Path) -> None:
    here = segmenters.table_rows(work, RUNS[:1], [])[0]
    stored = there.read_bytes()
    with pytest.raises(ConfigError, match=f"has another {key}; give another --json"):
        segmenters.added([here | {key: None}], there)
    assert there.read_bytes() == stored


@pytest.mark.parametrize("key", ["engine", "seed", "recipe", "latency_ms", "processor"])
def test_a_file_of_another_form_is_refused(key: str, work: Work, there: Path) -> None:
    content = json.loads(there.read_text())
    one = content["rows"][1]
    del (one["latency_ms"]["openvino"] if key == "processor" else one)[key]
    there.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"a row without {key}; give another --json"):
        segmenters.added(segmenters.table_rows(work, RUNS[:1], []), there)


def test_a_command_for_seeds_adds_what_is_judged(work: Work, there: Path) -> None:
    words = [FOUND, "--data", DATA, "--size", "16x24", "--epochs", "2", "--work", str(work.folder)]
    words += ["--only", "table", "--seeds", "0", "5", "--json", str(there)]
    screen = console()
    with screen.capture() as said_:
        segmenters.measured(segmenters.options_of([*words, "--add"]), screen)
    assert f"not judged yet: {FOUND}, seed 5" in said_.get()
    rows = json.loads(there.read_text())["rows"]
    assert [(one["engine"], one["seed"]) for one in rows] == [(FOUND, 0), (BASELINE, 0)]
    segmenters.measured(segmenters.options_of(words), screen)
    assert [one["engine"] for one in json.loads(there.read_text())["rows"]] == [FOUND]


def test_table_and_picture_of_the_page(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = segmenters.table_rows(work, RUNS[:2], segmenters.RUNTIMES)
    monkeypatch.setattr(search_plots, "rows_of", lambda name: rows if name == "segmenters" else [])
    monkeypatch.setattr(search_plots, "DOCS", work.folder)
    rows.append(rows[0] | {"seed": 1, "median": rows[0]["median"] + 1})
    rows.append(rows[0] | {"seed": 2, "median": 0.0, "epochs": 1})  # a sketch: not in the mean
    table = search_plots.tables()["segmenters"]()
    assert f"| `{BASELINE}` |" in table
    low = rows[0]["median"]
    assert f"| `{FOUND}` | {low + 0.5:.2f} | {low:.2f}, {low + 1:.2f} |" in table
    assert "| 2.00 (2.00–2.00), 500 | 1.00 (1.00–1.00), 1000 | 1 of 2 |" in table
    search_plots.pictures()
    assert (work.folder / "images" / "segmenters.svg").read_text().count("onnxruntime") >= 1
    monkeypatch.setattr(winner_plots, "rows_of", lambda name: rows if name == "segmenters" else [])
    monkeypatch.setattr(winner_plots, "DOCS", work.folder)
    winner_plots.draw_archs()
    assert (work.folder / "images" / winner_plots.file_of(FOUND)).read_text().startswith("<svg")


def test_predictions_are_drawn_without_the_pictures_of_the_data(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, sky = open_dataset(DATA), np.zeros((4, 6), np.uint8)
    secret = Image.new("RGB", (6, 4), (1, 254, 3))  # no colour of a class
    for arch in ("a:x", "b"):
        folder = tmp_path / "work" / arch.replace(":", "_") / "evaluation-val"
        folder.mkdir(parents=True)
        for name in "123":
            triptych(secret, sky + 1, sky, dataset.palette).save(folder / f"prediction-{name}.png")
    monkeypatch.setattr(winner_plots, "DOCS", tmp_path)
    (tmp_path / "images").mkdir()
    winner_plots.draw_predictions(tmp_path / "work", ["a:x", "b"], DATA)
    drawn = Image.open(tmp_path / "images" / "segmenter_predictions.png").convert("RGB")
    colours = {colour for _, colour in drawn.getcolors(1 << 24) or []}
    assert dataset.palette[0] in colours
    assert (1, 254, 3) not in colours
    with pytest.raises(ConfigError, match="no predictions of c; judge it first"):
        winner_plots.draw_predictions(tmp_path / "work", ["c"], DATA)


def test_table_of_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"p10": 1.0, "median": 1.1, "p90": 1.2, "n": 50, "params": 10, "macs": 2_000_000}
    one = {"arch": FOUND, "latency_ms": 1.04}
    rows = [{"engine": "whole search"}, budget.chosen(one, times, 3)]
    monkeypatch.setattr(winner_plots, "rows_of", {"budget": rows}.__getitem__)
    assert f"| 3 | `{FOUND}` | 1.040 | 1.000 | 1.100 | +4.0 % | 2 |" in winner_plots.budget_table()


@pytest.mark.slow
def test_a_whole_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in segmenters.RUNTIMES:
        pytest.importorskip(name)
    out = tmp_path / "segmenters.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(segmenters.__file__).parent.parent))
    monkeypatch.setattr(sys, "argv", ["segmenters.py", "--quick", "--json", str(out)])
    segmenters.main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["engine"] for row in rows] == list(segmenters.QUICK)
    for row in rows:
        assert row["epochs"] == row["epochs_planned"] == 2
        assert set(row["latency_ms"]) == set(segmenters.RUNTIMES)
