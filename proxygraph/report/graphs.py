"""A formula drawn as a graph: the result on top, leaves at the bottom, nodes coloured by axis."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from proxygraph.dag import Dag, Node
from proxygraph.infix import number_text
from proxygraph.ops import OPS
from proxygraph.report.layered import layered
from proxygraph.report.svg import short, tag

HEIGHT: Final = 38.0
MARGIN: Final = 6.0
MOST_LETTERS: Final = 20
_SYMBOLS: Final = str.maketrans({"*": "×", "-": "−", "/": "÷"})


def label(node: Node, digits: int | None = None) -> str:
    """Return what is written on a node."""
    if node.kind == "const":
        text = number_text(node.value) if digits is None else f"{node.value:.{digits}g}"
        return text.replace("-", "−")
    if node.kind == "leaf":
        return "".join(c if c.isprintable() else " " for c in node.name)
    op = OPS[node.name]
    if op.name == "pow":
        return "power"
    return op.infix.format("", "").strip().translate(_SYMBOLS) if op.infix else op.call


def graph(dag: Dag, name: str) -> Markup:
    """Return the drawing.

    Edges run from user to argument; the two arguments of an operator that is not commutative are numbered.
    Every node has its position as ``data-node`` and its axis as class.
    """
    texts = [_cut(label(node, 4)) for node in dag.nodes]
    widths = [
        max(46.0, 8.2 * len(text) + 20.0, 6.0 * len(axis) + 18.0)
        for text, axis in zip(texts, dag.axes, strict=True)
    ]
    drawing = layered([node.args for node in dag.nodes], widths, HEIGHT)
    heads = {(user, slot): points[1][0] for user, slot, _, points in drawing.edges}
    edges = []
    for user, slot, _, points in drawing.edges:
        edges.append(tag("path", d=_curve(points), class_="edge"))
        node = dag.nodes[user]
        if len(node.args) > 1 and not OPS[node.name].commutative:
            x, y = points[0]
            # both may bend to one side, and meet where one argument is both: compared, not with x
            side = -1 if (heads[user, slot], slot) < (heads[user, 1 - slot], 1 - slot) else 1
            edges.append(tag("text", str(slot + 1), x=x + 9.0 * side, y=y + 13.0, class_="slot middle"))
    nodes = []
    for i, (node, axis, text) in enumerate(zip(dag.nodes, dag.axes, texts, strict=True)):
        x, y, width = float(drawing.x[i]), float(drawing.y[i]), widths[i]
        corner = {"leaf": 3.0, "const": 3.0, "op": HEIGHT / 2}[node.kind]
        box = tag("rect", x=x - width / 2, y=y - HEIGHT / 2, width=width, height=HEIGHT, rx=corner)
        words = tag("text", text, x=x, y=y + 1.0, class_="middle")
        below = "constant" if node.kind == "const" else axis
        small = tag("text", below, x=x, y=y + 13.0, class_="small middle")
        title = tag("title", f"{label(node)} ({below})")
        nodes.append(tag("g", title, box, words, small, data_node=i, class_=f"node {node.kind} axis-{axis}"))
    width, height = drawing.width + 2 * MARGIN, drawing.height + 2 * MARGIN
    return tag(
        "svg",
        *edges,
        *nodes,
        viewBox=f"{short(-MARGIN)} {short(-MARGIN)} {short(width)} {short(height)}",
        width=short(width),
        height=short(height),
        role="img",
        aria_label=name,
        class_="graph",
    )


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def _curve(points: list[tuple[float, float]]) -> str:
    """Return a path that leaves and enters every layer upright."""
    (x, y), *rest = points
    parts = [f"M{short(x)} {short(y)}"]
    for to_x, to_y in rest:
        middle = (y + to_y) / 2
        bend = f"{short(x)} {short(middle)} {short(to_x)} {short(middle)}"
        parts.append(f"C{bend} {short(to_x)} {short(to_y)}")
        x, y = to_x, to_y
    return "".join(parts)


def graph_rows(dag: Dag) -> list[tuple[int, str, str, str]]:
    """Return the graph as a table, the result first: number, what it is, axis, numbers of arguments."""
    return [
        (i, label(node), "constant" if node.kind == "const" else dag.axes[i], ", ".join(map(str, node.args)))
        for i, node in reversed(list(enumerate(dag.nodes)))
    ]
