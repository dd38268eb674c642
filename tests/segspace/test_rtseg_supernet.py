"""The supernet: its networks are the plain ones, with shared weights and a normalisation per width."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from proxygraph.errors import ConfigError
from segspace.rtseg.arch import Arch, Preset
from segspace.rtseg.network import build
from segspace.rtseg.space import Space
from segspace.rtseg.supernet import Supernet, at_width, recalibrate, sandwich, sandwich_step

MINI = Preset("mini", widths=(8, 16, 24), stem=(8, 8, 16), head=8, layers=6, longest=3)
SPACE = Space(MINI)
SEEDS = st.integers(0, 2**32)
ONE = Arch.parse("rtseg:mini:c1-C2i2S0-z1d2", {"mini": MINI})


def pictures(seed: int, n: int = 2, height: int = 37, width: int = 50) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def trained() -> Supernet:
    """Return a supernet after a few steps, so that no running statistic is at its start."""
    supernet = Supernet(MINI, 4, seed=0)
    optimiser = torch.optim.SGD(supernet.parameters(), lr=0.05)
    rng = np.random.default_rng(0)
    for step in range(4):
        labels = (pictures(step)[:, 0] * 4).long()
        optimiser.zero_grad()
        sandwich_step(supernet, pictures(step), labels, nn.functional.cross_entropy, SPACE, rng)
        optimiser.step()
    return supernet


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return trained().eval()


@settings(max_examples=25)
@given(SEEDS)
def test_extracted_networks_compute_the_same(supernet: Supernet, seed: int) -> None:
    arch = SPACE.diverse(np.random.default_rng(seed))
    plain = supernet.extract(arch)
    images = pictures(seed % 100)
    with torch.no_grad():
        torch.testing.assert_close(supernet(images, arch), plain(images), atol=1e-5, rtol=0)
    expected = build(arch, 4).state_dict()
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in expected.items()}


@settings(max_examples=5)
@given(SEEDS)
def test_training_moves_the_same_statistics(seed: int) -> None:
    supernet = Supernet(MINI, 4, seed=1)
    arch = SPACE.diverse(np.random.default_rng(seed))
    plain = supernet.extract(arch)
    torch.testing.assert_close(supernet(pictures(0), arch), plain(pictures(0)), atol=1e-5, rtol=0)
    for name, tensor in supernet.extract(arch).state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name])
    assert any(k.endswith("tracked") and v > 0 for k, v in plain.state_dict().items())


def test_extracted_weights_are_a_copy(supernet: Supernet) -> None:
    before = supernet(pictures(0), ONE).detach()
    with torch.no_grad():
        for tensor in supernet.extract(ONE).state_dict().values():
            tensor.zero_()
    assert torch.equal(supernet(pictures(0), ONE), before)


def test_widths_share_weights_but_no_normalisation(supernet: Supernet) -> None:
    wide, narrow = supernet.slices(at_width(ONE, 2)), supernet.slices(at_width(ONE, 1))
    weight, norm = "deep.0.conv.weight", "deep.0.bn.running_mean"
    assert wide[weight].data_ptr() == narrow[weight].data_ptr()
    assert wide[weight].shape[0] == 48 > narrow[weight].shape[0] == 32
    assert wide[norm].data_ptr() != narrow[norm].data_ptr()


def test_sandwich_has_both_ends() -> None:
    wide, narrow, *drawn = sandwich(SPACE, np.random.default_rng(0))
    assert {layer.width for path in wide.paths for layer in path} == {2}
    assert {layer.width for path in narrow.paths for layer in path} == {0}
    assert len(drawn) == 2


def test_steps_learn_and_touch_only_what_ran() -> None:
    supernet = Supernet(MINI, 4, seed=0)
    images, rng = pictures(5), np.random.default_rng(1)
    labels = (images[:, 0] > 0.5).long()
    optimiser = torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(25):
        optimiser.zero_grad()
        losses.append(sandwich_step(supernet, images, labels, nn.functional.cross_entropy, SPACE, rng))
        if step == 0:
            used = {name for name, p in supernet.named_parameters() if p.grad is not None}
            assert 0 < len(used) < len(list(supernet.parameters()))
        optimiser.step()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2])


def test_recalibrated_statistics_are_the_mean_over_batches(supernet: Supernet) -> None:
    network, batches = supernet.extract(ONE), [pictures(1), pictures(2)]
    means = []
    for images in batches:
        once = copy.deepcopy(network).train()
        for module in once.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        once(images)
        means.append({k: v for k, v in once.state_dict().items() if "running" in k})
    recalibrate(network, batches)
    assert not network.training
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    for name, first in means[0].items():
        torch.testing.assert_close(network.state_dict()[name], (first + means[1][name]) / 2)
    with pytest.raises(ConfigError, match="at least one batch"):
        recalibrate(network, [])


def test_file_round_trip(supernet: Supernet, tmp_path: Path) -> None:
    path = tmp_path / "super.safetensors"
    supernet.save(path)
    assert list(tmp_path.iterdir()) == [path]
    again = Supernet.load(path).eval()
    assert (again.preset, again.classes) == (MINI, 4)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in supernet.state_dict().items())
    assert torch.equal(again(pictures(0), ONE), supernet(pictures(0), ONE))


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "super.safetensors"
    with pytest.raises(ConfigError, match="no supernet can be read"):
        Supernet.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="no supernet can be read"):
        Supernet.load(path)


def test_wrong_uses_are_named(supernet: Supernet) -> None:
    with pytest.raises(ConfigError, match="is not of the supernet's preset 'mini'"):
        supernet(pictures(0), Arch.parse("rtseg:tiny:0-C0-0"))
    with pytest.raises(ConfigError, match="classes = 0"):
        Supernet(MINI, 0)


def test_seed_decides_the_weights() -> None:
    state = torch.get_rng_state()
    one, same, other = (Supernet(MINI, 4, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)
