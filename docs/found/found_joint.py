"""Score of untrained networks, by a formula that proxygraph found."""

# proxy: found_joint
# source: proxygraph, docs/proxies.md: transnas101, streetscenes and camvid, best of three seeds on validation
# spearman on unseen transnas101: 0.604
# spearman on unseen streetscenes: 0.805
# spearman on unseen camvid: 0.389

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

FORMULA = (
    "mean(log(max(log(expressivity / std(fisher)), min(expressivity, eff_rank - expressivity)))"
    ")"
)


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
                "eff_rank": stored(leaf_eff_rank(n, name)),
                "fisher": stored(leaf_fisher(n, name)),
            }
            for name in n.calls
        ]
        network = {
            "expressivity": leaf_expressivity(n),
        }
    return layers, {name: torch.tensor(value, dtype=torch.float64) for name, value in network.items()}


def formula(layers: list[dict[str, Tensor]], network: dict[str, Tensor]) -> Tensor:
    """Return the value of the formula for one network."""
    expressivity = network["expressivity"]
    per_layer0 = []
    for layer in layers:
        fisher = layer["fisher"]
        per_layer0.append(fisher)
    t0 = torch.stack(per_layer0).std(correction=0)
    t1 = torch.log(expressivity / t0)
    per_layer1 = []
    for layer in layers:
        eff_rank = layer["eff_rank"]
        t2 = torch.minimum(expressivity, eff_rank - expressivity)
        per_layer1.append(torch.log(torch.maximum(t1, t2)))
    return torch.stack(per_layer1).mean()


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


def output_gradients(value: Tensor, calls: Calls) -> dict[str, list[Tensor]]:
    """Return the gradient of `value` in the output of every call."""
    outputs = [call.output for found in calls.values() for call in found]
    found = iter(gradients(value, outputs))
    return {name: [next(found) for _ in of_layer] for name, of_layer in calls.items()}


CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def backbone_blocks(model: nn.Module, backbone: str) -> dict[nn.Module, str]:
    """Return the blocks of a network with their names."""
    found: dict[nn.Module, str] = {}
    waiting = [(model, "")]
    while waiting:
        module, prefix = waiting.pop()
        for key, child in module.named_children():
            name = f"{prefix}.{key}" if prefix else key
            if not isinstance(module, CONTAINERS):
                waiting.append((child, name))
            elif next(child.children(), None) is not None and re.search(backbone, name):
                found.setdefault(child, name)
    return found


BACKBONE = (
    r"(?i)^(?!(?:.*[._])?(?:decod\w*|dec\d*|heads?\d*|classifiers?|cls|aux\w*|logits?|pred\w*|outc|up\d+|upconv\d*)"
    r"(?:[._]|$))(?!(?:module\.)?fc\d*(?:\.|$))"
)


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
    def pulls(self) -> dict[str, list[Tensor]]:
        """Gradient of the first batch's loss in the output of every call."""
        return output_gradients(self.value, self.calls)

    @cached_property
    def blocks(self) -> list[tuple[Tensor | None, Tensor]]:
        """Input and output of the backbone's blocks on the first batch, in the order they ran."""
        x = self.batches[0][0]
        # a block that takes the picture itself has a Jacobian, too
        return block_maps(self.model, x.clone().requires_grad_() if x.is_floating_point() else x)


RANK_SIDE = 256


class Stream:
    """The 32-bit numbers of numpy's ``default_rng(key)``: its seed sequence and PCG64 (O'Neill 2014)."""

    def __init__(self, key: Sequence[int]) -> None:
        words: list[int] = []
        for number in key:
            words.append(number % 2**32)
            while number := number >> 32:
                words.append(number % 2**32)
        self.constant = 0x43B0D7E5
        pool = [self.hashed(word) for word in [*words, 0, 0, 0, 0][:4]]
        for i in range(4):
            for j in range(4):
                if i != j:
                    pool[j] = self.mixed(pool[j], self.hashed(pool[i]))
        for word in words[4:]:
            pool = [self.mixed(value, self.hashed(word)) for value in pool]
        self.constant = 0x8B51F9DD
        half = [self.hashed(pool[i % 4], 0x58F38DED) for i in range(8)]
        a, b, c, d = (half[2 * i] | half[2 * i + 1] << 32 for i in range(4))
        self.increment = (c << 65 | d << 1 | 1) % 2**128
        self.state = (a << 64 | b) + self.increment
        self.step()
        self.left: int | None = None

    def hashed(self, value: int, multiplier: int = 0x931E8875) -> int:
        """Return a hash that depends on how many came before."""
        value ^= self.constant
        self.constant = self.constant * multiplier % 2**32
        value = value * self.constant % 2**32
        return value ^ value >> 16

    def mixed(self, x: int, y: int) -> int:
        """Return a hash of two numbers."""
        value = (x * 0xCA01F9DD - y * 0x4973F715) % 2**32
        return value ^ value >> 16

    def step(self) -> None:
        """Advance the generator."""
        self.state = (self.state * 0x2360ED051FC65DA44385DF649FCCF645 + self.increment) % 2**128

    def word(self) -> int:
        """Return the next 32 bits."""
        if self.left is not None:
            low, self.left = self.left, None
            return low
        self.step()
        x, turn = (self.state >> 64 ^ self.state) % 2**64, self.state >> 122
        x = (x >> turn | x << 64 - turn) % 2**64
        self.left = x >> 32
        return x % 2**32


