"""What does each feature of a search cost, and all of them together?

    python benchmarks/features.py [--quick] [--only {apart,together}] [--json FILE]

A table of 500 rows and 5 columns. First distinct formulas scored per CPU second of the whole loop in one
thread, once with everything switched off (one island, constants as they come) and once with each feature
switched on; searches take turns of two seconds of CPU time, so that a slow minute hits all of them. Features
make formulas better, not more: fitting gives each formula its best constants, and limits refuse formulas
before they are scored.

Then the speed asked of a whole search: distinct formulas per second by the clock, Spearman, with 1 and 2
threads. The search of benchmarks/loop.py; what the command runs by default (four islands, journal and
checkpoints); that with units and limits on structure; with a sign demanded, too, which is looked at on the
data; and the one with limits with islands as large as the one of benchmarks/loop.py.

``share`` is the median rate beside that of the first search of the same part, objective and threads. A
formula is distinct if its island has not met it; ``distinct_over_islands`` says how many are among all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import Row, arguments, print_rows, row, write, written

import numpy as np  # isort: skip

from benchmarks.loop import THREADS, rows_500, tabular
from proxygraph.assemble import Settings, assembled
from proxygraph.behaviour import Behaviour
from proxygraph.constraints import Constraints, Units
from proxygraph.islands import Islands, IslandsState
from proxygraph.loop import Callback
from proxygraph.objective import find_objective
from proxygraph.run import RunFolder
from proxygraph.units import parse_unit
from proxygraph.watch import checkpoints, journal

PLAIN = Settings(islands=1, fit_constants=False)
UNITS = Units({f"x{i}": parse_unit(unit) for i, unit in enumerate(("m", "m", "s", "s", "kg"))})
LIMITS = Constraints(max_depth=6, max_constants=4, nesting={"sin": {"sin": 0}, "exp": {"exp": 0}})
CHECKPOINT_SECONDS = 5.0


ALL = Constraints(max_depth=6, max_constants=4, nesting={"sin": {"sin": 0}, "exp": {"exp": 0}}, units=UNITS)
EVERY = Settings(constraints=ALL, islands=4)
ROOMY = 4000
"""A population whose islands are as large as the one of benchmarks/loop.py."""


@dataclass(frozen=True)
class Variant:
    """A search to be timed; without settings, that of benchmarks/loop.py."""

    name: str
    objective: str
    settings: Settings | None
    watched: bool = False

    def search(self, threads: int) -> Islands:
        """Return it, ready to start."""
        if self.settings is None:
            return Islands([tabular(threads)])
        table, target = rows_500()
        settings = replace(self.settings, threads=threads)
        return assembled(table, np.asarray(target), find_objective(self.objective), settings)


@dataclass
class Running:
    """A search on its way, and the rates of its turns."""

    search: Islands
    callbacks: list[Callback]
    clock: Callable[[], float]
    state: IslandsState | None = None
    begin: float = field(default_factory=time.monotonic)
    rates: list[float] = field(default_factory=list)

    def turn(self, seconds: float) -> None:
        """Make generations for so many seconds of its clock."""
        start, before = self.clock(), 0 if self.state is None else self.state.counters["evaluated"]
        while self.clock() - start < seconds:
            self.state = self.search.start() if self.state is None else self.search.step(self.state)
            for callback in self.callbacks:
                callback(self.state, time.monotonic() - self.begin)
        assert self.state is not None
        spent = self.clock() - start
        self.rates.append((self.state.counters["evaluated"] - before) / spent)


def distinct(state: IslandsState | None) -> float:
    """Return which share of the formulas that islands know are distinct over all of them."""
    assert state is not None
    keys = [one.known.content()[0] for one in state.islands]
    return len(np.unique(np.concatenate(keys))) / sum(map(len, keys))


def apart() -> list[Variant]:
    """Return searches with one feature each; the first of an objective is the one to compare with."""
    return [
        Variant("plain", "r2", PLAIN),
        Variant("4 islands", "r2", replace(PLAIN, islands=4)),
        Variant("units", "r2", replace(PLAIN, constraints=Constraints(units=UNITS))),
        Variant("depth, constants, nesting", "r2", replace(PLAIN, constraints=LIMITS)),
        Variant("rising in x1", "r2", replace(PLAIN, behaviour=Behaviour({"x1": "increasing"}))),
        Variant("positive", "r2", replace(PLAIN, behaviour=Behaviour({}, "positive"))),
        Variant("journal and checkpoints", "r2", PLAIN, watched=True),
        Variant("fitted constants", "r2", replace(PLAIN, fit_constants=True)),
        Variant("all of a default search", "r2", Settings(), watched=True),
        Variant("plain", "spearman", PLAIN),
        Variant("4 islands", "spearman", replace(PLAIN, islands=4)),
        Variant("lower bound", "lower:spearman", PLAIN),
    ]


def together() -> list[Variant]:
    """Return searches by Spearman with more and more of the features, the plain one first."""
    signed = replace(EVERY, behaviour=Behaviour({}, "positive"))
    roomy = replace(EVERY, population=ROOMY)
    return [
        Variant("benchmarks/loop.py: one island, no features", "spearman", None),
        Variant("the command's defaults", "spearman", Settings(), watched=True),
        Variant("with units and limits on structure", "spearman", EVERY, watched=True),
        Variant("with a sign, too", "spearman", signed, watched=True),
        Variant(f"the limits, population {ROOMY:,}", "spearman", roomy, watched=True),
    ]


@contextmanager
def watched(wanted: bool) -> Iterator[list[Callback]]:
    """Yield what is called after a generation: a journal and checkpoints, if wanted."""
    if not wanted:
        yield []
        return
    with TemporaryDirectory() as path:
        folder = RunFolder.create(Path(path) / "run", {}, resume=False)
        yield [journal(folder), checkpoints(folder, CHECKPOINT_SECONDS)]


def run(part: str, variants: Sequence[Variant], threads: int, seconds: float, turns: int) -> list[Row]:
    """Return the rows of one part of the result, by CPU time or by the clock."""
    clock = time.process_time if part == "apart" else time.perf_counter
    with ExitStack() as stack:
        running = [
            Running(one.search(threads), stack.enter_context(watched(one.watched)), clock) for one in variants
        ]
        for turn in range(turns + 1):  # the first one compiles, and grows the populations
            for one, on_its_way in zip(variants, running, strict=True):
                on_its_way.turn(seconds)
                print(f"\rturn {turn} of {turns}: {one.objective}, {one.name:45}", end="", flush=True)
        print()
    rows: list[Row] = []
    first: dict[str, float] = {}
    for one, done in zip(variants, running, strict=True):
        rates = done.rates[1:]
        base = first.setdefault(one.objective.rpartition(":")[2], float(np.median(rates)))
        more: Row = {"n_rows": 500, "dtype": "float64", "part": part, "objective": one.objective}
        more |= {"threads": threads, "share": float(np.median(rates)) / base}
        more["distinct_over_islands"] = distinct(done.state)
        unit = f"distinct formulas/{'CPU s' if part == 'apart' else 's'}"
        rows.append(row(one.name, rates, unit=unit, **more))
    return rows


def main() -> None:
    """Run, print, write."""
    parts = ("apart", "together")
    options = arguments(__doc__, parts)
    seconds, turns = (0.5, 3) if options.quick else (2.0, 10)
    rows = [one for one in written(options.json, THREADS) if options.only not in (None, one["part"])]
    if options.only != "together":
        rows = [*run("apart", apart(), 1, seconds, turns), *rows]
    if options.only != "apart":
        rows += [one for n in (1, THREADS) for one in run("together", together(), n, seconds, turns)]
    print_rows(rows, "part", "objective", "share")
    write(options.json, "features", rows, THREADS)


if __name__ == "__main__":
    main()
