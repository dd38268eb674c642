"""ENet: Paszke et al. 2016, arXiv:1606.02147, table 1."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

RATIO: Final = 4
"""Input channels per channel inside a bottleneck."""


class ENet(nn.Module):
    """ENet.

    Departs from the paper in two things. Sizes need not be even: maps are padded by their last row or column
    before a halving and cropped after the doubling that undoes it. Unpooling multiplies by a mask of the
    maxima instead of using their indices, which is the same unless two values of a window are equal, and can
    be exported.

    Parameters
    ----------
    classes : int
        Channels of the logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.initial = Initial(16)
        self.down1 = Down(16, 64, 0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = Down(64, 128, 0.1)
        self.stage2 = nn.Sequential(*_section())
        self.stage3 = nn.Sequential(*_section())
        self.up4 = Up(128, 64)
        self.decoder4 = nn.Sequential(*(Bottleneck(64, decoder=True) for _ in range(2)))
        self.up5 = Up(64, 16)
        self.decoder5 = Bottleneck(16, decoder=True)
        self.classifier = nn.ConvTranspose2d(16, classes, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x = self.initial(image)
        x, small = self.down1(x)
        x = self.stage1(x)
        x, smaller = self.down2(x)
        x = self.stage3(self.stage2(x))
        x = self.decoder4(self.up4(x, smaller))
        x = self.decoder5(self.up5(x, small))
        logits: Tensor = self.classifier(x)
        return logits[..., :height, :width]


class Initial(nn.Module):
    """3x3 convolution of stride 2 beside 2x2 maxima."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels - 3, 3, 2, 1, bias=False)
        self.bn, self.act = nn.BatchNorm2d(channels), nn.PReLU(channels)

    def forward(self, image: Tensor) -> Tensor:
        both = [self.conv(image), nn.functional.max_pool2d(even(image), 2)]
        out: Tensor = self.act(self.bn(torch.cat(both, 1)))
        return out


class Bottleneck(nn.Module):
    """A regular bottleneck: 1x1, a convolution (dilated or asymmetric), 1x1, added to the input."""

    def __init__(
        self,
        channels: int,
        *,
        dilation: int = 1,
        asymmetric: bool = False,
        dropout: float = 0.1,
        decoder: bool = False,
    ) -> None:
        super().__init__()
        inner = channels // RATIO
        if asymmetric:
            main: list[nn.Module] = [
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            ]
        else:
            main = [nn.Conv2d(inner, inner, 3, 1, dilation, dilation, bias=False)]
        self.branch = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            *_norm(inner, decoder),
            *main,
            *_norm(inner, decoder),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Dropout2d(dropout),
        )
        self.act = _activation(channels, decoder)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.branch(x))
        return out


class Down(nn.Module):
    """A bottleneck that halves the map; beside its output, the mask of the maxima at the full size."""

    def __init__(self, c_in: int, c_out: int, dropout: float) -> None:
        super().__init__()
        inner = c_in // RATIO
        self.branch = nn.Sequential(
            nn.Conv2d(c_in, inner, 2, 2, bias=False),
            *_norm(inner),
            nn.Conv2d(inner, inner, 3, 1, 1, bias=False),
            *_norm(inner),
            nn.Conv2d(inner, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.Dropout2d(dropout),
        )
        self.more, self.act = c_out - c_in, _activation(c_out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[-2:]
        x = even(x)
        most = nn.functional.max_pool2d(x, 2)
        mask = (x == doubled(most)).to(x.dtype)[..., :height, :width]
        wide = nn.functional.pad(most, (0, 0, 0, 0, 0, self.more))
        return self.act(wide + self.branch(x)), mask


class Up(nn.Module):
    """A bottleneck that doubles the map to the size of a mask of maxima."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        inner = c_in // RATIO
        self.main = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.branch = nn.Sequential(
            nn.Conv2d(c_in, inner, 1, bias=False),
            *_norm(inner, decoder=True),
            nn.ConvTranspose2d(inner, inner, 3, 2, 1, 1, bias=False),
            *_norm(inner, decoder=True),
            nn.Conv2d(inner, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.Dropout2d(0.1),
        )
        self.act = _activation(c_out, decoder=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = mask.shape[-2:]
        main, branch = doubled(self.main(x)), self.branch(x)
        out: Tensor = self.act(mask * main[..., :height, :width] + branch[..., :height, :width])
        return out


def even(x: Tensor) -> Tensor:
    """Return a map (N, C, H, W) whose sides are even, the last row and column repeated if need be."""
    height, width = x.shape[-2:]
    if height % 2 == width % 2 == 0:
        return x
    return nn.functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")


def doubled(x: Tensor) -> Tensor:
    """Return a map with every value twice in each direction."""
    height, width = x.shape[-2:]
    return nn.functional.interpolate(x, (2 * height, 2 * width), mode="nearest")


def _section() -> list[Bottleneck]:
    """Return bottlenecks 2.1 to 2.8."""
    return [
        Bottleneck(128),
        Bottleneck(128, dilation=2),
        Bottleneck(128, asymmetric=True),
        Bottleneck(128, dilation=4),
        Bottleneck(128),
        Bottleneck(128, dilation=8),
        Bottleneck(128, asymmetric=True),
        Bottleneck(128, dilation=16),
    ]


def _norm(channels: int, decoder: bool = False) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), _activation(channels, decoder)]


def _activation(channels: int, decoder: bool = False) -> nn.Module:
    return nn.ReLU() if decoder else nn.PReLU(channels)
