"""Cityscapes from training to search by the commands, on a small generated tree of the official layout."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segspace import evaluate, export, train
from segspace.checkpoint import read_checkpoint
from segspace.datasets.cityscapes import CLASSES
from segspace.latency import build as building
from segspace.rtseg.pieces import Piece
from segspace.search import __main__ as search
from tests.segspace.latency_fakes import made_up_table
from tests.segspace.test_datasets import TRAIN_IDS, cityscapes_tree
from tests.segspace.test_train_commands import ended

SIZE, TEXT, ARCH = (16, 32), "16x32", "rtseg:tiny:c0-C0-0"


def stored_labels() -> NDArray[np.uint8]:
    """Labels of a picture: stripes of road, building and sky, and what is ignored."""
    labels = np.repeat(np.array([7, 11, 23, 0], np.uint8), 4)
    return np.tile(labels[:, None], (1, 32))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return cityscapes_tree(tmp_path_factory.mktemp("cityscapes"), stored_labels(), n=6)


def test_trained_judged_and_exported(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ("--data", data, "--size", TEXT, "--crop", "16x16", "--epochs", 1, "--batch", 6, "--ohem", 0.9)
    recipe = ("--optimizer", "sgd", "--schedule", "poly", "--ema", 0.9, "--class-weight-power", -0.3)
    assert ended(train.main, monkeypatch, ARCH, *words, *recipe, "--out", run) == 0
    header, _ = read_checkpoint(run)
    assert (header.classes, header.step, header.steps) == (CLASSES, 2, 2)
    assert ended(evaluate.main, monkeypatch, run, "--data", data, "--pictures", 1) == 0
    found = json.loads((run / "evaluation-val" / "evaluation.json").read_text())
    assert "Cityscapes fine, 19 classes" in found["protocol"]
    assert found["miou"] == json.loads((run / "result.json").read_text())["miou"]
    assert list(found["class_iou"]) == list(CLASSES)
    there = [name for name, iou in found["class_iou"].items() if iou is not None]
    assert {CLASSES[TRAIN_IDS[label]] for label in (7, 11, 23)} <= set(there)
    rows = [line.split(",") for line in (run / "evaluation-val" / "confusion.csv").read_text().splitlines()]
    counts = {line[0]: sum(map(int, line[1:])) for line in rows[1:]}
    assert counts == dict.fromkeys(CLASSES, 0) | dict.fromkeys(("road", "building", "sky"), 6 * 4 * 32)
    capsys.readouterr()
    assert ended(export.main, monkeypatch, run, "--size", TEXT) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == 19


def test_searched_on_its_pictures(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = made_up_table(SIZE, 19, 40)
    table.save(tmp_path / "table.json")
    monkeypatch.setattr(building, "pieces_of", lambda *_: [Piece.parse(text) for text in table.pieces])
    words = ("--proxy", "snip", "--size", TEXT, "--data", data, "--table", tmp_path / "table.json")
    more = ("--trials", 2, "--population", 2, "--max-latency-ms", 3, "--out", tmp_path / "search")
    assert ended(search.main, monkeypatch, *words, *more) == 0
    result = json.loads((tmp_path / "search" / "result.json").read_text())
    assert (result["settings"]["classes"], result["settings"]["data"]) == (19, data)
    assert np.isfinite(result["chosen"]["score"])
    assert result["counts"] == result["counts"] | {"candidates": 2, "invalid": 0}
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"--data {shlex.quote(data)} --size {TEXT}" in last
    assert ended(search.main, monkeypatch, *words, "--classes", 11) == 2
    assert f"{data} has 19 classes" in capsys.readouterr().err
