"""The statistics of one network as a table of one row."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from proxygraph.leaves import STATISTICS
from proxygraph.stats.layerwise import log_det
from proxygraph.stats.passes import Passes
from proxygraph.stats.recorder import Record, Recorder
from proxygraph.stats.request import (
    DEFINITIONS,
    Batch,
    Loss,
    check_settings,
    checked_batches,
    digest,
    name_of,
    wanted_leaves,
)
from proxygraph.stats.subject import Subject, untouched
from proxygraph.table import StatTable

BACKBONE: Final = (
    r"(?i)^(?!(?:.*[._])?(?:decod\w*|dec\d*|heads?\d*|classifiers?|cls|aux\w*|logits?|pred\w*|outc|up\d+|upconv\d*)"
    r"(?:[._]|$))(?!(?:module\.)?fc\d*(?:\.|$))"
)
"""A layer belongs to the backbone unless a word of its module name (words end at dots and underscores) says
decoder, head, classifier, aux or the like, or the name begins with ``fc``."""


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
        Names from ``proxygraph.leaves.STATISTICS``. Default: all but those of the cost "second-order" and
        ``latency_ms``, without ``g_mean`` and ``g_std`` if there is only one batch.
    samples : int or None
        Entries kept of each layer's weight, and of its output, drawn without replacement; None keeps all.
    seed : int
        Of the samples, of the Gaussian images of ``zen``, and of what the network itself draws.
    backbone : str
        Regular expression, searched in module names: ``backbone`` is 1 where it matches, and the blocks of
        ``expressivity``, ``progressivity`` and ``trainability`` are the modules that match.
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
    Where the network returns more than one tensor, ``gv``, ``gs``, ``live``, ``jacov``, ``zen``,
    ``receptive`` and ``ntk_cond`` take what
    `proxygraph.stats.subject.first_tensor` says.
    """
    listed = checked_batches(row, batches)
    wanted = wanted_leaves(leaves, len(listed))
    check_settings(samples, backbone)
    with torch.inference_mode(False):
        subject = Subject.of(row, model, device)
        recorder = Recorder(subject, wanted, samples, seed, len(listed[0][0]))
        with untouched(subject, seed):
            elements, rows = Passes(recorder, listed, loss, backbone).run()
    return _table(recorder, _by_leaf(recorder, elements), rows, _header(recorder, listed, loss, backbone))


def _header(recorder: Recorder, batches: list[Batch], loss: Loss, backbone: str) -> dict[str, Any]:
    """Return what was measured, how, and with what."""
    return {
        "definitions": DEFINITIONS,
        "seed": recorder.seed,
        "samples": recorder.samples,
        "batches": [list(inputs.shape) for inputs, _ in batches],
        "batch_digest": digest(batches),
        "loss": name_of(loss),
        "backbone": backbone,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "layers": {recorder.subject.row: [record.name for record in recorder.layers]},
    }


def _by_leaf(recorder: Recorder, elements: Mapping[str, Mapping[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Return the samples of every leaf that has any, layer by layer."""
    layers = recorder.layers
    sampled = {name: [values[r.name] for r in layers] for name, values in elements.items() if values}
    sampled["w"] = [record.w for record in layers]
    if recorder.wanted & {"a", "da"}:
        sampled["a"], sampled["da"] = map(list, zip(*map(recorder.paired, layers), strict=True))
    return sampled


def _table(
    recorder: Recorder,
    sampled: Mapping[str, list[Tensor]],
    rows: Mapping[str, float],
    header: Mapping[str, Any],
) -> StatTable:
    """Return the table of one network, its columns in the order of the leaf table."""
    layers = recorder.layers
    columns: dict[str, NDArray[Any]] = {}
    offsets: dict[str, NDArray[Any]] = {"layer": np.asarray([0, len(layers)])}
    counts: dict[str, NDArray[Any]] = {}
    for name in (name for name in STATISTICS if name in recorder.wanted):
        axis = STATISTICS[name].axis
        if axis == "row":
            columns[name] = np.asarray([rows[name]], dtype=np.float64)
        elif axis == "layer":
            values = [_of_layer(name, record, len(layers), header["backbone"]) for record in layers]
            columns[name] = _narrowed(np.asarray(values))
        else:
            whole = torch.cat(sampled[name]).cpu().numpy()
            columns[name] = whole.astype(np.float64) if name == "gs" else _narrowed(whole)
            offsets[axis] = np.concatenate([[0], np.cumsum([len(each) for each in sampled[name]])])
            sizes = [r.numel if axis == "element" else sum(r.sizes) for r in layers]
            counts[axis] = np.asarray(sizes, dtype=np.float64)
    leaves = {name: STATISTICS[name] for name in columns}
    return StatTable((recorder.subject.row,), columns, leaves, offsets, counts, header)


def _of_layer(name: str, record: Record, n_layers: int, backbone: str) -> float:
    """Return one layer leaf of one layer."""
    geometry = record.geometry
    match name:
        case "fan_in" | "c_in" | "c_out":
            return float(getattr(geometry, name))
        case "kernel":
            return geometry.side
        case "stride":
            return geometry.step
        case "depth":
            return record.index / max(1, n_layers - 1)
        case "backbone":
            return float(re.search(backbone, record.name) is not None)
        case "nwot":  # one more on the diagonal: a layer of equal codes has a value, not -inf
            return math.nan if record.kernel is None else log_det(record.kernel, ridge=1.0)
        case _:
            return record.own[name] if name in record.own else float(getattr(record, name))


def _narrowed(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 is inf: an invalid number is data
        return array.astype(np.float32)
