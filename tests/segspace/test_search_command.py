"""The command on small pictures and a table of made-up latencies: files, going on, mistakes."""

import csv
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxygraph.dag import Dag
from proxygraph.infix import parse
from proxygraph.kernels import compile_kernel
from proxygraph.program import lower
from proxygraph.stats import collect
from proxygraph.zoo import ZOO
from segspace.batches import scenes
from segspace.latency import __main__ as latency
from segspace.latency import build as building
from segspace.latency.table import LatencyTable
from segspace.losses import segmentation_loss
from segspace.models import build
from segspace.rtseg.arch import Arch
from segspace.rtseg.pieces import Piece
from segspace.rtseg.program import program
from segspace.search.__main__ import main
from segspace.search.results import read_results
from segspace.search.scoring import BATCHES, Scorer, needs_pictures
from segspace.search.space import Segmenters
from tests.segspace.latency_fakes import made_up_table

SIZE, TEXT = (16, 24), "16x24"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return made_up_table(SIZE)


@pytest.fixture
def call(
    table: LatencyTable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Call:
    monkeypatch.chdir(tmp_path)
    table.save("latency-eager.json")
    # drawing all pieces of the space takes seconds
    monkeypatch.setattr(building, "pieces_of", lambda *_: [Piece.parse(text) for text in table.pieces])

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["search", *words])
        with pytest.raises(SystemExit) as end:
            main()
        done = capsys.readouterr()
        return int(end.value.code or 0), done.out, done.err

    return run


