"""CamVid in the SegNet form: ``train/``, ``trainannot/``, ``val/``, ``valannot/`` and maybe ``test``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from proxygraph.errors import ConfigError
from segspace.datasets.base import IGNORED, Dataset, Files, faults_of, refuse

CLASSES: Final = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)
PALETTE: Final = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
PROTOCOL: Final = "CamVid, SegNet split and 11 classes, void ignored"


def camvid(folder: Path) -> Dataset:
    """Return CamVid (Brostow et al. 2009) in the split and classes of SegNet (Badrinarayanan et al. 2017).

    Raises
    ------
    ConfigError
        If files are missing, without a partner or damaged: all of them are listed.
    """
    if not folder.is_dir():
        raise ConfigError(f"camvid: {folder} is not a folder; give camvid:DIR with DIR/train, DIR/trainannot")
    found = {name: _pairs(folder, name) for name in ("train", "val")}
    if (folder / "test").is_dir() and (folder / "testannot").is_dir():
        found["test"] = _pairs(folder, "test")
    splits = {name: Files(pairs, (*range(len(CLASSES)), IGNORED)) for name, (pairs, _) in found.items()}
    alone = [fault for _, faults in found.values() for fault in faults]
    refuse(alone + [fault for source in splits.values() for fault in faults_of(source)])
    return Dataset("camvid", PROTOCOL, CLASSES, PALETTE, splits)


def _pairs(folder: Path, split: str) -> tuple[tuple[tuple[Path, Path], ...], list[str]]:
    """Return pairs of picture and label map, and what has no partner."""
    images, labels = (
        {path.name: path for path in (folder / part).glob("*.png")} for part in (split, f"{split}annot")
    )
    if not images and not labels:
        raise ConfigError(f"camvid: no *.png in {folder / split} and {folder / (split + 'annot')}")
    alone = [
        f"{images[name]}: no label map {split}annot/{name}" for name in sorted(images.keys() - labels)
    ] + [f"{labels[name]}: no picture {split}/{name}" for name in sorted(labels.keys() - images)]
    return tuple((images[name], labels[name]) for name in sorted(images.keys() & labels)), alone
