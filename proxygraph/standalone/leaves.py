"""One function per statistic, named ``leaf_`` and its name: of one layer, or of the whole network."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxygraph.standalone.draws import drawn
from proxygraph.standalone.network import (
    Call,
    Network,
    forward,
    gradients,
    standins,
    sum_of,
    weight_gradients,
)
from proxygraph.stats.blocks import SPECTRUM, jacobian_score, least_step, random_signs
from proxygraph.stats.layers import LAYERS, Geometry, Layer, channels_first
from proxygraph.stats.layerwise import (
    CORRELATED_CHANNELS,
    CORRELATED_FILTERS,
    RANK_SIDE,
    SHRINKAGE,
    _correlation,
    code_kernel,
    fisher_information,
    log_det,
)
from proxygraph.stats.network import BACKBONE
from proxygraph.stats.rowwise import (
    _NORMS,
    JACOV_OFFSET,
    NTK_IMAGES,
    SWAP_POSITIONS,
    ZEN_IMAGES,
    ZEN_NOISE,
    condition_number,
    spread,
)
from proxygraph.stats.subject import first_tensor


def stored(value: Tensor | float) -> Tensor:
    """Return values as tables keep them, in float32, made ready for sums in float64."""
    kept = torch.as_tensor(value).detach().to("cpu", torch.float32).double()
    return kept.flatten() if isinstance(value, Tensor) else kept


# ---- entries of a layer's weight ---


def leaf_w(n: Network, layer: str) -> Tensor:
    """Return the weight."""
    return n.calls[layer][0].weight


def leaf_g(n: Network, layer: str) -> Tensor:
    """Return the gradient of the loss, mean over the batches."""
    return n.over_batches(layer).mean(0)


def leaf_g_mean(n: Network, layer: str) -> Tensor:
    """Return the mean over the batches of |gradient|."""
    return n.spread_over_batches(layer).abs().mean(0)


def leaf_g_std(n: Network, layer: str) -> Tensor:
    """Return the standard deviation over the batches of the gradient."""
    return n.spread_over_batches(layer).std(0, correction=0)


def leaf_gs(n: Network, layer: str) -> Tensor:
    """Return the synaptic flow's gradient, in float64: it passes 1e38."""
    return n.flows.get(layer, torch.zeros_like(n.calls[layer][0].weight)).double().flatten().cpu()


def leaf_hg(n: Network, layer: str) -> Tensor:
    """Return the Hessian-gradient product."""
    return n.curved[layer]


def leaf_gv(n: Network, layer: str) -> Tensor:
    """Return the gradient of the summed output."""
    return n.summed[layer]


# ---- entries of a layer's output ---


def leaf_a(n: Network, layer: str) -> Tensor:
    """Return the output."""
    return torch.cat([call.output.flatten() for call in n.calls[layer]])


def leaf_da(n: Network, layer: str) -> Tensor:
    """Return the gradient of the loss in the output."""
    return torch.cat([pull.flatten() for pull in n.pulls[layer]])


# ---- numbers of a layer ---


def leaf_numel(n: Network, layer: str) -> float:
    """Return the entries of the weight."""
    return n.calls[layer][0].weight.numel()


def leaf_fan_in(n: Network, layer: str) -> float:
    """Return the entries of one filter."""
    return Geometry.of(n.calls[layer][0].layer).fan_in


def leaf_c_in(n: Network, layer: str) -> float:
    """Return the input channels."""
    return Geometry.of(n.calls[layer][0].layer).c_in


def leaf_c_out(n: Network, layer: str) -> float:
    """Return the output channels."""
    return Geometry.of(n.calls[layer][0].layer).c_out


def leaf_kernel(n: Network, layer: str) -> float:
    """Return the geometric mean of the kernel's sides."""
    return Geometry.of(n.calls[layer][0].layer).side


def leaf_stride(n: Network, layer: str) -> float:
    """Return the geometric mean of the strides."""
    return Geometry.of(n.calls[layer][0].layer).step


def leaf_hw(n: Network, layer: str) -> float:
    """Return the output positions of one image."""
    outputs = sum(call.output.numel() for call in n.calls[layer])
    return outputs / Geometry.of(n.calls[layer][0].layer).c_out / n.images


def leaf_macs(n: Network, layer: str) -> float:
    """Return the multiply-accumulates of one image."""
    geometry, total = Geometry.of(n.calls[layer][0].layer), 0.0
    for call in n.calls[layer]:
        positions = (
            call.inputs / geometry.c_in if geometry.transposed else call.output.numel() / geometry.c_out
        )
        total += call.weight.numel() * positions / n.images
    return total


