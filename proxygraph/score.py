"""``python -m proxygraph.score``: the values of a formula on the rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxygraph.command import completing, run_command

if TYPE_CHECKING:
    from proxygraph.dag import Dag
    from proxygraph.leaves import Leaf


def _proxies() -> Iterable[str]:
    from proxygraph.zoo import ZOO

    return ZOO


def score(
    formula: Annotated[
        str,
        typer.Argument(
            metavar="FORMULA",
            help="Formula as text, name of a proxy of the zoo, or folder of a run.",
            autocompletion=completing(_proxies),
        ),
    ],
    table: Annotated[
        Path, typer.Option(metavar="FILE", help="Table of statistics (.safetensors), as collect saves it.")
    ],
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What computes: reference (plain numpy), fused (compiled; the same to nine digits) or auto: "
            "whichever takes less time on this table, compiling included.",
            autocompletion=completing(lambda: ("auto", "reference", "fused")),
        ),
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file instead of the terminal.")
    ] = None,
) -> None:
    """Print the value of a formula on every row of a table, as CSV: row, value.

    Example: python -m proxygraph.score 'sum(sum(abs(w * g)))' --table stats.safetensors
    """
    from proxygraph.kernels import choose_backend, compile_kernel
    from proxygraph.program import lower
    from proxygraph.run import RunFolder, csv_text
    from proxygraph.table import StatTable

    data = StatTable.load(table)
    dag = read_formula(formula, data.leaves)
    program = lower([dag])
    if backend == "auto":
        finest = max((data.size(axis) for axis in program.axes), default=0)
        backend = choose_backend(program, finest, fresh=True)
    (values,) = compile_kernel(program, backend)(data)
    content = csv_text(
        [{"row": row, "value": repr(float(v))} for row, v in zip(data.rows, values, strict=True)]
    )
    if out is None:
        print(content, end="")
    else:
        RunFolder(out.parent).write(out.name, content)
        print(f"written: {out}")


def read_formula(formula: str, leaves: Mapping[str, Leaf]) -> Dag:
    """Return the formula that is named: a run's best, a proxy of the zoo, or text over these leaves."""
    from proxygraph.export import formula_of
    from proxygraph.infix import parse
    from proxygraph.run import RunFolder
    from proxygraph.zoo import ZOO

    if formula in ZOO:
        return ZOO[formula].dag
    if "(" not in formula and Path(formula).is_dir():
        return formula_of(RunFolder(Path(formula)).read("result.json").get("best", {}), Path(formula))
    return parse(formula, leaves)


def main() -> None:
    """Run the command."""
    run_command(score, "python -m proxygraph.score")


if __name__ == "__main__":
    main()
