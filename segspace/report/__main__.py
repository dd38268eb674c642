"""``python -m segspace.report``: a segmenter search as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxygraph.command import run_command


def report(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="Folder of a search, as segspace.search wrote it (--out).")
    ],
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What segspace.latency measure --json wrote; by default measured.json in the folder of the "
            "search, if it is there.",
        ),
    ] = None,
    trained: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Run of segspace.train, or folder of segspace.evaluate: IoU and example predictions; can be "
            "given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .html file to write; by default report.html in the folder of the search.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
) -> None:
    """Write a page that shows a search: front, networks drawn, latency predicted and measured, predictions.

    The page is one file, needs no network and no script. What was not measured or trained is said to be
    missing, with the command that makes it.

    Example: python -m segspace.report runs/search --trained runs/found --open
    """
    from proxygraph.report.page import check_packages, check_target, write_page
    from segspace.report.measured import NAME, read_measured
    from segspace.report.trained import read_trained
    from segspace.search.results import read_results

    check_packages()
    out = check_target(out or study / "report.html", [study])
    results = read_results(study)
    if measured is None and (study / NAME).is_file():
        measured = study / NAME
    records = None if measured is None else read_measured(measured, results)
    runs = [read_trained(path) for path in trained or []]
    from segspace.report.view import study_page

    write_page(out, study_page(results, records, runs), show=open_)


def main() -> None:
    """Run the command."""
    run_command(report, "python -m segspace.report")


if __name__ == "__main__":
    main()
