"""``python -m segspace.groundtruth``: train many small networks, each to the end, and keep what they reach.

Every training is one process with one thread, from a seeded start to learning rate zero; what counts is the
last step, never the best one. The same recipe, arch and seed give the same row on the same machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from proxygraph.command import console, reporting, run_command
from proxygraph.errors import ConfigError, StorageError
from segspace.measured import Row, append_row, noise, read_rows, write_rows
from segspace.options import (
    FILES,
    MACHINE,
    NETWORKS,
    Batch,
    ClassWeightPower,
    Crop,
    Data,
    Epochs,
    Lr,
    Size,
)
from segspace.plan import planned
from segspace.recipe import Recipe

if TYPE_CHECKING:
    from segspace.datasets import Dataset, Pictures

Job: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Bench:
    """What the networks of a table share; enough to train one of them in another process."""

    data: str
    recipe: Recipe

    def pictures(self, dataset: Dataset) -> tuple[Pictures, Pictures]:
        """Return what is trained on, and what is judged on: seen at the recipe's size, labels in full."""
        from segspace.augment import stored_size
        from segspace.datasets import Pictures

        stored = stored_size(self.recipe)
        train = Pictures(dataset.split("train"), stored, stored)
        return train, Pictures(dataset.split("val"), lambda _: self.recipe.size)


def trained_row(arch: str, seed: int, bench: Bench, dataset: Dataset, train: Pictures, val: Pictures) -> Row:
    """Return what one whole training gives on the validation pictures."""
    from segspace.cost import cost
    from segspace.judging import judgement
    from segspace.models import build
    from segspace.training import Training

    begin = time.process_time()
    classes = len(dataset.classes)
    network = build(arch, classes, seed=seed)
    spent = cost(network, bench.recipe.size)
    training = Training(network, bench.recipe, train, classes, seed=seed)
    training.run()
    found = judgement(training.judged, val, classes)
    seconds = time.process_time() - begin
    return Row(arch, seed, found.miou, found.accuracy, seconds, spent.params, spent.macs, found.class_iou)


_shared: tuple[Bench, Dataset, Pictures, Pictures] | None = None


def start_worker(bench: Bench) -> None:
    """Set up a worker: one thread, its own pictures; Ctrl-C is the parent's business."""
    import torch
    import torchmetrics.classification  # noqa: F401  # slow to import: not within a training's seconds

    from segspace.datasets import open_dataset

    global _shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dataset = open_dataset(bench.data)
    _shared = (bench, dataset, *bench.pictures(dataset))


def _work(arch: str, seed: int) -> Row:
    assert _shared is not None
    return trained_row(arch, seed, *_shared)


class _Stop:
    """Ctrl-C as a flag: the first asks for a stop between trainings, the second interrupts."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked, self._say = False, say
        self._before = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, signum: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say("stopping after the trainings under way; Ctrl-C again stops at once and loses them")

    def restore(self) -> None:
        signal.signal(signal.SIGINT, self._before)


def train_all(
    todo: Sequence[Job],
    pool: Executor,
    processes: int,
    finished: Callable[[Row], None],
    say: Callable[[str], None],
) -> bool:
    """Train the jobs in order, hand over each row as it comes, return whether all are done.

    After Ctrl-C the trainings under way are finished and kept.
    """
    left = list(todo)[::-1]
    stop = _Stop(say)
    waiting: set[Future[Row]] = set()
    try:
        while waiting or (left and not stop.asked):
            while left and len(waiting) < processes and not stop.asked:
                waiting.add(pool.submit(_work, *left.pop()))
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                finished(future.result())
    except BrokenProcessPool:
        raise StorageError(
            "a training process died (out of memory?); run the same command to go on"
        ) from None
    finally:
        stop.restore()
    return not left


@contextmanager
def owned(out: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Hold the table for this process; refuse one that was made with other settings."""
    from proxygraph.run import RunFolder

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = (out.parent / f".{out.name}.lock").open("w")
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}; choose another --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{out}: another process writes it; wait or give another --out") from None
        beside = out.with_suffix(".json")
        if out.exists() and not beside.exists():
            raise ConfigError(f"{out}: exists without its {beside.name}; give another --out")
        if beside.exists():
            stored = RunFolder(out.parent).read(beside.name).get("settings")
            if stored != settings:
                names = sorted(k for k in settings if (stored or {}).get(k) != settings[k])
                raise ConfigError(f"{out}: was made with another {', '.join(names)}; give another --out")
        yield


def write_provenance(out: Path, settings: dict[str, Any], dataset: Dataset, rows: Sequence[Row]) -> None:
    """Write what a reader must know to judge or repeat the table; every machine that made rows is named."""
    from proxygraph.run import RunFolder, environment

    folder, beside = RunFolder(out.parent), out.with_suffix(".json").name
    known = folder.read(beside) if (out.parent / beside).exists() else {}
    # one machine, "environment", is how older versions wrote it
    machines = known.get("environments") or ([known["environment"]] if "environment" in known else [])
    machine = environment(1) | {"cores": os.cpu_count()}
    sizes = {name: len(source) for name, source in dataset.splits.items()}
    found = {
        "what": f"mIoU (percent) of {settings['space']} networks on {dataset.name}",
        "made_by": "python -m segspace.groundtruth",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "settings": settings,
        "protocol": dataset.protocol,
        "pictures": sizes,
        "classes": list(dataset.classes),
        "metric": "mean over classes of IoU, pixels of all val pictures pooled, whole picture, single scale, "
        "logits resized to the label map, after the last step",
        "noise": noise(rows),
        "cpu_seconds_total": round(sum(row.seconds for row in rows)),
        "threads_per_training": 1,
        "environments": machines if machine in machines else [*machines, machine],
    }
    folder.write(beside, json.dumps(found, indent=2) + "\n")


