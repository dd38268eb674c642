"""Formulas to sympy and back: same numbers, exact constants, clear refusals; sympy in its own process."""

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.dag import FINENESS, Dag, Node
from proxygraph.errors import InvalidDag, UnknownName
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import BUILTIN, OPS, Op, register, unregister
from proxygraph.program import lower
from proxygraph.symbolic import from_sympy, to_sympy
from proxygraph.table import StatTable
from tests.strategies import dags, formula_of, op_cases, random_dag, random_table

# what sympy cannot hold, with the words that say so
REFUSALS = ("is no finite real number", "axis now, not on the", "constant part that is not real")


def jittered(table: StatTable, rng: np.random.Generator) -> StatTable:
    """The same table with every value off by about one part in 10^12."""
    columns = {
        name: values.astype(float) * (1 + 1e-12 * rng.normal(size=len(values)))
        for name, values in table.columns.items()
    }
    return StatTable(table.rows, columns, table.leaves, table.offsets, table.counts, {})


def finite_inside(dag: Dag, table: StatTable) -> np.ndarray:
    """Rows on which every part of a formula is finite."""
    whole = []
    for i, axis in enumerate(dag.axes):
        nodes = list(dag.part(i).nodes)
        for _ in range(FINENESS[axis]):
            nodes.append(Node("op", "l1", (len(nodes) - 1,)))
        whole.append(Dag(nodes))
    return np.isfinite(ReferenceKernel(lower(whole))(table)).all(axis=0)


def mismatch(dag: Dag, other: Dag, table: StatTable, rng: np.random.Generator) -> float:
    """Largest relative error where `dag` is finite and does not hang on the last digits of its inputs."""
    want, got = ReferenceKernel(lower([dag, other]))(table)
    (off,) = ReferenceKernel(lower([dag]))(jittered(table, rng))
    with np.errstate(all="ignore"):
        steady = finite_inside(dag, table) & (abs(off - want) <= 1e-8 * abs(want)) & (abs(want) < 1e250)
        # equal values deviate by exactly 0, and after another order of additions by what rounding left
        least = np.where(want[steady] == 0, 1e-5, 1e-12)
        error = abs(got - want)[steady] / np.maximum(abs(want[steady]), least)
    return float(np.max(error, initial=0.0)) if not np.isnan(error).any() else math.inf


def test_random_formulas_keep_their_values():
    rng = np.random.default_rng(0)
    table = random_table(rng)
    seen: Counter[str] = Counter()
    for _ in range(300):
        dag = random_dag(rng, max_ops=10)
        try:
            back = from_sympy(to_sympy(dag))
        except InvalidDag as error:
            seen["refused" if any(words in str(error) for words in REFUSALS) else str(error)] += 1
            continue
        # sigmoid loses digits far left of zero, where 1 + exp(-a) does not
        assert mismatch(dag, back, table, rng) < (1e-3 if "sigmoid" in text(dag) else 1e-7), (
            text(dag),
            text(back),
        )
        seen["kept"] += 1
        seen["larger"] += back.size > dag.size
    assert seen.keys() <= {"kept", "larger", "refused"}
    assert seen["kept"] > 260
    assert seen["larger"] < 30  # x/(y*z) for x/y/z and the like


@pytest.mark.parametrize(("name", "axis"), op_cases())
def test_every_operator_on_every_axis(name, axis):
    rng = np.random.default_rng(1)
    dag = formula_of(name, axis)
    back = from_sympy(to_sympy(dag))
    assert mismatch(dag, back, random_table(rng), rng) < 1e-12
    assert back.size <= dag.size


@given(dags(max_ops=6))
def test_any_formula_converts_or_is_refused(dag):
    try:
        back = from_sympy(to_sympy(dag), root_axis=None)
    except InvalidDag:
        return
    assert back.axes[-1] == "row"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_constants_are_exact(value):
    (const,) = from_sympy(to_sympy(Dag([Node("const", value=value)]))).nodes
    assert const.value == value


