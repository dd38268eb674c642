"""The networks of TransNAS-Bench-101 as segmentation networks: arch text <-> ``Arch`` <-> torch module.

Holds the frozen description of one network, the enumeration of the micro space, and the encoder and
decoder of Duan et al. (CVPR 2021, arXiv:2105.11871). Knows nothing of data, training or ranking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Final

import torch
from torch import Tensor, nn

from proxygraph.errors import ConfigError, ParseError

NONE, SKIP, CONV1X1, CONV3X3 = range(4)
OPS: Final = ("none", "skip", "conv1x1", "conv3x3")
EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edge (source, target) of each operator, in the order of the text form."""
MICRO_MODULES: Final = "41414"
PUBLISHED_WIDTH: Final = 64

_TEXT = re.compile(r"64-([1-4]{1,6})-(?:([0-3])_([0-3]{2})_([0-3]{3})|(basic))")
_MAX_UPSAMPLINGS = 6  # what the published decoder can undo: the stem's two and four modules'


@dataclass(frozen=True, slots=True)
class Arch:
    """One network of the space.

    Attributes
    ----------
    ops : tuple of int
        Operator of each edge of ``EDGES``: 0 none, 1 skip, 2 conv1x1, 3 conv3x3. Empty for a macro
        network, whose cells are ResNet basic blocks.
    modules : str
        One digit per module of two cells: 1 keeps the shape, 2 doubles the channels, 3 halves the
        resolution, 4 does both. ``"41414"`` throughout the micro space.

    Examples
    --------
    >>> arch = Arch.parse("64-41414-0_31_200")
    >>> str(arch.live()), arch.connected
    ('64-41414-0_00_200', True)
    """

    ops: tuple[int, ...]
    modules: str = MICRO_MODULES

    def __post_init__(self) -> None:
        if self.ops and (len(self.ops) != len(EDGES) or not set(self.ops) <= set(range(len(OPS)))):
            raise ConfigError(f"arch ops {self.ops}: expected {len(EDGES)} numbers from 0 to {len(OPS) - 1}")
        if not re.fullmatch("[1-4]{1,6}", self.modules):
            raise ConfigError(f"arch modules {self.modules!r}: expected one to six digits from 1 to 4")
        if 2 + self.halvings > _MAX_UPSAMPLINGS:
            raise ConfigError(
                f"arch modules {self.modules!r}: {self.halvings} halvings, the decoder undoes 4"
            )

    @classmethod
    def parse(cls, text: str) -> Arch:
        """Return the arch of a text such as ``64-41414-3_12_323`` or ``64-1234-basic``.

        Raises
        ------
        ParseError
            If the text has another form.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise ParseError(
                f"arch {shown!r}: expected 64-41414-a_bc_def with digits 0 to 3, "
                "or 64-MODULES-basic with module digits 1 to 4"
            )
        modules, first, second, third, basic = match.groups()
        ops = () if basic else tuple(int(digit) for digit in first + second + third)
        try:
            return cls(ops, modules)
        except ConfigError as error:
            raise ParseError(str(error)) from None

    def __str__(self) -> str:
        """Return the text form; ``Arch.parse(str(arch)) == arch``."""
        if not self.ops:
            return f"{PUBLISHED_WIDTH}-{self.modules}-basic"
        a, b, c, d, e, f = self.ops
        return f"{PUBLISHED_WIDTH}-{self.modules}-{a}_{b}{c}_{d}{e}{f}"

    @property
    def halvings(self) -> int:
        """Number of modules that halve the resolution."""
        return sum(digit in "34" for digit in self.modules)

    @property
    def connected(self) -> bool:
        """Whether a path of operators other than none leads from a cell's input to its output."""
        return not self.ops or any(self.live().ops)

    def live(self) -> Arch:
        """Return the arch with every dead edge set to none.

        An edge is live if its operator is not none and it lies on a path from node 0 to node 3.
        Networks with the same live arch compute the same function and train alike.
        """
        if not self.ops:
            return self
        used = [edge for edge, op in zip(EDGES, self.ops, strict=True) if op != NONE]
        fed, useful = {0}, {3}
        for source, target in sorted(used):  # sources in order: a node is complete before it is read
            fed |= {target} if source in fed else set()
        for source, target in sorted(used, reverse=True):
            useful |= {source} if target in useful else set()
        pairs = zip(EDGES, self.ops, strict=True)
        live = (op if source in fed and target in useful else NONE for (source, target), op in pairs)
        return Arch(tuple(live), self.modules)


