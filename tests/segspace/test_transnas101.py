"""Networks of TransNAS-Bench-101: text, live cells, sizes, seeds, published parameter and MAC counts."""

import csv
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from proxygraph.errors import ConfigError, ParseError
from segspace.transnas101 import (
    EDGES,
    NONE,
    Arch,
    Encoder,
    FactorizedReduce,
    SegmentationNet,
    all_archs,
    build,
)

OPS = st.tuples(*[st.integers(0, 3)] * 6)
MIXED = Arch.parse("64-41414-1_32_013")


def paths(ops: tuple[int, ...]) -> list[list[int]]:
    """Return the edge numbers of every path from node 0 to node 3 that has no none edge, by brute force."""
    number = {edge: k for k, edge in enumerate(EDGES)}
    routes = ([0, 3], [0, 1, 3], [0, 2, 3], [0, 1, 2, 3])
    found = [[number[edge] for edge in pairwise(route)] for route in routes]
    return [path for path in found if all(ops[k] != NONE for k in path)]


@given(OPS)
def test_text_round_trip(ops: tuple[int, ...]) -> None:
    arch = Arch(ops)
    assert Arch.parse(str(arch)) == arch
    assert str(Arch.parse(str(arch))) == str(arch)


@pytest.mark.parametrize("text", ["64-41414-basic", "64-1234-basic", "64-41414-3_12_323"])
def test_text_forms(text: str) -> None:
    assert str(Arch.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64-41414-3_12_32",
        "64-41414-3_12_324",
        "32-41414-3_12_323",
        "64-41414-3_12_323 ",
        "64-41414-3_12_323\n",
        "64-51414-basic",
        "x" * 10**6,
    ],
)
def test_unreadable_text_is_named(text: str) -> None:
    with pytest.raises(ParseError, match="expected 64-41414-a_bc_def") as caught:
        Arch.parse(text)
    assert len(str(caught.value)) < 250


def test_bad_values_are_named() -> None:
    with pytest.raises(ConfigError, match="expected 6 numbers from 0 to 3"):
        Arch((1, 2, 3))
    with pytest.raises(ConfigError, match="six digits from 1 to 4"):
        Arch((), "5")
    with pytest.raises(ParseError, match="5 halvings, the decoder undoes 4"):
        Arch.parse("64-33333-basic")
    for wrong in ({"classes": 0}, {"width": 7}, {"width": 0}, {"stem_stride": 3}):
        with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} = "):
            build(MIXED, **wrong)


@given(OPS)
def test_live_edges_are_those_on_paths(ops: tuple[int, ...]) -> None:
    arch = Arch(ops)
    used = {k for path in paths(ops) for k in path}
    assert arch.live().ops == tuple(op if k in used else NONE for k, op in enumerate(ops))
    assert arch.live().live() == arch.live()
    assert arch.connected == bool(used)


def test_census_of_the_space() -> None:
    archs = all_archs()
    assert [str(arch) for arch in archs] == sorted(str(arch) for arch in archs)
    assert len(set(archs)) == 4096
    assert sum(not arch.connected for arch in archs) == 169  # published
    assert len({arch.live() for arch in archs if arch.connected}) == 2127


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (33, 50)])
@pytest.mark.parametrize("stem_stride", [4, 2, 1])
def test_output_has_the_size_of_the_input(height: int, width: int, stem_stride: int) -> None:
    network = build(MIXED, classes=5, width=8, stem_stride=stem_stride)
    assert network(torch.randn(2, 3, height, width)).shape == (2, 5, height, width)
    assert network.encoder(torch.randn(2, 3, 64, 64)).shape[-1] == 64 // (8 * stem_stride)


@pytest.mark.parametrize("text", ["64-1234-basic", "64-1111-basic", "64-44442-basic"])
def test_macro_networks(text: str) -> None:
    assert build(Arch.parse(text), classes=4, width=4)(torch.randn(2, 3, 70, 66)).shape == (2, 4, 70, 66)


