"""Texts that generated functions are made of: comments for people, literals, filled templates.

Nothing here knows what is computed where, or in which language of arrays: the numba and the torch function
of a formula are written with the same parts.
"""

from __future__ import annotations

import math

from proxygraph.dag import Dag
from proxygraph.errors import CompileError
from proxygraph.infix import number_text, text
from proxygraph.ops import ATOM, OPS, UNARY

MAX_COMMENT = 48
MAX_HEADER = 600


def function_name(dag: Dag) -> str:
    """Return the name of a formula's function; it follows from the formula's key."""
    return f"formula_{dag.key[:8]}"


def header(dag: Dag) -> list[str]:
    """Return the comments a function begins with: the formula, and which column is which."""
    columns = [
        f"# c{k}: {printable(name)} ({leaf.axis})" for k, (name, leaf) in enumerate(dag.leaves.items())
    ]
    return [f"# {printable(cut(text(dag), MAX_HEADER))}", *columns]


def refuse_finer_root(dag: Dag) -> None:
    """Raise `CompileError` unless the formula gives one number per row."""
    if dag.axes[-1] != "row":
        raise CompileError(
            f"the formula {cut(text(dag))} is on the {dag.axes[-1]} axis; a kernel gives one number "
            "per row, so reduce it first, e.g. with sum(...)"
        )


def literal(value: float, module: str) -> str:
    """Return a number as source; `module` has ``nan`` and ``inf``."""
    shown = repr(value)
    if not math.isfinite(value):
        shown = shown.replace("nan", f"{module}.nan").replace("inf", f"{module}.inf")
    return shown


def bracketed(number: str) -> str:
    """Put a negative number in brackets, so that it can stand anywhere."""
    return f"({number})" if number.startswith("-") else number


def comments(dag: Dag) -> list[str]:
    """Return the text of every node for people.

    Long arguments are given by the name of their value; characters that could end a comment are escaped.
    """
    parts: list[str] = []
    strength: list[int] = []
    for node in dag.nodes:
        if node.kind == "leaf":
            name = printable(cut(node.name, MAX_COMMENT))
            parts.append(name if name.isidentifier() else f"`{name}`")
            strength.append(ATOM)
        elif node.kind == "const":
            parts.append(number_text(node.value))
            strength.append(UNARY if parts[-1].startswith("-") else ATOM)
        else:
            op = OPS[node.name]
            args = [
                f"v{j}" if len(parts[j]) > MAX_COMMENT and dag.nodes[j].kind == "op" else parts[j]
                for j in node.args
            ]
            in_brackets = [
                f"({a})" if a == parts[j] and strength[j] < slot else a
                for a, j, slot in zip(args, node.args, op.slots, strict=True)
            ]
            parts.append(op.infix.format(*in_brackets) if op.infix else f"{op.call}({', '.join(args)})")
            strength.append(op.prec if op.infix else ATOM)
    return parts


def printable(name: str) -> str:
    """Escape every character that could end a comment or not be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def cut(long: str, length: int = 60) -> str:
    """Shorten a text that is too long."""
    return long if len(long) <= length else long[: length - 3] + "..."


def bare(expression: str) -> str:
    """Drop one pair of brackets around a whole expression."""
    if not (expression.startswith("(") and expression.endswith(")")):
        return expression
    depth = 0
    for char in expression[:-1]:
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return expression
    return expression[1:-1]


def filled(name: str, template: str, *args: str, **fields: str) -> str:
    """Fill an operator's template; a user's mistake in it is reported with the operator's name."""
    try:
        return template.format(*args, **fields)
    except (LookupError, ValueError) as error:
        raise CompileError(
            f"operator {name!r}: the template {template!r} cannot be filled ({error!r})"
        ) from None


def uses_first(name: str) -> bool:
    """Whether a reduction refers to the first value."""
    op = OPS[name]
    return any("{first}" in template for template in (*op.update, op.final))