def test_whole_and_half_numbers_are_rational():
    assert to_sympy(parse("2.5")) == sp.Rational(5, 2)
    assert to_sympy(parse("-3")) == sp.Integer(-3)
    assert isinstance(to_sympy(parse("0.1")), sp.Float)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("x**2", "square(params)"),
        ("x**3", "cube(params)"),
        ("x**-2", "inv(square(params))"),
        ("sqrt(x)", "sqrt(params)"),
        ("1/sqrt(x)", "inv(sqrt(params))"),
        ("x**Rational(5, 2)", "params**2.5"),
        ("x**Rational(1, 4)", "sqrt(sqrt(params))"),
        ("x**Rational(1, 3)", "exp(0.3333333333333333 * log(params))"),
        ("x**40", "t0 = params**16; t0 * t0 * params**8"),
        ("x**z", "exp(zen * log(params))"),
        ("2**z", "exp(zen * log(2))"),
        ("z/x**2", "zen / square(params)"),
        ("z/3", "zen / 3"),
        ("-z/3", "-(zen / 3)"),
        ("-z/2", "-0.5 * zen"),
        ("-z", "-zen"),
        ("-z - x", "-(params + zen)"),
        ("z - 2*x", "zen - 2 * params"),
        ("pi*z", "3.141592653589793 * zen"),
        ("E**z", "exp(zen)"),
        ("exp(-z)", "exp(-zen)"),
        ("log(1 + z)", "log1p(zen)"),
        ("1/(1 + exp(-z))", "sigmoid(zen)"),
        ("x/(1 + exp(-z))**2", "params * square(sigmoid(zen))"),
        ("Max(z, 0)", "relu(zen)"),
        ("Max(z, x)", "max(params, zen)"),
        ("Min(z, x, 1)", "min(min(1, params), zen)"),
        ("Abs(z)", "abs(zen)"),
        ("sign(z)", "sign(zen)"),
        ("Heaviside(z)", "0.5 + 0.5 * sign(zen)"),
        ("tan(z)", "sin(zen) / cos(zen)"),
        ("sec(z)", "inv(cos(zen))"),
        ("coth(z)", "inv(tanh(zen))"),
        ("z**2.0 - 1.0*x", "square(zen) - params"),
    ],
)
def test_forms(expression, expected):
    # the expressions are ours, so eval is fine here; from_sympy itself takes no text
    names = {"x": sp.Symbol("params", nonnegative=True), "z": sp.Symbol("zen", real=True), **vars(sp)}
    dag = from_sympy(eval(expression, names))
    assert text(dag) == expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (sp.Symbol("nonsense"), "symbol 'nonsense' is no leaf"),
        (sp.gamma(sp.Symbol("zen")), "no operator for gamma"),
        (sp.Function("sum_")(sp.Symbol("zen")), "no operator for sum_"),
        (sp.Function("exp_layer")(sp.Symbol("zen")), "no operator for exp_layer"),
        (sp.Function("sum_layer")(sp.Symbol("zen")), "on the row axis now, not on the layer axis"),
        (sp.Function("sum_layer")(sp.Symbol("macs"), 2), "with 2 argument"),
        (sp.I * sp.Symbol("zen"), "I is no finite real number"),
        (sp.zoo, "zoo is no finite real number"),
        (sp.Integer(10) ** 400, "no finite real number"),
        (sp.Symbol("zen", real=True) ** sp.Symbol("jacov", real=True), "known to be nonnegative"),
        (sp.Symbol("zen", real=True) ** 1000, "known to be nonnegative"),
        (sp.Symbol("w"), "the root is on the element axis"),
        (sp.Symbol("w") + sp.Symbol("a"), "do not fit"),
        (sp.Piecewise((1, sp.Symbol("zen") > 0), (2, True)), "no operator for Piecewise"),
        ("zen + 1", "expected a sympy expression, got str"),
        (sp.Symbol("zen") > 0, "expected a sympy expression"),
    ],
)
def test_refusals(expression, words):
    with pytest.raises((InvalidDag, UnknownName), match=words.replace("(", r"\(")):
        from_sympy(expression)


def test_what_is_cancelled_does_not_change_the_axis_of_a_reduction():
    # sum over entries of (w - w + macs) is numel * macs; sum over layers of macs is something else
    dag = parse("sum(sum(w - w + macs) * depth)")
    with pytest.raises(
        InvalidDag, match="sum: its argument is on the layer axis now, not on the element axis"
    ):
        from_sympy(to_sympy(dag))


def test_leaf_names_are_never_read_as_text():
    name = "__import__('os').system('false') + größe % x"
    leaves = {name: Leaf(name, "row")}
    dag = Dag([Node("leaf", name), Node("op", "abs", (0,))], leaves)
    assert from_sympy(to_sympy(dag), leaves) == dag


def test_deep_expressions_are_refused():
    expr = sp.Symbol("zen", real=True)
    for _ in range(2000):
        expr = sp.sin(expr, evaluate=False)
    with pytest.raises(InvalidDag, match="nested too deeply"):
        from_sympy(expr)


@pytest.fixture
def user_ops():
    names = ["softsign", "twice", "sum_element", "spread"]
    register(Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a)), nonneg="args"))
    register(Op("twice", 1, "elementwise", lambda np, a: 2 * a, sympy=lambda sp, a: 2 * a))
    register(Op("sum_element", 2, "elementwise", lambda np, a, b: np.hypot(a, b), call="hypot"))
    register(Op("spread", 1, "reduction", lambda np, v, count: np.ptp(v)))
    yield
    for name in names:
        unregister(name)


def test_user_operators(user_ops):
    dag = parse("sum(spread(softsign(w))) + hypot(zen, jacov)")
    assert from_sympy(to_sympy(dag)) == dag
    assert text(from_sympy(to_sympy(parse("twice(zen)")))) == "2 * zen"


def test_signs_reach_sympy():
    assert to_sympy(parse("sqrt(square(params))")) == sp.Symbol("params", nonnegative=True)
    assert to_sympy(parse("sqrt(square(zen))")) == sp.Abs(sp.Symbol("zen", real=True))
    assert text(from_sympy(to_sympy(parse("sqrt(square(sum(l2(w))))")))) == "sum(l2(w))"


def test_every_operator_has_a_form_or_is_a_reduction():
    assert {name for name in BUILTIN if OPS[name].sympy is None} == {
        name for name in BUILTIN if OPS[name].kind == "reduction"
    }


def test_import_is_cheap():
    code = "import sys, proxygraph.symbolic, proxygraph.sympy_worker; print('sympy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "False"


def test_all_leaves_keep_their_sign():
    for leaf in STATISTICS.values():
        assert to_sympy(Dag([Node("leaf", leaf.name)], root_axis=None)).is_nonnegative is (
            True if leaf.sign == "nonneg" else None
        )
