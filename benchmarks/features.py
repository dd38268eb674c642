"""What does each feature of a search cost?

    python benchmarks/features.py [--quick] [--json FILE]

A table of 500 rows and 5 columns. Distinct formulas scored per CPU second of the whole loop in one thread,
once with everything switched off (one island, constants as they come) and once with each feature switched
on; the searches take turns of two seconds of CPU time, so that a slow minute hits all of them. ``share`` is
the rate beside that of the plain search of the same objective. Features make formulas better, not more:
fitting gives each formula its best constants, and limits refuse formulas before they are scored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import Row, arguments, print_rows, row, write

import numpy as np  # isort: skip

from benchmarks.loop import rows_500
from proxygraph.assemble import Assembled, Settings, assembled
from proxygraph.behaviour import Behaviour
from proxygraph.constraints import Constraints, Units
from proxygraph.islands import IslandsState
from proxygraph.loop import Callback
from proxygraph.objective import find_objective
from proxygraph.run import RunFolder
from proxygraph.units import parse_unit
from proxygraph.watch import checkpoints, journal

PLAIN = Settings(islands=1, fit_constants=False)
UNITS = Units({f"x{i}": parse_unit(unit) for i, unit in enumerate(("m", "m", "s", "s", "kg"))})
LIMITS = Constraints(max_depth=6, max_constants=4, nesting={"sin": {"sin": 0}, "exp": {"exp": 0}})
CHECKPOINT_SECONDS = 5.0


@dataclass
class Running:
    """A search on its way, and the rates of its turns."""

    search: Assembled
    callbacks: list[Callback] = field(default_factory=list)
    state: IslandsState | None = None
    begin: float = field(default_factory=time.monotonic)
    rates: list[float] = field(default_factory=list)

    def turn(self, seconds: float) -> None:
        """Make generations for so many CPU seconds."""
        start, before = time.process_time(), 0 if self.state is None else self.state.counters["evaluated"]
        while time.process_time() - start < seconds:
            self.state = self.search.start() if self.state is None else self.search.step(self.state)
            for callback in self.callbacks:
                callback(self.state, time.monotonic() - self.begin)
        assert self.state is not None
        spent = time.process_time() - start
        self.rates.append((self.state.counters["evaluated"] - before) / spent)


def variants() -> dict[str, tuple[str, Settings]]:
    """Return objective and settings by name; the first of an objective is the one to compare with."""
    return {
        "r2, plain": ("r2", PLAIN),
        "r2, 4 islands": ("r2", replace(PLAIN, islands=4)),
        "r2, units": ("r2", replace(PLAIN, constraints=Constraints(units=UNITS))),
        "r2, depth, constants, nesting": ("r2", replace(PLAIN, constraints=LIMITS)),
        "r2, rising in x1": ("r2", replace(PLAIN, behaviour=Behaviour({"x1": "increasing"}))),
        "r2, positive": ("r2", replace(PLAIN, behaviour=Behaviour({}, "positive"))),
        "r2, journal and checkpoints": ("r2", PLAIN),
        "r2, fitted constants": ("r2", replace(PLAIN, fit_constants=True)),
        "r2, all of a default search": ("r2", Settings()),
        "spearman, plain": ("spearman", PLAIN),
        "spearman, 4 islands": ("spearman", replace(PLAIN, islands=4)),
        "spearman, lower bound": ("lower:spearman", PLAIN),
    }


@contextmanager
def watched(name: str) -> Iterator[list[Callback]]:
    """Yield what is called after a generation."""
    if "checkpoints" not in name:
        yield []
        return
    with TemporaryDirectory() as path:
        folder = RunFolder.create(Path(path) / "run", {}, resume=False)
        yield [journal(folder), checkpoints(folder, CHECKPOINT_SECONDS)]


def run(seconds: float, turns: int) -> list[Row]:
    """Return the rows of the result."""
    table, target = rows_500()
    wanted = variants()
    running: dict[str, Running] = {}
    with ExitStack() as stack:
        for name, (objective, settings) in wanted.items():
            search = assembled(table, np.asarray(target), find_objective(objective), settings)
            running[name] = Running(search, stack.enter_context(watched(name)))
        for turn in range(turns + 1):  # the first one compiles, and grows the populations
            for name, one in running.items():
                one.turn(seconds)
                print(f"\rturn {turn} of {turns}: {name:40}", end="", flush=True)
        print()
    rows = []
    for name, one in running.items():
        base = running[f"{name.partition(',')[0]}, plain"]
        shares = np.array(one.rates[1:]) / np.array(base.rates[1:])
        more = {"share": float(np.median(shares)), "n_rows": len(target), "dtype": "float64"}
        rows.append(row(name, one.rates[1:], unit="distinct formulas/CPU s", **more))
    return rows


def main() -> None:
    """Run, print, write."""
    options = arguments(__doc__)
    rows = run(*((0.5, 3) if options.quick else (2.0, 10)))
    print_rows(rows, "share")
    write(options.json, "features", rows)


if __name__ == "__main__":
    main()
