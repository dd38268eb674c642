"""What a layer is: its numbers, its filters, and the gradient of a few entries of its weight."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

LAYERS: Final = (_ConvNd, nn.Linear)
_PLAIN: Final = {
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
}
Layer = _ConvNd | nn.Linear


def is_plain(module: nn.Module) -> bool:
    """Return whether the module is linear in its weight parameter, exactly as its class says.

    Subclasses, parametrized weights and replaced forwards may do something else with the weight.
    """
    return (
        type(module) in _PLAIN
        and module._parameters.get("weight") is not None
        and "forward" not in vars(module)
    )


@dataclass(frozen=True)
class Geometry:
    """The numbers of a layer that its weight and arguments fix."""

    c_in: int
    c_out: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    transposed: bool

    @staticmethod
    def of(layer: Layer) -> Geometry:
        """Return the geometry of a module."""
        if isinstance(layer, nn.Linear):
            return Geometry(layer.in_features, layer.out_features, 1, (), (), False)
        return Geometry(
            layer.in_channels,
            layer.out_channels,
            layer.groups,
            layer.kernel_size,
            layer.stride,
            layer.transposed,
        )

    @property
    def fan_in(self) -> int:
        """Entries of one filter. Of a transposed convolution not every tap meets every output position."""
        return self.c_in // self.groups * prod(self.kernel)

    @property
    def side(self) -> float:
        """Geometric mean of the kernel's sides; 1 for a linear layer."""
        return float(prod(self.kernel) ** (1 / max(1, len(self.kernel))))

    @property
    def step(self) -> float:
        """Geometric mean of the strides; 1 for a linear layer."""
        return float(prod(self.stride) ** (1 / max(1, len(self.stride))))

    def filters(self, weight: Tensor, which: Tensor) -> Tensor:
        """Return the filters of the output channels `which`, shape (len(which), fan_in)."""
        if not self.transposed:
            return weight.flatten(1)[which]
        # (c_in, c_out / groups, *kernel): a group is a block of input channels
        grouped = weight.reshape(self.groups, self.c_in // self.groups, self.c_out // self.groups, -1)
        per_group = self.c_out // self.groups
        return grouped[which // per_group, :, which % per_group].flatten(1)


def channels_first(output: Tensor, layer: Layer) -> Tensor:
    """Return a layer's output as (images, channels, positions)."""
    if isinstance(layer, nn.Linear):
        return output.reshape(output.shape[0] if output.dim() > 1 else 1, -1, output.shape[-1]).transpose(
            1, 2
        )
    if output.dim() == len(layer.kernel_size) + 1:  # one image without a batch dimension
        output = output.unsqueeze(0)
    return output.flatten(2)


def sampled_gradient(layer: Layer, x: Tensor, gradient: Tensor, which: Tensor) -> Tensor:
    """Return the gradient of the weight's entries `which`, from input and gradient of the output.

    Equals ``weight.grad.flatten()[which]`` up to rounding for plain layers (`is_plain`), at a cost that
    depends on the number of entries and output positions, not on the size of the weight.

    Parameters
    ----------
    layer : Layer
        Plain convolution, transposed convolution or linear layer.
    x, gradient : Tensor
        Its input, and the gradient with respect to its output.
    which : Tensor of int64, shape (K,)
        Positions in the flattened weight.
    """
    if isinstance(layer, nn.Linear):
        unit, feature = which // layer.in_features, which % layer.in_features
        left = gradient.reshape(-1, layer.out_features).index_select(1, unit)
        return (left * x.reshape(-1, layer.in_features).index_select(1, feature)).sum(0)
    if x.dim() == len(layer.kernel_size) + 1:
        x, gradient = x.unsqueeze(0), gradient.unsqueeze(0)
    # A weight entry w[p, q, tap] meets coarse[p, position] with fine[q, position * stride + tap * dilation]:
    # the output's gradient is the coarse map of a convolution, the input that of a transposed one.
    volume = prod(layer.kernel_size)
    first, second, tap = (
        which // volume // layer.weight.shape[1],
        which // volume % layer.weight.shape[1],
        which % volume,
    )
    if layer.transposed:
        margins = [side for padding in reversed(_tuple(layer.padding)) for side in (padding, padding)]
        coarse, fine, per_group = x, nn.functional.pad(gradient, margins), layer.in_channels // layer.groups
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
        coarse, fine, per_group = gradient, padded, layer.out_channels // layer.groups
    channel = first // per_group * layer.weight.shape[1] + second
    images, positions = x.shape[0], prod(coarse.shape[2:])
    grid, offset = _places(layer, coarse, fine, tap)
    at = (channel * prod(fine.shape[2:]) + offset)[:, None] + grid
    right = fine.reshape(images, -1).index_select(1, at.flatten()).view(images, len(which), positions)
    left = coarse.reshape(images, -1, positions).index_select(1, first)
    return (left * right).sum((0, 2))


def _places(layer: _ConvNd, coarse: Tensor, fine: Tensor, tap: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each coarse position, and each tap, lies on the flattened fine map."""
    grid, offset, step = torch.zeros((), dtype=torch.int64, device=tap.device), torch.zeros_like(tap), 1
    for d in reversed(range(len(layer.kernel_size))):
        rows = torch.arange(coarse.shape[2 + d], device=tap.device) * layer.stride[d] * step
        grid = (rows[:, None] + grid.flatten()).flatten()
        offset = offset + tap % layer.kernel_size[d] * layer.dilation[d] * step
        tap, step = tap // layer.kernel_size[d], step * fine.shape[2 + d]
    return grid, offset


def _tuple(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    assert not isinstance(padding, str), "transposed convolutions take numbers"
    return padding
