"""``python -m segspace.evaluate``: mIoU of a trained network, its confusions, pictures of what it sees."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from proxygraph.command import console, next_steps, reporting, run_command
from segspace.options import DATA, FILES, Data, Device, Split


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training, or a checkpoint.")],
    data: Data,
    split: Split = "val",
    size: Annotated[
        str,
        typer.Option(
            metavar="HxW",
            help="Height and width of the pictures, in pixels; by default as trained.",
            rich_help_panel=DATA,
        ),
    ] = "",
    pictures: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many predictions to draw.", rich_help_panel=FILES)
    ] = 8,
    device: Device = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the results; by default evaluation-SPLIT beside the checkpoint.",
            rich_help_panel=FILES,
        ),
    ] = None,
) -> None:
    """Judge a network at the full size of the label maps: whole pictures, one scale.

    Writes evaluation.json, confusion.csv (rows: true class), prediction-NAME.png (image, truth, prediction).

    Example: python -m segspace.evaluate runs/street --data "streetscenes:64x96?train=64&val=16"
    """
    import numpy as np
    from PIL import Image

    from proxygraph.errors import ConfigError
    from proxygraph.run import RunFolder, csv_text, environment
    from segspace.checkpoint import trained_network
    from segspace.datasets import Pictures, open_dataset
    from segspace.datasets.opening import parse_size
    from segspace.drawing import triptych
    from segspace.judging import judgement, prediction
    from segspace.resumable import check_device

    check_device(device)
    header, network = trained_network(run)
    network = network.to(device)
    dataset = open_dataset(data)
    if header.classes != dataset.classes:
        raise ConfigError(f"{run}: trained for other classes than {dataset.name} has")
    seen = parse_size(size) if size else header.recipe.size
    source = dataset.split(split)
    folder = out or (run if run.is_dir() else run.parent) / f"evaluation-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    screen = console()
    with reporting(screen) as report:
        kept = Pictures(source, lambda _: seen, report=report)
        found = judgement(network, kept, len(dataset.classes), device=device, report=report)
    result = {
        "arch": header.arch,
        "checkpoint": str(run),
        "step": [header.step, header.steps],
        "trained_on": header.protocol,
        "protocol": f"{dataset.protocol}; {split}, {len(kept)} pictures, whole picture, single scale",
        "size": list(seen),
        "miou": round(found.miou, 4),
        "accuracy": round(found.accuracy, 4),
        "class_iou": {
            name: None if np.isnan(x) else round(x, 3)
            for name, x in zip(dataset.classes, found.class_iou, strict=True)
        },
        "palette": {name: list(rgb) for name, rgb in zip(dataset.classes, dataset.palette, strict=True)},
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "environment": environment(1),
    }
    results = RunFolder(folder)
    results.write("evaluation.json", json.dumps(result, indent=2) + "\n")
    counts = [
        {"true": name} | dict(zip(dataset.classes, row.tolist(), strict=True))
        for name, row in zip(dataset.classes, found.confusion, strict=True)
    ]
    results.write("confusion.csv", csv_text(counts))
    for i in np.linspace(0, len(kept) - 1, min(pictures, len(kept))).round().astype(int).tolist():
        image, labels = kept[i]
        seen_classes = prediction(network, image, tuple(labels.shape), device).cpu().numpy()
        drawn = triptych(Image.fromarray(image.numpy()), labels.numpy(), seen_classes, dataset.palette)
        drawn.save(folder / f"prediction-{source.name(i)}.png")
    for name, iou in result["class_iou"].items():  # type: ignore[attr-defined]
        screen.print(f"{name:>16} {'absent' if iou is None else f'{iou:6.2f}'}")
    screen.print(
        f"mIoU {found.miou:.2f} %, accuracy {found.accuracy:.2f} % ({result['protocol']})", soft_wrap=True
    )
    screen.print(f"{folder}", soft_wrap=True)
    target = shlex.quote(str(folder.parent / "network.onnx"))
    next_steps(screen, f"ship it: python -m segspace.export {shlex.quote(str(run))} --onnx {target}")


def main() -> None:
    """Run the command."""
    run_command(evaluate, "python -m segspace.evaluate")


if __name__ == "__main__":
    main()
