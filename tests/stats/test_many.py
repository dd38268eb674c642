"""Many networks: one table, whoever collects it and however often it was interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from proxygraph.errors import ConfigError
from proxygraph.stats import collect, collect_many
from proxygraph.table import StatTable
from tests.stats.networks import labels, plain

CE = F.cross_entropy
NETWORKS = [
    (f"net {seed}/{width}", partial(plain, width, seed)) for seed, width in [(1, 4), (2, 6), (3, 4), (4, 8)]
]


@pytest.fixture(scope="module")
def whole() -> StatTable:
    return collect_many(NETWORKS, labels(), CE, samples=20)


class Inline(Executor):
    """Runs at once, answers in reverse order of submission."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_rows_are_what_collect_gives(whole: StatTable) -> None:
    assert whole.rows == tuple(row for row, _ in NETWORKS)
    for i, (row, build) in enumerate(NETWORKS):
        assert whole.take([i]).digest == collect(build(), labels(), CE, row=row, samples=20).digest
    assert whole.header["layers"]["net 2/6"] == ["a", "b", "fc"]
    assert "mixed" not in whole.header


def test_with_an_executor(whole: StatTable, tmp_path: Path) -> None:
    ready: list[tuple[int, str]] = []
    progress = lambda n, row: ready.append((n, row))  # noqa: E731
    for cache in (None, tmp_path):
        table = collect_many(
            NETWORKS, labels(), CE, samples=20, executor=Inline(), cache=cache, progress=progress
        )
        assert table.digest == whole.digest
        assert table.header == whole.header
    assert sorted(n for n, _ in ready) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_interrupted_and_resumed(whole: StatTable, tmp_path: Path) -> None:
    built: list[str] = []

    def build(row: str, make: Any) -> nn.Module:
        if row == "net 3/4" and len(built) == 2:
            raise KeyboardInterrupt
        built.append(row)
        return make()

    networks = [(row, partial(build, row, make)) for row, make in NETWORKS]
    with pytest.raises(KeyboardInterrupt):
        collect_many(networks, labels(), CE, samples=20, cache=tmp_path)
    assert built == ["net 1/4", "net 2/6"]
    built.append("again")
    table = collect_many(networks, labels(), CE, samples=20, cache=tmp_path)
    assert built[3:] == ["net 3/4", "net 4/8"]
    assert table.digest == whole.digest
    assert table.header == whole.header
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]


def test_other_settings_are_another_cache(tmp_path: Path) -> None:
    for change in ({}, {"seed": 1}, {"samples": 3}, {"leaves": ["w"]}, {"backbone": "a"}):
        collect_many(NETWORKS[:1], labels(), CE, cache=tmp_path, **change)
    collect_many(NETWORKS[:1], labels(3), CE, cache=tmp_path)
    collect_many(NETWORKS[:1], labels(), nn.CrossEntropyLoss(), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 7
    collect_many(NETWORKS[:1], labels(), CE, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 7


def test_a_failing_network_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    for bad, text in (
        (nn.ReLU, "'bad': no convolution"),
        (lambda: 1 / 0, "'bad' cannot be built: ZeroDivisionError"),
    ):
        for executor in (None, Inline()):
            networks = [*NETWORKS[:2], ("bad", bad), NETWORKS[2]]
            with pytest.raises(ConfigError, match=f"network {text}"):
                collect_many(networks, labels(), CE, cache=tmp_path, executor=executor)
    assert len(list(tmp_path.rglob("*.safetensors"))) >= 2


def test_no_row_is_started_for_a_broken_part(tmp_path: Path) -> None:
    collect_many(NETWORKS, labels(), CE, cache=tmp_path)
    part = sorted(tmp_path.rglob("*.safetensors"))[0]
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(ConfigError, match="is truncated"):
        collect_many(NETWORKS, labels(), CE, cache=tmp_path)


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no networks"):
        collect_many([], labels(), CE)
    with pytest.raises(ConfigError, match="'net 1/4' appears more than once"):
        collect_many([NETWORKS[0], *NETWORKS], labels(), CE)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot make .*choose another cache"):
        collect_many(NETWORKS, labels(), CE, cache=tmp_path / "file")


def exits(code: int) -> nn.Module:
    os._exit(code)


@pytest.fixture
def pool() -> Iterator[Executor]:
    start = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), **start) as executor:
        yield executor


@pytest.mark.slow
def test_processes_and_a_lost_worker(pool: Executor, whole: StatTable, tmp_path: Path) -> None:
    assert collect_many(NETWORKS, labels(), CE, samples=20, executor=pool).digest == whole.digest
    with pytest.raises(ConfigError, match=r"a worker died while collecting .*dies"):
        collect_many([NETWORKS[0], ("dies", partial(exits, 1))], labels(), CE, executor=pool, cache=tmp_path)
    assert threading.active_count() < 20
