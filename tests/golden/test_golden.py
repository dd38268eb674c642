"""Generated texts are as they were; after a wanted change run `make golden` and read the diff."""

from __future__ import annotations

import pytest

from tools.make_golden import FOLDER, FOUND, GOLDEN, found


@pytest.mark.parametrize("name", GOLDEN)
def test_text_is_unchanged(name: str):
    path = FOLDER / name
    assert path.is_file(), f"{name} is missing: run `make golden`"
    assert GOLDEN[name]() == path.read_text(encoding="utf-8"), f"{name} changed: if wanted, run `make golden`"


def test_no_file_is_left_over():
    assert {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"} == set(GOLDEN)


def test_exports_in_the_docs_are_those_of_the_zoo():
    assert found()
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOUND.glob("*.*")}
    assert kept == found(), "if wanted, run `make golden`"
