"""Limits on final forms, and other spellings for operators that are not allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.behaviour import Behaviour
from proxygraph.constraints import Constraints
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.limits import Limits, respelled
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.strategies import dags

LEAVES = {name: Leaf(name, "row") for name in ("x", "y")}
TABLE = StatTable.from_columns(None, {"x": np.linspace(0.5, 3.0, 7), "y": np.linspace(-2.0, 2.0, 7)})
SPELLED = ("add", "sub", "mul", "div", "neg", "inv", "square", "cube", "log")


def limits(max_size: int = 99, behaviour: Behaviour | None = None, **constraints: object) -> Limits:
    return Limits(max_size, Constraints(**constraints), behaviour or Behaviour(), TABLE)  # type: ignore[arg-type]


@given(dags(LEAVES, 8, ("row",), SPELLED), st.sets(st.sampled_from(SPELLED)))
def test_another_spelling_has_the_same_values(dag: Any, ops: Any) -> None:
    other = respelled(dag, frozenset(ops))
    with np.errstate(all="ignore"):
        a, b = ReferenceKernel(lower([dag, other]))(TABLE)
    good = np.isfinite(a) & (np.abs(a) < 1e100) & (np.abs(a) > 1e-100)
    np.testing.assert_allclose(b[good], a[good], rtol=1e-6, atol=1e-9 * np.max(np.abs(a[good]), initial=1.0))
    assert {n.name for n in other.nodes if n.kind == "op"} <= {n.name for n in dag.nodes} | ops


@pytest.mark.parametrize(
    ("formula", "ops", "expected"),
    [
        ("square(x) - 3", {"add", "mul"}, "x * x + -3"),
        ("cube(x)", {"mul"}, "x * x * x"),
        ("x - y", {"add", "neg"}, "x + -y"),
        ("x - y", {"add", "mul"}, "x + -1 * y"),
        ("x + y", {"sub"}, "y - (0 - x)"),
        ("x + 2", {"sub"}, "x - -2"),
        ("-x", {"sub"}, "0 - x"),
        ("inv(x)", {"div"}, "1 / x"),
        ("x / y", {"mul", "inv"}, "x * inv(y)"),
        ("log(x) + y", {"mul"}, "log(x) + y"),
    ],
)
def test_operators_that_are_not_allowed_are_written_in_others(formula: Any, ops: Any, expected: Any) -> None:
    other = respelled(parse(formula, LEAVES), frozenset(ops))
    assert other == parse(expected, LEAVES), text(other)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (limits(max_size=5), "2 * x + 1", "2 * x * y + 1"),
        (limits(max_constants=1), "2 * x", "2 * x + 1"),
        (limits(max_depth=1), "x * y", "2 * x + 1"),
        (limits(ops=("mul", "add")), "2 * square(x) - 1", "log(x)"),
        (limits(leaves=("x",)), "log(x)", "x * y"),
        (limits(nesting={"exp": {"add": 0}}), "exp(x * y) + 1", "exp(x + y)"),
        (limits(behaviour=Behaviour(sign="positive")), "x - 0.4", "x - 0.6"),
        (limits(behaviour=Behaviour({"y": "increasing"})), "x + cube(y)", "x - y"),
    ],
)
def test_limits_hold_for_the_formula_as_it_is_written(rule: Any, good: Any, bad: Any) -> None:
    assert rule.kept(parse(good, LEAVES)) is not None
    assert rule.kept(parse(bad, LEAVES)) is None
    assert rule.kept(parse("z", {"z": Leaf("z", "row")})) is None
