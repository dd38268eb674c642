"""Two gradients that need a pass of their own: synaptic flow, and the Hessian-gradient product."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxygraph.stats.layers import Layer
from proxygraph.stats.recorder import Record, Recorder
from proxygraph.stats.subject import first_tensor, same_attributes

_WIDE = torch.float64


def synaptic_flow(recorder: Recorder, like: Tensor) -> dict[str, Tensor]:
    """Return the sampled weight gradients of the summed output of the network with absolute parameters.

    As zero-cost-nas computes SynFlow: one input of ones, every parameter (biases too) replaced by its
    absolute value, batch normalisation bypassed. Dropout is off.

    Parameters
    ----------
    recorder : Recorder
        Of the first batch: its layers and samples are used.
    like : Tensor
        The first batch, for shape and type of the input.

    Notes
    -----
    Values grow by the layer and pass 1e38 on ordinary networks (1e59 on TransNAS-Bench-101), so they are
    float64 throughout. Convolutions in float64 are slow, hence plain layers compute in their own precision
    on maps divided by their largest value: all terms are nonnegative, nothing cancels, and the result has
    the relative accuracy of float32.
    """
    subject = recorder.subject
    flows = {r.name: torch.zeros(len(r.elements), dtype=_WIDE, device=r.w.device) for r in recorder.layers}
    # plain layers take the absolute value of their weights themselves
    own = {f"{recorder.names[layer]}.weight" for layer in recorder.plain}
    parameters = {
        name: p.detach() if name in own or not p.is_floating_point() else p.detach().to(_WIDE).abs()
        for name, p in subject.parameters.items()
    }
    others = [layer for layer in recorder.names if layer not in recorder.plain]
    recorder.require_gradients(parameters, others)
    with same_attributes(subject.modules), subject.standing_in(parameters, _WIDE):
        subject.model.eval()
        for module in subject.modules:
            if isinstance(module, _BatchNorm):
                module.forward = _identity  # type: ignore[method-assign,assignment]
        for layer in recorder.plain:
            record = recorder.records.get(recorder.names[layer])
            if record is not None:
                sink = flows[record.name]
                layer.forward = partial(_flow_through, recorder, record, sink)  # type: ignore[method-assign]
        ones = torch.ones_like(subject.to_input(like[:1], _WIDE))
        with recorder.recording(first=False, only=others):
            total = first_tensor(subject.run(ones))
        assert total is not None
        direct, _ = recorder.gradient(total.sum() + recorder.anchor)
    for name, flow in flows.items():
        flow += direct[name]
    return flows


def _identity(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _flow_through(
    recorder: Recorder, record: Record, sink: Tensor, x: Tensor, *more: Any, **named: Any
) -> Tensor:
    """Return the output of a plain layer with absolute weight and bias; its gradient comes into `sink`."""
    y: Tensor = _Flow.apply(x, recorder.anchor, record, sink, more, named)  # type: ignore[no-untyped-call]
    bias = record.module.bias
    if bias is None:
        return y
    channel = -1 if isinstance(record.module, nn.Linear) else y.dim() - 1 - len(record.geometry.kernel)
    shape = [1] * y.dim()
    shape[channel] = -1
    return y + bias.reshape(shape)


class _Flow(torch.autograd.Function):
    """A plain layer without bias on a map of any range, computed in the precision of its weight."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, record: Record, sink: Tensor, more: Any, named: Any
    ) -> Tensor:
        layer, top = record.module, _top(x)
        with torch.enable_grad():
            scaled = (x / top).to(layer.weight.dtype).detach().requires_grad_()
            weight = _absolute(layer.weight.detach()).requires_grad_(record.sampled_gradient is None)
            y = _without_bias(layer, weight, scaled, more, named)
        ctx.inner, ctx.top, ctx.record, ctx.sink = (scaled, weight, y), top, record, sink
        return y.detach().to(_WIDE) * top

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (scaled, weight, y), record = ctx.inner, ctx.record
        top = _top(gradient)
        small = (gradient / top).to(y.dtype)
        if weight.requires_grad:
            to_x, to_weight = torch.autograd.grad(y, [scaled, weight], small)
            sampled = to_weight.reshape(-1)[record.elements]
        else:
            (to_x,) = torch.autograd.grad(y, [scaled], small)
            sampled = record.sampled_gradient(scaled.detach(), small)
        ctx.sink += sampled.to(_WIDE) * (ctx.top * top)
        ctx.inner = None
        return to_x.to(_WIDE) * top, None, None, None, None, None


def _absolute(weight: Tensor) -> Tensor:
    """Return |w|, of planar kernels in the layout that is faster by half for a single image."""
    if weight.dim() != 4:
        return weight.abs()
    return torch.abs(weight, out=torch.empty_like(weight, memory_format=torch.channels_last))


def _top(x: Tensor) -> Tensor:
    """Return the largest magnitude, 1 for a map of zeros."""
    top = x.detach().abs().amax().to(_WIDE)
    return torch.where(top == 0, 1.0, top)


def _without_bias(layer: Layer, weight: Tensor, x: Tensor, more: Any, named: Any) -> Tensor:
    """Return what the layer's class computes with another weight and no bias."""
    own = dict(layer._parameters)
    layer._parameters |= {"weight": weight, "bias": None}  # type: ignore[dict-item]
    try:
        y: Tensor = type(layer).forward(layer, x, *more, **named)  # type: ignore[arg-type]
    finally:
        layer._parameters |= own
    return y


def hessian_gradient(recorder: Recorder, loss: Tensor) -> dict[str, Tensor]:
    """Return the samples of H g: the gradient of |g|^2 / 2, g the loss's gradient in all layers' weights.

    Parameters
    ----------
    recorder : Recorder
        Whose last pass computed `loss` with every weight requiring its gradient.
    loss : Tensor
        Of the first batch.

    Notes
    -----
    Wang et al. (2020, GraSP); biases and normalisation are not part of g, as in zero-cost-nas.
    """
    pairs = [
        (record, weight) for record in recorder.layers for weight in record.weights if weight.requires_grad
    ]
    weights = [weight for _, weight in pairs]
    products = {r.name: torch.zeros_like(r.w) for r in recorder.layers}
    first = recorder.subject.differentiate([loss], weights, twice=True)
    used = [g for g in first if g is not None and g.requires_grad]
    if not used:
        return products  # the loss is linear in the weights
    second = recorder.subject.differentiate(used, weights, [g.detach() for g in used])
    for (record, _), product in zip(pairs, second, strict=True):
        if product is not None:
            products[record.name] += product.reshape(-1)[record.elements]
    return products
