"""Statistics of one layer that are not elementwise: numbers from an output, its gradient or the filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from proxygraph.stats.layers import Geometry
from proxygraph.stats.sampling import prefix

RANK_SIDE: Final = 256
"""Largest Gram matrix of ``eff_rank``: of more positions (and channels) that many are sampled."""
CORRELATED_CHANNELS: Final = 8
"""Channels that ``min_eig`` samples, as MeCo's optimised form does."""
CORRELATED_FILTERS: Final = 64
"""Filters that ``w_logdet`` samples."""
SHRINKAGE: Final = 0.01
"""``w_logdet`` is of (1 - SHRINKAGE) R + SHRINKAGE I: R is singular where filters outnumber their entries."""

ROUNDING: Final = 1e-6
"""A row that varies less than this, relative to its size, is constant: its variation is float32 rounding."""


def code_kernel(positive: Tensor) -> Tensor:
    """Return how many binary codes each two images share, shape (images, images), float64.

    Parameters
    ----------
    positive : Tensor of bool, shape (images, n)
        The codes: which values are above zero. K = X X' + (1-X)(1-X)' of Mellor et al. (2021).
    """
    x = positive.float()
    both = (x @ x.T).double()  # values above zero in both images
    ones = both.diagonal()
    return 2 * both - ones[:, None] - ones + positive.shape[1]


def log_det(kernel: Tensor, ridge: float = 0.0) -> float:
    """Return the log-determinant of a kernel, -inf where it is singular."""
    return float(
        torch.linalg.slogdet(
            kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
        )[1]
    )


def effective_rank(values: Tensor, key: Sequence[int]) -> float:
    """Return exp of the entropy of the normalised eigenvalues of the channels' covariance.

    Roy and Vetterli (2007), over all images and positions; 0 where nothing varies.

    Parameters
    ----------
    values : Tensor, shape (images, channels, positions)
        Output of a layer.
    key : sequence of int
        Of the sample of positions where both sides of the matrix exceed ``RANK_SIDE``.
    """
    x = values.transpose(0, 1).flatten(1)
    if min(x.shape) > RANK_SIDE:
        x = x[:, torch.from_numpy(prefix(key, x.shape[1], RANK_SIDE)).to(x.device)]
    x, _ = _centred(x)
    gram = (x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x).double()
    total = gram.trace()
    if not torch.isfinite(total):
        return math.nan
    if total == 0:
        return 0.0
    shares = torch.linalg.eigvalsh(gram / total).clamp_min(0)
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))


def least_eigenvalue(values: Tensor, key: Sequence[int]) -> float:
    """Return the least eigenvalue of the Pearson correlation matrix of sampled channels, at least 0.

    Jiang et al. (2023, MeCo) take one image; here all images of the batch count as positions, since on the
    small maps of deep layers one image has fewer positions than channels and the eigenvalue is 0 whatever
    the network. A constant channel correlates with nothing, itself included.
    """
    which = torch.from_numpy(prefix(key, values.shape[1], CORRELATED_CHANNELS)).to(values.device)
    correlation = _correlation(values.index_select(1, which).transpose(0, 1).flatten(1))
    if not torch.isfinite(correlation).all():
        return math.nan
    return max(0.0, float(torch.linalg.eigvalsh(correlation)[0]))


def filter_log_det(weight: Tensor, geometry: Geometry, key: Sequence[int]) -> float:
    """Return the log-determinant of the shrunk correlation matrix of sampled filters, at most 0."""
    which = torch.from_numpy(prefix(key, geometry.c_out, CORRELATED_FILTERS)).to(weight.device)
    correlation = _correlation(geometry.filters(weight, which)) * (1 - SHRINKAGE)
    correlation.fill_diagonal_(1.0)
    factor, failed = torch.linalg.cholesky_ex(correlation)  # NaN and inf fail
    return math.nan if int(failed) else 2 * float(factor.diagonal().log().sum())


def _correlation(x: Tensor) -> Tensor:
    """Return the correlation of the rows of `x`, float64; 0 with a constant row."""
    x, norm = _centred(x)
    x /= torch.where(norm == 0, 1.0, norm)
    return (x @ x.T).double()


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of `x` less their means, and their norms; a row constant up to rounding becomes 0."""
    mean = x.mean(1, keepdim=True)
    centred = x - mean
    norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    # |x|^2 = |x - m|^2 + n m^2, for which x need not be read again
    constant = norm <= ROUNDING * torch.hypot(norm, mean * x.shape[1] ** 0.5)
    if bool(constant.any()):
        return centred.masked_fill_(constant, 0.0), norm.masked_fill_(constant, 0.0)
    return centred, norm


def fisher_information(output: Tensor, gradient: Tensor) -> float:
    """Return the layer's Fisher score: half the squared pooled product, mean over images, sum over channels.

    Turner et al. (2020, BlockSwap), as zero-cost-nas computes it, with the gradient of the batch's loss.

    Parameters
    ----------
    output, gradient : Tensor, shape (images, channels, positions)
        Output of the layer and the loss's gradient with respect to it.
    """
    pooled = (output * gradient).sum(2).double()
    return float(0.5 * pooled.square().mean(0).sum())
