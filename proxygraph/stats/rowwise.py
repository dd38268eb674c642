"""Statistics of a whole network that are no formula of its layers' values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from proxygraph.errors import ConfigError
from proxygraph.stats.layers import LAYERS, Layer
from proxygraph.stats.layerwise import code_kernel
from proxygraph.stats.sampling import prefix
from proxygraph.stats.subject import Subject, first_tensor, same_attributes

JACOV_OFFSET: Final = 1e-5
SWAP_POSITIONS: Final = 4096
"""Values of one image that ``swap`` samples of every rectifier."""
ZEN_IMAGES: Final = 2
ZEN_NOISE: Final = 1e-2
"""Share of the second Gaussian image in the mixture."""
NTK_IMAGES: Final = 8
"""Images of the first batch whose gradients ``ntk_cond`` compares."""
LEAST_SHARE: Final = 1e-12
"""A kernel whose least eigenvalue is a smaller share of the largest is singular."""

_EXACT_BITS = 62
_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_SWAP, _ZEN, _HASH = 101, 102, 103  # what a random key is for


def _rectifiers() -> frozenset[Callable[..., Any]]:
    names = "relu relu_ relu6 leaky_relu leaky_relu_ prelu rrelu rrelu_ elu elu_ selu selu_ celu celu_"
    names += " gelu silu mish hardswish"
    functional = {getattr(F, name) for name in names.split()}
    return frozenset(
        functional | {torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.selu, torch.celu, torch.rrelu}
    )


RECTIFIERS: Final = _rectifiers()
"""The functions whose input's sign is a binary code: piecewise linear rectifiers and their smooth kin."""


