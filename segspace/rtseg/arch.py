"""One network of the space as a frozen record with an exact text form. Knows nothing of torch.

A network has a stem to 1/8 and three paths of layers: the *trunk*, and two branches that both start where it
ends, *deep* (ends at 1/16 or 1/32) and *detail* (ends at 1/8 or 1/16, finer than deep). A head fuses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from proxygraph.errors import ConfigError

OPS: Final[Mapping[str, str]] = MappingProxyType(
    {"s": "skip", "c": "conv3x3", "d": "2xconv3x3", "z": "zoomed", "y": "2xzoomed", "i": "ir"}
)
"""Operators by their letter in texts; ``segspace.rtseg.blocks.BLOCKS`` says what they compute."""
PATHS: Final = ("trunk", "deep", "detail")
MOST_HALVINGS: Final[Mapping[str, int]] = MappingProxyType({"trunk": 1, "deep": 2, "detail": 1})
"""How often a path may have halved the resolution below 1/8 where it ends, the trunk's halvings included."""

_MULTIPLE = 8  # of all channel counts: narrower channels-last convolutions can crash torch's CPU backend
_LAYER = re.compile("([a-zA-Z])([0-9])")
_EMPTY = "0"


@dataclass(frozen=True, slots=True)
class Preset:
    """What all networks of a space have in common.

    Attributes
    ----------
    name : str
        Lower-case letters and digits; part of every text.
    widths : tuple of int
        Channels of a layer at 1/8 by width number; twice as many at 1/16, four times at 1/32. Ascending,
        multiples of 8, at most ten.
    stem : tuple of int
        Channels of the three convolutions of stride 2; the last is one of `widths`.
    head : int
        Channels of the head.
    layers : int
        Most layers of a network, stem and head not counted.
    longest : int
        Most layers of one path.
    """

    name: str
    widths: tuple[int, ...]
    stem: tuple[int, int, int]
    head: int
    layers: int
    longest: int

    def __post_init__(self) -> None:
        where = f"preset {self.name!r}"
        if not re.fullmatch("[a-z0-9]+", self.name):
            raise ConfigError(f"{where}: a name has lower-case letters and digits only")
        if not 1 <= len(self.widths) <= 10 or sorted(set(self.widths)) != list(self.widths):
            raise ConfigError(f"{where}: widths {self.widths}: expected one to ten ascending numbers")
        channels = (*self.widths, *self.stem, self.head)
        if len(self.stem) != 3 or any(c < _MULTIPLE or c % _MULTIPLE for c in channels):
            raise ConfigError(
                f"{where}: widths {self.widths}, stem {self.stem}, head {self.head}: "
                f"expected multiples of {_MULTIPLE}, three of them in the stem"
            )
        if self.stem[-1] not in self.widths:
            raise ConfigError(f"{where}: the stem's last width {self.stem[-1]} is not one of {self.widths}")
        if not 1 <= self.longest <= self.layers:
            raise ConfigError(f"{where}: expected 1 <= longest ({self.longest}) <= layers ({self.layers})")


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        p.name: p
        for p in (
            Preset("tiny", widths=(8, 16, 24, 32, 48), stem=(8, 16, 24), head=32, layers=12, longest=6),
            Preset("base", widths=(32, 48, 64, 80, 96), stem=(32, 48, 64), head=64, layers=20, longest=8),
        )
    }
)


class Layer(NamedTuple):
    """One layer: operator letter of ``OPS``, width number, and whether it halves the resolution."""

    op: str
    width: int
    down: bool = False

    def __str__(self) -> str:
        return f"{self.op.upper() if self.down else self.op}{self.width}"


