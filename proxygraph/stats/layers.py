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
            return weight.flatten(1).index_select(0, which)
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


class SampledGradient:
    """The gradient of a few entries of a plain layer's weight, from input and gradient of the output.

    Equals ``weight.grad.flatten()[which]`` up to rounding (`is_plain`), at a cost that depends on the number
    of entries and output positions, not on the size of the weight.

    Parameters
    ----------
    layer : Layer
        Plain convolution, transposed convolution or linear layer.
    which : Tensor of int64, shape (K,)
        Positions in the flattened weight.
    """

    def __init__(self, layer: Layer, which: Tensor) -> None:
        self.layer = layer
        if isinstance(layer, nn.Linear):
            self._unit, self._feature = which // layer.in_features, which % layer.in_features
            return
        # The entry w[p, q, tap] multiplies coarse[p, at] by fine[q, at * stride + tap * dilation]: the coarse
        # map is the output's gradient of a convolution, the input of a transposed one.
        volume, inner = prod(layer.kernel_size), layer.weight.shape[1]
        self._unit, self._tap = which // (volume * inner), which % volume
        per_group = (layer.in_channels if layer.transposed else layer.out_channels) // layer.groups
        self._feature = self._unit // per_group * inner + which // volume % inner
        self._places: dict[tuple[torch.Size, torch.Size], Tensor] = {}

    def __call__(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient of the entries, shape (K,)."""
        layer = self.layer
        if isinstance(layer, nn.Linear):
            left = gradient.reshape(-1, layer.out_features).index_select(1, self._unit)
            return (left * x.reshape(-1, layer.in_features).index_select(1, self._feature)).sum(0)
        if x.dim() == len(layer.kernel_size) + 1:
            x, gradient = x.unsqueeze(0), gradient.unsqueeze(0)
        coarse, fine = (x, self._padded(gradient)) if layer.transposed else (gradient, self._padded(x))
        images = len(x)
        left = coarse.flatten(2).index_select(1, self._unit)
        right = fine.reshape(images, -1).index_select(1, self._at(coarse, fine)).view_as(left)
        return (left * right).sum((0, 2))

    def _padded(self, fine: Tensor) -> Tensor:
        layer = self.layer
        assert isinstance(layer, _ConvNd)
        if not layer.transposed:
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            return nn.functional.pad(fine, layer._reversed_padding_repeated_twice, mode=mode)
        assert not isinstance(layer.padding, str), "transposed convolutions take numbers"
        return nn.functional.pad(
            fine, [side for padding in reversed(layer.padding) for side in (padding, padding)]
        )

    def _at(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return which value of the fine map each entry meets at each coarse position."""
        shapes = coarse.shape[2:], fine.shape[2:]
        if shapes not in self._places:
            layer, tap, step = self.layer, self._tap, 1
            assert isinstance(layer, _ConvNd)
            grid = torch.zeros(1, dtype=torch.int64, device=tap.device)
            start = self._feature * prod(fine.shape[2:])
            for d in reversed(range(len(layer.kernel_size))):
                rows = torch.arange(shapes[0][d], device=tap.device) * (layer.stride[d] * step)
                grid = (rows[:, None] + grid).flatten()
                start = start + tap % layer.kernel_size[d] * (layer.dilation[d] * step)
                tap, step = tap // layer.kernel_size[d], step * shapes[1][d]
            self._places[shapes] = (start[:, None] + grid).flatten()
        return self._places[shapes]
