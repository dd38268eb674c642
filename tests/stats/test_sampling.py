"""Samples are prefixes of one uniform random permutation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygraph.stats import sampling
from proxygraph.stats.sampling import merged, prefix

SIZES = st.one_of(st.integers(0, 50), st.sampled_from([4096, 4097, 5000, 70_000]))


@settings(max_examples=60)
@given(SIZES, st.integers(0, 3), st.data())
def test_shorter_is_the_beginning_of_longer(n: int, seed: int, data: st.DataObject) -> None:
    whole = prefix([seed, 1], n, None)
    assert np.array_equal(np.sort(whole), np.arange(n))
    k = data.draw(st.integers(0, n + 2))
    assert np.array_equal(prefix([seed, 1], n, k), whole[:k])


def test_keys_matter() -> None:
    assert not np.array_equal(prefix([0, 1], 5000, 50), prefix([0, 2], 5000, 50))
    assert not np.array_equal(prefix([0, 1], 5000, 50), prefix([1, 1], 5000, 50))


@pytest.mark.parametrize("permuted", [4096, 0])
def test_every_place_is_equally_likely(permuted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of drawing, on a population small enough to count; chi-squared with 19 degrees of freedom."""
    monkeypatch.setattr(sampling, "_PERMUTED", permuted)
    counts = Counter(int(i) for key in range(2000) for i in prefix([key], 20, 4))
    assert sum((counts[i] - 400) ** 2 / 400 for i in range(20)) < 45


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 40))
def test_merged_samples(sizes: list[int], k: int) -> None:
    population, place = merged([7], sizes, k)
    assert len(population) == min(k, sum(sizes))
    for c, size in enumerate(sizes):
        mine = place[population == c]
        assert np.array_equal(mine, np.arange(len(mine)))
        assert len(mine) <= size
    longer, _ = merged([7], sizes, None)
    assert np.array_equal(longer[:k], population)


def test_merged_samples_are_proportional() -> None:
    shares = np.mean([(merged([key], [300, 100], 20)[0] == 0).mean() for key in range(300)])
    assert abs(shares - 0.75) < 0.02
