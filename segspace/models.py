"""Arch text -> network, for every space there is."""

from __future__ import annotations

from typing import Final

from torch import nn

from proxygraph.errors import UnknownName

REDUCED: Final = {"width": 8, "stem_stride": 1, "decoder_least": 16}
"""How ``streetscenes:`` networks differ from the published ones: small enough to train in seconds."""


def build(text: str, classes: int, *, seed: int = 0) -> nn.Module:
    """Return the untrained network of an arch text.

    Parameters
    ----------
    text : str
        ``rtseg:PRESET:CODES``; ``transnas101:64-41414-a_bc_def``, the published width; or
        ``streetscenes:64-41414-a_bc_def``, the same cell at the width of the ``streetscenes`` table; or
        ``enet``, ``fastscnn``, ``bisenetv2:WIDTH``, ``ddrnet:WIDTH`` (`segspace.baselines`).
    classes : int
        Number of output channels.
    seed : int
        Of the weights.

    Returns
    -------
    nn.Module
        Images (n, 3, h, w) to logits (n, classes, h, w).

    Raises
    ------
    UnknownName
        If no space has that name.
    ConfigError, ParseError
        If the space cannot read the rest.
    """
    space, _, rest = text.partition(":")
    if space == "rtseg":
        from segspace.rtseg.arch import Arch as Segmenter
        from segspace.rtseg.network import build as segmenter

        return segmenter(Segmenter.parse(text), classes, seed=seed)
    if space in ("transnas101", "streetscenes"):
        from segspace.transnas101 import Arch, build

        shape = REDUCED if space == "streetscenes" else {}
        return build(Arch.parse(rest), classes=classes, seed=seed, **shape)
    from segspace.baselines import NAMES, baseline

    if space in NAMES:
        return baseline(text, classes, seed=seed)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    raise UnknownName(
        f"arch {shown!r}: expected rtseg:..., transnas101:..., streetscenes:... or a baseline: "
        f"{', '.join(sorted(NAMES))}"
    )
