"""The commands as a user calls them: exit codes, files, one clear line for every mistake."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from proxygraph.infix import parse
from proxygraph.leaves import STATISTICS
from proxygraph.problem import Problem
from proxygraph.table import StatTable
from tests.strategies import random_table

RESULT_KEYS = {"problem", "objective", "seed", "best", "front", "baselines", "search", "environment"}


def call(module: str, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"proxygraph.{module}", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on stderr with these words, nothing on stdout but progress, and the exit code."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Traceback" not in done.stderr
    assert len(lines) == 1 or lines[0].startswith("Usage"), done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, and a finished run on it."""
    path = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, (60, 3))
    with (path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x a", "b", "c", "y"])
        writer.writerows(np.column_stack([x, x[:, 0] * x[:, 1] + 0.5 * np.sin(7 * x[:, 2])]).tolist())
    done = call(
        "evolve",
        "t.csv",
        "--target",
        "y",
        "--generations",
        3,
        "--population",
        60,
        "--out",
        "run",
        "--quiet",
        cwd=path,
    )
    assert done.returncode == 0, done.stderr
    return path


def test_a_run_leaves_every_file_of_the_contract(folder: Path) -> None:
    names = {p.name for p in (folder / "run").iterdir()}
    assert names == {
        "config.json",
        "journal.jsonl",
        "checkpoint.json",
        "hall_of_fame.csv",
        "scores.csv",
        "formula.tex",
        "formula.py",
        "result.json",
    }
    result = json.loads((folder / "run" / "result.json").read_text())
    assert set(result) == RESULT_KEYS
    assert result["problem"]["rows"] == {"train": 30, "validation": 15, "test": 15}
    with (folder / "run" / "scores.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["row", "part", "target", *(f"size {one['size']}" for one in result["front"])]
    assert [[row[1] for row in rows].count(part) for part in ("train", "validation", "test")] == [30, 15, 15]
    values = np.array([row[2:] for row in rows if row[1] == "test"], float)
    front = [one["test"]["rmse"] for one in result["front"]]
    assert np.sqrt(np.mean((values[:, 1:] - values[:, :1]) ** 2, axis=0)) == pytest.approx(front, rel=1e-6)
    search = result["search"]
    caught = search["duplicates"]["structural"] + search["duplicates"]["algebraic"]
    journal = [json.loads(line) for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in journal] == [1, 2, 3]
    # formulas without a leaf count as invalid and are not scored; the other invalid ones were scored
    # and those whose constants were fitted were scored once more, at most
    accounted = search["evaluated"] + caught + search["oversize"]
    assert accounted - search["fitted"] <= search["proposed"] <= accounted + search["invalid"]
    assert search["evaluated"] == journal[-1]["evaluated"] > 0
    assert result["best"]["key"] in {one["key"] for one in result["front"]}
    assert result["best"]["validation"]["r2"] == max(one["validation"]["r2"] for one in result["front"])


def test_the_exported_file_predicts_what_was_reported(folder: Path) -> None:
    result = json.loads((folder / "run" / "result.json").read_text())
    program = (
        "import csv, json, sys; sys.path.insert(0, 'run'); from formula import predict\n"
        "rows = list(csv.DictReader(open('t.csv')))\n"
        "print(json.dumps([float(v) for v in predict({k: [float(r[k]) for r in rows] for k in rows[0]})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    predicted = np.array(json.loads(done.stdout))
    problem = Problem("t", *columns(folder), "y", tuple(map(str, range(60))))
    for part, rows in vars(problem.split(0)).items():
        y, p = problem.target[rows], predicted[rows]
        r2 = 1 - np.sum((y - p) ** 2) / np.sum((y - y.mean()) ** 2)
        assert r2 == pytest.approx(result["best"][part]["r2"], rel=1e-9)


def columns(folder: Path) -> tuple[StatTable, np.ndarray]:
    with (folder / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {name: [float(row[name]) for row in rows] for name in rows[0]}
    y = np.array(values.pop("y"))
    return StatTable.from_columns([str(i) for i in range(len(rows))], values), y


def test_the_seed_decides_and_threads_do_not(folder: Path) -> None:
    for out, threads in (("one", 1), ("two", 2)):
        done = call(
            "evolve",
            "t.csv",
            "--target",
            "y",
            "--generations",
            2,
            "--population",
            40,
            "--threads",
            threads,
            "--out",
            out,
            "--quiet",
            "--seed",
            4,
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((folder / out / "result.json").read_text()) for out in ("one", "two"))
    assert one["front"] == two["front"]


def test_resume_goes_on_as_if_never_stopped(folder: Path) -> None:
    common = ("t.csv", "--target", "y", "--population", 40, "--quiet", "--seed", 2)
    for args in (
        ("--generations", 4, "--out", "whole"),
        ("--generations", 2, "--out", "parts"),
        ("--generations", 4, "--out", "parts", "--resume"),
    ):
        done = call("evolve", *common, *args, cwd=folder)
        assert done.returncode == 0, done.stderr
    whole, parts = (json.loads((folder / out / "result.json").read_text()) for out in ("whole", "parts"))
    assert whole["front"] == parts["front"]
    assert whole["search"]["evaluated"] == parts["search"]["evaluated"]
    refused(
        call("evolve", *common, "--out", "parts", "--resume", "--max-size", 9, cwd=folder),
        2,
        "max_size",
        "30",
        "9",
    )
    refused(call("evolve", *common, "--out", "parts", cwd=folder), 2, "--resume", "parts")


def test_a_run_killed_at_several_moments_goes_on_from_its_last_checkpoint(folder: Path) -> None:
    common = ["t.csv", "--target", "y", "--population", "40", "--seed", "2", "--checkpoint-seconds", "0"]
    common += ["--generations", "100"]
    done = call("evolve", *common, "--out", "unhurt", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "proxygraph.evolve", *common, "--out", "killed"]
    journal = folder / "killed" / "journal.jsonl"

    def lines() -> int:
        return journal.read_text().count("\n") if journal.is_file() else 0

    ends = []
    for least, pause in ((1, 0.0), (12, 0.003), (30, 0.011)):  # each in another stage of a generation
        again = ["--resume"] if journal.is_file() else []
        process = subprocess.Popen(
            [*command, *again], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while lines() < least and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(pause)
        process.kill()
        ends.append(process.wait())
        checkpoint = folder / "killed" / "checkpoint.json"
        if checkpoint.is_file():  # whole, whenever that was
            assert json.loads(checkpoint.read_text())["islands"][0]["generation"] <= lines()
    assert -signal.SIGKILL in ends
    done = call("evolve", *common, "--out", "killed", "--resume", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    unhurt, killed = (json.loads((folder / out / "result.json").read_text()) for out in ("unhurt", "killed"))
    assert killed["front"] == unhurt["front"]
    assert killed["search"]["evaluated"] == unhurt["search"]["evaluated"]
    made = [json.loads(line)["generation"] for line in journal.read_text().splitlines()]
    assert made == list(range(1, unhurt["search"]["generations"] + 1))


def test_ctrl_c_leaves_a_valid_result(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "proxygraph.evolve",
        "t.csv",
        "--target",
        "y",
        "--time-budget",
        "60",
        "--out",
        "stopped",
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    journal = folder / "stopped" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.is_file() and journal.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Stopped" in out
    assert set(json.loads((folder / "stopped" / "result.json").read_text())) == RESULT_KEYS


@pytest.mark.parametrize("form", ["text", "latex", "mathml", "python", "torch", "sympy", "json", "dot"])
def test_export_knows_every_form(folder: Path, form: str) -> None:
    done = call("export", "run", "--format", form, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    result = json.loads((folder / "run" / "result.json").read_text())
    if form == "text":
        assert done.stdout.strip() == result["best"]["infix"]
    if form == "json":
        assert json.loads(done.stdout) == result["best"]["graph"]


def test_score_prints_one_line_per_row(folder: Path) -> None:
    table = random_table(np.random.default_rng(0), {n: STATISTICS[n] for n in ("w", "g", "macs")})
    table.save(folder / "stats.safetensors")
    plain = call("score", "sum(l1(w * g) * macs)", "--table", "stats.safetensors", cwd=folder)
    fused = call(
        "score", "sum(l1(w * g) * macs)", "--table", "stats.safetensors", "--backend", "fused", cwd=folder
    )
    assert plain.returncode == fused.returncode == 0, plain.stderr + fused.stderr
    a, b = (
        np.array([float(line.split(",")[1]) for line in d.stdout.splitlines()[1:]]) for d in (plain, fused)
    )
    assert len(a) == table.n_rows
    np.testing.assert_allclose(a, b, rtol=1e-9)
    refused(call("score", "sum(l1(w * gs))", "--table", "stats.safetensors", cwd=folder), 2, "'gs'")
    refused(call("score", "snip", "--table", "missing.safetensors", cwd=folder), 2, "missing.safetensors")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nowhere"], 2, ("nowhere", "streetscenes")),
        (["missing.csv", "--target", "y"], 2, ("missing.csv", "no such file")),
        (["t.csv"], 2, ("--target", "x a")),
        (["t.csv", "--target", "z"], 2, ("'z'",)),
        (["t.csv", "--target", "y", "--objective", "luck"], 2, ("luck", "spearman")),
        (["t.csv", "--target", "y", "--train", "58"], 2, ("--train",)),
        (["t.csv", "--target", "y", "--population", "3"], 2, ("population",)),
        (["t.csv", "--target", "y", "--generations", "0"], 2, ("--generations",)),
        (["t.csv", "--target", "y", "--resume"], 2, ("--out",)),
        (["t.csv", "--target", "y", "--out", "t.csv/run"], 1, ("t.csv/run", "--out")),
        (["--no-such-option"], 2, ("no-such-option",)),
        (["transnas101"], 2, ("transnas101:CSV",)),
        (["transnas101:missing.csv"], 2, ("missing.csv",)),
        (["streetscenes:x"], 2, ("no argument",)),
    ],
)
def test_wrong_use_is_said_in_one_line(
    folder: Path, args: list[str], code: int, words: tuple[str, ...]
) -> None:
    refused(call("evolve", *args, cwd=folder), code, *words)


def test_export_of_nothing_is_said_in_one_line(folder: Path) -> None:
    refused(call("export", "nowhere", cwd=folder), 2, "nowhere", "result.json")
    refused(call("export", "run", "--format", "word", cwd=folder), 2, "word", "latex")
    refused(call("export", "run", "--size", 99, cwd=folder), 2, "99", "sizes")


@pytest.mark.slow
def test_workers_elsewhere_come_to_the_same_front(folder: Path) -> None:
    pytest.importorskip("distributed")
    common = ("t.csv", "--target", "y", "--population", 80, "--generations", 12, "--seed", 3, "--quiet")
    for args in (("--out", "here"), ("--out", "there", "--dask", "local:2")):
        done = call("evolve", *common, *args, cwd=folder)
        assert done.returncode == 0, done.stderr
    here, there = (json.loads((folder / out / "result.json").read_text()) for out in ("here", "there"))
    assert here["front"] == there["front"]
    assert here["search"]["evaluated"] == there["search"]["evaluated"]


def test_limits_hold_for_what_is_written(folder: Path) -> None:
    common = ("t.csv", "--target", "y", "--population", 60, "--generations", 5, "--quiet", "--out", "limited")
    limits = ("--max-size", 6, "--max-constants", 1, "--max-depth", 3, "--operators", "add,mul,log")
    done = call("evolve", *common, *limits, "--sign", "positive", cwd=folder)
    assert done.returncode == 0, done.stderr
    front = json.loads((folder / "limited" / "result.json").read_text())["front"]
    assert front
    table, _ = columns(folder)
    for one in front:
        dag = parse(one["infix"], table.leaves)
        assert dag.size == one["size"] <= 6
        assert dag.depth <= 3
        assert sum(node.kind == "const" for node in dag.nodes) <= 1
        assert {node.name for node in dag.nodes if node.kind == "op"} <= {"add", "mul", "log"}
        assert max(f["train"]["r2"] for f in front) > 0.9
