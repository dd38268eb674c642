"""Islands in other processes and on other machines, behind any `concurrent.futures.Executor`.

A search does not travel: what it is made from does, once to every worker. A task is one island's state and
the generations up to the next migration; what comes back is the state after them. Nothing else decides the
result, so a task that is lost with its worker is simply run again, by any other.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from typing import Any, Final

from proxygraph.assemble import Assembled, Recipe
from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.islands import Figures, Islands, IslandsState, Met, Overview
from proxygraph.ops import BUILTIN, OPS, Op, register
from proxygraph.search import Search

LIVES: Final = 3
"""Times that a pool may break in one step before the search gives up."""
KEPT: Final = 2
"""Recipes that a worker keeps; it may be lent to several searches."""


# ---- what travels ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """A recipe on its way, and a digest to know it by."""

    digest: str
    content: bytes

    @classmethod
    def of(cls, recipe: Recipe) -> Package:
        """Return the recipe, packed, with the user's operators.

        Raises
        ------
        ConfigError
            If a part of it is bound to this process, such as a function typed into a prompt.
        """
        users = tuple(op for name, op in OPS.items() if name not in BUILTIN)
        try:
            content = pickle.dumps((users, recipe), protocol=5)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"this search cannot go to other processes ({error}); define its functions in a module that "
                "workers can import, or use threads"
            ) from None
        return cls(hashlib.sha256(content).hexdigest(), content)


@dataclass(frozen=True)
class Job:
    """One island's way to the next migration; without a state it starts."""

    digest: str
    sources: str
    island: int
    state: bytes | None
    generations: int


@dataclass(frozen=True)
class Answer:
    """The state after a job, and the figures of every generation on the way."""

    state: bytes
    figures: tuple[Figures, ...]


@lru_cache(maxsize=1)
def sources() -> str:
    """Return a digest of the package's code: another one might come to another result."""
    digest, folder = hashlib.sha256(), Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


# ---- in the worker -----------------------------------------------------------------------------------------


@dataclass
class _Kept:
    """A recipe in a worker and the searches made from it that nobody is using."""

    recipe: Recipe
    idle: list[Search] = field(default_factory=list)


_kept: OrderedDict[str, _Kept] = OrderedDict()
_lock = Lock()


def learn(digest: str, content: bytes) -> None:
    """Keep a recipe in this process."""
    with _lock:
        if digest in _kept:
            return
        users: tuple[Op, ...]
        users, recipe = pickle.loads(content)
        for op in users:
            register(op)
        _kept[digest] = _Kept(recipe)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)


def advanced(job: Job, content: bytes | None = None) -> Answer | None:
    """Do a job in this process; None if its recipe has never been here and is not in `content`.

    Raises
    ------
    ConfigError
        If this process runs other code than the one that asks.
    """
    if job.sources != sources():
        raise ConfigError("a worker has another version of proxygraph; install the same on all machines")
    if content is not None and job.digest not in _kept:
        learn(job.digest, content)
    with _lock:
        kept = _kept.get(job.digest)
        if kept is None:
            return None
        _kept.move_to_end(job.digest)
        idle = kept.idle.pop() if kept.idle else None
    own = idle or kept.recipe.search(0)
    search = own.reseeded(kept.recipe.seed(job.island))
    state = None if job.state is None else pickle.loads(job.state)
    figures = []
    for _ in range(job.generations):
        state = search.start() if state is None else search.step(state)
        figures.append(Figures.of(state))
    with _lock:
        kept.idle.append(own)  # only after a good end: what failed may have left it half done
    return Answer(pickle.dumps(state, protocol=5), tuple(figures))


# ---- those who ask -----------------------------------------------------------------------------------------


