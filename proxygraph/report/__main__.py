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
    from proxygraph.errors import ConfigError
    from proxygraph.report.page import check_packages
    from proxygraph.report.runs import read_run
    from proxygraph.run import RunFolder

    check_packages()
    if out is None:
        out = (runs[0] if len(runs) == 1 else Path()) / "report.html"
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: the report is HTML; give a file that ends in .html")
    if out.parent not in runs and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    found = [read_run(path) for path in runs]
    from proxygraph.report.view import report_page

    content = report_page(found)
    RunFolder(out.parent).write(out.name, content)
    print(f"report: {out} ({len(content.encode()) / 1000:.0f} kB)")
    if open_:
        import webbrowser

        if not webbrowser.open(out.resolve().as_uri()):
            print("no browser could be started; open the file yourself")


def main() -> None:
    """Run the command."""
    run_command(report, "python -m proxygraph.report")


if __name__ == "__main__":
    main()
