"""What the commands share: exit codes, one clear line on stderr, progress for terminal and log alike."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from proxygraph.errors import ProxyGraphError, StorageError

if TYPE_CHECKING:
    from rich.console import Console


def run_command(command: Callable[..., Any], name: str, *more: Callable[..., Any]) -> None:
    """Run a typer command: exit 0 on success, 2 on wrong use, 1 on failure, 130 on Ctrl-C.

    With `more` commands, the first word of the command line chooses one by its function's name.
    """
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    for one in (command, *more):
        app.command()(_guarded(one))
    app(prog_name=name)


def _guarded(command: Callable[..., Any]) -> Callable[..., None]:
    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except StorageError as error:
            fail(error, 1)
        except ProxyGraphError as error:
            fail(error, 2)
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except Exception as error:
            if os.environ.get("PROXYGRAPH_TRACEBACK"):
                raise
            fail(f"{type(error).__name__}: {error} (PROXYGRAPH_TRACEBACK=1 shows where)", 1)

    return guarded


def fail(message: object, code: int) -> None:
    """Print one line on stderr and exit."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(code)


def console() -> Console:
    """Return the console to write on."""
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def reporting(out: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function ``(what, done, total)``: a bar on a terminal, a line now and then in a log."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not out.is_terminal:
        last: dict[str, float] = {}

        def log(what: str, done: int, total: int) -> None:
            if time.monotonic() - last.get(what, -1e9) > 15.0 or done == total:
                last[what] = time.monotonic()
                out.print(f"{what}: {done} of {total}", soft_wrap=True)

        yield log
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out,
        transient=True,
    )
    tasks: dict[str, Any] = {}
    with bar:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show
