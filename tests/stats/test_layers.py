"""Sampled entries of weight gradients equal autograd's, for every kind of layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from proxygraph.stats.layers import Layer, SampledGradient, is_plain


def check(layer: Layer, x: torch.Tensor) -> None:
    layer, x = layer.double(), x.double()
    out = layer(x)
    gradient = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (expected,) = torch.autograd.grad(out, layer.weight, gradient)
    which = torch.randperm(layer.weight.numel(), generator=torch.Generator().manual_seed(4))[:50]
    sampled = SampledGradient(layer, which)
    with torch.no_grad():
        torch.testing.assert_close(sampled(x, gradient), expected.flatten()[which])
        torch.testing.assert_close(sampled(x, gradient), expected.flatten()[which])  # places are kept


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Layer, torch.Tensor]:
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(dims))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    c_in, c_out = (groups * draw(st.integers(1, 3)) for _ in range(2))
    more = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    torch.manual_seed(0)
    layer: Layer
    if draw(st.booleans()):
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        layer = kind(c_in, c_out, kernel, output_padding=extra, **more)
    else:
        plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        mode = draw(st.sampled_from(["zeros", "replicate", "circular"]))
        if draw(st.booleans()) and all(s == 1 for s in stride):
            more["padding"] = "same"
        layer = plain(c_in, c_out, kernel, padding_mode=mode, **more)
    sides = [draw(st.integers(5, 7)) for _ in range(dims)]
    batch = [] if draw(st.booleans()) and layer.padding_mode == "zeros" else [2]
    return layer, torch.randn(*batch, c_in, *sides)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own
@given(convolutions())
def test_convolutions(case: tuple[Layer, torch.Tensor]) -> None:
    check(*case)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (6,)])
def test_linear(shape: tuple[int, ...]) -> None:
    check(nn.Linear(6, 9), torch.randn(shape))


def test_what_is_plain() -> None:
    class Standardised(nn.Conv2d):
        pass

    assert is_plain(nn.Conv2d(3, 3, 1))
    assert not is_plain(Standardised(3, 3, 1))
    assert not is_plain(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    replaced = nn.Linear(2, 2)
    replaced.forward = lambda x: x
    assert not is_plain(replaced)