def searched(call: Call, *more: str, proxy: str = "snip") -> tuple[int, str, str]:
    return call("--proxy", proxy, "--max-latency-ms", "1.5", "--size", TEXT, "--population", "4", *more)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_and_going_on(call: Call, table: LatencyTable, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "search"
    code, said, error = searched(call, "--trials", "8")
    assert (code, error) == (0, "")
    first = rows(out / "candidates.csv")
    assert len(first) == 8

    code, said, error = searched(call, "--trials", "12")
    assert (code, error) == (0, "")
    assert "going on from 8 candidates" in said
    found, best = rows(out / "candidates.csv"), rows(out / "front.csv")
    assert found[:8] == first
    result = json.loads((out / "result.json").read_text())
    assert result["counts"]["candidates"] == len(found) == 12
    assert len({row["arch"] for row in found}) == 12
    assert all(float(row["latency_ms"]) <= 1.5 for row in found)

    costs, scores = ([float(row[k]) for row in best] for k in ("latency_ms", "score"))
    assert costs == sorted(set(costs))
    assert scores == sorted(set(scores))
    for row in found:  # nothing beats the front
        cheaper = [s for c, s in zip(costs, scores, strict=True) if c <= float(row["latency_ms"])]
        assert max(cheaper) >= float(row["score"])
    chosen = result["chosen"]
    assert (chosen["arch"], chosen["score"]) == (best[-1]["arch"], scores[-1])
    assert chosen["score"] == max(float(row["score"]) for row in found)
    assert said.splitlines()[-1] == (
        f"train it: python -m segspace.train {chosen['arch']} --size {TEXT} --out runs/found"
    )
    assert (out / "front.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / "front.svg").read_bytes()

    results = read_results(out)
    assert [(one.arch, one.score) for one in results.candidates] == [
        (row["arch"], float(row["score"])) for row in found
    ]
    assert results.chosen is not None
    assert results.chosen.arch == results.front[-1].arch == chosen["arch"]
    assert (results.setting, results.budget) == (table.setting, 1.5)
    for one in results.front:
        shares = results.shares[one.arch]
        assert [share.key for share in shares] == [
            step.piece.text() for step in program(Arch.parse(one.arch), SIZE, 11).steps
        ]
        line = table.calibration(SIZE, 11)
        predicted = line.slope * sum(share.ms for share in shares) + line.offset
        assert predicted == pytest.approx(one.cost, rel=1e-4)
    assert said.splitlines()[-2] == "see it: python -m segspace.report runs/search"

    # by hand what the search says of the chosen network
    arch = chosen["arch"]
    data = collect(build(arch, 11, seed=0), scenes(BATCHES, SIZE), segmentation_loss)
    (values,) = compile_kernel(lower([ZOO["snip"].dag]), "reference")(data)
    assert chosen["score"] == pytest.approx(float(values[0]), rel=1e-6)
    assert chosen["latency_ms"] == pytest.approx(table.predict(Arch.parse(arch), SIZE, 11))
    steps = program(Arch.parse(arch), SIZE, 11)
    assert (chosen["macs"], chosen["params"]) == (steps.macs, steps.params)

    code, _, error = searched(call, "--trials", "12", proxy="params")
    assert code == 2
    assert "was made with another pictures, proxy" in error


def test_an_exhausted_search_says_so(
    call: Call, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = min(table.measured(SIZE, 11), key=lambda arch: table.predict(arch, SIZE, 11))
    monkeypatch.setattr(Segmenters, "sample", lambda *_: str(fast))
    monkeypatch.setattr(Segmenters, "mutate", lambda *_: str(fast))
    code, said, error = searched(call, "--trials", "3", proxy="params")
    assert (code, error) == (0, "")
    assert "1 of 3 candidates: none of 600 more networks" in said


def test_ctrl_c_leaves_a_result(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain, calls = Scorer.__call__, list[str]()

    def interrupted(self: Scorer, arch: str) -> float:
        calls.append(arch)
        if len(calls) == 4:  # the first one is the check of the proxy
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, arch)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "__call__", interrupted)
        code, said, _ = searched(call, "--trials", "6", proxy="params")
    assert code == 130
    assert "the same command goes on" in said
    result = json.loads((tmp_path / "runs/search/result.json").read_text())
    assert (result["counts"]["candidates"], result["ended"]) == (3, "stopped by Ctrl-C")
    code, said, _ = searched(call, "--trials", "6", proxy="params")
    assert code == 0
    assert [row["arch"] for row in rows(tmp_path / "runs/search/candidates.csv")][:3] == calls[1:]


def test_missing_pieces_are_measured_first(
    call: Call, monkeypatch: pytest.MonkeyPatch, table: LatencyTable
) -> None:
    asked: list[dict[str, object]] = []

    def measured(path: Path, **options: object) -> None:
        asked.append({"table": path, **options})
        table.save(path)

    monkeypatch.setattr(latency, "built", measured)
    code, said, error = searched(
        call, "--trials", "2", "--table", "other.json", "--busy-ok", "--time-budget", "60", proxy="macs"
    )
    assert (code, error) == (0, "")
    n = len(table.pieces)
    assert f"other.json: {n} of {n} pieces of the space are not measured for eager" in said
    expected = {"runtime": "eager", "space": "rtseg:tiny", "size": TEXT, "classes": 11, "busy_ok": True}
    assert asked == [{"table": Path("other.json"), **expected}]


def test_nothing_is_measured_for_a_search_that_is_refused(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert searched(call, "--trials", "2", proxy="params")[0] == 0
    (tmp_path / "latency-eager.json").unlink()

    def measured(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(latency, "built", measured)
    for more, proxy, complaint in (
        ([], "macs", "was made with another proxy"),
        (["--runtime", "compile"], "params", "was made with another latency"),
        (["--out", "new"], "latency_ms", "measured on a device"),
    ):
        code, _, error = searched(call, *more, proxy=proxy)
        assert code == 2
        assert complaint in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--space", "transnas101"], "expected rtseg:PRESET"),
        (["--space", "rtseg:huge"], "no preset 'huge'"),
        (["--sampler", "tpe"], "there are nsga2, evolution, random"),
        (["--max-latency-ms", "0"], "expected a number above 0"),
        (["--max-latency-ms", "0.001"], "none of 400 networks"),
        (["--size", "16"], "expected HEIGHTxWIDTH"),
        (["--runtime", "tpu"], "--runtime tpu"),
        (["--storage", "somewhere"], "expected sqlite:///FILE"),
        (["--data", "streetscenes:16x24?train=20", "--classes", "3"], "has 11 classes"),
        (["--classes", "3"], "the drawn street scenes have 11 classes"),
        (["--data", "streetscenes:16x24?train=2"], "12 are needed"),
        (["--proxy", "3 + 4"], "constant"),
        (["--proxy", "latency_ms"], "measured on a device"),
        (["--proxy", "snipp"], "hand-made proxies: snip"),
        (["--proxy", "runs/x"], "or the folder of a run"),
    ],
)
def test_wrong_use(call: Call, words: list[str], message: str) -> None:
    code, _, error = call(
        *("--proxy", "params", "--size", TEXT, "--trials", "2", "--max-latency-ms", "1.5"), *words
    )
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_two_processes_on_pictures_of_a_data_set(call: Call, tmp_path: Path) -> None:
    data = "streetscenes:16x24?train=14&val=2"
    words = ("--trials", "16", "--processes", "2", "--data", data, "--storage", f"sqlite:///{tmp_path}/s.db")
    code, said, error = searched(call, *words, proxy="nwot")
    assert (code, error) == (0, "")
    found = rows(tmp_path / "runs/search/candidates.csv")
    assert 16 <= len(found) == len({row["arch"] for row in found}) <= 17
    command = said.splitlines()[-1].removeprefix("train it: ")
    assert shlex.split(command)[4:] == ["--data", data, "--size", TEXT, "--out", "runs/found"]
    assert f"--data '{data}'" in command  # a shell takes ? and & for its own


@pytest.mark.parametrize("name", ZOO)
def test_every_hand_made_proxy(name: str) -> None:
    """Only its leaves are collected, and the value is that of all of them collected."""
    arch, batches = "rtseg:tiny:c0-C0-0", scenes((3, 2), SIZE)
    dag: Dag = ZOO[name].dag
    scorer = Scorer(dag, lambda text: build(text, 11, seed=2), batches, segmentation_loss)
    assert scorer.leaves == sorted(dag.leaves)
    data = collect(build(arch, 11, seed=2), batches, segmentation_loss, leaves=sorted(dag.leaves))
    (values,) = compile_kernel(lower([dag]), "reference")(data)
    assert scorer(arch) == float(values[0])


def test_formulas_of_shapes_need_one_small_batch() -> None:
    shapes = parse("sum(log(macs) * hw / depth + w_logdet) + params + sum(sum(abs(w)))")
    assert not needs_pictures(shapes)
    assert needs_pictures(parse("sum(nwot) + params"))
    network, batches = build("rtseg:tiny:c0-C0-0", 11, seed=2), scenes((8, 4), SIZE)
    scorer = Scorer(ZOO["macs"].dag, lambda _: network, batches, segmentation_loss)
    data = collect(network, batches, segmentation_loss, leaves=["macs_total"])
    assert scorer("x") == float(data.columns["macs_total"][0])
