"""A network under examination: it runs on stand-ins of its parameters and is left as it was.

Holds the only code that touches the caller's module. In every pass the module holds detached parameters
and cloned buffers in place of its own, so weights, gradients, flags and running statistics of the caller are
never written; what a forward pass sets besides is put back.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from proxygraph.errors import ConfigError
from proxygraph.stats.request import reason

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Subject:
    """A module, and the stand-ins it runs on.

    Attributes
    ----------
    row : str
        Its id, for messages.
    model : nn.Module
        The caller's module.
    modules : tuple of nn.Module
        It and all its submodules: finding them anew takes as long as a small layer does.
    device, dtype
        Where and in what the passes run: half-precision weights are examined in float32.
    parameters : dict of str to Tensor
        Detached; they share the caller's memory unless device or dtype differ. Never written.
    slots : list of (dict, str, str)
        Where each parameter is held: the dict of its module, the key there, its name (tied ones have one).
    """

    row: str
    model: nn.Module
    modules: tuple[nn.Module, ...]
    device: torch.device
    dtype: torch.dtype
    parameters: dict[str, Tensor]
    slots: list[tuple[dict[str, Any], str, str]]

    @staticmethod
    def of(row: str, model: nn.Module, device: torch.device | str | None = None) -> Subject:
        """Return the subject of a module; `device` None means where its parameters are."""
        if not isinstance(model, nn.Module):
            raise ConfigError(f"network {row!r}: expected a torch.nn.Module, got {type(model).__name__}")
        model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped: hooks need the plain module
        named = dict(model.named_parameters())
        if lazy := [name for name, p in named.items() if is_lazy(p)]:
            raise ConfigError(f"network {row!r}: {lazy[0]!r} has no shape yet; run the network once before")
        where = torch.device(device) if device is not None else _first(named, torch.device("cpu"), "device")
        parameters = {name: _standin(p, where) for name, p in named.items()}
        names = {id(p): name for name, p in named.items()}
        modules = tuple(model.modules())
        held = [(m._parameters, key, p) for m in modules for key, p in m._parameters.items()]
        slots: list[tuple[dict[str, Any], str, str]] = [
            (g, key, names[id(p)]) for g, key, p in held if p is not None
        ]
        floating = {name: p for name, p in parameters.items() if p.is_floating_point()}
        dtype = _first(floating, torch.float32, "dtype")
        return Subject(row, model, modules, where, dtype, parameters, slots)

    @contextmanager
    def standing_in(
        self, parameters: Mapping[str, Tensor], dtype: torch.dtype | None = None
    ) -> Iterator[None]:
        """Let the module hold `parameters` and copies of its buffers, until the backward pass has ended."""
        groups = [module._buffers for module in self.modules]
        buffers = [(group, key, b) for group in groups for key, b in group.items() if b is not None]
        copies = {id(b): _standin(b, self.device, dtype).clone() for _, _, b in buffers}
        own = [(group, key, group[key]) for group, key, _ in self.slots]
        try:
            for group, key, name in self.slots:
                group[key] = parameters[name]
            for kept, key, buffer in buffers:
                kept[key] = copies[id(buffer)]
            with parametrize.cached():  # a parametrized weight: one tensor for all who ask
                yield
        finally:
            for group, key, tensor in [*own, *buffers]:
                group[key] = tensor

    def run(self, inputs: Tensor) -> Any:
        """Return the output for `inputs`; inside `standing_in`."""
        try:
            return self.model(inputs)
        except ConfigError:
            raise
        except Exception as error:  # whatever the caller's network raises
            mode = "train" if self.model.training else "eval"
            what = f"network {self.row!r}: its forward pass in {mode} mode on {tuple(inputs.shape)} failed"
            raise ConfigError(f"{what}: {reason(error)}; give it batches it can be trained on") from error

    def differentiate(
        self,
        outputs: Sequence[Tensor] | Sequence[GradientEdge],
        inputs: Sequence[Tensor] | Sequence[GradientEdge],
        weights: Sequence[Tensor] | None = None,
        *,
        keep: bool = False,
        twice: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of the sum of `outputs`, each times its weights; None where there is none."""
        try:
            return torch.autograd.grad(
                outputs, inputs, weights, retain_graph=keep or twice, create_graph=twice, allow_unused=True
            )
        except ConfigError:
            raise
        except RuntimeError as error:
            order = "second backward pass" if twice or weights is not None else "backward pass"
            what = f"network {self.row!r}: its {order} failed: {reason(error)}"
            raise ConfigError(
                f"{what}; such a network cannot be trained, or not be differentiated twice"
            ) from error

    def to_input(self, inputs: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return a copy of `inputs` on the subject's device; floating point in the subject's dtype."""
        to = (dtype or self.dtype) if inputs.is_floating_point() else inputs.dtype
        return inputs.detach().to(device=self.device, dtype=to, copy=True)


def _first(named: Mapping[str, Tensor], default: Any, attribute: str) -> Any:
    return next((getattr(tensor, attribute) for tensor in named.values()), default)


def _standin(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    if tensor.is_inference():
        tensor = tensor.clone()  # autograd takes no tensor made in inference mode
    if not tensor.is_floating_point():
        return tensor.detach().to(device)
    return tensor.detach().to(device, dtype or (torch.float32 if tensor.dtype in _HALF else tensor.dtype))


@contextmanager
def untouched(subject: Subject, seed: int) -> Iterator[None]:
    """Put back, on leaving, whatever the passes changed in the module or in the random states.

    Inside, autograd is on, autocast off, and the global generators start from `seed`: what a network draws
    (dropout) is reproducible.
    """
    device = subject.device
    states = np.random.get_state(), random.getstate()  # noqa: NPY002 - the global one is what a network may use
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.enter_context(same_attributes(subject.modules))
        reseed(device, seed)
        try:
            yield
        finally:
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])


@contextmanager
def same_attributes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put back, on leaving, the attributes of modules: mode and forward, parameters and buffers."""
    attributes = [(module, dict(vars(module))) for module in modules]
    groups: list[dict[str, Any]] = [g for m, _ in attributes for g in (m._parameters, m._buffers)]
    members = [(group, dict(group)) for group in groups]
    try:
        yield
    finally:
        for module, saved in attributes:
            vars(module).clear()
            vars(module).update(saved)
        for group, content in members:
            group.clear()
            group.update(content)


def reseed(device: torch.device, seed: int) -> None:
    """Start the generators that a network's own random numbers come from."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def first_tensor(output: Any) -> Tensor | None:
    """Return what counts as the network's output.

    The tensor itself; of a tuple or list the first that holds a tensor; of a mapping the entry ``"out"`` or
    ``"logits"``, else the first that holds a tensor. Attributes count as a mapping (dataclasses).
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        items = [output[key] for key in ("out", "logits") if key in output] + list(output.values())
    elif isinstance(output, list | tuple):
        items = list(output)
    else:
        items = list(getattr(output, "__dict__", {}).values())
    return next((found for item in items if (found := first_tensor(item)) is not None), None)
