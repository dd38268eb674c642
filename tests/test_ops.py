"""The operator table: every column says the same as ``numpy``, and none is forgotten."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from proxygraph.canon import canonical
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, UnknownName
from proxygraph.infix import parse, text
from proxygraph.kernels.population import Population
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.latex import latex
from proxygraph.leaves import STATISTICS
from proxygraph.ops import BUILTIN, OPS, Op, find, is_half_integer, register, unregister
from proxygraph.program import lower
from tests.contracts.agreement import compare
from tests.strategies import random_table

ELEMENTWISE = [op for op in OPS.values() if op.kind == "elementwise"]
REDUCTIONS = [op for op in OPS.values() if op.kind == "reduction"]
UNDEFINED_IN_SYMPY = "sympy has no sum over the entries of a layer: proxygraph.symbolic makes these functions"
POINTS = (-3.0, -1.0, -0.3, 0.0, 0.2, 1.0, 2.5, 30.0)


def named(op: Op) -> str:
    return op.name


def cases(op: Op) -> list[tuple[float, ...]]:
    """Arguments on and off the operator's domain."""
    if op.name == "pow":
        return [(a, b) for a in POINTS for b in (-1.5, -1.0, 0.0, 0.5, 2.0, 3.0)]
    return [(a,) for a in POINTS] if op.arity == 1 else [(a, b) for a in POINTS for b in POINTS]


def meaning(op: Op, args: tuple[float, ...]) -> float:
    with np.errstate(all="ignore"):
        return float(op.numpy(np, *(np.array([a]) for a in args))[0])


# ---- every column ----------------------------------------------------------------------------------------


def test_no_template_forgot_an_operator():
    for op in OPS.values():
        assert op.latex
        assert op.torch
        assert op.domain
        assert op.cost > 0
        assert len(op.slots) == op.arity
    for op in ELEMENTWISE:
        assert op.numba, op.name
        assert op.sympy is not None, op.name
        assert (op.init, op.update, op.final) == ((), (), ""), op.name
    for op in REDUCTIONS:
        assert op.init, op.name
        assert len(op.init) == len(op.update), op.name
        assert op.final, op.name
        assert op.sympy is None, UNDEFINED_IN_SYMPY
        assert not op.numba, op.name
        assert not op.commutative, op.name


def test_the_built_in_operators():
    assert set(BUILTIN) == set(OPS)
    assert {op.name for op in REDUCTIONS} == {"sum", "mean", "std", "min", "max", "l1", "l2", "count"}
    assert {op.name for op in ELEMENTWISE if op.commutative} == {"add", "mul", "maximum", "minimum"}
    with pytest.raises(TypeError):
        OPS["add"] = OPS["sub"]  # type: ignore[index]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=named)
def test_numba_form(op: Op):
    for args in cases(op):
        expected = meaning(op, args)
        if math.isfinite(expected):
            code = op.numba.format(*(f"x{i}" for i in range(op.arity)))
            names = {f"x{i}": np.float64(a) for i, a in enumerate(args)} | {"np": np, "math": math}
            assert float(eval(code, names)) == pytest.approx(expected, rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=named)
def test_torch_form(op: Op):
    torch = pytest.importorskip("torch")
    code = op.torch.format(*(f"x{i}" for i in range(op.arity)))
    for args in cases(op):
        names = {f"x{i}": torch.tensor([a], dtype=torch.float64) for i, a in enumerate(args)} | {
            "torch": torch
        }
        got = float(eval(code, names)[0])
        np.testing.assert_allclose(got, meaning(op, args), rtol=1e-13, equal_nan=True)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=named)
def test_sympy_form(op: Op):
    sympy = pytest.importorskip("sympy")
    assert op.sympy is not None
    for args in cases(op)[::3]:
        expected = meaning(op, args)
        if math.isfinite(expected):
            value = op.sympy(sympy, *(sympy.Float(a, 30) for a in args))
            assert float(sympy.N(value)) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("op", REDUCTIONS, ids=named)
