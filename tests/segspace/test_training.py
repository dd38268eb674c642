"""Training: recipes, rates, losses, gradients, and continuation to the bit."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from proxygraph.errors import ConfigError, StorageError, UnknownName
from segspace.augment import normalised, recoloured
from segspace.checkpoint import NAME, Header, read_checkpoint, trained_network, write_checkpoint
from segspace.cost import cost
from segspace.datasets import IGNORED, Pictures, open_dataset
from segspace.judging import judgement
from segspace.losses import class_weights, distillation_loss, segmentation_loss
from segspace.models import build
from segspace.recipe import Recipe, learning_rate
from segspace.training import Training, memory_format

ARCH = "rtseg:tiny:c0-C0-0"
TINY = Recipe(size=(16, 24), epochs=3, batch=4)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures(open_dataset("streetscenes:16x24?train=13&val=1").split("train"))


def training(pictures: Pictures, recipe: Recipe = TINY, seed: int = 0, **more: object) -> Training:
    return Training(build(ARCH, 11, seed=seed), recipe, pictures, 11, seed=seed, **more)  # type: ignore[arg-type]


def stopped_at(step: int) -> tuple[Callable[[int, int], None], Callable[[], bool]]:
    done = 0

    def on_step(now: int, _: int) -> None:
        nonlocal done
        done = now

    return on_step, lambda: done >= step


@given(st.floats(0, 0.9), st.integers(1, 300), st.sampled_from(["poly", "cosine"]))
def test_rate_rises_and_falls_to_zero(warmup: float, steps: int, schedule: str) -> None:
    recipe = Recipe(size=(8, 8), warmup=warmup, schedule=schedule, lr=0.5)
    rates = [learning_rate(recipe, step, steps) for step in range(steps + 1)]
    top = int(np.argmax(rates))
    assert min(rates[:-1]) > 0
    assert max(rates) <= 0.5
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12) or steps == round(warmup * steps)


def test_recipe_round_trip_and_wrong_numbers() -> None:
    recipe = Recipe(size=(120, 160), crop=(64, 64), ema=0.9)
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(ConfigError, match="fields lr"):
        Recipe.from_json({k: v for k, v in recipe.to_json().items() if k != "lr"})
    wrong = [
        {"epochs": 0},
        {"optimizer": "adam"},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"ema": 1.0},
        {"scale": (2.0, 1.0)},
        {"crop": (5, 0)},
        {"warmup": -0.1},
    ]
    for change in wrong:
        with pytest.raises(ConfigError, match=next(iter(change))):
            replace(recipe, **change)


@pytest.mark.parametrize(
    "recipe",
    [
        TINY,
        replace(TINY, optimizer="sgd", lr=0.05, schedule="poly", ohem=0.7, crop=(16, 16)),
        replace(TINY, ema=0.9, class_weight_power=-0.5),
    ],
)
def test_continuation_is_equal_to_the_bit(pictures: Pictures, recipe: Recipe, tmp_path: Path) -> None:
    """Stopped within an epoch, stored, read by a new process's objects and continued."""
    whole = training(pictures, recipe)
    assert (whole.steps, whole.steps_per_epoch) == (9, 3)
    assert whole.run()
    first = training(pictures, recipe)
    on_step, stop = stopped_at(4)
    assert not first.run(on_step, stop=stop)
    header = Header(ARCH, ("c",) * 11, ((0, 0, 0),) * 11, "test", recipe, 0, first.step, first.steps)
    write_checkpoint(tmp_path / NAME, header, first.state())
    found, tensors = read_checkpoint(tmp_path)
    assert found == header
    second = training(pictures, recipe, seed=0)
    for parameter in second.network.parameters():  # nothing may come from the start of this one
        nn.init.zeros_(parameter)
    second.load_state(tensors, found.step)
    assert second.run()
    expected, again = whole.state(), second.state()
    assert expected.keys() == again.keys()
    assert all(torch.equal(expected[name], again[name]) for name in expected)
    other = training(pictures, recipe, seed=1)
    other.run()
    assert any(not torch.equal(expected[name], tensor) for name, tensor in other.state().items())