def test_published_network() -> None:
    """Names and shapes of the full network, as the data description has them."""
    shapes_of_maps: list[tuple[int, ...]] = []
    network = build(Arch.parse("64-41414-3_33_333")).eval()
    for cell in network.encoder.cells:
        cell.register_forward_hook(lambda _, __, out: shapes_of_maps.append(tuple(out.shape[1:])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))  # a quarter of the published side
    assert shapes_of_maps == [(128, 8, 8)] * 4 + [(256, 4, 4)] * 4 + [(512, 2, 2)] * 2
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes["encoder.stem.0.weight"] == (32, 3, 3, 3)
    assert shapes["encoder.cells.0.edges.e03.conv.weight"] == (128, 64, 3, 3)
    decoder = [shapes[name] for name in shapes if name.startswith("decoder") and len(shapes[name]) == 4]
    assert decoder[:2] == [(1024, 512, 3, 3), (512, 1024, 3, 3)]
    transposed = [(512, 256, 3, 3), (256, 128, 3, 3), (128, 64, 3, 3), (64, 32, 3, 3), (32, 32, 3, 3)]
    assert decoder[2:] == [*transposed, (17, 32, 3, 3)]
    assert {name.split(".")[0] for name in shapes} == {"encoder", "decoder"}


def test_the_decoder_is_never_narrower_than_asked() -> None:
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    by_least: dict[int, list[int]] = {}
    for least in (1, 16):
        network = build(MIXED, classes=5, width=8, decoder_least=least)
        assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5, 64, 64)
        by_least[least] = [m.out_channels for m in network.decoder if isinstance(m, convolutions)]
    assert by_least[1] == [128, 64, 32, 16, 8, 4, 4, 5]
    assert by_least[16] == [128, 64, 32, 16, 16, 16, 16, 5]
    with pytest.raises(ConfigError, match="decoder_least = 0: expected at least 1"):
        build(MIXED, decoder_least=0)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build(MIXED, width=8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not any(torch.equal(a, c) for a, _, c in pairs if a.dim() == 4)


def test_encoder_init_is_kaiming_fan_out() -> None:
    conv = build(MIXED, width=32).encoder.cells[9].get_submodule("edges.e02.conv")
    assert isinstance(conv, nn.Conv2d)
    expected = np.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2))
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)


def test_skip_of_a_shape_change_sees_the_shifted_map() -> None:
    skip = FactorizedReduce(2, 4, 2).eval()
    x = torch.rand(1, 2, 5, 7)
    got = skip(x)
    padded = nn.functional.pad(x, (0, 1, 0, 1))
    halves = [
        torch.einsum("oi,bihw->bohw", skip.conv.weight[..., 0, 0], x[:, :, ::2, ::2]),
        torch.einsum("oi,bihw->bohw", skip.shifted_conv.weight[..., 0, 0], padded[:, :, 1::2, 1::2]),
    ]
    torch.testing.assert_close(got, torch.cat(halves, 1) / np.sqrt(1 + skip.bn.eps))


def test_cell_is_the_sum_over_paths() -> None:
    """Node sums written out by hand from the cell's own edges."""
    network = build(Arch.parse("64-41414-2_31_123"), width=8).eval()
    for cell, channels in ((network.encoder.cells[2], 16), (network.encoder.cells[0], 8)):
        x = torch.randn(2, channels, 9, 11)
        e = {name: cell.get_submodule(f"edges.{name}") for name in ("e01", "e02", "e12", "e03", "e13", "e23")}
        one = e["e01"](x)
        two = e["e02"](x) + e["e12"](one)
        torch.testing.assert_close(cell(x), e["e03"](x) + e["e13"](one) + e["e23"](two))


def gradients(text: str) -> dict[str, float]:
    """Return the largest absolute gradient of each edge's weights over all cells."""
    network = build(Arch.parse(text), classes=3, width=8)
    loss = nn.functional.cross_entropy(
        network(torch.randn(2, 3, 64, 64)), torch.ones(2, 64, 64, dtype=torch.long)
    )
    loss.backward()
    sizes: dict[str, float] = {}
    for name, value in network.encoder.cells.named_parameters():
        if value.dim() == 4:
            edge = name.split(".")[2]
            size = 0.0 if value.grad is None else value.grad.abs().max().item()
            sizes[edge] = max(sizes.get(edge, 0.0), size)
    return sizes


