"""Cityscapes in its official layout: ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from proxygraph.errors import ConfigError
from segspace.datasets.base import IGNORED, Dataset, Files, faults_of, refuse

# (labelId, name, colour) of the 19 classes that are evaluated, in the order of their trainIds
_EVALUATED: Final = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
_LABEL_IDS: Final = 34  # 0 to 33; 255 is the licence plate, -1 stored in 8 bits
CLASSES: Final = tuple(name for _, name, _ in _EVALUATED)
PALETTE: Final = tuple(colour for _, _, colour in _EVALUATED)
PROTOCOL: Final = "Cityscapes fine, 19 classes (labelIds mapped to trainIds), the others ignored"
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


def cityscapes(folder: Path) -> Dataset:
    """Return Cityscapes (Cordts et al. 2016, arXiv:1604.01685) with fine annotations.

    The ``test`` split is left out: its published label maps are blank.

    Raises
    ------
    ConfigError
        If files are missing, without a partner or damaged: all of them are listed.
    """
    for part in ("leftImg8bit", "gtFine"):
        if not (folder / part).is_dir():
            raise ConfigError(f"cityscapes: {folder / part} is not a folder; give the folder above it")
    found = {name: _pairs(folder, name) for name in ("train", "val")}
    splits = {name: Files(pairs, _class_of()) for name, (pairs, _) in found.items()}
    alone = [fault for _, faults in found.values() for fault in faults]
    refuse(alone + [fault for source in splits.values() for fault in faults_of(source)])
    return Dataset("cityscapes", PROTOCOL, CLASSES, PALETTE, splits)


def _class_of() -> tuple[int, ...]:
    train_ids = {label: train_id for train_id, (label, _, _) in enumerate(_EVALUATED)}
    known = [train_ids.get(label, IGNORED) for label in range(_LABEL_IDS)]
    return (*known, *[-1] * (255 - _LABEL_IDS), IGNORED)


def _pairs(folder: Path, split: str) -> tuple[tuple[tuple[Path, Path], ...], list[str]]:
    """Return pairs of picture and label map, and what has no partner."""
    images, labels = (
        {str(path.relative_to(base))[: -len(end)]: path for path in base.glob(f"*/*{end}")}
        for base, end in ((folder / "leftImg8bit" / split, _IMAGE), (folder / "gtFine" / split, _LABEL))
    )
    if not images and not labels:
        raise ConfigError(f"cityscapes: no *{_IMAGE} in {folder / 'leftImg8bit' / split}/CITY")
    alone = [f"{images[key]}: no label map {key}{_LABEL}" for key in sorted(images.keys() - labels)] + [
        f"{labels[key]}: no picture {key}{_IMAGE}" for key in sorted(labels.keys() - images)
    ]
    return tuple((images[key], labels[key]) for key in sorted(images.keys() & labels)), alone
