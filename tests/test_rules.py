"""Every rewrite on its stated domain: both sides computed, and both sides of one canonical form.

The letters of a rule (see `proxygraph.rules`) stand for columns of a table here, on every axis they can be
on: columns of rows; of layers, beside one of their row; of elements, beside one of their layer or row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from proxygraph.canon import canonical
from proxygraph.dag import FINENESS, Dag
from proxygraph.errors import InvalidDag
from proxygraph.infix import parse, text
from proxygraph.leaves import Axis, Leaf
from proxygraph.ops import OPS
from proxygraph.patterns import LETTERS, rewrite_rules, rules_for
from proxygraph.rules import LAWS, NOT_RULES, RULES, Rule
from proxygraph.table import StatTable
from tests.numeric import disagreement

EVERY = (*RULES, *LAWS)
# the axis of most letters, and of s and r
AXES: tuple[tuple[Axis, Axis], ...] = (
    ("row", "row"),
    ("layer", "row"),
    ("element", "layer"),
    ("element", "row"),
)
NUMBERS = {"n": (0.5, 1.5, 2.5, -0.5, -1.5, 5.0, -3.0), "k": (2.5, 1.0, 0.1)}
N_ROWS = 24


def leaf(letter: str, axis: Axis) -> Leaf:
    return Leaf(letter, axis, LETTERS[letter].sign)


def cases(lhs: str, rhs: str) -> Iterator[tuple[Dag, Dag]]:
    """Both sides as formulas, for every number that n and k can be and every choice of axes."""
    letter = next((c for c in NUMBERS if re.search(rf"\b{c}\b", lhs)), "none")
    for number in NUMBERS.get(letter, (1.0,)):
        sides = [re.sub(rf"\b{letter}\b", f"({number})", side) for side in (lhs, rhs)]
        for fine, coarse in AXES:
            leaves = {c: leaf(c, coarse if c in "sr" else fine) for c in LETTERS}
            try:
                one, other = (parse(side, leaves, root_axis=None) for side in sides)
            except InvalidDag:  # a reduction of a row value
                continue
            if coarse == "row" or set(one.leaves) & set("sr"):
                yield one, other


def on_rows(dag: Dag, like: Dag) -> Dag:
    """The formula as one value per row; where `like` is finer, it is repeated for every entry first."""
    *lets, last = text(dag).split("; ")
    if dag.axes[-1] != like.axes[-1]:
        finer = next(name for name, leaf in like.leaves.items() if leaf.axis == like.axes[-1])
        last = f"{last} + 0 * {finer}"
    for _ in range(FINENESS[like.axes[-1]]):
        last = f"sum({last})"
    return parse("; ".join([*lets, last]), {**like.leaves, **dag.leaves})


def table_for(leaves: dict[str, Leaf], seed: int) -> StatTable:
    """Rows for letters: zeros, ones, both signs, sizes from 1e-3 to 30."""
    rng = np.random.default_rng(seed)
    layers = rng.integers(1, 4, size=N_ROWS)
    elements = rng.integers(1, 4, size=int(layers.sum()))
    size = {"row": N_ROWS, "layer": int(layers.sum()), "element": int(elements.sum())}
    columns = {}
    for name, one in leaves.items():
        values = rng.normal(size=size[one.axis]) * 10.0 ** rng.uniform(-3, 1, size=size[one.axis])
        kind = rng.uniform(size=values.size)
        values[kind < 0.1] = 0.0
        values[(kind > 0.1) & (kind < 0.2)] = 1.0
        columns[name] = values if one.sign == "any" else np.abs(values)
    offsets = {"layer": np.concatenate([[0], np.cumsum(layers)])}
    counts = {}
    if "element" in {one.axis for one in leaves.values()}:
        offsets["element"], counts["element"] = np.concatenate([[0], np.cumsum(elements)]), 3.0 * elements
    return StatTable(tuple(map(str, range(N_ROWS))), columns, leaves, offsets, counts, {})


def failure(lhs: str, rhs: str) -> str | None:
    """What the numbers say against a rewrite; `None` if nothing does."""
    tried = 0
    for one, other in cases(lhs, rhs):
        tried += 1
        left, right = on_rows(one, one), on_rows(other, one)
        for seed in range(2):
            wrong = disagreement(left, right, table_for({**left.leaves, **right.leaves}, seed))
            if wrong:
                return f"{text(left)} is not {text(right)}: {wrong}"
    assert tried, f"{lhs} fits no axes"
    return None


@pytest.mark.parametrize("rule", EVERY, ids=lambda r: f"{r.lhs} -> {r.rhs}")
def test_both_sides_have_one_value(rule: Rule):
    assert failure(rule.lhs, rule.rhs) is None


@pytest.mark.parametrize("rule", EVERY, ids=lambda r: f"{r.lhs} -> {r.rhs}")
def test_both_sides_have_one_canonical_form(rule: Rule):
    met = [
        (text(canonical(one)), text(canonical(other)))
        for one, other in cases(rule.lhs, rule.rhs)
        if one.axes[-1] == other.axes[-1]
    ]
    assert met
    assert all(one == other for one, other in met)


@pytest.mark.parametrize(("lhs", "rhs", "why"), NOT_RULES, ids=lambda s: s)
def test_the_checks_see_what_is_wrong(lhs: str, rhs: str, why: str):
    assert failure(lhs, rhs) is not None, why
    assert all(canonical(one) != canonical(other) for one, other in cases(lhs, rhs))


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        ("abs(a)", "a"),
        ("max(p, -q)", "-q"),
        ("relu(a)", "a"),
        ("sum(x * s)", "sum(x)"),
        ("std(x * s)", "std(x) * s"),
        ("mean(exp(x))", "exp(mean(x))"),
        ("a + b", "a + b + 1e-6"),
        ("l1(x)", "sum(x)"),
    ],
)
def test_the_checks_see_other_mistakes_too(lhs: str, rhs: str):
    assert failure(lhs, rhs) is not None


# ---- the tables ------------------------------------------------------------------------------------------


def test_no_rule_stands_twice():
    seen = [(rule.lhs, rule.rhs) for rule in EVERY]
    assert len(set(seen)) == len(seen)


def test_every_rule_says_where_it_holds():
    assert all(rule.holds for rule in EVERY)


def test_letters_mean_what_the_table_says():
    assert {c for c, leaf in LETTERS.items() if leaf.sign == "nonneg"} == set("pqrk")
    assert {c for c, leaf in LETTERS.items() if leaf.axis == "row"} == set("sr")


def test_the_index_of_rules_leaves_none_out():
    names = [*OPS, "leaf", "const"]
    for op, rules in rewrite_rules().items():
        arity = OPS[op].arity
        kinds = [(a,) for a in names] if arity == 1 else [(a, b) for a in names for b in names]
        found = {rule for kind in kinds for rule in rules_for(op, kind)}
        assert found == set(rules)
        assert all(lhs.op == op for lhs, _ in rules)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.lhs)
def test_a_rule_makes_a_formula_no_larger_but_by_a_constant(rule: Rule):
    lhs, rhs = (
        parse(s.replace("**n", "**2.5").replace("n *", "2.5 *"), LETTERS, root_axis=None)
        for s in (rule.lhs, rule.rhs)
    )
    assert sum(n.kind != "const" for n in rhs) <= sum(n.kind != "const" for n in lhs)
