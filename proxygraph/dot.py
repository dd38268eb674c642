"""Formulas as Graphviz text, nodes coloured by axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxygraph.dag import Dag
from proxygraph.infix import number_text
from proxygraph.leaves import Axis
from proxygraph.ops import OPS

COLOURS: Final[Mapping[Axis, str]] = {
    "element": "#cfe2f3",
    "activation": "#d9ead3",
    "layer": "#fff2cc",
    "row": "#f4cccc",
}
"""Fill of the nodes on each axis."""


def dot(dag: Dag) -> str:
    """Return a formula as a Graphviz digraph.

    Edges run from argument to user; the two arguments of an operator that is not commutative are numbered.

    Parameters
    ----------
    dag : Dag
        Any formula, or part of one.

    Returns
    -------
    str
        For ``dot -Tsvg``.

    Examples
    --------
    >>> from proxygraph.infix import parse
    >>> print(dot(parse("params - 2")))
    digraph formula {
      rankdir=BT;
      node [style=filled, fontname="Helvetica"];
      n0 [label="params", shape=box, fillcolor="#f4cccc", tooltip="row"];
      n1 [label="2", shape=plaintext, fillcolor="#f4cccc", tooltip="row"];
      n2 [label="sub", shape=ellipse, fillcolor="#f4cccc", tooltip="row"];
      n0 -> n2 [label="1"];
      n1 -> n2 [label="2"];
    }
    """
    lines = ["digraph formula {", "  rankdir=BT;", '  node [style=filled, fontname="Helvetica"];']
    edges = []
    for i, (node, axis) in enumerate(zip(dag.nodes, dag.axes, strict=True)):
        label = number_text(node.value) if node.kind == "const" else node.name
        shape = {"leaf": "box", "const": "plaintext", "op": "ellipse"}[node.kind]
        lines.append(
            f'  n{i} [label={_quoted(label)}, shape={shape}, fillcolor="{COLOURS[axis]}", tooltip="{axis}"];'
        )
        ordered = len(node.args) > 1 and not OPS[node.name].commutative
        for slot, j in enumerate(node.args):
            edges.append(f"  n{j} -> n{i}" + (f' [label="{slot + 1}"];' if ordered else ";"))
    return "\n".join([*lines, *edges, "}"])


def _quoted(text: str) -> str:
    """Return a Graphviz string that shows exactly `text`."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
