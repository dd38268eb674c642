"""What the baselines share besides the blocks of ``rtseg``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segspace.rtseg.blocks import conv_bn


def scaled(channels: int, width: float) -> int:
    """Return so many channels times a width, a multiple of 8."""
    return max(8, 8 * round(channels * width / 8))


def separable(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Return depthwise 3x3 and pointwise convolution, each with batch normalisation and ReLU."""
    return nn.Sequential(conv_bn(c_in, c_in, 3, stride=stride, groups=c_in), conv_bn(c_in, c_out, 1))


def pooled(x: Tensor, bins: int) -> Tensor:
    """Return the means over ``bins`` x ``bins`` windows, as ``adaptive_avg_pool2d``, for any size.

    Two matrix products, since ONNX has that pooling only where the windows divide the map.
    """
    rows, columns = (torch.tensor(_windows(int(n), bins)).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.T


def _windows(n: int, bins: int) -> list[list[float]]:
    """Return the weights (bins, n) of windows that cover n positions: constants when traced."""
    bounds = [(k * n // bins, -(-(k + 1) * n // bins)) for k in range(bins)]
    return [[1 / (end - begin) if begin <= i < end else 0.0 for i in range(n)] for begin, end in bounds]
