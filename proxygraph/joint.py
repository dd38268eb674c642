"""Several problems as one, for a formula that has to hold on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError
from proxygraph.problem import Problem, Split
from proxygraph.table import StatTable


@dataclass(frozen=True, eq=False)
class JointProblem(Problem):
    """The rows of several problems, each split by itself.

    Made by `joint`.

    Attributes
    ----------
    members : tuple of Problem
        As they were before they were joined, the main one first.
    """

    members: tuple[Problem, ...] = field(kw_only=True)

    @property
    def parts(self) -> NDArray[np.str_]:
        """The name of the problem that each row belongs to, shape (N,)."""
        return np.array([one.name for one in self.members for _ in one.table.rows])

    def split(self, seed: int, n_train: int | None = None, n_validation: int | None = None) -> Split:
        """Split every problem by seed; the numbers of rows are those of the first, the others are halved.

        Parameters
        ----------
        seed : int
        n_train, n_validation : int, optional
            As for `Problem.split`, of the first problem.

        Raises
        ------
        ConfigError
            If a problem cannot be split.
        """
        first, *others = self.members
        splits = [first.split(seed, n_train, n_validation), *(one.split(seed) for one in others)]
        starts = np.cumsum([0, *(one.table.n_rows for one in self.members)])

        def rows(part: str) -> NDArray[np.int64]:
            return np.concatenate(
                [start + getattr(split, part) for start, split in zip(starts, splits, strict=False)]
            )

        return Split(rows("train"), rows("validation"), rows("test"))

    def save(self, path: str | Path) -> None:
        """Refuse: a file holds one problem."""
        raise ConfigError(f"{path}: a file holds one problem; save {', '.join(m.name for m in self.members)}")


def joint(problems: Sequence[Problem], objective: str | None = None) -> JointProblem:
    """Return several problems as one, with the leaves that all have.

    Parameters
    ----------
    problems : sequence of Problem
        At least two, with different names, of the same axes.
    objective : str, optional
        The one of the whole; else that of the problems, which must be the same.

    Returns
    -------
    JointProblem
        Ids of rows and groups begin with the name of their problem. Targets stay as they are: they are
        compared within a problem only.

    Raises
    ------
    ConfigError
        If the problems cannot be joined.
    """
    names = [one.name for one in problems]
    if len(set(names)) < max(2, len(names)):
        raise ConfigError(
            f"problems {', '.join(names)}: two or more of different names can be joined; rename one file"
        )
    objectives = list(dict.fromkeys([objective] if objective else [one.objective for one in problems]))
    if len(objectives) > 1:
        raise ConfigError(
            f"problems {', '.join(names)}: their objectives differ: {', '.join(objectives)}; choose one for "
            "all (--objective)"
        )
    common = set.intersection(*(set(one.table.leaves) for one in problems))
    if not common:
        raise ConfigError(f"problems {', '.join(names)}: they have no column or statistic in common")
    table = StatTable.concat([_part(one, common) for one in problems])
    return JointProblem(
        "+".join(names),
        table,
        np.concatenate([one.target for one in problems]),
        "+".join(dict.fromkeys(one.target_name for one in problems)),
        tuple(f"{one.name}:{group}" for one in problems for group in one.groups),
        objectives[0],
        members=tuple(problems),
    )


def _part(problem: Problem, leaves: set[str]) -> StatTable:
    """Return the table of a problem with some of its leaves, its rows named after it."""
    table = problem.table
    return StatTable(
        tuple(f"{problem.name}:{row}" for row in table.rows),
        {name: values for name, values in table.columns.items() if name in leaves},
        {name: leaf for name, leaf in table.leaves.items() if name in leaves},
        table.offsets,
        table.counts,
        {key: value for key, value in table.header.items() if key != "layers"},
    )