def leaf_depth(n: Network, layer: str) -> float:
    """Return the position in forward order, 0 first, 1 last."""
    return list(n.calls).index(layer) / max(1, len(n.calls) - 1)


def leaf_backbone(n: Network, layer: str) -> float:
    """Return 1 in the backbone, 0 in decoder or head, by module name."""
    return float(re.search(BACKBONE, layer) is not None)


def leaf_nwot(n: Network, layer: str) -> float:
    """Return the log-determinant of the kernel of binary codes, one added on its diagonal."""
    outputs = [call.output for call in n.calls[layer] if call.output.numel() % n.images == 0]
    kernels = [code_kernel((output > 0).reshape(n.images, -1)) for output in outputs]
    return log_det(torch.stack(kernels).sum(0), ridge=1.0) if kernels else math.nan


def leaf_eff_rank(n: Network, layer: str) -> float:
    """Return exp of the entropy of the normalised eigenvalues of the channels' covariance."""
    return effective_rank(first_output(n, layer), [n.seed, list(n.calls).index(layer), 3])


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


def leaf_min_eig(n: Network, layer: str) -> float:
    """Return the least eigenvalue of the correlation matrix of sampled channels, at least 0."""
    x = first_output(n, layer)
    which = sample(n, layer, 4, x.shape[1], CORRELATED_CHANNELS)
    correlation = _correlation(x[:, which].transpose(0, 1).flatten(1))
    if not bool(torch.isfinite(correlation).all()):
        return math.nan
    return max(0.0, float(torch.linalg.eigvalsh(correlation)[0]))


def leaf_w_logdet(n: Network, layer: str) -> float:
    """Return the log-determinant of the shrunk correlation matrix of sampled filters, at most 0."""
    call = n.calls[layer][0]
    geometry = Geometry.of(call.layer)
    which = sample(n, layer, 5, geometry.c_out, CORRELATED_FILTERS)
    correlation = _correlation(geometry.filters(call.weight.detach(), which)) * (1 - SHRINKAGE)
    correlation.fill_diagonal_(1.0)
    return log_det(correlation) if bool(torch.isfinite(correlation).all()) else math.nan


def leaf_fisher(n: Network, layer: str) -> float:
    """Return the Fisher score."""
    total = 0.0
    for call, pull in zip(n.calls[layer], n.pulls[layer], strict=True):
        output = channels_first(call.output.detach(), call.layer)
        total += fisher_information(output, channels_first(pull, call.layer))
    return total


def leaf_live(n: Network, layer: str) -> float:
    """Return 1 if the network's output depends on the weight, else 0."""
    return float(bool(n.summed[layer].any()))


def first_output(n: Network, layer: str) -> Tensor:
    """Return what a layer gave when it first ran, shape (images, channels, positions)."""
    call: Call = n.calls[layer][0]
    return channels_first(call.output.detach(), call.layer)


def sample(n: Network, layer: str, purpose: int, size: int, k: int) -> Tensor:
    """Return the places that the search sampled for a statistic of a layer."""
    places = drawn([n.seed, list(n.calls).index(layer), purpose], size, k)
    return torch.tensor(places, device=n.calls[layer][0].output.device)


# ---- numbers of the network ---


def leaf_params(n: Network) -> float:
    """Return the number of parameters."""
    return sum(p.numel() for p in n.model.parameters())


def leaf_macs_total(n: Network) -> float:
    """Return the multiply-accumulates of one image."""
    return sum(leaf_macs(n, layer) for layer in n.calls)


def leaf_n_layers(n: Network) -> float:
    """Return the number of layers that ran."""
    return len(n.calls)


def leaf_jacov(n: Network) -> float:
    """Return the score of the correlations between the images' gradients of the summed output."""
    x = n.batches[0][0].clone()
    if not x.is_floating_point():
        return math.nan
    output, _ = forward(n.model, standins(n.model), x.requires_grad_())
    (jacobian,) = gradients(sum_of(output), [x])
    correlation = torch.atleast_2d(torch.corrcoef(jacobian.flatten(1).double()))
    if not bool(torch.isfinite(correlation).all()):
        return math.nan
    v = torch.linalg.eigvalsh(correlation) + JACOV_OFFSET
    return -float((v.log() + 1.0 / v).sum())


def leaf_nwot_total(n: Network) -> float:
    """Return the log-determinant of the kernel of binary codes of all rectifiers."""
    kernels = [code_kernel(code) for code in n.first_codes]
    return log_det(torch.stack(kernels).sum(0)) if kernels else math.nan


