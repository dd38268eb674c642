"""Problems: tables in every state of repair, splits, and what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph import problem as problem_module
from proxygraph.errors import ConfigError, ShapeMismatch, UnknownName
from proxygraph.problem import Problem, load_problem, table_problem
from proxygraph.table import StatTable


def quiet(what: str, done: int, total: int) -> None: ...


def make(n: int = 20, groups: list[str] | None = None, target: np.ndarray | None = None) -> Problem:
    rng = np.random.default_rng(0)
    table = StatTable.from_columns([f"r{i}" for i in range(n)], {"x": rng.normal(size=n)})
    y = rng.normal(size=n) if target is None else target
    return Problem("p", table, y, "miou", tuple(groups or [f"g{i}" for i in range(n)]))


def csv_file(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def rows(n: int = 12) -> str:
    return "".join(f"{i},{i * i},{10 - i}\n" for i in range(n))


# ---- the value -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_targets_must_be_finite(bad: float):
    target = np.arange(20.0)
    target[[4, 7]] = bad
    with pytest.raises(
        ConfigError, match=r"problem 'p': target 'miou' is (nan|inf|-inf) on row 'r4' and 1 others"
    ):
        make(target=target)


def test_a_constant_target_is_refused():
    with pytest.raises(ConfigError, match=r"target 'miou' is 3.0 on every row; there is nothing to rank"):
        make(target=np.full(20, 3.0))


def test_too_few_rows():
    with pytest.raises(ConfigError, match="problem 'p': 9 rows; at least 10 are needed"):
        make(9)
    assert make(10).table.n_rows == 10


def test_lengths_must_agree():
    with pytest.raises(ShapeMismatch, match="problem 'p': 20 rows, 19 targets, 20 groups"):
        make(target=np.arange(19.0))
    with pytest.raises(ShapeMismatch, match="problem 'p': 20 rows, 20 targets, 3 groups"):
        make(groups=["a", "b", "c"])


# ---- splits ----------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(12, 60), st.data())
def test_a_split_takes_every_row_once_and_keeps_groups_whole(seed: int, n: int, data):
    groups = [f"g{data.draw(st.integers(0, n // 2))}" for _ in range(n)]
    problem = make(n, groups)
    try:
        split = problem.split(seed)
    except ConfigError:
        assert len(set(groups)) < n  # only rows that belong together can make it impossible
        return
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part in parts:
        assert len(part) >= 2
        assert (np.diff(part) > 0).all()
    of = [{groups[i] for i in part} for part in parts]
    assert not of[0] & of[1]
    assert not of[0] & of[2]
    assert not of[1] & of[2]


@given(st.integers(0, 10_000), st.integers(10, 300))
def test_sizes(seed: int, n: int):
    problem = make(n)
    split = problem.split(seed)
    assert [len(split.train), len(split.validation)] == [n // 2, n // 4]
    split = problem.split(seed, 5)
    assert len(split.train) == 5
    assert len(split.validation) == min(5, (n - 5) // 2)


def test_n_train_sets_validation_too():
    split = make(1000).split(0, 100)
    assert [len(split.train), len(split.validation), len(split.test)] == [100, 100, 800]
    split = make(1000).split(0, 900)
    assert [len(split.train), len(split.validation), len(split.test)] == [900, 50, 50]


def test_n_validation_leaves_train_as_it_is():
    few, default = make(1000).split(0, 70, 30), make(1000).split(0, 70)
    assert [len(few.train), len(few.validation), len(few.test)] == [70, 30, 900]
    np.testing.assert_array_equal(few.train, default.train)
    assert set(few.validation) < set(default.validation)
    assert len(make(100).split(0, None, 10).validation) == 10
    with pytest.raises(ConfigError, match=r"70 for training and 929 for validation.* --validation"):
        make(1000).split(0, 70, 929)


def test_the_seed_decides():
    problem = make(100)
    np.testing.assert_array_equal(problem.split(3).train, problem.split(3).train)
    assert not np.array_equal(problem.split(3).train, problem.split(4).train)


def test_the_order_of_the_rows_does_not_decide():
    # the same networks in another order fall on the same sides
    problem = make(50)
    order = np.random.default_rng(1).permutation(50)
    groups = tuple(problem.groups[i] for i in order)
    other = Problem("p", problem.table.take(order), problem.target[order], "miou", groups)
    mine = {problem.groups[i] for i in problem.split(7).train}
    assert mine == {groups[i] for i in other.split(7).train}


@pytest.mark.parametrize("n_train", [0, 4, 17, 18, 19, 20, 21, 1000, -5])
def test_impossible_splits(n_train: int):
    with pytest.raises(
        ConfigError, match=rf"cannot split 20 rows into {n_train} for training .* --train between 5 and 16"
    ):
        make(20).split(0, n_train)


def test_one_large_group():
    with pytest.raises(ConfigError, match="its 2 groups of equal rows cannot be split in three"):
        make(20, ["a"] * 19 + ["b"]).split(0)


# ---- saved problems --------------------------------------------------------------------------------------


def test_save_and_load(tmp_path: Path):
    problem = make(20, [f"g{i % 7}" for i in range(20)])
    problem.save(tmp_path / "p.safetensors")
    back = Problem.load(tmp_path / "p.safetensors")
    assert (back.name, back.target_name, back.groups, back.objective) == (
        "p",
        "miou",
        problem.groups,
        "spearman",
    )
    np.testing.assert_array_equal(back.target, problem.target)
    assert back.table.digest == problem.table.digest
    again = load_problem(str(tmp_path / "p.safetensors"), None, quiet)
    np.testing.assert_array_equal(again.split(1).train, problem.split(1).train)


def test_a_table_is_no_problem(tmp_path: Path):
    make().table.save(tmp_path / "t.safetensors")
    with pytest.raises(ConfigError, match=r"t.safetensors: a table of statistics, but not a saved problem"):
        Problem.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    "extra", [{}, {"name": "p"}, 3, {"name": 1, "target": "x", "target_name": 2, "groups": 3}]
)
def test_a_damaged_problem(tmp_path: Path, extra):
    table = make().table
    damaged = StatTable(table.rows, table.columns, table.leaves, {}, {}, {"problem": extra})
    damaged.save(tmp_path / "t.safetensors")
    with pytest.raises(ConfigError, match="not a saved problem"):
        Problem.load(tmp_path / "t.safetensors")


def test_a_truncated_problem(tmp_path: Path):
    make().save(tmp_path / "p.safetensors")
    whole = (tmp_path / "p.safetensors").read_bytes()
    for n in (0, 7, 100, len(whole) - 1):
        (tmp_path / "p.safetensors").write_bytes(whole[:n])
        with pytest.raises(ConfigError, match=r"p\.safetensors"):
            Problem.load(tmp_path / "p.safetensors")


# ---- tables ----------------------------------------------------------------------------------------------


def test_a_csv(tmp_path: Path):
    problem = table_problem(csv_file(tmp_path, "x,y,z\n" + rows()), "y")
    assert (problem.name, problem.target_name, problem.objective) == ("t", "y", "r2")
    assert list(problem.table.columns) == ["x", "z"]
    np.testing.assert_array_equal(problem.target, np.arange(12.0) ** 2)
    assert problem.table.columns["x"].dtype == np.float64
    assert problem.table.rows[3] == "3"
    assert all(leaf.axis == "row" and leaf.sign == "any" for leaf in problem.table.leaves.values())


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffx,y,z\n" + rows(),
        " x , y ,z\n" + rows(),
        "x,y,z\r\n" + rows().replace("\n", "\r\n"),
        "\n\nx,y,z\n\n" + rows().replace("\n", "\n\n"),
        '"x","y","z"\n' + rows().replace(",", '","').replace("\n", '"\n').replace('","', '","'),
        "x,y,z\n" + rows().rstrip(),
        "x,y,z\n" + rows().replace(",", " , "),
    ],
    ids=["BOM", "spaces in the header", "CRLF", "blank lines", "quotes", "no last newline", "spaces"],
)
def test_csv_dialects(tmp_path: Path, text: str):
    if text.startswith('"'):
        text = '"x","y","z"\n' + "".join(f'"{i}","{i * i}","{10 - i}"\n' for i in range(12))
    problem = table_problem(csv_file(tmp_path, text), "y")
    assert list(problem.table.columns) == ["x", "z"]
    np.testing.assert_array_equal(problem.table.columns["z"], 10 - np.arange(12.0))


@pytest.mark.parametrize("ids", ["names", "numbers"])
def test_a_column_of_ids(tmp_path: Path, ids: str):
    text = "id,x,y\n" + "".join(f"{'net' * (ids == 'names')}{i + 7},{i},{i % 5}\n" for i in range(12))
    problem = table_problem(csv_file(tmp_path, text), "y")
    assert problem.table.rows[:2] == (("net7", "net8") if ids == "names" else ("7", "8"))
    assert list(problem.table.columns) == ["x"]


@pytest.mark.parametrize("cell", ["", " ", "nan", "inf"])
def test_cells_without_a_number_are_refused(tmp_path: Path, cell: str):
    text = "x,y\n" + "".join(f"{cell if i == 3 else i},{i}\n" for i in range(12))
    with pytest.raises(
        ConfigError, match=r"column 'x' is empty or not finite on 1 row\(s\), first on data row 4"
    ):
        table_problem(csv_file(tmp_path, text), "y")


def test_ids_are_text(tmp_path: Path):
    text = "id,x,y\n" + "".join(f"00{9007199254740993 + i},{i % 5},{i}\n" for i in range(12))
    assert table_problem(csv_file(tmp_path, text), "y").table.rows[0] == "009007199254740993"


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "y", "t.csv: empty file"),
        ("\n\n", "y", "t.csv: empty file"),
        ("x,y\n", "y", "0 rows; at least 10 are needed"),
        ("x,y\n1,2\n", "y", "1 rows; at least 10 are needed"),
        ("x,y,z\n" + rows(9), "y", "9 rows; at least 10 are needed"),
        ("x,y,z\n" + rows(), None, "say which column to predict with --target; columns: x, y, z"),
        ("x,y,z\n" + rows(), "miou", "no column 'miou'; columns: x, y, z"),
        ("x;y;z\n" + rows().replace(",", ";"), "y", "no column 'y'; columns: x;y;z"),
        ("x,y,x\n" + rows(), "y", "column 'x' occurs more than once"),
        ("x,y, x\n" + rows(), "y", "column 'x' occurs more than once"),
        (",y,z\n" + rows(), "y", "column 1 is called ''; give it a name"),
        ("x,y,a`b\n" + rows(), "y", "column 3 is called 'a`b'"),
        ('x,y,"a\nb"\n' + rows(), "y", r"column 3 is called 'a\\nb'"),
        ("x,y,z\n" + rows() + "1,2\n", "y", "line 14 has 2 cells, the header has 3"),
        ("x,y,z\n\n" + rows(3) + "1,2,3,4\n", "y", "line 6 has 4 cells, the header has 3"),
        ("x,y\n" + rows(), "y", "line 2 has 3 cells, the header has 2"),
        ("x,y,z\n" + rows() + "1,red,3\n", "x", "column 'y' is not numeric: 'red' on data row 13"),
        ("x,y,z\n" + rows() + "1,,3\n", "y", "target 'y' is nan on row '12' and 0 others"),
        ("x,y,z\n" + rows() + "1,nan,3\n", "y", "target 'y' is nan on row '12'"),
        ("x,y,z\n" + rows() + "1,1e999,3\n", "y", "target 'y' is inf on row '12'"),
        ("x,y\n" + "1,2\n" * 12, "y", "target 'y' is 2.0 on every row"),
        ("y\n" + "".join(f"{i}\n" for i in range(12)), "y", "no columns beside the target 'y'"),
        ("id,y\n" + "".join(f"{i},{i}\n" for i in range(12)), "y", "no columns beside the target 'y'"),
        ("id,x,y\n" + "".join(f"{i % 6},{i},{i}\n" for i in range(12)), "y", "id '0' occurs more than once"),
        (
            "id,x,y\n" + "".join(f"n{i % 6},{i},{i}\n" for i in range(12)),
            "y",
            "id 'n0' occurs more than once",
        ),
        ("id,x,y\n" + rows(), "id", "the column 'id' names the rows and cannot be the target"),
    ],
)
def test_bad_csvs(tmp_path: Path, text: str, target: str | None, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        table_problem(csv_file(tmp_path, text), target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00x", b"x,y\n\xe9,1\n", b"x,y\n1,\x002\n", bytes(range(256)) * 40]
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"t\.csv"):
        table_problem(tmp_path / "t.csv", "y")


def test_no_such_file(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no\.csv: no such file"):
        table_problem(tmp_path / "no.csv", "y")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.csv: no such file"):
        load_problem(str(tmp_path / "folder.csv"), "y", quiet)


def test_many_columns_are_not_all_listed(tmp_path: Path):
    names = [f"c{i}" for i in range(50)]
    with pytest.raises(ConfigError, match=r"columns: c0, .*, c19 and 30 more$"):
        table_problem(csv_file(tmp_path, ",".join(names) + "\n"), "y")


def test_a_large_csv(tmp_path: Path):
    data = np.random.default_rng(0).normal(size=(100_000, 4))
    path = tmp_path / "large.csv"
    np.savetxt(path, data, delimiter=",", header="a,b,c,y", comments="", fmt="%.17g")
    problem = table_problem(path, "y")
    np.testing.assert_array_equal(problem.target, data[:, 3])
    np.testing.assert_array_equal(problem.table.columns["b"], data[:, 1])
    assert len(problem.split(0).train) == 50_000


def test_repeated_ids_of_a_large_table_are_found(tmp_path: Path):
    # quadratic counting would take minutes
    ids = [f"n{i}" for i in range(100_000)] + ["n99999"]
    path = csv_file(tmp_path, "id,x,y\n" + "".join(f"{name},{i},{i}\n" for i, name in enumerate(ids)))
    with pytest.raises(ConfigError, match="id 'n99999' occurs more than once"):
        table_problem(path, "y")


def test_parquet(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"id": [f"n{i}" for i in range(12)], "x": range(12), "y": np.arange(12) / 3.0})
    frame.to_parquet(tmp_path / "t.parquet")
    problem = load_problem(str(tmp_path / "t.parquet"), "y", quiet)
    np.testing.assert_array_equal(problem.target, np.arange(12) / 3.0)
    assert problem.table.rows[:2] == ("n0", "n1")
    np.testing.assert_array_equal(problem.table.columns["x"], np.arange(12.0))
    frame.loc[2, "x"] = None
    frame.to_parquet(tmp_path / "gap.parquet")
    with pytest.raises(ConfigError, match="first on data row 3"):
        load_problem(str(tmp_path / "gap.parquet"), "y", quiet)


def test_bad_parquets(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ConfigError, match=r"t\.parquet: cannot be read as parquet"):
        table_problem(tmp_path / "t.parquet", "y")
    frame = pandas.DataFrame({"when": pandas.date_range("2020", periods=12), "y": range(12)})
    frame.to_parquet(tmp_path / "d.parquet")
    with pytest.raises(ConfigError, match=r"d\.parquet: column 'when' is not numeric"):
        table_problem(tmp_path / "d.parquet", "y")


# ---- names -----------------------------------------------------------------------------------------------


def test_unknown_problems():
    with pytest.raises(
        UnknownName, match=r"no problem named 'cityscape'; give one of .*streetscenes.*, or a .csv"
    ):
        load_problem("cityscape", None, quiet)


class FakePoint:
    def __init__(self, name: str, result: object) -> None:
        self.name = name
        self.result = result

    def load(self):
        def loader(argument: str, *, report: object) -> object:
            self.called = argument
            return self.result

        return loader


def test_registered_problems(monkeypatch: pytest.MonkeyPatch):
    mine = make()
    points = [FakePoint("mine", mine), FakePoint("broken", 3)]
    monkeypatch.setattr(problem_module, "entry_points", lambda group: points)
    assert load_problem("mine", None, quiet) is mine
    assert load_problem("mine:some/file.csv", None, quiet) is mine
    assert points[0].called == "some/file.csv"
    with pytest.raises(ConfigError, match="--target goes with a table; problem 'mine' has its own target"):
        load_problem("mine", "y", quiet)
    with pytest.raises(ConfigError, match="the loader of problem 'broken' returned int, not a Problem"):
        load_problem("broken", None, quiet)


def test_a_file_whose_name_has_a_colon(tmp_path: Path):
    path = csv_file(tmp_path, "x,y,z\n" + rows(), name="a:b.csv")
    assert load_problem(str(path), "y", quiet).name == "a:b"


def test_one_large_group_goes_to_the_test_rows():
    groups = [f"g{i}" for i in range(170)] + ["dead"] * 30
    for seed in range(20):
        split = make(200, groups).split(seed, 60)
        assert set(range(170, 200)) <= set(split.test.tolist())
        assert len(split.train) == 60


def test_large_groups_everywhere_are_still_split():
    split = make(60, [f"g{i % 6}" for i in range(60)]).split(0)
    assert min(len(split.train), len(split.validation), len(split.test)) >= 2
