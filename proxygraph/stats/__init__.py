"""Statistics of untrained networks: from torch modules, batches and a loss to a `StatTable`."""

from proxygraph.stats.many import collect_many
from proxygraph.stats.network import BACKBONE, collect
from proxygraph.stats.own import LayerView, NetworkView
from proxygraph.stats.request import DEFINITIONS

__all__ = ["BACKBONE", "DEFINITIONS", "LayerView", "NetworkView", "collect", "collect_many"]
