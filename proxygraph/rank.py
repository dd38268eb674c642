"""Rank statistics: how well an order of scores agrees with an order of accuracies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ShapeMismatch
from proxygraph.scores import Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankReport:
    """Agreement between one formula's scores and the target.

    Attributes
    ----------
    rho, tau_b : float or None
        Spearman's rho and Kendall's tau-b in [-1, 1], signed; ``None`` where undefined.
    n_used, n_invalid, n_tied : int
        Rows compared, rows left out because the score is not finite, rows whose score equals another row's.
    """

    rho: float | None
    tau_b: float | None
    n_used: int
    n_invalid: int
    n_tied: int


def rank_report(scores: Scores, target: Floats) -> RankReport:
    """Return the rank correlation between one formula's scores and the target.

    Rows with ``ok == False`` are left out and counted. The sign is kept: a formula that ranks backwards has a
    negative correlation.

    Parameters
    ----------
    scores : Scores
        Values of shape (N,), arbitrary scale.
    target : ndarray of float, shape (N,)
        Finite.

    Returns
    -------
    RankReport
        ``rho`` and ``tau_b`` are ``None`` if fewer than two rows remain or one side is constant.

    Raises
    ------
    ShapeMismatch
        If the two lengths differ.

    Notes
    -----
    tau-b, not tau-a: accuracies rounded to 0.01 % tie often (Kendall 1945, Biometrika 33). float64
    throughout.

    Examples
    --------
    >>> round(rank_report(Scores.of([1.0, 2.0, 3.0]), np.array([70.0, 71.0, 69.0])).tau_b, 6)
    -0.333333
    """
    if scores.values.shape != np.shape(target):
        raise ShapeMismatch(f"{scores.values.size} scores but {np.size(target)} targets")
    x, y = scores.values[scores.ok], np.asarray(target, dtype=np.float64)[scores.ok]
    n_invalid = int(np.sum(~scores.ok))
    _, repeats = np.unique(x, return_counts=True)
    n_tied = int(repeats[repeats > 1].sum())
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return RankReport(None, None, x.size, n_invalid, n_tied)
    rho, tau_b = float(spearman(x[None, :], y)[0]), float(kendall(x[None, :], y)[0])
    return RankReport(rho, tau_b, x.size, n_invalid, n_tied)


def average_ranks(values: Floats) -> Floats:
    """Return the ranks 1..N along the last axis; equal values get the mean of their ranks.

    Parameters
    ----------
    values : ndarray of float, shape (..., N)
        Finite.
    """
    from proxygraph.kernels import ranking  # numba is loaded when something is ranked, not before

    values = np.asarray(values, dtype=np.float64)
    rows = values.reshape(-1, values.shape[-1]) if values.size else np.empty((0, values.shape[-1]))
    return ranking.average_ranks(rows).reshape(values.shape)


def correlation(values: Floats, target: Floats) -> Floats:
    """Return Pearson's r of every row of `values` (P, N) with `target` (N,); NaN where either is constant."""
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], np.nan)
    x, y = centred(values), centred(target)
    with np.errstate(all="ignore"):
        r = (x * y).sum(axis=-1) / np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    # twelve digits: beyond, the order of summation would decide between equal formulas
    return np.asarray(np.round(np.clip(r, -1.0, 1.0), 12))


def centred(values: Floats, weights: Floats | None = None) -> Floats:
    """Subtract the mean along the last axis, scaled to [-1, 1]; NaN where the values are all equal."""
    with np.errstate(all="ignore"):
        # scaled twice: sums of values near 1e308 and squares of differences near 1e-200 are beyond float64;
        # and the mean of equal values need not be equal to them (0.1 three times), but that of ones is
        x = values / np.max(np.abs(values), axis=-1, keepdims=True)
        if weights is None:
            x = x - x.mean(axis=-1, keepdims=True)
        else:  # one multiply and two sums alike: equal values, which are 1 here, have that very mean
            x = x - (x * weights).sum(axis=-1, keepdims=True) / (np.ones_like(x) * weights).sum(
                axis=-1, keepdims=True
            )
        return np.asarray(x / np.max(np.abs(x), axis=-1, keepdims=True))


def weighted_correlation(values: Floats, target: Floats, weights: Floats) -> Floats:
    """Return Pearson's r, as `correlation`, with rows that count by `weights` (N,), at least 0.

    Rows of weight 0 are not looked at.
    """
    used = weights > 0.0
    w = weights[used]
    if w.size < 2:
        return np.full(values.shape[:-1], np.nan)
    w = w / w.max()
    x, y = centred(values[..., used], w), centred(target[used], w)
    with np.errstate(all="ignore"):
        r = (w * x * y).sum(axis=-1) / np.sqrt((w * x * x).sum(axis=-1) * (w * y * y).sum(axis=-1))
    return np.asarray(np.round(np.clip(r, -1.0, 1.0), 12))


def spearman(values: Floats, target: Floats) -> Floats:
    """Return Spearman's rho of every row of `values` (P, N) with `target` (N,).

    Returns
    -------
    ndarray of float64, shape (P,)
        NaN where a row holds a value that is not finite, or is constant.
    """
    from proxygraph.kernels import ranking

    return ranking.spearman(values, target)


def kendall(values: Floats, target: Floats) -> Floats:
    """Return Kendall's tau-b of every row of `values` (P, N) with `target` (N,); NaN as in `spearman`."""
    from proxygraph.kernels import ranking

    return ranking.kendall(values, target)


def ordered(
    values: Floats, target: Floats, statistic: str, threads: int = 1
) -> tuple[Floats, NDArray[np.uint64]]:
    """Return a rank statistic of every row of `values` (P, N) with `target` (N,), and the code of its order.

    Parameters
    ----------
    values : ndarray of float, shape (P, N)
    target : ndarray of float, shape (N,)
    statistic : {"spearman", "kendall"}
    threads : int

    Returns
    -------
    r : ndarray of float64, shape (P,)
        NaN where a row holds a value that is not finite, or is constant.
    codes : ndarray of uint64, shape (P,)
        Equal for rows of equal ranks and of reversed ranks; 0 where `r` is NaN.
    """
    from proxygraph.kernels import ranking

    judge = ranking.spearman_and_codes if statistic == "spearman" else ranking.kendall_and_codes
    return judge(values, target, threads=threads)
