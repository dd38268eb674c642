"""The rewrite rules of the canonical form: one row per rule, each stating where it holds.

The letters of a rule say what they match:

======  ======================================================================================
letter  matches
======  ======================================================================================
a b c   any part
p q     a part known to be >= 0 (from the signs of the leaves)
k       a positive constant
n       a constant exponent that needs a positive base to take a logarithm: odd, or half an odd number
x       any part, under a reduction
s       a part coarser than the x beside it (it is constant within each group)
r       like s, and known to be >= 0
======  ======================================================================================

A rule may only make a formula *more* defined: wherever the left side is finite, the right side has the same
value (up to rounding). Sums and products are not here: `proxygraph.canon` collects them in normal forms.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """``lhs`` becomes ``rhs`` where `holds`.

    Attributes
    ----------
    lhs, rhs : str
        Formulas over the letters above.
    holds : str
        The domain, for people and for the test that evaluates both sides on it.
    """

    lhs: str
    rhs: str
    holds: str = "wherever the left side is finite"


_ODD = ("tanh", "sin", "sign")
_EVEN = ("cos",)
_INCREASING = ("exp", "log", "log1p", "sqrt", "tanh", "sigmoid", "relu", "cube")

RULES: tuple[Rule, ...] = (
    # absolute value, sign and rectifier
    Rule("abs(p)", "p", "p >= 0"),
    Rule("abs(-a)", "abs(a)"),
    Rule("abs(abs(a))", "abs(a)"),
    Rule("abs(tanh(a))", "tanh(abs(a))"),
    Rule("sign(sign(a))", "sign(a)"),
    Rule("sign(cube(a))", "sign(a)", "|a| > 1e-100: below, a**3 underflows to 0"),
    Rule("sign(tanh(a))", "sign(a)", "a normal float: tanh of a subnormal may round to 0"),
    Rule("a * sign(a)", "abs(a)"),
    Rule("abs(a) * sign(a)", "a"),
    Rule("relu(p)", "p", "p >= 0"),
    Rule("relu(relu(a))", "relu(a)"),
    Rule("relu(tanh(a))", "tanh(relu(a))"),
    *(Rule(f"{f}(-a)", f"-{f}(a)") for f in _ODD),
    *(Rule(f"{f}(-a)", f"{f}(a)") for f in _EVEN),
    *(Rule(f"{f}(abs(a))", f"{f}(a)") for f in _EVEN),
    # exponentials and logarithms
    Rule("log(exp(a))", "a", "|a| < 700: beyond, exp(a) overflows or vanishes"),
    Rule("exp(log(a))", "a", "a > 0, else the left side is NaN"),
    Rule("exp(log1p(a))", "1 + a", "a > -1, else the left side is NaN"),
    Rule("log(sqrt(a))", "0.5 * log(a)", "a > 0, else the left side is not finite"),
    Rule("log(cube(a))", "3 * log(a)", "a > 0; |a| in [1e-100, 1e100]"),
    Rule("log(a**n)", "n * log(a)", "a > 0, and a**n neither overflows nor vanishes"),
    Rule("log(inv(a))", "-log(a)", "a > 0"),
    # greatest and least of two
    Rule("max(a, a)", "a"),
    Rule("min(a, a)", "a"),
    Rule("max(a, 0)", "relu(a)"),
    Rule("max(a, min(a, b))", "a", "b is not NaN; then the left side is not finite"),
    Rule("min(a, max(a, b))", "a", "b is not NaN; then the left side is not finite"),
    Rule("max(-a, -b)", "-min(a, b)"),
    Rule("min(-a, -b)", "-max(a, b)"),
    Rule("max(a, -a)", "abs(a)"),
    Rule("min(a, -a)", "-abs(a)"),
    Rule("max(p, -q)", "p", "p, q >= 0"),
    Rule("min(p, -q)", "-q", "p, q >= 0"),
    Rule("max(p, 0)", "p", "p >= 0"),
    Rule("min(p, 0)", "0", "p >= 0"),
    # reductions: what is constant within a group comes out
    Rule("sum(abs(x))", "l1(x)"),
    Rule("l1(p)", "sum(p)", "p >= 0"),
    Rule("l1(-x)", "l1(x)"),
    Rule("l1(abs(x))", "l1(x)"),
    Rule("l2(-x)", "l2(x)"),
    Rule("l2(abs(x))", "l2(x)"),
    Rule("std(-x)", "std(x)"),
    Rule("sum(-x)", "-sum(x)"),
    Rule("mean(-x)", "-mean(x)"),
    Rule("max(-x)", "-min(x)"),
    Rule("min(-x)", "-max(x)"),
    # an increasing function commutes with max and min; outside it is computed once per group
    *(
        Rule(f"{m}({f}(x))", f"{f}({m}(x))", "all x in the domain of the function, else the left side is NaN")
        for f in _INCREASING
        for m in ("max", "min")
        if not (f in ("log", "sqrt", "log1p") and m == "max")
    ),
    *(Rule(f"{m}(square(p))", f"square({m}(p))", "p >= 0") for m in ("max", "min")),
)

LAWS: tuple[Rule, ...] = (
    # sums: like terms are collected, constants folded, signs drawn out
    Rule("a - a", "0", "a finite"),
    Rule("a + a", "2 * a"),
    Rule("a - (b - c)", "a - b + c", "up to rounding; a, b, c finite"),
    Rule("k * a + a", "(k + 1) * a", "up to rounding"),
    Rule("-(a - b)", "b - a"),
    Rule("a + 0", "a"),
    Rule("log(p) + log(q)", "log(p * q)", "p * q neither overflows nor vanishes"),
    Rule("log(p) - log(q)", "log(p / q)", "p / q neither overflows nor vanishes"),
    Rule("log(1 + a)", "log1p(a)", "up to the rounding of 1 + a"),
    # products: like factors are collected; |a| in [1e-18, 1e18], where no power in use over- or underflows
    Rule("a * a", "square(a)"),
    Rule("a * 1", "a"),
    Rule("a * 0", "0", "a finite"),
    Rule("a * -1", "-a"),
    Rule("a / a", "1", "a != 0, a finite"),
    Rule("a / (b / c)", "a * c / b", "b, c != 0, else the left side is not finite"),
    Rule("a * b / a", "b", "a != 0, else the left side is NaN"),
    Rule("inv(inv(a))", "a", "a != 0, else the left side is not finite"),
    Rule("square(a) * a", "cube(a)"),
    Rule("square(square(a))", "a**4"),
    Rule("sqrt(square(a))", "abs(a)"),
    Rule("square(sqrt(a))", "a", "a >= 0, else the left side is NaN"),
    Rule("sqrt(a) * sqrt(a)", "a", "a >= 0, else the left side is NaN"),
    Rule("a**1", "a"),
    Rule("a**0", "1", "a finite"),
    Rule("a**(-1)", "inv(a)"),
    Rule("square(abs(a))", "square(a)"),
    Rule("abs(a) * abs(b)", "abs(a * b)"),
    Rule("abs(a / p)", "abs(a) / p", "p > 0, else the left side is not finite"),
    Rule("exp(a) * exp(b)", "exp(a + b)", "|a|, |b| < 300"),
    Rule("exp(-a)", "inv(exp(a))", "|a| < 700"),
    Rule("exp(2 * a)", "square(exp(a))", "|a| < 300"),
    Rule("square(a - b)", "square(b - a)"),
    Rule("(a - b) * (c - a)", "(b - a) * (a - c)"),
    Rule("-tanh(a - b)", "tanh(b - a)"),
    Rule("square(l2(x))", "sum(square(x))"),
    Rule("sqrt(sum(square(x)))", "l2(x)"),
    # n-ary greatest and least
    Rule("max(a, max(b, a))", "max(a, b)"),
    Rule("min(min(a, b), b)", "min(a, b)"),
    # reductions: what is constant within a group comes out
    Rule("mean(x + s)", "mean(x) + s"),
    Rule("mean(x - s)", "mean(x) - s"),
    Rule("mean(s - x)", "s - mean(x)"),
    Rule("std(x + s)", "std(x)", "s finite, |s| not so large that x is lost in x + s"),
    Rule("std(x - s)", "std(x)", "s finite, |s| not so large that x is lost in x - s"),
    Rule("std(s - x)", "std(x)", "s finite, |s| not so large that x is lost in s - x"),
    *(Rule(f"{m}(x + s)", f"{m}(x) + s") for m in ("max", "min")),
    *(Rule(f"{m}(x - s)", f"{m}(x) - s") for m in ("max", "min")),
    *(Rule(f"{m}(s - x)", f"s - {o}(x)") for m, o in (("max", "min"), ("min", "max"))),
    *(Rule(f"{f}(x * s)", f"{f}(x) * s", "s finite") for f in ("sum", "mean")),
    *(Rule(f"{f}(x / s)", f"{f}(x) / s", "s != 0") for f in ("sum", "mean")),
    *(Rule(f"{f}(s / x)", f"s * {f}(1 / x)", "s finite") for f in ("sum", "mean")),
    *(Rule(f"{f}(x * s)", f"{f}(x) * abs(s)", "s finite") for f in ("std", "l1", "l2")),
    *(Rule(f"{f}(x / s)", f"{f}(x) / abs(s)", "s != 0") for f in ("std", "l1", "l2")),
    *(Rule(f"{f}(s / x)", f"abs(s) * {f}(1 / x)", "s finite") for f in ("std", "l1", "l2")),
    *(Rule(f"{m}(x * r)", f"{m}(x) * r", "r >= 0 finite") for m in ("max", "min")),
    *(Rule(f"{m}(x / r)", f"{m}(x) / r", "r > 0") for m in ("max", "min")),
    *(Rule(f"{m}(r / x)", f"r * {m}(1 / x)", "r >= 0 finite") for m in ("max", "min")),
)
"""What the normal forms of sums, products and reductions amount to; tested like the rules."""

NOT_RULES: tuple[tuple[str, str, str], ...] = (
    ("sqrt(square(a))", "a", "it is abs(a)"),
    ("sum(x + s)", "sum(x) + s", "s counts once per entry"),
    ("log(square(a))", "2 * log(a)", "false for a < 0"),
    ("sqrt(a * b)", "sqrt(a) * sqrt(b)", "false if both are negative"),
    ("max(x * s)", "max(x) * s", "false for s < 0"),
)
"""Tempting rewrites that are wrong; the test shows that it would catch each."""
