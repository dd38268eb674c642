"""Constants put into formulas: where they may stand, and that they are what least squares needs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.compact.forest import CODES, CONST, Forest, check_trees, to_forest
from proxygraph.infix import parse
from proxygraph.kernels.fitter import Fitter
from proxygraph.table import StatTable
from proxygraph.weighing import weighed

RNG = np.random.default_rng(2)
TABLE = StatTable.from_columns(None, {name: RNG.uniform(0.5, 3.0, 200) for name in ("x", "y")})
TARGET = np.sin(1.7 * TABLE.columns["x"]) * np.exp(-0.3 * TABLE.columns["y"])
FITTER = Fitter(TABLE, TARGET)
FORMULAS = ("sin(x) * exp(y)", "x", "log(x) + 2 * y", "x**1.5 / (y - 3)", "sqrt(x * y) * sin(x + 0.5 * y)")
MUL, ADD = CODES["mul"], CODES["add"]


def forest(capacity: int) -> Forest:
    return to_forest([parse(one, TABLE.leaves) for one in FORMULAS], FITTER.vocabulary, capacity)


def without(code: list[int], op: int) -> list[int]:
    """A tree without the constants that `weighed` puts before a part, by brute force."""
    out, k = [], 0
    while k < len(code):
        if code[k] in (MUL, op) and k + 1 < len(code) and code[k + 1] == CONST:
            k += 2
            continue
        out.append(code[k])
        k += 1
    return out


@given(seed=st.integers(0, 500), capacity=st.integers(11, 40), shifts=st.booleans())
def test_trees_stay_trees_and_keep_all_they_had(seed: int, capacity: int, shifts: bool) -> None:
    parents = forest(capacity)
    made = weighed(parents, MUL, ADD if shifts else None, np.random.default_rng(seed))
    check_trees(made, 2)
    again = weighed(parents, MUL, ADD if shifts else None, np.random.default_rng(seed))
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for i in range(len(FORMULAS)):
        before, after = (f.code[i, : f.length[i]].tolist() for f in (parents, made))
        assert without(after, ADD) == without(before, ADD)
        if not shifts:
            assert after.count(ADD) == before.count(ADD)


def test_some_get_constants_and_the_rest_is_left_alone() -> None:
    parents = forest(40)
    grown = [
        weighed(parents, MUL, ADD, np.random.default_rng(seed)).length - parents.length for seed in range(50)
    ]
    assert (np.array(grown).sum(axis=0) > 0).tolist() == [True, False, True, True, True]
    full = weighed(forest(11).take([4]), MUL, ADD, np.random.default_rng(0))
    assert full.length[0] == forest(11).length[4]


def test_with_enough_constants_least_squares_finds_the_target() -> None:
    one = forest(40).take(np.zeros(200, np.int64))
    plain = np.sin(TABLE.columns["x"]) * np.exp(TABLE.columns["y"])  # nothing to fit but a line through it
    made = weighed(one, MUL, ADD, np.random.default_rng(1))
    best = float(np.nanmin(FITTER.fitted(made, 50).loss))
    assert 1.0 - np.corrcoef(plain, TARGET)[0, 1] ** 2 > 1e-3
    assert best < 1e-12
