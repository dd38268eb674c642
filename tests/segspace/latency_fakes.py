"""A runtime without a clock of its own: time is what the convolutions of a module cost on paper."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segspace.latency.load import Load
from segspace.latency.runtimes import Runtime, Session, runtime
from segspace.latency.table import LatencyTable, Record, Setting, Size, network_key
from segspace.rtseg.program import program
from segspace.rtseg.space import Space

OVERHEAD = 50e-6
QUIET, BUSY = Load(0.0, 0.01), Load(1.5, 0.4)


class FakeTime:
    """A clock that only moves when somebody works; `pace` makes everything slower from now on."""

    def __init__(self) -> None:
        self.now, self.pace = 0.0, 1.0

    def work(self, seconds: float) -> None:
        self.now += self.pace * seconds

    def __call__(self) -> float:
        return self.now

    def reference_kernel(self) -> Callable[[], Any]:
        return lambda: self.work(1e-3)


def seconds_on_paper(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """1 ns per multiply-accumulate and 5 µs per call of a convolution."""
    seconds = 0.0

    def count(part: nn.Module, _: object, out: Tensor) -> None:
        nonlocal seconds
        if isinstance(part, nn.Conv2d):
            seconds += 5e-6 + 1e-9 * out.numel() * part.weight[0].numel()

    hooks = [part.register_forward_hook(count) for part in module.modules()]
    with torch.inference_mode():
        module.eval()(*inputs)
    for hook in hooks:
        hook.remove()
    return seconds


class FakeRuntime(Runtime):
    """Takes the time on paper and an overhead per call."""

    name, package = "fake", "torch"
    own_layout = False
    time = FakeTime()
    sessions = 0

    @property
    def clock(self) -> FakeTime:
        return self.time

    def session(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Session:
        type(self).sessions += 1
        seconds = OVERHEAD + seconds_on_paper(module, inputs)
        return Session(lambda: self.time.work(seconds), list)


def made_up_table(size: Size, classes: int = 11, networks: int = 150) -> LatencyTable:
    """A record for the pieces of many networks, not for all there are: 1 ns per MAC, 10 µs per piece."""
    space, rng = Space.preset("tiny"), np.random.default_rng(0)
    archs = [space.diverse(rng) for _ in range(networks)]
    pieces = {step.piece for arch in archs for step in program(arch, size, classes).steps}

    def record(ms: float) -> Record:
        return Record(ms, ms, ms, ms, 15, 1.0)

    found = LatencyTable(
        Setting.of(runtime("eager")), {p.text(): record(0.01 + 1e-6 * p.macs) for p in pieces}
    )
    sums = {
        network_key(a, size, classes): record(1.2 * found.predict(a, size, classes, calibrated=False))
        for a in archs[:6]
    }
    return found.adding(networks=sums)