@dataclass(frozen=True, slots=True)
class Arch:
    """One network.

    A skip that changes neither resolution nor width is the identity: it is left out rather than written, so
    every network has one text. ``Arch.of`` leaves identities out for you.

    Attributes
    ----------
    preset : Preset
        What the space's networks share.
    trunk, deep, detail : tuple of Layer
        Layers of the three paths; trunk and detail may be empty.

    Examples
    --------
    >>> arch = Arch.parse("rtseg:tiny:c2-C2z3D4-i1")
    >>> str(arch), arch.scales
    ('rtseg:tiny:c2-C2z3D4-i1', (32, 8))
    """

    preset: Preset
    trunk: tuple[Layer, ...]
    deep: tuple[Layer, ...]
    detail: tuple[Layer, ...]

    def __post_init__(self) -> None:
        fault = fault_of(self.preset, self.paths)
        if fault:
            raise ConfigError(f"arch {self._text()!r}: {fault}")

    @classmethod
    def of(cls, preset: Preset, paths: Sequence[Sequence[Layer]]) -> Arch:
        """Return the arch of three paths, identity skips left out.

        Raises
        ------
        ConfigError
            If it is not in the space; the message says why.
        """
        return cls(preset, *without_identities(preset, paths))

    @classmethod
    def parse(cls, text: str, presets: Mapping[str, Preset] = PRESETS) -> Arch:
        """Return the arch of a text ``rtseg:PRESET:TRUNK-DEEP-DETAIL``.

        A path is a row of layers, ``0`` if it has none; a layer is an operator letter and a width number, the
        letter in upper case where the layer halves the resolution.

        Raises
        ------
        ConfigError
            If the text has another form or the network is not in the space.
        """
        shown = text if len(text) <= 100 else f"{text[:97]}..."
        match = re.fullmatch(r"rtseg:([a-z0-9]+):([^-\s]+)-([^-\s]+)-([^-\s]+)", text)
        if match is None:
            raise ConfigError(f"arch {shown!r}: expected rtseg:PRESET:TRUNK-DEEP-DETAIL")
        if match[1] not in presets:
            raise ConfigError(f"arch {shown!r}: no preset {match[1]!r}; known: {', '.join(presets)}")
        paths = [_path(match[2 + i], name, shown) for i, name in enumerate(PATHS)]
        return cls(presets[match[1]], *paths)

    @property
    def paths(self) -> tuple[tuple[Layer, ...], tuple[Layer, ...], tuple[Layer, ...]]:
        """Trunk, deep, detail."""
        return self.trunk, self.deep, self.detail

    @property
    def scales(self) -> tuple[int, int]:
        """Denominators of the resolutions at which deep and detail end, such as (32, 8)."""
        trunk, deep, detail = (sum(layer.down for layer in path) for path in self.paths)
        return 8 << (trunk + deep), 8 << (trunk + detail)

    @property
    def n_layers(self) -> int:
        """Layers of all three paths."""
        return sum(map(len, self.paths))

    def __str__(self) -> str:
        """Return the text form; ``Arch.parse(str(arch)) == arch``."""
        return self._text()

    def _text(self) -> str:
        return f"rtseg:{self.preset.name}:" + "-".join("".join(map(str, p)) or _EMPTY for p in self.paths)


def fault_of(preset: Preset, paths: Sequence[Sequence[Layer]]) -> str:
    """Return why these paths are no network of the space, empty if they are one."""
    for name, path in zip(PATHS, paths, strict=True):
        for layer in path:
            if layer.op not in OPS or not 0 <= layer.width < len(preset.widths):
                letters, last = ", ".join(OPS), len(preset.widths) - 1
                return f"layer {layer} of {name}: expected a letter of {letters} and a width from 0 to {last}"
        if len(path) > preset.longest:
            return f"{name} has {len(path)} layers, the preset allows {preset.longest}"
    n_layers = sum(map(len, paths))
    if n_layers > preset.layers:
        return f"{n_layers} layers, the preset allows {preset.layers}"
    trunk, deep, detail = (sum(layer.down for layer in path) for path in paths)
    if trunk + deep > MOST_HALVINGS["deep"]:
        return f"deep ends at 1/{8 << (trunk + deep)}, the coarsest scale is 1/32"
    if deep <= detail:
        return (
            f"deep ends at 1/{8 << (trunk + deep)}: expected coarser than detail, 1/{8 << (trunk + detail)}"
        )
    for name, i, layer in _identities(preset, paths):
        return f"layer {layer} of {name} (position {i}) is an identity: leave it out"
    return ""


def without_identities(preset: Preset, paths: Sequence[Sequence[Layer]]) -> list[tuple[Layer, ...]]:
    """Return the paths without skips that change neither resolution nor width."""
    drop = {(name, i) for name, i, _ in _identities(preset, paths)}
    return [
        tuple(layer for i, layer in enumerate(path) if (name, i) not in drop)
        for name, path in zip(PATHS, paths, strict=True)
    ]


def _identities(preset: Preset, paths: Sequence[Sequence[Layer]]) -> Iterator[tuple[str, int, Layer]]:
    split = preset.widths.index(preset.stem[-1])
    for name, path in zip(PATHS, paths, strict=True):
        width = split
        for i, layer in enumerate(path):
            if layer == ("s", width, False):
                yield name, i, layer
            width = layer.width
        if name == "trunk":
            split = width


def _path(text: str, name: str, shown: str) -> tuple[Layer, ...]:
    if text == _EMPTY:
        return ()
    if not re.fullmatch(f"(?:{_LAYER.pattern})+", text, re.ASCII):
        raise ConfigError(f"arch {shown!r}: {name} {text!r}: expected pairs of a letter and a digit, or 0")
    return tuple(Layer(op.lower(), int(width), op.isupper()) for op, width in _LAYER.findall(text))
