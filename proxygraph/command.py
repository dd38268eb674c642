"""What the commands share: exit codes, one clear line on stderr, progress for terminal and log alike."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import getmodule
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxygraph.errors import ProxyGraphError, StorageError

if TYPE_CHECKING:
    from rich.console import Console
    from typer import Typer


def run_command(command: Callable[..., Any], name: str, *more: Callable[..., Any]) -> None:
    """Run a typer command: exit 0 on success, 2 on wrong use, 1 on failure, 130 on Ctrl-C.

    With `more` commands, the first word of the command line chooses one by its function's name.

    Parameters
    ----------
    command : callable
    name : str
        ``python -m proxygraph.evolve``. The installed script is called ``proxygraph-evolve``, and as such
        knows ``--install-completion``: of ``python -m`` a shell sees the word python only.
    """
    script = name.removeprefix("python -m ").replace(".", "-")
    installed = Path(sys.argv[0]).stem == script
    app = application(command, *more, completion=installed)
    app(prog_name=script if installed else name)


def application(command: Callable[..., Any], *more: Callable[..., Any], completion: bool = False) -> Typer:
    """Return the typer application of one command, or of several that the first word chooses among."""
    import typer

    from proxygraph.command_help import Command, Group

    app = typer.Typer(
        cls=Group,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 100},
        help=(getmodule(command).__doc__ or "").partition("\n")[0].partition(": ")[2] if more else None,
    )
    for one in (command, *more):
        app.command(cls=Command)(_guarded(one))
    return app


def completing(words: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return what completes an option to one of some words; they are asked for when a shell asks."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words() if word.startswith(incomplete)]

    return complete


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


def console(*, stderr: bool = False) -> Console:
    """Return the console to write on: colours on a terminal only, and not if NO_COLOR is set."""
    from rich.console import Console

    return Console(highlight=False, stderr=stderr)


def next_steps(out: Console, *steps: str) -> None:
    """Print what to do next: one line each, a few words, a colon and a command line.

    Where standard output is data for other programs, `out` is the console of standard error.
    """
    for step in steps:
        out.print(step, markup=False, soft_wrap=True)


class Pace:
    """How fast work goes and how long it will take: from the first report on, which may find much done.

    Parameters
    ----------
    done : int
        What the first report found.
    now : float
        Seconds, monotonic.
    """

    def __init__(self, done: int, now: float) -> None:
        self.first, self.begin, self.last = done, now, done

    def text(self, done: int, total: int, now: float) -> str:
        """Return ``3.2/s, 1:05 left``, or nothing while it cannot be known."""
        if done < self.last:  # another piece of work of the same name
            self.first, self.begin = done, now
        self.last = done
        seconds, made = now - self.begin, done - self.first
        if seconds <= 0 or made <= 0:
            return ""
        rate = made / seconds
        speed = f"{rate:.3g}/s" if rate >= 1 else f"{duration(1 / rate)} each"
        return f"{speed}, {duration((total - done) / rate)} left" if done < total else speed


def duration(seconds: float) -> str:
    """Return ``0.4 s``, ``12 s``, ``3:05`` (minutes) or ``2:03:05`` (hours)."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def reporting(out: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function ``(what, done, total)``: a bar on a terminal, a line now and then in a log."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    paces: dict[str, Pace] = {}

    def pace(what: str, done: int, total: int) -> str:
        now = time.monotonic()
        return paces.setdefault(what, Pace(done, now)).text(done, total, now)

    if not out.is_terminal:
        last: dict[str, float] = {}

        def log(what: str, done: int, total: int) -> None:
            words = pace(what, done, total)
            if time.monotonic() - last.get(what, -1e9) > 15.0 or done == total:
                last[what] = time.monotonic()
                line = f"{what}: {done} of {total}" + (f" ({words})" if words else "")
                out.print(line, markup=False, soft_wrap=True)

        yield log
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=out,
        transient=True,
    )
    tasks: dict[str, Any] = {}
    with bar:

        def show(what: str, done: int, total: int) -> None:
            words = pace(what, done, total)
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, pace=words)
            bar.update(tasks[what], completed=done, total=total, pace=words)

        yield show