def test_mean_of_the_weights_is_what_is_judged(pictures: Pictures, tmp_path: Path) -> None:
    recipe = replace(TINY, ema=0.8, epochs=1)
    done = training(pictures, recipe)
    done.run()
    assert done.judged is done.average
    header = Header(ARCH, ("c",) * 11, ((0, 0, 0),) * 11, "test", recipe, 0, done.step, done.steps)
    write_checkpoint(tmp_path / "a.safetensors", header, done.state())
    _, network = trained_network(tmp_path / "a.safetensors")
    x = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(x), done.judged.eval()(x))
        assert not torch.allclose(network(x), done.network.eval()(x))


def test_training_learns(pictures: Pictures) -> None:
    losses: list[float] = []
    training(pictures, replace(TINY, epochs=12, jitter=0.0, scale=(1.0, 1.0))).run(
        on_epoch=lambda _, loss: losses.append(loss)
    )
    assert losses[-1] < 0.75 * losses[0]


def test_teacher_is_followed(pictures: Pictures) -> None:
    """With nothing but the teacher's loss in weight, the student comes close to the teacher."""
    teacher = build(ARCH, 11, seed=9).eval()
    with torch.no_grad():
        for module in teacher.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.copy_(torch.linspace(-3, 3, 11))
    x = normalised(torch.rand(2, 3, 16, 24))

    def distance(weight: float) -> float:
        student = training(pictures, replace(TINY, epochs=8, distill=weight), teacher=copy.deepcopy(teacher))
        student.run()
        with torch.no_grad():
            return float(distillation_loss(student.network.eval()(x), teacher(x), 1.0))

    assert distance(20.0) < 0.5 * distance(0.0)


def test_diverging_training_is_told(pictures: Pictures) -> None:
    with pytest.raises(ConfigError, match="lower the learning rate"):
        training(pictures, replace(TINY, optimizer="sgd", lr=1e30)).run()


def test_loss_ignores_what_is_ignored() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 6, 7, requires_grad=True), torch.randint(0, 5, (2, 6, 7))
    labels[0, :3] = IGNORED
    seen = labels != IGNORED
    flat = logits.permute(0, 2, 3, 1)[seen]
    for weights in (None, torch.rand(5)):
        expected = nn.functional.cross_entropy(flat, labels[seen], weights)
        torch.testing.assert_close(segmentation_loss(logits, labels, weights), expected)
    each = nn.functional.cross_entropy(flat, labels[seen], reduction="none")
    hard = each[each >= -np.log(0.1)]
    torch.testing.assert_close(segmentation_loss(logits, labels, ohem=0.1), hard.mean())
    sure = nn.functional.one_hot(labels.clamp(max=4), 5).permute(0, 3, 1, 2).float() * 50
    assert float(segmentation_loss(sure, labels, ohem=0.5)) < 1e-6  # a sixteenth still counts
    for ohem in (0.0, 0.5):
        nothing = segmentation_loss(logits, torch.full_like(labels, IGNORED), ohem=ohem)
        nothing.backward()
        assert float(nothing.detach()) == 0


def test_class_weights_lift_the_rare() -> None:
    maps = [torch.tensor([[0, 0, 0, 1], [IGNORED] * 4], dtype=torch.uint8)]
    weights = class_weights(maps, 2, -0.5)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[1] / weights[0]) == pytest.approx(3**0.5)


