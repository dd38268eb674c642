"""The study: a database of candidates that processes share, and the loop that adds to it.

A candidate is an Optuna trial whose user attribute ``candidate`` holds the network. A process claims a
network by writing that attribute *before* it looks whether somebody else has it: of two processes that
claim the same network at the same time at least one sees the other, and whoever does draws again. So no
network is scored twice, whatever the number of processes and machines.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event, make_url
from sqlalchemy.exc import SQLAlchemyError

from proxygraph.errors import ConfigError, StorageError
from segspace.search.samplers import SAMPLERS, Proposal
from segspace.search.space import SearchSpace

DRAWS: Final = 200
"""Draws of a sampler until a network may be scored; then samples of the space, then neighbours, as many."""
EXPIRY: Final = 600.0
"""Seconds after which a claim without a score is taken to be of a process that was killed."""
CANDIDATE, INVALID = "candidate", "invalid"


@dataclass(frozen=True)
class Rules:
    """What is searched for, and how.

    Attributes
    ----------
    sampler : str
        A key of `SAMPLERS`.
    population : int
        Networks per generation, at least 2.
    budget : float
        Networks that cost more are not scored.
    seed : int
        One process with the same seed scores the same networks in the same order.
    """

    sampler: str
    population: int
    budget: float
    seed: int

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"--sampler {self.sampler}: there are {', '.join(SAMPLERS)}")
        if self.population < 2:
            raise ConfigError(f"--population {self.population}: at least 2 are needed")
        if not self.budget > 0:
            raise ConfigError(f"budget {self.budget}: expected a number above 0")


@dataclass(frozen=True)
class Candidate:
    """A network that was looked at.

    Attributes
    ----------
    number : int
        Of the trial.
    arch : str
    score : float or None
        None where the proxy is not finite or cannot be taken; `reason` says so.
    cost : float
        In the unit of the space.
    macs, params : int
        For one image.
    reason : str
        Empty if there is a score.
    """

    number: int
    arch: str
    score: float | None
    cost: float
    macs: int
    params: int
    reason: str = ""

    @classmethod
    def of(cls, trial: FrozenTrial) -> Candidate:
        """Return the candidate of a finished claim."""
        found = trial.user_attrs[CANDIDATE]
        score = trial.values[0] if trial.state == TrialState.COMPLETE else None
        reason = str(trial.user_attrs.get(INVALID, ""))
        return cls(trial.number, found["arch"], score, found["cost"], found["macs"], found["params"], reason)


def open_study(url: str, name: str, config: Mapping[str, Any]) -> Study:
    """Return the study of this name in a database, a new one if there is none.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``.
    name : str
        Of the study.
    config : mapping
        JSON values that all candidates of a study have in common.

    Raises
    ------
    ConfigError
        If the study was made with another `config`, or the URL cannot be used.
    StorageError
        If the database does not answer.
    """
    shown, storage = shown_url(url), _storage(url)
    with _answering(f"--storage {shown}"):
        study = optuna.create_study(
            storage=storage, study_name=name, directions=["maximize", "minimize"], load_if_exists=True
        )
        stored = study.user_attrs.get("config")
        if stored is None:
            study.set_user_attr("config", dict(config))
    if stored is not None:
        refuse_difference(f"study {name!r} in {shown}", stored, config)
    return study


def stored_config(url: str, name: str) -> dict[str, Any] | None:
    """Return what a study was made with, ``None`` if there is no study of this name."""
    storage = _storage(url)
    with _answering(f"--storage {shown_url(url)}"):
        try:
            number = storage.get_study_id_from_name(name)
        except KeyError:
            return None
        config: dict[str, Any] | None = storage.get_study_user_attrs(number).get("config")
    return config


def refuse_difference(what: str, stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a study was made with another config; the message names all that differs."""
    names = sorted(key for key in {*stored, *config} if stored.get(key) != config.get(key))
    if names:
        raise ConfigError(
            f"{what}: was made with another {', '.join(names)} (then "
            f"{stored.get(names[0])!r}, now {config.get(names[0])!r}); choose another --study-name or --out"
        )