def test_dead_convs_are_built_and_get_no_gradient() -> None:
    sizes = gradients("64-41414-3_00_302")  # 0→1 leads nowhere, 2→3 comes from nowhere
    assert set(sizes) == {"e01", "e03", "e23"}
    assert sizes["e01"] == sizes["e23"] == 0 < sizes["e03"]


def test_disconnected_network_ignores_its_input() -> None:
    network = build(Arch.parse("64-41414-3_33_000"), classes=3, width=4).eval()
    assert torch.equal(network(torch.randn(1, 3, 40, 40)), network(torch.randn(1, 3, 40, 40)))


@pytest.mark.parametrize("ops", [(0, 0, 0, 2, 1, 3), (3, 0, 0, 0, 1, 2), (1, 2, 0, 0, 0, 1)])
def test_networks_of_one_live_cell_agree(ops: tuple[int, ...]) -> None:
    arch = Arch(ops)
    network, pruned = (build(a, classes=3, width=4).eval() for a in (arch, arch.live()))
    assert arch != arch.live()
    pruned.load_state_dict({k: v for k, v in network.state_dict().items() if k in pruned.state_dict()})
    x = torch.randn(1, 3, 48, 64)
    torch.testing.assert_close(pruned(x), network(x))


def encoder_counts(arch: Arch) -> NDArray[np.float64]:
    """Return parameters, MACs and work of BN and ReLU of the published encoder at 256x256.

    Counted at 32x32, where every map has a 64th of the pixels.
    """
    macs = pointwise = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, pointwise
        if isinstance(module, nn.Conv2d):
            macs += module.weight.numel() * output.shape[-2] * output.shape[-1]
        elif isinstance(module, nn.BatchNorm2d | nn.ReLU):
            pointwise += output.numel() * (2 if isinstance(module, nn.BatchNorm2d) else 1)

    with torch.device("meta"):
        encoder = Encoder(arch, 64, 4)
    encoder = encoder.to_empty(device="cpu").eval()  # the shapes are all that counts
    for module in encoder.modules():
        module.register_forward_hook(add)
    with torch.no_grad():
        encoder(torch.zeros(1, 3, 32, 32))
    return np.array([sum(p.numel() for p in encoder.parameters()), 64 * macs, 64 * pointwise], float)


def test_counts_agree_with_nas_bench_suite_zero(data_dir: Path) -> None:
    """Spearman of parameters and MACs >= .999, and the absolute values explained to the last printed digit.

    Their network has a linear head of 63 classes; their flops are MACs plus two per output of a BN and one
    per output of a ReLU, at 256x256, plus a constant of the head.
    """
    path = data_dir / "transnas101" / "micro_nbsuitezero_class_scene.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stem = encoder_counts(Arch((0,) * 6))
    edge = {}
    for k, op in product(range(6), range(4)):
        ops = [0] * 6
        ops[k] = op
        edge[k, op] = encoder_counts(Arch(tuple(ops))) - stem
    ours = np.array([stem + sum(edge[k, op] for k, op in enumerate(Arch.parse(r["arch"]).ops)) for r in rows])
    for k in (0, 700, 1400):  # edges add up
        assert np.array_equal(ours[k], encoder_counts(Arch.parse(rows[k]["arch"])))
    params, flops = (np.array([float(row[name]) for row in rows]) for name in ("params", "flops"))
    assert len(rows) == 1518
    assert spearmanr(ours[:, 0], params).statistic >= 0.9999
    assert spearmanr(ours[:, 1], flops).statistic >= 0.9999
    np.testing.assert_allclose(params * 1e6, ours[:, 0] + 512 * 63 + 63, atol=2)
    np.testing.assert_allclose(flops * 1e6, ours[:, 1] + ours[:, 2] + 73_708, atol=60)


def test_network_type() -> None:
    network = build(MIXED, width=2)
    assert isinstance(network, SegmentationNet)
    assert network.training
