"""The folder of a run: whole files or none, and no mixing of runs."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
from pathlib import Path

import pytest

from proxygraph.errors import ConfigError, StorageError
from proxygraph.run import FREE_ON_RESUME, RunFolder, csv_text, environment

CONFIG = {
    "problem": "p",
    "seed": 3,
    "objective": "spearman",
    "time_budget": 60,
    "threads": 2,
    "n_train": None,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG, resume=False)


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def fill_disk(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Make the disk refuse at one step of writing a file."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open

    def open_full(path: Path, mode: str = "r", **kwargs: object):
        file = opened(path, mode, **kwargs)
        if mode != "r":
            file.write("half a li")
            file.close()
            refuse()
        return file

    if step == "write":
        monkeypatch.setattr(Path, "open", open_full)
    else:
        monkeypatch.setattr(os, step, refuse)


# ---- writing ---------------------------------------------------------------------------------------------


def test_write_and_read(folder: RunFolder):
    folder.write("result.json", json.dumps({"a": "ü"}))
    assert folder.read("result.json") == {"a": "ü"}
    folder.write("result.json", json.dumps({"a": 2}))
    assert folder.read("result.json") == {"a": 2}
    assert names(folder) == ["config.json", "result.json"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, step: str
):
    folder.write("result.json", '{"old": 1}')
    with monkeypatch.context() as patched:
        fill_disk(patched, step)
        with pytest.raises(
            StorageError, match=r"result\.json: cannot be written: No space left on device; make room"
        ):
            folder.write("result.json", '{"new": 2}')
        with pytest.raises(StorageError):
            folder.write("formula.tex", "x")
    assert folder.read("result.json") == {"old": 1}
    assert names(folder) == ["config.json", "result.json"]


def test_the_file_is_on_disk_before_it_gets_its_name(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b))[1])
    folder.write("x.txt", "content")
    assert steps == ["fsync", "replace"]


def test_a_read_only_folder(folder: RunFolder):
    folder.path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        if os.access(folder.path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(StorageError, match="cannot be written: Permission denied"):
            folder.write("x.txt", "content")
    finally:
        folder.path.chmod(stat.S_IRWXU)


def test_lines_are_appended(folder: RunFolder):
    for i in range(3):
        folder.append("journal.jsonl", {"generation": i})
    lines = (folder.path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["generation"] for line in lines] == [0, 1, 2]


def test_a_line_is_appended_whole_or_not_at_all(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    folder.append("journal.jsonl", {"generation": 1})
    before = (folder.path / "journal.jsonl").read_bytes()
    with monkeypatch.context() as patched:
        fill_disk(patched, "write")
        with pytest.raises(StorageError, match=r"journal\.jsonl: cannot be written: No space left on device"):
            folder.append("journal.jsonl", {"generation": 2})
    assert (folder.path / "journal.jsonl").read_bytes() == before


# ---- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no result.json; is this the folder of a finished run"),
        (b"", r"result\.json: cannot be read"),
        (b'{"a": 1', r"result\.json: cannot be read"),
        (b"\xff\xfe", r"result\.json: cannot be read"),
        (b"[1, 2]", r"result\.json: damaged, expected a JSON object"),
    ],
)
def test_files_that_cannot_be_read(folder: RunFolder, content: bytes | None, message: str):
    if content is not None:
        (folder.path / "result.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        folder.read("result.json")


# ---- starting and resuming -------------------------------------------------------------------------------


def test_a_new_run_makes_its_folder(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "a" / "b", CONFIG, resume=False)
    assert folder.read("config.json") == CONFIG
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", CONFIG, resume=False).read("config.json") == CONFIG


def test_a_folder_holds_one_run(folder: RunFolder):
    with pytest.raises(
        ConfigError, match="holds a run already; continue it with --resume or choose another --out"
    ):
        RunFolder.create(folder.path, CONFIG, resume=False)


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError, match=r"cannot make this folder: .*; choose another --out"):
            RunFolder.create(path, CONFIG, resume=False)
    assert (tmp_path / "file").read_text() == "x"


def test_nothing_to_resume(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nothing to resume, there is no config\.json"):
        RunFolder.create(tmp_path, CONFIG, resume=True)
    assert list(tmp_path.iterdir()) == []


def test_resume_with_the_same_settings(folder: RunFolder):
    changed = CONFIG | {"time_budget": 1, "threads": 9, "generations": 4, "evaluations": 9, "enough": 0.9}
    changed |= {"stagnation": 3, "checkpoint_seconds": 1.0}
    assert set(changed) - set(CONFIG) | {"time_budget", "threads"} == FREE_ON_RESUME
    assert RunFolder.create(folder.path, changed, resume=True).read("config.json") == CONFIG


def test_resume_of_a_run_older_than_a_setting(folder: RunFolder):
    RunFolder.create(folder.path, CONFIG | {"also": [], "validation": None}, resume=True)
    with pytest.raises(ConfigError, match=r"--resume with another also: it was \[\], now \['q'\]"):
        RunFolder.create(folder.path, CONFIG | {"also": ["q"]}, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "--resume with another seed: it was 3, now 4; use the same settings or another --out"),
        ({"problem": "q"}, "--resume with another problem: it was 'p', now 'q'"),
        ({"n_train": 7}, "--resume with another n_train: it was None, now 7"),
        ({"new_setting": 1}, "--resume with another new_setting: it was None, now 1"),
    ],
)
def test_resume_with_other_settings_is_refused_by_name(folder: RunFolder, change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        RunFolder.create(folder.path, CONFIG | change, resume=True)
    assert folder.read("config.json") == CONFIG


def test_resume_of_a_damaged_folder(folder: RunFolder):
    (folder.path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        RunFolder.create(folder.path, CONFIG, resume=True)


@pytest.mark.parametrize(
    ("journal", "kept"),
    [
        ('{"generation": 1}\n{"generation": 2}\n{"generation": 3}\n', [1, 2]),
        ('{"generation": 1}\n{"generation": 2}\n{"gener', [1, 2]),
        ('{"generation": 1}\n{"gener\n{"generation": 2}\n', [1]),
        ('{"generation": 1}\n[]\n', [1]),
        ('{"generation": 1}\n\x00\x00\ufffd', [1]),
        ("", []),
    ],
)
def test_the_journal_is_trimmed_to_the_checkpoint(folder: RunFolder, journal: str, kept: list[int]):
    (folder.path / "journal.jsonl").write_text(journal, encoding="utf-8")
    folder.trim_journal(2)
    lines = (folder.path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["generation"] for line in lines] == kept


def test_a_journal_of_garbage_and_none_at_all(folder: RunFolder):
    folder.trim_journal(2)
    assert names(folder) == ["config.json"]
    (folder.path / "journal.jsonl").write_bytes(b'{"generation": 1}\n\xff\xff\xff')
    folder.trim_journal(2)
    assert (folder.path / "journal.jsonl").read_bytes() == b'{"generation": 1}\n'


# ---- what is told ----------------------------------------------------------------------------------------


def test_csv_text():
    rows = [{"size": 3, "formula": 'max(a, "b")'}, {"size": 4, "formula": "x,\ny"}]
    assert csv_text(rows).startswith("size,formula\n")
    assert [dict(row) for row in csv.DictReader(io.StringIO(csv_text(rows)))] == [
        {key: str(value) for key, value in row.items()} for row in rows
    ]
    assert csv_text([]) == ""


def test_environment():
    told = environment(2)
    assert set(told) == {"python", "packages", "cpu", "threads"}
    assert told["packages"]["numpy"]
    assert told["cpu"]
    json.dumps(told)
