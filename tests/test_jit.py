"""Machine code on disk: never met by other sources, and never in the way."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from proxygraph import cache, jit

ROOT = Path(jit.__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder and sources of our own; the digest is computed anew."""
    sources = tmp_path / "sources"
    for name in ("jit.py", "ops.py", "search.py", "kernels/a.py", "compact/b.py", "kernels/deep/c.py"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text(f"# {name}\n")
    monkeypatch.setattr(jit, "_SOURCES", sources)
    monkeypatch.setenv("PROXYGRAPH_CACHE", str(tmp_path / "cache"))
    forget()
    yield sources
    forget()


def forget() -> None:
    """Let the next question be answered anew, as in another process."""
    for function in (jit.code_folder, jit.is_writable):
        function.cache_clear()


def named() -> Path:
    forget()
    return jit.code_folder()


# ---- the folder ------------------------------------------------------------------------------------------


def test_the_cache_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROXYGRAPH_CACHE", "/here")
    assert cache.cache_folder() == Path("/here")
    monkeypatch.delenv("PROXYGRAPH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache.cache_folder() == Path("/there/proxygraph")
    monkeypatch.setenv("PROXYGRAPH_CACHE", "")
    assert cache.cache_folder() == Path("/there/proxygraph")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "proxygraph"


@pytest.mark.parametrize("name", ["jit.py", "ops.py", "kernels/a.py", "compact/b.py"])
def test_another_source_is_another_folder(folder: Path, name: str):
    before = named()
    assert named() == before
    assert before.parent == cache.cache_folder()
    (folder / name).write_text("# changed\n")
    changed = named()
    assert changed != before
    (folder / name).rename(folder / name.replace(".py", "_renamed.py"))
    assert named() not in (before, changed)


def test_a_new_source_is_another_folder(folder: Path):
    before = named()
    (folder / "compact" / "new.py").write_text("")
    assert named() != before


def test_sources_that_are_not_compiled_do_not_matter(folder: Path):
    before = named()
    (folder / "search.py").write_text("# changed\n")
    assert named() == before


def test_every_compiled_source_is_in_the_digest():
    package = Path(jit.__file__).parent
    covered = {path for pattern in jit._PATTERNS for path in package.glob(pattern)}
    users = {path for path in package.rglob("*.py") if "\n@jit(" in path.read_text()}
    assert users
    assert users <= covered


@pytest.mark.parametrize("what", ["numba", "numpy", "processor"])
def test_another_version_or_processor_is_another_folder(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch
):
    from llvmlite import binding

    before = named()
    if what == "processor":
        monkeypatch.setattr(binding, "get_host_cpu_name", lambda: "z80")
    else:
        monkeypatch.setattr(getattr(jit, {"numba": "numba", "numpy": "np"}[what]), "__version__", "0.0")
    assert named() != before


def test_cold_until_something_is_there(folder: Path):
    named()
    assert jit.is_cold()

    @jit.jit()
    def same(x):
        return x

    assert jit.is_cold()  # declared is not compiled
    assert same(1) == 1
    assert not jit.is_cold()


# ---- compiling -------------------------------------------------------------------------------------------


def test_code_is_kept_in_the_folder_and_the_setting_is_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "/elsewhere")
    named()

    @jit.jit()
    def twice(x):
        return 2 * x

    assert numba.config.CACHE_DIR == "/elsewhere"
    assert not list(jit.code_folder().rglob("*.nbi"))
    assert twice(21) == 42
    assert list(jit.code_folder().rglob("*twice*.nbi"))
    assert list(jit.code_folder().rglob("*twice*.nbc"))
    assert not list(Path(__file__).parent.rglob("*twice*.nb[ci]"))


def test_options_are_passed_on_and_division_is_ieee(folder: Path):
    named()

    @jit.jit(fastmath={"nnan"})
    def over(x, y):
        return x / y

    assert over.targetoptions["fastmath"] == {"nnan"}
    assert over.targetoptions["nogil"]
    assert over(1.0, 0.0) == float("inf")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_where_nothing_can_be_written_it_still_compiles(
    folder: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROXYGRAPH_CACHE", str(tmp_path / place))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "/elsewhere")
    named()

    @jit.jit()
    def thrice(x):
        return 3 * x

    assert thrice(14) == 42
    assert numba.config.CACHE_DIR == "/elsewhere"
    # numba would go on to __pycache__, where it cannot tell that code is stale
    assert not list(Path(__file__).parent.rglob("*thrice*.nb[ci]"))
    assert (tmp_path / "file").read_text() == ""


def test_another_process_does_not_compile_again(tmp_path: Path):
    program = (
        "from proxygraph.compact.keys import KeySet, _add_all; import numpy as np\n"
        "keys = np.array([3, 4, 3], np.uint64)\n"
        "print(KeySet().add(keys, np.ones(3, np.int32)).tolist(), sum(_add_all.stats.cache_hits.values()))"
    )
    environment = {**os.environ, "PROXYGRAPH_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def output() -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert output().split("]")[1].strip() == "0"
    assert output() == "[True, True, False] 1\n"


def test_compiled_callers_get_a_part_without_machine_code_and_python_gets_the_whole(folder: Path):
    @jit.jit()
    def _inner(x):
        return 2 * x

    @jit.jit()
    def _outer(x):
        total = 0 * x
        for _ in range(3):
            total += _inner(x)
        return total

    assert _outer(2.0) == 12.0
    assert not _inner.overloads
    assert [argument.name for (argument,) in _inner._part.overloads] == ["float64"]
    assert _inner(3.0) == 6.0
    assert len(_inner.overloads) == 1
    with pytest.raises(TypeError, match=r"_inner: this part .* cannot be called from Python"):
        _inner._part(3.0)


def test_a_part_may_raise(folder: Path):
    @jit.jit()
    def refuse(x):
        if x < 0:
            raise ValueError("negative")
        return x

    @jit.jit()
    def use(x):
        return refuse(x) + 1

    assert use(1) == 2
    with pytest.raises(ValueError, match="negative"):
        use(-1)


def test_processes_that_write_at_once_do_not_take_each_others_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    named()

    def both(x):
        return x + x

    first, second = jit.jit()(both), jit.jit()(both)
    results = []
    with monkeypatch.context() as unkept:
        unkept.setattr(jit._Cache, "save_overload", lambda *_: None)
        for function, value in ((first, 1), (second, 0.5)):
            function(value)
            results += function.overloads.values()
    reading = IndexDataCacheFile._load_index

    def slowly(self):
        found = reading(self)
        time.sleep(0.3)  # long enough for the other one to read the index too
        return found

    monkeypatch.setattr(IndexDataCacheFile, "_load_index", slowly)
    writers = [
        threading.Thread(target=function._cache.save_overload, args=(result.signature.args, result))
        for function, result in zip((first, second), results, strict=True)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(jit.code_folder().rglob("*both*.nbc"))) == 2
    again = jit.jit()(both)
    assert (again(1), again(0.5)) == (2, 1.0)
    assert sum(again.stats.cache_hits.values()) == 2


def test_garbage_is_collected_again_afterwards():
    assert gc.isenabled()
    with jit.in_one_go():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with jit.in_one_go():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_numba_is_loaded_without_scipy_and_scipy_can_be_loaded_later():
    program = (
        "import sys; from proxygraph.jit import load_without_blas; load_without_blas()\n"
        "from proxygraph.kernels.sorting import _bits; print(_bits(5), 'scipy.linalg' in sys.modules)\n"
        "import scipy.linalg; print(scipy.linalg.norm([1.0, 1.0, 1.0, 1.0]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "False", "2.0"]


# ---- tidying up ------------------------------------------------------------------------------------------


def test_only_old_code_is_forgotten(folder: Path):
    here = named()
    base = here.parent
    old, lately = time.time() - 31 * 86400, time.time() - 29 * 86400
    for name, used in (
        (here.name, old),
        ("machine-code-0123456789abcdef", old),
        ("machine-code-of-another-checkout", lately),
        ("statistics", old),
    ):
        (base / name / "inside").mkdir(parents=True)
        (base / name / "inside" / "file").write_text("x")
        os.utime(base / name, (used, used))
    left = sorted([here.name, "machine-code-of-another-checkout", "statistics"])
    for _ in range(2):
        jit.forget_old_code()
        assert sorted(path.name for path in base.iterdir()) == left
        assert (here / "inside" / "file").is_file()


def test_code_in_use_counts_as_used_today(folder: Path):
    here = named()
    here.mkdir(parents=True)
    os.utime(here, (0, 0))
    assert jit.is_writable()
    assert time.time() - here.stat().st_mtime < 86400


def test_there_may_be_nothing_to_forget(folder: Path):
    named()
    jit.forget_old_code()
    assert not cache.cache_folder().exists()
