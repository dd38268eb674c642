"""An objective that is a user's Python function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

import numpy as np

from proxygraph.errors import ConfigError
from proxygraph.objective.plain import Codes, Floats, Objective, best_line, fit_report
from proxygraph.rank import centred, ordered, rank_report
from proxygraph.scores import Scores

RESERVED = ("spearman", "kendall", "pearson", "r2", "rmse", "n", "invalid", "worst", "topk")


@dataclass(frozen=True, eq=False)
class Custom(Objective):
    """A function of values and target, higher is better.

    Parameters
    ----------
    function : callable
        ``function(values, target)`` with two arrays of float64, shape (N,), to a number. NaN and infinity
        mean that the formula is invalid. Kind ``"rank"``: it looks at the order of the values only (formulas
        of one order are scored once), and gets the values and their negative: the better counts. Kind
        ``"fit"``: it gets predictions, the least-squares line through the values, which is what is exported.
        It runs in Python for every formula, thousands a second at best.
    kind : {"rank", "fit"}
    name : str, optional
        Of the number in reports; by default that of the function.
    bounded : bool
        Whether the function's numbers are within [0, 1]: then they are the fitness. Any other number v is
        mapped to ``(1 + v / (1 + |v|)) / 2``, which keeps the order.

    Raises
    ------
    ConfigError
        If the name is taken or no identifier; and later, if the function raises, returns something that is
        not a number, or one outside of [0, 1] although `bounded`.
    """

    name: str = field(default="", kw_only=True)
    kind: Literal["rank", "fit"] = field(default="rank", kw_only=True)
    metric: str = field(init=False)
    weights: None = field(init=False, default=None)
    function: Callable[[Floats, Floats], Any]
    bounded: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigError(f"objective: {self.function!r} is not a function of values and target")
        if self.kind not in ("rank", "fit"):
            raise ConfigError(f"objective: kind {self.kind!r} is neither 'rank' nor 'fit'")
        name = self.name or getattr(self.function, "__name__", "custom")
        name = "custom" if name == "<lambda>" else name
        if not name.isidentifier() or name in RESERVED:
            raise ConfigError(f"objective name {name!r} is no identifier or taken; give another one")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "metric", name)

    @property
    def basis(self) -> str:
        """Name of a plain objective that needs the same compiled code."""
        return "spearman" if self.kind == "rank" else "r2"

    def value(self, values: Floats, target: Floats) -> float:
        """Return what the function says, checked; NaN if it is not finite."""
        try:
            found = self.function(values.copy(), target)
        except Exception as error:
            raise ConfigError(
                f"objective {self.name!r} raised {type(error).__name__}: {error}; it is called with two "
                f"arrays of shape {values.shape}"
            ) from error
        if isinstance(found, np.ndarray) and found.ndim == 0:
            found = found[()]
        if isinstance(found, bool | np.bool_) or not isinstance(found, Real):
            what = f"{type(found).__name__} {found!r}"
            raise ConfigError(f"objective {self.name!r} returned {what}; it must return one number")
        number = float(found)
        if self.bounded and np.isfinite(number) and not 0.0 <= number <= 1.0:
            raise ConfigError(f"objective {self.name!r} returned {number}, bounded=True promises 0 to 1")
        return number if np.isfinite(number) else float("nan")

    def judged(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Return fitness and class of every row of `values` (P, N); in one thread, since it is Python."""
        values, target = np.asarray(values, np.float64), np.asarray(target, np.float64)
        if self.kind == "rank":
            # any target with an order will do: only the code of the values' order is wanted
            codes = ordered(values, np.arange(float(values.shape[1])), "spearman", threads)[1]
        else:
            codes = np.zeros(len(values), np.uint64)
            finite = np.flatnonzero(np.isfinite(values).all(axis=1))
            codes[finite] = line_codes(centred(values[finite]))
        found = np.full(len(values), np.nan)
        for i in np.flatnonzero(codes):
            found[i] = self._best(values[i], target)[0]
        if not self.bounded:
            found = 0.5 * (1.0 + found / (1.0 + np.abs(found)))
        return found, codes

    def directed(self, values: Floats, target: Floats, threads: int = 1) -> tuple[Floats, Codes]:
        """Refuse: the function says how good a formula is, not in which direction."""
        raise ConfigError(f"objective {self.name!r}: a user's function has no signed statistic")

    def _best(self, values: Floats, target: Floats) -> tuple[float, float, float]:
        """Return the function's number for the final form of finite values, and its slope and offset."""
        if self.kind == "fit":
            slope, offset = best_line(values, target)
            with np.errstate(all="ignore"):
                return self.value(slope * values + offset, target), slope, offset
        forward, backward = self.value(values, target), self.value(-values, target)
        if backward > forward or np.isnan(forward):
            return backward, -1.0, 0.0
        return forward, 1.0, 0.0

    def line(self, values: Floats, target: Floats) -> tuple[float, float]:
        """Return slope and offset of the final form, from the finite values."""
        ok = np.isfinite(values)
        return self._best(values[ok], target[ok])[1:] if ok.any() else (1.0, 0.0)

    def signed(self, values: Floats, target: Floats) -> float:
        """Return the function's number for values as they are."""
        return self.value(values, target)

    def report(self, scores: Scores, target: Floats) -> dict[str, Any]:
        """Return the numbers of all objectives of this kind, and the function's own."""
        x, y = scores.values[scores.ok], target[scores.ok]
        own = self.value(x, y) if x.size > 1 and x.min() < x.max() else float("nan")
        number = {self.name: own if np.isfinite(own) else None}
        if self.kind == "fit":
            return {**fit_report(scores, target), **number}
        ranks = rank_report(scores, target)
        known = {"spearman": ranks.rho, "kendall": ranks.tau_b}
        return {**known, **number, "n": ranks.n_used, "invalid": ranks.n_invalid}


def line_codes(z: Floats) -> Codes:
    """Return a hash of every row of centred values (P, N) within [-1, 1]: the same for lines of one another.

    Values are rounded to a ninth digit: those of equal formulas may differ in a rounding and so have two
    codes, which only costs a second scoring. NaN, from a constant, has code 0.
    """
    n = z.shape[1]
    factors = np.frombuffer(hashlib.shake_128(b"values").digest(8 * n), np.uint64)
    good = np.asarray(np.isfinite(z).all(axis=1))
    whole = np.rint(np.where(good[:, None], z, 0.0) * 1e9).astype(np.int64).view(np.uint64)
    codes = (whole * factors).sum(axis=1, dtype=np.uint64)
    codes = np.minimum(codes, ~codes + np.uint64(1))
    return np.asarray(np.where(good, np.maximum(codes, np.uint64(1)), np.uint64(0)))
