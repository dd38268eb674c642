"""Statistics of untrained networks: from a torch module, batches and a loss to a `StatTable`."""

from proxygraph.stats.network import BACKBONE, DEFINITIONS, collect

__all__ = ["BACKBONE", "DEFINITIONS", "collect"]
