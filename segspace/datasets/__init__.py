"""Labelled pictures: ``camvid:DIR``, ``cityscapes:DIR`` and the generated ``streetscenes``."""

from segspace.datasets.base import IGNORED, Dataset, Source
from segspace.datasets.opening import open_dataset
from segspace.datasets.pictures import Pictures

__all__ = ["IGNORED", "Dataset", "Pictures", "Source", "open_dataset"]