class ActivationCodes(TorchFunctionMode):
    """The signs of all rectifiers' inputs while a network runs, called as modules or as functions.

    Parameters
    ----------
    images : int
        In the first batch.
    seed : int
        Of the positions that ``swap`` samples.
    """

    def __init__(self, images: int, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.kernel = torch.zeros((images, images), dtype=torch.float64)
        self.patterns: list[Tensor] = []
        self._places: list[Tensor] = []
        self._sizes: list[int] = []
        self._seen = 0
        self._begin(images)

    def next_batch(self, images: int) -> None:
        """Begin a further batch; its images lengthen the patterns of ``swap``."""
        self._seen += self._images
        self._begin(images)

    def _begin(self, images: int) -> None:
        self._images, self._call = images, 0
        self._digits = torch.from_numpy(_digits(self.seed, self._seen, images))[:, None]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the codes of a rectifier's input, then run the function."""
        if func in RECTIFIERS:
            self._note(args[0] if args else (kwargs or {})["input"])
        return func(*args, **(kwargs or {}))

    def _note(self, x: Tensor) -> None:
        if x.numel() == 0 or x.numel() % self._images:
            return  # not a map of images
        with torch.no_grad():
            positive = (x.detach() > 0).reshape(self._images, -1)
            n, number = positive.shape[1], self._call
            self._call += 1
            if not self._seen:
                self.kernel += code_kernel(positive).cpu()
                self._sizes.append(n)
                places = torch.from_numpy(prefix([self.seed, _SWAP, number], n, SWAP_POSITIONS))
                self._places.append(places.to(x.device))
                self.patterns.append(torch.zeros(len(places), dtype=torch.int64))
            elif number >= len(self._sizes) or self._sizes[number] != n:
                raise ConfigError(
                    "swap needs batches of one image size: leave `swap` out, or crop the images"
                )
            codes = positive.index_select(1, self._places[number]).cpu().to(torch.int64)
            self.patterns[number] += (codes * self._digits).sum(0)

    def log_det(self) -> float:
        """Return ``nwot_total``: the log-determinant of the summed kernel of the first batch."""
        return float(torch.linalg.slogdet(self.kernel)[1]) if self.patterns else math.nan

    def distinct(self) -> int:
        """Return ``swap``: how many different patterns over the images the sampled values have."""
        return len(torch.unique(torch.cat(self.patterns))) if self.patterns else 0


def _digits(seed: int, seen: int, images: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the place value of each image's bit: powers of two, beyond 62 images random odd numbers.

    The sum, modulo 2**64, is then a hash of the pattern: two of a million patterns collide once in 10**7.
    """
    random = np.random.default_rng([seed, _HASH]).integers(-(2**62), 2**62, size=seen + images) * 2 + 1
    powers = 1 << np.arange(min(_EXACT_BITS, seen + images), dtype=np.int64)
    random[: len(powers)] = powers
    return random[seen:]


def jacobian_score(jacobian: Tensor) -> float:
    """Return ``jacov`` of the per-image gradients of the summed output, shape (images, ...).

    Mellor et al. (2020, v1): minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of their
    correlation matrix, k = 1e-5. NaN where an image's gradient is constant.
    """
    rows = jacobian.flatten(1).double().cpu().numpy()
    with np.errstate(all="ignore"):
        correlation = np.atleast_2d(np.corrcoef(rows))
    if not np.isfinite(correlation).all():
        return math.nan
    v = np.linalg.eigvalsh(correlation) + JACOV_OFFSET
    return -float(np.sum(np.log(v) + 1.0 / v))


def receptive_share(subject: Subject, output: Any, at: Tensor | None) -> float:
    """Return the share of a picture that the centre of the output depends on, mean over the images.

    Luo et al. (2016) look at how the gradient at the centre spreads over the input. Here its sizes |g|,
    summed over channels, count as many positions as they fill evenly: (sum |g|)^2 / sum |g|^2.

    Parameters
    ----------
    subject : Subject
    output : Any
        Of the network; NaN unless it is a map, 0 if it does not depend on the input.
    at : Tensor or None, shape (images, channels, height, width)
        Input that the output was computed from; NaN without it. The graph of the pass is kept.
    """
    maps = first_tensor(output)
    if at is None or at.dim() != 4 or maps is None or maps.dim() != 4:
        return math.nan
    if not maps.requires_grad:
        return 0.0
    centre = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
    (gradient,) = subject.differentiate([centre], [at], keep=True)
    return 0.0 if gradient is None else spread(gradient)


def spread(gradient: Tensor) -> float:
    """Return which share of the positions |gradient| fills, mean over images; 0 where it is zero."""
    sizes = gradient.abs().sum(1).flatten(1).double()
    total, squares = sizes.sum(1).square(), sizes.square().sum(1)
    return float((total / torch.where(squares == 0, 1.0, squares)).mean()) / sizes.shape[1]


def condition_number(kernel: Tensor) -> float:
    """Return the largest over the least eigenvalue of a symmetric matrix, inf where it is singular.

    Chen et al. (2021, TE-NAS), of the kernel of the images' gradients of the summed output. A kernel of zeros
    has none: NaN.
    """
    if not bool(torch.isfinite(kernel).all()) or not bool(kernel.any()):
        return math.nan
    values = torch.linalg.eigvalsh(kernel)
    least, largest = float(values[0]), float(values[-1])
    return largest / least if least > LEAST_SHARE * largest else math.inf


def zen_score(subject: Subject, like: Tensor, seed: int) -> float:
    """Return the Zen-score: how much Gaussian noise on a Gaussian image moves the output.

    Lin et al. (2021): log of the mean over images of sum |f(x) - f(x + 0.01 e)|, plus the sum over batch
    normalisations of log sqrt of their mean batch variance. Weights have unit variance, biases are 0 and
    normalisations have scale 1 and shift 0.

    Parameters
    ----------
    subject : Subject
        The network; its own output takes the place of the feature map before pooling.
    like : Tensor
        The first batch, for the shape of the images.
    seed : int
        Of the Gaussian images.

    Notes
    -----
    The reference draws new weights from N(0, 1). Here the network's own are divided by their root mean
    square, on the outputs of their layers: the same for Gaussian initialisations, and close for others since
    a filter's output sums many weights. Images with and without noise go through the network together, so
    that it reads its weights once; they share the statistics of the batch. A variance of zero (a branch fed
    with zeros) is left out, where the reference's running average hides it.
    """
    if not like.is_floating_point():
        return math.nan
    generator = torch.Generator().manual_seed(seed * 1000 + _ZEN)
    x, noise = torch.randn((2, ZEN_IMAGES, *like.shape[1:]), generator=generator).to(
        subject.device, subject.dtype
    )
    parameters, handles = _neutral(subject), []
    variances: dict[nn.Module, float] = {}
    with torch.no_grad(), same_attributes(subject.modules), subject.standing_in(parameters):
        subject.model.train()
        try:
            for module in subject.modules:
                if isinstance(module, LAYERS):
                    handles.append(module.register_forward_hook(_unit_variance, prepend=True))
                elif isinstance(module, _BatchNorm):
                    module.momentum = 1.0
                    handles.append(module.register_forward_hook(_noting(variances)))
            output = first_tensor(subject.run(torch.cat([x, x + ZEN_NOISE * noise])))
        finally:
            for handle in handles:
                handle.remove()
    assert output is not None
    before, after = output.chunk(2)
    change = float((before - after).abs().double().sum()) / ZEN_IMAGES
    scaling = sum(0.5 * math.log(variance) for variance in variances.values() if variance > 0)
    return (math.log(change) if change > 0 else -math.inf) + scaling if math.isfinite(change) else math.nan


def _neutral(subject: Subject) -> dict[str, Tensor]:
    """Return the parameters with biases 0, normalisations with scale 1 and shift 0."""
    parameters = {name: p.detach() for name, p in subject.parameters.items()}
    names = {id(p): name for name, p in subject.model.named_parameters()}
    for module in subject.modules:
        for key, fill in (("weight", torch.ones_like), ("bias", torch.zeros_like)):
            parameter = module._parameters.get(key)
            if parameter is not None and isinstance(
                module, _NORMS if key == "weight" else (*_NORMS, *LAYERS)
            ):
                parameters[names[id(parameter)]] = fill(parameters[names[id(parameter)]])
    return parameters


def _unit_variance(layer: Layer, _: Any, output: Any) -> Any:
    """Divide a layer's output by the root mean square of its weight (forward hook)."""
    size = torch.linalg.vector_norm(layer.weight) / layer.weight.numel() ** 0.5
    return output / torch.where(size == 0, 1.0, size) if isinstance(output, Tensor) else output


def _noting(variances: dict[nn.Module, float]) -> Callable[[nn.Module, Any, Any], None]:
    """Return a forward hook that reads the variance of the batch, which momentum 1 leaves in the buffer."""

    def note(norm: nn.Module, _: Any, __: Any) -> None:
        if isinstance(norm, _BatchNorm) and norm.running_var is not None:
            variances[norm] = float(norm.running_var.mean())

    return note
