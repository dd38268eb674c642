"""One-shot ranking: a supernet trained by command, networks scored in it, and what both refuse."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from proxygraph.errors import ConfigError, ParseError
from segspace import evaluate, oneshot
from segspace.augment import normalised
from segspace.checkpoint import NAME, read_checkpoint, write_checkpoint
from segspace.datasets import Pictures, open_dataset
from segspace.judging import judgement
from segspace.measured import Row
from segspace.oneshot import agreement, read_measured
from segspace.recipe import Recipe
from segspace.rtseg import space as spaces
from segspace.rtseg.arch import Arch, Preset
from segspace.rtseg.space import Space
from segspace.rtseg.supernet import recalibrate
from segspace.shared_weights import Judge, SupernetTraining, trained_supernet
from segspace.training import Training
from tests.segspace.test_train_commands import ended

DATA = "streetscenes:16x24?train=9&val=2"
MINI = Preset("mini", widths=(8, 16), stem=(8, 8, 8), head=8, layers=3, longest=2)
ARCHS = ["rtseg:mini:0-S1-0", "rtseg:mini:0-C1-0", "rtseg:mini:0-C1-c0", "rtseg:mini:i0-S0-0"]
TRAIN = ("train", "--data", DATA, "--space", "rtseg:mini", "--size", "16x24", "--epochs", 2)


@pytest.fixture(scope="module", autouse=True)
def mini() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaces, "PRESETS", {"mini": MINI})
        patch.setattr(Arch.parse.__func__, "__defaults__", ({"mini": MINI},))  # type: ignore[attr-defined]
        yield


@pytest.fixture(scope="module")
def run(mini: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("oneshot") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert ended(oneshot.main, patch, *TRAIN, "--out", out) == 0
    return out


def test_interrupted_training_goes_on_to_the_same_weights(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, step = tmp_path / "run", Training._stepped

    def interrupted(self: Training, batch: object) -> object:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_stepped", interrupted)
    assert ended(oneshot.main, monkeypatch, *TRAIN, "--out", out) == 130
    assert "stopped after step 2 of 4; --resume goes on" in capsys.readouterr().out
    assert ended(oneshot.main, monkeypatch, "rank", out, ARCHS[0]) == 2
    assert "stopped after step 2 of 4; go on with --resume" in capsys.readouterr().err
    monkeypatch.setattr(Training, "_stepped", step)
    assert ended(oneshot.main, monkeypatch, *TRAIN, "--out", out) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert ended(oneshot.main, monkeypatch, *TRAIN, "--out", out, "--resume") == 0
    (header, expected), (_, found) = read_checkpoint(run), read_checkpoint(out)
    assert header.arch == "supernet:rtseg:mini"
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_step_trains_drawn_networks_and_leaves_the_rest() -> None:
    pictures = Pictures(open_dataset(DATA).split("train"))
    recipe = Recipe(size=(16, 24), epochs=1, batch=9, warmup=0.0)
    training = SupernetTraining(Space(MINI), recipe, pictures, 11, seed=3)
    before = {name: value.clone() for name, value in training.network.named_parameters()}
    assert training.run()
    moved = {
        name for name, value in training.network.named_parameters() if not torch.equal(value, before[name])
    }
    assert {name for name in before if name.startswith("stem/") and name.endswith("conv/weight")} <= moved
    assert 0 < len(moved) < len(before)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_scores_are_of_extracted_and_calibrated_networks(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "scores.csv"
    miou = [10.0, 12.0, 9.0, 11.0]
    lines = [f"{arch},{seed},{m + seed}" for arch, m in zip(ARCHS, miou, strict=True) for seed in (0, 1)]
    table.write_text("\n".join(["arch,seed,miou", *lines]) + "\n")
    assert ended(oneshot.main, monkeypatch, "rank", run, "--table", table, "--out", out) == 0
    text = out.read_text()
    rows = [line.split(",") for line in text.splitlines()[1:]]
    assert [row[0] for row in rows] == ARCHS
    about = json.loads(out.with_suffix(".json").read_text())
    scores = [float(row[2]) for row in rows]
    assert about["spearman"] == pytest.approx(spearmanr(scores, miou).statistic, abs=1e-6)
    assert about["kendall"] == pytest.approx(kendalltau(scores, miou).statistic, abs=1e-6)
    assert f"4 measured networks: Spearman {about['spearman']:.3f}" in capsys.readouterr().out

    header, supernet = trained_supernet(run)
    network = supernet.extract(Arch.parse(ARCHS[2]))
    dataset = open_dataset(DATA)
    train = Pictures(dataset.split("train"))
    images = normalised(torch.stack([train[i][0] for i in range(9)]).permute(0, 3, 1, 2).float() / 255)
    recalibrate(network, [images[:8], images[8:]])
    found = judgement(network, Pictures(dataset.split("val")), 11)
    assert (float(rows[2][2]), header.seed) == (pytest.approx(found.miou, abs=1e-3), 0)

    out.write_text("\n".join(text.splitlines()[:2]) + "\nrtseg:mini:cut")  # as after a crash
    assert ended(oneshot.main, monkeypatch, "rank", run, "--table", table, "--out", out) == 0
    again = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert [row[:4] for row in again] == [row[:4] for row in rows]
    assert again[0] == rows[0]
    words = ("rank", run, ARCHS[0], "--out", out)  # without the table its correlations stay
    assert ended(oneshot.main, monkeypatch, *words) == 0
    kept = json.loads(out.with_suffix(".json").read_text())
    correlation = {name: about[name] for name in ("spearman", "kendall", "measured_networks")}
    assert kept["networks"] == 4
    assert kept == kept | correlation
    with monkeypatch.context() as patch:
        patch.setattr(oneshot, "_scored", interrupted)
        assert ended(oneshot.main, monkeypatch, *words) == 130
    assert json.loads(out.with_suffix(".json").read_text()) == kept
    words = ("rank", run, ARCHS[0], "--out", out, "--batches", 1)
    assert ended(oneshot.main, monkeypatch, *words) == 2
    assert "was made with another batches" in capsys.readouterr().err


def test_only_the_calibrating_pictures_are_decoded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, supernet = trained_supernet(run)
    one, decoded, told = Pictures._one, list[int](), list[tuple[str, int, int]]()

    def counted(self: Pictures, i: int) -> tuple[Tensor, Tensor]:
        decoded.append(i)
        return one(self, i)

    dataset = open_dataset("streetscenes:16x24?train=40&val=1")
    monkeypatch.setattr(Pictures, "_one", counted)
    Judge(supernet, header, dataset, "val", 1, report=lambda *line: told.append(line))
    assert len(decoded) <= 1 + 1 + 8  # of val; the first, for the size; one batch
    assert told[-1] == ("decoding pictures", 8, 8)


def test_interrupted_ranking_keeps_what_is_done(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, row, judged = tmp_path / "scores.csv", Judge.row, list[str]()

    def counted(self: Judge, arch: Arch) -> Row:
        judged.append(str(arch))
        if len(judged) == 2:
            raise KeyboardInterrupt
        return row(self, arch)

    monkeypatch.setattr(Judge, "row", counted)
    words = ("rank", run, *ARCHS[:2], "--out", out)
    assert ended(oneshot.main, monkeypatch, *words) == 130
    assert "keeps what is done" in capsys.readouterr().err
    assert ended(oneshot.main, monkeypatch, *words) == 0
    assert judged == [ARCHS[0], ARCHS[1], ARCHS[1]]
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == ARCHS[:2]


def test_wrong_use(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("name\nx\n")
    other = "streetscenes:16x24?train=2&val=1"
    wrong = [
        (("rank", run), "no networks to score"),
        (("rank", run, "rtseg:mini:nonsense"), "expected rtseg:PRESET"),
        (("rank", run, ARCHS[0], "--out", tmp_path / "scores.txt"), "ends in .csv"),
        (("rank", run, ARCHS[0], "--split", "dev", "--out", tmp_path / "s.csv"), "no split 'dev'"),
        (("rank", run, "--table", tmp_path / "bad.csv"), "not a table of networks"),
        (("rank", run, "--table", tmp_path / "none.csv"), "none.csv"),
        (("rank", tmp_path, ARCHS[0]), "no such checkpoint"),
        (("train", "--space", "rtseg:huge", "--out", tmp_path / "no"), "no preset 'huge'"),
        (
            ("train", "--space", "rtseg:mini", "--data", other, "--lr", "-1", "--out", tmp_path / "no"),
            "lr = -1",
        ),
    ]
    for words, told in wrong:
        assert ended(oneshot.main, monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "no").exists()
    assert ended(evaluate.main, monkeypatch, run, "--data", DATA) == 2
    assert "supernet:rtseg:mini" in capsys.readouterr().err


def test_damaged_files_beside_are_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (other / "scores.json").write_text("{")
    (other / "config.json").write_text("{")
    words = ("rank", other, ARCHS[0], "--out", other / "scores.csv")
    for more, name in (((), "config.json"), (("--data", DATA), "scores.json")):
        assert ended(oneshot.main, monkeypatch, *words, *more) == 2
        assert f"{name}: cannot be read" in capsys.readouterr().err


def test_networks_of_another_kind_are_refused(run: Path, tmp_path: Path) -> None:
    header, tensors = read_checkpoint(run)
    write_checkpoint(tmp_path / NAME, replace(header, arch=ARCHS[0]), tensors)
    with pytest.raises(ConfigError, match="holds rtseg:mini:0-S1-0, no supernet"):
        trained_supernet(tmp_path)


def test_what_a_table_tells(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("miou,arch\n40,a\n44,a\n,b\n30,c\n")
    found = read_measured(path)
    assert (found["a"], found["c"]) == (42.0, 30.0)
    assert np.isnan(found["b"])
    rows = [Row(arch, 0, miou, 0.0, 1.0, 1, 1, ()) for arch, miou in (("a", 9.0), ("b", 5.0), ("c", 4.0))]
    report = agreement(rows, found)
    assert report is not None
    assert (report.n_used, report.rho, report.tau_b) == (2, 1.0, 1.0)
    assert agreement(rows[:2], found) is None
    for text, told in (("a,much", "much"), ("a,1\n,2", "without an arch")):
        path.write_text(f"arch,miou\n{text}\n")
        with pytest.raises(ParseError, match=told):
            read_measured(path)
