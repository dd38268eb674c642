"""Operators with branches of which the rows show only one: written as that branch.

``max(x, 5)`` on rows with x > 5 is x. A search cannot tell the two apart, but people take a formula with a
bend for one that bends, and elsewhere it does.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag, Node, reachable
from proxygraph.ops import OPS
from proxygraph.table import StatTable

Floats = NDArray[np.float64]

BENT = frozenset({"abs", "sign", "relu", "maximum", "minimum"})


def without_idle_branches(dag: Dag, table: StatTable) -> Dag:
    """Return the formula without bends that no row of a plain table is beyond.

    On the rows its values are the same, bit by bit, up to the sign of 0. Where the sign of a 0 inside would
    change them, as in ``1 / abs(x)`` written as ``1 / -x``, all bends stay.

    Examples
    --------
    >>> import numpy as np
    >>> from proxygraph.infix import parse, text
    >>> table = StatTable.from_columns(None, {"x": np.array([1.0, 2.0]), "y": np.array([3.0, 1.5])})
    >>> text(without_idle_branches(parse("max(x, y) + max(x, 0.5) + abs(-y)", table.leaves), table))
    'max(x, y) + x + --y'
    """
    if table.offsets or not any(node.kind == "op" and node.name in BENT for node in dag.nodes):
        return dag
    values = _all_values(dag, table)
    nodes: list[Node] = []
    place: list[int] = []  # of each node, what stands for it
    for node in dag.nodes:
        args = [values[j] for j in node.args]
        stands = tuple(place[j] for j in node.args)
        branch = _branch(node, args) if node.kind == "op" and node.name in BENT else None
        if isinstance(branch, int):
            place.append(stands[branch])
            continue
        match branch:
            case None:
                nodes.append(Node(node.kind, node.name, stands, node.value))
            case "neg":
                nodes.append(Node("op", "neg", stands))
            case sign:
                nodes.append(Node("const", value=sign))
        place.append(len(nodes) - 1)
    left = Dag(reachable(nodes, place[-1]), dag.leaves)
    if not left.leaves:
        return dag
    return left if np.array_equal(_all_values(left, table)[-1], values[-1], equal_nan=True) else dag


def _all_values(dag: Dag, table: StatTable) -> list[Floats]:
    """Return the values of all nodes on the rows."""
    values: list[Floats] = []
    for node in dag.nodes:
        values.append(_values(node, [values[j] for j in node.args], table))
    return values


def _values(node: Node, args: list[Floats], table: StatTable) -> Floats:
    if node.kind == "leaf":
        return np.asarray(table.columns[node.name], np.float64)
    if node.kind == "const":
        return np.full(table.n_rows, node.value)
    with np.errstate(all="ignore"):
        return np.asarray(OPS[node.name].numpy(np, *args), np.float64)


def _branch(node: Node, args: list[Floats]) -> int | Literal["neg"] | float | None:
    """Return which argument an operator is on all rows, that it is the negative one, its sign, or None."""
    x, y = args[0], args[-1]
    match node.name:
        case "abs" | "relu" if (x >= 0.0).all():
            return 0
        case "abs" if (x <= 0.0).all():
            return "neg"
        case "sign" if (x > 0.0).all() or (x < 0.0).all():
            return float(np.sign(x[0]))
        case "maximum" if (x >= y).all() or (y >= x).all():
            return 0 if (x >= y).all() else 1
        case "minimum" if (x <= y).all() or (y <= x).all():
            return 0 if (x <= y).all() else 1
    return None
