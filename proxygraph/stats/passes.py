"""The passes of one network over its batches, as few as the wanted leaves need."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from proxygraph.errors import ConfigError
from proxygraph.stats import gradients, rowwise
from proxygraph.stats.blocks import Blocks
from proxygraph.stats.own import Own
from proxygraph.stats.recorder import Recorder
from proxygraph.stats.request import Batch, Loss, moved, reason
from proxygraph.stats.subject import first_tensor

_LABELLED = frozenset({"g", "g_mean", "g_std", "da", "fisher"})
_OVER_BATCHES = frozenset({"g", "g_mean", "g_std"})
_SUMMED = frozenset({"gv", "jacov", "live"})
_AT_INPUT = frozenset({"jacov", "receptive", "trainability"})
_GRADED = _LABELLED | _SUMMED | _AT_INPUT
_CODED = frozenset({"nwot_total", "swap"})


class Passes:
    """Runs a network and gathers what comes out of it.

    Parameters
    ----------
    recorder : Recorder
        Hooks on the network's layers; the layers are known when the first batch has run.
    batches : list of (inputs, targets)
        At least one.
    loss : callable
        As for `proxygraph.stats.collect`.
    backbone : str
        Regular expression, searched in module names.
    """

    def __init__(self, recorder: Recorder, batches: list[Batch], loss: Loss, backbone: str) -> None:
        self.recorder, self.subject, self.wanted = recorder, recorder.subject, recorder.wanted
        self.batches, self.loss = batches, loss
        self.codes = rowwise.ActivationCodes(len(batches[0][0]), recorder.seed)
        self.blocks = Blocks(self.subject, self.wanted, recorder.seed, backbone)
        self.rows: dict[str, float] = {}

    def run(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
        """Return the sampled gradients, by leaf and layer name, and the row leaves."""
        self.subject.model.train()
        found = self._first()
        elements = {"gv": found.pop("gv", {})} | self._over_batches(found.pop("loss", {}))
        if "hg" in self.wanted:
            elements["hg"] = self._hessian_gradient()
        if "ntk_cond" in self.wanted:
            self.rows["ntk_cond"] = self._tangent_kernel()
        if "gs" in self.wanted:
            elements["gs"] = gradients.synaptic_flow(self.recorder, self.batches[0][0])
        own = Own(
            self.recorder, self.batches, self.loss, lambda output: self._loss(output, self.batches[0][1], 0)
        )
        if own.leaves:
            elements |= own.on_layers(self._total)
            self.rows |= own.of_network()
        return elements, self.rows | self._counted()

    def _first(self) -> dict[str, dict[str, Tensor]]:
        """Run the first batch: one forward pass, and from it the gradients of loss and summed output."""
        inputs, targets = self.batches[0]
        labelled, summed = bool(self.wanted & _LABELLED), bool(self.wanted & _SUMMED)
        x = self.subject.to_input(inputs)
        at = x.requires_grad_(True) if self.wanted & _AT_INPUT and x.is_floating_point() else None
        found: dict[str, dict[str, Tensor]] = {}
        jacobian = None
        with torch.set_grad_enabled(bool(self.wanted & _GRADED)), self._standing_in():
            with self.blocks.recording():
                output = self._output(x, first=True, coded=bool(self.wanted & _CODED))
            if not self.recorder.records:
                nothing = f"network {self.subject.row!r}: no convolution or linear module ran"
                raise ConfigError(f"{nothing}; at least one is needed (calls such as F.conv2d are not seen)")
            self.rows |= self.blocks.rows()
            if "receptive" in self.wanted:
                self.rows["receptive"] = rowwise.receptive_share(self.subject, output, at)
            if labelled:
                value = self._loss(output, targets, 0)
                found["loss"], _ = self.recorder.gradient(value, at=at, keep=summed, pairing=True)
            if summed:
                found["gv"], jacobian = self.recorder.gradient(self._total(output), at=at)
                for record in self.recorder.layers:
                    record.live = float(bool((found["gv"][record.name] != 0).any()))
        if "jacov" in self.wanted:
            self.rows["jacov"] = math.nan if jacobian is None else rowwise.jacobian_score(jacobian)
        return found

    def _over_batches(self, first: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Run the other batches, as far as needed, and return the statistics over all of them."""
        graded, coded = bool(self.wanted & _OVER_BATCHES), "swap" in self.wanted
        found = [first]
        for number, (inputs, targets) in enumerate(self.batches[1:], start=1):
            if not graded and not coded:
                break
            self.codes.next_batch(len(inputs))
            with torch.set_grad_enabled(graded), self._standing_in():
                output = self._output(self.subject.to_input(inputs), first=False, coded=coded)
                if graded:
                    found.append(self.recorder.gradient(self._loss(output, targets, number))[0])
        if not graded:
            return {}
        stacks = {r.name: torch.stack([each[r.name] for each in found]) for r in self.recorder.layers}
        return {
            "g": {name: stack.mean(0) for name, stack in stacks.items()},
            "g_mean": {name: stack.abs().mean(0) for name, stack in stacks.items()},
            "g_std": {name: stack.std(0, correction=0) for name, stack in stacks.items()},
        }

    def _hessian_gradient(self) -> dict[str, Tensor]:
        """Run the first batch once more, twice differentiable."""
        inputs, targets = self.batches[0]
        with self._standing_in(every=True):
            output = self._output(self.subject.to_input(inputs), first=False, coded=False)
            return gradients.hessian_gradient(self.recorder, self._loss(output, targets, 0))

    def _tangent_kernel(self) -> float:
        """Run some images of the first batch and return the condition number of their tangent kernel."""
        images = self.batches[0][0][: rowwise.NTK_IMAGES]
        with self._standing_in():
            output = first_tensor(self._output(self.subject.to_input(images), first=False, coded=False))
            if output is None or output.dim() == 0 or len(output) != len(images):
                return math.nan
            zero = self.recorder.anchor.to(output.dtype)
            slopes = [self.recorder.gradient(each.sum() + zero, keep=True)[0] for each in output]
        kernel = torch.zeros((len(images), len(images)), dtype=torch.float64)
        for record in self.recorder.layers:
            rows = torch.stack([slope[record.name] for slope in slopes]).double()
            kernel += (rows @ rows.T).cpu() * (record.numel / len(record.elements))
        return rowwise.condition_number(kernel)

    def _standing_in(self, *, every: bool = False) -> AbstractContextManager[None]:
        return self.subject.standing_in(self.recorder.parameters(every=every))

    def _output(self, x: Tensor, *, first: bool, coded: bool) -> Any:
        """Run the network once, hooked."""
        with self.recorder.recording(first=first), self.codes if coded else nullcontext():
            return self.subject.run(x)

    def _loss(self, output: Any, targets: Any, number: int) -> Tensor:
        """Return the loss of one batch, checked."""
        where = f"network {self.subject.row!r}, batch {number}: the loss"
        try:
            value = self.loss(output, moved(targets, self.subject.device))
        except Exception as error:  # whatever the caller's loss raises
            raise ConfigError(f"{where} failed: {reason(error)}; do output and targets fit?") from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = (
                f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            )
            raise ConfigError(f"{where} is {shape}, expected one number in a tensor; take its mean or sum")
        if not torch.isfinite(value).all():
            raise ConfigError(f"{where} is {value.item()}: check inputs, targets and initialisation")
        if not value.requires_grad:
            raise ConfigError(f"{where} is not differentiable in the weights (detach, argmax, no_grad?)")
        return value.reshape(())

    def _total(self, output: Any) -> Tensor:
        """Return the sum of the network's output."""
        tensor = first_tensor(output)
        if tensor is None:
            kind = type(output).__name__
            raise ConfigError(
                f"network {self.subject.row!r}: no tensor in its output, a {kind}; leave gv out"
            )
        return tensor.sum() + self.recorder.anchor.to(tensor.dtype)  # differentiable, also where nothing is

    def _counted(self) -> dict[str, float]:
        """Return the wanted row leaves that no gradient is needed for."""
        layers = self.recorder.layers
        make: dict[str, Callable[[], float]] = {
            "params": lambda: sum(p.numel() for p in self.subject.model.parameters()),
            "macs_total": lambda: sum(record.macs for record in layers),
            "n_layers": lambda: len(layers),
            "nwot_total": self.codes.log_det,
            "swap": self.codes.distinct,
            "zen": lambda: rowwise.zen_score(self.subject, self.batches[0][0], self.recorder.seed),
        }
        return {name: value() for name, value in make.items() if name in self.wanted}
