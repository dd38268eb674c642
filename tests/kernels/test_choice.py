"""Which back end takes least time in all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from proxygraph import kernels
from proxygraph.infix import parse
from proxygraph.kernels import choose_backend
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS
from proxygraph.ops import Op, register, unregister
from proxygraph.program import Program, lower
from proxygraph.score import score
from tests.strategies import random_table

SNIP = lower([parse("sum(sum(abs(w*g)))")])


def test_compiling_pays_for_many_entries_or_many_calls():
    assert choose_backend(SNIP, 100_000) == "reference"
    assert choose_backend(SNIP, 50_000_000) == "fused"
    assert choose_backend(SNIP, 100_000, calls=1000) == "fused"
    assert choose_backend(SNIP, 0, calls=1000) == "reference"


def test_work_on_coarser_axes_does_not_count():
    once_per_layer = lower([parse("sum(log(mean(w)) * exp(mean(w)) + sqrt(mean(w)))")])
    per_entry = lower([parse("sum(mean(log(w) * exp(w) + sqrt(w)))")])
    n = 12_000_000
    assert (choose_backend(once_per_layer, n), choose_backend(per_entry, n)) == ("reference", "fused")


def test_more_formulas_take_longer_to_compile():
    many = lower([parse(f"sum(sum(abs(w*g))) + {k}") for k in range(20)])  # the reference shares their parts
    assert choose_backend(SNIP, 12_000_000) == "fused"
    assert choose_backend(many, 12_000_000) == "reference"


def test_what_cannot_be_compiled_stays_with_the_reference(monkeypatch: pytest.MonkeyPatch):
    register(Op("median", 1, "reduction", lambda np, v, count: np.median(v)))
    try:
        assert choose_backend(lower([parse("sum(median(w))")]), 10**9) == "reference"
    finally:
        unregister("median")
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert choose_backend(SNIP, 10**9) == "reference"


def test_what_numba_does_once_counts_in_a_fresh_process():
    n = next(n for n in range(1_000_000, 10**9, 1_000_000) if choose_backend(SNIP, n) == "fused")
    assert choose_backend(SNIP, n, fresh=True) == "reference"
    assert choose_backend(SNIP, 100 * n, fresh=True) == "fused"


@pytest.mark.parametrize(
    ("backend", "free", "ran"),
    [
        ("auto", False, "reference"),
        ("auto", True, "fused"),
        ("reference", True, "reference"),
        ("fused", False, "fused"),
    ],
)
def test_score_runs_what_takes_less_time(
    backend: str, free: bool, ran: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = random_table(np.random.default_rng(0), {name: STATISTICS[name] for name in ("w", "g")})
    table.save(tmp_path / "stats.safetensors")
    if free:  # as on a table that is so long that compiling does not matter
        for name in ("START_S", "COMPILE_S", "COMPILE_OP_S"):
            monkeypatch.setattr(kernels, name, 0.0)
    made: list[str] = []
    original = kernels.compile_kernel

    def watched(program: Program, name: str) -> kernels.Kernel:
        made.append(name)
        return original(program, name)

    monkeypatch.setattr(kernels, "compile_kernel", watched)
    score("snip", tmp_path / "stats.safetensors", backend, tmp_path / "values.csv")
    assert made == [ran]
    values = [float(line.split(",")[1]) for line in (tmp_path / "values.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(values, ReferenceKernel(SNIP)(table)[0], rtol=1e-9)
