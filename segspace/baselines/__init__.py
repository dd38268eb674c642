"""Hand-made real-time segmenters that a found one is compared with, written from their papers.

``enet``, ``fastscnn``, ``bisenetv2:WIDTH`` and ``ddrnet:WIDTH`` are texts that ``segspace.train``,
``segspace.export`` and ``segspace.latency measure`` take in place of an arch; ``segspace.evaluate`` takes
their runs. WIDTH scales all channels; 1 is the published network. All take images of any size (N, 3, H, W)
and give logits (N, classes, H, W); heads that only help training are left out. They are trained by the recipe
of all networks here, not by those of the papers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

import torch
from torch import nn

from proxygraph.errors import ConfigError
from segspace.baselines.bisenetv2 import BiSeNetV2
from segspace.baselines.ddrnet import DDRNet
from segspace.baselines.enet import ENet
from segspace.baselines.fastscnn import FastSCNN
from segspace.rtseg.blocks import initialise

FIXED: Final[dict[str, Callable[[int], nn.Module]]] = {"enet": ENet, "fastscnn": FastSCNN}
SCALED: Final[dict[str, Callable[[int, float], nn.Module]]] = {"bisenetv2": BiSeNetV2, "ddrnet": DDRNet}
NAMES: Final = frozenset({*FIXED, *SCALED})


def baseline(text: str, classes: int, seed: int | None = None) -> nn.Module:
    """Return an untrained baseline.

    Parameters
    ----------
    text : str
        ``enet``, ``fastscnn``, ``bisenetv2:WIDTH`` or ``ddrnet:WIDTH``, WIDTH such as 0.5 from 0.05 to 4.
    classes : int
        Channels of the logits.
    seed : int, optional
        Of the weights, which are drawn as those of all networks here (`segspace.rtseg.blocks.initialise`);
        the global random state is left as it was. Without it they come from the global generator.

    Raises
    ------
    ConfigError
        If there is no such baseline, or width or classes are out of range.
    """
    name, _, width = text.partition(":")
    if classes < 1:
        raise ConfigError(f"classes = {classes}: expected at least 1")
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        if name in FIXED and text == name:
            network = FIXED[name](classes)
        elif name in SCALED and re.fullmatch(r"\d+(\.\d+)?", width) and 0.05 <= float(width) <= 4:
            network = SCALED[name](classes, float(width))
        else:
            raise ConfigError(
                f"baseline {text!r}: expected enet, fastscnn, bisenetv2:WIDTH or ddrnet:WIDTH, WIDTH such as "
                "0.5 from 0.05 to 4"
            )
        initialise(network)
    return network
