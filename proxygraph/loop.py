"""Running a search until something says stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxygraph.errors import ConfigError
from proxygraph.islands import Islands, IslandsState, Overview

PERFECT = 1.0 - 1e-13
SETTLED = 8
"""Generations that regressions go on after a perfect formula."""
Callback = Callable[[IslandsState, float], bool | None]
"""Called after every step with the state and the seconds spent; True stops the search."""


@dataclass(frozen=True)
class Stop:
    """When a search ends: at the first limit that it meets.

    Attributes
    ----------
    generations, evaluations : int, optional
        Most generations; formulas scored (the generation that passes it is finished).
    seconds : float, optional
        Of all sittings together.
    fitness : float
        Enough: by default a perfect one, up to rounding.
    stagnation : int, optional
        Generations without a better formula on any island.
    settled : int
        Generations without a better formula that must follow on a fitness that is enough: a large formula
        can be as good as perfect, and the small one that it stands for is found next.

    Raises
    ------
    ConfigError
        If a limit is not positive or no limit can ever be met.
    """

    generations: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    fitness: float = PERFECT
    stagnation: int | None = None
    settled: int = 0

    def __post_init__(self) -> None:
        limits = {
            "generations": self.generations,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "stagnation": self.stagnation,
        }
        for name, limit in limits.items():
            if limit is not None and not limit >= (0 if name == "seconds" else 1):
                raise ConfigError(f"stop after {limit} {name}: must be positive")
        if all(limit is None for limit in limits.values()) and not self.fitness < math.inf:
            raise ConfigError("nothing would end this search: give generations, evaluations or seconds")

    def reason(self, state: Overview, seconds: float | None = None) -> str | None:
        """Return why the search ends now, or None; without `seconds` whatever the clock says."""
        idle = state.generation - state.last_gain
        if state.best >= self.fitness and idle >= self.settled:
            return f"fitness {state.best:.6g} reached"
        if self.generations is not None and state.generation >= self.generations:
            return f"{state.generation} generations made"
        if self.seconds is not None and seconds is not None and seconds >= self.seconds:
            return f"{self.seconds:g} s spent"
        if self.evaluations is not None and state.counters["evaluated"] >= self.evaluations:
            return f"{self.evaluations:,} formulas scored"
        if self.stagnation is not None and idle >= self.stagnation:
            return f"nothing better for {self.stagnation} generations"
        return None


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    state : IslandsState
    seconds : float
        Of all sittings.
    reason : str
        What ended it.
    """

    state: IslandsState
    seconds: float
    reason: str


def run(
    search: Islands,
    stop: Stop,
    callbacks: Sequence[Callback] = (),
    *,
    state: IslandsState | None = None,
    spent: float = 0.0,
) -> Outcome:
    """Run generations until a limit is met or a callback returns True; at least one is made.

    Parameters
    ----------
    search : Islands
    stop : Stop
    callbacks : sequence of callable
        Called in order after every step with the state and the seconds spent so far. A step is a generation;
        where islands are far away (`proxygraph.remote`), all generations up to the next migration.
    state : IslandsState, optional
        To go on from. A state can be stepped once.
    spent : float
        Seconds of earlier sittings.
    """
    begin = time.monotonic()

    def met(overview: Overview) -> bool:
        return stop.reason(overview) is not None

    while True:
        seconds = spent + time.monotonic() - begin
        if state is not None and (reason := stop.reason(state, seconds)) is not None:
            return Outcome(state, seconds, reason)
        state = (
            search.start(stop.generations, met)
            if state is None
            else search.step(state, stop.generations, met)
        )
        seconds = spent + time.monotonic() - begin
        wishes = [callback(state, seconds) for callback in callbacks]  # all of them see every generation
        if any(wishes):
            return Outcome(state, seconds, "stopped")
