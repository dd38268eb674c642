"""The ground-truth tool: sample, rows, resuming, metric, determinism. Trainings here are tiny."""

import copy
import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex
from typer.testing import CliRunner

from proxygraph.errors import ConfigError, ParseError
from segspace.streetscenes import CLASSES
from segspace.transnas101 import Arch, build

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "train_streetscenes.py"
ARCH = Arch.parse("64-41414-1_02_103")


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_streetscenes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_streetscenes"] = module
    spec.loader.exec_module(module)
    return module


tool = _loaded()
TINY = tool.Recipe(size=32, stem_stride=1, width=4, train_scenes=12, val_scenes=4, batch=4, steps=8)


def row(arch: str, seed: int, miou: float) -> object:
    return tool.Row(arch, seed, miou, 50.0, 1.0, tuple(float(k) for k in range(len(CLASSES))))


def test_sample_is_connected_distinct_and_repeatable() -> None:
    archs = tool.sampled_archs(200)
    assert archs == tool.sampled_archs(200)
    assert archs[:50] == tool.sampled_archs(50)
    assert all(arch.connected for arch in archs)
    assert len({arch.live() for arch in archs}) == 200
    with pytest.raises(ConfigError, match=r"--networks 5000: expected 1 to 2127"):
        tool.sampled_archs(5000)


def test_plan_spreads_the_second_seeds() -> None:
    plan = tool.planned(136, 24)
    assert len(plan) == len(set(plan)) == 160
    twice = [k for k, (_, seed) in enumerate(plan) if seed == 1]
    assert len(twice) == 24
    assert all((plan[k][0], 0) in plan[:k] for k in twice)
    assert max(np.diff(twice)) <= 7
    assert len(tool.planned(5, 0)) == 5
    with pytest.raises(ConfigError, match="--second-seeds 6: expected 0 to 5"):
        tool.planned(5, 6)


def test_ious_equal_torchmetrics() -> None:
    """Confusion counts and mIoU beside torchmetrics', on predictions with a class that is never there."""
    torch.manual_seed(0)
    labels, logits = torch.randint(0, 6, (40, 9, 7)), torch.randn(40, 7, 9, 7)
    logits[:, 6] = -9  # class 6 is neither true nor predicted
    logits.scatter_add_(1, labels[:, None], torch.full((40, 1, 9, 7), 1.0))
    counts = tool.confusion(nn.Identity(), logits, labels, 7)
    assert np.array_equal(counts, MulticlassConfusionMatrix(7)(logits, labels).numpy())
    ious = tool.class_ious(counts)
    assert np.isnan(ious[6])
    theirs = MulticlassJaccardIndex(7, average="none")(logits, labels).numpy()
    np.testing.assert_allclose(ious[:6], theirs[:6], rtol=1e-6)
    assert np.nanmean(ious) == pytest.approx(MulticlassJaccardIndex(7)(logits, labels).item(), rel=1e-6)


def test_gradients_of_the_recipe_s_memory_format_are_right() -> None:
    """Every gradient of one step beside float64; a memory layout once broke a convolution (see the tool)."""
    recipe = tool.Recipe()
    torch.manual_seed(0)
    arch = Arch.parse("64-41414-2_12_212")
    network = build(arch, classes=5, width=recipe.width, stem_stride=recipe.stem_stride)
    layout = tool.memory_format(recipe.width)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    exact = copy.deepcopy(network).double()
    side = recipe.size
    x, y = torch.randn(4, 3, side, side), torch.randint(0, 5, (4, side, side))
    nn.functional.cross_entropy(network(x.contiguous(memory_format=layout)), y).backward()
    nn.functional.cross_entropy(exact(x.double()), y).backward()
    norms = [
        (float((a.grad - b.grad).norm()), float(b.grad.norm()))
        for a, b in zip(network.parameters(), exact.parameters(), strict=True)
        if a.grad is not None and b.grad is not None
    ]
    total = np.linalg.norm([size for _, size in norms])
    assert len(norms) > 100
    assert max(error for error, _ in norms) < 1e-4 * total


def test_training_is_repeatable_and_seeded() -> None:
    data = tool.scenes(TINY)
    images = data.train_images.clone()
    one, same, other = (tool.trained_row(ARCH, seed, TINY, data) for seed in (0, 0, 1))
    assert replace(one, seconds=0.0) == replace(same, seconds=0.0)
    assert one.class_iou != other.class_iou
    assert torch.equal(images, data.train_images)  # flips do not reach the kept scenes


def test_training_learns() -> None:
    recipe = replace(TINY, steps=40, width=8, train_scenes=24)
    data = tool.scenes(recipe)
    before = tool.trained_row(ARCH, 0, replace(recipe, steps=0), data)
    after = tool.trained_row(ARCH, 0, recipe, data)
    assert after.accuracy > 30
    assert after.miou > before.miou + 5


def test_schedule_ends_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):  # type: ignore[no-untyped-def]
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    recipe = replace(TINY, steps=20)
    tool.trained_row(ARCH, 0, recipe, tool.scenes(recipe))
    assert len(rates) == 20
    assert max(rates) == pytest.approx(recipe.peak_lr, rel=0.05)
    assert rates[-1] < 0.02 * recipe.peak_lr