class Crew:
    """Workers behind an executor that is somebody else's.

    It may be of any kind; a recipe goes along with a task only if the worker says that it lacks it.

    Parameters
    ----------
    executor : Executor
    """

    def __init__(self, executor: Executor) -> None:
        self._executor: Executor | None = executor

    def run(self, package: Package, jobs: Sequence[Job]) -> list[Answer]:
        """Return the answers to all jobs, in their order.

        Raises
        ------
        BackendUnavailable
            If workers are lost again and again, or once where they cannot be replaced.
        """
        answers: list[Answer | None] = [None] * len(jobs)
        lives = LIVES
        waiting: dict[Future[Answer | None], tuple[int, Executor | None]] = {}

        def submit(i: int, whole: bool = False) -> None:
            future = self._submitted(package, jobs[i], whole)
            waiting[future] = i, self._executor

        try:
            for i in range(len(jobs)):
                submit(i)
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    i, executor = waiting.pop(future)
                    try:
                        answers[i] = future.result()
                    except (BrokenExecutor, CancelledError) as error:
                        if executor is self._executor:  # the first of all its tasks to say so
                            lives -= 1
                            self._renew(lives, error)
                        submit(i)
                    else:
                        if answers[i] is None:
                            submit(i, whole=True)
        finally:
            for future in waiting:
                future.cancel()
        return [answer for answer in answers if answer is not None]

    def _submitted(self, package: Package, job: Job, whole: bool) -> Future[Answer | None]:
        assert self._executor is not None
        return self._executor.submit(advanced, job, package.content if whole else None)

    def _renew(self, lives: int, error: BaseException) -> None:
        """Prepare for another try, or raise."""
        raise BackendUnavailable(
            f"the executor lost its workers ({type(error).__name__}); go on from the last checkpoint with a "
            "new one"
        ) from None

    def close(self) -> None:
        """Let go of the workers; those of somebody else are left alone."""


class Processes(Crew):
    """Processes of this machine, started by need and anew when one of them dies.

    They are spawned, so a script that starts them needs a file and ``if __name__ == "__main__"``.

    Parameters
    ----------
    n : int
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ConfigError(f"{n} processes: at least 1 is needed")
        self.n = n
        self._executor = None

    def _submitted(self, package: Package, job: Job, whole: bool) -> Future[Answer | None]:
        if self._executor is None:
            # spawned: a fork of a process with threads may hang
            self._executor = ProcessPoolExecutor(
                self.n, get_context("spawn"), learn, (package.digest, package.content)
            )
        try:
            return super()._submitted(package, job, whole)
        except BrokenExecutor as error:  # it broke while the tasks were being handed out
            broken: Future[Answer | None] = Future()
            broken.set_exception(error)
            return broken

    def _renew(self, lives: int, error: BaseException) -> None:
        self.close()
        if lives == 0:
            raise BackendUnavailable(
                f"processes of the search died {LIVES} times in one step, for want of memory or of a "
                "script with a __main__ guard; go on from the last checkpoint, perhaps with fewer of them"
            ) from None

    def close(self) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None


class Dask(Crew):
    """The workers of a Dask cluster. Recipes are scattered to all of them, from worker to worker.

    Parameters
    ----------
    client : distributed.Client
        It stays open.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(client.get_executor(pure=False))
        self._client = client
        self._there: dict[str, Any] = {}

    def run(self, package: Package, jobs: Sequence[Job]) -> list[Answer]:
        """Return the answers to all jobs, in their order.

        Raises
        ------
        BackendUnavailable
            If a job has cost several workers their lives, or the data is lost again and again.
        """
        import dask
        from distributed import KilledWorker

        # a state grows beyond what Dask thinks a task should weigh; it is sent once in either direction
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
            try:
                return super().run(package, jobs)
            except KilledWorker as error:
                raise BackendUnavailable(
                    f"a task of the search was lost with every worker that tried it ({error}), perhaps for "
                    "want of memory; go on from the last checkpoint"
                ) from None

    def _submitted(self, package: Package, job: Job, whole: bool) -> Future[Answer | None]:
        if package.digest not in self._there:
            self._there[package.digest] = self._client.scatter(package.content, broadcast=True, hash=False)
        assert self._executor is not None
        return self._executor.submit(advanced, job, self._there[package.digest])

    def _renew(self, lives: int, error: BaseException) -> None:
        if lives == 0 or self._client.status != "running":
            raise BackendUnavailable(
                "the Dask cluster does not answer or loses its data again and again; go on from the last "
                "checkpoint"
            ) from None
        self._there.clear()  # every worker that held it is gone
        self._executor = self._client.get_executor(pure=False)


