"""Which back end takes least time in all."""

from __future__ import annotations

import pytest

from proxygraph import kernels
from proxygraph.infix import parse
from proxygraph.kernels import choose_backend
from proxygraph.ops import Op, register, unregister
from proxygraph.program import lower

SNIP = lower([parse("sum(sum(abs(w*g)))")])


def test_compiling_pays_for_many_entries_or_many_calls():
    assert choose_backend(SNIP, 100_000) == "reference"
    assert choose_backend(SNIP, 50_000_000) == "fused"
    assert choose_backend(SNIP, 100_000, calls=1000) == "fused"
    assert choose_backend(SNIP, 0, calls=1000) == "reference"


def test_work_on_coarser_axes_does_not_count():
    once_per_layer = lower([parse("sum(log(mean(w)) * exp(mean(w)) + sqrt(mean(w)))")])
    per_entry = lower([parse("sum(mean(log(w) * exp(w) + sqrt(w)))")])
    n = 8_000_000
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