@pytest.mark.parametrize(
    "values", [[1.5], [0.1, 0.1, 0.1], [-2.0, 0.0, 3.0, 0.25], [1e8 + 1, 1e8 + 2, 1e8 + 4]]
)
def test_single_pass_form(op: Op, values: list[float]):
    count = 3.0 * len(values)
    names = {"np": np, "math": math, "first": values[0], "n": len(values), "count": count}
    state = [eval(code, names) for code in op.init]
    slots = {f"s{i}": f"s{i}" for i in range(len(state))} | {k: k for k in ("x", "first", "n", "count")}
    for x in values:
        held = names | {"x": x} | {f"s{i}": s for i, s in enumerate(state)}
        state = [eval(code.format(**slots), held) for code in op.update]
    held = names | {f"s{i}": s for i, s in enumerate(state)}
    got = eval(op.final.format(**slots), held)
    assert float(got) == pytest.approx(float(op.numpy(np, np.array(values), count)), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("op", REDUCTIONS, ids=named)
def test_torch_form_of_reductions_on_all_entries(op: Op):
    torch = pytest.importorskip("torch")
    values = np.array([-2.0, 0.0, 3.0, 0.25])
    got = eval(op.torch.format("v"), {"torch": torch, "v": torch.tensor(values)})
    assert float(got) == pytest.approx(float(op.numpy(np, values, 4.0)))


def test_a_sample_stands_for_all_entries():
    values = np.array([-1.0, 2.0, 3.0])
    scaled = {name: float(OPS[name].numpy(np, values, 30.0)) for name in ("sum", "l1", "l2", "count")}
    assert scaled == {"sum": 40.0, "l1": 60.0, "l2": pytest.approx(math.sqrt(140.0)), "count": 30.0}
    for name in ("mean", "std", "min", "max"):
        assert float(OPS[name].numpy(np, values, 30.0)) == float(OPS[name].numpy(np, values, 3.0))


@pytest.mark.parametrize("op", REDUCTIONS, ids=named)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_reductions_do_not_swallow_what_is_not_finite(op: Op, bad: float):
    with np.errstate(all="ignore"):
        got = float(op.numpy(np, np.array([1.0, bad, 2.0]), 3.0))
    assert not math.isfinite(got) or (op.name == "min" and bad == np.inf)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=named)
def test_operators_do_not_swallow_nan(op: Op):
    for i in range(op.arity):
        args = [0.5] * op.arity
        args[i] = math.nan
        if op.name != "pow" or i == 0:
            assert math.isnan(meaning(op, tuple(args)))


@pytest.mark.parametrize("op", ELEMENTWISE, ids=named)
def test_commutative(op: Op):
    if op.arity == 2:
        equal = all(
            meaning(op, (a, b)) == meaning(op, (b, a))
            for a, b in cases(op)
            if math.isfinite(meaning(op, (a, b)))
        )
        assert equal == op.commutative


@pytest.mark.parametrize("op", ELEMENTWISE, ids=named)
def test_nonneg(op: Op):
    """The stated knowledge is true, and no stronger one would be."""

    def holds(fits) -> bool:
        values = [meaning(op, args) for args in cases(op) if fits(args)]
        return all(v >= 0 for v in values if math.isfinite(v))

    always = holds(lambda args: True)
    any_arg = holds(lambda args: any(a >= 0 for a in args))
    all_args = holds(lambda args: all(a >= 0 for a in args))
    if op.name == "pow":  # of the base alone: the exponent is a constant
        all_args = holds(lambda args: args[0] >= 0)
    expected = "always" if always else "any" if any_arg and op.arity == 2 else "args" if all_args else "never"
    assert op.nonneg == expected or (op.arity == 1 and {op.nonneg, expected} == {"any", "args"})


def test_the_domain_is_said_where_it_is_not_everything():
    for op in ELEMENTWISE:
        everywhere = all(math.isfinite(meaning(op, args)) for args in cases(op))
        if not everywhere:
            assert op.domain != "all reals", op.name


# ---- names -----------------------------------------------------------------------------------------------


def test_find():
    assert find("max", 1).name == "max"
    assert find("max", 2).name == "maximum"
    assert find("maximum", 2).name == "maximum"
    with pytest.raises(UnknownName, match=r"max\(\) takes 2 or 1 argument\(s\), got 3"):
        find("max", 3)
    with pytest.raises(UnknownName, match="unknown operator 'tang'; did you mean tanh"):
        find("tang", 1)
    with pytest.raises(UnknownName, match="unknown operator 'qqq'; known: abs, add"):
        find("qqq", 1)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        (0.5, True),
        (-2.0, True),
        (16.0, True),
        (0.0, True),
        (0.3, False),
        (16.5, False),
        (math.inf, False),
        (math.nan, False),
    ],
)
def test_exponents(value: float, allowed: bool):
    assert is_half_integer(value) == allowed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "scan"}, "operator 'mine': kind 'scan' is neither"),
        ({"arity": 3}, "operator 'mine': arity 3; operators take 1 or 2"),
        ({"arity": 0}, "arity 0"),
        ({"kind": "reduction", "arity": 2}, "arity 2; operators take 1 or 2 arguments, reductions 1"),
        ({"name": "my op"}, "operator name 'my op' is not an identifier"),
        ({"name": "lambda"}, "operator name 'lambda' is not an identifier"),
        ({"name": "ﬁ"}, "operator name 'ﬁ' is not an identifier"),
        ({"call": "my op"}, "operator name 'my op' is not an identifier"),
        ({"init": ("0.0",)}, "operator 'mine': 1 accumulators but 0 updates"),
        ({"name": "add"}, "operator 'add' exists already; choose another name"),
        ({"name": "sqrt"}, "operator 'sqrt' exists already"),
        ({"call": "log"}, r"operator 'mine': log\(\) with 1 argument\(s\) already means 'log'"),
        ({"call": "max", "arity": 2}, r"max\(\) with 2 argument\(s\) already means 'maximum'"),
        ({"call": "maximum", "arity": 2}, r"maximum\(\) with 2 argument\(s\) already means 'maximum'"),
        ({"infix": "{0} ? "}, "infix forms are for built-in operators"),
    ],
)
def test_operators_that_are_refused(change: dict, message: str):
    base = {"name": "mine", "arity": 1, "kind": "elementwise", "numpy": lambda np, a: a}
    with pytest.raises(ConfigError, match=message):
        register(Op(**(base | change)))
    assert set(OPS) == set(BUILTIN)