def _storage(url: str) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown = shown_url(url)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    try:
        with _answering(f"--storage {shown}"):
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            if url.startswith("sqlite"):
                storage.engine.dispose()  # the connections to come are tuned
                event.listen(storage.engine, "connect", _tuned)
            return storage
    except ImportError as error:
        raise ConfigError(
            f"--storage {shown}: {error.__cause__ or error}; for PostgreSQL: "
            "pip install 'proxygraph[postgresql]'"
        ) from None


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """Raise `StorageError` where a database does not answer."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise StorageError(
            f"{what}: {cause}; what is stored is kept, the same command goes on when the database answers"
        ) from None


def _tuned(connection: Any, _: object) -> None:
    """Let SQLite commit without waiting for the disk: a power cut may lose the last candidates, no more."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def shown_url(url: str) -> str:
    """Return a URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        raise ConfigError(
            f"--storage {url!r}: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None


def claims(study: Study) -> list[FrozenTrial]:
    """Return the trials that hold a network: scored, found invalid, or being scored."""
    return [trial for trial in study.get_trials(deepcopy=False) if _holds(trial)]


def _holds(trial: FrozenTrial) -> bool:
    if CANDIDATE not in trial.user_attrs or trial.state == TrialState.COMPLETE:
        return CANDIDATE in trial.user_attrs
    if trial.state == TrialState.RUNNING:
        return bool(trial.user_attrs[CANDIDATE]["claimed"] > time.time() - EXPIRY)
    return INVALID in trial.user_attrs


def candidates(study: Study) -> list[Candidate]:
    """Return what is finished, in the order of the trials."""
    return [Candidate.of(trial) for trial in claims(study) if trial.state.is_finished()]


def redrawn(study: Study) -> Counter[str]:
    """Return how many draws were not scored, by reason: duplicate, over_budget, unmeasured."""
    total: Counter[str] = Counter(duplicate=0, over_budget=0, unmeasured=0)
    for trial in claims(study):
        total.update(trial.user_attrs[CANDIDATE]["redrawn"])
    return total


def explore(
    study: Study,
    space: SearchSpace,
    score: Callable[[str], float],
    rules: Rules,
    trials: int,
    *,
    worker: int = 0,
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[Candidate], None] = lambda one: None,
) -> str:
    """Propose and score networks until the study has so many.

    Parameters
    ----------
    study : Study
        From `open_study`.
    space : SearchSpace
        Where networks come from, and what they cost.
    score : callable
        Arch text to a number, higher is better; `ConfigError` where there is none.
    rules : Rules
        The same in all processes.
    trials : int
        Candidates of the study, with those of earlier runs and of other processes.
    worker : int
        Number of this process among those of one command.
    stop : callable
        Asked before each candidate.
    told : callable
        Gets every candidate of this process.

    Returns
    -------
    str
        Why it ended: ``enough``, ``stopped``, or ``exhausted`` if no network was left to score, or none was
        drawn.

    Raises
    ------
    ConfigError
        If no network within the budget was found at all.
    StorageError
        If the database does not answer.
    """
    sampler = SAMPLERS[rules.sampler](space, rules.population)
    lost = 0
    with _answering(f"study {study.study_name!r}"):
        full = len(claims(study)) >= trials
        while not full:
            if stop():
                return "stopped"
            trial = study.ask()
            try:
                known = study.get_trials(deepcopy=False)
                taken = {one.user_attrs[CANDIDATE]["arch"] for one in known if _holds(one)}
                # not the number of the trial: one that was interrupted leaves no trace in what follows
                rng = np.random.default_rng([rules.seed, len(taken), worker, lost])
                found = _drawn(space, sampler.proposal(study, known[trial.number]), rng, taken, rules.budget)
                if found is None:
                    _withdraw(study, trial)
                    return "exhausted"
                trial.set_user_attr(CANDIDATE, found)
                # by network: one that two have claimed, and will both give up, is one candidate, not two
                others = {
                    one.number: one.user_attrs[CANDIDATE]["arch"]
                    for one in claims(study)
                    if one.number != trial.number
                }
                if len({arch for number, arch in others.items() if number < trial.number}) >= trials:
                    _withdraw(study, trial)
                    break
                if found["arch"] in others.values():
                    _withdraw(study, trial)
                    lost += 1
                    continue
                told(_scored(study, trial, found, score))
                full = len({*others.values(), found["arch"]}) >= trials
            except BaseException:
                with suppress(Exception):  # what went wrong first is told
                    _withdraw(study, trial)
                raise
    return "enough"


def _drawn(
    space: SearchSpace, propose: Proposal, rng: np.random.Generator, taken: set[str], budget: float
) -> dict[str, Any] | None:
    """Return a network that may be scored, with what is known of it, ``None`` if there seems to be none."""
    counts: Counter[str] = Counter()
    least = math.inf
    known = sorted(taken)

    def neighbour(rng: np.random.Generator) -> str:
        return space.mutate(known[int(rng.integers(len(known)))], rng)

    # under a tight budget few samples may be scored, but the neighbours of those that were often may
    for draw in (propose, space.sample, neighbour)[: 3 if known else 2]:
        for _ in range(DRAWS):
            arch = draw(rng)
            if arch in taken:
                counts["duplicate"] += 1
                continue
            cost = space.cost(arch)
            if math.isnan(cost):
                counts["unmeasured"] += 1
            elif cost > budget:
                counts["over_budget"] += 1
                least = min(least, cost)
            else:
                macs, params = space.size(arch)
                return {
                    "arch": arch,
                    "cost": cost,
                    "macs": macs,
                    "params": params,
                    "redrawn": dict(counts),
                    "claimed": time.time(),
                }
    if not taken:
        raise ConfigError(
            f"none of {2 * DRAWS} networks that were drawn has {space.cost_name} within {budget:g}: the "
            f"least is {least:.4g}, of {counts['unmeasured']} it is not known; raise the budget or lower the "
            "size"
        )
    return None


def _scored(study: Study, trial: Trial, found: dict[str, Any], score: Callable[[str], float]) -> Candidate:
    """Score a network and tell the study."""
    value, reason = math.nan, ""
    try:
        value = score(found["arch"])
    except ConfigError as error:
        reason = str(error)
    if math.isfinite(value):
        study.tell(trial, [value, found["cost"]])
    else:
        reason = reason or f"the score is {value}"
        trial.set_user_attr(INVALID, reason)
        study.tell(trial, state=TrialState.FAIL)
    return Candidate(
        trial.number,
        found["arch"],
        None if reason else value,
        found["cost"],
        found["macs"],
        found["params"],
        reason,
    )


def _withdraw(study: Study, trial: Trial) -> None:
    """Give up a trial; its network is free again."""
    study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
