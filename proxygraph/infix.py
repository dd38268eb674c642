"""Formulas as text: ``t0 = mean(w); sum(std(w - t0) / t0)``.

Python's own parser reads the text into its syntax tree, which is walked and never run; only names, numbers,
``+ - * / **``, calls of operators and ``name = part`` statements mean anything. Names that are no identifiers
(columns of tables) stand in backticks. Parts that occur twice are named once when printed.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Callable, Mapping

from proxygraph.dag import Dag, Node
from proxygraph.errors import ParseError, UnknownName
from proxygraph.leaves import STATISTICS, Axis, Leaf
from proxygraph.ops import ATOM, OPS, UNARY, find

MAX_CHARS = 20_000
MAX_NESTING = 100
MAX_NODES = 4096

_BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
_QUOTED = re.compile(r"`([^`\n]+)`")
_PART_NAME = re.compile(r"t\d+")


def parse(text: str, leaves: Mapping[str, Leaf] = STATISTICS, root_axis: Axis | None = "row") -> Dag:
    """Read a formula.

    Parameters
    ----------
    text : str
        At most 20,000 characters, brackets at most 100 deep.
    leaves : mapping of str to Leaf
        What leaf names mean.
    root_axis : str or None
        Axis the root must be on, ``None`` for any.

    Returns
    -------
    Dag
        With every number as a float64 constant.

    Raises
    ------
    ParseError
        If the text is no formula; the message says where.
    UnknownName
        If an operator or leaf does not exist; near names are offered.
    InvalidDag
        If axes do not fit.

    Examples
    --------
    >>> print(text(parse("sum(sum(abs(w*g)))")))
    sum(sum(abs(w * g)))
    """
    _refuse_large(text)
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        # same width as the quoted name, so that columns in messages stay right
        name = f"_{len(quoted)}".ljust(len(match[0]), "_")
        while name in leaves or name in quoted:
            name += "_"
        quoted[name] = match[1]
        return name

    source = _QUOTED.sub(placeholder, text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            module = ast.parse(source.strip())
        return _Reader(leaves, quoted).dag(module, root_axis)
    except SyntaxError as error:
        raise ParseError(f"formula: {error.msg} at character {error.offset} of {_short(text)}") from None
    except (RecursionError, MemoryError):
        raise ParseError(f"formula: nested too deeply: {_short(text)}") from None
    except ValueError as error:
        raise ParseError(f"formula: {error}: {_short(text)}") from None


def _refuse_large(text: str) -> None:
    if len(text) > MAX_CHARS:
        raise ParseError(f"formula: {len(text):,} characters, more than the {MAX_CHARS:,} allowed")
    deep = nesting = 0
    for char in text:
        nesting += (char == "(") - (char == ")")
        deep = max(deep, nesting)
    if deep > MAX_NESTING:
        raise ParseError(f"formula: brackets nested {deep} deep, more than the {MAX_NESTING} allowed")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Reader:
    """Walks one syntax tree and collects nodes."""

    def __init__(self, leaves: Mapping[str, Leaf], quoted: Mapping[str, str]) -> None:
        self.leaves = leaves
        self.quoted = quoted
        self.nodes: list[Node] = []
        self.named: dict[str, int] = {}

    def dag(self, module: ast.Module, root_axis: Axis | None) -> Dag:
        if not module.body:
            raise ParseError("formula: empty text")
        *lets, last = module.body
        for let in lets:
            if not (
                isinstance(let, ast.Assign) and len(let.targets) == 1 and isinstance(let.targets[0], ast.Name)
            ):
                raise ParseError("formula: before the last ';' only 'name = part' may stand")
            name = let.targets[0].id
            # `text` names parts t0, t1... and knows only the leaves of the formula, not all of a table
            if name in self.named or (name in self.leaves and not _PART_NAME.fullmatch(name)):
                raise ParseError(f"formula: {name!r} is named already")
            self.named[name] = self.read(let.value)
        if not isinstance(last, ast.Expr):
            raise ParseError("formula: the text must end with an expression")
        root = self.read(last.value)
        if root != len(self.nodes) - 1:  # the result is a part named earlier
            self.nodes = self.nodes[: root + 1]
        used = {root, *(j for node in self.nodes for j in node.args)}
        unused = [name for name, i in self.named.items() if i not in used]
        if unused:
            raise ParseError(f"formula: {unused[0]!r} is named but not used")
        return Dag(self.nodes, self.leaves, root_axis)

    def add(self, node: Node) -> int:
        if len(self.nodes) >= MAX_NODES:
            raise ParseError(f"formula: more than {MAX_NODES} nodes")
        self.nodes.append(node)
        return len(self.nodes) - 1

    def read(self, tree: ast.expr) -> int:
        match tree:
            case ast.Constant(value=bool() | complex() | str() | bytes() | None):
                raise ParseError(f"formula: {tree.value!r} is not a real number")
            case ast.Constant(value=int() | float() as value):
                return self.add(Node("const", value=_float(value)))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if (
                not isinstance(value, bool)
            ):
                return self.add(Node("const", value=-_float(value)))
            case ast.UnaryOp(op=ast.USub()):
                return self.add(Node("op", "neg", (self.read(tree.operand),)))
            case ast.UnaryOp(op=ast.UAdd()):
                return self.read(tree.operand)
            case ast.BinOp() if type(tree.op) in _BINARY:
                left, right = self.read(tree.left), self.read(tree.right)
                return self.add(Node("op", _BINARY[type(tree.op)], (left, right)))
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                op = find(name, len(tree.args))
                return self.add(Node("op", op.name, tuple(self.read(a) for a in tree.args)))
            case ast.Name(id=name):
                return self.leaf(name)
            case _:
                raise ParseError(
                    f"formula: {ast.unparse(tree)[:40]!r} (character {tree.col_offset + 1}) is not part of "
                    "the language; use names, numbers, + - * / ** and operators like log(...)"
                )

    def leaf(self, name: str) -> int:
        if name in self.named:
            return self.named[name]
        name = self.quoted.get(name, name)
        if name not in self.leaves:
            import difflib

            near = difflib.get_close_matches(name, self.leaves, n=3)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"known: {', '.join(list(self.leaves)[:40])}"
            )
            raise UnknownName(f"unknown leaf {name!r}; {hint}")
        return self.add(Node("leaf", name))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ParseError("formula: a number is too large for float64") from None


# ---- printing ----------------------------------------------------------------------------------------------


def text(dag: Dag) -> str:
    """Print a formula so that ``parse(text(dag)) == dag``.

    Examples
    --------
    >>> print(text(parse("sum(mean((w - mean(w)) / mean(w)))")))
    t0 = mean(w); sum(mean((w - t0) / t0))
    """
    names = part_names(dag)
    parts, strength = pieces(dag, names, _leaf_text, number_text)
    del strength
    lets = [f"{name} = {parts[i]}; " for i, name in names.items()]
    return "".join(lets) + parts[-1]


def part_names(dag: Dag) -> dict[int, str]:
    """Return a name for every operator node that is used more than once, in order."""
    names: dict[int, str] = {}
    for i, node in enumerate(dag.nodes):
        if node.kind == "op" and dag.uses[i] > 1:
            n = len(names)
            while f"t{n}" in dag.leaves or f"t{n}" in names.values():
                n += 1
            names[i] = f"t{n}"
    return names


def pieces(
    dag: Dag, names: Mapping[int, str], leaf: Callable[[Leaf], str], number: Callable[[float], str]
) -> tuple[list[str], list[int]]:
    """Return the text of every node, named parts referred to by name, and its binding strength."""
    parts: list[str] = []
    strength: list[int] = []
    for node in dag.nodes:
        if node.kind == "leaf":
            parts.append(leaf(dag.leaves[node.name]))
            strength.append(ATOM)
        elif node.kind == "const":
            parts.append(number(node.value))
            strength.append(UNARY if parts[-1].startswith("-") else ATOM)
        else:
            op = OPS[node.name]
            args = [names.get(j, parts[j]) for j in node.args]
            # "-2" reads back as a constant, so the negation of a constant is written as a call
            if not op.infix or (op.name == "neg" and dag.nodes[node.args[0]].kind == "const"):
                parts.append(f"{op.call}({', '.join(args)})")
                strength.append(ATOM)
                continue
            bracketed = [
                a if j in names or strength[j] >= slot else f"({a})"
                for a, j, slot in zip(args, node.args, op.slots, strict=True)
            ]
            parts.append(op.infix.format(*bracketed))
            strength.append(op.prec)
    return parts, strength


def _leaf_text(leaf: Leaf) -> str:
    plain = leaf.name.isidentifier() and not keyword.iskeyword(leaf.name) and leaf.name.isascii()
    return leaf.name if plain else f"`{leaf.name}`"


def number_text(value: float) -> str:
    """Print a constant with all its digits: the shortest text that reads back as the same float64."""
    if value.is_integer() and abs(value) < 1e15 and not (value == 0 and str(value).startswith("-")):
        return str(int(value))
    return repr(value)
