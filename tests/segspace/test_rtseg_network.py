"""Networks of the space of real-time segmenters: sizes, costs, names, seeds, statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from proxygraph.errors import ConfigError
from proxygraph.stats import collect
from segspace import streetscenes
from segspace.rtseg.arch import Arch
from segspace.rtseg.blocks import Fuse, resized
from segspace.rtseg.network import Network, build
from segspace.rtseg.pieces import Piece
from segspace.rtseg.program import program
from segspace.rtseg.space import Space

TINY = Space.preset("tiny")
ARCHS = st.builds(lambda seed: TINY.diverse(np.random.default_rng(seed)), st.integers(0, 2**32))
SIDES = st.integers(1, 140)
MIXED = Arch.parse("rtseg:tiny:c1y3-Z2i2s0d4I4-D3i3z1")


def shapes_and_macs(network: Network, images: Tensor) -> tuple[dict[str, torch.Size], int]:
    """Return the output shape of every module and the multiply-accumulates of all convolutions, by hooks."""
    shapes, macs = {}, []

    def note(name: str, module: nn.Module, out: Tensor) -> None:
        shapes[name] = out.shape
        if isinstance(module, nn.Conv2d):
            assert module.dilation == (1, 1)
            kernel = module.kernel_size[0] * module.kernel_size[1]
            macs.append(out[0].numel() * kernel * module.in_channels // module.groups)

    for name, module in network.named_modules():
        module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
    with torch.no_grad():
        network.eval()(images)
    return shapes, sum(macs)


@settings(max_examples=12)
@given(ARCHS, SIDES, SIDES, st.integers(1, 20))
def test_program_is_what_the_network_does(arch: Arch, height: int, width: int, classes: int) -> None:
    steps = program(arch, (height, width), classes)
    network = build(arch, classes, seed=0)
    shapes, macs = shapes_and_macs(network, torch.rand(2, 3, height, width))
    for step in steps.steps:
        assert shapes[step.name] == (2, step.piece.c_out, *step.piece.out), step
    assert shapes[""] == (2, classes, height, width)
    assert steps.macs == macs
    assert steps.params == sum(p.numel() for p in network.parameters())


@given(ARCHS, SIDES, SIDES)
def test_piece_texts(arch: Arch, height: int, width: int) -> None:
    for step in program(arch, (height, width), 11).steps:
        piece = step.piece
        assert Piece.parse(piece.text()) == piece
        assert piece.op != "skip" or piece.stride == 2 or piece.c_in != (piece.c_out,)
        assert all(c % 8 == 0 for c in piece.c_in if c not in (3, 11))
        assert piece.c_out in (11,) or piece.c_out % 8 == 0
        assert [tuple(x.shape) for x in piece.inputs(2)] == [
            (2, c, *size) for c, size in zip(piece.c_in, piece.sizes, strict=True)
        ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("conv3x3", "expected OP:C_IN>C_OUT:sSTRIDE:HxW"),
        ("conv3x3:16>24:s1:31", "expected OP:C_IN"),
        ("conv5x5:16>24:s1:31x40", "no operator 'conv5x5'; known: skip"),
        ("conv3x3:16+16>24:s1:31x40+31x40", "conv3x3 has 1 input"),
        ("fuse:16>24:s1:31x40", "fuse has 2 input"),
        ("conv3x3:16>24:s3:31x40", "stride 1"),
        ("classifier:16>24:s2:31x40", "stride 1"),
        ("conv3x3:0>24:s1:31x40", "positive"),
        ("conv3x3:016>24:s1:31x40", "write 'conv3x3:16>24:s1:31x40'"),
    ],
)
def test_bad_pieces_are_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        Piece.parse(text)
    assert fault in str(error.value)


def test_zoomed_convolutions_cost_a_quarter() -> None:
    for op in ("conv3x3", "2xconv3x3"):
        at_half = Piece(op, (16,), 24, 1, ((15, 20),))
        zoomed = Piece(op.replace("conv3x3", "zoomed"), (16,), 24, 1, ((30, 40),))
        assert (zoomed.macs, zoomed.params) == (at_half.macs, at_half.params)
        assert zoomed.out == (30, 40)


def test_fuse_is_a_convolution_of_the_concatenation() -> None:
    torch.manual_seed(0)
    fuse = Fuse(24, 16, 8).eval()
    deep, detail = torch.randn(2, 24, 4, 5), torch.randn(2, 16, 13, 20)
    weight = torch.cat([fuse.deep.weight, fuse.detail.weight], dim=1)
    joined = torch.cat([resized(deep, 13, 20), detail], dim=1)
    wanted = torch.relu(fuse.bn(nn.functional.conv2d(joined, weight)))
    torch.testing.assert_close(fuse(deep, detail), wanted, atol=1e-5, rtol=1e-5)


def test_only_the_classifier_has_a_bias() -> None:
    network = build(MIXED, 11, seed=0)
    biased = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == ["head.classifier"]


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ConfigError, match="classes = 0"):
        build(MIXED, 0)
    with pytest.raises(ConfigError, match="image size 0x8"):
        program(MIXED, (0, 8), 3)


def test_seed_decides_the_weights() -> None:
    state = torch.get_rng_state()
    one, same, other = (build(MIXED, 5, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["head.refine.conv.weight"], other["head.refine.conv.weight"])
    free = build(MIXED, 5).state_dict()
    assert not torch.equal(state, torch.get_rng_state())
    assert not torch.equal(
        free["head.refine.conv.weight"], build(MIXED, 5).state_dict()["head.refine.conv.weight"]
    )


def test_every_parameter_learns() -> None:
    network = build(MIXED, 5, seed=0)
    labels = torch.randint(0, 5, (2, 64, 80), generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    logits = network(images)
    assert 0.02 < float(logits.detach().std()) < 5
    nn.functional.cross_entropy(logits, labels).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_statistics_can_be_taken() -> None:
    batches = []
    for seed in (1, 2):
        images, labels = streetscenes.batch(seed, 2, 120, 160)
        batches.append((torch.from_numpy(images), torch.from_numpy(labels)))
    table = collect(build(MIXED, 11, seed=0), batches, nn.functional.cross_entropy, row=str(MIXED))
    cost = program(MIXED, (120, 160), 11)
    assert table.columns["macs_total"][0] == cost.macs
    names = [name for name, m in build(MIXED, 11).named_modules() if isinstance(m, nn.Conv2d)]
    assert len(table.columns["backbone"]) == len(names)
    in_head = sum(name.startswith("head.") for name in names)
    assert table.columns["backbone"].tolist() == [1.0] * (len(names) - in_head) + [0.0] * in_head
    for name, column in table.columns.items():
        assert np.isfinite(column).all(), name
