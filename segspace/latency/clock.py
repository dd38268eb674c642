"""Timing many things in turns, so that a slow second hits all of them alike; knows nothing of networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)
Clock = Callable[[], float]
ClockName = Literal["cpu", "wall"]

CLOCKS: Mapping[ClockName, Clock] = {"cpu": time.process_time, "wall": time.perf_counter}


def in_turns(
    runs: Mapping[K, Callable[[], Any]],
    rounds: int,
    clock: Clock,
    rng: np.random.Generator,
    *,
    seconds_per_sample: float = 2e-3,
    warm_up: int = 5,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[K, NDArray[np.float64]]:
    """Return the seconds that one call of each function takes, once per round.

    All functions take one turn in every round, in a new random order. Before a turn is timed the function is
    called once, so that its data are as near as in continued use; a function that is quicker than
    `seconds_per_sample` is called several times per turn and the mean is kept.

    Parameters
    ----------
    runs : mapping of name to callable
        What is timed.
    rounds : int
        Turns of each.
    clock : callable
        Returns seconds.
    rng : numpy.random.Generator
        Draws the order.
    seconds_per_sample : float
        Least duration of a turn.
    warm_up : int
        Calls before the first turn; the quickest says how many calls a turn takes.
    progress : callable
        Called with the rounds done and their number.

    Returns
    -------
    dict
        Seconds per call, shape (rounds,), per name.
    """
    calls = {name: _calls(run, clock, seconds_per_sample, warm_up) for name, run in runs.items()}
    seconds = {name: np.empty(rounds) for name in runs}
    names = list(runs)
    for turn in range(rounds):
        for at in rng.permutation(len(names)):
            name = names[at]
            seconds[name][turn] = _turn(runs[name], calls[name], clock)
        progress(turn + 1, rounds)
    return seconds


def _calls(run: Callable[[], Any], clock: Clock, seconds: float, warm_up: int) -> int:
    quickest = min(_turn(run, 1, clock) for _ in range(warm_up))
    return max(1, math.ceil(seconds / max(quickest, 1e-7)))


def _turn(run: Callable[[], Any], calls: int, clock: Clock) -> float:
    run()
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls
