"""The blocks of code in the README and in docs/: found by a Markdown parser, run as a reader would.

A comment right before a block says what is special about it::

    <!-- not run: why -->   the tests do not run it; what can be checked without running is checked
    <!-- slow -->           only the slow tests run it, and with it all blocks of the page in their order
    <!-- output -->         what the block before it printed; ``...`` stands for anything

Blocks of ``sh`` and ``python`` run; ``text`` is shown; ``{...}`` is for Sphinx.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN, SHOWN = ("sh", "python"), ("text", "json", "toml")
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
SMALL = {
    "proxygraph.evolve": "--time-budget 1",
    "segspace.search": "--trials 4",
    "segspace.train": "--epochs 1",
}
"""What is added to commands, so that they are quick; the last of several values of an option counts."""


@dataclass(frozen=True)
class Block:
    """A block of code, where it stands, and the comment before it (empty if there is none)."""

    page: Path
    line: int
    language: str
    code: str
    mark: str

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why the block is not run; ``None`` if it is."""
        head, colon, reason = self.mark.partition(":")
        return reason.strip() if colon and head == "not run" else None

    @property
    def slow(self) -> bool:
        """Whether only the slow tests run it."""
        return self.mark == "slow"


def tokens(page: Path) -> list[Token]:
    """Return the tokens of a page."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    found, before = [], None
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            comment = COMMENT.fullmatch(before.content.strip()) if before is not None else None
            mark = comment[1] if comment and before is not None and before.type == "html_block" else ""
            language = token.info.split()[0] if token.info.strip() else ""
            found.append(Block(page, token.map[0] + 1, language, token.content, mark))
        before = token
    return found


def in_the_text(page: Path) -> Iterator[Block]:
    """Yield the commands that stand between words, as ``python -m ...`` in single backticks."""
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "code_inline" and re.match(
                r"python (-m (prox|seg)|\w+/)|make |pip ", child.content
            ):
                # [--option VALUE] is one that may be left out
                code = (
                    re.sub(r"[\[\]]|\.\.\.", " ", child.content) if " [" in child.content else child.content
                )
                yield Block(page, (token.map or [0])[0] + 1, "sh", code, "")


def anchors(page: Path) -> set[str]:
    """Return the anchors that git hosts give to the headings of a page."""
    found: set[str] = set()
    listed = tokens(page)
    for opening, inline in itertools.pairwise(listed):
        if opening.type == "heading_open":
            words = "".join(child.content for child in inline.children or ())
            found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Yield line and target of every link and picture."""
    for token in tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if target and child.type in ("link_open", "image"):
                yield (token.map or [0])[0] + 1, str(target)


class Reader:
    """Runs the blocks of a page one after the other, in one folder and with one set of Python names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.printed = ""
        cases = "\n".join(f'  "-m {module}") set -- "$@" {more};;' for module, more in SMALL.items())
        tools = folder.parent / f"{folder.name}-tools"
        tools.mkdir()
        (tools / "python").write_text(
            f'#!/bin/sh\ncase "$1 $2" in\n{cases}\nesac\nexec {shlex.quote(sys.executable)} "$@"\n'
        )
        (tools / "python").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
        }

    def read(self, block: Block) -> None:
        """Run a block, or compare what is said to be the output of the one before."""
        if block.mark == "output":
            self.compare(block)
        elif block.language == "sh" and block.reason is None:
            self.printed = self.shell(block)
        elif block.language == "python" and block.reason is None:
            self.printed = self.python(block)

    def shell(self, block: Block) -> str:
        """Run a block of commands; each of them must succeed."""
        command = ["bash", "-euo", "pipefail", "-c", block.code]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{block.place}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, block: Block) -> str:
        """Run a block of Python with the names of those before it."""
        printed = io.StringIO()
        code = compile("\n" * block.line + block.code, str(block.page), "exec")
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(code, self.names)
        return printed.getvalue()

    def compare(self, block: Block) -> None:
        """Compare the output that a page shows with the one that there was."""
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(block.code, self.printed, flags), (
            f"{block.place}: the page says\n{block.code}\nbut it is\n{self.printed}"
        )


def commands(code: str) -> Iterator[list[str]]:
    """Yield the words of every command of a block of ``sh``, without assignments and comments."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                if words:
                    yield words
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word, re.DOTALL):
                words.append(word)
