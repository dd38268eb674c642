"""MathML: the notation of LaTeX, well-formed, every operator and leaf translated."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from proxygraph.dag import Dag, Node
from proxygraph.infix import parse
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.mathml import _template, leaf_mathml, mathml, mathml_lines
from proxygraph.ops import OPS, Op, register, unregister
from tests.strategies import formula_of, op_cases, random_dag

pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
CORE = {"math", "mrow", "mi", "mn", "mo", "msub", "msup", "munder", "mfrac", "msqrt"}
"""What the formulas need of MathML Core: browsers set all of these."""


def shown(line: str) -> str:
    """The text of an element, as a browser without MathML would run it together."""
    return "".join(ET.fromstring(line).itertext()).replace("\u2061", "")


def checked(dag: Dag) -> None:
    for line in mathml_lines(dag, marked=True):
        tree = ET.fromstring(line)
        assert {e.tag.partition("}")[2] for e in tree.iter()} <= CORE
        assert not re.search(r"[\\{}\ue000-\ue002]", shown(line))


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("sum(sum(abs(w * g)))", "∑ℓ∑i|w·g|"),
        ("sum(mean(a))", "∑ℓmeanj(a)"),
        ("zen - (zen - jacov)", "zen−(zen−jacov)"),
        ("zen * (swap + jacov)", "zen·(swap+jacov)"),
        ("(-2)**3", "(−2)3"),
        ("log1p(-zen)", "log(1+(−zen))"),
        ("sum(depth) * zen", "(∑ℓd)·zen"),
        ("max(zen, 0.5)", "max(zen,0.5)"),
        ("1.5e-7 * zen", "1.5·10−7·zen"),
    ],
)
def test_brackets_stand_where_latex_has_them(formula, expected):
    (line,) = mathml_lines(parse(formula))
    assert shown(line) == expected


@pytest.mark.parametrize(("name", "axis"), op_cases())
def test_every_operator_is_translated(name, axis):
    assert _template(OPS[name].latex, OPS[name].arity) is not None
    checked(formula_of(name, axis))


@pytest.mark.parametrize("leaf", STATISTICS.values(), ids=str)
def test_every_leaf_is_translated(leaf):
    made = leaf_mathml(leaf)
    ET.fromstring(f"<m>{made}</m>")
    assert "\\" not in made


def test_random_formulas_are_core_mathml():
    rng = np.random.default_rng(0)
    for _ in range(30):
        checked(random_dag(rng, max_ops=12))


def test_names_of_columns_are_escaped_words():
    leaf = Leaf('<b>&"x y"</b>\n', "row")
    (line,) = mathml_lines(Dag([Node("leaf", leaf.name), Node("op", "sqrt", (0,))], {leaf.name: leaf}))
    assert shown(line) == '<b>&"x y"</b> '
    # as an identifier: an <mtext> would count as space, and the operator beside it would be a prefix
    assert "<mtext>" not in line


def test_parts_used_twice_are_named_once():
    first, part = mathml_lines(parse("sum(mean((w - mean(w)) / std(w * mean(w))))"))
    assert shown(part) == "t0=meani(w)"
    assert shown(first).count("t0") == 2
    assert mathml(parse("zen")).count("\n") == 0


def test_nodes_are_marked_with_position_and_axis():
    dag = parse("sum(mean(w) * numel) - zen")
    (line,) = mathml_lines(dag, marked=True)
    marks = re.findall(r'data-node="(\d+)"', line)
    assert sorted(map(int, marks)) == list(range(len(dag)))
    for axis in ("element", "layer", "row"):
        assert f'class="axis-{axis}"' in line
    assert "data-node" not in mathml(dag)


def test_short_brackets_do_not_grow():
    assert 'stretchy="true"' not in mathml(parse("log(zen)"))
    assert 'stretchy="true"' in mathml(parse("log(zen / jacov)"))
    assert mathml(parse("log(log(zen) / jacov)")).count('stretchy="true"') == 2


def test_user_operators_follow_their_latex_or_are_calls():
    register(Op("hypot", 2, "elementwise", lambda np, a, b: np.hypot(a, b), latex=r"{0} \oplus {1}"))
    register(Op("odd", 1, "elementwise", lambda np, a: a, latex=r"\unknown{{{0}}}{{"))
    try:
        assert shown(mathml(parse("hypot(zen, jacov * 2)"))) == "zen⊕(jacov·2)"
        assert shown(mathml(parse("odd(zen + 1)"))) == "odd(zen+1)"
    finally:
        unregister("hypot")
        unregister("odd")