def all_archs() -> list[Arch]:
    """Return the 4096 micro networks, in the order of their text form."""
    return [Arch(ops) for ops in product(range(len(OPS)), repeat=len(EDGES))]


class ReluConvBn(nn.Module):
    """ReLU, convolution without bias, batch normalisation: the convolution of a cell."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(self.relu(x)))
        return out


class FactorizedReduce(nn.Module):
    """The skip of a shape change: two half-width 1x1 convs, the second on the map shifted by one pixel."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(c_in, c_out // 2, 1, stride, bias=False)
        self.shifted_conv = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        out: Tensor = self.bn(torch.cat([self.conv(x), self.shifted_conv(shifted)], dim=1))
        return out


def _edge(op: int, c_in: int, c_out: int, stride: int) -> nn.Module:
    """Return the module of one operator other than none."""
    if op == SKIP:
        same = stride == 1 and c_in == c_out
        return nn.Identity() if same else FactorizedReduce(c_in, c_out, stride)
    return ReluConvBn(c_in, c_out, 1 if op == CONV1X1 else 3, stride)


class MicroCell(nn.Module):
    """Four nodes, each the sum of its incoming edges; node 0 is the input, node 3 the output.

    Edges from node 0 carry the change of stride and channels. A none edge has no module and adds
    nothing; dead edges are built and run, as in the benchmark.
    """

    def __init__(self, ops: tuple[int, ...], c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.c_out, self.stride = c_out, stride
        self.edges = nn.ModuleDict(
            {
                f"e{source}{target}": _edge(
                    op, c_in if source == 0 else c_out, c_out, stride if source == 0 else 1
                )
                for (source, target), op in zip(EDGES, ops, strict=True)
                if op != NONE
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in range(1, 4):
            incoming = [
                self.edges[f"e{source}{target}"](nodes[source])
                for source in range(target)
                if f"e{source}{target}" in self.edges
            ]
            nodes.append(sum(incoming[1:], start=incoming[0]) if incoming else self._zeros(x))
        return nodes[3]

    def _zeros(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        return x.new_zeros(n, self.c_out, -(-height // self.stride), -(-width // self.stride))


class BasicCell(nn.Module):
    """The ResNet basic block of the macro networks, in the benchmark's pre-activation order."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBn(c_in, c_out, 3, stride)
        self.conv_b = ReluConvBn(c_out, c_out, 3, 1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.conv_b(self.conv_a(x))
        return out


class Encoder(nn.Module):
    """Stem and modules of two cells; the first cell of a module carries its change of shape."""

    def __init__(self, arch: Arch, width: int, stem_stride: int) -> None:
        super().__init__()
        first, second = {4: (2, 2), 2: (2, 1), 1: (1, 1)}[stem_stride]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, first, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            ReluConvBn(width // 2, width, 3, second),
        )
        self.cells = nn.ModuleList()
        channels = width
        for digit in arch.modules:
            c_out, stride = channels * (2 if digit in "24" else 1), 2 if digit in "34" else 1
            for c_in, cell_stride in ((channels, stride), (c_out, 1)):
                basic = not arch.ops
                self.cells.append(
                    BasicCell(c_in, c_out, cell_stride)
                    if basic
                    else MicroCell(arch.ops, c_in, c_out, cell_stride)
                )
            channels = c_out
        self.c_out = channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return x


def _decoder_layer(c_in: int, c_out: int, *, upsample: bool) -> list[nn.Module]:
    """Return conv 3x3 or transposed conv 3x3 stride 2 (with bias), BN and leaky ReLU."""
    conv: nn.Module = nn.Conv2d(c_in, c_out, 3, 1, 1)
    if upsample:
        conv = nn.ConvTranspose2d(c_in, c_out, 3, 2, 1, output_padding=1)
    return [conv, nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2)]


def _decoder(c_in: int, classes: int, width: int, upsamplings: int, least: int) -> nn.Sequential:
    """Return the published decoder: of seven layers before the classifier the last ``upsamplings`` double."""
    channels = 16 * width
    layers = _decoder_layer(c_in, channels, upsample=False)
    for layer in range(_MAX_UPSAMPLINGS):
        upsample = layer >= _MAX_UPSAMPLINGS - upsamplings
        c_out = channels if layer == _MAX_UPSAMPLINGS - 1 else max(least, channels // 2)
        layers += _decoder_layer(channels, c_out, upsample=upsample)
        channels = c_out
    return nn.Sequential(*layers, nn.Conv2d(channels, classes, 3, 1, 1))


class SegmentationNet(nn.Module):
    """Encoder and decoder; logits have the input's height and width.

    Every halving rounds up, so the decoder's map is at least as large as the input and starts at the
    same corner: what is too much at the bottom and right is cropped, nothing is resampled.
    """

    def __init__(self, encoder: Encoder, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        out: Tensor = self.decoder(self.encoder(x))
        return out[..., :height, :width]


def build(
    arch: Arch,
    *,
    classes: int = 17,
    width: int = PUBLISHED_WIDTH,
    stem_stride: int = 4,
    decoder_least: int = 1,
    seed: int = 0,
) -> SegmentationNet:
    """Return the untrained segmentation network of ``arch``.

    Parameters
    ----------
    arch : Arch
        Micro or macro network.
    classes : int
        Number of output channels.
    width : int
        Base width, a positive even number; every channel count scales with it, 64 is the published network.
        The decoder's smallest layers have ``width / 2`` channels, unless `decoder_least` is larger.
    stem_stride : {4, 2, 1}
        Stride of the two stem convolutions together. With less than the published 4 the decoder replaces
        upsampling layers by plain ones, as the published decoder does for shallower encoders; use it to
        keep some resolution in the last cells for small images.
    decoder_least : int
        Fewest channels of a decoder layer before the classifier. At small widths the published decoder ends
        in fewer channels than there are classes, and chance decides which of them the network can tell apart.
    seed : int
        Of the weights: Kaiming-normal (fan out) in the encoder's convolutions, torch's default elsewhere.
        The global random state is left as it was.

    Returns
    -------
    SegmentationNet
        In training mode. ``encoder.stem``, ``encoder.cells.N.edges.eST`` (from node S to node T) and
        ``decoder.N`` name its parts. Takes ``(n, 3, H, W)`` of any size (batch normalisation in training mode
        needs more than one value per channel), gives ``(n, classes, H, W)``.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    if classes < 1:
        raise ConfigError(f"classes = {classes}: expected at least 1")
    if width < 2 or width % 2:
        raise ConfigError(f"width = {width}: expected an even number, at least 2")
    if decoder_least < 1:
        raise ConfigError(f"decoder_least = {decoder_least}: expected at least 1")
    if stem_stride not in (1, 2, 4):
        raise ConfigError(f"stem_stride = {stem_stride}: expected 1, 2 or 4")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = Encoder(arch, width, stem_stride)
        upsamplings = arch.halvings + stem_stride.bit_length() - 1
        decoder = _decoder(encoder.c_out, classes, width, upsamplings, decoder_least)
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return SegmentationNet(encoder, decoder)
