"""What is particular to the fused kernel: the plan of its loops, its text, compiling and running.

That its numbers are the reference's is tested in ``tests/contracts/test_backends.py``.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.dag import Dag, Node
from proxygraph.errors import CompileError, ConfigError
from proxygraph.infix import parse
from proxygraph.kernels import fused
from proxygraph.kernels.fused import FusedKernel, compiled
from proxygraph.kernels.fused_source import emit
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.ops import Op, register, unregister
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.contracts.agreement import same
from tests.contracts.plain_fused import PlainFused
from tests.strategies import dags, random_dag, random_table

SNIP = "sum(sum(abs(w*g)))"


def loops(formula: str) -> tuple[int, int]:
    """Layer loops and loops over entries in the source of a formula."""
    text = emit(parse(formula)).text
    return text.count("for layer in "), text.count("for i in ")


# ---- the plan --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("params * 2", (0, 0)),
        ("sum(numel)", (1, 0)),
        (SNIP, (1, 1)),
        ("sum(mean(w) * std(w) / max(abs(g)))", (1, 1)),  # reductions over the same entries share a loop
        ("sum(mean(w)) + max(l1(g))", (1, 1)),
        ("sum(mean(w) * mean(a))", (1, 2)),  # one loop for each axis
        ("sum(mean(((w - mean(w)) / std(w))**3))", (1, 2)),  # a broadcast down is a barrier
        ("sum(l2(sum(w) - w * mean(g)) + mean(a - mean(w)))", (1, 3)),
        ("max((l1(g) - mean(l1(g))) / std(l1(g)))", (2, 1)),  # the second layer loop reads what was kept
        ("sum(mean(abs(w) - mean(mean(abs(w)))))", (2, 2)),
        ("mean(numel - mean(numel - mean(numel)))", (3, 0)),
    ],
)
def test_reductions_share_loops_and_broadcasts_part_them(formula: str, expected: tuple[int, int]):
    assert loops(formula) == expected


def test_layer_values_are_kept_only_if_needed_again():
    assert "_kept" not in emit(parse("sum(mean(w) * std(w))")).text
    text = emit(parse("max(l1(g) - mean(l1(g)) + numel)")).text
    assert text.count("_kept = np.empty(n_layer)") == 1  # l1(g); numel is read from its column


def test_nothing_of_element_size_is_made():
    rng = np.random.default_rng(0)
    for _ in range(50):
        text = emit(random_dag(rng, min_ops=4)).text
        made = [line for line in text.splitlines() if "np.empty" in line]
        assert all("np.empty(n_layer)" in line for line in made)


def test_each_formula_reads_its_own_columns_only():
    kernel = FusedKernel(lower([parse(SNIP), parse("sum(mean(w))"), parse("zen")]))
    assert [formula.columns for formula in kernel.formulas] == [("g", "w"), ("w",), ("zen",)]
    assert [formula.axes for formula in kernel.formulas] == [("layer", "element"), ("layer", "element"), ()]


def test_constants_are_folded_as_the_reference_computes_them():
    assert "0.6931471805599453" in emit(parse("log(2) * params")).text
    table = StatTable.from_columns(None, {"params": [3.0, 0.0]}, {"params": Leaf("params", "row")})
    for formula in (
        "params + 1/0",
        "params * log(-1)",
        "params - 0.1",
        "params / (-1/0)",
        "log(2)",
        "-1/0",
        "(-8)**0.5",
    ):
        program = lower([parse(formula)])
        expected = ReferenceKernel(program)(table)
        np.testing.assert_array_equal(FusedKernel(program)(table), expected)
        np.testing.assert_array_equal(PlainFused(program)(table), expected)


def test_constants_keep_all_their_digits():
    for value in (0.1 + 0.2, -1e-300, 5e-324, 1.7976931348623157e308, -0.0):
        text = emit(Dag([Node("leaf", "params"), Node("const", value=value), Node("op", "add", (0, 1))])).text
        assert f" + {value!r}" in text or f" + ({value!r})" in text


def test_a_negative_constant_is_bracketed():
    program = lower(
        [
            Dag(
                [
                    Node("const", value=-2.0),
                    Node("leaf", "x"),
                    Node("op", "mul", (0, 1)),
                    Node("op", "square", (2,)),
                    Node("const", value=-3.0),
                    Node("op", "maximum", (3, 4)),
                    Node("op", "pow", (5, 4)),
                ],
                {"x": Leaf("x", "row")},
            )
        ]
    )
    assert PlainFused(program)(StatTable.from_columns(None, {"x": [0.5]}))[0, 0] == 1.0


def test_one_row_of_many_shapes():
    with pytest.raises(CompileError, match=r"the formula mean\(w\) is on the layer axis; .* sum\(\.\.\.\)"):
        emit(parse("mean(w)", root_axis=None))


def test_a_division_by_what_a_loop_does_not_change_is_made_once():
    text = emit(parse("sum(mean((w - mean(w)) / std(w) / std(w) + zen / w))")).text
    assert text.count("1.0 / ") == 1
    assert "v2 * v3_inverse if v3_usual else v2 / v3" in text
    assert "_inverse" not in emit(parse("sum(numel / mean(numel) + mean(w / g) + mean(w / 3))")).text


def test_loops_over_entries_call_functions_made_for_vectors():
    text = emit(parse("sum(mean(log(w)) * log(mean(tanh(w))))")).text
    assert (text.count("vec.log("), text.count("math.log("), text.count("vec.tanh(")) == (1, 1, 1)


# ---- the text --------------------------------------------------------------------------------------------


def test_source_is_deterministic_and_named_after_the_key():
    program = lower([parse(SNIP), parse("sum(numel)")])
    kernel = FusedKernel(program)
    assert kernel.source == FusedKernel(lower([parse(SNIP), parse("sum(numel)")])).source
    assert [f.name for f in kernel.formulas] == [f"formula_{parse(t).key[:8]}" for t in (SNIP, "sum(numel)")]
    assert "# w * g\n" in kernel.source


def test_the_same_formula_has_the_same_text_in_any_program():
    alone = FusedKernel(lower([parse(SNIP)])).formulas[0]
    assert FusedKernel(lower([parse("sum(l1(g)) - sum(mean(w*g))"), parse(SNIP)])).formulas[1] == alone


@given(
    name=st.text(min_size=1, max_size=30)
    | st.sampled_from(["a\nimport os", "x\r", "\x0b", "\u2028", "#'\"\\"])
)
def test_no_column_name_can_leave_its_comment(name: str):
    leaves = {name: Leaf(name, "row")}
    dag = Dag([Node("leaf", name), Node("op", "exp", (0,))], leaves)
    tree = ast.parse(emit(dag).text)
    plain = ast.parse(emit(Dag([Node("leaf", "x"), Node("op", "exp", (0,))], {"x": Leaf("x", "row")})).text)
    tree.body[0].name = plain.body[0].name = "f"
    assert ast.dump(tree) == ast.dump(plain)


@given(dag=dags())
def test_comments_never_grow_out_of_hand(dag: Dag):
    assert max(map(len, emit(dag).text.splitlines())) < 1000


def test_shared_parts_do_not_explode():
    nodes = [Node("leaf", "params")]
    for _ in range(200):
        nodes.append(Node("op", "add", (len(nodes) - 1, len(nodes) - 1)))
    assert len(emit(Dag(nodes)).text) < 50_000


# ---- compiling -------------------------------------------------------------------------------------------


def test_an_operator_without_template_is_named():
    register(Op("median", 1, "reduction", lambda np, v, count: np.median(v)))
    register(Op("erf", 1, "elementwise", lambda np, a: a))
    try:
        with pytest.raises(
            CompileError, match=r"'median' has no one-pass form.*`init`, `update` and `final`.*'reference'"
        ):
            FusedKernel(lower([parse("sum(median(w))")]))
        with pytest.raises(
            CompileError, match=r"'erf' has no numba template.*`numba` expression.*'reference'"
        ):
            FusedKernel(lower([parse("erf(params)")]))
    finally:
        unregister("median")
        unregister("erf")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("({0} +", "numba template is not Python"),
        ("({1} + 1)", r"operator 'odd': the template '\(\{1\} \+ 1\)' cannot be filled"),
        ("({0} + nothing)", "numba refuses an operator's template: .*nothing"),
    ],
)
def test_a_wrong_template_is_a_compile_error(template: str, message: str):
    register(Op("odd", 1, "elementwise", lambda np, a: a, numba=template))
    try:
        with pytest.raises(CompileError, match=message):
            FusedKernel(lower([parse("odd(params)")]))(StatTable.from_columns(None, {"params": [1.0]}))
    finally:
        unregister("odd")


def test_a_wrong_update_is_a_compile_error():
    register(
        Op("odd", 1, "reduction", lambda np, v, count: 0.0, init=("0.0",), update=("{s0} +",), final="{s0}")
    )
    try:
        with pytest.raises(CompileError, match=r"operator 'odd': the update .* is not Python"):
            FusedKernel(lower([parse("sum(odd(w))")]))
    finally:
        unregister("odd")


def test_another_template_under_the_same_name_is_compiled_anew():
    table = StatTable.from_columns(None, {"params": [3.0]})
    table = StatTable(table.rows, table.columns, {}, {}, {}, {})
    for factor in (2.0, 5.0):
        register(Op("scaled", 1, "elementwise", lambda np, a, f=factor: f * a, numba=f"({factor} * {{0}})"))
        try:
            assert FusedKernel(lower([parse("scaled(params)")]))(table)[0, 0] == factor * 3.0
        finally:
            unregister("scaled")


def test_numba_is_imported_at_the_first_call_only():
    program = (
        "import sys; from proxygraph.kernels.fused import FusedKernel; from proxygraph.program import lower; "
        "from proxygraph.infix import parse; k = FusedKernel(lower([parse('sum(sum(w))')])); k.source; "
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_functions_are_remembered_within_a_bound():
    formula = emit(parse(SNIP))
    assert compiled(formula.name, formula.text) is compiled(formula.name, formula.text)
    assert compiled.cache_info().maxsize == fused.MAX_COMPILED


# ---- running ---------------------------------------------------------------------------------------------


def test_columns_are_read_in_their_stored_type():
    rng = np.random.default_rng(1)
    table = random_table(rng, n_rows=9)
    program = lower([parse(SNIP)])
    kernel = FusedKernel(program)
    for w in (np.float32, np.float64):
        for g in (np.float32, np.float64):
            columns = {**table.columns, "w": table.columns["w"].astype(w), "g": table.columns["g"].astype(g)}
            typed = StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})
            assert same(kernel(typed), ReferenceKernel(program)(typed)).all()
            assert (typed.columns["w"].dtype, typed.columns["g"].dtype) == (w, g)


def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(2)
    program = lower([parse(SNIP), parse("max((l1(g) - mean(l1(g))) / std(l1(g)))")])
    for n_rows in (1, 2, 3, 50):
        table = random_table(rng, n_rows=n_rows)
        alone = FusedKernel(program)(table)
        for threads in (2, 3, 16):
            np.testing.assert_array_equal(FusedKernel(program, threads=threads)(table), alone)
    with pytest.raises(ConfigError, match="threads=0: at least one"):
        FusedKernel(program, threads=0)


def test_many_callers_at_once():
    """Kernels are called from the threads of an executor; numba's own thread pool would abort the process."""
    table = random_table(np.random.default_rng(3), n_rows=30)
    kernel = FusedKernel(lower([parse(SNIP)]), threads=2)
    expected, results = kernel(table), []
    callers = [threading.Thread(target=lambda: results.append(kernel(table))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 8
    assert all((result == expected).all() for result in results)


def test_large_means_do_not_cancel_in_std():
    rng = np.random.default_rng(4)
    w = 1e6 + rng.normal(size=4000)
    table = StatTable(
        ("r",), {"w": w}, {}, {"layer": np.array([0, 1]), "element": np.array([0, 4000])}, {}, {}
    )
    columns = table.columns["w"].astype(np.float64)
    got = FusedKernel(lower([parse("sum(std(w))")]))(table)[0, 0]
    assert got == pytest.approx(float(np.std(columns)), rel=1e-11)


def test_a_saved_table_is_read_in_place(tmp_path):
    table = random_table(np.random.default_rng(5), n_rows=4)
    table.save(tmp_path / "t.safetensors")
    kernel = FusedKernel(lower([parse(SNIP)]))
    np.testing.assert_array_equal(kernel(StatTable.load(tmp_path / "t.safetensors")), kernel(table))
