"""The statistics of one network: which passes the wanted leaves need, and the table of their results."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from proxygraph.errors import ConfigError, UnknownName
from proxygraph.leaves import STATISTICS
from proxygraph.stats import gradients, layerwise, rowwise
from proxygraph.stats.recorder import Record, Recorder
from proxygraph.stats.subject import Subject, first_tensor, untouched
from proxygraph.table import StatTable

DEFINITIONS: Final = 1
"""Version of what the leaves mean; stored with every table, so that a cache is not reused across a change."""

BACKBONE: Final = (
    r"(?i)^(?!(?:.*[._])?(?:decod\w*|dec\d*|heads?\d*|classifiers?|cls|aux\w*|logits?|pred\w*|outc|up\d+|upconv\d*)"
    r"(?:[._]|$))(?!(?:module\.)?fc\d*(?:\.|$))"
)
"""A layer belongs to the backbone unless a word of its module name (words end at dots and underscores) says
decoder, head, classifier, aux or the like, or the name begins with ``fc``."""

Batch = tuple[Tensor, Any]
Loss = Callable[[Any, Any], Tensor]

_LABELLED = frozenset({"g", "g_mean", "g_std", "da", "fisher"})
_OVER_BATCHES = frozenset({"g", "g_mean", "g_std"})
_TWO_BATCHES = frozenset({"g_mean", "g_std"})
_ACTIVATIONS = frozenset({"a", "da"})


def collect(
    model: nn.Module,
    batches: Sequence[Batch] | Batch,
    loss: Loss,
    *,
    row: str = "model",
    leaves: Collection[str] | None = None,
    samples: int | None = 512,
    seed: int = 0,
    backbone: str = BACKBONE,
    device: torch.device | str | None = None,
) -> StatTable:
    """Return the statistics of one network as a table of one row.

    A layer is a convolution or linear module that runs on the first batch, in the order of first execution;
    a module that runs several times is one layer. Layers that do not reach the loss have gradient zero.
    Everything is measured in train mode (synaptic flow: eval mode), `a`, `da` and all layer and row leaves on
    the first batch, `g`, `g_mean` and `g_std` on all batches, `swap` on the images of all batches.

    The network is left as it was: weights, gradients, flags, buffers, modes, hooks and the global random
    states. Results depend on `seed`, the network and the batches; torch's sums, in the last bits, also on the
    number of its threads.

    Parameters
    ----------
    model : nn.Module
        Any network that takes one tensor. Half-precision weights are examined in float32.
    batches : (inputs, targets) or sequence of them
        ``g_mean`` and ``g_std`` need at least two. Images come first in `inputs`.
    loss : callable
        ``loss(output, targets)`` gives a scalar. It gets the output as the network returns it.
    row : str
        Id of the network, in the table and in messages.
    leaves : collection of str, optional
        Names from ``proxygraph.leaves.STATISTICS``. Default: all that need no second-order gradient and no
        stopwatch, without ``g_mean`` and ``g_std`` if there is only one batch.
    samples : int or None
        Entries kept of each layer's weight, and of its output, drawn without replacement; None keeps all.
    seed : int
        Of the samples, of the Gaussian images of ``zen``, and of what the network itself draws.
    backbone : str
        Regular expression, searched in module names: ``backbone`` is 1 where it matches.
    device : torch.device or str, optional
        Where to compute, if not where the parameters are.

    Returns
    -------
    StatTable
        Its header names the layers, the batches' digest and the versions. ``gs`` is float64 (it passes
        1e38), as are the row leaves; all else is float32.

    Raises
    ------
    ConfigError
        If the network has no convolution or linear layer, its forward pass fails, or the loss is no finite,
        differentiable scalar; the message names the network.
    UnknownName
        If a leaf does not exist.

    Notes
    -----
    Where the network returns more than one tensor, ``gv``, ``gs``, ``jacov`` and ``zen`` take what
    `proxygraph.stats.subject.first_tensor` says.
    """
    return _Collection(row, _batches(row, batches), loss, leaves, samples, seed, backbone).of(model, device)


@dataclass(frozen=True)
class _Collection:
    """One call of `collect`, its arguments checked."""

    row: str
    batches: list[Batch]
    loss: Loss
    leaves: Collection[str] | None
    samples: int | None
    seed: int
    backbone: str

    def of(self, model: nn.Module, device: torch.device | str | None) -> StatTable:
        """Run the passes and assemble the table."""
        wanted = wanted_leaves(self.leaves, len(self.batches))
        if self.samples is not None and self.samples < 1:
            raise ConfigError(f"samples = {self.samples}: expected at least 1, or None for all")
        subject = Subject.of(self.row, model, device)
        images = len(self.batches[0][0])
        recorder = Recorder(subject, wanted, self.samples, self.seed, images)
        codes = rowwise.ActivationCodes(images, self.seed)
        with untouched(subject, self.seed):
            subject.model.train()
            found = self._first_batch(recorder, codes, wanted)
            found |= self._other_batches(recorder, codes, wanted, found.pop("first", {}))
            if "hg" in wanted:
                found["hg"] = self._hessian(recorder)
            if "gs" in wanted:
                found["gs"] = gradients.synaptic_flow(recorder, self.batches[0][0])
            rows = self._rows(subject, recorder, codes, wanted, found)
        return self._table(recorder, wanted, found, rows)

    def _first_batch(
        self, recorder: Recorder, codes: rowwise.ActivationCodes, wanted: frozenset[str]
    ) -> dict[str, Any]:
        """Run the first batch: layers, outputs, and the gradients of loss and summed output."""
        inputs, targets = self.batches[0]
        labelled, summed = bool(wanted & _LABELLED), bool(wanted & {"gv", "jacov"})
        x = recorder.subject.to_input(inputs)
        at = x.requires_grad_(True) if "jacov" in wanted and x.is_floating_point() else None
        found: dict[str, Any] = {}
        with torch.set_grad_enabled(labelled or summed):
            output = self._run(recorder, codes, wanted, x, first=True)
            if labelled:
                value = self._loss(recorder.subject, output, targets, 0)
                found["first"], _ = recorder.gradient(value, keep=summed, pairing=True)
        if summed:
            total = first_tensor(output)
            if total is None:
                raise ConfigError(
                    f"network {self.row!r}: no tensor in its output {type(output).__name__}; leave gv out"
                )
            if total.requires_grad:
                found["gv"], found["jacobian"] = recorder.gradient(total.sum(), at=at)
            else:
                found["gv"] = {r.name: torch.zeros_like(r.w) for r in recorder.layers}
        return found

    def _other_batches(
        self,
        recorder: Recorder,
        codes: rowwise.ActivationCodes,
        wanted: frozenset[str],
        first: Mapping[str, Tensor],
    ) -> dict[str, Any]:
        """Run the other batches, as far as needed, and return the statistics over all of them."""
        over_batches, pattern = bool(wanted & _OVER_BATCHES), "swap" in wanted
        found = [first]
        for number, (inputs, targets) in enumerate(self.batches[1:], start=1):
            if not over_batches and not pattern:
                break
            codes.next_batch(len(inputs))
            with torch.set_grad_enabled(over_batches):
                x = recorder.subject.to_input(inputs)
                output = self._run(recorder, codes, wanted - {"nwot_total"}, x, first=False)
                if over_batches:
                    value = self._loss(recorder.subject, output, targets, number)
                    found.append(recorder.gradient(value)[0])
        if not over_batches:
            return {}
        stacks = {r.name: torch.stack([gradient[r.name] for gradient in found]) for r in recorder.layers}
        return {
            "g": {name: stack.mean(0) for name, stack in stacks.items()},
            "g_mean": {name: stack.abs().mean(0) for name, stack in stacks.items()},
            "g_std": {name: stack.std(0, correction=0) for name, stack in stacks.items()},
        }

    def _run(
        self,
        recorder: Recorder,
        codes: rowwise.ActivationCodes,
        wanted: frozenset[str],
        x: Tensor,
        *,
        first: bool,
    ) -> Any:
        subject = recorder.subject
        parameters = recorder.parameters() if torch.is_grad_enabled() else subject.parameters
        with recorder.recording(first=first):
            if wanted & {"nwot_total", "swap"}:
                with codes:
                    output = subject.run(x, parameters)
            else:
                output = subject.run(x, parameters)
        if not recorder.records:
            raise ConfigError(
                f"network {self.row!r}: no convolution or linear module ran; statistics need at least one "
                "(functional calls such as F.conv2d are not seen)"
            )
        return output

    def _hessian(self, recorder: Recorder) -> dict[str, Tensor]:
        inputs, targets = self.batches[0]
        x = recorder.subject.to_input(inputs)
        with recorder.recording(first=False):
            output = recorder.subject.run(x, recorder.parameters(every=True))
        return gradients.hessian_gradient(recorder, self._loss(recorder.subject, output, targets, 0))

    def _loss(self, subject: Subject, output: Any, targets: Any, number: int) -> Tensor:
        """Return the loss of one batch, checked."""
        where = f"network {self.row!r}, batch {number}: the loss"
        try:
            value = self.loss(output, _moved(targets, subject.device))
        except Exception as error:  # whatever the caller's loss raises
            reason = next(iter(str(error).splitlines()), "")
            raise ConfigError(
                f"{where} failed: {type(error).__name__}: {reason}; do output and targets fit?"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{where} is {shape}, expected one number in a tensor; take its mean or sum")
        if not torch.isfinite(value).all():
            raise ConfigError(f"{where} is {value.item()}: check inputs, targets and initialisation")
        if not value.requires_grad:
            raise ConfigError(
                f"{where} does not depend on the weights by differentiable operations (detach? argmax?)"
            )
        return value.reshape(())

    def _rows(
        self,
        subject: Subject,
        recorder: Recorder,
        codes: rowwise.ActivationCodes,
        wanted: frozenset[str],
        found: Mapping[str, Any],
    ) -> dict[str, float]:
        """Return the wanted row leaves."""
        jacobian = found.get("jacobian")
        make: dict[str, Callable[[], float]] = {
            "params": lambda: float(sum(p.numel() for p in subject.model.parameters())),
            "macs_total": lambda: float(sum(record.macs for record in recorder.layers)),
            "n_layers": lambda: float(len(recorder.layers)),
            "jacov": lambda: float("nan") if jacobian is None else rowwise.jacobian_score(jacobian),
            "nwot_total": codes.log_det,
            "swap": lambda: float(codes.distinct()),
            "zen": lambda: rowwise.zen_score(subject, self.batches[0][0], self.seed),
        }
        return {name: value() for name, value in make.items() if name in wanted}

    def _table(
        self, recorder: Recorder, wanted: frozenset[str], found: Mapping[str, Any], rows: Mapping[str, float]
    ) -> StatTable:
        layers = recorder.layers
        columns, offsets, counts = dict[str, Any](), dict[str, Any](), dict[str, Any]()
        values: dict[str, list[Tensor]] = {"w": [record.w for record in layers]}
        values |= {name: [found[name][record.name] for record in layers] for name in found.keys() & wanted}
        if wanted & _ACTIVATIONS:
            pairs = [recorder.paired(record) for record in layers]
            values |= {"a": [a for a, _ in pairs], "da": [da for _, da in pairs]}
        for name in (name for name in STATISTICS if name in wanted):
            axis = STATISTICS[name].axis
            if axis in ("element", "activation"):
                arrays = [tensor.cpu().numpy() for tensor in values[name]]
                offsets[axis] = np.concatenate([[0], np.cumsum([len(array) for array in arrays])])
                sizes = [r.numel if axis == "element" else sum(r.sizes) for r in layers]
                counts[axis] = np.asarray(sizes, dtype=np.float64)
                dtype = np.float64 if name == "gs" else np.float32
                columns[name] = _narrowed(np.concatenate(arrays), dtype)
            elif axis == "layer":
                columns[name] = _narrowed(
                    np.asarray([self._of_layer(name, r, len(layers)) for r in layers]), np.float32
                )
            else:
                columns[name] = np.asarray([rows[name]], dtype=np.float64)
        offsets["layer"] = np.asarray([0, len(layers)])
        used = {name: STATISTICS[name] for name in columns}
        return StatTable((self.row,), columns, used, offsets, counts, self._header(layers))

    def _of_layer(self, name: str, record: Record, n_layers: int) -> float:
        geometry = record.geometry
        if name == "nwot":  # one more on the diagonal: a layer of equal codes has a value, not -inf
            return float("nan") if record.kernel is None else layerwise.log_det(record.kernel, ridge=1.0)
        values = {
            "fan_in": geometry.fan_in,
            "c_in": geometry.c_in,
            "c_out": geometry.c_out,
            "kernel": geometry.side,
            "stride": geometry.step,
            "depth": record.index / max(1, n_layers - 1),
            "backbone": float(re.search(self.backbone, record.name) is not None),
        }
        return float(values[name] if name in values else getattr(record, name))

    def _header(self, layers: Sequence[Record]) -> dict[str, Any]:
        return {
            "definitions": DEFINITIONS,
            "seed": self.seed,
            "samples": self.samples,
            "batches": [list(inputs.shape) for inputs, _ in self.batches],
            "batch_digest": digest(self.batches),
            "loss": name_of(self.loss),
            "backbone": self.backbone,
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "layers": {self.row: [record.name for record in layers]},
        }


def wanted_leaves(leaves: Collection[str] | None, n_batches: int) -> frozenset[str]:
    """Return the names of the leaves to collect, checked.

    Parameters
    ----------
    leaves : collection of str or None
        None stands for all that need no second-order gradient and no stopwatch, and not more batches than
        there are.
    n_batches : int
        Number of batches.
    """
    if leaves is None:
        cheap = {name for name, leaf in STATISTICS.items() if leaf.cost != "second-order"} - {"latency_ms"}
        return frozenset(cheap - (_TWO_BATCHES if n_batches < 2 else frozenset()))
    if isinstance(leaves, str):
        raise ConfigError(f"leaves = {leaves!r}: expected a collection of names, such as [{leaves!r}]")
    for name in leaves:
        if name not in STATISTICS:
            raise UnknownName(f"unknown leaf {name!r}; known: {', '.join(STATISTICS)}")
    if "latency_ms" in leaves:
        raise ConfigError("leaf 'latency_ms' is measured on a device, not collected: add it as a column")
    short = sorted(_TWO_BATCHES & set(leaves)) if n_batches < 2 else []
    if short:
        raise ConfigError(
            f"leaves {', '.join(short)} need at least two batches, got {n_batches}: pass another one"
        )
    return frozenset(leaves)


def _batches(row: str, batches: Sequence[Batch] | Batch) -> list[Batch]:
    if isinstance(batches, tuple) and len(batches) == 2 and isinstance(batches[0], Tensor):
        batches = [batches]
    listed = list(batches)
    if not listed:
        raise ConfigError(f"network {row!r}: no batch; pass at least one (inputs, targets)")
    for number, batch in enumerate(listed):
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[0], Tensor):
            raise ConfigError(f"network {row!r}, batch {number}: expected (inputs, targets), inputs a tensor")
        if batch[0].dim() == 0 or len(batch[0]) == 0:
            raise ConfigError(
                f"network {row!r}, batch {number}: no images in inputs of shape {tuple(batch[0].shape)}"
            )
    return [(batch[0], batch[1]) for batch in listed]


def _narrowed(array: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # beyond float32 is inf: an invalid number is data
        return array.astype(dtype)


def _moved(targets: Any, device: torch.device) -> Any:
    """Return the targets, however nested, with their tensors on `device`."""
    if isinstance(targets, Tensor):
        return targets.clone().to(device) if targets.is_inference() else targets.to(device)
    if isinstance(targets, dict):
        return {key: _moved(value, device) for key, value in targets.items()}
    if isinstance(targets, list | tuple) and not hasattr(targets, "_fields"):
        return type(targets)(_moved(value, device) for value in targets)
    return targets


def digest(batches: Sequence[Batch]) -> str:
    """Return the sha256, in hex, of all tensors of the batches and of the text of what else they hold."""
    sha = hashlib.sha256()

    def feed(item: Any) -> None:
        if isinstance(item, Tensor):
            flat = item.detach().cpu().contiguous()
            sha.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
            sha.update(flat.reshape(-1).view(torch.uint8).numpy().data if flat.numel() else b"")
        elif isinstance(item, dict):
            for key in item:
                sha.update(str(key).encode())
                feed(item[key])
        elif isinstance(item, list | tuple):
            for part in item:
                feed(part)
        else:
            sha.update(repr(item).encode())

    feed([list(batch) for batch in batches])
    return sha.hexdigest()


def name_of(loss: Loss) -> str:
    """Return how a loss is named in headers and caches: the text of a module, the name of a function."""
    return repr(loss) if isinstance(loss, nn.Module) else getattr(loss, "__qualname__", type(loss).__name__)
