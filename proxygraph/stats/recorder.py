"""What the layers do while a network runs: their order, samples of their values, their gradients.

A `Recorder` hooks the layers for one forward pass at a time. It keeps samples, never a whole activation,
except for the Fisher score, which needs output and gradient together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from proxygraph.errors import ConfigError
from proxygraph.stats import layerwise
from proxygraph.stats.layers import LAYERS, Geometry, Layer, SampledGradient, channels_first, is_plain
from proxygraph.stats.sampling import merged, prefix
from proxygraph.stats.subject import Subject, first_tensor

LARGE: Final = 64
"""A weight with so many times more entries than samples gets no full gradient, only that of the samples."""
_ELEMENTS, _CALL, _CALLS, _RANK, _EIGENVALUE, _FILTERS = range(6)  # what a random key is for


@dataclass
class Call:
    """One execution of a layer on the first batch."""

    places: Tensor
    a: Tensor
    da: Tensor
    output: Tensor | None = None  # kept only until its gradient has come


@dataclass
class Record:
    """What is known of one layer."""

    index: int
    name: str
    module: Layer
    geometry: Geometry
    numel: int
    elements: Tensor
    w: Tensor
    w_logdet: float
    sampled_gradient: SampledGradient | None
    weights: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    hw: float = 0.0
    macs: float = 0.0
    kernel: Tensor | None = None
    eff_rank: float = 0.0
    min_eig: float = 0.0
    fisher: float = 0.0
    live: float = 0.0
    own: dict[str, float] = field(default_factory=dict)


class Recorder:
    """Hooks on the layers of a network.

    Parameters
    ----------
    subject : Subject
        The network.
    wanted : frozenset of str
        Names of leaves: what is not asked for is not computed.
    samples : int or None
        Samples per layer; None keeps all.
    seed : int
        Of the samples.
    images : int
        Size of the first batch.
    """

    def __init__(
        self, subject: Subject, wanted: frozenset[str], samples: int | None, seed: int, images: int
    ) -> None:
        self.subject, self.wanted = subject, wanted
        self.samples, self.seed, self.images = samples, seed, images
        self.records: dict[str, Record] = {}
        # Outputs that depend on nothing differentiable (of a convolution of zeros) are hung on this, so that
        # the gradient with respect to them exists.
        self.anchor = torch.zeros((), dtype=subject.dtype, device=subject.device, requires_grad=True)
        self.names = {m: name for name, m in subject.model.named_modules() if isinstance(m, LAYERS)}
        known = {id(p): name for name, p in subject.model.named_parameters()}  # of tied ones, one name
        self._parameters = {layer: [known[id(p)] for p in layer.parameters()] for layer in self.names}
        self.plain = _plain(self.names, subject.model)
        self.large = frozenset(
            layer for layer in self.plain if samples is not None and layer.weight.numel() >= LARGE * samples
        )
        self._sums: dict[str, Tensor] = {}
        self._pairing = False

    @property
    def layers(self) -> list[Record]:
        """The layers that ran, in the order of their first execution."""
        return list(self.records.values())

    def parameters(self, *, every: bool = False) -> dict[str, Tensor]:
        """Return the subject's parameters; those whose full gradient is needed require it.

        Parameters
        ----------
        every : bool
            Whether also the weights of large layers are needed whole.
        """
        parameters = {name: p.detach() for name, p in self.subject.parameters.items()}
        self.require_gradients(parameters, [m for m in self.names if every or m not in self.large])
        return parameters

    def require_gradients(self, parameters: dict[str, Tensor], layers: Iterable[Layer]) -> None:
        """Let the parameters of `layers` require gradients; what a weight is computed from, too."""
        for layer in layers:
            for name in self._parameters[layer]:
                if parameters[name].is_floating_point():
                    parameters[name].requires_grad_(True)

    @contextmanager
    def recording(self, *, first: bool, only: Iterable[Layer] | None = None) -> Iterator[None]:
        """Hook the layers for one forward pass.

        Parameters
        ----------
        first : bool
            The pass of the first batch: it makes the records and measures outputs. A later one is only
            followed for its gradients.
        only : iterable of Layer, optional
            The layers to hook; all without it.
        """
        for record in self.records.values():
            record.weights.clear()
        hook = partial(self._ran, first=first)
        # before the caller's own hooks: they may replace the output
        handles = [
            m.register_forward_hook(hook, prepend=True, with_kwargs=True)
            for m in (self.names if only is None else only)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _ran(
        self, module: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, *, first: bool
    ) -> Tensor | None:
        # our own arithmetic is none of the network's: ActivationCodes must neither see nor slow it
        with torch._C.DisableTorchFunction():
            return self._noted(module, args, kwargs, output, first)

    def _noted(
        self, module: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, first: bool
    ) -> Tensor | None:
        out = first_tensor(output)
        assert out is not None
        name = self.names[module]
        if name not in self.records:
            if not first:
                return None  # ran on a later batch only: no layer of the first one
            self.records[name] = self._record(name, module)
        record = self.records[name]
        if not any(weight is module.weight for weight in record.weights):
            record.weights.append(module.weight)
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        call = self._observe(record, x.detach(), out.detach()) if first else None
        if not torch.is_grad_enabled():
            return None
        replaced = not out.requires_grad and out is output
        if replaced:
            out = out + self.anchor.to(out.dtype)
        if out.requires_grad:
            # registered now, the hook sees the gradient of what the layer gave, whatever in-place does to it
            out.register_hook(partial(self._arrived, record, call, x.detach(), x._version))
        return out if replaced else None

    def _record(self, name: str, module: Layer) -> Record:
        index, weight = len(self.records), module.weight.detach()
        elements = self._prefix(index, _ELEMENTS, weight.numel())
        geometry = Geometry.of(module)
        w_logdet = 0.0
        if "w_logdet" in self.wanted:
            w_logdet = layerwise.filter_log_det(weight, geometry, [self.seed, index, _FILTERS])
        return Record(
            index=index,
            name=name,
            module=module,
            geometry=geometry,
            numel=weight.numel(),
            elements=elements,
            w=weight.reshape(-1)[elements],
            w_logdet=w_logdet,
            sampled_gradient=SampledGradient(module, elements) if module in self.large else None,
        )

    def _prefix(self, index: int, purpose: int, n: int, *more: int) -> Tensor:
        places = prefix([self.seed, index, purpose, *more], n, self.samples)
        return torch.from_numpy(places).to(self.subject.device)

    def _observe(self, record: Record, x: Tensor, out: Tensor) -> Call:
        """Measure what the output of one call tells."""
        with torch.no_grad():
            number, geometry = len(record.sizes), record.geometry
            record.sizes.append(out.numel())
            record.hw += out.numel() / geometry.c_out / self.images
            positions = x.numel() / geometry.c_in if geometry.transposed else out.numel() / geometry.c_out
            record.macs += record.numel * positions / self.images
            values = channels_first(out, record.module)
            if "nwot" in self.wanted and out.numel() % self.images == 0:
                kernel = layerwise.code_kernel((out > 0).reshape(self.images, -1))
                record.kernel = kernel if record.kernel is None else record.kernel + kernel
            if "eff_rank" in self.wanted and number == 0:
                record.eff_rank = layerwise.effective_rank(values, [self.seed, record.index, _RANK])
            if "min_eig" in self.wanted and number == 0:
                record.min_eig = layerwise.least_eigenvalue(values, [self.seed, record.index, _EIGENVALUE])
            places = torch.empty(0, dtype=torch.int64)
            if self.wanted & {"a", "da"}:
                places = self.places(record, out.numel(), number)
            a = out.reshape(-1)[places]
            call = Call(places, a, torch.zeros_like(a), values.clone() if "fisher" in self.wanted else None)
            record.calls.append(call)
        return call

    def _arrived(self, record: Record, call: Call | None, x: Tensor, version: int, gradient: Tensor) -> None:
        """Use the gradient with respect to the output of one call."""
        with torch.no_grad():
            if record.sampled_gradient is not None and record.name in self._sums:
                if x._version != version:
                    where = f"network {self.subject.row!r}: the input of layer {record.name!r}"
                    raise ConfigError(f"{where} is changed in place after use; nor could it be trained so")
                self._sums[record.name] += record.sampled_gradient(x, gradient)
            if self._pairing and call is not None:
                call.da = gradient.reshape(-1)[call.places]
                if call.output is not None:
                    channels = channels_first(gradient, record.module)
                    record.fisher += layerwise.fisher_information(call.output, channels)
                    call.output = None

    def gradient(
        self, scalar: Tensor, *, at: Tensor | None = None, keep: bool = False, pairing: bool = False
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the sampled weight gradients of `scalar`, and its gradient at the tensor `at`.

        Parameters
        ----------
        scalar : Tensor
            Computed by the pass that was recorded last.
        at : Tensor, optional
            The network's input.
        keep : bool
            Whether another gradient of the same pass follows.
        pairing : bool
            Whether this is the gradient that ``da`` and ``fisher`` mean.

        Returns
        -------
        gradients : dict of str to Tensor, shape (K,)
            By layer name; zero for a layer that does not reach `scalar`.
        at : Tensor or None
            Zero where `scalar` does not depend on it.
        """
        self._sums = {
            r.name: torch.zeros(len(r.elements), dtype=r.w.dtype, device=r.w.device) for r in self.layers
        }
        full = [(r, weight) for r in self.layers for weight in r.weights if weight.requires_grad]
        wanted = [weight for _, weight in full] + [self.anchor] + ([at] if at is not None else [])
        self._pairing = pairing
        try:
            found = self.subject.differentiate([scalar], wanted, keep=keep)
        finally:
            self._pairing = False
        for (record, _), gradient in zip(full, found, strict=False):
            if gradient is not None:
                self._sums[record.name] += gradient.reshape(-1)[record.elements]
        sums, self._sums = self._sums, {}
        if at is None:
            return sums, None
        return sums, torch.zeros_like(at) if found[-1] is None else found[-1]

    def places(self, record: Record, n: int, number: int) -> Tensor:
        """Return which of the `n` entries of a layer's output are kept, of one of its calls."""
        return self._prefix(record.index, _CALL, n, number)

    def joined(self, record: Record, parts: Sequence[Tensor]) -> Tensor:
        """Return a sample of the output of all calls together, in random order, of samples of each."""
        if len(parts) == 1:
            return parts[0]
        population, place = merged([self.seed, record.index, _CALLS], record.sizes, self.samples)
        starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])[:-1]
        return torch.cat(list(parts))[torch.from_numpy(starts[population] + place).to(self.subject.device)]

    def paired(self, record: Record) -> tuple[Tensor, Tensor]:
        """Return the samples of a layer's output and of its gradient, over all calls, in random order."""
        calls = record.calls
        return self.joined(record, [c.a for c in calls]), self.joined(record, [c.da for c in calls])


def _plain(names: Mapping[Layer, str], model: nn.Module) -> frozenset[Layer]:
    """Return the layers that are linear in a weight of their own."""
    held = [id(p) for module in model.modules() for p in module._parameters.values() if p is not None]
    shared = {identity for identity, holders in Counter(held).items() if holders > 1}
    return frozenset(layer for layer in names if is_plain(layer) and id(layer.weight) not in shared)
