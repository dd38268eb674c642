"""Do two formulas have the same values? Asked by the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from proxygraph.canon import canonical
from proxygraph.equivalence import PROBE_ROWS, probe_table, same_values
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.program import lower
from tests.strategies import random_dag


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("zen + jacov", "jacov + zen"),
        ("square(zen - jacov)", "zen**2 - 2 * zen * jacov + jacov**2"),
        ("sqrt(square(zen))", "abs(zen)"),
        ("sum(sum(w * g)) / params", "sum(sum(w * g / params))"),
        ("sum(std(w))", "sum(std(w - mean(w)))"),
        ("sum(mean(square(w - mean(w))))", "sum(square(std(w)))"),
        ("log(zen)", "log(abs(zen))"),  # more defined is the same
        ("zen / zen", "1"),
        ("1 + 1", "2"),
        ("sum(l1(a))", "sum(sum(abs(a)))"),
    ],
)
def test_same(one: str, other: str):
    assert same_values(parse(one), parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("zen", "-zen"),
        ("zen", "abs(zen)"),
        ("log(abs(zen))", "log(zen)"),  # less defined is not
        ("zen", "zen * 1.00001"),
        ("zen", "zen + 0.00001"),
        ("params", "params + 0.01"),
        ("sum(sum(w))", "sum(mean(w))"),
        ("mean(exp(numel))", "exp(mean(numel))"),
        ("sum(sum(w)) * params", "sum(sum(w))"),
        ("zen", "jacov"),
        ("2", "3"),
        ("log(-exp(zen))", "log(-exp(zen)) + 1"),  # nowhere finite: nothing is known
        ("sqrt(-params)", "sqrt(-params)"),
    ],
)
def test_not_same(one: str, other: str):
    assert not same_values(parse(one), parse(other))


def test_canonical_forms_are_found_to_be_the_same_and_small_changes_are_not():
    rng = np.random.default_rng(0)
    known = same = 0
    for _ in range(150):
        dag = random_dag(rng, max_ops=8)
        if not dag.leaves or not same_values(dag, dag):
            continue  # hardly anywhere finite
        known += 1
        same += same_values(dag, canonical(dag))
        larger = parse(f"1.001 * ({text(dag)})") if "; " not in text(dag) else None
        if larger and np.median(np.abs(ReferenceKernel(lower([dag]))(probe_table(dag.leaves)))) > 0:
            assert not same_values(dag, larger), text(dag)
    assert known > 75
    assert same > 0.95 * known


def test_probe_tables():
    table = probe_table(STATISTICS)
    assert table.n_rows == PROBE_ROWS
    assert set(table.columns) == set(STATISTICS)
    for name, leaf in STATISTICS.items():
        values = table.columns[name]
        assert np.isfinite(values).all()
        assert (values >= 0).all() if leaf.sign == "nonneg" else (values < 0).any()
    assert (table.counts["element"] > np.diff(table.offsets["element"])).all()
    again = probe_table(STATISTICS)
    assert again.digest == table.digest
    assert probe_table(STATISTICS, seed=1).digest != table.digest


def test_a_column_is_the_same_whatever_stands_beside_it():
    leaves = {"x": Leaf("x", "row"), "y": Leaf("y", "row")}
    assert probe_table({"x": leaves["x"]}).columns["x"].shape == (PROBE_ROWS,)
    assert same_values(parse("x - x + y", leaves), parse("y", leaves))


def test_probes_include_zero_on_some_rows():
    # else sign(params) would pass for 1, and square(params) / params for params
    table = probe_table(STATISTICS)
    for name, leaf in STATISTICS.items():
        assert (table.columns[name] == 0).any()
        if leaf.axis == "row":
            assert (table.columns[name][PROBE_ROWS // 3 :] != 0).all()
    assert not same_values(parse("sign(params)"), parse("1"))
    assert not same_values(parse("params"), parse("square(params) / params"))
    assert same_values(parse("square(params) / params"), parse("params"))
