"""What fills pages of docs/ from result files: rows, numbers, Markdown tables.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``, and is replaced; the words around it are
not touched, so read them again when the numbers change. Pictures go to docs/images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def result(name: str) -> dict[str, Any]:
    """Return one result file; nothing if it is not there."""
    path = HERE / "results" / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def rows_of(name: str) -> list[Row]:
    """Return the rows of one result file; none if it is not there."""
    return list(result(name).get("rows", []))


def one(rows: Sequence[Row], **about: Any) -> Row | None:
    """Return the row that has these entries."""
    found = [row for row in rows if all(row.get(key) == value for key, value in about.items())]
    return found[0] if found else None


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits that mean something; thousands in full."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def median(rows: Sequence[Row], **about: Any) -> str:
    """Return the median of one row, with a tenth below and above."""
    row = one(rows, **about)
    return "–" if row is None else f"{number(row['median'])} ({number(row['p10'])}–{number(row['p90'])})"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return the page with these tables made anew; others stay."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- table {name} -->\n{tables[name]()}\n<!-- end -->" if name in tables else match[0]

    return re.sub(r"<!-- table ([\w ]+) -->\n.*?<!-- end -->", replaced, text, flags=re.DOTALL)
