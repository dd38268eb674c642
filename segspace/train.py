"""``python -m segspace.train``: train one network, to be interrupted and continued."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxygraph.command import completing, console, next_steps, reporting, run_command
from proxygraph.errors import ConfigError
from segspace.options import (
    DATA,
    RECIPE,
    ArchText,
    Batch,
    ClassWeightPower,
    Crop,
    Data,
    Device,
    Epochs,
    Lr,
    Resume,
    RunFolderOut,
    Size,
    Threads,
    Workers,
)

if TYPE_CHECKING:
    from segspace.checkpoint import Header
    from segspace.datasets import Dataset
    from segspace.training import Training

Report = Any
TEACHER = "Teacher"


def train(
    arch: Annotated[str, ArchText],
    data: Data = "streetscenes",
    size: Size = "120x160",
    crop: Crop = "",
    scale: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="Range of random scales.", rich_help_panel=DATA)
    ] = "0.75,1.5",
    jitter: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Change of brightness, contrast, saturation.", rich_help_panel=DATA
        ),
    ] = 0.3,
    epochs: Epochs = 30,
    batch: Batch = 8,
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="sgd or adamw.",
            rich_help_panel=RECIPE,
            autocompletion=completing(lambda: ("sgd", "adamw")),
        ),
    ] = "adamw",
    lr: Lr = 4e-3,
    weight_decay: Annotated[
        float, typer.Option(metavar="RATE", help="Spares biases and norms.", rich_help_panel=RECIPE)
    ] = 1e-2,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How the rate falls to zero: poly or cosine.",
            rich_help_panel=RECIPE,
            autocompletion=completing(lambda: ("poly", "cosine")),
        ),
    ] = "cosine",
    warmup: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the steps in which the rate rises.", rich_help_panel=RECIPE
        ),
    ] = 0.1,
    ohem: Annotated[
        float,
        typer.Option(
            metavar="P", help="Only pixels less certain than this count; 0: all.", rich_help_panel=RECIPE
        ),
    ] = 0.0,
    class_weight_power: ClassWeightPower = 0.0,
    ema: Annotated[
        float,
        typer.Option(
            metavar="DECAY", help="Decay of the running mean of the weights; 0: none.", rich_help_panel=RECIPE
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Seed of weights and of pictures.", rich_help_panel=RECIPE),
    ] = 0,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run or checkpoint to distill from.", rich_help_panel=TEACHER),
    ] = None,
    distill: Annotated[
        float, typer.Option(metavar="WEIGHT", help="Weight of the teacher's loss.", rich_help_panel=TEACHER)
    ] = 1.0,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Temperature of the teacher's loss.", rich_help_panel=TEACHER)
    ] = 1.0,
    device: Device = "cpu",
    workers: Workers = 0,
    threads: Threads = 0,
    out: RunFolderOut = Path("runs/train"),
    resume: Resume = False,
) -> None:
    """Train a network and judge it on val; Ctrl-C keeps a checkpoint, --resume goes on from it.

    Example: python -m segspace.train rtseg:tiny:c2-C2z3D4-i1 --data "streetscenes:64x96?train=64&val=16"
    --size 64x96 --epochs 2 --out runs/street
    """
    from segspace.datasets.opening import parse_size
    from segspace.recipe import Recipe

    low, high = _two_numbers("--scale", scale)
    recipe = Recipe(
        size=parse_size(size),
        crop=parse_size(crop) if crop else (0, 0),
        epochs=epochs,
        batch=batch,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        ohem=ohem,
        class_weight_power=class_weight_power,
        ema=ema,
        scale=(low, high),
        jitter=jitter,
        distill=distill if teacher is not None else 0.0,
        temperature=temperature,
    )
    config = {
        "command": "train",
        "arch": arch,
        "data": data,
        "seed": seed,
        "teacher": None if teacher is None else str(teacher),
        "recipe": recipe.to_json(),
    }
    trained(config, out, resume=resume, device=device, workers=workers, threads=threads)
    run, pictures = shlex.quote(str(out)), shlex.quote(data)
    next_steps(
        console(stderr=True),
        f"judge it: python -m segspace.evaluate {run} --data {pictures}",
        f"ship it: python -m segspace.export {run} --onnx {shlex.quote(str(out / 'network.onnx'))}",
    )


def trained(
    config: dict[str, Any], out: Path, *, resume: bool, device: str, workers: int, threads: int
) -> None:
    """Train as `config` says, into the folder `out`."""
    import torch

    from proxygraph.run import RunFolder
    from segspace.datasets import open_dataset
    from segspace.resumable import check_device, header_of, run, stopping

    check_device(device)
    if threads:
        torch.set_num_threads(threads)
    dataset = open_dataset(config["data"])
    folder = RunFolder(out)
    folder.check_free(resume)
    screen = console()
    with reporting(screen) as report, stopping() as stop:
        training = _prepared(config, dataset, device, workers, report)
        folder = RunFolder.create(out, config, resume)  # only now: what cannot be trained leaves no folder
        header = header_of(config["arch"], dataset, training)
        spent = run(training, header, folder, resume=resume, report=report, stop=stop)
        _conclude(training, replace(header, cpu_seconds=spent), dataset, folder, device, threads, report)
    screen.print_json((out / "result.json").read_text(encoding="utf-8"))


def _two_numbers(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{name} {text!r}: expected LOW,HIGH such as 0.75,1.5") from None
    return low, high


def _prepared(
    config: dict[str, Any], dataset: Dataset, device: str, workers: int, report: Report
) -> Training:
    """Return the training of a config at its start."""
    from segspace.augment import stored_size
    from segspace.checkpoint import trained_network
    from segspace.datasets import Pictures
    from segspace.models import build
    from segspace.recipe import Recipe
    from segspace.training import Training

    recipe, classes = Recipe.from_json(config["recipe"]), len(dataset.classes)
    network, teacher = build(config["arch"], classes, seed=config["seed"]), None
    if config["teacher"] is not None:
        taught, teacher = trained_network(Path(config["teacher"]))
        if taught.classes != dataset.classes:
            raise ConfigError(f"--teacher {config['teacher']}: knows other classes than {dataset.name} has")
    stored = stored_size(recipe)
    pictures = Pictures(dataset.split("train"), stored, stored, report=report)
    return Training(
        network,
        recipe,
        pictures,
        classes,
        seed=config["seed"],
        device=device,
        workers=workers,
        teacher=teacher,
    )


def _conclude(
    training: Training,
    header: Header,
    dataset: Dataset,
    folder: Any,
    device: str,
    threads: int,
    report: Report,
) -> None:
    """Judge on val and write ``result.json``."""
    import torch

    from proxygraph.run import environment
    from segspace.cost import cost
    from segspace.datasets import Pictures
    from segspace.judging import judgement

    val = Pictures(dataset.split("val"), lambda _: training.recipe.size, report=report)
    found = judgement(training.judged, val, len(dataset.classes), device=device, report=report)
    spent = cost(training.judged, training.recipe.size)
    result = {
        "arch": header.arch,
        "protocol": f"{dataset.protocol}; val, {len(val)} pictures, whole picture, single scale",
        "size": list(training.recipe.size),
        "miou": round(found.miou, 4),
        "accuracy": round(found.accuracy, 4),
        "class_iou": dict(zip(dataset.classes, [round(x, 3) for x in found.class_iou], strict=True)),
        "params": spent.params,
        "macs": spent.macs,
        "cpu_seconds": header.cpu_seconds,
        "device": device,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "environment": environment(threads or torch.get_num_threads()),
    }
    folder.write("result.json", json.dumps(result, indent=2) + "\n")


def main() -> None:
    """Run the command."""
    run_command(train, "python -m segspace.train")


if __name__ == "__main__":
    main()
