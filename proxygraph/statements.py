"""One formula as Python statements, for a loop over layers or for arrays.

Each operator's own template gives the expressions; here stands what is computed where and what gets a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxygraph.dag import Dag, Node
from proxygraph.ops import OPS, Op

LONG: Final = 48
"""An expression longer than this gets a name, so that no line is much longer than twice as much."""

RESERVED: Final = re.compile(r"t\d+|per_layer\d+|layers?|network|torch|Tensor|formula|score|statistics")
"""Names that the statements use themselves; a leaf of that name gets an underscore."""


@dataclass
class _Block:
    """Statements of one indentation, and expressions for the nodes that are known in it."""

    indent: str
    values: dict[int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


class Statements:
    """Writes one formula as statements.

    Values finer than rows are computed layer by layer: a reduction over layers ends a loop, and what depends
    on its result goes into the next one. Parts that are used twice, and long ones, get names.

    Parameters
    ----------
    dag : Dag
        The formula.
    code : callable
        Template of an operator, an expression that binds as strongly as a call.
    number : str
        Template that makes a constant one of the values that operators take.
    """

    def __init__(self, dag: Dag, code: Callable[[Op], str], number: str) -> None:
        self.dag = dag
        self.code = code
        self.number = number
        self.temporaries = 0
        self.lists = 0
        self.loop_of = self._loops()

    def _loops(self) -> list[int]:
        """Number of loops that must have ended before each node can be computed."""
        loops: list[int] = []
        for i, node in enumerate(self.dag.nodes):
            loops.append(max([loops[j] for j in node.args], default=0) + self._ends_loop(i))
        return loops

    def _ends_loop(self, i: int) -> bool:
        node = self.dag.nodes[i]
        return node.kind == "op" and OPS[node.name].kind == "reduction" and self.dag.axes[i] == "row"

    def function(self) -> list[str]:
        """Return ``formula(layers, network)``."""
        outer = _Block("    ")
        self._read_leaves(outer, range(len(self.dag)), "row", "network")
        for loop in range(max(self.loop_of)):
            self._loop(outer, [i for i, n in enumerate(self.loop_of) if n == loop + 1 and self._ends_loop(i)])
        root = len(self.dag) - 1
        self._fill(outer, [root])
        return [
            "def formula(layers: list[dict[str, Tensor]], network: dict[str, Tensor]) -> Tensor:",
            '    """Return the value of the formula for one network."""',
            *outer.lines,
            f"    return {_bare(outer.values[root])}",
        ]

    def predict(self) -> list[str]:
        """Return ``predict(columns)``."""
        outer = _Block("        ")
        root, reads = len(self.dag) - 1, list[str]()
        for i, node in enumerate(self.dag.nodes):
            if node.kind == "leaf":
                outer.values[i] = f"x{len(reads)}"
                column = literal(node.name)
                reads.append(f"    x{len(reads)} = np.asarray(columns[{column}], dtype=np.float64)")
        self._fill(outer, [root])
        return [
            "def predict(columns: Mapping[str, Any]) -> Any:",
            '    """Return the formula for every row of `columns`: arrays by name, or a data frame."""',
            *reads,
            '    with np.errstate(all="ignore"):',
            *outer.lines,
            f"        return {_bare(outer.values[root])}",
        ]

    def _loop(self, outer: _Block, ending: Sequence[int]) -> None:
        """Write one loop over the layers, and the reductions of what it gives."""
        arguments = sorted({self.dag.nodes[i].args[0] for i in ending})
        inside = self._inside(arguments)
        inner = _Block("        ")
        for i in inside:
            if self.dag.axes[i] == "row" and self.dag.nodes[i].kind == "op":  # once, before the loop
                self._fill(outer, [i])
                inner.values[i] = self._name(outer, i)
            elif self.dag.axes[i] == "row" and i in outer.values:
                inner.values[i] = outer.values[i]
        self._read_leaves(inner, inside, "", "layer")
        self._fill(inner, arguments)
        lists = {j: f"per_layer{self.lists + k}" for k, j in enumerate(arguments)}
        self.lists += len(lists)
        outer.lines += [f"    {name} = []" for name in lists.values()]
        outer.lines += ["    for layer in layers:", *inner.lines]
        outer.lines += [f"        {name}.append({_bare(inner.values[j])})" for j, name in lists.items()]
        for i in ending:
            j = self.dag.nodes[i].args[0]
            outer.values[j] = f"torch.stack({lists[j]})"
        for i in ending:
            self._compose(outer, i)
            if i != len(self.dag) - 1:
                self._name(outer, i)

    def _inside(self, roots: Sequence[int]) -> list[int]:
        """Nodes that `roots` need in their loop, down to values of the network."""
        need = set(roots)
        for i in range(max(roots), -1, -1):
            if i in need and self.dag.axes[i] != "row":
                need |= set(self.dag.nodes[i].args)
        return sorted(need)

    def _read_leaves(self, block: _Block, nodes: Sequence[int], axis: str, source: str) -> None:
        """Give the leaves on the row axis, or those on all others, local names."""
        for i in nodes:
            name = self.dag.nodes[i].name
            if self.dag.nodes[i].kind == "leaf" and (self.dag.axes[i] == "row") == (axis == "row"):
                local = f"{name}_" if RESERVED.fullmatch(name) else name
                block.lines.append(f'{block.indent}{local} = {source}["{name}"]')
                block.values[i] = local

    def _fill(self, block: _Block, roots: Sequence[int]) -> None:
        """Find expressions for `roots`, after statements for the parts that deserve a name."""
        need = set(roots)
        for i in range(max(roots), -1, -1):
            if i in need and i not in block.values:
                need |= set(self.dag.nodes[i].args)
        uses = Counter(j for i in need if i not in block.values for j in self.dag.nodes[i].args)
        uses.update(roots)
        for i in sorted(need):
            if i in block.values:
                continue
            if self.dag.nodes[i].kind == "const":
                block.values[i] = self.number.format(repr(self.dag.nodes[i].value))
                continue
            self._compose(block, i)
            if uses[i] > 1 or (len(block.values[i]) > LONG and i not in roots):
                self._name(block, i)

    def _compose(self, block: _Block, i: int) -> None:
        """Put the expression of one operator together."""
        node = self.dag.nodes[i]
        template = self.code(OPS[node.name])
        args = []
        for slot, j in enumerate(node.args):
            if self._takes_literal(node, slot):
                args.append(repr(self.dag.nodes[j].value))
            elif template.count(f"{{{slot}}}") > 1:
                args.append(self._name(block, j))
            else:
                whole = re.search(rf"(?<=\w\(|, )\{{{slot}\}}(?=\)|,)", template)  # an argument of a call
                args.append(_bare(block.values[j]) if whole else block.values[j])
        block.values[i] = template.format(*args)

    def _takes_literal(self, node: Node, slot: int) -> bool:
        """Whether an argument may be a bare number: beside a tensor in arithmetic, or an exponent."""
        kinds = [self.dag.nodes[j].kind for j in node.args]
        if kinds[slot] != "const":
            return False
        if node.name == "pow":
            return slot == 1
        return node.name in ("add", "sub", "mul", "div") and kinds[1 - slot] != "const"

    def _name(self, block: _Block, i: int) -> str:
        """Give a node a name of its own, unless its expression is one."""
        value = block.values[i]
        if not value.isidentifier():
            while f"t{self.temporaries}" in self.dag.leaves:
                self.temporaries += 1
            block.lines.append(f"{block.indent}t{self.temporaries} = {_bare(value)}")
            block.values[i] = f"t{self.temporaries}"
            self.temporaries += 1
        return block.values[i]


def literal(value: str) -> str:
    """Return a string literal, in double quotes where that is easy."""
    shown = repr(value)
    return f'"{shown[1:-1]}"' if shown.startswith("'") and '"' not in shown and "\\" not in shown else shown


def _bare(expression: str) -> str:
    """Return an expression without brackets around the whole of it."""
    if not (expression.startswith("(") and expression.endswith(")")):
        return expression
    depth = 0
    for k, char in enumerate(expression):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return expression[1:-1] if k == len(expression) - 1 else expression
    return expression
