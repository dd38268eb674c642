"""Programs as torch modules: the network that is trained, measured and exported."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from segspace.rtseg.arch import Arch
from segspace.rtseg.blocks import initialise
from segspace.rtseg.program import Program, program

NOMINAL_SIZE = (256, 256)
"""Image size of programs of which only the channels matter; every scale divides it."""


class Network(nn.Module):
    """The steps of a program, run in order.

    Takes images (N, 3, H, W) of any size, gives logits (N, classes, H, W). Its parts are ``stem``, ``trunk``,
    ``deep``, ``detail`` and ``head``; what is below ``head`` is no backbone.
    """

    def __init__(self, steps: Program) -> None:
        super().__init__()
        self._routes = tuple((step.name, step.inputs) for step in steps.steps)
        for step in steps.steps:
            part, name = step.name.split(".")
            if part not in self._modules:
                self.add_module(part, nn.ModuleDict())
            self.get_submodule(part).add_module(name, step.piece.module())

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for name, inputs in self._routes:
            values.append(self.get_submodule(name)(*[values[i] for i in inputs]))
        return values[-1]


def build(arch: Arch, classes: int, seed: int | None = None) -> Network:
    """Return the untrained network of ``arch``, in training mode.

    Parameters
    ----------
    arch : Arch
        The network.
    classes : int
        Channels of the logits, at least 1.
    seed : int, optional
        Of the weights; the global random state is left as it was. Without it the weights come from the
        global generator.

    Returns
    -------
    Network
        Batch normalisation in training mode needs more than one value per channel.

    Raises
    ------
    ConfigError
        If ``classes`` is out of its range.
    """
    steps = program(arch, NOMINAL_SIZE, classes)
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        with torch.device("meta"):  # no weights are drawn twice
            network = Network(steps)
        network = network.to_empty(device="cpu")
        initialise(network)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
    return network
