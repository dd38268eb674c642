"""Final forms and the choice among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxygraph.behaviour import Behaviour
from proxygraph.constraints import Constraints
from proxygraph.finish import LOSS_FLOOR, LOSS_SLACK, final_forms, least_information, steepest
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.limits import Limits
from proxygraph.objective import OBJECTIVES
from proxygraph.program import lower
from proxygraph.table import StatTable

X = np.random.default_rng(0).uniform(1.0, 3.0, size=40)
TABLE = StatTable.from_columns(None, {"x": X})
DAG = parse("log(x)", TABLE.leaves)
LOSSES = st.lists(st.floats(0.0, 2.0) | st.floats(0.0, 1e-14), min_size=1, max_size=8)


def forms(y: np.ndarray, name: str = "r2", **limits: object) -> dict[str, str]:
    kept = Limits(int(limits.pop("max_size", 99)), Constraints(**limits), Behaviour(), TABLE)  # type: ignore[arg-type, call-overload]
    found = final_forms(DAG, np.log(X), y, OBJECTIVES[name], kept)
    return {way: text(dag) for way, dag in found.items()}


# ---- final forms -------------------------------------------------------------------------------------------


def test_what_gains_nothing_is_not_written() -> None:
    assert list(forms(np.log(X)).values()) == ["log(x)"]
    scaled = forms(1.5 * np.log(X))
    assert list(scaled) == ["scale", "nothing"]
    assert parse(scaled["scale"], TABLE.leaves).size == 4
    # the formula alone would predict worse than the mean
    (shifted,) = forms(np.log(X) + 2.0).values()
    assert parse(shifted, TABLE.leaves).size == 4


def test_a_line_that_is_not_allowed_is_left_out() -> None:
    y = 1.2 * np.log(X) + 0.1
    assert "line" in forms(y)
    assert forms(y, max_constants=1).keys() < {"scale", "shift", "nothing"}
    assert forms(y, max_size=4).keys() == forms(y, max_constants=1).keys()
    assert forms(y, max_constants=0) == {"nothing": "log(x)"}
    assert forms(y, max_size=2) == {"nothing": "log(x)"}
    assert forms(y, max_depth=0) == {}


def test_ranks_need_no_line_but_a_direction() -> None:
    assert forms(np.exp(X), "spearman") == {"line": "log(x)"}
    assert forms(-X, "spearman") == {"line": "-log(x)"}
    assert forms(-X, "spearman", ops=("log", "mul")) == {"line": "-1 * log(x)"}
    assert forms(-X, "spearman", ops=("log",)) == {}


@given(st.floats(-5.0, 5.0), st.floats(-5.0, 5.0), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_larger_forms_are_better_and_the_largest_is_the_best_line(
    slope: Any, offset: Any, noise: Any, seed: Any
) -> None:
    y = slope * np.log(X) + offset + noise * np.random.default_rng(seed).normal(size=X.size)
    assume(np.var(y) > 1e-9)
    found = final_forms(DAG, np.log(X), y, OBJECTIVES["r2"])
    losses = [
        np.mean((y - ReferenceKernel(lower([dag]))(TABLE)[0]) ** 2) / np.var(y) for dag in found.values()
    ]
    sizes = [dag.size for dag in found.values()]
    assert sizes == sorted(set(sizes), reverse=True)
    assert losses == sorted(losses)
    least = np.mean((y - np.polyval(np.polyfit(np.log(X), y, 1), np.log(X))) ** 2) / np.var(y)
    assert losses[0] == pytest.approx(least, abs=1e-11)


# ---- the steepest fall -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "sizes", "expected"),
    [
        ([0.5, 0.01, 0.008], [1, 3, 7], 1),
        ([0.008, 0.01, 0.5], [7, 3, 1], 1),
        ([0.5, 0.4, 0.1], [1, 3, 5], 2),  # the second has too much loss left
        ([0.5, 1e-16, 0.0], [1, 9, 12], 1),  # both exact: the smaller one
        ([0.5, 1e-9, 1e-16], [1, 3, 15], 2),  # an exact one, however gentle the fall to it
        ([np.inf, 0.3, np.nan], [1, 5, 9], 1),
        ([0.3], [4], 0),
    ],
)
def test_steepest_fall_of_loss(losses: Any, sizes: Any, expected: Any) -> None:
    assert steepest(losses, sizes) == expected


@given(LOSSES, st.data())
def test_the_steepest_is_on_the_front_and_of_little_loss(losses: Any, data: Any) -> None:
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=len(losses), max_size=len(losses)))
    best = steepest(losses, sizes)
    floored = np.maximum(losses, LOSS_FLOOR)
    assert floored[best] <= LOSS_SLACK * floored.min()
    smaller = [floored[i] for i in range(len(losses)) if sizes[i] <= sizes[best] and i != best]
    assert all(loss >= floored[best] for loss in smaller)
    order = data.draw(st.permutations(range(len(losses))))
    again = order[steepest([losses[i] for i in order], [sizes[i] for i in order])]
    assert (floored[again], sizes[again]) == (floored[best], sizes[best])


@given(LOSSES, st.data())
def test_the_least_information_pays_for_its_nodes_on_so_many_rows(losses: Any, data: Any) -> None:
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=len(losses), max_size=len(losses)))
    n = data.draw(st.integers(5, 1000))
    best = least_information(losses, sizes, n)
    floored = np.maximum(losses, LOSS_FLOOR)
    exact = [sizes[i] for i in range(len(losses)) if floored[i] == LOSS_FLOOR]
    if exact:
        assert floored[best] == LOSS_FLOOR
        assert sizes[best] == min(exact)
        return
    costs = n * np.log(floored) + np.log(n) * np.array(sizes)
    assert costs[best] == pytest.approx(costs.min())
    # with more rows the same loss is better known: the choice never gets less exact
    assert floored[least_information(losses, sizes, 10 * n)] <= floored[best]


def test_of_formulas_without_a_loss_any_is_chosen() -> None:
    assert least_information([np.nan, np.inf], [3, 2], 50) in (0, 1)
    assert least_information([np.nan, 0.5], [1, 2], 50) == 1
    assert steepest([np.nan, 0.5], [1, 2]) == 1
