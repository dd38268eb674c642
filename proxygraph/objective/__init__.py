"""What a formula is judged by: fitness on the training rows, the final form, and the numbers reported.

Rank objectives judge the order only, up to direction: a formula that ranks backwards is as good as its
negative, and the final form is negated explicitly. Least-squares objectives judge the best line through the
formula, and the final form carries that line's two constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from proxygraph.errors import ConfigError, UnknownName
from proxygraph.objective.bound import LowerBound
from proxygraph.objective.custom import Custom
from proxygraph.objective.plain import Objective
from proxygraph.objective.several import Several
from proxygraph.objective.top import TopK

__all__ = ["OBJECTIVES", "Custom", "LowerBound", "Objective", "Several", "TopK", "find_objective"]

_ROWS = (
    Objective("spearman", "rank", "spearman"),
    Objective("kendall", "rank", "kendall"),
    Objective("pearson", "rank", "pearson"),
    Objective("r2", "fit", "r2"),
    Objective("mse", "fit", "r2"),
    TopK(),
)

OBJECTIVES: Mapping[str, Objective] = MappingProxyType({o.name: o for o in _ROWS})
"""All objectives without settings by name."""

_Number = TypeVar("_Number", int, float)


def find_objective(name: str) -> Objective:
    """Return an objective by name.

    Parameters
    ----------
    name : str
        A name of `OBJECTIVES`; ``topk:K``, see `TopK`; or ``lower:NAME``, ``lower:NAME:QUANTILE`` or
        ``lower:NAME:QUANTILE:RESAMPLES``, see `LowerBound`.

    Raises
    ------
    UnknownName
        If there is none of that name.
    ConfigError
        If a setting of it cannot be used.

    Examples
    --------
    >>> find_objective("lower:kendall:0.2").name
    'lower:kendall:0.2:200'
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    head, *settings = name.split(":")
    if head == "topk" and len(settings) == 1:
        return TopK(_number(name, settings[0], int))
    if head == "lower" and 1 <= len(settings) <= 3 and settings[0] in OBJECTIVES:
        inner, *numbers = settings
        quantile = _number(name, numbers[0], float) if numbers else LowerBound.quantile
        resamples = _number(name, numbers[1], int) if len(numbers) > 1 else LowerBound.resamples
        return LowerBound(OBJECTIVES[inner], resamples, quantile)
    raise UnknownName(
        f"no objective named {name!r}; known: {', '.join(OBJECTIVES)}, topk:K, "
        "lower:NAME, lower:NAME:QUANTILE, lower:NAME:QUANTILE:RESAMPLES"
    )


def _number(name: str, text: str, kind: type[_Number]) -> _Number:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"objective {name!r}: {text!r} is not {what}") from None