@given(st.integers(0, 2**31))
def test_colours_stay_colours(seed: int) -> None:
    torch.manual_seed(seed)
    images, jitter = torch.rand(2, 3, 4, 5), torch.rand(2, 3) - 0.5
    changed = recoloured(images, jitter)
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    torch.testing.assert_close(recoloured(images, torch.zeros(2, 3)), images)


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    nn.functional.cross_entropy(network(x), y).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    "arch", ["streetscenes:64-41414-2_12_212", "rtseg:tiny:i2s3-S2i3D0-z1y1", "ddrnet:0.25"]
)
def test_gradients_of_the_memory_format_are_right(arch: str) -> None:
    """Every gradient of one step beside float64; a memory layout once broke a convolution."""
    network = build(arch, 5)
    layout = memory_format(network)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    exact = copy.deepcopy(network).double()
    torch.manual_seed(0)
    x, y = torch.randn(4, 3, 32, 32), torch.randint(0, 5, (4, 32, 32))
    found = gradients(network, x.contiguous(memory_format=layout), y)
    expected = gradients(exact, x.double(), y)
    total = float(np.linalg.norm([float(one.norm()) for one in expected]))
    assert len(found) == len(expected) > 20
    assert max(float((a - b).norm()) for a, b in zip(found, expected, strict=True)) < 1e-4 * total


def test_strided_pointwise_convolutions_keep_the_plain_layout() -> None:
    assert memory_format(nn.Conv2d(8, 16, 1, 2)) is torch.contiguous_format
    assert memory_format(build("ddrnet:0.25", 5)) is torch.contiguous_format
    assert memory_format(nn.Conv2d(8, 8, 1)) is torch.channels_last
    assert memory_format(nn.Conv2d(4, 8, 3, 2)) is torch.channels_last


class Fixed(nn.Module):
    """A network that knows the answer, coarsely: the brightness of 2x2 blocks says the class."""

    def forward(self, x: Tensor) -> Tensor:
        level = (x[:, :1] * 0.229 + 0.485) * 255
        return -(level - torch.arange(11.0).view(1, 11, 1, 1)).abs()


class Painted:
    """Two pictures whose brightness is their class, one pixel ignored."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        labels = (torch.arange(64).view(8, 8) // (8 + 8 * i)).to(torch.uint8)
        image = labels.clone()
        image[0] = 3  # wrong in the first row
        labels[7, 7] = IGNORED
        return image[..., None].repeat(1, 1, 3), labels


def test_judgement_is_that_of_pooled_pixels() -> None:
    data = Painted()
    found = judgement(Fixed(), data, 11)  # type: ignore[arg-type]
    metric = MulticlassJaccardIndex(8, average="none", ignore_index=IGNORED)
    counts = np.zeros((11, 11), int)
    for image, labels in (data[0], data[1]):
        metric.update(image[None, ..., 0].long(), labels[None].long())
        for a, b in zip(labels.flatten().tolist(), image[..., 0].flatten().tolist(), strict=True):
            if a != IGNORED:
                counts[a, b] += 1
    assert np.array_equal(found.confusion, counts)
    np.testing.assert_allclose(found.class_iou[:8], 100 * metric.compute().numpy(), rtol=1e-5)
    assert np.isnan(found.class_iou[8:]).all()
    assert found.miou == pytest.approx(np.mean(found.class_iou[:8]))
    assert found.accuracy == pytest.approx(100 * np.trace(counts) / 126)


def test_cost_counts_multiply_adds() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(4, 4, 1, groups=2)
    )
    spent = cost(network, (8, 10))
    assert spent.macs == 8 * 20 * 27 + 8 * 20 * 16 + 4 * 80 * 2
    assert spent.params == sum(p.numel() for p in network.parameters())
    assert spent.layers == 3


def test_arch_texts() -> None:
    assert build("transnas101:64-41414-1_02_103", 3) is not None
    with pytest.raises(UnknownName, match="expected rtseg"):
        build("resnet50", 3)
    with pytest.raises(ConfigError, match="no preset"):
        build("rtseg:huge:0-C0-0", 3)


def test_damaged_checkpoints_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "a.safetensors")
    header = Header(ARCH, ("c",), ((0, 0, 0),), "test", TINY, 0, 0, 1)
    with pytest.raises(StorageError, match="cannot be written"):
        write_checkpoint(tmp_path / "no" / "a.safetensors", header, {})
    write_checkpoint(tmp_path / "b.safetensors", header, {"network.x": torch.zeros(1)})
    with pytest.raises(ConfigError, match="another network"):
        trained_network(tmp_path / "b.safetensors")
