"""The commands on a runtime whose time is made up: files, exit codes, a clear line for every mistake."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segspace.latency import __main__ as commands
from segspace.latency import build as building
from segspace.latency import load, runtimes
from segspace.latency.__main__ import main
from segspace.latency.table import LatencyTable
from segspace.report.measured import read_measured
from segspace.rtseg.arch import Arch
from segspace.rtseg.space import Space
from segspace.search.results import read_results
from tests.report.making_study import candidates, make_study
from tests.segspace.latency_fakes import QUIET, FakeRuntime, FakeTime

ARCHS = ["rtseg:tiny:0-S1-0", "rtseg:tiny:0-C1-0"]
SMALL = ["--size", "24x32", "--classes", "3"]


def drawn(space: Space, n: int, size: object, classes: int, seed: int) -> list[Arch]:
    """Small networks, not chosen by cost: counting it takes seconds."""
    rng = np.random.default_rng(seed)
    archs: dict[Arch, None] = {}
    while len(archs) < n:
        arch = space.diverse(rng)
        if arch.n_layers < 5:
            archs[arch] = None
    return list(archs)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    time = FakeTime()
    monkeypatch.setattr(FakeRuntime, "time", time)
    monkeypatch.setattr(building, "reference_kernel", time.reference_kernel)
    monkeypatch.setattr(load, "machine_load", lambda: QUIET)
    monkeypatch.setattr(
        building.add_pieces, "__kwdefaults__", {**building.add_pieces.__kwdefaults__, "load": lambda: QUIET}
    )
    monkeypatch.setattr(
        building.add_networks,
        "__kwdefaults__",
        {**building.add_networks.__kwdefaults__, "load": lambda: QUIET},
    )
    monkeypatch.setattr(commands, "draw", drawn)
    monkeypatch.setitem(runtimes.RUNTIMES, "fake", FakeRuntime)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latency", *words])
        with pytest.raises(SystemExit) as end:
            main()
        done = capsys.readouterr()
        return int(end.value.code or 0), done.out, done.err

    return run


def build(call: Call, *more: str) -> None:
    code, _, error = call("build", *more, "--runtime", "fake", "--rounds", "2", "--networks", "4", *SMALL)
    assert (code, error) == (0, "")


def test_build_predict_check(call: Call, tmp_path: Path) -> None:
    build(call, *ARCHS)
    table = LatencyTable.load("latency.json")
    assert len(table.networks) == 4
    before = set(table.pieces)
    code, out, error = call("predict", ARCHS[0], *SMALL)
    assert (code, error) == (0, "")
    ms = float(out.split()[0])
    shares = [float(line.split()[0]) for line in out.splitlines()[1:-1]]
    assert ms > 0
    assert sum(shares) == pytest.approx(100, abs=0.5)

    other = "rtseg:tiny:y4y3-I2-c0"
    code, _, error = call("predict", other, *SMALL)
    assert code == 2
    assert "the table has no" in error
    code, out, _ = call("predict", other, *SMALL, "--measure-missing", "--raw")
    assert code == 0
    assert set(LatencyTable.load("latency.json").pieces) > before

    code, out, error = call(
        "check", ARCHS[0], other, *SMALL, "--rounds", "2", "--json", "report.json", "--plot", "report.png"
    )
    assert (code, error) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["archs"] == [ARCHS[0], other]
    assert all(one["mape"] < 1 for one in report["agreement"])
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_build_says_what_its_table_is_good_for(call: Call) -> None:
    words = ("build", ARCHS[0], "--runtime", "fake", "--rounds", "2", *SMALL)
    for more, hints in (
        (["--networks", "0"], []),
        (["--networks", "4"], ["test it on other networks", "search with it"]),
        (["--networks", "0"], ["test it on other networks", "search with it"]),  # calibrated before
        (["--networks", "4", "--batch", "2", "--table", "two.json"], ["test it on other networks"]),
    ):
        code, out, error = call(*words, *more)
        assert (code, error) == (0, "")
        assert [line.partition(":")[0] for line in out.splitlines() if "python -m" in line] == hints


def test_drawn_networks_are_unseen(call: Call) -> None:
    build(call, *ARCHS)
    code, out, error = call(
        "check", *SMALL, "--rounds", "2", "--networks", "6", "--seed", "0", "--measure-missing"
    )
    assert (code, error) == (0, "")
    assert "6 unseen networks" in out


def test_the_front_of_a_search_is_measured_in_its_setting(call: Call, tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", candidates(8))
    result = json.loads((study / "result.json").read_text())
    result["latency"]["setting"]["runtime"] = "fake"
    (study / "result.json").write_text(json.dumps(result))
    code, out, error = call("measure", "bisenetv2:0.25", "--study", "s", "--rounds", "2")
    assert (code, error) == (0, "")
    assert out.splitlines()[-1] == "see it: python -m segspace.report s"
    results = read_results(study)
    found = read_measured(study / "measured.json", results)
    assert list(found.records) == [*(one.arch for one in results.front), "bisenetv2:0.25"]
    assert found.setting.runtime == "fake"
    assert all(record.n == 2 for record in found.records.values())
    # made-up time: 1 ns per multiply-accumulate and something per layer
    for one in results.front:
        assert one.macs * 1e-6 < found.records[one.arch].p10 < one.macs * 1e-6 + 1

    for words, complaint in (
        (["--runtime", "onnxruntime"], "its runtime is fake, not onnxruntime; leave --runtime away"),
        (["--runtime", "eager"], "its runtime is fake, not eager"),  # what is usual, but was asked for
        (["--size", "24x32"], "its size is (64, 96), not (24, 32)"),
        (["--size", "120x160"], "its size is (64, 96), not (120, 160)"),
    ):
        code, _, error = call("measure", "--study", "s", *words)
        assert code == 2
        assert complaint in error
    del result["latency"]
    (study / "result.json").write_text(json.dumps(result))
    for words, complaint in ((["--study", "s"], "older version"), ([], "no networks to measure")):
        code, _, error = call("measure", *words)
        assert code == 2
        assert complaint in error


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["predict", ARCHS[0]], "no such table"),
        (["predict", "rtseg:tiny:nonsense"], "expected rtseg:PRESET"),
        (["build", "--size", "12"], "HEIGHTxWIDTH"),
        (["build", "--runtime", "abacus"], "abacus: there are eager"),
        (["build", "--space", "rtseg:huge"], "huge"),
        (["check", "--statistic", "mode"], "mode: there are median"),
    ],
)
def test_wrong_use(call: Call, words: list[str], complaint: str) -> None:
    code, _, error = call(*words)
    assert code == 2
    assert complaint in error
    assert len(error.strip().splitlines()) == 1