def measure(
    data: str,
    settings: dict[str, Any],
    out: Path,
    processes: int,
    report: Callable[[str, int, int], None],
    say: Callable[[str], None],
) -> bool:
    """Bring a table to the end of its plan, or as far as Ctrl-C lets it; return whether it is complete.

    Parameters
    ----------
    data : str
        Text of the data set with its folder, which the settings leave out.
    settings : dict
        Everything the rows depend on, as it stands in the provenance.
    """
    from segspace.datasets import open_dataset

    recipe, dataset = Recipe.from_json(settings["recipe"]), open_dataset(data)
    jobs = planned(
        settings["space"],
        settings["networks"],
        settings["second_seeds"],
        size=recipe.size,
        classes=len(dataset.classes),
        seed=settings["seed"],
    )
    with owned(out, settings):
        rows = read_rows(out, dataset.classes)
        write_rows(out, rows, dataset.classes)  # drops what a crash cut off
        done = {(row.arch, row.seed) for row in rows}
        todo = [job for job in jobs if job not in done]
        what = "training networks"
        report(what, len(jobs) - len(todo), len(jobs))

        def finished(row: Row) -> None:
            append_row(out, row)
            rows.append(row)
            write_provenance(out, settings, dataset, rows)
            say(
                f"{datetime.now(UTC):%H:%M:%S} {row.arch} seed {row.seed}: mIoU {row.miou:.2f}, "
                f"{row.macs / 1e6:.1f} M MACs, {row.seconds:.0f} s CPU"
            )
            report(what, len(jobs) - len(todo) + len(rows) - len(done), len(jobs))

        write_provenance(out, settings, dataset, rows)
        if not todo:
            return True
        bench = Bench(data, recipe)
        os.environ["OMP_NUM_THREADS"] = "1"  # for the processes: libraries read it when they are loaded
        with ProcessPoolExecutor(
            min(processes, len(todo)), get_context("spawn"), initializer=start_worker, initargs=(bench,)
        ) as pool:
            return train_all(todo, pool, processes, finished, say)


def groundtruth(
    data: Data,
    space: Annotated[
        str,
        typer.Option(
            metavar="SPACE",
            help="Space of networks: rtseg:tiny, rtseg:base or streetscenes.",
            rich_help_panel=NETWORKS,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Table (.csv) to write or to go on with; provenance beside it.",
            rich_help_panel=FILES,
        ),
    ],
    networks: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many networks.", rich_help_panel=NETWORKS)
    ] = 110,
    second_seeds: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="How many of them are trained twice.", rich_help_panel=NETWORKS
        ),
    ] = 27,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Seed of the choice of networks.", rich_help_panel=NETWORKS),
    ] = 2026,
    size: Size = "120x160",
    crop: Crop = "",
    epochs: Epochs = 30,
    batch: Batch = 4,
    lr: Lr = 4e-3,
    class_weight_power: ClassWeightPower = -0.3,
    processes: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Trainings at a time, one thread each.", rich_help_panel=MACHINE
        ),
    ] = 2,
) -> None:
    """Train networks of a space and write their mIoU; Ctrl-C stops, the same command goes on.

    Example: python -m segspace.groundtruth --data "streetscenes:64x96?train=64&val=16" --space rtseg:tiny
    --size 64x96 --networks 4 --second-seeds 0 --epochs 2 --out build/streets.csv
    """
    if out.suffix != ".csv":
        raise ConfigError(f"--out {out}: expected a name that ends in .csv")
    from segspace.datasets.opening import parse_size

    recipe = Recipe(
        size=parse_size(size),
        crop=parse_size(crop) if crop else (0, 0),
        epochs=epochs,
        batch=batch,
        lr=lr,
        class_weight_power=class_weight_power,
    )
    settings = {
        "data": data if data.startswith("streetscenes") else data.partition(":")[0],
        "space": space,
        "networks": networks,
        "second_seeds": second_seeds,
        "seed": seed,
        "recipe": recipe.to_json(),
    }
    screen = console()

    def say(line: str) -> None:
        screen.print(line, soft_wrap=True)

    with reporting(screen) as report:
        complete = measure(data, settings, out, processes, report, say)
    say(json.dumps(json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["noise"]))
    if not complete:
        say(f"stopped; the same command goes on from the rows in {out}")
        raise SystemExit(130)  # typer.Exit would be taken for a failure
    say(f"{out}: complete")
    say(f"rank them by a supernet: python -m segspace.oneshot rank RUN --table {shlex.quote(str(out))}")


def main() -> None:
    """Run the command."""
    run_command(groundtruth, "python -m segspace.groundtruth")


if __name__ == "__main__":
    main()
