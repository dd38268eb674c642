"""Statistics of users: what their measures are shown of a network, and passes of their own to show it in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from proxygraph.errors import ConfigError
from proxygraph.leaves import MEASURES, STATISTICS, Leaf
from proxygraph.stats.layers import Layer
from proxygraph.stats.recorder import Record, Recorder
from proxygraph.stats.request import Batch, Loss, moved, reason
from proxygraph.stats.subject import first_tensor, reseed, same_attributes

_GRADED: Final = frozenset({"backward", "second-order"})


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer on the first batch, in train mode, as a measure sees it.

    Tensors are copies without history, each leaf's own: a measure may write over them.

    What the leaf's cost does not pay for is None: a "static" one is given the weight alone, a "forward" one
    input and output too, a "backward" one also gradients: of the loss where the leaf needs labels, else of
    the summed output of the network. Of a layer that runs several times the first run is shown; on the
    activation axis each in turn.

    Attributes
    ----------
    name : str
        Module name.
    module : nn.Module
        The convolution or linear module, for its numbers (stride, groups); it is the caller's own.
    weight, weight_grad : Tensor, Tensor or None
        Shape of the module's weight; the gradient sums over all runs.
    input, output, output_grad : Tensor or None
        Images first.
    """

    name: str
    module: Layer
    weight: Tensor
    input: Tensor | None = None
    output: Tensor | None = None
    weight_grad: Tensor | None = None
    output_grad: Tensor | None = None


@dataclass(frozen=True, eq=False)
class NetworkView:
    """A whole network as a measure on the row axis sees it.

    Attributes
    ----------
    model : nn.Module
        In train mode, holding copies of parameters and buffers: a measure may change them. Gradients are on
        where the leaf's cost is "backward" or "second-order".
    batches : list of (inputs, targets)
        Copies of all batches, on the network's device; targets are None unless the leaf needs labels.
    loss : callable or None
        None unless the leaf needs labels.
    """

    model: torch.nn.Module
    batches: list[Batch]
    loss: Loss | None


@dataclass(eq=False)
class _Run:
    """One execution of a layer in a pass with gradients."""

    layer: Layer
    weight: Tensor
    input: Tensor
    output: Tensor
    gradient: Tensor | None = None


