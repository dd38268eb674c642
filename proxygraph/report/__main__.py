"""``python -m proxygraph.report``: runs as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxygraph.command import run_command


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of finished runs, as evolve wrote them.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .html file to write; by default report.html in the run's folder, or in the current "
            "folder for several runs.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
) -> None:
    """Write a page that shows runs: front, formulas, graphs, scores of rows, progress, settings.

    The page is one file, needs no network and no script.

    Example: python -m proxygraph.report runs/first --open
    """
    from proxygraph.report.page import check_packages, check_target, write_page
    from proxygraph.report.runs import read_run

    check_packages()
    out = check_target(out or (runs[0] if len(runs) == 1 else Path()) / "report.html", runs)
    found = [read_run(path) for path in runs]
    from proxygraph.report.view import report_page

    write_page(out, report_page(found), show=open_)


def main() -> None:
    """Run the command."""
    run_command(report, "python -m proxygraph.report")


if __name__ == "__main__":
    main()
