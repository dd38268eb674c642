"""The help of commands: plain text in groups, examples in lines that can be copied, bold on a terminal only.

typer's own help in boxes breaks command lines and loads rich; this one starts at once and reads the same in a
file.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from typer import style
from typer.core import TyperCommand, TyperGroup

EXAMPLE: Final = "Example: "
"""How a paragraph of a docstring begins that is a command line."""


def coloured() -> bool:
    """Return whether standard output is a terminal whose user has not asked for plain text."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _bold(text: str) -> str:
    return style(text, bold=True) if coloured() else text


def parts_of(text: str) -> tuple[list[str], list[str]]:
    """Split a docstring into its paragraphs, each as one line, and the command lines of its examples."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    examples = [part.removeprefix(EXAMPLE) for part in paragraphs if part.startswith(EXAMPLE)]
    return [part for part in paragraphs if not part.startswith(EXAMPLE)], examples


def _write_words(self: Any, formatter: Any) -> None:
    words, examples = parts_of(self.help or "")
    for paragraph in words:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(paragraph)
    if examples:
        formatter.write_paragraph()
    for example in examples:  # not wrapped: a terminal wraps by itself, and what is copied stays whole
        formatter.write(f"  {_bold(EXAMPLE.strip())} {example}\n")


def _write_options(self: Any, ctx: Any, formatter: Any) -> None:
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in self.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            common = "Arguments" if param.param_type_name == "argument" else "Options"
            name = getattr(param, "rich_help_panel", None) or common
            groups.setdefault(name, []).append(record)
    for name in sorted(
        groups, key=lambda name: (name != "Arguments", name == "Options")
    ):  # --help comes last
        with formatter.section(_bold(name)):
            formatter.write_dl(groups[name])


class Command(TyperCommand):
    """A command whose options stand in groups (``rich_help_panel``)."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, and examples."""
        _write_words(self, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, group by group."""
        _write_options(self, ctx, formatter)


class Group(TyperGroup):
    """Several commands, one of which the first word chooses."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the commands do."""
        _write_words(self, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands and the options."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)
