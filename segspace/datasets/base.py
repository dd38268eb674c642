"""What a data set is: splits of pictures with label maps, and the protocol that results are named by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from proxygraph.errors import ConfigError

IGNORED: Final = 255
"""Label of pixels that count neither in a loss nor in a metric."""
_SHOWN: Final = 8  # faulty files that an error names


class Source(Protocol):
    """Pictures of one split, by number; cheap to copy to another process."""

    def __len__(self) -> int:
        """Return how many pictures there are."""
        ...

    def name(self, i: int) -> str:
        """Return the name of a picture, to find it again."""
        ...

    def item(self, i: int) -> tuple[Image.Image, Image.Image]:
        """Return an RGB picture and its map of class numbers, `IGNORED` where there is none (mode L)."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data set with its rules.

    Attributes
    ----------
    name : str
        The text that opens it again, without the folder.
    protocol : str
        Classes, split and what is ignored, in one line: it stands in every result.
    classes : tuple of str
        In the order of the class numbers.
    palette : tuple of (r, g, b)
        Colours of drawn label maps.
    splits : mapping
        ``train``, ``val`` and, where it is there, ``test``.
    """

    name: str
    protocol: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: Mapping[str, Source]

    def split(self, name: str) -> Source:
        """Return a split by name."""
        if name not in self.splits:
            raise ConfigError(f"{self.name} has no split {name!r} here; there are {', '.join(self.splits)}")
        return self.splits[name]


class BadFile(Exception):
    """A picture or label map that cannot be used, and why."""


@dataclass(frozen=True)
class Files:
    """Pictures and label maps in files; ``class_of[value]`` is the class of a stored value, -1 forbids it."""

    pairs: tuple[tuple[Path, Path], ...]
    class_of: tuple[int, ...]

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.pairs)

    def name(self, i: int) -> str:
        """Return the stem of the picture's file."""
        return self.pairs[i][0].stem

    def item(self, i: int) -> tuple[Image.Image, Image.Image]:
        """Return picture and classes of pair `i`.

        Raises
        ------
        BadFile
            If a file cannot be decoded, sizes differ, or a label has no meaning.
        """
        image, labels = (_decoded(path) for path in self.pairs[i])
        if image.size != labels.size:
            raise BadFile(f"{self.pairs[i][1]}: {_by(labels)}, but its picture is {_by(image)}")
        return image.convert("RGB"), Image.fromarray(self._classes(np.asarray(labels), self.pairs[i][1]))

    def _classes(self, stored: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
        if stored.ndim != 2 or stored.dtype != np.uint8:
            raise BadFile(f"{path}: not a map of one 8-bit number per pixel")
        table = np.full(256, -1, np.int64)
        table[: len(self.class_of)] = self.class_of
        classes: NDArray[np.int64] = table[stored]
        if classes.min() < 0:
            raise BadFile(f"{path}: label {int(stored[classes < 0][0])} has no meaning here")
        return np.asarray(classes, np.uint8)


def faults_of(source: Files) -> list[str]:
    """Return what is wrong with files that are not a whole image, or whose pair differs in size.

    Reads checksums and headers, decodes nothing; stored labels are checked when they are decoded.
    """
    faults = []
    for pair in source.pairs:
        sizes = []
        for path in pair:
            try:
                with Image.open(path) as image:
                    sizes.append(image.size)
                    image.verify()
            except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
                faults.append(f"{path}: {error}")
        if len(set(sizes)) > 1:
            (w, h), (lw, lh) = sizes
            faults.append(f"{pair[1]}: {lh}x{lw}, but its picture is {h}x{w}")
    return faults


def refuse(faults: Sequence[str]) -> None:
    """Raise one error that lists faulty files, if there are any."""
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        count = f"{len(faults)} faulty file{'s' * (len(faults) > 1)}"
        raise ConfigError(f"{count}: {'; '.join(faults[:_SHOWN])}{more}")


def _decoded(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadFile(f"{path}: {error}") from None


def _by(image: Image.Image) -> str:
    return f"{image.height}x{image.width}"
