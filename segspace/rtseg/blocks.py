"""The blocks that networks are made of, each written once: network, supernet and latency table use these.

Every convolution is without bias and followed by batch normalisation, except the classifier. Sizes are
whatever comes: a block of stride 2 rounds up. Nothing is dilated.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

EXPANSION: Final = 4
"""Of the space's inverted residual: hidden channels per input channel."""


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Return ``x`` (N, C, H, W) resampled bilinearly to (N, C, height, width); pixel centres stay aligned."""
    return nn.functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def conv_bn(
    c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Return convolution, batch normalisation and, unless told otherwise, ReLU."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    parts["bn"] = nn.BatchNorm2d(c_out)
    if relu:
        parts["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Return one 3x3 convolution."""
    return conv_bn(c_in, c_out, 3, stride=stride)


def double_conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Return two 3x3 convolutions, the first with the stride."""
    return nn.Sequential(conv3x3(c_in, c_out, stride), conv3x3(c_out, c_out))


def skip(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return the cheapest change of shape: 3x3 mean where the stride is 2, then a 1x1 convolution."""
    pooling = [nn.AvgPool2d(3, 2, 1, count_include_pad=False)] if stride == 2 else []
    return nn.Sequential(*pooling, conv_bn(c_in, c_out, 1))


class Zoomed(nn.Module):
    """FasterSeg's zoomed convolution: computed at half the resolution, where stride 2 stays."""

    def __init__(self, body: nn.Module, stride: int) -> None:
        super().__init__()
        self.body, self.stride = body, stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        low: Tensor = self.body(resized(x, (height + 1) // 2, (width + 1) // 2))
        return low if self.stride == 2 else resized(low, height, width)


class InvertedResidual(nn.Module):
    """Expanding 1x1, depthwise 3x3 and linear 1x1 convolution; added to the input where the shape stays.

    Sandler et al., MobileNetV2, CVPR 2018.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int = EXPANSION) -> None:
        super().__init__()
        hidden = expansion * c_in
        self.expand = conv_bn(c_in, hidden, 1)
        self.depthwise = conv_bn(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = conv_bn(hidden, c_out, 1, relu=False)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class Fuse(nn.Module):
    """Concatenation of detail with deep, brought to detail's size, and a 1x1 convolution.

    Computed as a sum of two convolutions, deep's before it is enlarged: equal, as bilinear weights add up to
    one and act on each channel alone, and cheaper.
    """

    def __init__(self, c_deep: int, c_detail: int, c_out: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(c_deep, c_out, 1, bias=False)
        self.detail = nn.Conv2d(c_detail, c_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, deep: Tensor, detail: Tensor) -> Tensor:
        height, width = detail.shape[-2:]
        out: Tensor = self.relu(self.bn(resized(self.deep(deep), height, width) + self.detail(detail)))
        return out


class Resize(nn.Module):
    """Bilinear resampling of the first input to the height and width of the second."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        return resized(x, height, width)


BLOCKS: Final[Mapping[str, Callable[[Sequence[int], int, int], nn.Module]]] = MappingProxyType(
    {  # (channels of the inputs, channels of the output, stride) -> module
        "skip": lambda c, c_out, stride: skip(c[0], c_out, stride),
        "conv3x3": lambda c, c_out, stride: conv3x3(c[0], c_out, stride),
        "2xconv3x3": lambda c, c_out, stride: double_conv3x3(c[0], c_out, stride),
        "zoomed": lambda c, c_out, stride: Zoomed(conv3x3(c[0], c_out), stride),
        "2xzoomed": lambda c, c_out, stride: Zoomed(double_conv3x3(c[0], c_out), stride),
        "ir": lambda c, c_out, stride: InvertedResidual(c[0], c_out, stride),
        "fuse": lambda c, c_out, stride: Fuse(c[0], c[1], c_out),
        "classifier": lambda c, c_out, stride: nn.Conv2d(c[0], c_out, 1),
        "resize": lambda c, c_out, stride: Resize(),
    }
)
"""Every operator."""
TWO_INPUTS: Final = frozenset({"fuse", "resize"})


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the weights of all convolutions, from torch's global generator by default; biases become 0.

    He normal (fan in) before a rectifier; 1 / sqrt(fan in) for the classifier, the only one with a bias.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            gain = 2 if part.bias is None else 1
            part.weight.normal_(0, math.sqrt(gain / part.weight[0].numel()), generator=generator)
            if part.bias is not None:
                part.bias.zero_()
