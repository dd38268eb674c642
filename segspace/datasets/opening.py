"""A data set's text -> the data set."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl

from proxygraph.errors import ConfigError, UnknownName
from segspace.datasets.base import Dataset
from segspace.datasets.camvid import camvid
from segspace.datasets.cityscapes import cityscapes
from segspace.datasets.generated import streetscenes

FORMS = "camvid:DIR, cityscapes:DIR, streetscenes[:HxW][?train=1024&val=256]"


def open_dataset(text: str) -> Dataset:
    """Return the data set of ``camvid:DIR``, ``cityscapes:DIR`` or ``streetscenes[:HxW][?train=N&val=N]``.

    Every file is checked first.

    Raises
    ------
    UnknownName
        If no data set has that name.
    ConfigError
        If the text cannot be read, or files are missing, without a partner or damaged.
    """
    kind, _, rest = text.partition(":")
    if kind in ("camvid", "cityscapes"):
        if not rest:
            raise ConfigError(f"data {text!r} needs its folder: {kind}:DIR")
        return (camvid if kind == "camvid" else cityscapes)(Path(rest))
    kind, _, query = text.partition("?")
    kind, _, size = kind.partition(":")
    if kind != "streetscenes":
        raise UnknownName(f"no data set {text!r}; known: {FORMS}")
    counts = {"train": 1024, "val": 256}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in counts or not re.fullmatch("[1-9][0-9]{0,6}", value):
            raise ConfigError(f"data {text!r}: {name}={value}; expected train=N and val=N above 0")
        counts[name] = int(value)
    return streetscenes(parse_size(size or "120x160"), **counts)


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of ``HxW``."""
    match = re.fullmatch("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise ConfigError(f"size {text!r}: expected HEIGHTxWIDTH in pixels, such as 120x160")
    return int(match[1]), int(match[2])
