"""The commands train, evaluate and export, one after the other on the same small run."""

import csv
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from proxygraph.errors import BackendUnavailable, ConfigError, StorageError
from segspace import evaluate, export, train
from segspace.checkpoint import NAME, read_checkpoint, read_header
from segspace.models import build
from segspace.report.trained import read_trained
from segspace.training import Training

DATA = "streetscenes:16x24?train=8&val=3"
ARCH = "rtseg:tiny:c0-C0-0"


def called(command: Callable[..., None], *words: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(word) for word in words])


def ended(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    """Return the exit code of a whole command, its handling of errors included."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def trained(out: Path, *more: str) -> Result:
    words = ("--data", DATA, "--size", "16x24", "--epochs", 3, "--batch", 4, "--out", out, *more)
    return called(train.train, ARCH, *words)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "run"
    done = trained(out)
    assert done.exit_code == 0, done.output
    return out


def test_run_folder(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["arch"] == ARCH
    assert "single scale" in result["protocol"]
    assert 0 <= result["miou"] <= 100
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in lines] == [1, 2, 3]
    assert lines[-1]["lr"] == pytest.approx(0)
    header, _ = read_checkpoint(run)
    assert header.step == header.steps == 6


def test_interrupted_run_goes_on_to_the_same_weights(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, step = tmp_path / "run", Training._stepped

    def interrupted(self: Training, batch: Any) -> Any:
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Training, "_stepped", interrupted)
    before = signal.getsignal(signal.SIGINT)
    words = (ARCH, "--data", DATA, "--size", "16x24", "--epochs", 3, "--batch", 4, "--out", out)
    assert ended(train.main, monkeypatch, *words) == 130
    assert "stopped after step 4 of 6; --resume goes on" in capsys.readouterr().out
    stopped = read_header(out)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(Training, "_stepped", step)
    assert "holds a run already" in str(trained(out).exception)
    assert "another recipe" in str(trained(out, "--resume", "--lr", "0.1").exception)
    assert trained(out, "--resume").exit_code == 0
    (_, expected), (_, found) = read_checkpoint(run), read_checkpoint(out)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    first, again = (json.loads((folder / "result.json").read_text()) for folder in (run, out))
    assert first["miou"] == again["miou"]
    assert again["cpu_seconds"] == read_header(out).cpu_seconds > stopped.cpu_seconds > 0


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in ("config.json", "journal.jsonl"):
        (out / name).write_bytes((run / name).read_bytes())
    assert trained(out, "--resume").exit_code == 0
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in lines] == [1, 2, 3]


def test_wrong_use_leaves_no_folder(run: Path, tmp_path: Path) -> None:
    wrong = [
        (("--scale", "2"), "expected LOW,HIGH"),
        (("--device", "cuda:77"), "--device cuda:77"),
        (("--teacher", str(tmp_path)), "no such checkpoint"),
        (("--optimizer", "adagrad"), "sgd or adamw"),
        (("--resume",), "nothing to resume"),
    ]
    for words, told in wrong:
        assert told in str(trained(tmp_path / "no", *words).exception)
    assert not (tmp_path / "no").exists()


def test_teacher_and_workers(run: Path, tmp_path: Path) -> None:
    done = trained(tmp_path / "taught", "--teacher", str(run), "--distill", "2")
    assert done.exit_code == 0, done.output
    (_, plain), (_, taught) = read_checkpoint(run), read_checkpoint(tmp_path / "taught")
    assert any(not torch.equal(tensor, taught[name]) for name, tensor in plain.items())


@pytest.mark.slow
def test_workers_change_nothing(run: Path, tmp_path: Path) -> None:
    assert trained(tmp_path / "run", "--workers", "2").exit_code == 0
    (_, expected), (_, found) = read_checkpoint(run), read_checkpoint(tmp_path / "run")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_evaluation(run: Path, tmp_path: Path) -> None:
    judged = called(evaluate.evaluate, run, "--data", DATA, "--out", tmp_path, "--pictures", 2)
    assert judged.exit_code == 0, judged.output
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["miou"] == json.loads((run / "result.json").read_text())["miou"]
    rows = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    counts = np.array([[int(value) for value in line[1:]] for line in rows[1:]])
    assert counts.sum() == 3 * 16 * 24
    assert rows[0][1:] == [line[0] for line in rows[1:]] == list(found["class_iou"])
    drawn = sorted(tmp_path.glob("prediction-*.png"))
    assert len(drawn) == 2
    with Image.open(drawn[0]) as picture:
        assert picture.size == (3 * 24 + 8, 16)
    shown = read_trained(tmp_path)
    assert (shown.arch, shown.miou, len(shown.pictures)) == (ARCH, found["miou"], 2)
    header, _ = read_checkpoint(run)
    assert list(shown.palette.items()) == list(zip(header.classes, header.palette, strict=True))
    before = read_trained(run)  # a run as it is, not evaluated
    assert (before.miou, before.data, before.pictures) == (shown.miou, DATA, ())
    assert before.class_iou == pytest.approx(shown.class_iou)
    wrong = called(evaluate.evaluate, run, "--data", "cityscapes:/nowhere")
    assert isinstance(wrong.exception, ConfigError)


def test_export_of_an_arch_reports_its_cost() -> None:
    told = json.loads(called(export.export, ARCH, "--size", "24x40", "--classes", "5").stdout)
    network = build(ARCH, 5)
    assert told["params"] == sum(p.numel() for p in network.parameters())
    assert told["macs"] > 0


def test_onnx_without_its_packages_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = called(export.export, ARCH, "--size", "24x40", "--onnx", tmp_path / "a.onnx")
    assert isinstance(found.exception, BackendUnavailable)
    assert "pip install 'proxygraph[onnx]'" in str(found.exception)


@pytest.mark.slow
def test_exported_files_do_what_torch_does(run: Path, tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    file, program = tmp_path / "a.onnx", tmp_path / "a.pt2"
    told = called(export.export, run, "--size", "24x40", "--onnx", file, "--program", program)
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["onnx"]["opset"] == export.OPSET
    assert max(found[part]["relative_difference"] for part in ("onnx", "program")) < export.TOLERANCE
    notes = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert notes["arch"] == ARCH
    x = torch.randn(1, 3, 24, 40)
    (logits,) = onnxruntime.InferenceSession(file).run(None, {"image": x.numpy()})
    from segspace.checkpoint import trained_network

    with torch.no_grad():
        np.testing.assert_allclose(logits, trained_network(run / NAME)[1](x).numpy(), atol=1e-3)


def test_a_network_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    found = called(export.export, ARCH, "--size", "24x40", "--program", tmp_path / "a.pt2")
    assert isinstance(found.exception, StorageError)
    assert not list(tmp_path.iterdir())
