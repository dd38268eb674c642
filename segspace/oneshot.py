"""``python -m segspace.oneshot``: All networks of a space trained at once, and ranked by it.

The baseline of training-free ranking: one supernet is trained by the sandwich rule, and a network's score is
the mIoU it has with the supernet's weights once its batch normalisation is calibrated.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxygraph.command import console, reporting, run_command
from proxygraph.errors import ConfigError, ParseError
from segspace.options import (
    DATA,
    DATA_FORMS,
    FILES,
    NETWORKS,
    RECIPE,
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
    SpaceName,
    Split,
    Threads,
    Workers,
    preset_of,
)

if TYPE_CHECKING:
    from proxygraph.rank import RankReport
    from segspace.datasets import Dataset
    from segspace.measured import Row
    from segspace.rtseg.arch import Arch
    from segspace.shared_weights import Judge

Report = Any


def train(
    space: SpaceName = "rtseg:tiny",
    data: Data = "streetscenes",
    size: Size = "120x160",
    crop: Crop = "",
    epochs: Epochs = 60,
    batch: Batch = 4,
    lr: Lr = 2e-3,
    class_weight_power: ClassWeightPower = -0.3,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Seed of weights and of pictures.", rich_help_panel=RECIPE),
    ] = 0,
    device: Device = "cpu",
    workers: Workers = 0,
    threads: Threads = 0,
    out: RunFolderOut = Path("runs/supernet"),
    resume: Resume = False,
) -> None:
    """Train the supernet of a space by the sandwich rule; Ctrl-C keeps a checkpoint, --resume goes on.

    Example: python -m segspace.oneshot train --data "streetscenes:64x96?train=64&val=16" --size 64x96
    --epochs 2 --out runs/supernet
    """
    import torch

    from proxygraph.run import RunFolder
    from segspace.augment import stored_size
    from segspace.datasets import Pictures, open_dataset
    from segspace.datasets.opening import parse_size
    from segspace.recipe import Recipe
    from segspace.resumable import check_device, header_of, run, stopping
    from segspace.rtseg.space import Space
    from segspace.shared_weights import KIND, SupernetTraining

    preset = preset_of(space)
    recipe = Recipe(
        size=parse_size(size),
        crop=parse_size(crop) if crop else (0, 0),
        epochs=epochs,
        batch=batch,
        lr=lr,
        class_weight_power=class_weight_power,
    )
    config = {
        "command": "oneshot train",
        "preset": preset,
        "data": data,
        "seed": seed,
        "recipe": recipe.to_json(),
    }
    check_device(device)
    if threads:
        torch.set_num_threads(threads)
    dataset = open_dataset(data)
    RunFolder(out).check_free(resume)
    with reporting(console()) as report, stopping() as stop:
        stored, classes = stored_size(recipe), len(dataset.classes)
        pictures = Pictures(dataset.split("train"), stored, stored, report=report)
        training = SupernetTraining(
            Space.preset(preset), recipe, pictures, classes, seed=seed, device=device, workers=workers
        )
        folder = RunFolder.create(out, config, resume)  # only now: what cannot be trained leaves no folder
        header = header_of(KIND + preset, dataset, training)
        run(training, header, folder, resume=resume, report=report, stop=stop)
    print(f"{out}: complete")
    print(f"rank networks by it: python -m segspace.oneshot rank {shlex.quote(str(out))} --table TABLE.csv")


def rank(
    supernet: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained supernet.")],
    archs: Annotated[
        list[str] | None, typer.Argument(metavar="ARCH", help="Networks to score, as arch text.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table (.csv) with networks (arch) and, if measured, their mIoU (miou).",
            rich_help_panel=NETWORKS,
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help=f"Data set: {DATA_FORMS}; by default that of the training.",
            rich_help_panel=DATA,
        ),
    ] = "",
    split: Split = "val",
    batches: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Batches of 8 training pictures that calibrate batch normalisation.",
            rich_help_panel=DATA,
        ),
    ] = 32,
    device: Device = "cpu",
    threads: Threads = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Scores (.csv); by default oneshot.csv in the run.", rich_help_panel=FILES
        ),
    ] = None,
) -> None:
    """Score networks by the mIoU they have in a supernet; the same command goes on where it stopped.

    With a table of measured networks, Spearman's and Kendall's rank correlation with their mIoU (mean over
    seeds) are printed and stored beside the scores.

    Example: python -m segspace.oneshot rank runs/supernet --table build/streets.csv
    """
    import torch

    from proxygraph.run import RunFolder
    from segspace.datasets import open_dataset
    from segspace.groundtruth import owned
    from segspace.resumable import check_device
    from segspace.shared_weights import Judge, trained_supernet

    out = out or supernet / "oneshot.csv"
    if out.suffix != ".csv":
        raise ConfigError(f"--out {out}: expected a name that ends in .csv")
    check_device(device)
    if threads:
        torch.set_num_threads(threads)
    measured = {} if table is None else read_measured(table)
    if not archs and not measured:
        raise ConfigError("no networks to score: name some, or give --table CSV")
    header, weights = trained_supernet(supernet)
    todo = [_parsed(text, weights.preset) for text in dict.fromkeys([*(archs or ()), *measured])]
    data = data or RunFolder(supernet).read("config.json")["data"]
    dataset = open_dataset(data)
    if dataset.classes != header.classes:
        raise ConfigError(f"{supernet}: trained for other classes than {dataset.name} has")
    about = header.to_json()
    settings = {
        "supernet": {name: about[name] for name in ("arch", "protocol", "recipe", "seed", "steps")},
        "data": data if data.startswith("streetscenes") else dataset.name,
        "split": split,
        "batches": batches,
    }
    with owned(out, settings), reporting(console()) as report:
        judge = Judge(weights.to(device), header, dataset, split, batches, device=device, report=report)
        if not out.with_suffix(".json").exists():
            _describe(out, settings, dataset, [], None)  # a table without it is refused by the next run
        rows = _scored(judge, todo, out, dataset, report)
        found = agreement(rows, measured)
        _describe(out, settings, dataset, rows, found)
    if found is not None:
        print(f"{found.n_used} measured networks: Spearman {_word(found.rho)}, Kendall {_word(found.tau_b)}")
    print(out)
    best = max(rows, key=lambda row: row.miou, default=None)
    if best is not None:
        print(f"train the best: python -m segspace.train {shlex.quote(best.arch)} --data {shlex.quote(data)}")


def read_measured(path: Path) -> dict[str, float]:
    """Return the mean mIoU of each arch of a table, NaN where it has none.

    Parameters
    ----------
    path : Path
        CSV with a column ``arch`` and perhaps ``miou``; an arch may stand in several rows, one per seed.

    Raises
    ------
    ParseError
        If the file cannot be read as that.
    """
    found: dict[str, list[float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if not row["arch"]:
                    raise ValueError("a row without an arch")
                found.setdefault(row["arch"], []).append(float(row.get("miou") or "nan"))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ParseError(f"{path}: not a table of networks: {type(error).__name__}: {error}") from None
    return {arch: sum(values) / len(values) for arch, values in found.items()}


def agreement(rows: Sequence[Row], measured: Mapping[str, float]) -> RankReport | None:
    """Return how well scores rank the networks whose mIoU is known, ``None`` if fewer than two are."""
    import numpy as np

    from proxygraph.rank import rank_report
    from proxygraph.scores import Scores

    pairs = [(row.miou, measured[row.arch]) for row in rows if measured.get(row.arch, np.nan) >= 0]
    if len(pairs) < 2:
        return None
    scores, target = zip(*pairs, strict=True)
    return rank_report(Scores.of(list(scores)), np.asarray(target))


def _parsed(text: str, preset: Any) -> Arch:
    from segspace.rtseg.arch import Arch

    arch = Arch.parse(text)
    if arch.preset != preset:
        raise ConfigError(f"{text}: the supernet is of preset {preset.name!r}")
    return arch


def _scored(judge: Judge, archs: Sequence[Arch], out: Path, dataset: Dataset, report: Report) -> list[Row]:
    """Score what the table has not got, row by row, and return all rows."""
    from segspace.measured import append_row, read_rows, write_rows

    rows = read_rows(out, dataset.classes)
    write_rows(out, rows, dataset.classes)  # drops what a crash cut off
    done = {row.arch for row in rows}
    todo = [arch for arch in archs if str(arch) not in done]
    try:
        for k, arch in enumerate(todo):
            rows.append(judge.row(arch))
            append_row(out, rows[-1])
            report("scoring networks", k + 1, len(todo))
    except KeyboardInterrupt:
        typer.echo(f"{out} keeps what is done; the same command goes on from there", err=True)
        raise
    return rows


def _describe(
    out: Path, settings: Mapping[str, Any], dataset: Dataset, rows: Sequence[Row], found: RankReport | None
) -> None:
    """Write what a reader of the scores must know, beside them; correlations stay until there are others."""
    from proxygraph.run import RunFolder, environment

    folder, beside = RunFolder(out.parent), out.with_suffix(".json")
    before = folder.read(beside.name) if beside.exists() else {}
    correlation = (
        {name: before.get(name) for name in ("spearman", "kendall")}
        | {"measured_networks": before.get("measured_networks", 0)}
        if found is None
        else {"spearman": found.rho, "kendall": found.tau_b, "measured_networks": found.n_used}
    )
    about = {
        "what": "one-shot mIoU (percent): weights of a supernet, batch normalisation calibrated",
        "made_by": "python -m segspace.oneshot rank",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "settings": settings,
        "protocol": f"{dataset.protocol}; {settings['split']}, whole picture, single scale",
        "networks": len(rows),
        "cpu_seconds_per_network": round(sum(row.seconds for row in rows) / max(1, len(rows)), 2),
        **correlation,
        "environment": environment(1),
    }
    folder.write(beside.name, json.dumps(about, indent=2) + "\n")


def _word(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def main() -> None:
    """Run the command."""
    run_command(train, "python -m segspace.oneshot", rank)


if __name__ == "__main__":
    main()
