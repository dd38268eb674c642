"""Formulas as text: exact round trips, and texts that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.dag import Dag, Node
from proxygraph.errors import InvalidDag, ParseError, ProxyGraphError, UnknownName
from proxygraph.infix import MAX_CHARS, MAX_NODES, number_text, parse, text
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import OPS
from tests.strategies import dags


def columns(*names: str) -> dict[str, Leaf]:
    return {name: Leaf(name, "row") for name in names}


# ---- round trips -----------------------------------------------------------------------------------------


@given(dags())
def test_round_trip(dag: Dag):
    printed = text(dag)
    back = parse(printed)
    assert back == dag
    assert back.size == dag.size
    assert text(back) == printed
    assert "\n" not in printed


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_every_digit(value: float):
    for shown in (number_text(value), repr(value)):
        (node,) = parse(shown).nodes
        assert node.value.hex() == value.hex()


COLUMN_NAMES = st.text(st.characters(blacklist_characters="`\n\r", blacklist_categories=["Cs"]), min_size=1)


@given(st.lists(COLUMN_NAMES, min_size=2, max_size=4, unique=True))
def test_columns_of_any_name(names: list[str]):
    leaves = columns(*names)
    nodes = [Node("leaf", name) for name in names]
    nodes.append(Node("op", "div", (0, 1)))
    for i in range(2, len(names)):
        nodes.append(Node("op", "maximum", (len(nodes) - 1, i)))
    nodes.append(Node("op", "mul", (len(nodes) - 1, len(nodes) - 1)))
    dag = Dag(nodes, leaves)
    assert parse(text(dag), leaves) == dag


@pytest.mark.parametrize(
    "names",
    [
        ["t0", "t1", "t2"],  # like the parts that `text` names
        ["a b", "_0___", "_0____"],  # like the placeholders of quoted names
        ["sum", "log", "neg"],  # like operators
        ["lambda", "None", "if"],
        ["π", "ﬁ", "fi"],  # Python reads the second as the third
    ],
)
def test_awkward_columns(names):
    leaves = columns(*names)
    nodes = [Node("leaf", name) for name in names]
    nodes += [
        Node("op", "add", (0, 1)),
        Node("op", "exp", (3,)),
        Node("op", "mul", (4, 4)),
        Node("op", "sub", (5, 2)),
    ]
    dag = Dag(nodes, leaves)
    assert parse(text(dag), leaves) == dag


def test_parts_get_names_that_other_columns_of_the_table_have():
    # text() knows the leaves of the formula, parse() those of the whole table
    table = columns("x", "t0")
    dag = parse("exp(x) * exp(x)", table)
    assert text(dag) == "t0 = exp(x); t0 * t0"
    assert parse(text(dag), table) == dag
    both = parse("exp(t0) * exp(t0)", table)
    assert text(both) == "t1 = exp(t0); t1 * t1"
    assert parse(text(both), table) == both


# ---- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sum(sum(w*g))", "  sum( sum(w  *  g) )  "),
        ("sum(sum(w*g))", "x = w*g; y = sum(x); sum(y)"),
        ("sum(sum(w*g))", "x = w*g\ny = sum(x)  # per layer\nsum(y)"),
        ("a1 = params; a1 * a1", "params * params"),
        ("+params", "params"),
        ("-params ** 2", "-(params ** 2)"),
        ("2 ** 3 ** 2", "2 ** 9"),
        ("params - zen - jacov", "(params - zen) - jacov"),
        ("params / zen * jacov", "(params / zen) * jacov"),
        ("max(params, zen)", "maximum(params, zen)"),
        ("1_000 * params", "1000 * params"),
        ("0x10 * params", "16 * params"),
        ("- 2 * params", "-2 * params"),
        ("`params`", "params"),
        ("final = params; final", "params"),
    ],
)
def test_spellings_of_one_graph(one, other):
    if one == "2 ** 3 ** 2":  # the exponent is a constant, not a formula
        with pytest.raises(InvalidDag, match="exponent must be a constant"):
            parse(one)
    else:
        assert parse(one) == parse(other)


@pytest.mark.parametrize(
    "printed",
    [
        "neg(2)",
        "(-2)**2",
        "-2**2",
        "-params**2",
        "(-params)**2",
        "--params",
        "params - -zen",
        "params - (zen - jacov)",
        "params / (zen / jacov)",
        "params * (zen / jacov)",
        "-(params * zen)",
        "-params * zen",
        "params**(-1.5)",
        "(params**2)**0.5",
        "max(params, max(zen, jacov))",
        "sum(max(nwot) * nwot)",
        "-0.0 + params",
        "1e+300 * params",
        "t0 = exp(params); t1 = t0 + 1; t0 * t1 - t1",
    ],
)
def test_what_is_printed_as_it_is_read(printed):
    assert text(parse(printed)) == printed


def test_the_axis_of_the_root():
    assert parse("w", root_axis=None).axes == ("element",)
    assert parse("sum(w)", root_axis="layer").axes[-1] == "layer"
    with pytest.raises(InvalidDag, match="the root is on the layer axis, not on the row axis"):
        parse("sum(w)")


def test_every_operator_can_be_written_as_a_call():
    for op in OPS.values():
        args = ["w", "2"] if op.name == "pow" else ["w", "g"][: op.arity]
        dag = parse(f"{op.call if not op.infix else op.name}({', '.join(args)})", root_axis=None)
        assert dag.nodes[-1].name == op.name


# ---- refusing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "error", "message"),
    [
        ("", ParseError, "formula: empty text"),
        ("   ", ParseError, "formula: empty text"),
        ("# only a comment", ParseError, "formula: empty text"),
        ("sum(sum(w)", ParseError, r"formula: '\(' was never closed at character 4 of 'sum\(sum\(w\)'"),
        ("sum(w))", ParseError, r"unmatched '\)'"),
        ("w g", ParseError, "formula: invalid syntax"),
        ("wnwot", UnknownName, "unknown leaf 'wnwot'; did you mean nwot"),
        ("parms", UnknownName, "unknown leaf 'parms'; did you mean params"),
        ("qqqqq", UnknownName, "unknown leaf 'qqqqq'; known: w, g, gs"),
        ("softmax(w)", UnknownName, "unknown operator 'softmax'"),
        ("sqr(params)", UnknownName, "unknown operator 'sqr'; did you mean sqrt"),
        ("log(params, zen)", UnknownName, r"log\(\) takes 1 argument\(s\), got 2"),
        ("max(params, zen, jacov)", UnknownName, r"max\(\) takes 2 or 1 argument\(s\), got 3"),
        ("log()", UnknownName, r"log\(\) takes 1 argument\(s\), got 0"),
        ("sum(params)", InvalidDag, "cannot reduce a value that is on the row axis already"),
        ("sum(w * a)", InvalidDag, "arguments on the axes element and activation do not pair up"),
        ("sum(w)", InvalidDag, r"the root is on the layer axis, not on the row axis; reduce it once more"),
        ("params ** zen", InvalidDag, "the exponent must be a constant multiple of 0.5"),
        ("params ** 0.3", InvalidDag, "the exponent must be a constant multiple of 0.5"),
        ("params ** 17", InvalidDag, "at most 16 in size"),
        ("1e999 * params", InvalidDag, "constant inf is not finite"),
        ("-1e999 * params", InvalidDag, "constant -inf is not finite"),
        ("1" + "0" * 400, ParseError, "a number is too large for float64"),
        ("-1" + "0" * 400, ParseError, "a number is too large for float64"),
        ("1" + "0" * 5000, ParseError, "formula: "),
        ("params + True", ParseError, "formula: True is not a real number"),
        ("params + None", ParseError, "formula: None is not a real number"),
        ("params + 2j", ParseError, "formula: 2j is not a real number"),
        ("-2j", ParseError, "formula: 2j is not a real number"),
        ("'params'", ParseError, "formula: 'params' is not a real number"),
        ("b'params'", ParseError, "is not a real number"),
        ("params if zen else jacov", ParseError, "is not part of the language; use names, numbers"),
        ("params.real", ParseError, r"'params.real' \(character 1\) is not part of the language"),
        ("params[0]", ParseError, "is not part of the language"),
        ("[params]", ParseError, "is not part of the language"),
        ("params < zen", ParseError, "is not part of the language"),
        ("params @ zen", ParseError, "is not part of the language"),
        ("params % zen", ParseError, "is not part of the language"),
        ("~params", ParseError, "is not part of the language"),
        ("not params", ParseError, "is not part of the language"),
        ("(x := params)", ParseError, "is not part of the language"),
        ("lambda: params", ParseError, "is not part of the language"),
        ("log(a=params)", ParseError, "is not part of the language"),
        ("log(*params)", ParseError, "is not part of the language"),
        ("f'{params}'", ParseError, "is not part of the language"),
        ("...", ParseError, "is not part of the language"),
        ("__import__('os').system('x')", ParseError, "is not part of the language"),
        ("(lambda x: x)(params)", ParseError, "is not part of the language"),
        ("import os", ParseError, "the text must end with an expression"),
        ("import os; params", ParseError, "before the last ';' only 'name = part' may stand"),
        ("x = y = params; x", ParseError, "before the last ';' only 'name = part' may stand"),
        ("x, y = params; x", ParseError, "before the last ';' only 'name = part' may stand"),
        ("x += params; x", ParseError, "before the last ';' only 'name = part' may stand"),
        ("x = params", ParseError, "the text must end with an expression"),
        ("x = params; zen", ParseError, "'x' is named but not used"),
        ("x = params; y = x + zen; x", ParseError, "'y' is named but not used"),
        ("x = params; x = zen; x", ParseError, "'x' is named already"),
        ("w = params; w", ParseError, "'w' is named already"),
        ("params \x00", ParseError, "formula: "),
        ("`params", ParseError, "formula: "),
        ("`no such column`", UnknownName, "unknown leaf 'no such column'"),
        ("params\n  zen", ParseError, "formula: unexpected indent"),
        ("1 if", ParseError, "formula: "),
        ("params(2)", UnknownName, "unknown operator 'params'"),
        ("2(params)", ParseError, "formula: "),
        ("0777", ParseError, "formula: leading zeros"),
        ("params is 2", ParseError, "formula: "),
    ],
)
def test_refused(formula, error, message):
    with pytest.raises(error, match=message) as caught:
        parse(formula)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("w" * 10_000_000, "formula: 10,000,000 characters, more than the 20,000 allowed"),
        ("+params" * 1_500_000, "formula: 10,500,000 characters, more than the 20,000 allowed"),
        ("(" * 5_000 + "params" + ")" * 5_000, "brackets nested 5000 deep, more than the 100 allowed"),
        ("(" * 10_000, "formula: brackets nested 10000 deep"),
        ("abs(" * 2_000 + "params" + ")" * 2_000, "brackets nested 2000 deep"),
        ("[" * 10_000, "formula: "),
        ("-" * 19_000 + "params", "nested too deeply"),
        ("params" + "+zen" * 4_000, "nested too deeply"),
        ("params" + "**2" * 6_000, "formula: "),
        ("not " * 4_500 + "params", "formula: "),
        ("lambda:" * 2_500 + "params", "formula: "),
        ("x if y else " * 1_500 + "params", "formula: "),
        ("=".join(["x"] * 5_000), "formula: "),
    ],
)
def test_texts_meant_to_hurt(formula, message):
    with pytest.raises(ParseError, match=message) as caught:
        parse(formula)
    assert len(str(caught.value)) < 300


def test_long_formulas_are_fine():
    leaves = columns(*(f"column {i}" for i in range(300)))
    formula = " + ".join(f"`{name}`" for name in leaves)
    assert len(formula) < MAX_CHARS
    assert parse(formula, leaves).size == 599


def test_too_many_nodes():
    lets = [f"x{i}=w*{i};" for i in range(MAX_NODES // 3 + 1)]
    with pytest.raises(ParseError, match=f"more than {MAX_NODES} nodes"):
        parse("".join(lets) + "w")


@given(st.text(max_size=60) | st.text(alphabet="w g()+-*/,;=.1e`t0\nsumaxlog", max_size=60))
def test_any_text_is_a_formula_or_refused_in_one_line(formula: str):
    try:
        dag = parse(formula)
    except ProxyGraphError:
        return
    assert parse(text(dag)) == dag


def test_random_damage_is_refused_or_read():
    rng = np.random.default_rng(0)
    good = "t0 = mean(w); sum(std((w - t0) / max(t0, 1e-3)))"
    refused = 0
    for _ in range(300):
        at, char = rng.integers(len(good)), chr(rng.integers(32, 127))
        damaged = good[:at] + char + good[at + 1 :]
        try:
            parse(damaged)
        except ProxyGraphError:
            refused += 1
    assert 100 < refused < 300


def test_statistics_are_all_plain_names():
    for name in STATISTICS:
        assert text(parse(name, root_axis=None)) == name
