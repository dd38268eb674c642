"""Lanes: every sample in its place, and reductions of ragged layers equal to the reference's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from proxygraph.infix import parse
from proxygraph.kernels import population
from proxygraph.kernels.lanes import lanes_of
from proxygraph.kernels.population import Population
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.ops import OPS
from proxygraph.program import lower
from proxygraph.table import StatTable

REDUCTIONS = [name for name, op in OPS.items() if op.kind == "reduction"]
LENGTHS: dict[str, list[int]] = {
    "all alike": [16] * 40,
    "one sample": [1] * 9,
    "ragged": [16, 16, 3, 16, 1, 0, 15, 16, 2, 16, 7, 16, 16, 5, 0, 16, 4, 64, 9] * 2,
    "none": [0, 0, 0],
    "one long": [1000, 2, 3],
}
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -3e38]


def table_of(lengths: list[int], dtype: Any, special: bool, seed: int = 0) -> StatTable:
    """One layer per row, so that every layer is seen; the true number of entries is larger."""
    rng, n = np.random.default_rng(seed), len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])

    def values(kind: Any) -> Any:
        drawn = rng.normal(3.0, 1.0, offsets[-1])
        if special:  # in some of the layers only
            at = rng.random(len(drawn)) < 0.03
            drawn[at] = rng.choice(SPECIAL, at.sum())
        return drawn.astype(kind)

    true = np.array(lengths) * 3.5
    return StatTable(
        tuple(f"n{i}" for i in range(n)),
        {"w": values(dtype), "a": values(dtype), "numel": rng.uniform(size=n), "params": rng.uniform(size=n)},
        {},
        {"layer": np.arange(n + 1), "element": offsets, "activation": offsets},
        {"layer": np.ones(n), "element": true, "activation": true},
        {},
    )


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_has_its_place(seed: int):
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, [2, 5, 40][seed % 3], 30)
    if seed % 4 == 0:
        samples[:] = 7
    starts = np.unique(np.concatenate([[0, 30], rng.integers(0, 30, 4)]))
    offsets = np.concatenate([[0], np.cumsum(samples)])
    counts = rng.uniform(1, 2, 30)
    lanes, places = lanes_of(offsets, counts, starts)
    np.testing.assert_array_equal(np.sort(places), np.arange(offsets[-1]))
    for b, (first, end) in enumerate(pairwise(starts)):
        at, seen = offsets[first], {}
        width = lanes.width[lanes.first[b] : lanes.first[b + 1]]
        assert (np.diff(width) <= 0).all()
        for k, n in enumerate(width):
            for g in range(n):
                seen[first + lanes.layer[first + g], k] = at + g
            at += n
        assert at == offsets[end]  # no entry leaves its block
        for layer in range(first, end):
            for k in range(samples[layer]):
                assert places[offsets[layer] + k] == seen[layer, k]
    order = lanes.layer + np.repeat(starts[:-1], np.diff(starts))
    np.testing.assert_array_equal(lanes.samples, samples[order])
    np.testing.assert_array_equal(lanes.count, counts[order])


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [False, True])
def test_reductions_and_repetitions_are_the_reference(
    lengths: str, dtype: Any, special: bool, monkeypatch: pytest.MonkeyPatch
):
    table = table_of(LENGTHS[lengths], dtype, special)
    texts = [f"sum({op}({leaf}))" for op in REDUCTIONS for leaf in ("w", "a")]
    texts += [f"sum({op}(w * numel))" for op in REDUCTIONS]
    texts += [f"sum({op}(a + params))" for op in REDUCTIONS]
    texts += ["sum(l1(w - mean(w)))", "sum(max(maximum(a, numel)))"]
    dags = [parse(text) for text in texts]
    expected = ReferenceKernel(lower(dags))(table)
    near = {np.float64: {"rtol": 1e-11, "atol": 1e-13}, np.float32: {"rtol": 2e-5, "atol": 2e-5}}[dtype]
    for n_bytes in (8, 200, 8192):  # blocks of one row, of some, of all
        monkeypatch.setattr(population, "BLOCK_BYTES", n_bytes)
        got = Population(table)(dags)
        for text, values, wanted in zip(texts, got, expected, strict=True):
            far = np.abs(wanted) > 1e30  # float32 has overflowed, or nearly
            np.testing.assert_allclose(values[~far], wanted[~far], **near, err_msg=text)


def test_sums_that_overflow_are_infinite_or_nothing_as_in_the_reference():
    rows = [[1e200, -1e200, 3e200], [1.7e308, -1.7e308, 1.0], [2.0, 2.0, 2.0], [1.7e308, 1.7e308, 1.0]]
    table = table_of([3] * len(rows), np.float64, special=False)
    columns = {**table.columns, "w": np.concatenate(rows)}
    table = StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})
    dags = [parse(f"sum({op}(w))") for op in REDUCTIONS]
    expected = np.array(ReferenceKernel(lower(dags))(table))
    deviation = expected[REDUCTIONS.index("std")]
    np.testing.assert_array_equal(deviation[:3], [np.inf, np.nan, 0.0])
    far = ~(np.abs(expected) < 1e300)
    assert far.any(axis=0).tolist() == [True, True, False, True]
    got = np.array(Population(table)(dags))
    np.testing.assert_array_equal(got[far], expected[far])
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("first", [1e6, -3e4, 1.0])
def test_the_deviation_does_not_hang_on_the_first_sample(first: float):
    """Squares are taken around it: as an outlier it must not cancel the others' deviations away."""
    rng = np.random.default_rng(1)
    table = table_of([64] * 5, np.float64, special=False)
    values = rng.normal(size=320) * 1e-6
    values[::64] = first
    columns = {**table.columns, "w": values}
    table = StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})
    dags = [parse("sum(std(w))")]
    np.testing.assert_allclose(Population(table)(dags), ReferenceKernel(lower(dags))(table), rtol=1e-13)
