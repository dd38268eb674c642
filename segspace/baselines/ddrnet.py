"""DDRNet-23-slim: Hong et al. 2021, arXiv:2101.06085, table 1 and figures 3 to 5."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from segspace.baselines.parts import scaled
from segspace.rtseg.blocks import conv_bn, resized

POOLINGS: Final = ((5, 2), (9, 4), (17, 8))
"""Kernel and stride of the pyramid's means; its last level is the mean over the map."""


class DDRNet(nn.Module):
    """DDRNet-23-slim at inference: without the auxiliary head of its training.

    Parameters
    ----------
    classes : int
        Channels of the logits.
    width : float
        Factor of all channels, rounded to multiples of 8; 1 is the published slim network.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, c3, c4 = (scaled(c, width) for c in (32, 64, 128, 256))
        self.stem = nn.Sequential(
            conv_bn(3, c1, 3, stride=2), conv_bn(c1, c1, 3, stride=2), *_blocks(c1, c1, 1)
        )
        self.trunk = _blocks(c1, c2, 2)
        self.low3, self.high3 = _blocks(c2, c3, 2), _blocks(c2, c2, 1)
        self.low4, self.high4 = _blocks(c3, c4, 2), _blocks(c2, c2, 1)
        self.up3, self.up4 = conv_bn(c3, c2, 1, relu=False), conv_bn(c4, c2, 1, relu=False)
        self.down3 = conv_bn(c2, c3, 3, stride=2, relu=False)
        self.down4 = nn.Sequential(conv_bn(c2, c3, 3, stride=2), conv_bn(c3, c4, 3, stride=2, relu=False))
        self.low5, self.high5 = Bottleneck(c4, c4, 2), Bottleneck(c2, c2, 1)
        self.pyramid = AggregationPyramid(2 * c4, c3, 2 * c2)
        inner = scaled(64, width)
        self.head = nn.Sequential(
            _normed(2 * c2, inner, 3), nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, classes, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        both = torch.relu(self.trunk(torch.relu(self.stem(image))))
        height, width = both.shape[-2:]
        low, high = self.low3(both), self.high3(both)
        low, high = (
            low + self.down3(torch.relu(high)),
            high + resized(self.up3(torch.relu(low)), height, width),
        )
        low, high = self.low4(torch.relu(low)), self.high4(torch.relu(high))
        low, high = (
            low + self.down4(torch.relu(high)),
            high + resized(self.up4(torch.relu(low)), height, width),
        )
        low, high = self.low5(torch.relu(low)), self.high5(torch.relu(high))
        fused = high + resized(self.pyramid(low), height, width)
        return resized(self.head(fused), image.shape[-2], image.shape[-1])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; whoever takes the sum rectifies it."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_bn(c_in, c_out, 3, stride=stride), conv_bn(c_out, c_out, 3, relu=False)
        )
        self.shortcut = _shortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.branch(x)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution into twice the channels, and a shortcut; not rectified."""

    def __init__(self, c_in: int, channels: int, stride: int) -> None:
        super().__init__()
        c_out = 2 * channels
        self.branch = nn.Sequential(
            conv_bn(c_in, channels, 1),
            conv_bn(channels, channels, 3, stride=stride),
            conv_bn(channels, c_out, 1, relu=False),
        )
        self.shortcut = _shortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.branch(x)
        return out


class AggregationPyramid(nn.Module):
    """Deep aggregation pyramid pooling: means over growing windows, each added to what came before it.

    In training the normalisation of the mean over the map needs two pictures or more.
    """

    def __init__(self, c_in: int, inner: int, c_out: int) -> None:
        super().__init__()
        levels = len(POOLINGS) + 1
        self.same, self.shortcut = _normed(c_in, inner, 1), _normed(c_in, c_out, 1)
        self.scales = nn.ModuleList(_normed(c_in, inner, 1) for _ in range(levels))
        self.merges = nn.ModuleList(_normed(inner, inner, 3) for _ in range(levels))
        self.compression = _normed(inner * (levels + 1), c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        maps = [nn.functional.avg_pool2d(x, kernel, stride, kernel // 2) for kernel, stride in POOLINGS]
        maps.append(x.mean((2, 3), keepdim=True))
        found = [self.same(x)]
        for scale, merge, pooled in zip(self.scales, self.merges, maps, strict=True):
            found.append(merge(resized(scale(pooled), height, width) + found[-1]))
        out: Tensor = self.compression(torch.cat(found, 1)) + self.shortcut(x)
        return out


def _blocks(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return two basic blocks, the first with the stride."""
    return nn.Sequential(BasicBlock(c_in, c_out, stride), nn.ReLU(), BasicBlock(c_out, c_out, 1))


def _normed(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """Return batch normalisation, ReLU and a convolution, in this order."""
    return nn.Sequential(
        nn.BatchNorm2d(c_in), nn.ReLU(), nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    )


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return conv_bn(c_in, c_out, 1, stride=stride, relu=False)