def test_rows_round_trip_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [row("64-41414-1_02_103", 0, 20.5), row("64-41414-1_02_103", 1, 21.25)]
    tool.write_rows(path, rows)
    assert tool.read_rows(path) == rows
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]
    with path.open("a") as file:
        file.write("64-41414-3_02_103,0,22.5,60")
    assert tool.read_rows(path) == rows
    assert tool.read_rows(tmp_path / "none.csv") == []
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ParseError, match="the header is not arch,seed"):
        tool.read_rows(path)


def test_noise_is_that_of_pairs() -> None:
    names = [f"64-41414-{k}_00_100" for k in range(4)]
    rows = [row(name, 0, 10.0 * k) for k, name in enumerate(names)]
    rows += [row(name, 1, 10.0 * k + 2) for k, name in enumerate(names)]
    found = tool.noise(rows)
    assert found["networks"] == found["second_seeds"] == 4
    assert found["seed_sd"] == pytest.approx(np.sqrt(2), abs=1e-4)
    assert found["arch_sd"] == pytest.approx(np.std([0, 10, 20, 30], ddof=1), abs=1e-4)
    assert found["seed_spearman"] == 1


def test_export_writes_table_and_provenance(tmp_path: Path) -> None:
    recipe = tool.Recipe()
    with tool._owned(tmp_path, recipe):
        tool.write_rows(
            tmp_path / "rows.csv", [row("64-41414-3_00_100", 0, 3.0), row("64-41414-1_02_103", 0, 2.0)]
        )
    out = tmp_path / "packaged" / "table.csv"
    result = CliRunner().invoke(tool.app, ["export", "--work", str(tmp_path), "--out", str(out)])
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["arch"] for line in written] == ["64-41414-1_02_103", "64-41414-3_00_100"]
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["recipe"]["steps"] == recipe.steps
    assert told["noise"]["networks"] == 2
    assert set(told["environment"]) == {"python", "torch", "numpy", "machine"}


def test_another_recipe_or_process_is_refused(tmp_path: Path) -> None:
    with tool._owned(tmp_path, TINY):
        second = tool._owned(tmp_path, TINY)
        with pytest.raises(ConfigError, match="another process trains into this folder"):
            second.__enter__()
    with pytest.raises(ConfigError, match="trained by another recipe"), tool._owned(tmp_path, tool.Recipe()):
        pass


class Quiet(Progress):
    """A progress display that writes nowhere."""

    def __init__(self) -> None:
        super().__init__(console=Console(file=io.StringIO()))


def trained(plan: list[tuple[Arch, int]], work: Path, workers: int = 1) -> bool:
    """Train a plan in threads of this process."""
    with tool._owned(work, TINY), Quiet() as progress, ThreadPoolExecutor(workers) as pool:
        return bool(tool.train_all(plan, TINY, work, pool, workers, progress))


@pytest.fixture
def rows_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rows go; the scenes are ready as in a worker."""
    monkeypatch.setattr(tool, "_data", tool.scenes(TINY))
    return tmp_path / "rows.csv"


def named(plan: list[tuple[Arch, int]]) -> list[tuple[str, int]]:
    return [(str(arch), seed) for arch, seed in plan]


def test_run_is_resumed_not_repeated(rows_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = tool.planned(1, 1), tool.planned(3, 1)
    assert trained(short, rows_path.parent)
    first = rows_path.read_text()
    assert [(r.arch, r.seed) for r in tool.read_rows(rows_path)] == named(short)
    with rows_path.open("a") as file:
        file.write("64-41414-3_02_103,0,22.5,60")  # the machine went down while it wrote
    assert trained(long, rows_path.parent)
    assert rows_path.read_text().startswith(first)
    assert [(r.arch, r.seed) for r in tool.read_rows(rows_path)] == named(long)
    monkeypatch.setattr(tool, "trained_row", None)  # nothing is left to train
    assert trained(long, rows_path.parent)


def test_ctrl_c_keeps_the_training_under_way(rows_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def interrupted(arch: Arch, seed: int, recipe: object, data: object) -> object:
        calls.append(str(arch))
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02 * len(calls))
        return row(str(arch), seed, 20.0)

    monkeypatch.setattr(tool, "trained_row", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert not trained(tool.planned(50, 0), rows_path.parent, workers=2)
    assert signal.getsignal(signal.SIGINT) is before
    assert 3 <= len(calls) <= 5
    assert sorted(r.arch for r in tool.read_rows(rows_path)) == sorted(calls)


def test_a_failed_training_ends_the_run_and_keeps_the_rows(
    rows_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(arch: Arch, seed: int, recipe: object, data: object) -> object:
        if seed == 1:
            raise RuntimeError("out of memory")
        return row(str(arch), seed, 20.0)

    monkeypatch.setattr(tool, "trained_row", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        trained(tool.planned(4, 4), rows_path.parent)
    assert len(tool.read_rows(rows_path)) == 1


@pytest.mark.slow
def test_command_line_in_its_own_processes(tmp_path: Path) -> None:
    """The real thing up to the first row, then Ctrl-C: exit code 130 and whole rows."""
    command = [sys.executable, "-u", str(SCRIPT), "run", "--work", str(tmp_path), "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        limit = time.monotonic() + 300
        rows = tmp_path / "rows.csv"
        while not (rows.exists() and rows.read_text().count("\n") > 1):
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=200)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in output
    assert 1 <= len(tool.read_rows(rows)) == rows.read_text().count("\n") - 1 <= 3


def test_wrong_use_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_streetscenes", "export", "--work", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        tool.main()
    assert caught.value.code == 2
    told = capsys.readouterr().err.strip()
    assert told == f"train_streetscenes: {tmp_path}: no rows to export; train some with the command run"
