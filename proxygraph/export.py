"""``python -m proxygraph.export``: a formula of a finished run, in the form you need it."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxygraph.command import completing, console, next_steps, run_command

if TYPE_CHECKING:
    from proxygraph.dag import Dag

PARTS = ("train", "validation", "test")
FORMATS = ("text", "latex", "mathml", "python", "torch", "sympy", "json", "dot")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="text, latex, mathml, python, torch, sympy, json or dot.",
            autocompletion=completing(lambda: FORMATS),
        ),
    ] = "text",
    size: Annotated[
        int | None,
        typer.Option(metavar="N", help="The front's formula of this size; by default the best one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file instead of the terminal.")
    ] = None,
) -> None:
    """Print a formula of a run as text, LaTeX, MathML, a Python file, sympy, JSON or Graphviz.

    Example: python -m proxygraph.export runs/first --format latex
    """
    from proxygraph.errors import ConfigError
    from proxygraph.run import RunFolder

    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}; known: {', '.join(FORMATS)}")
    result = RunFolder(run).read("result.json")
    entry = chosen(result, run, size)
    content = rendered(formula_of(entry, run), format, entry, tabular=bool(result["problem"]["tabular"]))
    if out is None:
        print(content)
        return
    RunFolder(out.parent).write(out.name, content + "\n")
    print(f"written: {out}")
    score = f"python -m proxygraph.score {quote(str(run))} --table FILE.safetensors"
    next_steps(console(), f"score a table of statistics with it: {score}")


def chosen(result: dict[str, Any], run: Path, size: int | None) -> dict[str, Any]:
    """Return the entry of ``result.json`` for a size, or the best.

    Raises
    ------
    ConfigError
        If the front has no formula of that size, or the file is damaged.
    """
    from proxygraph.errors import ConfigError

    try:
        if size is None:
            return dict(result["best"])
        for one in result["front"]:
            if one["size"] == size:
                return dict(one)
        sizes = ", ".join(str(one["size"]) for one in result["front"])
    except (KeyError, TypeError):
        raise ConfigError(f"{run}/result.json: damaged, no front in it") from None
    raise ConfigError(f"{run}: no formula of size {size} on the front; sizes: {sizes}")


def formula_of(entry: dict[str, Any], run: Path) -> Dag:
    """Return the formula of an entry, its columns taken to be leaves of the row axis.

    Raises
    ------
    ConfigError
        If the entry has no formula, or another one than its key says.
    """
    from proxygraph.dag import Dag
    from proxygraph.errors import ConfigError

    try:
        dag = Dag.from_json(entry["graph"])
    except KeyError:
        raise ConfigError(f"{run}/result.json: damaged, an entry has no graph") from None
    if dag.key != entry.get("key"):
        raise ConfigError(f"{run}/result.json: formula and key do not match; the file was changed by hand")
    return dag


def rendered(dag: Dag, format: str, entry: dict[str, Any], *, tabular: bool) -> str:
    """Return a formula in one of `FORMATS`."""
    if format == "text":
        from proxygraph.infix import text

        return text(dag)
    if format == "latex":
        from proxygraph.latex import latex

        return latex(dag)
    if format == "mathml":
        from proxygraph.mathml import mathml

        return mathml(dag)
    if format in ("python", "torch"):
        from proxygraph.torch_source import formula_python

        scored: dict[str, object] = {part: json.dumps(entry[part]) for part in PARTS if part in entry}
        return formula_python(dag, provenance=scored, tabular=tabular).rstrip("\n")
    if format == "sympy":
        from proxygraph.symbolic import to_sympy

        return str(to_sympy(dag))
    if format == "dot":
        from proxygraph.dot import dot

        return dot(dag).rstrip("\n")
    return json.dumps(dag.to_json(), indent=2)


def main() -> None:
    """Run the command."""
    run_command(export, "python -m proxygraph.export")


if __name__ == "__main__":
    main()