class Own:
    """Measures the wanted statistics of users, in passes apart from those of the package's own.

    Parameters
    ----------
    recorder : Recorder
        Of the first batch: its layers and samples are used.
    batches : list of (inputs, targets)
    loss : callable
        As for `proxygraph.stats.collect`.
    checked_loss : callable
        The network's output on the first batch to its loss, refused if it is none.
    """

    def __init__(
        self, recorder: Recorder, batches: list[Batch], loss: Loss, checked_loss: Callable[[Any], Tensor]
    ) -> None:
        self.recorder, self.subject = recorder, recorder.subject
        self.batches, self.loss, self.checked_loss = batches, loss, checked_loss
        self.leaves = [STATISTICS[name] for name in MEASURES if name in recorder.wanted]
        self._found: dict[str, dict[str, list[Tensor]]] = {}

    def on_layers(self, total: Callable[[Any], Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return samples by leaf and layer name; numbers of layers go into their records."""
        finer = [leaf for leaf in self.leaves if leaf.axis != "row"]
        if plain := [leaf for leaf in finer if leaf.cost not in _GRADED]:
            self._forward(plain)
        for labels, scalar in ((True, self.checked_loss), (False, total)):
            if graded := [leaf for leaf in finer if leaf.cost in _GRADED and leaf.labels == labels]:
                self._backward(graded, scalar)
        return {
            leaf.name: {r.name: self._joined(leaf, r) for r in self.recorder.layers}
            for leaf in finer
            if leaf.axis != "layer"
        }

    def of_network(self) -> dict[str, float]:
        """Return the numbers of the whole network by leaf."""
        found = {}
        for leaf in (leaf for leaf in self.leaves if leaf.axis == "row"):
            graded, device = leaf.cost in _GRADED, self.subject.device
            copies = {
                name: p.detach().clone().requires_grad_(graded and p.is_floating_point())
                for name, p in self.subject.parameters.items()
            }
            shown = [
                (self.subject.to_input(x), moved(y, device, copy=True) if leaf.labels else None)
                for x, y in self.batches
            ]
            with ExitStack() as stack:
                stack.enter_context(torch.set_grad_enabled(graded))
                stack.enter_context(same_attributes(self.subject.modules))
                stack.enter_context(self.subject.standing_in(copies))
                self._begin()
                view = NetworkView(self.subject.model, shown, self.loss if leaf.labels else None)
                found[leaf.name] = self._number(leaf, self._measured(leaf, view, ""), "")
        return found

    def _begin(self) -> None:
        """Bring mode and random state to where the first pass had them: dropout draws the same."""
        self.subject.model.train()
        reseed(self.subject.device, self.recorder.seed)

    def _forward(self, leaves: list[Leaf]) -> None:
        """Show every layer as it runs: no more than one output and its copy are alive."""

        def ran(module: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            run = _Run(module, module.weight, _input(args, kwargs), _output(output))
            for leaf in leaves:
                paid = leaf.cost == "forward"
                self._keep(
                    leaf, run, None, input=run.input if paid else None, output=run.output if paid else None
                )

        with torch.no_grad():
            self._pass(ran, {name: p.detach() for name, p in self.subject.parameters.items()})

    def _backward(self, leaves: list[Leaf], scalar: Callable[[Any], Tensor]) -> None:
        """Show the layers after the gradient has come."""
        runs: list[_Run] = []

        def ran(module: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            out = _output(output)
            # cloned: an operation in place may follow
            run = _Run(module, module.weight, _input(args, kwargs).detach(), out.detach().clone())
            runs.append(run)
            if out.requires_grad:
                out.register_hook(partial(setattr, run, "gradient"))

        def differentiated(output: Any) -> None:
            weights = [run.weight for run in runs if run.weight.requires_grad]
            unique = list({id(weight): weight for weight in weights}.values())
            found = self.subject.differentiate([scalar(output)], [*unique, self.recorder.anchor])
            slopes = {id(weight): slope for weight, slope in zip(unique, found, strict=False)}
            for run in runs:
                slope = slopes.get(id(run.weight))
                for leaf in leaves:
                    self._keep(
                        leaf,
                        run,
                        torch.zeros_like(run.weight) if slope is None else slope,
                        input=run.input,
                        output=run.output,
                        output_grad=torch.zeros_like(run.output) if run.gradient is None else run.gradient,
                    )

        self._pass(ran, self.recorder.parameters(every=True), differentiated)

    def _pass(
        self,
        hook: Callable[..., None],
        parameters: dict[str, Tensor],
        then: Callable[[Any], None] = lambda output: None,
    ) -> None:
        """Run the first batch with a hook on every layer that the recorder knows."""
        known = self.recorder.records
        layers = [layer for layer, name in self.recorder.names.items() if name in known]
        with self.subject.standing_in(parameters), ExitStack() as stack:
            for layer in layers:  # before the caller's own hooks: they may replace the output
                handle = layer.register_forward_hook(hook, prepend=True, with_kwargs=True)
                stack.callback(handle.remove)
            self._begin()
            then(self.subject.run(self.subject.to_input(self.batches[0][0])))

    def _keep(self, leaf: Leaf, run: _Run, slope: Tensor | None, **seen: Tensor | None) -> None:
        """Measure one run of a layer and keep what is kept of it."""
        name = self.recorder.names[run.layer]
        kept = self._found.setdefault(leaf.name, {}).setdefault(name, [])
        if kept and leaf.axis != "activation":
            return
        weight = run.weight.detach().clone()
        shown = {
            key: None if each is None else each.detach().clone()
            for key, each in (seen | {"weight_grad": slope}).items()
        }
        value = self._measured(leaf, LayerView(name, run.layer, weight, **shown), name)
        record = self.recorder.records[name]
        if leaf.axis == "layer":
            record.own[leaf.name] = self._number(leaf, value, name)
            kept.append(weight[:0])
            return
        like = run.weight if leaf.axis == "element" else run.output
        if not isinstance(value, Tensor) or value.shape != like.shape:
            raise self._refused(leaf, value, f"a tensor of shape {tuple(like.shape)}", name)
        element = leaf.axis == "element"
        places = record.elements if element else self.recorder.places(record, value.numel(), len(kept))
        kept.append(value.detach().reshape(-1)[places])

    def _joined(self, leaf: Leaf, record: Record) -> Tensor:
        parts = self._found[leaf.name][record.name]
        return parts[0] if leaf.axis == "element" else self.recorder.joined(record, parts)

    def _measured(self, leaf: Leaf, view: LayerView | NetworkView, layer: str) -> Any:
        try:
            return MEASURES[leaf.name](view)
        except Exception as error:  # whatever a user's measure raises
            raise ConfigError(f"{self._where(leaf, layer)} failed: {reason(error)}") from error

    def _number(self, leaf: Leaf, value: Any, layer: str) -> float:
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.detach().item()
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self._refused(leaf, value, "one number", layer) from None

    def _refused(self, leaf: Leaf, value: Any, wanted: str, layer: str) -> ConfigError:
        got = (
            f"one of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        )
        return ConfigError(f"{self._where(leaf, layer)}: expected {wanted}, got {got}")

    def _where(self, leaf: Leaf, layer: str) -> str:
        at = f", layer {layer!r}" if layer else ""
        return f"network {self.subject.row!r}{at}: the measure of leaf {leaf.name!r}"


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x: Tensor = args[0] if args else next(iter(kwargs.values()))
    return x


def _output(output: Any) -> Tensor:
    out = first_tensor(output)
    assert out is not None
    return out
