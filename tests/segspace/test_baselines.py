"""The baselines: published sizes, any image size, the same numbers in ONNX Runtime, clear refusals."""

import io

import numpy as np
import pytest
import torch

from proxygraph.errors import ConfigError, UnknownName
from segspace.baselines import NAMES, baseline
from segspace.baselines.enet import Down
from segspace.baselines.parts import pooled
from segspace.cost import cost
from segspace.latency.runtimes import onnx_bytes
from segspace.models import build

SMALL = ["enet", "fastscnn", "bisenetv2:0.25", "ddrnet:0.25"]
# classes, and what the papers say: parameters (M); G operations at a size, and how many of them one MAC is.
# Cityscapes has 19 classes. Tolerances: 3 % for parameters, for Fast-SCNN and ENet rounded in the papers;
# operations as counted by the authors, who do not say how, hence wider ones.
PUBLISHED = [
    ("enet", 0.37, 0.03, (360, 640), 3.83, 2, 0.12),
    ("fastscnn", 1.11, 0.03, None, None, 1, None),
    ("bisenetv2:1", 3.4, 0.03, (512, 1024), 21.15, 1, 0.20),
    ("ddrnet:1", 5.7, 0.01, (1024, 2048), 36.3, 1, 0.01),
]


@pytest.mark.parametrize(("text", "params", "near", "size", "giga", "each", "roughly"), PUBLISHED)
def test_published_size(
    text: str,
    params: float,
    near: float,
    size: tuple[int, int] | None,
    giga: float | None,
    each: int,
    roughly: float | None,
) -> None:
    with torch.device("meta"):
        network = build_on_meta(text)
        # MACs grow with the area; the smallest size that all halvings divide is enough
        unit = (size[0] // 8 * 2, size[1] // 8 * 2) if size else (128, 256)
        found = cost(network, unit if text != "enet" else size or unit)
    assert found.params == pytest.approx(params * 1e6, rel=near)
    if size is not None and giga is not None:
        scale = 1 if text == "enet" else size[0] * size[1] / (unit[0] * unit[1])
        assert each * found.macs * scale == pytest.approx(giga * 1e9, rel=roughly)


def build_on_meta(text: str) -> torch.nn.Module:
    return baseline(text, 19)


@pytest.mark.parametrize("text", SMALL)
def test_any_size_and_learns(text: str) -> None:
    network = build(text, 3, seed=1)
    images = torch.rand(2, 3, 37, 51, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    assert logits.shape == (2, 3, 37, 51)
    logits.square().mean().backward()
    # a bias that batch normalisation takes away again has no gradient
    weights = [(name, p.grad) for name, p in network.named_parameters() if not name.endswith("bias")]
    still = [name for name, gradient in weights if gradient is None or not bool(gradient.any())]
    assert still == []
    for size in ((1, 1), (5, 64)):
        assert network.eval()(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("text", SMALL)
def test_seed_decides_weights(text: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (build(text, 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("text", SMALL)
def test_same_in_onnxruntime(text: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = build(text, 3, seed=1).eval()
    image = torch.rand(1, 3, 45, 62, generator=torch.Generator().manual_seed(0))
    content = onnx_bytes(network, (image,))
    assert io.BytesIO(content).read(1)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x0": image.numpy()})
    with torch.no_grad():
        expected = network(image).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_widths_are_multiples_of_eight_and_monotone() -> None:
    for name in ("bisenetv2", "ddrnet"):
        sizes = []
        for width in ("0.25", "0.5", "1"):
            network = baseline(f"{name}:{width}", 11)
            outs = {m.out_channels for m in network.modules() if isinstance(m, torch.nn.Conv2d)}
            assert all(c % 8 == 0 for c in outs - {11})
            sizes.append(sum(p.numel() for p in network.parameters()))
        assert sizes == sorted(sizes)


def test_pooled_is_adaptive_pooling() -> None:
    x = torch.rand(2, 3, 11, 7)
    for bins in (1, 2, 3, 6):
        torch.testing.assert_close(pooled(x, bins), torch.nn.functional.adaptive_avg_pool2d(x, bins))


def test_masks_are_max_unpooling() -> None:
    x = torch.rand(1, 16, 6, 8)
    most, indices = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
    _, mask = Down(16, 64, 0.1)(x)
    expected = torch.nn.functional.max_unpool2d(most, indices, 2)
    torch.testing.assert_close(mask * torch.repeat_interleave(most.repeat_interleave(2, 2), 2, 3), expected)


@pytest.mark.parametrize(
    "text", ["enet:1", "bisenetv2", "bisenetv2:", "ddrnet:0", "ddrnet:9", "ddrnet:nan", "ddrnet:-1"]
)
def test_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="WIDTH"):
        build(text, 3)


def test_unknown_network_names_the_baselines() -> None:
    with pytest.raises(UnknownName, match="bisenetv2, ddrnet, enet, fastscnn"):
        build("segnet", 3)
    assert sorted(NAMES) == ["bisenetv2", "ddrnet", "enet", "fastscnn"]
    with pytest.raises(ConfigError, match="classes = 0"):
        build("enet", 0)
