"""The blocks of a network's backbone, and what AZ-NAS says of them: spectra of their maps and Jacobians."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F

from proxygraph.stats.layerwise import effective_rank
from proxygraph.stats.subject import Subject

CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LEAST_NORM: Final = 1e-6
"""Added to a spectral norm before it is inverted, as AZ-NAS does."""
SIGNS: Final = 103
SPECTRUM: Final = 104
"""What a random key is for."""


def backbone_blocks(model: nn.Module, backbone: str) -> dict[nn.Module, str]:
    """Return the blocks of a network with their names.

    A block is a module with submodules that an outermost ``Sequential``, ``ModuleList`` or ``ModuleDict``
    holds and that belongs to the backbone.

    Parameters
    ----------
    model : nn.Module
    backbone : str
        Regular expression, searched in module names.
    """
    found: dict[nn.Module, str] = {}
    waiting = [(model, "")]
    while waiting:
        module, prefix = waiting.pop()
        for key, child in module.named_children():
            name = f"{prefix}.{key}" if prefix else key
            if not isinstance(module, CONTAINERS):
                waiting.append((child, name))
            elif next(child.children(), None) is not None and re.search(backbone, name):
                found.setdefault(child, name)
    return found


def channel_entropy(values: Tensor, key: Sequence[int]) -> float:
    """Return the entropy of the normalised eigenvalues of the channels' covariance, 0 where nothing varies.

    Lee and Ham (2024, AZ-NAS), eq. 2; at least 0.

    Parameters
    ----------
    values : Tensor, shape (images, channels, ...)
    key : sequence of int
        As for `effective_rank`.
    """
    rank = effective_rank(values.flatten(2) if values.dim() > 2 else values.unsqueeze(2), key)
    return math.log(max(1.0, rank)) if math.isfinite(rank) else math.nan


def least_step(entropies: Sequence[float]) -> float:
    """Return the least difference from one block to the next; NaN of fewer than two blocks."""
    steps = [after - before for before, after in pairwise(entropies)]
    return min(steps, default=math.nan) if all(map(math.isfinite, steps)) else math.nan


def random_signs(shape: Sequence[int], seed: int, index: int) -> Tensor:
    """Return the Rademacher vector that is pulled back through a block."""
    generator = torch.Generator().manual_seed(seed * 1_000_000 + index * 1000 + SIGNS)
    return torch.randint(0, 2, tuple(shape), generator=generator, dtype=torch.float32) * 2 - 1


def jacobian_score(signs: Tensor, pulled: Tensor) -> float | None:
    """Return how near the spectral norm s of a block's mean Jacobian is to 1: 2 - s - 1 / s.

    Lee and Ham (2024, AZ-NAS), eq. 6 and their code: the Jacobian is the mean over images and positions of
    the outer product of `pulled` and `signs`; the positions that a stride skips count as channels.

    Parameters
    ----------
    signs : Tensor, shape (images, channels out, height, width) or (images, channels out)
        Random vector at the block's output.
    pulled : Tensor, shape (images, channels in, ...)
        Its gradient at the block's input.

    Returns
    -------
    float or None
        At most 0. None where the block enlarges its map, the sizes do not divide, or a map becomes a vector
        or the reverse. A block that hands on its input counts like one that hands on nothing; AZ-NAS says
        minus infinity.
    """
    if signs.dim() != pulled.dim() or len(signs) != len(pulled):
        return None
    if signs.dim() == 4:
        step = pulled.shape[2] // signs.shape[2]
        if step < 1 or pulled.shape[2:] != (signs.shape[2] * step, signs.shape[3] * step):
            return None
        pulled = F.pixel_unshuffle(pulled, step) if step > 1 else pulled
        signs, pulled = (x.permute(0, 2, 3, 1).flatten(0, 2) for x in (signs, pulled))
    identity = signs.shape == pulled.shape and bool((signs == pulled).all())
    mean = pulled.T @ signs / len(signs)
    gram = (mean @ mean.T if mean.shape[0] <= mean.shape[1] else mean.T @ mean).double()
    if not bool(torch.isfinite(gram).all()):
        return math.nan
    norm = 0.0 if identity else math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))
    return 2 - norm - 1 / (norm + LEAST_NORM)


@dataclass
class Block:
    """One block that ran: where its map comes from and goes to in the graph of gradients, and its entropy."""

    source: GradientEdge | None
    target: GradientEdge | None
    shape: torch.Size
    entropy: float


class Blocks:
    """Hooks on the blocks of a network for one forward pass.

    Parameters
    ----------
    subject : Subject
    wanted : frozenset of str
        Names of leaves: what is not asked for is not computed.
    seed : int
    backbone : str
        Regular expression, searched in module names.
    """

    LEAVES: Final = frozenset({"expressivity", "progressivity", "trainability"})

    def __init__(self, subject: Subject, wanted: frozenset[str], seed: int, backbone: str) -> None:
        self.subject, self.wanted, self.seed = subject, wanted & self.LEAVES, seed
        self.names = backbone_blocks(subject.model, backbone) if self.wanted else {}
        self.ran: dict[nn.Module, Block] = {}
        self._sources: dict[nn.Module, GradientEdge | None] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Hook the blocks; the first run of each counts."""
        handles = [
            handle
            for module in self.names
            for handle in (
                module.register_forward_pre_hook(self._starts),
                module.register_forward_hook(self._ends, prepend=True),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _starts(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        single = len(args) == 1 and isinstance(args[0], Tensor)
        # an edge stays what it is when an operation in place follows; the tensor would not
        self._sources[module] = _edge(args[0]) if single else None

    def _ends(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if module in self.ran or not isinstance(output, Tensor) or output.dim() not in (2, 4):
            return
        entropy = 0.0
        if self.wanted & {"expressivity", "progressivity"}:
            with torch.no_grad(), torch._C.DisableTorchFunction():
                entropy = channel_entropy(output.detach(), [self.seed, len(self.ran), SPECTRUM])
        self.ran[module] = Block(self._sources[module], _edge(output), output.shape, entropy)

    def rows(self) -> dict[str, float]:
        """Return the wanted row leaves; NaN of a network without blocks. The graph of the pass is kept."""
        entropies = [block.entropy for block in self.ran.values()]
        found = {
            "expressivity": sum(entropies) if entropies else math.nan,
            "progressivity": least_step(entropies),
        }
        if "trainability" in self.wanted:
            scores = [self._score(i, block) for i, block in enumerate(self.ran.values())]
            known = [score for score in scores if score is not None]
            found["trainability"] = sum(known) / len(known) if known else math.nan
        return {name: value for name, value in found.items() if name in self.wanted}

    def _score(self, index: int, block: Block) -> float | None:
        """Return the score of one block's Jacobian, if it has one."""
        if block.source is None or block.target is None:
            return None
        signs = random_signs(block.shape, self.seed, index).to(self.subject.device, self.subject.dtype)
        (pulled,) = self.subject.differentiate([block.target], [block.source], [signs], keep=True)
        if pulled is None:  # the output does not depend on the input: it is zero
            return jacobian_score(signs, torch.zeros_like(signs))
        return jacobian_score(signs, pulled)


def _edge(x: Tensor) -> GradientEdge | None:
    return get_gradient_edge(x) if x.requires_grad else None
