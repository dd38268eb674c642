"""Collecting: samples, determinism, networks and inputs of all kinds, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from proxygraph.errors import ConfigError, UnknownName
from proxygraph.leaves import STATISTICS
from proxygraph.stats import collect
from proxygraph.stats.recorder import LARGE
from proxygraph.table import StatTable
from tests.stats.networks import labels, maps, odd, odd_loss, plain

CE = F.cross_entropy
SAMPLED = [name for name, leaf in STATISTICS.items() if leaf.axis in ("element", "activation")]


def assert_close(a: StatTable, b: StatTable, rtol: float = 1e-4) -> None:
    assert a.columns.keys() == b.columns.keys()
    for name, column in a.columns.items():
        scale = np.abs(b.columns[name]).max(initial=0)
        np.testing.assert_allclose(column, b.columns[name], rtol=rtol, atol=1e-5 * scale + 1e-8, err_msg=name)


@pytest.mark.parametrize("samples", [1, 2, 10, 1000])
def test_fewer_samples_are_the_first_of_all(samples: int) -> None:
    """With few samples the gradients of large weights are computed another way: same values, same entries."""
    every = collect(odd(), maps(), odd_loss, leaves=SAMPLED, samples=None)
    few = collect(odd(), maps(), odd_loss, leaves=SAMPLED, samples=samples)
    assert (
        few.offsets["element"].tolist()
        == np.cumsum([0, *np.minimum(every.counts["element"], samples)]).tolist()
    )
    assert few.counts["element"].tolist() == every.counts["element"].tolist()
    assert_close(few, every.thin(samples))


def test_both_ways_to_a_gradient_are_used() -> None:
    numel = collect(odd(), maps(), odd_loss, leaves=["numel"]).columns["numel"]
    assert (numel >= LARGE * 2).any()
    assert (numel < LARGE * 1).any()


def test_samples_are_fair() -> None:
    """The mean of 40 samples, over many seeds, is the mean of all."""
    every = collect(plain(), labels(), CE, leaves=["w"], samples=None)
    means = [
        collect(plain(), labels(), CE, leaves=["w"], samples=40, seed=s).columns["w"][40:80].mean()
        for s in range(30)
    ]
    values = every.columns["w"][every.offsets["element"][1] : every.offsets["element"][2]]
    assert abs(np.mean(means) - values.mean()) < 4 * values.std() / np.sqrt(40 * 30)
    assert len(set(means)) == 30


def test_same_seed_same_table() -> None:
    tables = [collect(odd(), maps(), odd_loss, samples=16, seed=s) for s in (3, 3, 4)]
    assert tables[0].digest == tables[1].digest
    assert tables[0].digest != tables[2].digest
    np.testing.assert_array_equal(tables[0].columns["fisher"], tables[2].columns["fisher"])


def test_random_state_neither_matters_nor_changes() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    torch.manual_seed(0)
    first = collect(model, labels(), CE)
    torch.manual_seed(99)
    np.random.seed(5)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    second = collect(model, labels(), CE)
    assert first.digest == second.digest
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_the_mode_outside_does_not_matter() -> None:
    assert (
        collect(odd().eval(), maps(), odd_loss, samples=5).digest
        == collect(odd(), maps(), odd_loss, samples=5).digest
    )


def test_default_leaves() -> None:
    both = set(collect(plain(), labels(), CE).columns)
    assert both == set(STATISTICS) - {"hg", "ntk_cond", "latency_ms"}
    assert set(collect(plain(), labels()[0], CE).columns) == both - {"g_mean", "g_std"}


@pytest.fixture(scope="module")
def every() -> StatTable:
    return collect(odd(), maps(), odd_loss, leaves=[n for n in STATISTICS if n != "latency_ms"], samples=3)


@pytest.mark.parametrize("leaf", [name for name in STATISTICS if name != "latency_ms"])
def test_a_leaf_alone_equals_the_leaf_among_all(leaf: str, every: StatTable) -> None:
    alone = collect(odd(), maps(), odd_loss, leaves=[leaf], samples=3)
    assert set(alone.columns) == {leaf}
    np.testing.assert_array_equal(alone.columns[leaf], every.columns[leaf])


def test_forward_leaves_never_call_the_loss() -> None:
    def never(*_: Any) -> Tensor:
        raise AssertionError("called")

    free = [name for name, leaf in STATISTICS.items() if not leaf.labels and name not in ("hg", "latency_ms")]
    assert set(collect(odd(), maps(), never, leaves=free).columns) == set(free)


def test_header_tells_where_the_numbers_come_from() -> None:
    header = collect(plain(), labels(), CE, row="p", seed=5, samples=9).header
    assert header["layers"] == {"p": ["a", "b", "fc"]}
    assert (header["seed"], header["samples"], header["loss"]) == (5, 9, "cross_entropy")
    assert header["batches"] == [[3, 3, 8, 8], [3, 3, 8, 8]]
    other = collect(plain(), [labels()[0], labels()[0]], CE, leaves=["w"]).header
    assert header["batch_digest"] != other["batch_digest"]


def test_rectifiers_are_seen_as_functions_and_as_modules() -> None:
    names = ["nwot_total", "swap"]
    a, b = (collect(plain(functional=f), labels(), CE, leaves=names) for f in (False, True))
    assert a.digest == b.digest
    assert a.columns["swap"] > 10


def test_synaptic_flow_passes_the_range_of_float32() -> None:
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(30)))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(100)
    found = collect(model, (torch.randn(4, 8), torch.zeros(4, 8)), F.mse_loss, leaves=["gs"], samples=None)
    wide = model.double()
    for p in wide.parameters():
        p.data.abs_()
    wide(torch.ones(1, 8, dtype=torch.float64)).sum().backward()
    assert wide[0].weight.grad is not None
    assert wide[0].weight.grad.max() > 1e50
    first = np.sort(found.columns["gs"][:64])
    np.testing.assert_allclose(first, np.sort(wide[0].weight.grad.flatten().numpy()), rtol=1e-5)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        self.encoder = nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> tuple[Tensor, int]:
        return self.head(self.encoder(self.embed(tokens)).relu().mean(1)), 7


def test_tied_weights_integer_inputs_and_tuples() -> None:
    torch.manual_seed(0)
    model, tokens, target = Tied(), torch.arange(12).reshape(4, 3) % 11, torch.tensor([1, 2, 3, 4])
    table = collect(model, (tokens, target), lambda out, y: CE(out[0], y), samples=None)
    CE(model(tokens)[0], target).backward()
    assert model.head.weight.grad is not None
    head = table.columns["g"][table.offsets["element"][1] :]
    np.testing.assert_allclose(np.sort(head), np.sort(model.head.weight.grad.flatten()), rtol=1e-4, atol=1e-7)
    assert np.isnan(table.columns["jacov"])
    assert np.isnan(table.columns["zen"])
    assert (table.columns["gs"] > 0).any()
    np.testing.assert_array_equal(table.columns["hw"], [3, 1])  # three tokens, then their mean


def test_volumes_sequences_and_transposed_ones() -> None:
    volume = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(4, 2, 2, 2), nn.Flatten()
    )
    x = torch.randn(2, 1, 4, 4, 4)
    table = collect(volume, [(x, torch.zeros(2, 1024))] * 2, F.mse_loss, samples=1)
    assert table.columns["kernel"].tolist() == [3, 2]
    assert table.columns["hw"].tolist() == [64, 512]
    line = nn.Sequential(nn.Conv1d(3, 4, 5), nn.GELU(), nn.ConvTranspose1d(4, 3, 2, groups=1), nn.Flatten())
    table = collect(line, [(torch.randn(3, 3, 9), torch.zeros(3, 18))] * 2, F.mse_loss, samples=1)
    assert table.columns["hw"].tolist() == [5, 6]


def parametrized() -> nn.Module:
    model = plain()
    nn.utils.parametrizations.weight_norm(model.b)
    nn.utils.parametrizations.spectral_norm(model.fc)
    return model


@pytest.mark.parametrize("samples", [1, None])
def test_parametrized_weights(samples: int | None) -> None:
    model = parametrized()
    table = collect(model, labels(), CE, leaves=["w", "g", "gs", "hg"], samples=samples)
    gradients = []
    for x, y in labels():
        model.eval()  # the spectral norm must not iterate here
        model.bn.train()
        with nn.utils.parametrize.cached():
            weight = model.b.weight
            assert isinstance(weight, Tensor)
            gradients.append(torch.autograd.grad(CE(model(x), y), weight)[0].flatten())
    if samples is None:
        found = table.columns["g"][table.offsets["element"][1] : table.offsets["element"][2]]
        # the iteration of the spectral norm in train mode changes the head a little
        np.testing.assert_allclose(
            np.sort(found), np.sort(torch.stack(gradients).mean(0)), rtol=0.2, atol=0.01
        )
    assert (table.columns["g"] != 0).any()


def test_half_precision_weights_are_examined_in_single() -> None:
    half = collect(plain().bfloat16(), labels(), CE, samples=32)
    single = collect(plain().bfloat16().float(), labels(), CE, samples=32)
    assert half.digest == single.digest


def test_double_precision_and_compiled_networks() -> None:
    assert_close(
        collect(plain().double(), labels(), CE, samples=8),
        collect(plain(), labels(), CE, samples=8),
        rtol=1e-2,
    )

    class Compiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = plain()

    assert collect(Compiled(), labels(), CE).header["layers"]["model"] == ["a", "b", "fc"]


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = (
            nn.Conv2d(3, 4, 3),
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        )
        self.frozen, self.fc = nn.Conv2d(4, 4, 1), nn.Linear(4, 4)
        self.checkpointed = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        with torch.no_grad():
            side = self.frozen(x)
        out: Tensor = self.fc((x + side).mean((2, 3)))
        return out


def test_checkpoints_and_parts_without_gradient() -> None:
    torch.manual_seed(0)
    model = Blocks()
    straight = collect(model, labels(), CE, samples=None)
    assert (straight.columns["g"][straight.offsets["element"][2] : straight.offsets["element"][3]] == 0).all()
    model.checkpointed = True
    before = {name: b.clone() for name, b in model.named_buffers()}
    again = collect(model, labels(), CE, samples=None)
    for name, column in straight.columns.items():
        if STATISTICS[name].axis != "activation":  # a gradient of a recomputed output does not exist
            np.testing.assert_allclose(column, again.columns[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert all(torch.equal(before[name], b) for name, b in model.named_buffers())


def test_batches_of_different_sizes() -> None:
    batches = [(torch.randn(n, 3, 8, 8), torch.zeros(n, dtype=torch.long)) for n in (4, 2, 3)]
    assert collect(plain(), batches, CE).columns["swap"] > 0
    wide = (torch.randn(2, 3, 12, 8), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ConfigError, match="swap needs batches of one image size"):
        collect(plain(), [*batches, wide], CE)
    assert collect(plain(), [*batches, wide], CE, leaves=["g_std"]).n_rows == 1


def test_more_images_than_an_integer_has_bits() -> None:
    batches = [(x, y) for x, y in labels(2, images=40)]
    patterns = torch.cat([_codes(x) for x, _ in batches]).T
    assert collect(plain(), batches, CE, leaves=["swap"]).columns["swap"] == len(
        torch.unique(patterns, dim=0)
    )


def _codes(x: Tensor) -> Tensor:
    net, found = plain().train(), list[Tensor]()
    net.act.register_forward_hook(lambda m, args, out: found.append(args[0].flatten(1) > 0))
    net(x)
    return torch.cat(found, 1)


def test_inference_mode_outside_does_not_matter() -> None:
    expected = collect(plain(), labels(), CE, samples=8)
    with torch.inference_mode():
        batches = labels()
        assert collect(plain(), batches, CE, samples=8).digest == expected.digest
    with torch.no_grad():
        assert collect(plain(), batches, CE, samples=8).digest == expected.digest


def test_a_backbone_of_ones_own() -> None:
    found = collect(plain(), labels(), CE, leaves=["backbone"], backbone="^[ab]$").columns["backbone"]
    assert found.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("encoder.stem.0", True),
        ("layer1.0.se.fc1", True),
        ("blocks.3.mlp.fc2", True),
        ("overhead.conv", True),
        ("decoder.3", False),
        ("decode_head.conv_seg", False),
        ("module.fc", False),
        ("seg_head", False),
        ("classifier.6", False),
        ("aux_logits", False),
        ("up3.conv", False),
    ],
)
def test_default_backbone(name: str, *, backbone: bool) -> None:
    import re

    from proxygraph.stats import BACKBONE

    assert bool(re.search(BACKBONE, name)) == backbone


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": nn.ReLU()}, ConfigError, "network 'net': no convolution or linear module ran"),
    ({"model": "resnet"}, ConfigError, "network 'net': expected a torch.nn.Module, got str"),
    ({"model": nn.LazyLinear(3)}, ConfigError, "'weight' has no shape yet"),
    (
        {"model": nn.Linear(5, 2)},
        ConfigError,
        "forward pass in train mode on .* failed: RuntimeError: mat1 and mat2",
    ),
    ({"batches": []}, ConfigError, "no batch"),
    ({"batches": [torch.zeros(2, 3, 8, 8)]}, ConfigError, "batch 0: expected .inputs, targets."),
    ({"batches": (torch.zeros(0, 3, 8, 8), torch.zeros(0))}, ConfigError, "batch 0: no images"),
    (
        {"loss": lambda out, y: out},
        ConfigError,
        r"batch 0: the loss is of shape \(3, 4\), expected one number",
    ),
    ({"loss": lambda out, y: 1.0}, ConfigError, "the loss is a float"),
    ({"loss": lambda out, y: out.sum() * float("nan")}, ConfigError, "the loss is nan: check inputs"),
    ({"loss": lambda out, y: out.detach().sum()}, ConfigError, "the loss is not differentiable"),
    (
        {"loss": lambda out, y: CE(out, y.float())},
        ConfigError,
        "the loss failed: .*do output and targets fit",
    ),
    ({"leaves": ["snip"]}, UnknownName, "unknown leaf 'snip'; known: w, g"),
    ({"leaves": "w"}, ConfigError, "expected a collection of names"),
    ({"leaves": ["latency_ms"]}, ConfigError, "measured on a device"),
    (
        {"leaves": ["g_std"], "batches": labels(1)},
        ConfigError,
        "leaves g_std need at least two batches, got 1",
    ),
    ({"samples": 0}, ConfigError, "samples = 0"),
    ({"backbone": "("}, ConfigError, "no regular expression"),
]


@pytest.mark.parametrize(("change", "error", "text"), REFUSED)
def test_refused_with_a_reason(change: dict[str, Any], error: type[Exception], text: str) -> None:
    given: dict[str, Any] = {"model": plain(), "batches": labels(), "loss": CE, "row": "net"} | change
    with pytest.raises(error, match=text) as caught:
        collect(given.pop("model"), given.pop("batches"), given.pop("loss"), **given)
    assert "\n" not in str(caught.value)


def test_one_value_per_channel_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"network 'tiny': .*train mode.*more than 1 value per channel"):
        collect(nn.Sequential(nn.Conv2d(3, 2, 8), nn.BatchNorm2d(2)), labels(1, images=1), CE, row="tiny")


class Scribbling(nn.Module):
    """Changes in place what a layer has read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        out: Tensor = self.b(h)
        h.mul_(2.0)
        return out


@pytest.mark.parametrize(
    ("samples", "text"),
    [(1, "'b' is changed in place after use"), (None, "its backward pass failed: .*inplace")],
)
def test_inputs_changed_in_place_are_refused(samples: int | None, text: str) -> None:
    with pytest.raises(ConfigError, match=f"network 'model': .*{text}"):
        collect(
            Scribbling(), (torch.randn(2, 8), torch.zeros(2, 32)), F.mse_loss, leaves=["g"], samples=samples
        )


class _First(torch.autograd.Function):
    """Doubles; differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Second.apply(gradient)


class _Second(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("derivative not implemented")


def test_a_network_that_has_no_second_derivative() -> None:
    class Once(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = _First.apply(super().forward(x))
            return out

    batch = (torch.randn(2, 4), torch.zeros(2, 4))
    assert (collect(Once(4, 4), batch, F.mse_loss, leaves=["g"]).columns["g"] != 0).any()
    with pytest.raises(
        ConfigError, match="second backward pass failed: RuntimeError: derivative not implemented"
    ):
        collect(Once(4, 4), batch, F.mse_loss, leaves=["hg"])
