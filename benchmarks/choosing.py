"""What a search would choose among networks whose mIoU is known, and how far that is from the best one.

Holds no proxy and no data. A search looks at networks in some order and keeps the one with the best score;
its regret is the best mIoU of the pool minus that of the network it keeps. Letters: ``N`` networks of the
pool, ``S`` searches, ``n`` networks that a search looks at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray

from segspace.search.study import Candidate, Rules, explore
from segspace.transnas101 import Arch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RESAMPLES = 1000
INTERVAL = (0.025, 0.975)


@dataclass(frozen=True, eq=False)
class Pool:
    """Trained networks that a search may choose from.

    Attributes
    ----------
    archs : tuple of str, length N
    groups : tuple of str, length N
        Equal for networks that are equal but for dead edges.
    target : ndarray, shape (N,)
        mIoU in percent, mean over training seeds.
    first : ndarray, shape (N,)
        mIoU of the first training: all that a search sees that trains every network once.
    trainings : ndarray of int, shape (N,)
        Seeds that the target is a mean of.
    seconds : ndarray, shape (N,)
        What one training costs.
    macs : ndarray, shape (N,)
        Multiply-accumulates.
    """

    archs: tuple[str, ...]
    groups: tuple[str, ...]
    target: Floats
    first: Floats
    trainings: Ints
    seconds: Floats
    macs: Floats

    def __len__(self) -> int:
        """Return how many networks there are."""
        return len(self.archs)

    def take(self, rows: Ints) -> Pool:
        """Return the pool of some of the networks."""
        texts = (tuple(names[i] for i in rows) for names in (self.archs, self.groups))
        numbers = (self.target, self.first, self.trainings, self.seconds, self.macs)
        return Pool(*texts, *(values[rows] for values in numbers))

    def regret(self, chosen: Ints) -> Floats:
        """Return the best mIoU minus that of the chosen networks, in points; of any shape."""
        return np.asarray(self.target.max() - self.target[chosen])

    def percentile(self, chosen: Ints) -> Floats:
        """Return the share of the other networks, in percent, that are worse; equal ones count half."""
        ordered = np.sort(self.target)
        worse = np.searchsorted(ordered, self.target, side="left")
        not_better = np.searchsorted(ordered, self.target, side="right")
        share = (worse + not_better - 1) / 2 / max(1, len(self) - 1)
        return np.asarray(100 * share[chosen])


# ---- choices -----------------------------------------------------------------------------------------------


def orders(n: int, searches: int, seed: int = 0) -> Ints:
    """Return the order (S, N) in which each search looks at the networks of a pool."""
    return np.array([np.random.default_rng([seed, s, 0xC4]).permutation(n) for s in range(searches)])


def chosen(scores: Floats, order: Ints) -> Ints:
    """Return which network each search keeps after 1, 2, ... n networks, shape (S, n).

    Of equal scores the first one stays. A score that is not finite is never kept, unless there is no other:
    then the search keeps the first network, which is as good as any to it.

    Parameters
    ----------
    scores : ndarray, shape (N,)
        Higher is better.
    order : ndarray of int, shape (S, n)
        Networks in the order they are looked at.
    """
    seen = np.where(np.isfinite(scores), scores, -np.inf)[order]
    best = np.maximum.accumulate(seen, axis=1)
    better = np.ones_like(seen, bool)
    better[:, 1:] = seen[:, 1:] > best[:, :-1]
    at = np.maximum.accumulate(np.where(better, np.arange(order.shape[1]), 0), axis=1)
    return np.asarray(np.take_along_axis(order, at, axis=1))


def matching(regrets: Floats, level: float) -> int | None:
    """Return after how many networks the median regret (of (S, n)) is no more than `level`, None if never."""
    good = np.median(regrets, axis=0) <= level + 1e-9
    return int(np.argmax(good)) + 1 if good.any() else None


# ---- how sure ----------------------------------------------------------------------------------------------


def median_interval(values: Floats) -> tuple[float, float]:
    """Return what 95 % of resamples of the searches say about their median."""
    draws = np.random.default_rng(3).integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), INTERVAL)
    return float(low), float(high)


def pool_interval(pool: Pool, scores: Floats) -> tuple[float, float]:
    """Return what 95 % of resamples of the *networks* say about the regret of a search that sees all.

    That a search sees the whole pool leaves nothing to chance but which networks the pool is made of.
    """
    draws = np.random.default_rng(4).integers(0, len(pool), size=(RESAMPLES, len(pool)))
    kept = chosen(scores, draws)[:, -1]
    regrets = pool.target[draws].max(axis=1) - pool.target[kept]
    low, high = np.quantile(regrets, INTERVAL)
    return float(low), float(high)


@dataclass(frozen=True)
class Noise:
    """What the noise of training alone does to regret, points of mIoU, one value per simulated table.

    Attributes
    ----------
    oracle : ndarray
        Measured regret of the truly best network.
    measured : ndarray
        True regret of the network that was measured to be the best.
    """

    oracle: Floats
    measured: Floats


def noise_of(pool: Pool, seed_sd: float, simulations: int = RESAMPLES) -> Noise:
    """Return how large regrets are that mean nothing, since tables of measured mIoU are noisy.

    True values are the measured ones drawn together until they vary by what is left of the variance when the
    noise is taken away; measured tables are simulated from them, noise divided by the root of the number of
    seeds.

    Parameters
    ----------
    seed_sd : float
        Standard deviation between two trainings of one network.
    """
    sd = seed_sd / np.sqrt(pool.trainings)
    total = float(pool.target.var())
    left = math.sqrt(max(0.0, 1 - float(np.mean(sd**2)) / total)) if total else 0.0
    true = pool.target.mean() + left * (pool.target - pool.target.mean())
    tables = true + sd * np.random.default_rng(5).normal(size=(simulations, len(pool)))
    truly, seemingly = int(true.argmax()), tables.argmax(axis=1)
    return Noise(tables.max(axis=1) - tables[:, truly], true[truly] - true[seemingly])


# ---- a table as a space that is searched -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tabular:
    """The networks of a table as a space (`segspace.search.space.SearchSpace`); cost: multiply-accumulates.

    The table need not have the neighbours of a network: the nearest ones it has stand for them.
    """

    pool: Pool

    cost_name = "macs"

    @cached_property
    def ops(self) -> NDArray[np.int8]:
        """The operators of the networks, shape (N, 6)."""
        return np.array([Arch.parse(text).ops for text in self.pool.archs], np.int8)

    @cached_property
    def number(self) -> dict[str, int]:
        """Where each network stands."""
        return {text: i for i, text in enumerate(self.pool.archs)}

    def sample(self, rng: np.random.Generator) -> str:
        """Return any network."""
        return self.pool.archs[int(rng.integers(len(self.pool)))]

    def mutate(self, arch: str, rng: np.random.Generator) -> str:
        """Return one of the networks that differ in fewest operators, but in one."""
        distance = (self.ops != self.ops[self.number[arch]]).sum(1)
        distance[self.number[arch]] = self.ops.shape[1] + 1
        return self._nearest(distance, rng)

    def crossover(self, one: str, other: str, rng: np.random.Generator) -> str:
        """Return the network nearest to one that has each operator from either parent."""
        a, b = self.ops[self.number[one]], self.ops[self.number[other]]
        return self._nearest((self.ops != np.where(rng.random(len(a)) < 0.5, a, b)).sum(1), rng)

    def cost(self, arch: str) -> float:
        """Return multiply-accumulates."""
        return float(self.pool.macs[self.number[arch]])

    def size(self, arch: str) -> tuple[int, int]:
        """Return multiply-accumulates; parameters are not in the table."""
        return int(self.cost(arch)), 0

    def _nearest(self, distance: NDArray[np.int64], rng: np.random.Generator) -> str:
        return self.pool.archs[int(rng.choice(np.flatnonzero(distance == distance.min())))]


def looked_at(pool: Pool, scores: Floats, rules: Rules, n: int) -> Ints:
    """Return the networks (up to n) that `segspace.search` looks at, in order."""
    space, found = Tabular(pool), list[Candidate]()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"])
    explore(study, space, lambda arch: float(scores[space.number[arch]]), rules, n, told=found.append)
    optuna.logging.set_verbosity(before)
    return np.array([space.number[one.arch] for one in found])


def common_length(found: Sequence[Ints]) -> Ints:
    """Return orders as one array, cut to the shortest."""
    shortest = min(map(len, found))
    return np.array([one[:shortest] for one in found])
