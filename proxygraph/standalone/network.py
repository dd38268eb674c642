"""A network under examination: what its layers do, and the gradients of their weights and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from proxygraph.stats.blocks import backbone_blocks
from proxygraph.stats.layers import LAYERS, Layer
from proxygraph.stats.network import BACKBONE
from proxygraph.stats.rowwise import RECTIFIERS
from proxygraph.stats.subject import first_tensor

Batch = tuple[Tensor, Any]


@dataclass
class Call:
    """One execution of a layer."""

    layer: Layer
    weight: Tensor
    inputs: int
    output: Tensor


Calls = dict[str, list[Call]]


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

    @cached_property
    def pulls(self) -> dict[str, list[Tensor]]:
        """Gradient of the first batch's loss in the output of every call."""
        return output_gradients(self.value, self.calls)

    @cached_property
    def summed(self) -> dict[str, Tensor]:
        """Gradient of the summed output in every layer's weight."""
        return weight_gradients(sum_of(self.first[0]), self.calls)

    @cached_property
    def curved(self) -> dict[str, Tensor]:
        """Hessian of the first batch's loss times its gradient."""
        x, y = self.batches[0]
        output, calls = forward(self.model, standins(self.model), x)
        return hessian_gradient(self.loss(output, y), calls)

    @cached_property
    def flows(self) -> dict[str, Tensor]:
        """Synaptic flow through every layer's weight."""
        return synaptic_flow(self.model, self.batches[0][0])

    @cached_property
    def blocks(self) -> list[tuple[Tensor | None, Tensor]]:
        """Input and output of the backbone's blocks on the first batch, in the order they ran."""
        x = self.batches[0][0]
        # a block that takes the picture itself has a Jacobian, too
        return block_maps(self.model, x.clone().requires_grad_() if x.is_floating_point() else x)

    @cached_property
    def first_codes(self) -> list[Tensor]:
        """Binary codes of the first batch's images at every rectifier, shape (images, n)."""
        return rectifier_codes(self.model, self.batches[0][0])

    @cached_property
    def codes(self) -> list[Tensor]:
        """Binary codes of all batches' images at every rectifier, shape (images, n)."""
        later = [rectifier_codes(self.model, x) for x, _ in self.batches[1:]]
        return [torch.cat(parts) for parts in zip(self.first_codes, *later, strict=True)]


def first_parameter(model: nn.Module) -> Tensor:
    """Return the parameter that device and precision are taken from."""
    return next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor without its gradient; half precision becomes float32."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.detach().float() if half else tensor.detach()


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


def standins(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters as tensors of their own: the network's gradients stay as they are."""
    parameters = {name: widened(p) for name, p in model.named_parameters()}
    return {name: p.requires_grad_(p.is_floating_point()) for name, p in parameters.items()}


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


def sum_of(output: Any) -> Tensor:
    """Return the sum of the network's output."""
    found = first_tensor(output)
    if found is None:
        raise ValueError(f"no tensor in the network's output {type(output).__name__}")
    return found.sum()


def gradients(value: Tensor, at: list[Tensor]) -> list[Tensor]:
    """Return the gradients of `value`; zero where there is no path to it."""
    return list(torch.autograd.grad(value, at, retain_graph=True, allow_unused=True, materialize_grads=True))


def weight_gradients(value: Tensor, calls: Calls) -> dict[str, Tensor]:
    """Return the gradient of `value` in every layer's weight."""
    return dict(zip(calls, gradients(value, [found[0].weight for found in calls.values()]), strict=True))


def output_gradients(value: Tensor, calls: Calls) -> dict[str, list[Tensor]]:
    """Return the gradient of `value` in the output of every call."""
    outputs = [call.output for found in calls.values() for call in found]
    found = iter(gradients(value, outputs))
    return {name: [next(found) for _ in of_layer] for name, of_layer in calls.items()}


def hessian_gradient(value: Tensor, calls: Calls) -> dict[str, Tensor]:
    """Return the gradient of |g|^2 / 2, g the gradient of `value` in all layers' weights."""
    weights = [found[0].weight for found in calls.values()]
    slopes = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True)
    curved = [g for g in slopes if g is not None and g.requires_grad]
    if not curved:
        return {name: torch.zeros_like(weight) for name, weight in zip(calls, weights, strict=True)}
    directions = [g.detach() for g in curved]
    second = torch.autograd.grad(curved, weights, directions, allow_unused=True, materialize_grads=True)
    return dict(zip(calls, second, strict=True))


def synaptic_flow(model: nn.Module, like: Tensor) -> dict[str, Tensor]:
    """Return the weights' gradients of the summed output: |parameters|, ones as input, no normalisation."""
    parameters = {}
    for name, p in model.named_parameters():
        wide = p.detach().double().abs() if p.is_floating_point() else p.detach()
        parameters[name] = wide.requires_grad_(p.is_floating_point())
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    handles = [norm.register_forward_hook(lambda _, args, __: args[0]) for norm in norms]
    model.eval()
    try:
        ones = torch.ones_like(like[:1], dtype=torch.float64 if like.is_floating_point() else like.dtype)
        output, calls = forward(model, parameters, ones)
        return weight_gradients(sum_of(output), calls)
    finally:
        model.train()
        for handle in handles:
            handle.remove()


def block_maps(model: nn.Module, x: Tensor) -> list[tuple[Tensor | None, Tensor]]:
    """Return input (if it is one tensor) and output of each block; its first run counts."""
    inputs: dict[nn.Module, Tensor | None] = {}
    found: dict[nn.Module, tuple[Tensor | None, Tensor]] = {}

    def starts(block: nn.Module, args: tuple[Any, ...]) -> Any:
        kept = args[0].clone() if len(args) == 1 and isinstance(args[0], Tensor) else None
        inputs[block] = kept
        return None if kept is None else kept.clone()  # operations in place may follow

    def ends(block: nn.Module, _: Any, output: Any) -> Any:
        if block in found or not isinstance(output, Tensor) or output.dim() not in (2, 4):
            return None
        found[block] = inputs[block], output.clone()
        return found[block][1]

    handles = []
    for block in backbone_blocks(model, BACKBONE):
        handles.append(block.register_forward_pre_hook(starts))
        handles.append(block.register_forward_hook(ends, prepend=True))
    try:
        forward(model, standins(model), x)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def rectifier_codes(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return which inputs of each rectifier are positive, shape (images, n)."""
    mode = RectifierCodes(len(x))
    with torch.no_grad(), mode:
        forward(model, standins(model), x)
    return mode.codes


class RectifierCodes(TorchFunctionMode):
    """The signs of all rectifiers' inputs while a network runs."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images, self.codes = images, list[Tensor]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the codes of a rectifier's input, then run the function."""
        if func in RECTIFIERS:
            x = args[0] if args else (kwargs or {})["input"]
            if x.numel() and x.numel() % self.images == 0:
                self.codes.append((x.detach() > 0).reshape(self.images, -1))
        return func(*args, **(kwargs or {}))
