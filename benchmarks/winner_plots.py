"""What a search under a budget chose: the table of budgets, the networks drawn, what they see in pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from PIL import Image

from benchmarks.pages import DOCS, number, rows_of, table
from proxygraph.errors import ConfigError
from segspace.datasets import open_dataset
from segspace.drawing import parts_of
from segspace.report.archs import arch_svg

PICTURES, WIDTH = 4, 320


def budget_table() -> str:
    """Return what was chosen for each budget, and how fast it turned out to be."""
    head = ["budget, ms", "chosen", "predicted, ms", "measured: p10, ms", "median", "error", "M MACs"]
    body = [
        [
            f"{one['budget_ms']:g}",
            f"`{one['engine']}`",
            f"{one['predicted_ms']:.3f}",
            f"{one['p10']:.3f}",
            f"{one['median']:.3f}",
            f"{one['error_percent']:+.1f} %",
            number(one["macs"] / 1e6),
        ]
        for one in rows_of("budget")
        if "budget_ms" in one
    ]
    return table(head, body)


def file_of(arch: str) -> str:
    """Return the name of the drawing of a network."""
    return f"segmenter_{re.sub(r'[^A-Za-z0-9-]+', '_', arch.removeprefix('rtseg:'))}.svg"


def draw_archs() -> None:
    """Draw every found network of the result."""
    for one in rows_of("segmenters"):
        if one["kind"] == "found":
            drawn = arch_svg(one["engine"], tuple(one["size"]), len(one["class_iou"]))
            (DOCS / "images" / file_of(one["engine"])).write_text(drawn, encoding="utf-8")


def draw_predictions(work: Path, archs: Sequence[str], data: str) -> None:
    """Draw the label maps that some networks predict for the same pictures, side by side.

    Photographs and true label maps stay out: data sets may not be passed on.

    Parameters
    ----------
    work : Path
        Folder of benchmarks/segmenters.py, judged.
    archs : sequence of str
        A column each.
    data : str
        As for `segspace.train`: names and colours of the classes.

    Raises
    ------
    ConfigError
        If a network was not judged.
    """
    columns = []
    for arch in archs:
        found = sorted((work / re.sub(r"[^\w.-]+", "_", arch) / "evaluation-val").glob("prediction-*.png"))
        if not found:
            raise ConfigError(
                f"{work}: no predictions of {arch}; judge it first (segmenters.py --only judge)"
            )
        columns.append([found[i] for i in np.linspace(0, len(found) - 1, PICTURES).round().astype(int)])
    names = [path.stem.removeprefix("prediction-") for path in columns[0]]
    figure, panels = plt.subplots(
        len(names), len(archs), figsize=(2.5 * len(archs), 1.95 * len(names) + 0.8), squeeze=False
    )
    for k, (arch, paths) in enumerate(zip(archs, columns, strict=True)):
        panels[0][k].set_title(arch.removeprefix("rtseg:"), fontsize=9)
        for axis, path in zip(panels[:, k], paths, strict=True):
            seen = parts_of(Image.open(path))[2]
            axis.imshow(seen.resize((WIDTH, WIDTH * seen.height // seen.width), Image.Resampling.NEAREST))
            axis.set(xticks=[], yticks=[])
    for axis, name in zip(panels[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=7)
    dataset = open_dataset(data)
    patches = [
        Patch(color=tuple(c / 255 for c in colour), label=name)
        for name, colour in zip(dataset.classes, dataset.palette, strict=True)
    ]
    figure.legend(handles=patches, loc="lower center", ncols=6, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.6 / figure.get_figheight(), 1, 1))
    figure.savefig(DOCS / "images" / "segmenter_predictions.png", dpi=110, metadata={"Software": None})
    plt.close(figure)
