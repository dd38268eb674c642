"""Formulas with operators of the user: the numbers of the reference, whatever is kept or shared."""

from __future__ import annotations

import numpy as np
import pytest

from proxygraph.dag import FINENESS, Dag, Node
from proxygraph.errors import UnknownName
from proxygraph.infix import parse
from proxygraph.kernels.columns import ColumnKernel
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.ops import Op, register, unregister
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.contracts import agreement
from tests.contracts.agreement import compare
from tests.numeric import all_finite
from tests.strategies import formula_of, op_cases, random_dag, random_table

N_DAGS = 60


def formulas(seed: int, n: int = N_DAGS) -> list[Dag]:
    rng = np.random.default_rng(seed)
    return [random_dag(rng, max_ops=10) for _ in range(n)]


def in_precision(table: StatTable, dtype: type) -> StatTable:
    """The table with every column but those of rows in one precision."""
    columns = {
        name: values.astype(dtype if FINENESS[table.leaves[name].axis] else np.float64)
        for name, values in table.columns.items()
    }
    return StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})


def table_of(seed: int, dtype: type = np.float64, **kind: bool) -> StatTable:
    return in_precision(random_table(np.random.default_rng(seed), n_rows=8, **kind), dtype)


# ---- the numbers of the reference ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"empty": True}, {"missing": True}, {"extreme": True}], ids=str)
def test_in_float64_it_is_the_reference(kind: dict[str, bool]):
    table = table_of(1, **kind)
    dags = formulas(2)
    got = ColumnKernel(table)(dags)
    checked = sum(int(compare(got[i : i + 1], lower([dag]), table).sum()) for i, dag in enumerate(dags))
    assert checked > 0.7 * N_DAGS * table.n_rows


@pytest.mark.parametrize(("name", "axis"), op_cases())
def test_every_operator_on_every_axis(name: str, axis):
    table = table_of(3)
    dag = formula_of(name, axis)
    assert compare(ColumnKernel(table)([dag]), lower([dag]), table).any()


@pytest.mark.parametrize("kind", [{}, {"empty": True}], ids=str)
def test_in_float32_it_is_the_reference_to_float32(kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch):
    table = table_of(4, np.float32, **kind)
    dags = formulas(5)
    got = ColumnKernel(table)(dags)
    monkeypatch.setattr(agreement, "NOISE", 1e-6)
    checked = 0
    for values, dag in zip(got, dags, strict=True):
        program = lower([dag])
        expected = ReferenceKernel(program)(table)[0]
        rng = np.random.default_rng(0)
        noisy = [agreement.noisy_reference(program, table, rng)[0] for _ in range(4)]
        steady = np.all([agreement.same(n, expected, 1e-3) for n in noisy], axis=0)
        asked = steady & all_finite(program, table, large=1e15)[0]
        assert agreement.same(values[asked], expected[asked], 1e-2).all(), str(dag)
        checked += int(asked.sum())
    assert checked > 0.4 * N_DAGS * table.n_rows


def test_what_is_fine_stays_float32():
    table = table_of(6, np.float32)
    kernel = ColumnKernel(table)
    kernel([parse("sum(mean((w - mean(w)) * numel * params * 2.5))"), parse("sum(l1(a / zen))")])
    assert kernel.fine.arrays
    assert {array.dtype for array in kernel.fine.arrays.values()} == {np.dtype(np.float32)}


def test_double_columns_are_not_rounded_to_single():
    table = table_of(7)
    columns = {name: values + (1e9 if name == "w" else 0) for name, values in table.columns.items()}
    large = StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})
    dags = [parse("sum(l2(w - mean(w)))"), parse("sum(max(w - min(w)))")]
    np.testing.assert_allclose(ColumnKernel(large)(dags), ReferenceKernel(lower(dags))(large), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_values_have_no_deviation(dtype: type):
    table = table_of(8)
    columns = {**table.columns, "w": np.full(table.size("element"), 0.1, dtype=dtype)}
    equal = StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})
    values = ColumnKernel(equal)([parse("sum(std(w))"), parse("sum(std(w / 3 + 0.1))")])
    np.testing.assert_array_equal(values, 0.0)


