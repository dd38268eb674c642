r"""Formulas in LaTeX.

Every operator brings its template; here stands where brackets go and what leaves, numbers and indices look
like. A reduction names what it runs over: ``i`` the entries of a layer's weight, ``j`` the entries of its
output, ``\ell`` the layers. Parts used more than once are named once, as in the text form. Brackets that only
fix the order of additions or multiplications are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxygraph.dag import Dag
from proxygraph.infix import number_text, part_names
from proxygraph.leaves import Axis, Leaf
from proxygraph.ops import ADD, ATOM, MUL, OPS, UNARY, Op

INDEX: Final[Mapping[Axis, str]] = {"element": "i", "activation": "j", "layer": r"\ell"}
"""The index of each axis that reductions run over."""

RUNS_OVER: Final[Mapping[Axis, str]] = {
    "element": "entries of a layer's weight",
    "activation": "entries of a layer's output",
    "layer": "layers",
}
"""What the index of each axis stands for."""
_SLOTS: Final[Mapping[str, tuple[int, ...]]] = {"add": (ADD, ADD), "mul": (MUL, MUL), "neg": (MUL,)}
_OPEN: Final = r"\{|\\left\S{1,2}|,"
_CLOSE: Final = r"\}|\\right|,"
# one letter, one command or one bracket, with a subscript at most: may carry an exponent
_ATOM: Final = re.compile(r"([A-Za-z]|\\[A-Za-z]+(\{[^{}]*\})?|\([^()]*\))(_([A-Za-z0-9]|\{[^^]*\}))?")


def latex(dag: Dag, digits: int | None = None) -> str:
    r"""Return a formula as LaTeX for math mode, amsmath loaded.

    Parameters
    ----------
    dag : Dag
        Any formula, or part of one.
    digits : int or None
        Significant digits of constants; ``None`` writes all that the float64 has.

    Returns
    -------
    str
        One expression; an ``aligned`` environment with one line per named part if there are any.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> print(latex(parse("sum(sum(abs(w*g)))")))
    \sum_{\ell} \sum_{i} \left|w \cdot g\right|
    """
    return _display(latex_lines(dag, digits))


def _display(lines: list[str]) -> str:
    """Return one line as it is, several as an aligned block."""
    if len(lines) == 1:
        return lines[0]
    where = [r"\text{where}\quad ", *[r"\phantom{\text{where}}\quad "] * (len(lines) - 2)]
    rows = [f"& {lines[0]}", *(f"& {w}{line}" for w, line in zip(where, lines[1:], strict=True))]
    body = ", \\\\\n".join(rows)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def latex_lines(dag: Dag, digits: int | None = None) -> list[str]:
    r"""Return the formula and then one line ``t_{0} = ...`` per named part, without environments.

    For displays that know single lines only, such as matplotlib's mathtext.
    """
    names = {i: f"t_{{{name[1:]}}}" for i, name in part_names(dag).items()}
    parts, _ = written(dag, names, digits)
    return [parts[-1], *(f"{name} = {parts[i]}" for i, name in names.items())]


def written(
    dag: Dag, names: Mapping[int, str], digits: int | None
) -> tuple[list[str], list[tuple[bool, ...]]]:
    """Return the LaTeX of every node, named parts referred to by name, and which arguments stand bare.

    Those that do not stand in brackets; other notations that follow the templates of LaTeX can do the same.
    """
    parts: list[str] = []
    bares: list[tuple[bool, ...]] = []
    strength: list[int] = []
    trailing: list[bool] = []  # ends in the argument of a sum sign, which would swallow what follows
    for node in dag.nodes:
        if node.kind == "leaf":
            parts.append(leaf_latex(dag.leaves[node.name]))
            strength.append(ATOM if _ATOM.fullmatch(parts[-1]) else UNARY)
            trailing.append(False)
        elif node.kind == "const":
            parts.append(number_latex(node.value, digits))
            strength.append(ATOM if parts[-1].replace(".", "").isdigit() else UNARY)
            trailing.append(False)
        else:
            op = OPS[node.name]
            args, bare_args, last_is_bare = [], [], False
            for k, j in enumerate(node.args):
                place = _place(op, k)
                named = j in names
                piece = names.get(j, parts[j])
                bare = (
                    place == "enclosed"
                    or named
                    or (
                        strength[j] >= _slot(op, k)
                        and not (piece.startswith("-") and place != "first")
                        and not (trailing[j] and place != "last")
                    )
                )
                bare_args.append(bare)
                args.append(piece if bare else rf"\left({piece}\right)")
                last_is_bare = place == "last" and bare and not named and trailing[j]
            axis = dag.axes[node.args[0]]
            parts.append(op.latex.format(*args, axis=INDEX.get(axis, "")))
            swallows = op.kind == "reduction" and _place(op, 0) == "last"
            strength.append(UNARY if swallows else _strength(op))
            trailing.append(swallows or last_is_bare)
            bares.append(tuple(bare_args))
            continue
        bares.append(())
    return parts, bares


def _place(op: Op, k: int) -> str:
    """Where argument `k` stands in the template: enclosed by delimiters, first, last, or anywhere else."""
    marks = [f"\0{n}\0" for n in range(op.arity)]
    shown = op.latex.format(*marks, axis="x").strip()
    if re.search(rf"({_OPEN})\s*{marks[k]}\s*({_CLOSE})", shown):
        return "enclosed"
    if shown.startswith(marks[k]):
        return "first"
    return "last" if shown.endswith(marks[k]) else "inside"


def _slot(op: Op, k: int) -> int:
    """Binding strength that argument `k`, which has no delimiters around it, must have."""
    if op.name in _SLOTS:
        return _SLOTS[op.name][k]
    if op.kind == "reduction":
        return MUL
    return op.slots[k] or ATOM


def _strength(op: Op) -> int:
    """Binding strength of the LaTeX form."""
    if op.latex.startswith(r"\frac") or op.latex.endswith(r"\right)"):
        return UNARY  # a factor, but no base: log(a)^2 could mean two things
    if op.prec == ATOM and any(_place(op, k) in ("first", "last") for k in range(op.arity)):
        return ADD  # the row says nothing about its LaTeX form
    return op.prec


def leaf_latex(leaf: Leaf) -> str:
    """Return the symbol of a leaf, or its name set upright."""
    if leaf.latex:
        return leaf.latex
    if re.fullmatch(r"[A-Za-z0-9]+", leaf.name):
        return rf"\mathrm{{{leaf.name}}}"
    return rf"\text{{{escaped(leaf.name)}}}"


def number_latex(value: float, digits: int | None = None) -> str:
    r"""Return a number: ``1.5 \cdot 10^{-7}`` rather than 1.5e-07."""
    plain = number_text(value) if digits is None else f"{value:.{digits}g}"
    mantissa, e, exponent = plain.partition("e")
    if not e:
        return plain
    power = f"10^{{{int(exponent)}}}"
    return {"1": power, "-1": f"-{power}"}.get(mantissa, rf"{mantissa} \cdot {power}")


def escaped(text: str) -> str:
    """Return arbitrary text for LaTeX's text mode, on one line."""
    special = {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        **{"~": "\\textasciitilde ", "^": "\\textasciicircum ", "\\": "\\textbackslash "},
        **{"<": "\\textless ", ">": "\\textgreater ", "|": "\\textbar "},
    }
    return "".join(special.get(c, c) if c.isprintable() else " " for c in text)


