"""What a search shows: the front while it runs, the result at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxygraph.command import duration
from proxygraph.infix import text
from proxygraph.islands import IslandsState
from proxygraph.loop import Stop

Validate = Callable[[IslandsState], Sequence[float]]


def _number(value: object) -> str:
    return f"{value:+.3f}" if isinstance(value, float) else "-"


def time_left(stop: Stop | None, state: IslandsState, seconds: float) -> str:
    """Return ``, at most 0:35 left``: until the nearest limit, at the pace so far."""
    if stop is None:
        return ""
    spent = [(stop.seconds, seconds), (stop.generations, state.generation)]
    spent.append((stop.evaluations, state.counters["evaluated"]))
    left = [(limit - done) * seconds / done for limit, done in spent if limit is not None and done > 0]
    return f", at most {duration(max(0.0, min(left)))} left" if left else ""


def live_table(
    state: IslandsState,
    validation: Sequence[float],
    seconds: float,
    metric: str,
    width: int,
    stop: Stop | None = None,
) -> Table:
    """Return the front of a running search; `validation` has one number per front member."""
    counters = state.counters
    rate = counters["evaluated"] / seconds if seconds > 0 else 0.0
    known = sum(counters[tier] for tier in ("structural", "algebraic", "numeric", "rank"))
    table = Table(
        title=f"generation {state.generation} · {counters['evaluated']:,} formulas scored ({rate:,.0f}/s), "
        f"{known:,} duplicates, {counters['invalid']:,} invalid · {seconds:.0f} s"
        f"{time_left(stop, state, seconds)}",
        title_justify="left",
        expand=False,
    )
    table.add_column("size", justify="right")
    table.add_column(f"{metric} train", justify="right")
    table.add_column("validation", justify="right")
    table.add_column("formula", overflow="ellipsis", no_wrap=True, max_width=max(20, width - 36))
    for one, check in zip(state.hall.front(), validation, strict=True):
        table.add_row(str(one.size), f"{one.fitness:.3f}", f"{check:.3f}", Text(text(one.dag)))
    return table


@contextmanager
def watching(
    out: Console, metric: str, validate: Validate, quiet: bool, stop: Stop | None = None
) -> Iterator[Callable[[IslandsState, float], None]]:
    """Yield a function to call after every generation; it draws on a terminal and logs a line elsewhere."""
    last = [-1e9]
    if quiet:
        yield lambda state, seconds: None
        return
    if not out.is_terminal:

        def log(state: IslandsState, seconds: float) -> None:
            if time.monotonic() - last[0] >= 10.0:
                last[0] = time.monotonic()
                check = max((v for v in validate(state) if v == v), default=float("nan"))
                out.print(
                    f"{seconds:5.0f} s  generation {state.generation:4d}  "
                    f"scored {state.counters['evaluated']:7,d}  "
                    f"({state.counters['evaluated'] / max(seconds, 0.01):,.0f}/s)  "
                    f"{metric} train {state.best:.3f}  best validation {check:.3f}"
                    f"{time_left(stop, state, seconds)}",
                    soft_wrap=True,
                )

        yield log
        return
    with Live(console=out, refresh_per_second=4, transient=True) as live:

        def draw(state: IslandsState, seconds: float) -> None:
            if time.monotonic() - last[0] >= 0.5:
                last[0] = time.monotonic()
                live.update(live_table(state, validate(state), seconds, metric, out.width, stop))

        yield draw


def result_table(result: Mapping[str, Any], metric: str) -> Table:
    """Return front and baselines side by side, best test score first among the baselines."""
    rows = result["problem"]["rows"]
    table = Table(
        title=f"{result['problem']['name']}: {metric} on {rows['train']} train / "
        f"{rows['validation']} validation / "
        f"{rows['test']} test rows",
        title_justify="left",
    )
    for name in ("", "size", "train", "validation", "test"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_column("formula", overflow="fold")
    best = result["best"]["key"]
    for one in result["front"]:
        style = "bold" if one["key"] == best else ""
        table.add_row(
            "best" if one["key"] == best else "front",
            str(one["size"]),
            *(_number(one[part].get(metric)) for part in ("train", "validation", "test")),
            Text(one["infix"]),
            style=style,
        )
    if result["baselines"]:
        table.add_section()
    ordered = sorted(result["baselines"], key=lambda b: -(b["test"].get(metric) or -2.0))
    for one in ordered:
        table.add_row(
            one["name"],
            str(one["size"]),
            *(_number(one[part].get(metric)) for part in ("train", "validation", "test")),
            Text(one["infix"]),
        )
    return table
