"""What benchmarks share: the commands that are timed, rows that a part of a benchmark leaves as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import loop, start
from benchmarks.common import Row, environment, write, written

ROOT = Path(start.__file__).parent.parent


def test_every_command_is_timed() -> None:
    files = [path for name in ("proxygraph", "segspace") for path in (ROOT / name).rglob("*.py")]
    guarded = [p for p in files if '\nif __name__ == "__main__":' in p.read_text(encoding="utf-8")]
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for p in guarded}
    assert names == set(start.COMMANDS)


def test_rows_of_another_machine_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    rows: list[Row] = [{"engine": "a"}]
    assert written(None) == written(path) == []
    write(path, "some", rows, 2)
    assert written(path, 2) == rows
    assert written(path, 1) == []
    other = {"name": "some", "environment": environment(2) | {"cpu": "abacus"}, "rows": rows}
    path.write_text(json.dumps(other))
    assert written(path, 2) == []


@pytest.mark.parametrize("only", [None, "rows", "networks"])
def test_a_part_alone_leaves_the_rows_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: str | None
) -> None:
    path = tmp_path / "loop.json"

    def part(problem: str, n_rows: int, engine: str) -> list[Row]:
        return [{"engine": engine, "problem": problem, "n_rows": n_rows}]

    before = part("500 rows", 500, "old") + part("networks", 200, "old")
    write(path, "loop", before, loop.THREADS)
    monkeypatch.setattr(loop, "on_rows", lambda quick: part("500 rows", 500, "fresh"))
    monkeypatch.setattr(loop, "on_networks", lambda quick: part("networks", 200, "fresh"))
    alone = ["--only", only] if only else []
    monkeypatch.setattr(sys, "argv", ["loop.py", "--json", str(path), *alone])
    loop.main()
    engines = ["fresh" if only in (None, name) else "old" for name in ("rows", "networks")]
    found = json.loads(path.read_text())["rows"]
    assert [(row["problem"], row["engine"]) for row in found] == list(
        zip(("500 rows", "networks"), engines, strict=True)
    )