def test_a_table_of_rows_only():
    leaves = {name: Leaf(name, "row") for name in ("x", "y")}
    rng = np.random.default_rng(0)
    table = StatTable.from_columns(None, {"x": rng.normal(size=50), "y": rng.normal(size=50)})
    formulas = ("x", "2.5", "sin(x) * y + 3", "max(x, y) / exp(x)", "log(-1)", "1/0")
    exact = [parse(f, leaves) for f in formulas]
    np.testing.assert_array_equal(ColumnKernel(table)(exact), ReferenceKernel(lower(exact))(table))
    # numpy squares for one exponent of 2, and takes its power for an array of them: the last place differs
    powers = [parse(f, leaves) for f in ("y**2", "max(x, y**2) / exp(x)")]
    np.testing.assert_allclose(ColumnKernel(table)(powers), ReferenceKernel(lower(powers))(table), rtol=1e-15)


def test_no_formulas():
    assert ColumnKernel(table_of(1))([]).shape == (0, 8)


def test_a_missing_leaf():
    table = table_of(1)
    with pytest.raises(UnknownName, match="the formula needs the leaf 'x', which the table lacks"):
        ColumnKernel(table)([Dag([Node("leaf", "x")], {"x": Leaf("x", "row")})])


def test_user_operators():
    register(Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a))))
    register(Op("span", 1, "reduction", lambda np, v, count: np.max(v) - np.min(v)))
    try:
        table = table_of(9)
        dags = [parse("sum(span(softsign(w)))"), parse("span(softsign(numel) + softsign(2))")]
        np.testing.assert_allclose(ColumnKernel(table)(dags), ReferenceKernel(lower(dags))(table), rtol=1e-12)
    finally:
        unregister("softsign")
        unregister("span")


# ---- memory and threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(0, 0), (300, 100), (2_000, 400), (400_000_000, 0)])
def test_what_is_kept_changes_no_value_and_stays_in_bounds(dtype: type, bounds: tuple[int, int]):
    table = table_of(10, dtype)
    dags = formulas(11)
    expected = np.concatenate([ColumnKernel(table)([dag]) for dag in dags])
    kernel = ColumnKernel(table, fine_bytes=bounds[0], coarse_bytes=bounds[1])
    for batch in (dags, dags[::-1], dags[::2]):
        got = kernel(batch)
        np.testing.assert_array_equal(got, [expected[dags.index(dag)] for dag in batch])
        for cache, limit in ((kernel.fine, bounds[0]), (kernel.coarse, bounds[1])):
            assert cache.bytes == sum(array.nbytes for array in cache.arrays.values()) <= limit


def test_parts_are_computed_once(monkeypatch: pytest.MonkeyPatch):
    kernel = ColumnKernel(table_of(12))
    computed = []
    compute = kernel.compute
    monkeypatch.setattr(
        kernel, "compute", lambda dag, i, args: computed.append(dag.keys[i]) or compute(dag, i, args)
    )
    kernel([parse("sum(l1(w * g))"), parse("mean(l1(g * w)) + 1"), parse("sum(l1(w * g))")])
    kernel([parse("max(l1(w * g)) / params")])
    assert len(computed) == len(set(computed)) == 7


def test_what_was_used_last_is_kept():
    table = table_of(13)
    size = table.size("element") * 8
    kernel = ColumnKernel(table, fine_bytes=2 * size)
    one, two, three = (parse(f"sum(sum(exp({leaf})))") for leaf in ("w", "g", "gs"))
    kernel([one, two])
    kernel.coarse = type(kernel.coarse)(10**6)  # the sums are forgotten, or nothing fine is looked up
    kernel([one])
    kernel([three])
    kept = set(kernel.fine.arrays)
    assert one.keys[1] in kept
    assert three.keys[1] in kept
    assert two.keys[1] not in kept


@pytest.mark.parametrize("threads", [2, 3, 100])
@pytest.mark.parametrize("bounds", [(400_000_000, 200_000_000), (500, 100)])
def test_threads_change_no_value(threads: int, bounds: tuple[int, int]):
    table = table_of(14, np.float32)
    dags = formulas(15)
    alone = ColumnKernel(table)(dags)
    kernel = ColumnKernel(table, threads, *bounds)
    for _ in range(2):
        np.testing.assert_array_equal(kernel(dags), alone)


def test_an_error_in_a_thread_is_raised():
    register(Op("broken", 1, "elementwise", lambda np, a: 1 / 0))
    try:
        with pytest.raises(ZeroDivisionError):
            ColumnKernel(table_of(1), threads=2)([parse("broken(params)"), parse("params")])
    finally:
        unregister("broken")


def test_columns_are_left_alone():
    table = table_of(16)
    before = table.digest
    ColumnKernel(table, threads=2)(formulas(17))
    assert (
        StatTable(table.rows, table.columns, table.leaves, table.offsets, table.counts, {}).digest == before
    )
