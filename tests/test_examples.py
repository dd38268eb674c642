"""The examples run as they are: small here, whole in the slow tests."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxygraph.leaves import MEASURES, unregister_leaf
from tests.segspace.latency_fakes import made_up_table

FOLDER = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run an example in this process, in a folder of its own; return what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)

    def running(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield running
    for name in list(MEASURES):
        unregister_leaf(name)


def test_a_zoo_is_scored(run: Run, tmp_path: Path) -> None:
    said = run("score_zoo", "--networks", 10, "--steps", 1, "--no-discover", "--save", "zoo.safetensors")
    lines = re.findall(r"^  (\w+) +([+-]\d\.\d{3})$", said, re.MULTILINE)
    assert [name for name, _ in lines][:3] == ["found", "params", "macs"]
    assert (tmp_path / "zoo.safetensors").stat().st_size > 10_000


def test_a_table_is_regressed(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rows = [f"{a},{b},{a * b}" for a in range(1, 9) for b in range(1, 6)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,area", *rows]))
    said = run("regress_table", "--csv", "t.csv", "--target", "area", "--generations", 3)
    assert "chosen    a * b" in said
    assert "R² on 10 rows that it has not seen: 1.00000" in said


def test_leaves_of_ones_own(run: Run) -> None:
    said = run("own_leaf", "--networks", 6, "--steps", 1, "--seconds", 0.2)
    assert re.search(r"^  sum\(stretch\) +[+-]\d", said, re.MULTILINE)
    formula = said.strip().splitlines()[-1].rpartition(": ")[2]
    assert re.search(r"stretch|shut|loss0|macs|numel", formula)


def test_a_segmenter_is_searched_and_trained(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its commands run in this process: starting four would take most of the time."""
    table = made_up_table((16, 24))
    table.save(tmp_path / "latency.json")
    from segspace.latency import build as building
    from segspace.rtseg.pieces import Piece

    # drawing all pieces of the space takes seconds
    monkeypatch.setattr(building, "pieces_of", lambda *_: [Piece.parse(text) for text in table.pieces])
    called: list[str] = []

    def inside(command: list[str], **_: Any) -> SimpleNamespace:
        _, _, module, *words = command
        called.append(module)
        home = importlib.import_module(module)
        main = home if hasattr(home, "main") else importlib.import_module(f"{module}.__main__")
        monkeypatch.setattr(sys, "argv", [module, *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        assert not end.value.code
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", inside)
    small = ("--size", "16x24", "--data", "streetscenes:16x24?train=8&val=4", "--trials", 2, "--epochs", 1)
    said = run("search_segmenter", *small, "--table", "latency.json", "--out", "all", "--no-onnx")
    assert called == ["segspace.search", "segspace.train", "segspace.evaluate"]
    assert "mIoU" in said
    assert (tmp_path / "all" / "trained" / "result.json").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_does(name: str, run: Run) -> None:
    with pytest.raises(SystemExit) as end:
        run(name, "--help")
    assert not end.value.code
    about = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    assert about is not None
    assert f"python examples/{name}.py" in about
    assert f"[{name}.py]({name}.py)" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("score_zoo", ["--seconds", "5"], "Spearman on the other"),
        ("regress_table", [], "simple    orbit / sqrt(star_mass / orbit)"),
        ("search_segmenter", [], "time it here"),
        ("own_leaf", [], "best of stretch"),
        ("dask_cluster", [], "Spearman 0.99"),
    ],
)
def test_an_example_as_it_is(name: str, words: list[str], said: str, tmp_path: Path) -> None:
    for package in {"regress_table": ["pandas"], "dask_cluster": ["distributed"]}.get(name, ["onnxscript"]):
        pytest.importorskip(package)
    command = [sys.executable, str(FOLDER / f"{name}.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout + done.stderr


def test_all_are_run() -> None:
    assert NAMES == ["dask_cluster", "own_leaf", "regress_table", "score_zoo", "search_segmenter"]
