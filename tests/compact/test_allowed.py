"""The compiled check of trees against a slow one on Dags that follows the words of the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.compact.allowed import allowed, allowed_trees
from proxygraph.compact.breed import choices
from proxygraph.compact.forest import Forest, Vocabulary
from proxygraph.constraints import UNIT_RULES, Constraints, Units
from proxygraph.dag import Dag
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import BUILTIN, Op, register, unregister
from proxygraph.units import PLAIN, Unit, parse_unit
from tests.compact.trees import bred, dags_of, tidied, written
from tests.strategies import dags, random_dag

WORDS = Vocabulary.of(STATISTICS)
TABLE = {name: Leaf(name, "row") for name in ("x", "y", "t")}
ANY = "any"


# ---- the rules once more, node by node -------------------------------------------------------------------


def paths_with(dag: Dag, i: int, name: str) -> int:
    """Most operators of that name on one path from node i downwards, i included."""
    node = dag.nodes[i]
    own = node.kind == "op" and node.name == name
    return own + max((paths_with(dag, j, name) for j in node.args), default=0)


def constants(dag: Dag, i: int) -> int:
    node = dag.nodes[i]
    if node.kind == "op" and node.name == "pow":
        return constants(dag, node.args[0])
    return (node.kind == "const") + sum(constants(dag, j) for j in node.args)


class NoUnit(Exception):
    """No unit can be had."""


def unit_of(dag: Dag, i: int, units: Units) -> Unit | str:
    """The unit of a part, or that it can have any."""
    node = dag.nodes[i]
    if node.kind == "const":
        return ANY if units.constants == "any" else PLAIN
    if node.kind == "leaf":
        return units.leaves.get(node.name, PLAIN)
    args = [unit_of(dag, j, units) for j in node.args]
    first = args[0]
    if node.name in ("add", "sub", "maximum", "minimum"):
        known = {a for a in args if a != ANY}
        if len(known) > 1:
            raise NoUnit
        return known.pop() if known else ANY
    if node.name in ("mul", "div"):
        if isinstance(first, str) or isinstance(args[1], str):
            return ANY
        return first * args[1] if node.name == "mul" else first / args[1]
    powers = {"square": 2.0, "cube": 3.0, "sqrt": 0.5, "inv": -1.0}
    if node.name in powers or node.name == "pow":
        power = dag.nodes[node.args[1]].value if node.name == "pow" else powers[node.name]
        if isinstance(first, str):
            return ANY if power else PLAIN
        return first ** Fraction(power)
    if node.name in ("sign", "count"):
        return PLAIN
    if node.name in ("neg", "abs", "relu", "sum", "mean", "std", "min", "max", "l1", "l2"):
        return first
    if any(a not in (ANY, PLAIN) for a in args):
        raise NoUnit
    return PLAIN


def keeps(dag: Dag, rules: Constraints, leaves: dict[str, Leaf]) -> bool:
    root = len(dag.nodes) - 1
    allowed_leaves = rules.allowed_leaves(leaves)
    for node in dag.nodes:
        if node.kind == "leaf" and node.name not in allowed_leaves:
            return False
        if node.kind == "op" and rules.ops is not None and node.name not in rules.ops:
            return False
        if node.kind == "op":
            for inner, most in rules.nesting.get(node.name, {}).items():
                if max(paths_with(dag, j, inner) for j in node.args) > most:
                    return False
    if rules.max_depth is not None and dag.depth > rules.max_depth:
        return False
    if rules.max_constants is not None and constants(dag, root) > rules.max_constants:
        return False
    if rules.units is not None:
        try:
            unit = unit_of(dag, root, rules.units)
        except NoUnit:
            return False
        bound = rules.units.target is not None and rules.units.slope == "plain"
        return not bound or unit in (ANY, rules.units.target)
    return True


# ---- the comparison --------------------------------------------------------------------------------------

NAMES = st.sampled_from(sorted(BUILTIN))
SOME_UNITS = st.sampled_from(["m", "s", "m/s", "m^2", "1", "km", "m^0.5", "s^-1"]).map(parse_unit)


@st.composite
def some_units(draw: st.DrawFn, leaves: dict[str, Leaf]) -> Units:
    """Units of which many are equal, so that formulas that have one are not rare."""
    few = draw(st.lists(SOME_UNITS, min_size=1, max_size=2))
    return Units(
        {name: draw(st.sampled_from(few)) for name in leaves},
        draw(st.none() | st.sampled_from(few)),
        draw(st.sampled_from(["any", "plain"])),
        draw(st.sampled_from(["any", "plain"])),
    )


@st.composite
def some_rules(draw: st.DrawFn, leaves: dict[str, Leaf]) -> Constraints:
    inner = st.dictionaries(NAMES, st.integers(0, 2), min_size=1, max_size=3)
    return Constraints(
        max_depth=draw(st.none() | st.integers(1, 8)),
        max_constants=draw(st.none() | st.integers(0, 3)),
        ops=draw(st.none() | st.lists(NAMES, min_size=15, max_size=40)),
        leaves=draw(
            st.none() | st.permutations(sorted(leaves)).map(lambda names: names[: len(names) // 2 + 1])
        ),
        labels=draw(st.booleans()),
        nesting=draw(st.just({}) | st.dictionaries(NAMES, inner, max_size=4)),
        units=draw(st.none() | some_units(leaves)),
    )


def agree(dag_list: list[Dag], rules: Constraints, leaves: dict[str, Leaf]) -> list[bool]:
    words = Vocabulary.of(leaves)
    found = allowed_trees(written(dag_list, words), words.symbols, rules.rules(words))
    expected = [keeps(dag, rules, leaves) for dag in dag_list]
    assert found.tolist() == expected
    return expected


@given(dags(), some_rules(dict(STATISTICS)))
def test_all_rules_on_statistics(dag: Dag, rules: Constraints):
    agree([dag], rules, dict(STATISTICS))


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("max_depth", 0.1),
        ("max_constants", 0.2),
        ("ops", 0.01),
        ("leaves", 0.05),
        ("nesting", 0.1),
        ("units", 0.003),
    ],
)
def test_each_rule_on_many_formulas_and_both_answers_occur(kind: str, share: float):
    rng = np.random.default_rng(0)
    many = [random_dag(rng, TABLE, 7) for _ in range(600)]
    units = Units({"x": parse_unit("m"), "y": parse_unit("m"), "t": parse_unit("s")}, parse_unit("m^2"))
    cases = {
        "max_depth": [Constraints(max_depth=3)],
        "max_constants": [Constraints(max_constants=1)],
        "ops": [Constraints(ops=sorted(BUILTIN - {"exp", "log", "cos", "minimum"}))],
        "leaves": [Constraints(leaves=["x", "t"])],
        "nesting": [
            Constraints(nesting={"mul": {"exp": 0, "add": 1}, "add": {"add": 0, "mul": 1}, "sin": {"sin": 0}})
        ],
        "units": [
            Constraints(units=replace(units, constants=a, slope=b))
            for a in ("any", "plain")
            for b in ("any", "plain")
        ],
    }
    for rules in cases[kind]:
        answers = agree(many, rules, TABLE)
        assert share < np.mean(answers) < 1 - share


@given(st.lists(dags(TABLE, max_ops=6), min_size=1, max_size=3), some_units(TABLE))
def test_units_on_tables(some: list[Dag], units: Units):
    agree(some, Constraints(units=units), TABLE)


def test_every_operator_has_a_unit_rule_on_purpose():
    plain = {"exp", "log", "log1p", "tanh", "sigmoid", "sin", "cos"}
    assert UNIT_RULES.keys() | plain == BUILTIN
    assert not UNIT_RULES.keys() & plain


def test_bred_and_tidy_trees():
    have = choices(WORDS, sorted(BUILTIN), 15)
    forest, _ = bred(have, 400, seed=3)
    keys, _ = tidied(forest, WORDS)
    forest = forest.take(keys != 0)
    rules = Constraints(
        max_depth=5, max_constants=2, nesting={"exp": {"exp": 0, "log": 0}}, max_cost="backward"
    )
    found = allowed_trees(forest, WORDS.symbols, rules.rules(WORDS))
    assert found.tolist() == [keeps(dag, rules, dict(STATISTICS)) for dag in dags_of(forest, WORDS)]
    assert 0.1 < found.mean() < 0.9


def test_a_share_of_the_trees_and_entries_behind_the_end():
    rng = np.random.default_rng(1)
    words = Vocabulary.of(TABLE)
    forest = written([random_dag(rng, TABLE, 6) for _ in range(20)], words)
    rules = Constraints(max_depth=3).rules(words)
    whole = allowed_trees(forest, words.symbols, rules)
    wide = Forest(
        np.hstack([forest.code, np.full((20, 5), 999, np.int16)]),
        np.hstack([forest.value, np.ones((20, 5))]),
        forest.length,
    )
    ok = np.zeros(20, bool)
    for first, last in ((0, 7), (7, 7), (7, 20)):
        allowed(*wide, words.symbols, rules, first, last, ok)
    np.testing.assert_array_equal(ok, whole)
    assert not allowed_trees(Forest.empty(2, 5), words.symbols, rules).any()


def user_op(function: Callable[..., object]) -> Op:
    return Op("softsign", 1, "elementwise", function)


def test_operators_of_users_take_and_give_plain_numbers():
    register(user_op(lambda np, a: a / (1 + np.abs(a))))
    try:
        words = Vocabulary.of(TABLE)
        from proxygraph.infix import parse

        formulas = [parse(f, TABLE) for f in ("softsign(x)", "softsign(x / y)", "x + softsign(t / t)")]
        units = Units({"x": parse_unit("m"), "y": parse_unit("m"), "t": parse_unit("s")})
        rules = Constraints(units=units, nesting={"softsign": {"div": 0}})
        assert Constraints(units=units).admits(formulas, words).tolist() == [False, True, False]
        assert rules.admits(formulas, words).tolist() == [False, False, False]
    finally:
        unregister("softsign")
