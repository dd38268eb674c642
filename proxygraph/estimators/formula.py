"""One formula of a front, and the front of one target. Knows nothing of searching."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, ParseError, ShapeMismatch, UnknownName
from proxygraph.finish import CHUNK_VALUES
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.latex import latex
from proxygraph.leaves import Leaf
from proxygraph.program import lower
from proxygraph.table import StatTable


class BadInput(ConfigError, ValueError):
    """A setting or data that an estimator cannot use; a ValueError too, as scikit-learn's users expect."""


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what the package refuses into `BadInput`."""
    try:
        yield
    except BadInput:
        raise
    except (ConfigError, ParseError, ShapeMismatch, UnknownName) as error:
        raise BadInput(str(error)) from error


@dataclass(frozen=True, eq=False)
class Formula:
    """A formula in its final form.

    Attributes
    ----------
    dag : Dag
        With sign, or scale and offset, from all rows of the fit.
    score : float
        The objective's number on all rows of the fit: R², or the rank correlation.
    validation : float or None
        The same number on rows that neither search nor constants have seen; None if none were held out.
    """

    dag: Dag
    score: float
    validation: float | None = None

    @cached_property
    def record(self) -> dict[str, Any]:
        """What people see of it."""
        return {
            "size": self.dag.size,
            "score": self.score,
            "validation": self.validation,
            "formula": text(self.dag),
            "latex": latex(self.dag),
        }

    def to_json(self) -> dict[str, Any]:
        """Return what a file keeps."""
        return {"formula": text(self.dag), "score": self.score, "validation": self.validation}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> Formula:
        """Read what `to_json` wrote; the text is parsed, never run."""
        validation = data["validation"]
        return cls(
            parse(data["formula"], leaves),
            float(data["score"]),
            None if validation is None else float(validation),
        )


@dataclass(frozen=True, eq=False)
class Front:
    """The formulas of one target, small to large, each better than all smaller ones on the rows of the fit.

    Attributes
    ----------
    formulas : tuple of Formula
    best : int
        Position of the one to use.
    hall : tuple of Dag
        What the search ended with, without final constants; where a warm start goes on.
    """

    formulas: tuple[Formula, ...]
    best: int
    hall: tuple[Dag, ...] = ()

    def at(self, index: int | None, size: int | None) -> Formula:
        """Return the formula at a position or of a size, or the best.

        Raises
        ------
        BadInput
            If there is none; the message says which there are.
        """
        if size is not None:
            if index is not None:
                raise BadInput(f"index {index} and size {size}: give one of them")
            for one in self.formulas:
                if one.dag.size == size:
                    return one
            sizes = ", ".join(str(one.dag.size) for one in self.formulas)
            raise BadInput(f"no formula of size {size!r} on the front; sizes: {sizes}")
        n = len(self.formulas)
        try:
            return self.formulas[self.best if index is None else operator.index(index)]
        except (IndexError, TypeError):
            raise BadInput(
                f"index {index!r}: the front has {n} formulas, 0 to {n - 1}; None is the best"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Return what a file keeps."""
        formulas = [one.to_json() for one in self.formulas]
        return {"best": self.best, "front": formulas, "hall": [text(dag) for dag in self.hall]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> Front:
        """Read what `to_json` wrote; `ValueError` if there is no best formula in it."""
        formulas = tuple(Formula.from_json(one, leaves) for one in data["front"])
        best = data["best"]
        if not isinstance(best, int) or not 0 <= best < len(formulas):
            raise ValueError(f"the best of {len(formulas)} formulas is said to be {best!r}")
        return cls(formulas, best, tuple(parse(one, leaves) for one in data["hall"]))


def portions(table: StatTable) -> list[StatTable]:
    """Return the table in parts whose values fit memory, mostly one."""
    n = table.n_rows
    fine = max(table.size("element"), table.size("activation"), table.size("layer"), n)
    step = max(1, CHUNK_VALUES * n // max(1, fine))
    if step >= n:
        return [table]
    return [table.take(range(first, min(first + step, n))) for first in range(0, n, step)]


def values(dag: Dag, parts: Sequence[StatTable]) -> NDArray[np.float64]:
    """Return what a formula gives on the rows of all parts: float64, by the reference."""
    kernel = ReferenceKernel(lower([dag]))
    return np.concatenate([kernel(part)[0] for part in parts])