def formula_tex(
    dag: Dag, provenance: Mapping[str, object], *, name: str = "score", digits: int | None = None
) -> str:
    r"""Return a complete LaTeX document with one formula and the meaning of its symbols.

    Parameters
    ----------
    dag : Dag
        The formula.
    provenance : mapping of str to object
        Where it comes from; one comment line each at the top of the file.
    name : str
        What stands left of the equals sign, set upright.
    digits : int or None
        Significant digits of constants, ``None`` for all.

    Returns
    -------
    str
        For pdflatex; names with letters outside Latin need lualatex or xelatex.
    """
    comments = [f"% {_one_line(key)}: {_one_line(value)}" for key, value in provenance.items()]
    first, *parts = latex_lines(dag, digits)
    equation = rf"\text{{{escaped(name)}}} = {first}"
    rows = [rf"$\displaystyle {_display([equation, *parts])}$"]
    for leaf in dag.leaves.values():
        if leaf.meaning:
            rows.append(f"${leaf_latex(leaf)}$: {escaped(leaf.meaning)}")
    reduced = {dag.axes[n.args[0]] for n in dag.nodes if n.kind == "op" and OPS[n.name].kind == "reduction"}
    rows += [f"${INDEX[axis]}$: {RUNS_OVER[axis]}" for axis in INDEX if axis in reduced]
    head, *legend = rows
    body = " \\\\\n".join([head + (r" \\[2ex]" + "\n" + legend[0] if legend else ""), *legend[1:]])
    return "\n".join(
        [
            *comments,
            r"\documentclass[border=6pt]{standalone}",
            r"\usepackage{amsmath}",
            r"\usepackage{textcomp}",
            r"\begin{document}",
            r"\begin{tabular}{@{}l@{}}",
            body,
            r"\end{tabular}",
            r"\end{document}",
            "",
        ]
    )


def _one_line(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))
