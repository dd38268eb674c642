"""BiSeNetV2: Yu et al. 2020, arXiv:2004.02147, table 1 and figures 4 to 6."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from segspace.baselines.parts import scaled
from segspace.rtseg.blocks import conv_bn, resized

EXPANSION: Final = 6


class BiSeNetV2(nn.Module):
    """BiSeNetV2 at inference: without the booster heads of its training.

    It has 24.6 G multiply-accumulates at 512x1024 and 19 classes; the paper says 21.15 GFLOPs and not how
    they are counted.

    Parameters
    ----------
    classes : int
        Channels of the logits.
    width : float
        Factor of all channels, rounded to multiples of 8; 1 is the published network.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        d1, d3 = scaled(64, width), scaled(128, width)
        s1, s3, s4, s5 = (scaled(c, width) for c in (16, 32, 64, 128))
        self.detail = nn.Sequential(
            conv_bn(3, d1, 3, stride=2),
            conv_bn(d1, d1, 3),
            conv_bn(d1, d1, 3, stride=2),
            conv_bn(d1, d1, 3),
            conv_bn(d1, d1, 3),
            conv_bn(d1, d3, 3, stride=2),
            conv_bn(d3, d3, 3),
            conv_bn(d3, d3, 3),
        )
        self.semantic = nn.Sequential(
            Stem(s1),
            GatherExpansion(s1, s3, 2),
            GatherExpansion(s3, s3, 1),
            GatherExpansion(s3, s4, 2),
            GatherExpansion(s4, s4, 1),
            GatherExpansion(s4, s5, 2),
            *(GatherExpansion(s5, s5, 1) for _ in range(3)),
            ContextEmbedding(s5),
        )
        self.aggregation = GuidedAggregation(d3, s5, d3)
        hidden = scaled(1024, width)
        self.head = nn.Sequential(conv_bn(d3, hidden, 3), nn.Dropout(0.1), nn.Conv2d(hidden, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        fused = self.aggregation(self.detail(image), self.semantic(image))
        return resized(self.head(fused), image.shape[-2], image.shape[-1])


class Stem(nn.Module):
    """To 1/4 by a convolution, then convolutions beside 3x3 maxima."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(8, channels // 2)
        self.first = conv_bn(3, channels, 3, stride=2)
        self.left = nn.Sequential(conv_bn(channels, inner, 1), conv_bn(inner, channels, 3, stride=2))
        self.fuse = conv_bn(2 * channels, channels, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        both = [self.left(x), nn.functional.max_pool2d(x, 3, 2, 1)]
        out: Tensor = self.fuse(torch.cat(both, 1))
        return out


class GatherExpansion(nn.Module):
    """3x3, depthwise 3x3 into six times the channels (two of them where the stride is 2), 1x1; residual."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * c_in
        depthwise = [conv_bn(c_in, hidden, 3, stride=stride, groups=c_in, relu=False)]
        if stride == 2:
            depthwise.append(conv_bn(hidden, hidden, 3, groups=hidden, relu=False))
        self.branch = nn.Sequential(conv_bn(c_in, c_in, 3), *depthwise, conv_bn(hidden, c_out, 1, relu=False))
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(
                conv_bn(c_in, c_in, 3, stride=2, groups=c_in, relu=False),
                conv_bn(c_in, c_out, 1, relu=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.branch(x))


class ContextEmbedding(nn.Module):
    """The mean over the map through a 1x1 convolution, added everywhere; 3x3 convolution.

    In training the normalisations of the mean need two pictures or more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mean, self.out = conv_bn(channels, channels, 1), conv_bn(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(x + self.mean(self.norm(x.mean((2, 3), keepdim=True))))
        return out


class GuidedAggregation(nn.Module):
    """Each branch gated by the other at its own scale, then summed."""

    def __init__(self, c_detail: int, c_semantic: int, c_out: int) -> None:
        super().__init__()
        self.detail_keep = nn.Sequential(
            conv_bn(c_detail, c_detail, 3, groups=c_detail, relu=False),
            nn.Conv2d(c_detail, c_out, 1, bias=False),
        )
        self.detail_down = conv_bn(c_detail, c_out, 3, stride=2, relu=False)
        self.semantic_up = conv_bn(c_semantic, c_out, 3, relu=False)
        self.semantic_keep = nn.Sequential(
            conv_bn(c_semantic, c_semantic, 3, groups=c_semantic, relu=False),
            nn.Conv2d(c_semantic, c_out, 1, bias=False),
        )
        self.out = conv_bn(c_out, c_out, 3, relu=False)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        height, width = detail.shape[-2:]
        fine = self.detail_keep(detail) * torch.sigmoid(resized(self.semantic_up(semantic), height, width))
        down = nn.functional.avg_pool2d(self.detail_down(detail), 3, 2, 1)
        coarse = down * torch.sigmoid(self.semantic_keep(semantic))
        out: Tensor = self.out(fine + resized(coarse, height, width))
        return out