# ---- the search --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Remote(Islands):
    """A search whose islands are with a crew. Its own searches only see formulas off and welcome them.

    A step goes to the next migration, or less far where the limits say so: the result is that of `Islands`.

    Attributes
    ----------
    recipe : Recipe
    crew : Crew
    """

    recipe: Recipe = field(kw_only=True)
    crew: Crew = field(kw_only=True)

    @cached_property
    def package(self) -> Package:
        """The recipe, packed once."""
        return Package.of(self.recipe)

    def start(self, last: int | None = None, met: Met | None = None) -> IslandsState:
        """Return the state at the first migration, or before it where an end is met."""
        return self._advanced([None] * len(self.searches), 0, last, met)

    def step(self, state: IslandsState, last: int | None = None, met: Met | None = None) -> IslandsState:
        """Return the state at the next migration, or before it where an end is met."""
        if state.generation % self.migration.every == 0:
            state = self.migrated(state)
        packed = [pickle.dumps(one, protocol=5) for one in state.islands]
        return self._advanced(packed, state.generation, last, met)

    def _advanced(
        self, states: Sequence[bytes | None], begin: int, last: int | None, met: Met | None
    ) -> IslandsState:
        every = self.migration.every
        n = every - begin % every
        if last is not None:
            n = max(1, min(n, last - begin))
        answers = self._answers(states, n)
        if met is not None:
            for k, moment in enumerate(zip(*(answer.figures for answer in answers), strict=True), 1):
                if k < n and met(Overview(moment)):  # the end was on the way: go there again and stay
                    answers = self._answers(states, k)
                    break
        return IslandsState(tuple(pickle.loads(answer.state) for answer in answers))

    def _answers(self, states: Sequence[bytes | None], n: int) -> list[Answer]:
        jobs = [Job(self.package.digest, sources(), k, one, n) for k, one in enumerate(states)]
        return self.crew.run(self.package, jobs)


def remote(search: Assembled, crew: Crew) -> Remote:
    """Return the search with its islands given to a crew; the result is the same.

    Examples
    --------
    >>> from concurrent.futures import ProcessPoolExecutor
    >>> crew = Crew(ProcessPoolExecutor())          # or Processes(8), or Dask(distributed.Client(...))
    """
    return Remote(search.searches, search.migration, None, recipe=search.recipe, crew=crew)


@contextmanager
def on_dask(search: Assembled, address: str | None) -> Iterator[Islands]:
    """Yield the search with its islands on a Dask cluster for so long; without an address, itself.

    Parameters
    ----------
    search : Assembled
    address : str or None
        Of a scheduler, as ``tcp://HOST:8786``; ``local:N`` starts N worker processes on this machine.

    Raises
    ------
    BackendUnavailable
        If the package is missing or nobody answers.
    ConfigError
        If N is no number above 0.
    """
    if address is None:
        yield search
        return
    try:
        import distributed
    except ImportError:
        raise BackendUnavailable(
            "--dask needs the package distributed: pip install 'proxygraph[distributed]'"
        ) from None
    with ExitStack() as stack:
        place: Any = address
        kind, _, number = address.partition(":")
        if kind == "local":
            if not number.isdecimal() or int(number) < 1:
                raise ConfigError(f"--dask {address}: expected local:N with the number of processes, local:4")
            place = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=int(number), threads_per_worker=1, processes=True, dashboard_address=None
                )
            )
        try:
            client = stack.enter_context(distributed.Client(place, timeout=10))
        except (OSError, ValueError) as error:
            raise BackendUnavailable(
                f"--dask {address}: no Dask scheduler answers ({error}); is it running, at this address?"
            ) from None
        yield remote(search, Dask(client))
