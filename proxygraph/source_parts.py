"""Copying code: the source of some functions with everything of this package that they use.

Reads the files as text and syntax trees; nothing is imported or run. Of a class only the methods that are
used are copied, of a docstring the first line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

PACKAGE = "proxygraph"

Import = tuple[str, str, str]
"""Module, name in it (empty for the whole module), name here."""


@dataclass(frozen=True)
class Module:
    """One source file, taken apart.

    Attributes
    ----------
    name : str
        Dotted name.
    lines : list of str
    definitions : dict of str to ast node
        Functions, classes and constants of the file.
    imports : dict of str to Import
        What a name is imported from.
    """

    name: str
    lines: list[str] = field(repr=False)
    definitions: dict[str, ast.stmt]
    imports: dict[str, Import]


@cache
def module(name: str) -> Module:
    """Return a module of this package, read and taken apart."""
    folder = resources.files(PACKAGE)
    for part in name.split(".")[1:-1]:
        folder = folder / part
    source = (folder / f"{name.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, Import] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                definitions[statement.name] = statement
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)):
                definitions[target] = statement
            case ast.Import():
                imports |= {(here := a.asname or a.name): (a.name, "", here) for a in statement.names}
            case ast.ImportFrom(module=str(origin)) if origin != "__future__":
                imports |= {(here := a.asname or a.name): (origin, a.name, here) for a in statement.names}
    return Module(name, source.splitlines(), definitions, imports)


class Parts:
    """A set of definitions that is complete: whatever they use is in it, or imported.

    Parameters
    ----------
    roots : iterable of (str, str)
        Module and name of what is wanted.
    attributes : iterable of str
        Names of methods that are used from outside.
    """

    def __init__(self, roots: Iterable[tuple[str, str]], attributes: Iterable[str] = ()) -> None:
        wanted = list(roots)
        self.attributes = set(attributes)
        self.imports: set[Import] = set()
        self.found: dict[tuple[str, str], ast.stmt] = {}
        size = (-1, -1)
        while size != (len(self.attributes), len(self.found)):  # a method found late may use more
            size = (len(self.attributes), len(self.found))
            self.found = {}
            for origin, name in wanted:
                self._visit(origin, name, ())

    def _visit(self, origin: str, name: str, users: tuple[str, ...]) -> None:
        """Add a definition after everything it uses."""
        home = module(origin)
        if name in users or (origin, name) in self.found:
            return
        statement = home.definitions[name]
        for node in self._nodes(statement):
            if isinstance(node, ast.Attribute):
                self.attributes.add(node.attr)
            elif isinstance(node, ast.Name) and node.id in home.definitions:
                self._visit(origin, node.id, (*users, name))
            elif isinstance(node, ast.Name) and node.id in home.imports:
                source, imported, here = home.imports[node.id]
                if source.partition(".")[0] == PACKAGE:
                    self._visit(source, imported, (*users, name))
                elif imported != "Final":
                    self.imports.add((source, imported, here))
        self.found[origin, name] = statement

    def _nodes(self, statement: ast.stmt) -> Iterator[ast.AST]:
        """Every node of a definition but those of methods that are not used."""
        for child in ast.iter_child_nodes(statement):
            if isinstance(statement, ast.ClassDef) and self._unused(child):
                continue
            yield from ast.walk(child)

    def _unused(self, child: ast.AST) -> bool:
        dunder = isinstance(child, ast.FunctionDef) and child.name.startswith("__")
        return isinstance(child, ast.FunctionDef) and not dunder and child.name not in self.attributes

    def sources(self) -> list[str]:
        """Return the definitions as text, each after those it uses."""
        return [self._source(module(origin), statement) for (origin, _), statement in self.found.items()]

    def _source(self, home: Module, statement: ast.stmt) -> str:
        assert statement.end_lineno is not None
        lines: list[str | None] = list(home.lines)
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                _shorten_docstring(node, lines)
        if isinstance(statement, ast.ClassDef):
            for child in filter(self._unused, statement.body):
                assert isinstance(child, ast.FunctionDef)
                assert child.end_lineno is not None
                for i in range(_first_line(child) - 1, child.end_lineno):
                    lines[i] = None
        kept = [line for line in lines[_first_line(statement) - 1 : statement.end_lineno] if line is not None]
        if isinstance(statement, ast.AnnAssign):
            kept[0] = kept[0].replace(": Final", "", 1)
        text = "\n".join(kept)
        while "\n\n\n" in text:  # where methods were left out
            text = text.replace("\n\n\n", "\n\n")
        return text.rstrip()


def _first_line(statement: ast.stmt) -> int:
    """Line of a definition, its decorators included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _shorten_docstring(node: ast.FunctionDef | ast.ClassDef, lines: list[str | None]) -> None:
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        assert first.end_lineno is not None
        if first.end_lineno > first.lineno:
            lines[first.lineno - 1] = f'{lines[first.lineno - 1]}"""'
            lines[first.lineno : first.end_lineno] = [None] * (first.end_lineno - first.lineno)


def import_lines(imports: Iterable[Import]) -> list[str]:
    """Return import statements, the standard library first, an empty line between the two groups."""
    groups: list[list[str]] = []
    for third_party in (False, True):
        mine = sorted(i for i in imports if _is_third_party(i[0]) == third_party)
        plain = [f"import {origin}" for origin, name, _ in mine if not name]
        named: dict[str, list[str]] = {}
        for origin, name, here in mine:
            if name:
                key = origin if name == here else f"{origin} as {here}"  # a line of its own
                named.setdefault(key, []).append(name if name == here else f"{name} as {here}")
        lines = []
        for key in sorted(named):  # as isort has it: constants, classes, functions
            names = sorted(named[key], key=lambda n: (not n.isupper(), not n[:1].isupper(), n))
            lines.append(f"from {key.partition(' ')[0]} import {', '.join(names)}")
        groups.append(plain + lines)
    return [*groups[0], *([""] if groups[0] and groups[1] else []), *groups[1]]


def _is_third_party(origin: str) -> bool:
    return origin.partition(".")[0] in ("torch", "numpy")
