"""Parameters and multiply-adds of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """Parameters; multiply-adds of convolutions and linear layers for one picture; number of such layers."""

    params: int
    macs: int
    layers: int


def cost(network: nn.Module, size: tuple[int, int]) -> Cost:
    """Return the cost of one forward pass on a picture of ``size`` (height, width)."""
    macs: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.ConvTranspose2d):
            macs.append(inputs[0].numel() * module.weight[0].numel())
        elif isinstance(module, nn.Conv2d | nn.Linear):
            macs.append(output.numel() * module.weight[0].numel())

    handles = [module.register_forward_hook(count) for module in network.modules()]
    before = network.training
    try:
        with torch.no_grad():
            parameter = next(network.parameters())
            network.eval()(torch.zeros(1, 3, *size, device=parameter.device))
    finally:
        network.train(before)
        for handle in handles:
            handle.remove()
    return Cost(sum(p.numel() for p in network.parameters()), sum(macs), len(macs))