def test_registering_and_removing():
    op = Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a)))
    assert register(op) is op
    try:
        assert register(op) is op  # the same row again is no mistake
        with pytest.raises(ConfigError, match="operator 'softsign' exists already"):
            register(dataclasses.replace(op, cost=2.0))
    finally:
        unregister("softsign")
    for name in ("softsign", "add"):
        with pytest.raises(UnknownName, match=f"no user operator named '{name}'"):
            unregister(name)


# ---- a user's operator -----------------------------------------------------------------------------------


@pytest.fixture
def mine():
    """A unary, a binary and a reduction, written as the table's own rows are."""
    ops = (
        Op("softsign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a)), "({0} / (1.0 + abs({0})))",
           "({0} / (1.0 + torch.abs({0})))", lambda sp, a: a / (1 + sp.Abs(a)), nonneg="args"),
        Op("hypot", 2, "elementwise", lambda np, a, b: np.hypot(a, b), "math.hypot({0}, {1})",
           "torch.hypot({0}, {1})", lambda sp, a, b: sp.sqrt(a**2 + b**2), commutative=True, nonneg="always"),
        Op("span", 1, "reduction", lambda np, v, count: np.max(v) - np.min(v), "",
           "({0}.amax() - {0}.amin())", nonneg="always", init=("-np.inf", "np.inf"),
           update=("np.maximum({s0}, {x})", "np.minimum({s1}, {x})"), final="({s0} - {s1})"),
    )  # fmt: skip
    for op in ops:
        register(op)
    yield ops
    for op in ops:
        unregister(op.name)


FORMULA = "sum(span(softsign(w) * hypot(g, numel))) / params"


@pytest.mark.usefixtures("mine")
class TestAUsersOperator:
    def test_in_the_graph(self):
        dag = parse(FORMULA)
        assert parse(text(dag)) == dag
        assert Dag.from_json(dag.to_json()) == dag
        assert Dag.from_graph(dag.graph) == dag

    def test_in_the_canonical_form(self):
        assert canonical(parse(FORMULA)) == canonical(
            parse("inv(params) * sum(span(hypot(numel, g) * softsign(w)))")
        )

    def test_in_the_kernels(self):
        from proxygraph.kernels.fused import FusedKernel

        table = random_table(np.random.default_rng(0))
        program = lower([parse(FORMULA)])
        assert compare(FusedKernel(program)(table), program, table).any()
        reference = ReferenceKernel(program)(table)
        np.testing.assert_allclose(Population(table)([parse(FORMULA)]), reference, rtol=1e-4)

    def test_in_latex_and_sympy(self):
        from proxygraph.symbolic import from_sympy, to_sympy

        assert r"\operatorname{span}" in latex(parse(FORMULA))
        scalar = parse("softsign(zen) + hypot(zen, params)")
        table = random_table(np.random.default_rng(0))
        back = from_sympy(to_sympy(scalar), scalar.leaves)
        program = lower([scalar, back])
        a, b = ReferenceKernel(program)(table)
        np.testing.assert_allclose(a, b, rtol=1e-12)

    def test_in_the_exported_python(self):
        torch_source = pytest.importorskip("proxygraph.torch_source")
        source = torch_source.formula_python(parse(FORMULA), provenance={})
        compile(source, "formula.py", "exec")
        assert "torch.hypot(" in source


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPS["add"].name = "plus"  # type: ignore[misc]
    with pytest.raises(TypeError):
        STATISTICS["x"] = STATISTICS["w"]  # type: ignore[index]
