"""What a formula says of an untrained network: only the statistics that it names are collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from torch import nn

from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.kernels import compile_kernel
from proxygraph.leaves import STATISTICS
from proxygraph.program import lower
from proxygraph.stats import collect
from proxygraph.stats.request import Batch, Loss

BATCHES: Final = (8, 4)
"""Pictures of the two batches, as in the problems that formulas are found on: ``g`` is a mean over both."""
OF_SHAPES: Final = frozenset({"hw", "macs", "depth", "macs_total", "n_layers"})
"""Leaves that need a forward pass, but of any pictures: one of the right size is enough."""


class Scorer:
    """Scores networks by one formula, always on the same pictures.

    Parameters
    ----------
    dag : Dag
        Formula over the statistics of networks; higher should mean better.
    build : callable
        Arch text to untrained network, seeded.
    batches : sequence of (inputs, targets)
        What statistics are taken on.
    loss : callable
        ``loss(output, targets)``.
    samples : int
        Entries kept per layer.

    Raises
    ------
    ConfigError
        If the formula has no leaf, or one that is no statistic of a network.
    """

    def __init__(
        self,
        dag: Dag,
        build: Callable[[str], nn.Module],
        batches: Sequence[Batch],
        loss: Loss,
        *,
        samples: int = 512,
    ) -> None:
        self.leaves = sorted(dag.leaves)
        if not self.leaves:
            raise ConfigError("the formula is a constant: it scores all networks alike")
        if unknown := [name for name in self.leaves if dag.leaves[name] != STATISTICS.get(name)]:
            raise ConfigError(
                f"{', '.join(unknown)}: no statistic of an untrained network; it belongs to a table, "
                "or its statistics are to be registered first (proxygraph.register_leaf)"
            )
        self._kernel = compile_kernel(lower([dag]), "reference")
        self._build, self._loss, self._samples = build, loss, samples
        self._batches = list(batches) if needs_pictures(dag) else _two_pictures(batches[0])

    def __call__(self, arch: str) -> float:
        """Return the formula's value, which need not be finite.

        Raises
        ------
        ConfigError
            If the statistics of this network cannot be taken; the message names it.
        """
        table = collect(
            self._build(arch),
            self._batches,
            self._loss,
            row=arch,
            leaves=self.leaves,
            samples=self._samples,
        )
        (values,) = self._kernel(table)
        return float(values[0])


def needs_pictures(dag: Dag) -> bool:
    """Return whether a formula depends on what is on the pictures, not on their size only."""
    return any(leaf.cost != "static" and name not in OF_SHAPES for name, leaf in dag.leaves.items())


def _two_pictures(batch: Batch) -> list[Batch]:
    """Return a batch just large enough for batch normalisation over a map of one position."""
    return [(batch[0][:2], batch[1][:2])]