def drawn(key: Sequence[int], n: int, k: int) -> list[int]:
    """Return the first `k` entries of the random permutation of 0..n-1 that `key` fixes, k at most 4096."""
    stream = Stream([*key, 0])
    if n <= 1 << 14:
        places = list(range(n))
        for i in range(n - 1, 0, -1):
            while (j := stream.word() % 2 ** i.bit_length()) > i:
                pass
            places[i], places[j] = places[j], places[i]
        return places[:k]
    found: dict[int, None] = {}
    while len(found) < k:
        product = stream.word() * n
        if product % 2**32 >= 2**32 % n:
            found[product >> 32] = None
    return list(found)


def effective_rank(values: Tensor, key: list[int]) -> float:
    """Return the effective rank of a map (images, channels, positions), with the search's sample of them."""
    x = values.transpose(0, 1).flatten(1)
    if min(x.shape) > RANK_SIDE:
        x = x[:, torch.tensor(drawn(key, x.shape[1], RANK_SIDE), device=x.device)]
    x = (x - x.mean(1, keepdim=True)).double()
    gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    total = gram.trace()
    if not bool(torch.isfinite(total)):
        return math.nan
    if total <= 0:
        return 0.0
    shares = torch.linalg.eigvalsh(gram / total).clamp_min(0)
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))


def channels_first(output: Tensor, layer: Layer) -> Tensor:
    """Return a layer's output as (images, channels, positions)."""
    if isinstance(layer, nn.Linear):
        return output.reshape(output.shape[0] if output.dim() > 1 else 1, -1, output.shape[-1]).transpose(
            1, 2
        )
    if output.dim() == len(layer.kernel_size) + 1:  # one image without a batch dimension
        output = output.unsqueeze(0)
    return output.flatten(2)


def first_output(n: Network, layer: str) -> Tensor:
    """Return what a layer gave when it first ran, shape (images, channels, positions)."""
    call: Call = n.calls[layer][0]
    return channels_first(call.output.detach(), call.layer)


def leaf_eff_rank(n: Network, layer: str) -> float:
    """Return exp of the entropy of the normalised eigenvalues of the channels' covariance."""
    return effective_rank(first_output(n, layer), [n.seed, list(n.calls).index(layer), 3])


def fisher_information(output: Tensor, gradient: Tensor) -> float:
    """Return the layer's Fisher score: half the squared pooled product, mean over images, sum over channels."""
    pooled = (output * gradient).sum(2).double()
    return float(0.5 * pooled.square().mean(0).sum())


def leaf_fisher(n: Network, layer: str) -> float:
    """Return the Fisher score."""
    total = 0.0
    for call, pull in zip(n.calls[layer], n.pulls[layer], strict=True):
        output = channels_first(call.output.detach(), call.layer)
        total += fisher_information(output, channels_first(pull, call.layer))
    return total


SPECTRUM = 104


def entropies(n: Network) -> list[float]:
    """Return the entropy of the spectrum of every block's map."""
    found = []
    for index, (_, output) in enumerate(n.blocks):
        rank = effective_rank(output.detach().reshape(*output.shape[:2], -1), [n.seed, index, SPECTRUM])
        found.append(math.log(max(1.0, rank)) if math.isfinite(rank) else math.nan)
    return found


def leaf_expressivity(n: Network) -> float:
    """Return the sum over the backbone's blocks of the entropy of their maps' spectrum."""
    return sum(entropies(n)) if n.blocks else math.nan


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
