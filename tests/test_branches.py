"""Bends that no row is beyond: they go, and the values on the rows stay."""

from __future__ import annotations

import numpy as np
import pytest

from proxygraph.branches import without_idle_branches
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.program import lower
from proxygraph.table import StatTable

TABLE = StatTable.from_columns(
    None,
    {"x": np.array([1.0, 2.0, 3.0]), "y": np.array([2.5, 1.5, 0.5]), "z": np.array([-1.0, -2.0, -0.5])},
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("max(x, 0.5)", "x"),
        ("max(0.5, x)", "x"),
        ("min(x, 5) + y", "x + y"),
        ("exp(max(x, z))", "exp(x)"),
        ("exp(min(x, z))", "exp(z)"),
        ("relu(x) * relu(y)", "x * y"),
        ("abs(x) + abs(z)", "x + -z"),
        ("sign(z) * x + sign(y)", "-1 * x + 1"),
        ("max(max(x, z), 0.5)", "x"),
        ("max(x, x)", "x"),
        ("x**1.5 * abs(x)", "x**1.5 * x"),
    ],
)
def test_a_bend_that_no_row_is_beyond_goes(before: str, after: str) -> None:
    dag = parse(before, TABLE.leaves)
    found = without_idle_branches(dag, TABLE)
    assert text(found) == text(parse(after, TABLE.leaves))
    values = [ReferenceKernel(lower([one]))(TABLE)[0] for one in (dag, found)]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize(
    "formula", ["max(x, y)", "min(x, y)", "abs(x - 2)", "relu(y - 1)", "sign(x - 2)", "x + y"]
)
def test_a_bend_that_rows_are_beyond_stays(formula: str) -> None:
    dag = parse(formula, TABLE.leaves)
    assert without_idle_branches(dag, TABLE) == dag


def test_values_that_are_not_finite_decide_nothing() -> None:
    dag = parse("max(log(z), x)", TABLE.leaves)
    assert without_idle_branches(dag, TABLE) == dag


def test_a_formula_is_not_left_without_leaves() -> None:
    for formula in ("sign(x)", "max(3 - 2, min(0.5, x))"):
        dag = parse(formula, TABLE.leaves)
        assert without_idle_branches(dag, TABLE).leaves


@pytest.mark.parametrize(
    ("formula", "goes"),
    [
        ("exp(-1 / abs(z))", False),
        ("tanh(1 / max(-z, z))", False),
        ("exp(-1 / abs(w))", False),
        ("exp(abs(z))", True),
    ],
)
def test_the_sign_of_a_zero_inside_changes_no_value(formula: str, goes: bool) -> None:
    columns = {"z": np.array([0.0, -0.5, -1.0, -2.0]), "w": np.array([-0.0, 0.5, 1.0, 2.0])}
    table = StatTable.from_columns(None, columns)
    dag = parse(formula, table.leaves)
    found = without_idle_branches(dag, table)
    values = [ReferenceKernel(lower([one]))(table)[0] for one in (dag, found)]
    np.testing.assert_array_equal(*values)
    assert (found != dag) == goes
