"""Formulas in MathML Core, which browsers set without any script.

The notation is that of `proxygraph.latex`: every operator's LaTeX template and every leaf's symbol is
translated once by latex2mathml (extra ``report``), brackets stand where they stand in LaTeX, parts used more
than once are named once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Final

from proxygraph.dag import Dag
from proxygraph.errors import BackendUnavailable
from proxygraph.infix import part_names
from proxygraph.latex import INDEX, number_latex, written
from proxygraph.leaves import Leaf
from proxygraph.ops import OPS, Op

# private-use characters: they stand for arguments and the index in a template, and are in no formula
_ARGUMENTS: Final = ("\ue000", "\ue001")
_INDEX: Final = "\ue002"
_APPLY: Final = "<mo>&#x2061;</mo>"  # says to a screen reader that a function is applied; has no width
_LETTERS: Final = re.compile(r'(?:<mi mathvariant="normal">[^<]</mi>){2,}')
_WORD: Final = re.compile(r"<mo>([A-Za-z]{2,})</mo>")
_CALL: Final = re.compile(
    r"(<mi>[^<]{2,}</mi>|<mi>&#x003C3;</mi>|</m(?:sub|under)>)"
    r'(?=<mrow><mo stretchy="true" fence="true" form="prefix">&#x00028;)'
)


def mathml(dag: Dag, digits: int | None = None) -> str:
    r"""Return a formula as MathML, one ``<math>`` element for the formula and one for each named part.

    Parameters
    ----------
    dag : Dag
        Any formula, or part of one.
    digits : int or None
        Significant digits of constants; ``None`` writes all that the float64 has.

    Returns
    -------
    str
        The elements, one a line.

    Raises
    ------
    BackendUnavailable
        If latex2mathml is not installed.

    Notes
    -----
    An operator whose LaTeX template cannot be translated is written as a function: ``name(a, b)``.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> print(mathml(parse("2 * zen")).partition("block")[2])
    "><mrow><mrow><mn>2</mn></mrow><mo>&#x000B7;</mo><mrow><mrow><mi>zen</mi></mrow></mrow></mrow></math>
    """
    return "\n".join(mathml_lines(dag, digits))


def mathml_lines(dag: Dag, digits: int | None = None, *, marked: bool = False) -> list[str]:
    """Return the formula and then one ``<math>`` element ``t0 = ...`` per named part.

    With `marked`, what a node of the formula became has its position as ``data-node``, and leaves and indices
    have their axis as class: ``axis-element`` and so on.
    """
    labels = part_names(dag)
    names = {i: f"<msub><mi>t</mi><mn>{name[1:]}</mn></msub>" for i, name in labels.items()}
    _, bares = written(dag, {i: f"t_{{{name[1:]}}}" for i, name in labels.items()}, digits)
    parts: list[str] = []
    for i, node in enumerate(dag.nodes):
        kind = ""
        if node.kind == "leaf":
            content = leaf_mathml(dag.leaves[node.name])
            kind = f' class="axis-{dag.axes[i]}"'
        elif node.kind == "const":
            content = symbol_mathml(number_latex(node.value, digits))
        else:
            args = [_marked(names[j], j, marked) if j in names else parts[j] for j in node.args]
            axis = dag.axes[node.args[0]]
            index = symbol_mathml(INDEX[axis]) if axis in INDEX else ""
            if marked:
                index = f'<mrow class="axis-{axis}">{index}</mrow>'
            content = _applied(OPS[node.name], args, bares[i], index)
        parts.append(_marked(content, i, marked, kind))
    lines = [parts[-1], *(f"{name}<mo>=</mo>{parts[i]}" for i, name in names.items())]
    return [
        f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">{line}</math>' for line in lines
    ]


def _marked(content: str, i: int, marked: bool, kind: str = "") -> str:
    return f'<mrow data-node="{i}"{kind}>{content}</mrow>' if marked else f"<mrow>{content}</mrow>"


def _applied(op: Op, args: Sequence[str], bare: Sequence[bool], index: str) -> str:
    """Return the operator's form with its arguments put in."""
    template = _template(op.latex, op.arity)
    if template is None:
        name = f"<mi>{escape(op.call)}</mi>"
        return f"{name}{_APPLY}{_bracketed('<mo>,</mo>'.join(args))}"
    if not any(map(_tall, args)):
        template = template.replace('stretchy="true"', 'stretchy="false"')
    for mark, arg, plain in zip(_ARGUMENTS, args, bare, strict=False):
        template = template.replace(f"<mi>{mark}</mi>", arg if plain else _bracketed(arg))
    return template.replace(f"<mi>{_INDEX}</mi>", index)


def _bracketed(content: str) -> str:
    grow = str(_tall(content)).lower()
    left, right = (f'<mo stretchy="{grow}" fence="true" form="{form}">' for form in ("prefix", "postfix"))
    return f"<mrow>{left}(</mo>{content}{right})</mo></mrow>"


def _tall(content: str) -> bool:
    """Whether brackets around this should grow; where they need not, they stand closer if they may not."""
    return "<mfrac>" in content or "<munder>" in content


@cache
def _template(latex: str, arity: int) -> str | None:
    """Return an operator's template in MathML, None if it cannot be translated."""
    marks = _ARGUMENTS[:arity]
    try:
        made = symbol_mathml(latex.format(*marks, axis=_INDEX))
    except BackendUnavailable:
        raise
    except Exception:  # whatever the translator raises about a user's template
        return None
    whole = all(made.count(mark) == made.count(f"<mi>{mark}</mi>") for mark in (*marks, _INDEX))
    return made if whole and "\\" not in made and all(mark in made for mark in marks) else None


def leaf_mathml(leaf: Leaf) -> str:
    """Return the symbol of a leaf, or its name set upright."""
    if leaf.latex:
        return symbol_mathml(leaf.latex)
    if len(leaf.name) == 1 and leaf.name.isalnum():
        return f'<mi mathvariant="normal">{leaf.name}</mi>'
    shown = "".join(c if c.isprintable() else " " for c in leaf.name)
    return f"<mi>{escape(shown)}</mi>"  # an <mtext> would count as space for the operators beside it


@cache
def symbol_mathml(latex: str) -> str:
    r"""Return a piece of LaTeX as MathML without its outer element.

    Letters of ``\mathrm`` become one word again, which is how it is read out; names of functions are
    identifiers, and are applied to what stands in brackets behind them.
    """
    try:
        from latex2mathml.converter import convert
    except ImportError:
        raise BackendUnavailable(
            "MathML needs the package latex2mathml: pip install 'proxygraph[report]'"
        ) from None
    made = convert(latex, display="block")
    made = re.sub(r"^<math[^>]*><mrow>|</mrow></math>$", "", made)
    made = _LETTERS.sub(lambda m: f"<mi>{''.join(re.findall('>([^<])<', m[0]))}</mi>", made)
    made = _WORD.sub(r"<mi>\1</mi>", made)
    return _CALL.sub(rf"\1{_APPLY}", made)
