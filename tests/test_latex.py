"""LaTeX: brackets where they are needed, names for parts, every text set by a real (if small) TeX."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from proxygraph.dag import Dag, Node
from proxygraph.infix import parse
from proxygraph.latex import escaped, formula_tex, latex, latex_lines, leaf_latex, number_latex
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import OPS, Op, register, unregister
from tests.strategies import formula_of, op_cases, random_dag

COLUMNS = {
    name: Leaf(name, "row")
    for name in (
        "x",
        "a_b",
        "größe %",
        "50% & $x$ #1 {a}",
        r"c:\dir ~ x^2 <|>",
        "two words",
        "t0",
        "tab\there\n",
    )
}


def set_by_mathtext(line: str) -> None:
    mathtext = pytest.importorskip("matplotlib.mathtext", reason="matplotlib is not installed")
    mathtext.MathTextParser("path").parse(f"${line}$")


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("sum(sum(abs(w * g)))", r"\sum_{\ell} \sum_{i} \left|w \cdot g\right|"),
        ("sum(mean(a))", r"\sum_{\ell} \operatorname{mean}_{j}\left(a\right)"),
        ("sum(l2(g)**2)", r"\sum_{\ell} \left\|g\right\|_{2, i}^{2}"),
        ("zen - (zen - jacov)", r"\mathrm{zen} - \left(\mathrm{zen} - \mathrm{jacov}\right)"),
        ("zen + (swap - jacov)", r"\mathrm{zen} + \mathrm{swap} - \mathrm{jacov}"),
        ("zen * (swap + jacov)", r"\mathrm{zen} \cdot \left(\mathrm{swap} + \mathrm{jacov}\right)"),
        ("(zen + 1) / (swap + 2)", r"\frac{\mathrm{zen} + 1}{\mathrm{swap} + 2}"),
        ("sqrt(zen + 1)", r"\sqrt{\mathrm{zen} + 1}"),
        ("square(zen + 1)", r"\left(\mathrm{zen} + 1\right)^{2}"),
        ("cube(log(zen))", r"\left(\log\left(\mathrm{zen}\right)\right)^{3}"),
        ("square(inv(zen))", r"\left(\frac{1}{\mathrm{zen}}\right)^{2}"),
        ("zen**-0.5", r"\mathrm{zen}^{-0.5}"),
        ("(-2)**3", r"\left(-2\right)^{3}"),
        ("zen * -2", r"\mathrm{zen} \cdot \left(-2\right)"),
        ("zen - -jacov", r"\mathrm{zen} - \left(-\mathrm{jacov}\right)"),
        ("-(zen * jacov)", r"-\mathrm{zen} \cdot \mathrm{jacov}"),
        ("log1p(-zen)", r"\log\left(1 + \left(-\mathrm{zen}\right)\right)"),
        ("sum(depth) * zen", r"\left(\sum_{\ell} d\right) \cdot \mathrm{zen}"),
        ("zen * sum(depth)", r"\mathrm{zen} \cdot \sum_{\ell} d"),
        ("zen - sum(depth)", r"\mathrm{zen} - \sum_{\ell} d"),
        ("sum(depth) + zen", r"\left(\sum_{\ell} d\right) + \mathrm{zen}"),
        ("sum(depth + stride)", r"\sum_{\ell} \left(d + s\right)"),
        ("(zen + sum(depth)) * zen", r"\left(\mathrm{zen} + \sum_{\ell} d\right) \cdot \mathrm{zen}"),
        ("-sum(depth) - zen", r"\left(-\sum_{\ell} d\right) - \mathrm{zen}"),
        ("square(sum(depth))", r"\left(\sum_{\ell} d\right)^{2}"),
        ("sum(sum(square(gs)))", r"\sum_{\ell} \sum_{i} \left(g^{\mathrm{syn}}\right)^{2}"),
        ("1.5e-7 * zen", r"1.5 \cdot 10^{-7} \cdot \mathrm{zen}"),
    ],
)
def test_brackets(formula, expected):
    assert latex(parse(formula)) == expected
    set_by_mathtext(expected)


def test_parts_used_twice_are_named_once():
    dag = parse("sum(mean((w - mean(w)) / std(w * mean(w))))")
    first, part = latex_lines(dag)
    assert part == r"t_{0} = \operatorname{mean}_{i}\left(w\right)"
    assert first.count("t_{0}") == 2
    assert latex(dag) == (
        f"\\begin{{aligned}}\n& {first}, \\\\\n& \\text{{where}}\\quad {part}\n\\end{{aligned}}"
    )


def test_numbers_have_all_their_digits_by_default():
    assert number_latex(0.1 + 0.2) == "0.30000000000000004"
    assert number_latex(0.1 + 0.2, 3) == "0.3"
    assert number_latex(-1.2345e-7) == r"-1.2345 \cdot 10^{-7}"
    assert number_latex(-1.2345e-7, 2) == r"-1.2 \cdot 10^{-7}"
    assert number_latex(1e30) == "10^{30}"
    assert number_latex(-1e30) == "-10^{30}"
    assert number_latex(1234567.0) == "1234567"
    assert latex(parse("0.123456 * zen"), digits=2) == r"0.12 \cdot \mathrm{zen}"


def test_random_formulas_are_set():
    rng = np.random.default_rng(0)
    for k in range(45):
        leaves, ops = (
            (STATISTICS, sorted(OPS)) if k % 3 else (COLUMNS, [n for n, axis in op_cases() if axis == "row"])
        )
        dag = random_dag(rng, leaves, max_ops=10, ops=ops)
        for line in latex_lines(dag, None if k % 2 else 3):
            set_by_mathtext(line)
            assert line.count("{") - line.count(r"\{") == line.count("}") - line.count(r"\}")


@pytest.mark.parametrize(("name", "axis"), op_cases())
def test_every_operator_is_set(name, axis):
    set_by_mathtext(latex(formula_of(name, axis)))


@pytest.mark.parametrize("leaf", STATISTICS.values(), ids=str)
def test_every_leaf_is_set_and_carries_an_exponent(leaf):
    assert leaf.latex
    set_by_mathtext(latex(Dag([Node("leaf", leaf.name), Node("op", "square", (0,))], root_axis=None)))


def test_names_of_columns_are_text():
    assert leaf_latex(COLUMNS["x"]) == r"\mathrm{x}"
    assert leaf_latex(COLUMNS["a_b"]) == r"\text{a\_b}"
    assert leaf_latex(COLUMNS["50% & $x$ #1 {a}"]) == r"\text{50\% \& \$x\$ \#1 \{a\}}"
    assert escaped("a\nb\\input{x}") == r"a b\textbackslash input\{x\}"


def test_user_operators():
    register(Op("soft_sign", 1, "elementwise", lambda np, a: a / (1 + np.abs(a))))
    register(
        Op(
            "hypot",
            2,
            "elementwise",
            lambda np, a, b: np.hypot(a, b),
            latex=r"{0} \oplus {1}",
            commutative=True,
        )
    )
    register(Op("spread", 1, "reduction", lambda np, v, count: np.ptp(v)))
    try:
        line = latex(parse("soft_sign(zen + 1) * hypot(zen, jacov * 2)"))
        assert line == (
            r"\operatorname{soft\_sign}\left(\mathrm{zen} + 1\right) \cdot "
            r"\left(\mathrm{zen} \oplus \left(\mathrm{jacov} \cdot 2\right)\right)"
        )
        set_by_mathtext(line)
        assert latex(parse("sum(spread(w))")) == r"\sum_{\ell} \operatorname{spread}\left(w\right)"
    finally:
        for name in ("soft_sign", "hypot", "spread"):
            unregister(name)


def document() -> str:
    dag = parse("sum(mean(a * da) * log(sum(abs(gs)) / macs))")
    return formula_tex(dag, {"problem": "demo\n\\input{x}", "seed": 0}, name="a_score")


def test_document():
    tex = document()
    assert tex.startswith("% problem: demo \\input{x}\n% seed: 0\n\\documentclass")
    body = tex.partition(r"\begin{document}")[2]
    assert r"\text{a\_score} = \sum_{\ell} " in body
    assert (
        r"$g^{\mathrm{syn}}$: gradient of the summed output of the network with \textbar w\textbar  on"
        in body
    )
    for index, meaning in (
        ("i", "entries of a layer's weight"),
        ("j", "entries of a layer's output"),
        (r"\ell", "layers"),
    ):
        assert f"${index}$: {meaning}" in body
    for environment in ("document", "tabular"):
        assert tex.count(rf"\begin{{{environment}}}") == tex.count(rf"\end{{{environment}}}") == 1
    for formula in re.findall(r"\$(.+?)\$", body):
        set_by_mathtext(formula.removeprefix(r"\displaystyle "))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_document_compiles(tmp_path):
    (tmp_path / "formula.tex").write_text(document(), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "formula.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
