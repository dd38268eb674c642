"""Fast-SCNN: Poudel et al. 2019, arXiv:1902.04502, table 1."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from segspace.baselines.parts import pooled, separable
from segspace.rtseg.blocks import InvertedResidual, conv_bn, resized

EXPANSION: Final = 6
BINS: Final = (1, 2, 3, 6)


class FastSCNN(nn.Module):
    """Fast-SCNN as published, without the auxiliary heads of its training.

    The inverted residuals are those of the space ``rtseg``, with six hidden channels per input channel.

    Parameters
    ----------
    classes : int
        Channels of the logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            conv_bn(3, 32, 3, stride=2), separable(32, 48, 2), separable(48, 64, 2)
        )
        self.features = nn.Sequential(
            *_residuals(64, 64, 3, 2),
            *_residuals(64, 96, 3, 2),
            *_residuals(96, 128, 3, 1),
            PyramidPooling(128),
        )
        self.fusion = FeatureFusion(64, 128, 128)
        self.head = nn.Sequential(
            separable(128, 128), separable(128, 128), nn.Dropout(0.1), nn.Conv2d(128, classes, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        high = self.downsample(image)
        return resized(self.head(self.fusion(high, self.features(high))), image.shape[-2], image.shape[-1])


class PyramidPooling(nn.Module):
    """Means over windows of four sizes, each through a 1x1 convolution, beside the map itself.

    Zhao et al., PSPNet, CVPR 2017. The single mean has no batch normalisation of its own, so that one
    picture suffices in training.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // len(BINS)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU())
            if bins == 1
            else conv_bn(channels, inner, 1)
            for bins in BINS
        )
        self.out = conv_bn(channels + inner * len(BINS), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        parts = [
            resized(branch(pooled(x, bins)), height, width)
            for branch, bins in zip(self.branches, BINS, strict=True)
        ]
        out: Tensor = self.out(torch.cat([x, *parts], 1))
        return out


class FeatureFusion(nn.Module):
    """Features of 1/8 and enlarged ones of 1/32, the latter through a dilated depthwise convolution."""

    def __init__(self, c_high: int, c_low: int, c_out: int) -> None:
        super().__init__()
        self.high = conv_bn(c_high, c_out, 1, relu=False)
        self.low = nn.Sequential(
            nn.Conv2d(c_low, c_low, 3, 1, 4, 4, groups=c_low, bias=False),
            nn.BatchNorm2d(c_low),
            nn.ReLU(),
            conv_bn(c_low, c_out, 1, relu=False),
        )

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        height, width = high.shape[-2:]
        return torch.relu(self.high(high) + self.low(resized(low, height, width)))


def _residuals(c_in: int, c_out: int, n: int, stride: int) -> list[InvertedResidual]:
    """Return n inverted residuals, the first with the stride."""
    return [InvertedResidual(c_out if k else c_in, c_out, 1 if k else stride, EXPANSION) for k in range(n)]
