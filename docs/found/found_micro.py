"""Score of untrained networks, by a formula that proxygraph found."""

# proxy: found_micro
# source: proxygraph, docs/proxies.md: 400 labels of transnas101, best of three seeds on validation
# spearman on unseen transnas101: 0.939

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

FORMULA = "receptive + sum(stride * log(kernel) * min(cube(receptive), l2(g_std)))"


def score(model: nn.Module, inputs: Any, targets: Any, loss: Any, *, seed: int = 0) -> float:
    """Return the score of a network, which is left as it was.

    `inputs` and `targets` are one batch or lists of them; `loss(output, targets)` gives a scalar.
    `seed` is that of the samples some statistics take, and of the network's own random numbers.
    """
    return float(formula(*statistics(model, inputs, targets, loss, seed)))


def statistics(
    model: nn.Module, inputs: Any, targets: Any, loss: Any, seed: int
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Return the statistics of every layer, in forward order, and those of the network."""
    with examined(model, seed):
        n = Network(model, inputs, targets, loss, seed)
        layers = [
            {
                "g_std": stored(leaf_g_std(n, name)),
                "kernel": stored(leaf_kernel(n, name)),
                "stride": stored(leaf_stride(n, name)),
            }
            for name in n.calls
        ]
        network = {
            "receptive": leaf_receptive(n),
        }
    return layers, {name: torch.tensor(value, dtype=torch.float64) for name, value in network.items()}


def formula(layers: list[dict[str, Tensor]], network: dict[str, Tensor]) -> Tensor:
    """Return the value of the formula for one network."""
    receptive = network["receptive"]
    t0 = receptive * receptive * receptive
    per_layer0 = []
    for layer in layers:
        stride = layer["stride"]
        kernel = layer["kernel"]
        g_std = layer["g_std"]
        per_layer0.append((stride * torch.log(kernel)) * torch.minimum(t0, g_std.square().sum().sqrt()))
    t1 = torch.stack(per_layer0).sum()
    return receptive + t1


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor without its gradient; half precision becomes float32."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.detach().float() if half else tensor.detach()


def first_parameter(model: nn.Module) -> Tensor:
    """Return the parameter that device and precision are taken from."""
    return next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))


Batch = tuple[Tensor, Any]


def listed(model: nn.Module, inputs: Any, targets: Any) -> list[Batch]:
    """Return the batches, on the network's device and in its precision."""
    like = widened(first_parameter(model))
    if isinstance(inputs, Tensor):
        inputs, targets = [inputs], [targets]
    batches = []
    for number, x in enumerate(inputs):
        y = None if targets is None else targets[number]
        x = x.detach().to(like.device, like.dtype if x.is_floating_point() else x.dtype, copy=True)
        batches.append((x, y.to(like.device) if isinstance(y, Tensor) else y))
    return batches


LAYERS = (_ConvNd, nn.Linear)


Layer = _ConvNd | nn.Linear


@dataclass
class Call:
    """One execution of a layer."""

    layer: Layer
    weight: Tensor
    inputs: int
    output: Tensor


Calls = dict[str, list[Call]]


def forward(model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> tuple[Any, Calls]:
    """Run the network on stand-ins; return its output and what its layers did."""
    names = {module: name for name, module in model.named_modules() if isinstance(module, LAYERS)}
    calls: Calls = {}

    def note(layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
        x = args[0] if args else next(iter(kwargs.values()))
        calls.setdefault(names[layer], []).append(Call(layer, layer.weight, x.numel(), output))
        kept: Tensor = output.clone()  # operations in place further on must not change what was noted
        return kept

    dtype = next((p.dtype for p in parameters.values() if p.is_floating_point()), torch.float32)
    buffers = {}
    for name, buffer in model.named_buffers():
        buffers[name] = buffer.detach().to(dtype if buffer.is_floating_point() else buffer.dtype, copy=True)
    handles = [layer.register_forward_hook(note, prepend=True, with_kwargs=True) for layer in names]
    try:
        with parametrize.cached():
            return functional_call(model, {**parameters, **buffers}, (x,)), calls
    finally:
        for handle in handles:
            handle.remove()


def standins(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters as tensors of their own: the network's gradients stay as they are."""
    parameters = {name: widened(p) for name, p in model.named_parameters()}
    return {name: p.requires_grad_(p.is_floating_point()) for name, p in parameters.items()}


def gradients(value: Tensor, at: list[Tensor]) -> list[Tensor]:
    """Return the gradients of `value`; zero where there is no path to it."""
    return list(torch.autograd.grad(value, at, retain_graph=True, allow_unused=True, materialize_grads=True))


def weight_gradients(value: Tensor, calls: Calls) -> dict[str, Tensor]:
    """Return the gradient of `value` in every layer's weight."""
    return dict(zip(calls, gradients(value, [found[0].weight for found in calls.values()]), strict=True))


class Network:
    """One network and its batches; every pass runs when it is first needed."""

    def __init__(self, model: nn.Module, inputs: Any, targets: Any, loss: Any, seed: int) -> None:
        self.model, self.loss, self.seed = model, loss, seed
        self.batches = listed(model, inputs, targets)
        self.images = len(self.batches[0][0])

    @cached_property
    def first(self) -> tuple[Any, Calls]:
        """Output and layers of the first batch."""
        return forward(self.model, standins(self.model), self.batches[0][0])

    @property
    def calls(self) -> Calls:
        """What the layers did on the first batch, in order of first execution."""
        if not self.first[1]:
            raise ValueError("no convolution or linear module ran: this formula needs at least one")
        return self.first[1]

    @cached_property
    def value(self) -> Tensor:
        """Loss of the first batch."""
        loss: Tensor = self.loss(self.first[0], self.batches[0][1])
        return loss

    @cached_property
    def slopes(self) -> list[dict[str, Tensor]]:
        """Gradient of the loss in every layer's weight, batch by batch."""
        found = [weight_gradients(self.value, self.calls)]
        for x, y in self.batches[1:]:
            output, calls = forward(self.model, standins(self.model), x)
            found.append(weight_gradients(self.loss(output, y), calls))
        return found

    def over_batches(self, name: str) -> Tensor:
        """Gradients of the loss in one layer's weight, the batches along the first axis."""
        zero = torch.zeros_like(self.calls[name][0].weight)
        return torch.stack([slope.get(name, zero) for slope in self.slopes])

    def spread_over_batches(self, name: str) -> Tensor:
        """The same, where one batch would say nothing."""
        if len(self.batches) < 2:
            raise ValueError("this formula needs at least two batches: pass lists of inputs and of targets")
        return self.over_batches(name)


def leaf_g_std(n: Network, layer: str) -> Tensor:
    """Return the standard deviation over the batches of the gradient."""
    return n.spread_over_batches(layer).std(0, correction=0)


@dataclass(frozen=True)
class Geometry:
    """The numbers of a layer that its weight and arguments fix."""

    c_in: int
    c_out: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    transposed: bool

    @staticmethod
    def of(layer: Layer) -> Geometry:
        """Return the geometry of a module."""
        if isinstance(layer, nn.Linear):
            return Geometry(layer.in_features, layer.out_features, 1, (), (), False)
        return Geometry(
            layer.in_channels,
            layer.out_channels,
            layer.groups,
            layer.kernel_size,
            layer.stride,
            layer.transposed,
        )

    @property
    def side(self) -> float:
        """Geometric mean of the kernel's sides; 1 for a linear layer."""
        return float(prod(self.kernel) ** (1 / max(1, len(self.kernel))))

    @property
    def step(self) -> float:
        """Geometric mean of the strides; 1 for a linear layer."""
        return float(prod(self.stride) ** (1 / max(1, len(self.stride))))


def leaf_kernel(n: Network, layer: str) -> float:
    """Return the geometric mean of the kernel's sides."""
    return Geometry.of(n.calls[layer][0].layer).side


def leaf_stride(n: Network, layer: str) -> float:
    """Return the geometric mean of the strides."""
    return Geometry.of(n.calls[layer][0].layer).step


def first_tensor(output: Any) -> Tensor | None:
    """Return what counts as the network's output."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        items = [output[key] for key in ("out", "logits") if key in output] + list(output.values())
    elif isinstance(output, list | tuple):
        items = list(output)
    else:
        items = list(getattr(output, "__dict__", {}).values())
    return next((found for item in items if (found := first_tensor(item)) is not None), None)


def spread(gradient: Tensor) -> float:
    """Return which share of the positions |gradient| fills, mean over images; 0 where it is zero."""
    sizes = gradient.abs().sum(1).flatten(1).double()
    total, squares = sizes.sum(1).square(), sizes.square().sum(1)
    return float((total / torch.where(squares == 0, 1.0, squares)).mean()) / sizes.shape[1]


def leaf_receptive(n: Network) -> float:
    """Return the share of a picture that the centre of the output depends on."""
    x = n.batches[0][0].clone()
    if not x.is_floating_point() or x.dim() != 4:
        return math.nan
    output = first_tensor(forward(n.model, standins(n.model), x.requires_grad_())[0])
    if output is None or output.dim() != 4:
        return math.nan
    (gradient,) = gradients(output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum(), [x])
    return spread(gradient)


@contextmanager
def examined(model: nn.Module, seed: int) -> Iterator[None]:
    """Train mode and random numbers from `seed` inside; modes and torch's generators as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    device = first_parameter(model).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        model.train()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def stored(value: Tensor | float) -> Tensor:
    """Return values as tables keep them, in float32, made ready for sums in float64."""
    kept = torch.as_tensor(value).detach().to("cpu", torch.float32).double()
    return kept.flatten() if isinstance(value, Tensor) else kept
