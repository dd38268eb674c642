"""Bring statistics of your own: a row that says what they are, and a function that measures them.

From then on `collect` measures them, formulas name them and a search may use them. Here: how unequal the
singular values of a layer's weight are, how much of a layer's output a rectifier would cut off, and the loss
of the untrained network.

    python examples/own_leaf.py
    python examples/own_leaf.py --networks 8 --seconds 2
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from score_zoo import accuracy, statistics, zoo

from proxygraph import Leaf, ProxyRanker, compile_kernel, lower, parse, register_leaf
from proxygraph.stats import LayerView, NetworkView


def stretch(layer: LayerView) -> float:
    """Return the largest singular value of the weight over the mean of all."""
    values = torch.linalg.svdvals(layer.weight.flatten(1))
    return float(values[0] / values.mean())


def shut(layer: LayerView) -> float:
    """Return the share of the output that is not above zero."""
    assert layer.output is not None  # a leaf of the cost "forward" is given inputs and outputs
    return float((layer.output <= 0).float().mean())


def first_loss(network: NetworkView) -> float:
    """Return the loss before training, mean over the batches."""
    assert network.loss is not None  # this leaf needs labels
    losses = [network.loss(network.model(images), targets) for images, targets in network.batches]
    return float(torch.stack(losses).mean())


def register() -> None:
    """Make the three known. Register at the top level of a module where other processes collect, too."""
    register_leaf(Leaf("stretch", "layer", "nonneg", "largest singular value over their mean"), stretch)
    register_leaf(Leaf("shut", "layer", "nonneg", "share of the output below zero", cost="forward"), shut)
    register_leaf(
        Leaf("loss0", "row", "any", "loss before training", cost="forward", labels=True), first_loss
    )


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", type=int, default=24, help="networks of the zoo of score_zoo.py")
    parser.add_argument("--steps", type=int, default=40, help="training steps of each network")
    parser.add_argument("--seconds", type=float, default=10, help="of the search for a formula")
    given = parser.parse_args()

    torch.set_num_threads(1)  # networks this small are slower with more
    register()
    networks = zoo(given.networks)
    table = statistics(networks)  # all statistics of the package, and the three
    formulas = ["sum(stretch)", "sum(shut * log1p(macs))", "-loss0", "sum(l1(w * g))"]
    scores = compile_kernel(lower([parse(text) for text in formulas]))(table)
    target = np.array([accuracy(make(), given.steps) for _, make in networks])
    print(f"Spearman with the accuracy of {len(networks)} networks after {given.steps} steps")
    for text, values in zip(formulas, scores, strict=True):
        ranks = (np.argsort(np.argsort(v)) for v in (values, target))
        print(f"  {text:24} {np.corrcoef(*ranks)[0, 1]:+.3f}")

    mine = ["stretch", "shut", "loss0", "macs", "numel"]
    ranker = ProxyRanker(leaves=mine, time_budget=given.seconds, generations=None, random_state=0)
    ranker.fit(table, target)
    print(f"\nbest of {', '.join(mine)} on these networks: {ranker.formula()}")


if __name__ == "__main__":
    main()
