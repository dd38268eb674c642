"""A network is left as it was, whatever happens to it while statistics are collected."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxygraph.errors import ConfigError
from proxygraph.leaves import STATISTICS
from proxygraph.stats import collect
from tests.stats.networks import maps, odd, odd_loss

EVERY = [name for name in STATISTICS if name != "latency_ms"]


class Moody(nn.Module):
    """Counts its calls, replaces a buffer, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.body = odd()
        self.calls = 0
        self.seen: Tensor | None = None
        self.register_buffer("average", torch.tensor([1.0, float("nan")]))
        self.average: Tensor

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        self.seen = x
        self.average = self.average * 0.9
        return self.body(x)


def everything(model: nn.Module) -> list[Any]:
    state: list[Any] = [
        (name, t.detach().clone().reshape(-1).view(torch.uint8))
        for name, t in model.state_dict(keep_vars=True).items()
    ]
    for name, p in model.named_parameters():
        state.append((name, id(p), p.requires_grad, None if p.grad is None else p.grad.clone()))
    for name, module in model.named_modules():
        hooks = [len(v) for k, v in vars(module).items() if k.endswith("_hooks")]
        simple = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | None)}
        state.append((name, module.training, hooks, simple, sorted(vars(module)), sorted(module._buffers)))
    return state


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("leaves", [EVERY, ["w"], ["gs"], ["zen"]])
def test_nothing_is_left_behind(leaves: list[str], *, training: bool) -> None:
    model = Moody().train(training)
    model.body.bn.train(not training)  # modes are mixed
    odd_loss(model(maps()[0][0]), maps()[0][1]).backward()  # gradients and running statistics of the caller
    before = everything(model)
    collect(model, maps(), odd_loss, leaves=leaves)
    assert same(before, everything(model))
    assert model.calls == 1
    assert model.seen is not None


def test_nothing_is_left_behind_by_a_failure() -> None:
    def fails(output: Any, target: Tensor) -> Tensor:
        raise ValueError("no")

    model = Moody()
    before = everything(model)
    with pytest.raises(ConfigError, match="the loss failed: ValueError: no"):
        collect(model, maps(), fails)
    assert same(before, everything(model))


def test_the_check_can_fail() -> None:
    model = Moody()
    before = everything(model)
    model(maps()[0][0])
    assert not same(before, everything(model))


def test_inputs_and_targets_are_not_changed() -> None:
    batches = maps()
    kept = copy.deepcopy(batches)

    class Scribbler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = odd()

        def forward(self, x: Tensor) -> Any:
            return self.body(x.mul_(2.0) if not x.requires_grad else x * 2.0)

    collect(Scribbler(), batches, odd_loss)
    assert all(
        torch.equal(a, b) for x, y in zip(batches, kept, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert not any(x.requires_grad for x, _ in batches)


def test_hooks_of_the_caller_still_run_after_ours() -> None:
    model, seen = odd(), list[str]()

    def negative(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        seen.append("stem")
        return -out

    plain = collect(model, maps(), odd_loss, leaves=["a", "da", "g"], samples=4)
    model.stem.register_forward_hook(negative)
    hooked = collect(model, maps(), odd_loss, leaves=["a", "da", "g"], samples=4)
    assert len(seen) == 2
    assert len(model.stem._forward_hooks) == 1
    np.testing.assert_array_equal(plain.columns["a"][:4], hooked.columns["a"][:4])  # what the layer gave
    assert (plain.columns["a"][4:] != hooked.columns["a"][4:]).any()
