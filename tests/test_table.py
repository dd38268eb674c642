"""StatTable: invariants, taking, thinning and joining rows, and a file that is whole or refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from proxygraph.errors import ConfigError, ShapeMismatch, UnknownName
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.table import StatTable, tensorfile


@st.composite
def tables(draw: st.DrawFn, prefix: str = "r", axes: tuple[str, ...] | None = None) -> StatTable:
    """Ragged tables: rows without layers, layers without samples, any selection of axes."""
    n = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if axes is None:
        axes = draw(
            st.sampled_from([("element", "activation", "layer"), ("element", "layer"), ("layer",), ()])
        )
    offsets, counts, columns = {}, {}, {"params": rng.random(n)}
    if "layer" in axes:
        offsets["layer"] = np.concatenate([[0], np.cumsum(rng.integers(0, 4, n))])
        columns["numel"] = rng.random(offsets["layer"][-1]).astype(np.float32)
    for axis, leaf in (("element", "w"), ("activation", "a")):
        if axis in axes:
            lengths = rng.integers(0, 6, offsets["layer"][-1])
            offsets[axis] = np.concatenate([[0], np.cumsum(lengths)])
            counts[axis] = lengths * rng.integers(1, 9, len(lengths))
            columns[leaf] = rng.normal(size=lengths.sum()).astype(np.float32)
    if "element" in axes:
        columns["gs"] = rng.random(offsets["element"][-1])
    rows = tuple(f"{prefix}{i}" for i in range(n))
    header = {"seed": 3, "layers": {row: [f"l{i}"] for i, row in enumerate(rows)}}
    return StatTable(rows, columns, {}, offsets, counts, header)


def ragged(table: StatTable) -> list[Any]:
    """Return the table as nested lists: row, layers, samples, true counts."""
    found = []
    for i, row in enumerate(table.rows):
        entry: dict[str, Any] = {"id": row, "params": table.columns["params"][i], "layers": []}
        if "layer" in table.offsets:
            for layer in range(table.offsets["layer"][i], table.offsets["layer"][i + 1]):
                values = {"numel": table.columns["numel"][layer]}
                for name, column in table.columns.items():
                    axis = table.leaves[name].axis
                    if axis in ("element", "activation"):
                        at = table.offsets[axis]
                        values[name] = column[at[layer] : at[layer + 1]].tolist()
                        values[axis] = table.counts[axis][layer]
                entry["layers"].append(values)
        found.append(entry)
    return found


def two_rows(**change: Any) -> StatTable:
    """Two rows, three layers, five elements."""
    parts: dict[str, Any] = {
        "rows": ("a", "b"),
        "columns": {"w": np.arange(5.0, dtype=np.float32), "numel": [7, 8, 9], "params": [15, 9]},
        "leaves": {},
        "offsets": {"layer": [0, 2, 3], "element": [0, 2, 2, 5]},
        "counts": {"element": [7, 8, 9]},
        "header": {"seed": 0},
    }
    return StatTable(**(parts | change))


def test_types_and_leaves() -> None:
    table = two_rows()
    assert table.n_rows == 2
    assert [table.size(axis) for axis in ("row", "layer", "element", "activation")] == [2, 3, 5, 0]
    assert {name: column.dtype.name for name, column in table.columns.items()} == {
        "w": "float32",
        "numel": "float32",
        "params": "float64",
    }
    assert table.leaves["w"] is STATISTICS["w"]
    assert table.counts["layer"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="read-only"):
        table.columns["w"][0] = 1
    with pytest.raises(TypeError):
        table.columns["w"] = np.zeros(5)
    with pytest.raises(AttributeError):
        table.rows = ("c",)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rows": ("a", "a")}, ConfigError, "row id 'a' appears more than once"),
    (
        {"offsets": {"layer": [0, 2, 3], "element": [0, 3, 2, 5]}},
        ShapeMismatch,
        "offsets of 'element'.*rising",
    ),
    (
        {"offsets": {"layer": [0, 2, 3], "element": [0, 2, 5]}},
        ShapeMismatch,
        "offsets of 'element': expected 4",
    ),
    ({"offsets": {"layer": [1, 2, 3], "element": [0, 2, 2, 5]}}, ShapeMismatch, "offsets of 'layer'"),
    ({"offsets": {"element": [0, 2, 2, 5]}}, ShapeMismatch, "none for 'layer'"),
    ({"offsets": {"layer": [0, 2, 3]}}, ShapeMismatch, "counts for"),
    (
        {"offsets": {}, "counts": {}},
        ShapeMismatch,
        "column 'w' is on the element axis, but the table has no offsets",
    ),
    (
        {"offsets": {"layer": [0, 2, 3], "element": [0, 2, 2, 4]}},
        ShapeMismatch,
        r"'w': expected 4 .* got shape \(5,\)",
    ),
    ({"columns": {"w": np.zeros((5, 1)), "params": [1, 2]}}, ShapeMismatch, r"got shape \(5, 1\)"),
    ({"counts": {"element": [1, 8, 9]}}, ShapeMismatch, "counts of 'element'"),
    ({"counts": {"element": [7, 8]}}, ShapeMismatch, "counts of 'element'"),
    (
        {"columns": {"params": [1, -2]}},
        ConfigError,
        r"'params' is declared nonnegative, but its value 1 is -2.0",
    ),
    ({"columns": {"depht": [1, 2]}}, UnknownName, "column 'depht' has no leaf.*known: w, g"),
    ({"leaves": {"params": Leaf("macs", "row")}}, ConfigError, "declared with the leaf 'macs'"),
]


@pytest.mark.parametrize(("change", "error", "text"), REFUSED)
def test_refused_when_made(change: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        two_rows(**change)


def test_not_a_number_is_no_negative_number() -> None:
    assert np.isnan(two_rows(columns={"params": [np.nan, 1.0]}).columns["params"][0])


@given(tables(), st.data())
def test_take(table: StatTable, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(table.n_rows)))[: data.draw(st.integers(0, table.n_rows))]
    taken = table.take(order)
    assert ragged(taken) == [ragged(table)[i] for i in order]
    assert set(taken.header["layers"]) == set(taken.rows)
    assert table.take(range(table.n_rows)).digest == table.digest


@pytest.mark.parametrize(
    ("indices", "text"), [([0, 2], "row 0..2 outside 0..1"), ([-1], "outside"), ([1, 1], "'b'")]
)
def test_take_refuses(indices: list[int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        two_rows().take(indices)


@given(tables(), st.integers(1, 7))
def test_thin(table: StatTable, k: int) -> None:
    expected = ragged(table)
    for entry in expected:
        for layer in entry["layers"]:
            for name in ("w", "gs", "a"):
                if name in layer:
                    layer[name] = layer[name][:k]
    assert ragged(table.thin(k)) == expected
    assert table.thin(k).thin(k).digest == table.thin(k).digest


def test_thin_refuses() -> None:
    with pytest.raises(ConfigError, match="k = 0"):
        two_rows().thin(0)


@given(st.sampled_from([("element", "layer"), ("element", "activation", "layer"), ()]), st.data())
def test_concat(axes: tuple[str, ...], data: st.DataObject) -> None:
    parts = [data.draw(tables(prefix=name, axes=axes)) for name in "xyz"]
    joined = StatTable.concat(parts)
    assert ragged(joined) == [row for part in parts for row in ragged(part)]
    assert joined.header["seed"] == 3
    assert list(joined.header["layers"]) == list(joined.rows)
    start = 0
    for part in parts:
        assert joined.take(range(start, start + part.n_rows)).digest == part.digest
        start += part.n_rows


def test_concat_refuses_and_tells_differences() -> None:
    with pytest.raises(ConfigError, match="no table"):
        StatTable.concat([])
    with pytest.raises(ConfigError, match="differ in numel, params"):
        StatTable.concat([two_rows(), two_rows(rows=("c", "d"), columns={"w": np.zeros(5)})])
    with pytest.raises(ConfigError, match="'a' appears more than once"):
        StatTable.concat([two_rows(), two_rows()])
    joined = StatTable.concat([two_rows(), two_rows(rows=("c", "d"), header={"seed": 1})])
    assert joined.header == {"mixed": {"seed": [0, 1]}}


def test_a_table_of_rows() -> None:
    table = StatTable.from_columns(["p", "q"], {"w": [1, -2], "params": [-1.0, 0], "x": np.float32([1, 2])})
    assert (table.size("layer"), table.offsets, table.counts) == (0, {}, {})
    assert table.leaves["w"] == Leaf("w", "row")  # a name alone promises nothing
    assert [table.columns[name].dtype.name for name in table.columns] == ["float64", "float64", "float32"]
    assert StatTable.from_columns(None, {"x": [5.0, 6.0]}).rows == ("0", "1")
    with pytest.raises(ConfigError, match="'params' is declared nonnegative"):
        StatTable.from_columns(None, {"params": [-1.0]}, leaves=STATISTICS)
    with pytest.raises(ConfigError, match="column 'x': expected numbers in one dimension, got <U1"):
        StatTable.from_columns(None, {"x": ["a"]})
    with pytest.raises(ShapeMismatch, match=r"'y': expected 2 values .* got shape \(1,\)"):
        StatTable.from_columns(None, {"x": [1.0, 2.0], "y": [1.0]})


def test_a_million_rows(tmp_path: Path) -> None:
    table = StatTable.from_columns(None, {"x": np.arange(1e6), "y": np.zeros(10**6, dtype=np.float32)})
    table.save(tmp_path / "t")
    assert StatTable.load(tmp_path / "t").take([999_999]).columns["x"] == [999_999]


# ------------------------------------------------------------------------------------------------- the file


@given(table=tables())
def test_round_trip(table: StatTable, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("t") / "t.safetensors"
    table.save(path)
    found = StatTable.load(path)
    assert found.digest == table.digest
    assert found.header == table.header
    assert found.leaves == table.leaves
    assert list(found.columns) == list(table.columns)
    again = pickle.loads(pickle.dumps(found))
    assert again.digest == table.digest
    with safe_open(path, framework="numpy") as file:  # any reader of safetensors reads it
        for name, column in table.columns.items():
            np.testing.assert_array_equal(file.get_tensor(f"{table.leaves[name].axis}/{name}"), column)


def test_columns_are_mapped_and_aligned(tmp_path: Path) -> None:
    two_rows().save(tmp_path / "t")
    for array in (found := StatTable.load(tmp_path / "t")).columns.values():
        base: Any = array
        while not isinstance(base, np.memmap):
            base = base.base
        assert not array.flags.writeable
        assert array.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        found.columns["w"][0] = 1


def test_digest_is_of_content() -> None:
    assert two_rows().digest == two_rows(header={"seed": 9}).digest == two_rows().digest
    changed = [
        two_rows(rows=("a", "c")),
        two_rows(offsets={"layer": [0, 1, 3], "element": [0, 2, 2, 5]}),
        two_rows(counts={"element": [8, 8, 9]}),
        two_rows(columns={"w": np.arange(5.0), "numel": [7, 8, 9], "params": [15, 9]}),
        two_rows(columns={"g": np.arange(5.0, dtype=np.float32), "numel": [7, 8, 9], "params": [15, 9]}),
    ]
    assert len({table.digest for table in [two_rows(), *changed]}) == 1 + len(changed)


def rewritten(path: Path, metadata: dict[str, Any] | None = None, drop: str = "", **tensors: Any) -> Path:
    """Save the table of two rows with something changed behind its back."""
    two_rows().save(path)
    with safe_open(path, framework="numpy") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
        old = file.metadata()
    save_file(kept | tensors, path, metadata=old | (metadata or {}))
    return path


def truncated(path: Path, keep: int) -> Path:
    two_rows().save(path)
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    return path


def foreign(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


LEAF = {"name": "w", "axis": "element", "sign": "any", "meaning": "", "source": "", "cost": "static"}
BROKEN: list[tuple[Callable[[Path], Path], str]] = [
    (lambda p: p, "cannot read .*: No such file"),
    (lambda p: p.parent, "cannot read"),
    (lambda p: truncated(p, -4), "is truncated"),
    (lambda p: truncated(p, 30), "is not a safetensors file"),
    (lambda p: truncated(p, 0), "is not a safetensors file"),
    (lambda p: foreign(p, b"x,y\n1,2\n" * 9), "is not a safetensors file"),
    (lambda p: foreign(p, b"\xff" * 8), "is not a safetensors file"),
    (lambda p: foreign(p, (2).to_bytes(8, "little") + b"{}"), "no proxygraph.stattable"),
    (lambda p: rewritten(p, {"format": "pt"}), "no proxygraph.stattable"),
    (
        lambda p: rewritten(p, {"version": "2"}),
        "written by version 2, this proxygraph reads version 1: collect again",
    ),
    (lambda p: rewritten(p, drop="offsets/element"), "offsets of .'element'. are missing"),
    (lambda p: rewritten(p, drop="counts/element"), "counts of .'element'. are missing"),
    (lambda p: rewritten(p, drop="element/w"), "column 'w' is missing"),
    (lambda p: rewritten(p, **{"element/w": np.zeros(4, np.float32)}), "'w': expected 5 values"),
    (lambda p: rewritten(p, **{"element/w": np.zeros((5, 1), np.float32)}), "column 'w' is missing"),
    (lambda p: rewritten(p, **{"element/w": np.zeros(5, np.float16)}), "column 'w' is missing"),
    (lambda p: rewritten(p, **{"offsets/layer": np.array([0, 9, 3])}), "offsets of 'layer'"),
    (
        lambda p: rewritten(p, **{"offsets/layer": np.array([0.0, 2.0, 3.0])}),
        "offsets of 'layer' are float64",
    ),
    (lambda p: rewritten(p, **{"layer/numel": np.float32([7, -8, 9])}), "declared nonnegative"),
    (lambda p: rewritten(p, **{"row/odd": np.zeros(2)}), "tensor 'row/odd' is no declared column"),
    (lambda p: rewritten(p, {"rows": "[1, 2]"}), "the ids are not a list of texts"),
    (lambda p: rewritten(p, {"rows": '["a"]'}), "offsets of 'layer'"),
    (lambda p: rewritten(p, {"rows": "("}), "contradicts itself"),
    (lambda p: rewritten(p, {"header": "[1]"}), "the header is no JSON object"),
    (lambda p: rewritten(p, {"leaves": json.dumps([LEAF])}), "a leaf has the fields"),
    (lambda p: rewritten(p, {"leaves": "{}"}), "contradicts itself"),
    (
        lambda p: rewritten(
            p, {"leaves": json.dumps([LEAF | {"labels": False, "latex": "w", "axis": "row"}])}
        ),
        "no declared column",
    ),
    (
        lambda p: rewritten(
            p, {"leaves": json.dumps([LEAF | {"labels": False, "latex": "w", "sign": "odd"}])}
        ),
        "sign is 'odd'",
    ),
]


@pytest.mark.parametrize(("make", "text"), BROKEN)
def test_broken_files_are_refused_in_one_line(
    make: Callable[[Path], Path], text: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "t.safetensors")
    with pytest.raises(ConfigError, match=text) as caught:
        StatTable.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("check the path", "collect again"))


@given(data=st.data())
def test_no_damage_gives_anything_but_a_table_or_a_clear_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "t"
    two_rows().save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(ConfigError):
        StatTable.load(path)


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t"
    two_rows().save(path)
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorfile.os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot write .*: No space left on device; free some space"):
        two_rows(rows=("c", "d")).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "t", tmp_path / "file" / "t", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot write .*; choose a folder that exists"):
            two_rows().save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tensorfile.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        two_rows().save(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_file_has_ordinary_permissions(tmp_path: Path) -> None:
    two_rows().save(tmp_path / "t")
    (tmp_path / "u").write_text("")
    assert os.stat(tmp_path / "t").st_mode == os.stat(tmp_path / "u").st_mode


def test_a_header_that_is_no_json(tmp_path: Path) -> None:
    for header in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(ConfigError, match="header cannot be written as JSON"):
            two_rows(header=header).save(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_tables_need_no_torch() -> None:
    code = "import sys, proxygraph.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (
        subprocess.run(
            [sys.executable, "-c", "import sys; sys.modules['torch'] = None; " + code], check=False
        ).returncode
        == 1
    )
