"""Every hand-made proxy against its plain torch computation, on full tensors and on samples."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from proxygraph.finish import exact_values
from proxygraph.stats import collect
from proxygraph.table import StatTable
from proxygraph.zoo import ZOO
from segspace import streetscenes
from segspace.transnas101 import Arch, build

ARCH = Arch.parse("64-41414-3_12_203")  # has a dead edge
ERROR_AT_512 = 0.1
"""Bound on the relative sampling error at K = 512; docs/results.md has the distribution."""


def network() -> nn.Module:
    return build(ARCH, classes=len(streetscenes.CLASSES), width=16)


def batches() -> list[tuple[Tensor, Tensor]]:
    found = [streetscenes.batch(i, 3, 48, 48) for i in range(2)]
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in found]


def weights(model: nn.Module) -> list[Tensor]:
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]


def gradients(model: nn.Module, x: Tensor, y: Tensor, create_graph: bool = False) -> list[Tensor]:
    loss = cross_entropy(model(x), y)
    found = torch.autograd.grad(loss, weights(model), create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights(model), found, strict=True)]


def per_batch() -> tuple[list[Tensor], list[list[Tensor]]]:
    model = network()
    return weights(model), [gradients(model, x, y) for x, y in batches()]


def plain_numbers() -> dict[str, float]:
    """All gradient proxies as their papers compute them, float64 sums."""
    w, (first, second) = per_batch()
    mean = [(a + b).double() / 2 for a, b in zip(first, second, strict=True)]
    pairs = [(v.detach().double(), g) for v, g in zip(w, mean, strict=True)]
    zico = lswag = 0.0
    for a, b in zip(first, second, strict=True):
        stacked = torch.stack([a, b]).double().reshape(2, -1)
        spread, size = stacked.std(0, correction=0), stacked.abs().mean(0)
        keep = spread > 0
        if keep.any():
            zico += float((size[keep] / spread[keep]).sum().log())
            lswag += float((1 / spread[keep]).sum().log())
    return {
        "plain": sum(float((v * g).sum()) for v, g in pairs),
        "snip": sum(float((v * g).abs().sum()) for v, g in pairs),
        "grad_norm": sum(float(g.norm()) for _, g in pairs),
        "l2_norm": sum(float(v.norm()) for v, _ in pairs),
        "zico": zico,
        "lswag": lswag,
    }


def synflow_number() -> float:
    model = copy.deepcopy(network()).double()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.Identity())
    with torch.no_grad():
        for p in model.parameters():
            p.abs_()
    model.eval()
    total = model(torch.ones(1, 3, 48, 48, dtype=torch.float64)).sum()
    found = torch.autograd.grad(total, weights(model), allow_unused=True)
    return sum(
        float((w * g).detach().abs().sum())
        for w, g in zip(weights(model), found, strict=True)
        if g is not None
    )


def grasp_number() -> float:
    """-w'Hg with the gradient of the mean loss over the batches."""
    model = network()
    x, y = batches()[0]
    first = gradients(model, x, y, create_graph=True)
    stopped = [g.detach() for g in first]
    product = sum((g * s).sum() for g, s in zip(first, stopped, strict=True))
    found = torch.autograd.grad(product, weights(model), allow_unused=True)
    return -sum(
        float((w * h).detach().double().sum())
        for w, h in zip(weights(model), found, strict=True)
        if h is not None
    )


@pytest.fixture(scope="module")
def full() -> StatTable:
    return collect(network(), batches(), cross_entropy, samples=None)


def value(name: str, table: StatTable) -> float:
    return float(exact_values(ZOO[name].dag, table, np.arange(1))[0])


def test_gradient_proxies_are_exact_on_full_tensors(full: StatTable) -> None:
    for name, expected in plain_numbers().items():
        assert value(name, full) == pytest.approx(expected, rel=2e-4 if name == "plain" else 1e-5), name


def test_synflow_is_exact_on_full_tensors(full: StatTable) -> None:
    assert value("synflow", full) == pytest.approx(synflow_number(), rel=1e-5)


def test_grasp_is_exact_on_full_tensors() -> None:
    leaves = ["w", "hg"]
    table = collect(network(), batches()[:1], cross_entropy, samples=None, leaves=leaves)
    assert value("grasp", table) == pytest.approx(grasp_number(), rel=1e-3)


def test_params_and_macs_are_counts(full: StatTable) -> None:
    assert value("params", full) == sum(p.numel() for p in network().parameters())
    assert value("macs", full) == full.columns["macs"].sum(dtype=np.float64)


@pytest.mark.parametrize("name", ["snip", "synflow", "grad_norm", "l2_norm", "zico", "lswag"])
def test_samples_stay_within_the_stated_error(full: StatTable, name: str) -> None:
    sampled = collect(network(), batches(), cross_entropy, samples=512)
    assert value(name, sampled) == pytest.approx(value(name, full), rel=ERROR_AT_512)
    assert value(name, sampled) != value(name, full)  # sampling did happen
