"""The leaves about blocks, dead layers, receptive field and tangent kernel, against plain torch."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proxygraph.stats import collect
from proxygraph.stats.blocks import backbone_blocks, jacobian_score
from proxygraph.stats.network import BACKBONE
from segspace.batches import scenes
from segspace.losses import segmentation_loss
from segspace.models import build as build_segmenter
from segspace.transnas101 import Arch, build
from tests.stats.networks import Blocky, blocky, maps

ROW = ["expressivity", "progressivity", "trainability", "receptive", "ntk_cond"]


BATCHES = maps(1, images=5, side=12, classes=4)
SEED = 2


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    table = collect(
        blocky(), BATCHES, F.cross_entropy, leaves=[*ROW, "live"], samples=None, seed=SEED, row="blocky"
    )
    return dict(table.columns) | {"layers": np.array(table.header["layers"]["blocky"])}


def block_inputs(net: Blocky) -> list[Tensor]:
    """The input of every block, and the output of the last, each its own copy."""
    x = net.stem(BATCHES[0][0])
    values = [x.clone()]
    for block in net.blocks:
        x = block(x.clone())
        values.append(x)
    return values


def test_which_modules_are_blocks() -> None:
    assert list(backbone_blocks(blocky(), BACKBONE).values()) == ["blocks.0", "blocks.1", "blocks.2"]
    net = build(Arch.parse("64-41414-1_10_300"), classes=3, width=4)
    names = backbone_blocks(net, BACKBONE).values()
    assert sorted(names) == sorted([f"encoder.cells.{i}" for i in range(10)] + ["encoder.stem.2"])
    assert not backbone_blocks(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), BACKBONE)


def test_spectra_of_blocks(found: dict[str, np.ndarray]) -> None:
    entropies = []
    for out in block_inputs(blocky())[1:]:
        channels = out.detach().double().transpose(0, 1).flatten(1).numpy()
        shares = np.linalg.eigvalsh(np.cov(channels))
        shares = np.clip(shares / shares.sum(), 1e-12, None)
        entropies.append(-float((shares * np.log(shares)).sum()))
    assert found["expressivity"][0] == pytest.approx(sum(entropies), rel=1e-4)
    assert found["progressivity"][0] == pytest.approx(min(np.diff(entropies)), rel=1e-3)


def test_jacobians_of_blocks(found: dict[str, np.ndarray]) -> None:
    net = blocky()
    scores = []
    for index, (block, x) in enumerate(zip(net.blocks, block_inputs(net), strict=False)):
        x = x.detach().requires_grad_()
        out = block(x.clone())
        generator = torch.Generator().manual_seed(SEED * 1_000_000 + index * 1000 + 103)
        signs = torch.randint(0, 2, out.shape, generator=generator).float() * 2 - 1
        (pulled,) = torch.autograd.grad(out, x, signs)
        step = x.shape[2] // out.shape[2]
        left = pulled.unfold(2, step, step).unfold(3, step, step).permute(0, 2, 3, 1, 4, 5).flatten(3)
        mean = torch.einsum("nhwi,nhwo->io", left, signs.permute(0, 2, 3, 1)) / signs[:, 0].numel()
        norm = float(torch.linalg.svdvals(mean.double())[0])
        scores.append(2 - norm - 1 / (norm + 1e-6))
    assert found["trainability"][0] == pytest.approx(float(np.mean(scores)), rel=1e-4)


def test_jacobians_that_are_none_or_nothing() -> None:
    signs = torch.ones(2, 3, 4, 4)
    assert jacobian_score(signs, torch.zeros(2, 3, 2, 2)) is None  # enlarges
    assert jacobian_score(signs, torch.zeros(2, 3, 9, 9)) is None  # sizes do not divide
    nothing = 2 - 1 / 1e-6
    assert jacobian_score(signs, torch.zeros(2, 3, 8, 8)) == pytest.approx(nothing)
    assert jacobian_score(signs, signs.clone()) == pytest.approx(nothing)  # hands on its input
    assert math.isnan(jacobian_score(signs, signs * torch.inf) or 0.0)
    assert jacobian_score(torch.ones(5, 1), torch.full((5, 1), 2.0)) == pytest.approx(2 - 2 - 0.5, rel=1e-5)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(8, 4),
        ),
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(400, 36)),
            nn.Sequential(nn.Linear(36, 36), nn.Unflatten(1, (4, 3, 3))),
            nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(8, 4),
        ),
    ],
    ids=["flatten", "unflatten"],
)
def test_blocks_that_turn_maps_into_vectors_are_left_out(net: nn.Module) -> None:
    batch = BATCHES[0][0], BATCHES[0][1][:, 0, 0]
    table = collect(net, batch, F.cross_entropy)
    assert math.isnan(table.columns["trainability"][0])
    assert math.isfinite(table.columns["expressivity"][0])
    assert jacobian_score(torch.ones(2, 3), torch.ones(2, 3, 4, 4)) is None
    assert jacobian_score(torch.ones(2, 3, 4, 4), torch.ones(2, 48)) is None
    assert jacobian_score(torch.ones(8, 3), torch.ones(2, 3)) is None  # positions became images


def test_receptive_share(found: dict[str, np.ndarray]) -> None:
    x = BATCHES[0][0].clone().requires_grad_()
    blocky()(x)[:, :, 6, 6].sum().backward()
    assert x.grad is not None
    sizes = x.grad.abs().sum(1).double().numpy()
    shares = [s.sum() ** 2 / (s**2).sum() / s.size for s in sizes]
    assert found["receptive"][0] == pytest.approx(np.mean(shares), rel=1e-4)
    assert 0 < found["receptive"][0] < 1


def test_a_network_without_a_path_sees_nothing() -> None:
    net = build(Arch.parse("64-41414-0_00_000"), classes=4, width=4)
    table = collect(net, maps(1, images=3, side=32), F.cross_entropy, leaves=["receptive", "expressivity"])
    assert table.columns["receptive"][0] == 0
    assert table.columns["expressivity"][0] > 0  # the stem's block is there


def test_condition_number_of_the_tangent_kernel(found: dict[str, np.ndarray]) -> None:
    net = blocky()
    rows = []
    for image in net(BATCHES[0][0]):
        weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
        slopes = torch.autograd.grad(image.sum(), weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([s.flatten() for s in slopes if s is not None]).double())
    stacked = torch.stack(rows).numpy()
    values = np.linalg.svd(stacked, compute_uv=False) ** 2
    assert found["ntk_cond"][0] == pytest.approx(values[0] / values[-1], rel=1e-2)


def test_equal_images_have_no_condition_number() -> None:
    one = BATCHES[0][0][:1].repeat(3, 1, 1, 1)
    batch = one, BATCHES[0][1][:3]
    table = collect(blocky().eval(), batch, F.cross_entropy, leaves=["ntk_cond"])
    assert table.columns["ntk_cond"][0] == math.inf


def test_live_layers(found: dict[str, np.ndarray]) -> None:
    live = dict(zip(found["layers"], found["live"], strict=True))
    assert live == {name: float(not name.endswith("dead")) for name in live}
    assert sum(name.endswith("dead") for name in live) == 3


def test_live_layers_are_those_of_live_edges() -> None:
    """Also fed by zeros is dead: the edge 1 -> 3 of this cell has no input."""
    arch = Arch.parse("64-41414-0_23_230")
    table = collect(
        build(arch, classes=4, width=4), maps(1, images=3, side=32), F.cross_entropy, leaves=["live"], row="a"
    )
    live = dict(zip(table.header["layers"]["a"], table.columns["live"], strict=True))
    edges = {(name.split(".")[4], value) for name, value in live.items() if ".edges." in name}
    assert edges == {("e02", 0.0), ("e12", 0.0), ("e03", 1.0), ("e13", 0.0)}  # in all ten cells


def test_one_leaf_alone_is_what_it_is_among_all(found: dict[str, np.ndarray]) -> None:
    for name in ROW:
        table = collect(blocky(), BATCHES, F.cross_entropy, leaves=[name], samples=None, seed=SEED)
        assert table.columns[name][0] == pytest.approx(found[name][0], rel=1e-5), name


def test_blocks_that_take_the_picture_count_whatever_else_is_asked_for() -> None:
    arch, batch = "rtseg:tiny:c2-C2z3D4-i1", scenes((2, 1), (32, 48))
    among = collect(build_segmenter(arch, 11, seed=0), batch, segmentation_loss, seed=SEED)
    alone = collect(
        build_segmenter(arch, 11, seed=0), batch, segmentation_loss, leaves=["trainability"], seed=SEED
    )
    value = among.columns["trainability"][0]
    assert alone.columns["trainability"][0] == pytest.approx(value, rel=1e-5)


def test_a_network_without_blocks_or_maps() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 4))
    batch = BATCHES[0][0], BATCHES[0][1][:, 0, 0]
    table = collect(net, batch, F.cross_entropy, leaves=[*ROW, "live"])
    for name in ROW[:4]:
        assert math.isnan(table.columns[name][0]), name
    assert table.columns["ntk_cond"][0] > 1
    assert table.columns["live"][0] == 1


def test_the_network_is_left_as_it_was() -> None:
    net = blocky()
    before = copy.deepcopy(net.state_dict())
    collect(net, BATCHES, F.cross_entropy, leaves=ROW)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