def leaf_swap(n: Network) -> float:
    """Return how many different patterns over the images sampled code bits have."""
    patterns = []
    for number, code in enumerate(n.codes):
        which = drawn([n.seed, 101, number], code.shape[1], SWAP_POSITIONS)
        patterns.append(code[:, torch.tensor(which, device=code.device)])
    return torch.cat(patterns, dim=1).unique(dim=1).shape[1] if patterns else 0


def leaf_expressivity(n: Network) -> float:
    """Return the sum over the backbone's blocks of the entropy of their maps' spectrum."""
    return sum(entropies(n)) if n.blocks else math.nan


def leaf_progressivity(n: Network) -> float:
    """Return the least difference of that entropy from one block to the next."""
    return least_step(entropies(n))


def entropies(n: Network) -> list[float]:
    """Return the entropy of the spectrum of every block's map."""
    found = []
    for index, (_, output) in enumerate(n.blocks):
        rank = effective_rank(output.detach().reshape(*output.shape[:2], -1), [n.seed, index, SPECTRUM])
        found.append(math.log(max(1.0, rank)) if math.isfinite(rank) else math.nan)
    return found


def leaf_trainability(n: Network) -> float:
    """Return the mean over blocks of the score of the spectral norm of their mean Jacobian."""
    scores = []
    for index, (source, target) in enumerate(n.blocks):
        if source is None or not source.requires_grad or not target.requires_grad:
            continue
        signs = random_signs(target.shape, n.seed, index).to(target.device, target.dtype)
        (pulled,) = torch.autograd.grad(target, source, signs, retain_graph=True, allow_unused=True)
        scores.append(jacobian_score(signs, torch.zeros_like(signs) if pulled is None else pulled))
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else math.nan


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


def leaf_ntk_cond(n: Network) -> float:
    """Return the condition number of the kernel of the images' gradients of the summed output."""
    x = n.batches[0][0][:NTK_IMAGES]
    output, calls = forward(n.model, standins(n.model), x)
    maps = first_tensor(output)
    if maps is None or maps.dim() == 0 or len(maps) != len(x):
        return math.nan
    rows = []
    for image in maps:
        slopes = weight_gradients(image.sum(), calls).values()
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    slopes_of_images = torch.stack(rows).double()
    return condition_number((slopes_of_images @ slopes_of_images.T).cpu())


def leaf_zen(n: Network) -> float:
    """Return log of how much noise on a Gaussian image moves the output, corrected for normalisation."""
    like = n.batches[0][0]
    if not like.is_floating_point():
        return math.nan
    generator = torch.Generator().manual_seed(n.seed * 1000 + 102)
    x, noise = torch.randn((2, ZEN_IMAGES, *like.shape[1:]), generator=generator).to(like.device, like.dtype)
    variances: dict[nn.Module, float] = {}

    def unit_variance(layer: Layer, _: Any, output: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(layer.weight) / layer.weight.numel() ** 0.5
        return output / torch.where(size == 0, 1.0, size)

    def note(norm: nn.Module, args: tuple[Tensor, ...], _: Any) -> None:
        variances[norm] = float(args[0].transpose(0, 1).flatten(1).var(1).mean())

    handles = []
    for module in n.model.modules():
        if isinstance(module, LAYERS):
            handles.append(module.register_forward_hook(unit_variance, prepend=True))
        elif isinstance(module, _BatchNorm) and module.running_var is not None:
            handles.append(module.register_forward_hook(note))
    parameters = neutral(n.model)
    try:
        with torch.no_grad():
            output, _ = forward(n.model, parameters, torch.cat([x, x + ZEN_NOISE * noise]))
    finally:
        for handle in handles:
            handle.remove()
    moved = first_tensor(output)
    assert moved is not None
    before, after = moved.chunk(2)
    change = float((before - after).abs().double().sum()) / ZEN_IMAGES
    scaling = sum(0.5 * math.log(variance) for variance in variances.values() if variance > 0)
    return (math.log(change) if change > 0 else -math.inf) + scaling if math.isfinite(change) else math.nan


def neutral(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters with biases 0, normalisations with scale 1 and shift 0."""
    parameters = standins(model)
    names = {id(p): name for name, p in model.named_parameters()}
    for module in model.modules():
        scale, shift = module._parameters.get("weight"), module._parameters.get("bias")
        if scale is not None and isinstance(module, _NORMS):
            parameters[names[id(scale)]] = torch.ones_like(parameters[names[id(scale)]])
        if shift is not None and isinstance(module, (*_NORMS, *LAYERS)):
            parameters[names[id(shift)]] = torch.zeros_like(parameters[names[id(shift)]])
    return parameters
