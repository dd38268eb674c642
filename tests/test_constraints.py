"""Constraints, units and behaviour: what they mean on formulas people write, and how they are read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.behaviour import Behaviour, parse_trends
from proxygraph.compact.forest import Vocabulary, to_forest
from proxygraph.constraints import Constraints, Units, parse_names, parse_nesting, parse_units
from proxygraph.errors import ConfigError, ParseError, UnknownName
from proxygraph.infix import parse
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.program import lower
from proxygraph.table import StatTable
from proxygraph.units import PLAIN, Unit, parse_unit
from tests.strategies import random_dag, random_table

LEAVES = {name: Leaf(name, "row") for name in ("x", "y", "t", "two words")}
WORDS = Vocabulary.of(LEAVES)


def admitted(rules: Constraints, *formulas: str) -> list[bool]:
    return rules.admits([parse(f, LEAVES) for f in formulas], WORDS).tolist()


# ---- structure -------------------------------------------------------------------------------------------


def test_depth_constants_and_names():
    assert admitted(Constraints(max_depth=1), "x", "x + y", "x + y * t", "x**2") == [True, True, False, True]
    # a shared part stands as often as it is used; an exponent is no constant
    found = admitted(
        Constraints(max_constants=1), "2 * x", "2 * x + 3", "t0 = 2 * x; sin(t0) + t0", "x**3 + 1"
    )
    assert found == [True, False, False, True]
    assert admitted(Constraints(ops=["add", "sin"], leaves=["x"]), "x + sin(x)", "x - x", "sin(y)") == [
        True,
        False,
        False,
    ]


def test_nesting_counts_along_one_path():
    rules = Constraints(nesting=parse_nesting("sin:sin=0,exp=1"))
    found = admitted(
        rules,
        "sin(exp(x) + exp(y))",
        "sin(exp(exp(x)))",
        "sin(x + sin(y))",
        "sin(x) + sin(y)",
        "exp(exp(exp(x)))",
    )
    assert found == [True, False, False, True, True]


def test_cost_classes_and_labels():
    few = Constraints(max_cost="forward").allowed_leaves(STATISTICS)
    assert {leaf.cost for leaf in few.values()} == {"static", "forward"}
    blind = Constraints(labels=False).allowed_leaves(STATISTICS)
    assert not any(leaf.labels for leaf in blind.values())
    assert 0 < len(few) < len(STATISTICS)
    assert 0 < len(blind) < len(STATISTICS)
    assert Constraints(ops=["exp", "add"]).allowed_ops(("add", "mul", "exp")) == ("add", "exp")
    assert Constraints().is_empty
    assert not Constraints(labels=False).is_empty


@pytest.mark.parametrize(
    ("make", "error", "why"),
    [
        (lambda: Constraints(max_depth=-1), ConfigError, "max_depth: -1 is below 0"),
        (lambda: Constraints(nesting={"sin": {"exp": -2}}), ConfigError, "nesting of exp in sin: -2"),
        (lambda: Constraints(ops=["sine"]), UnknownName, "no operator named 'sine'; known: neg, abs"),
        (lambda: Constraints(nesting={"sin": {"f": 1}}), UnknownName, "no operator named 'f'"),
        (lambda: Constraints(max_cost="cheap"), UnknownName, "no cost class named 'cheap'; known: static"),  # type: ignore[arg-type]
        (lambda: Constraints(leaves=["z"]).rules(WORDS), UnknownName, "no leaf named 'z'; known: x, y"),
        (lambda: Constraints(units=Units({"z": PLAIN})).rules(WORDS), UnknownName, "no leaf named 'z'"),
        (lambda: Constraints(leaves=[]).rules(WORDS), ConfigError, "no leaf is allowed"),
        (lambda: Units({}, constants="some"), ConfigError, "constants 'some' is neither"),  # type: ignore[arg-type]
        (lambda: parse_nesting("sin"), ConfigError, "nesting 'sin': expected each operator once"),
        (lambda: parse_nesting("sin:exp=0;sin:exp=1"), ConfigError, "expected each operator once"),
        (lambda: parse_nesting("sin:exp=-1"), ConfigError, "exp=-1 is not a whole number"),
        (lambda: parse_nesting("sin:exp"), ConfigError, "expected name=value"),
        (lambda: parse_nesting("sin:f=1"), UnknownName, "no operator named 'f'"),
        (lambda: parse_units("z=m", LEAVES), UnknownName, "no leaf named 'z'; known: x, y, t, two words"),
        (lambda: parse_units("x=m,x=s", LEAVES), ConfigError, "'x' is given twice"),
        (lambda: parse_units("x", LEAVES), ConfigError, "units 'x': expected name=value"),
        (lambda: parse_units("x=foo", LEAVES), UnknownName, r"no unit named 'foo'; .* \[foo\]"),
        (lambda: parse_trends("x=up"), ConfigError, "trends 'x=up': expected each leaf once"),
        (lambda: parse_trends("x=increasing,x=decreasing"), ConfigError, "expected each leaf once"),
        (lambda: Behaviour({"x": "up"}), ConfigError, "trend of 'x': 'up' is none of increasing, decreasing"),  # type: ignore[dict-item]
        (lambda: Behaviour(sign="big"), ConfigError, "sign 'big' is none of positive"),  # type: ignore[arg-type]
        (lambda: Behaviour(points=1), ConfigError, "200 rows and 1 points"),
        (lambda: Behaviour({"z": "increasing"}).on(grid()), UnknownName, "no leaf named 'z'; known: x, y"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, why):
    with pytest.raises(error, match=why):
        make()


def test_texts_are_read():
    assert parse_nesting(" sin : sin=0 , exp=1 ;; exp:exp=0 ") == {
        "sin": {"sin": 0, "exp": 1},
        "exp": {"exp": 0},
    }
    assert parse_nesting("") == {}
    units = parse_units("x=m, `two words` = kg/s^2", LEAVES, target="m^(1/2)", constants="plain")
    assert units.leaves == {"x": parse_unit("m"), "two words": parse_unit("kg s^-2")}
    assert units.target == parse_unit("m") ** Fraction(1, 2)
    assert parse_names(" add, mul ,") == ("add", "mul")
    assert parse_trends("x=increasing, y = decreasing") == {"x": "increasing", "y": "decreasing"}


# ---- units -----------------------------------------------------------------------------------------------

UNITS = parse_units("x=m,y=m,t=s", LEAVES)


def with_units(target: str | None = None, constants: str = "any", slope: str = "any") -> Constraints:
    return Constraints(units=parse_units("x=m,y=m,t=s", LEAVES, target, constants, slope))  # type: ignore[arg-type]


def test_dimensional_analysis():
    good = (
        "x + y",
        "x / t + 3",
        "sin(x / y)",
        "sqrt(x * y) - x",
        "max(x**1.5, y * y**0.5)",
        "exp(0.5 * t)",
        "sign(t) * x + y",
        "x + 2",
    )
    bad = ("x + t", "sin(x)", "exp(x * y)", "max(x, x**2)", "log(t) + 1", "sqrt(x) + y", "x + t / t")
    assert all(admitted(with_units(), *good))
    assert not any(admitted(with_units(), *bad))
    # plain constants carry no unit
    assert admitted(with_units(constants="plain"), "x + 2", "exp(0.5 * t)", "2 * x + y", "x / y + 2") == [
        False,
        False,
        True,
        True,
    ]


def test_the_unit_of_the_target():
    formulas = ("x / t", "x", "2 * x", "x**2 / y / t")
    assert admitted(with_units("m/s"), *formulas) == [True] * 4  # the slope of the line carries the rest
    assert admitted(with_units("m/s", slope="plain"), *formulas) == [True, False, True, True]
    assert admitted(with_units("m/s", "plain", "plain"), *formulas) == [True, False, False, True]
    assert admitted(with_units("km/s", slope="plain"), *formulas) == [False, False, True, False]


def test_units_are_equal_where_their_meaning_is():
    for a, b in (
        ("N", "kg*m/s^2"), ("J/s", "W"), ("1000 m", "km"), ("km/h", "1000 m/(3600 s)"), ("", "1"),
        ("L", "dm^3"), ("m**0.5", "m^(1/2)"), ("(m/s)^2", "m^2 s^-2"), ("[EUR]/d", "[EUR]/(24 h)"),
        ("V", "W/A"), ("%", "1/100"), ("µm", "um"), ("rad", ""), ("hPa", "100 N/m^2"),
        ("F", "C/V"), ("H", "ohm s"), ("T", "Wb/m^2"),
    ):  # fmt: skip
        assert parse_unit(a) == parse_unit(b), (a, b)
    for a, b in (
        ("m", "km"),
        ("[m]", "m"),
        ("min", "m"),
        ("Pa", "W"),
        ("cd", "d"),
        ("Gy", "Sv/2"),
        ("ha", "h"),
    ):
        assert parse_unit(a) != parse_unit(b)


@given(
    st.dictionaries(
        st.sampled_from(["m", "kg", "s", "2", "5", "[own]"]), st.fractions(-9, 9, max_denominator=8)
    )
)
def test_units_read_back(powers: dict[str, Fraction]):
    unit = Unit.of(powers)
    assert parse_unit(str(unit)) == unit
    assert (unit * unit) / unit == unit
    assert (unit**3) ** Fraction(1, 3) == unit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("m^", "an exponent expected, not 'the end'"),
        ("m^x", "an exponent expected, not 'x'"),
        ("(m", r"'\)' expected"),
        ("m)", r"a factor expected, not '\)'"),
        ("m2", "a factor expected, not '2'"),
        ("m/", "a unit expected, not 'the end'"),
        ("m$", r"'\$' at 2 means nothing here"),
        ("0*m", "a whole number from 1"),
        ("1.5 m", "a whole number from 1"),
        ("m^(1/0)", "an exponent such as"),
        ("m^1000", "exponent 1000 is beyond 100"),
    ],
)
def test_texts_that_are_no_unit(text: str, why: str):
    with pytest.raises(ParseError, match=why):
        parse_unit(text)


# ---- behaviour -------------------------------------------------------------------------------------------


def grid() -> StatTable:
    rng = np.random.default_rng(0)
    return StatTable.from_columns(None, {"x": rng.uniform(-2, 3, 60), "y": rng.uniform(0.5, 2, 60)})


def behaves(behaviour: Behaviour, *formulas: str, slope: float = 1.0, offset: float = 0.0) -> list[bool]:
    table = grid()
    trees = to_forest([parse(f, table.leaves) for f in formulas], Vocabulary.of(table.leaves), 30)
    return behaviour.on(table).holds(trees, slope, offset).tolist()


def test_trends():
    up = Behaviour({"x": "increasing"})
    formulas = ("x", "x * y", "x**3", "-x", "x**2", "exp(x) + sin(y)", "y", "x - x**3", "log(x)", "max(x, 1)")
    good = [True, True, True, False, False, True, True, False, False, True]
    assert behaves(up, *formulas) == good
    down = Behaviour({"x": "decreasing"})
    assert behaves(down, *formulas, slope=-2.0) == good  # the final form counts
    assert behaves(down, "x", "-x", "y", "x * 1e-30") == [False, True, True, False]
    both = Behaviour({"x": "increasing", "y": "decreasing"})
    assert behaves(both, "x / y", "x - y", "exp(x) / y") == [False, True, True]  # x has both signs
    assert behaves(up, "x", slope=0.0) == [True]


def test_signs():
    formulas = ("y", "x**2", "x", "-y", "abs(x) - 10", "log(x)")
    assert behaves(Behaviour(sign="positive"), *formulas) == [True, True, False, False, False, False]
    assert behaves(Behaviour(sign="negative"), *formulas) == [False, False, False, True, True, False]
    assert behaves(Behaviour(sign="positive"), "x", "-y", offset=10.0) == [True, True]
    assert behaves(Behaviour(sign="nonneg"), "max(x, 0)") == [True]
    assert behaves(Behaviour(sign="positive"), "max(x, 0)") == [False]
    assert behaves(Behaviour(sign="nonpos"), "max(x, 0)", slope=-1.0) == [True]


def test_known_values_are_taken():
    table = grid()
    trees = to_forest([parse("y", table.leaves)], Vocabulary.of(table.leaves), 3)
    check = Behaviour(sign="positive").on(table)
    assert not check.holds(trees, values=-np.ones((1, 60)))[0]


def test_leaves_on_finer_axes_rise_together():
    table = random_table(np.random.default_rng(3), STATISTICS)
    formulas = (
        "sum(sum(w))",
        "sum(sum(-w))",
        "sum(max(w) - mean(w)) * 0 + sum(max(w))",
        "sum(mean(w)) - 3 * sum(max(w))",
        "sum(numel)",
        "-sum(numel)",
    )
    trees = to_forest([parse(f, table.leaves) for f in formulas], Vocabulary.of(table.leaves), 40)
    up = Behaviour({"w": "increasing"}).on(table).holds(trees)
    assert up.tolist() == [True, False, True, False, True, True]
    assert Behaviour({"numel": "increasing"}).on(table).holds(trees).tolist() == [
        True,
        True,
        True,
        True,
        True,
        False,
    ]


def test_random_formulas_against_the_reference():
    """Point by point in plain loops, on all rows."""
    table = grid()
    rng = np.random.default_rng(1)
    ops = ("add", "sub", "mul", "exp", "square", "maximum", "neg", "tanh")
    formulas = [random_dag(rng, dict(table.leaves), 4, ops) for _ in range(200)]
    formulas = [f for f in formulas if f.leaves]
    trees = to_forest(formulas, Vocabulary.of(table.leaves), 64)
    found = Behaviour({"x": "increasing"}, points=5).on(table).holds(trees)
    points = np.quantile(table.columns["x"], np.linspace(0, 1, 5))
    for dag, ok in zip(formulas, found, strict=True):
        rows = []
        for v in points:
            moved = StatTable.from_columns(None, {"x": np.full(60, v), "y": table.columns["y"]})
            rows.append(ReferenceKernel(lower([dag]))(moved)[0])
        values = np.array(rows)
        with np.errstate(all="ignore"):
            expected = (
                np.isfinite(values).all()
                and (np.diff(values, axis=0) >= -1e-9 * np.abs(values).max(axis=0)).all()
            )
        assert ok == expected
    assert 0.2 < found.mean() < 0.8
