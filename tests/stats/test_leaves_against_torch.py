"""Every leaf, all entries kept, equals a plain torch computation that shares nothing with the package."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from proxygraph.leaves import STATISTICS
from proxygraph.stats import collect
from proxygraph.stats.sampling import prefix
from proxygraph.table import StatTable
from tests.stats.networks import Odd, maps, odd, odd_loss

ORDER = [
    "stem",
    "grouped",
    "depthwise",
    "circular",
    "reused",
    "dead",
    "zero_fed",
    "head",
    "decoder.0",
    "decoder.3",
]
BATCHES = maps()
EVERY = [name for name in STATISTICS if name != "latency_ms"]


@pytest.fixture(scope="module")
def table() -> StatTable:
    return collect(odd(), BATCHES, odd_loss, leaves=EVERY, samples=None, row="odd")


@pytest.fixture
def net() -> Odd:
    """The same network without in-place operations or frozen weights, in train mode."""
    return odd(inplace=False).requires_grad_(True).train()


def layer(table: StatTable, name: str, leaf: str) -> NDArray[Any]:
    """Return one layer's values of an element or activation leaf, in the weight's own order."""
    axis = STATISTICS[leaf].axis
    i = table.header["layers"]["odd"].index(name)
    values = table.columns[leaf][table.offsets[axis][i] : table.offsets[axis][i + 1]]
    if axis == "element":
        order = prefix([0, i, 0], len(values), None)
        values = values[np.argsort(order)]
    return values


def by_layer(table: StatTable, leaf: str) -> dict[str, float]:
    return dict(zip(ORDER, table.columns[leaf].tolist(), strict=True))


def weight_gradients(net: nn.Module, scalar: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    scalar.backward()
    return {
        name: (w.grad if w.grad is not None else torch.zeros_like(w)).clone().flatten()
        for name in ORDER
        for w in [net.get_submodule(name).weight]
    }


def test_layers_are_those_that_ran_in_forward_order(table: StatTable) -> None:
    assert table.header["layers"]["odd"] == ORDER
    assert table.size("layer") == len(ORDER)
    assert table.columns["n_layers"] == len(ORDER)
    assert set(table.columns) == set(EVERY)


def test_true_counts(table: StatTable, net: Odd) -> None:
    numels = [net.get_submodule(name).weight.numel() for name in ORDER]
    np.testing.assert_array_equal(table.counts["element"], numels)
    np.testing.assert_array_equal(np.diff(table.offsets["element"]), numels)
    np.testing.assert_array_equal(np.diff(table.offsets["activation"]), table.counts["activation"])


def test_w(table: StatTable, net: Odd) -> None:
    for name in ORDER:
        np.testing.assert_array_equal(
            layer(table, name, "w"), net.get_submodule(name).weight.detach().flatten()
        )


def test_gradients_over_batches(table: StatTable, net: Odd) -> None:
    each = [weight_gradients(net, odd_loss(net(x), y)) for x, y in BATCHES]
    for name in ORDER:
        stack = torch.stack([gradients[name] for gradients in each])
        np.testing.assert_allclose(layer(table, name, "g"), stack.mean(0), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(layer(table, name, "g_mean"), stack.abs().mean(0), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(
            layer(table, name, "g_std"), np.std(stack.numpy(), 0), rtol=1e-4, atol=1e-7
        )


def test_a_dead_layer_has_zero_gradients_and_is_kept(table: StatTable) -> None:
    for leaf in ("g", "gs", "gv", "hg", "g_std"):
        assert (layer(table, "dead", leaf) == 0).all()
        assert (layer(table, "stem", leaf) != 0).any()
    assert by_layer(table, "fisher")["dead"] == 0


def test_summed_logits(table: StatTable, net: Odd) -> None:
    gradients = weight_gradients(net, net(BATCHES[0][0])["out"].sum())
    for name in ORDER:
        np.testing.assert_allclose(layer(table, name, "gv"), gradients[name], rtol=1e-4, atol=1e-5)


def test_synaptic_flow(table: StatTable) -> None:
    net = odd(inplace=False).requires_grad_(True).double().eval()
    net.bn, net.decoder[1] = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for p in net.parameters():
            p.abs_()
    ones = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    gradients = weight_gradients(net, net(ones)["out"].sum())
    assert table.columns["gs"].dtype == np.float64
    for name in ORDER:
        np.testing.assert_allclose(layer(table, name, "gs"), gradients[name], rtol=1e-5)


def test_hessian_gradient_product(table: StatTable, net: Odd) -> None:
    """Against finite differences of the gradient along itself, in float64."""
    net = net.double()
    x, y = BATCHES[0][0].double(), BATCHES[0][1]
    g = weight_gradients(net, odd_loss(net(x), y))
    weights = {name: net.get_submodule(name).weight for name in ORDER}
    start = {name: w.detach().clone() for name, w in weights.items()}
    step = 1e-5

    def gradient_at(distance: float) -> dict[str, Tensor]:
        with torch.no_grad():
            for name, w in weights.items():
                w.copy_(start[name] + distance * g[name].view_as(w))
        return weight_gradients(net, odd_loss(net(x), y))

    ahead, behind = gradient_at(step), gradient_at(-step)
    for name in ORDER:
        expected = (ahead[name] - behind[name]) / (2 * step)
        np.testing.assert_allclose(
            layer(table, name, "hg"), expected, rtol=1e-2, atol=1e-3 * expected.abs().max()
        )


def outputs(net: Odd) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """Return all layers' outputs on the first batch, and the loss's gradients at them, one per call."""
    found: dict[str, list[Tensor]] = {name: [] for name in ORDER}

    def note(name: str, out: Tensor) -> None:
        out.retain_grad()
        found[name].append(out)

    for name in ORDER:
        net.get_submodule(name).register_forward_hook(lambda m, x, out, name=name: note(name, out))
    odd_loss(net(BATCHES[0][0]), BATCHES[0][1]).backward()
    gradients = {n: [torch.zeros_like(o) if o.grad is None else o.grad for o in found[n]] for n in ORDER}
    return {name: [o.detach() for o in found[name]] for name in ORDER}, gradients


def test_activations_and_their_gradients_are_paired(table: StatTable, net: Odd) -> None:
    a, da = outputs(net)
    for name in ORDER:
        expected = torch.stack([torch.cat([t.flatten() for t in side[name]]) for side in (a, da)]).numpy()
        found = np.stack([layer(table, name, "a"), layer(table, name, "da")])
        assert found.shape == expected.shape
        # a layer's entries come in random order: compare as sets of pairs
        found, expected = found[:, np.lexsort(found[::-1])], expected[:, np.lexsort(expected[::-1])]
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.sort(found[1]), np.sort(expected[1]), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(
            (found[0] * found[1]).sum(), (expected[0] * expected[1]).sum(), rtol=1e-3, atol=1e-6
        )
    assert np.abs(layer(table, "zero_fed", "da")).max() > 0  # its input is zero, its output matters


def test_fisher(table: StatTable, net: Odd) -> None:
    a, da = outputs(net)
    for name, found in by_layer(table, "fisher").items():
        expected = 0.0
        for out, gradient in zip(a[name], da[name], strict=True):
            product = out * gradient
            pooled = product.sum((2, 3)) if product.dim() == 4 else product
            expected += float((0.5 * pooled**2).mean(0).sum())
        assert found == pytest.approx(expected, rel=1e-4), name


def test_geometry(table: StatTable, net: Odd) -> None:
    expected = {
        # name: numel, fan_in, c_in, c_out, kernel, stride, hw, macs
        "stem": (216, 27, 3, 8, 3, 2, 16, 216 * 16),
        "grouped": (72, 6, 8, 12, math.sqrt(3), 1, 16, 72 * 16),
        "depthwise": (108, 9, 12, 12, 3, 1, 16, 108 * 16),
        "circular": (1296, 108, 12, 12, 3, 1, 16, 1296 * 16),
        "reused": (144, 12, 12, 12, 1, 1, 32, 144 * 32),
        "dead": (72, 12, 12, 6, 1, 1, 16, 72 * 16),
        "zero_fed": (144, 12, 12, 12, 1, 1, 16, 144 * 16),
        "head": (60, 12, 12, 5, 1, 1, 1, 60),
        "decoder.0": (324, 54, 12, 6, 3, 2, 64, 324 * 16),
        "decoder.3": (270, 54, 6, 5, 3, 1, 64, 270 * 64),
    }
    names = ("numel", "fan_in", "c_in", "c_out", "kernel", "stride", "hw", "macs")
    for i, leaf in enumerate(names):
        found = by_layer(table, leaf)
        assert found == pytest.approx({name: row[i] for name, row in expected.items()}), leaf
    assert table.columns["macs_total"] == sum(row[-1] for row in expected.values())
    assert table.columns["params"] == sum(p.numel() for p in net.parameters())
    np.testing.assert_allclose(table.columns["depth"], np.linspace(0, 1, len(ORDER)), rtol=1e-6)
    assert by_layer(table, "backbone") == {
        n: 0.0 if n.startswith(("head", "decoder")) else 1.0 for n in ORDER
    }


def codes_log_det(maps_of_layer: list[Tensor], ridge: float) -> float:
    images = len(maps_of_layer[0])
    kernel = np.zeros((images, images))
    for out in maps_of_layer:
        x = (out.reshape(images, -1).numpy() > 0).astype(float)
        kernel += x @ x.T + (1 - x) @ (1 - x).T
    return float(np.linalg.slogdet(kernel + ridge * np.eye(images))[1])


def test_nwot_of_layers(table: StatTable, net: Odd) -> None:
    a, _ = outputs(net)
    for name, found in by_layer(table, "nwot").items():
        assert found == pytest.approx(codes_log_det(a[name], ridge=1.0), rel=1e-5), name


def spectrum(
    out: Tensor, which: slice | NDArray[Any], statistic: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[Any]:
    channels = out.transpose(0, 1).flatten(1)[which].double().numpy()
    with np.errstate(all="ignore"):
        return np.linalg.eigvalsh(np.nan_to_num(statistic(channels)))


def test_effective_rank(table: StatTable, net: Odd) -> None:
    a, _ = outputs(net)
    for name, found in by_layer(table, "eff_rank").items():
        if name == "zero_fed":
            assert found == 0
            continue
        shares = spectrum(a[name][0], slice(None), np.cov)
        shares = np.clip(shares / shares.sum(), 1e-12, None)
        assert found == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())), rel=1e-3), name


def test_least_eigenvalue(table: StatTable, net: Odd) -> None:
    a, _ = outputs(net)
    for i, (name, found) in enumerate(by_layer(table, "min_eig").items()):
        which = prefix([0, i, 4], a[name][0].shape[1], 8)
        expected = spectrum(a[name][0], which, np.corrcoef)[0]
        assert found == pytest.approx(max(0.0, float(expected)), abs=1e-5), name
    assert by_layer(table, "min_eig")["stem"] > 1e-3


def test_filter_log_det(table: StatTable, net: Odd) -> None:
    for name, found in by_layer(table, "w_logdet").items():
        weight = net.get_submodule(name).weight.detach().double().numpy()
        if name == "decoder.0":  # two groups of six inputs, three outputs each
            weight = np.concatenate([half.transpose(1, 0, 2, 3) for half in np.split(weight, 2)])
        filters = weight.reshape(len(weight), -1)
        correlation = np.corrcoef(filters) * 0.99 + 0.01 * np.eye(len(filters))
        assert found == pytest.approx(float(np.linalg.slogdet(correlation)[1]), rel=1e-3), name


def rectified(net: Odd, x: Tensor) -> list[Tensor]:
    """Return the inputs of every rectifier, among them that of F.relu."""
    found: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            module.register_forward_hook(lambda m, args, out: found.append(args[0].detach().clone()))
    calls = iter(range(2))

    def reused(m: nn.Module, args: Any, out: Tensor) -> None:
        if next(calls) == 0:
            found.append(out.detach().clone())

    net.reused.register_forward_hook(reused)
    net(x)
    return found


def test_nwot_total_and_swap(table: StatTable) -> None:
    first, second = (rectified(odd(inplace=False).train(), x) for x, _ in BATCHES)
    assert len(first) == 5
    assert table.columns["nwot_total"] == pytest.approx(codes_log_det(first, ridge=0.0))
    images = [torch.cat([m.flatten(1) for m in side], 1) > 0 for side in (first, second)]
    patterns = torch.cat(images).T  # (values, images of both batches)
    assert table.columns["swap"] == len(torch.unique(patterns, dim=0))


def test_jacov(table: StatTable, net: Odd) -> None:
    x = BATCHES[0][0].clone().requires_grad_()
    net(x)["out"].sum().backward()
    assert x.grad is not None
    v = np.linalg.eigvals(np.corrcoef(x.grad.flatten(1).numpy())).real
    expected = -np.sum(np.log(v + 1e-5) + 1 / (v + 1e-5))
    assert table.columns["jacov"] == pytest.approx(expected, rel=1e-4)


def test_zen(table: StatTable) -> None:
    """Weights really replaced by ones of unit variance, biases by zeros."""
    net = copy.deepcopy(odd(inplace=False)).requires_grad_(False).train()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.weight /= module.weight.square().mean().sqrt()
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    x, noise = torch.randn((2, 2, 3, 8, 8), generator=torch.Generator().manual_seed(102))
    before, after = net(torch.cat([x, x + 0.01 * noise]))["out"].chunk(2)
    change = (before - after).abs().sum((1, 2, 3)).mean().log()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    expected = change + sum(
        norm.running_var.mean().sqrt().log() for norm in norms if norm.running_var is not None
    )
    assert len(norms) == 2
    assert table.columns["zen"] == pytest.approx(float(expected), rel=1e-4)
