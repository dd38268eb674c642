"""Measure the ground truth of the ``streetscenes`` problem: train micro networks, write their mIoU.

    python tools/train_streetscenes.py run      # resumable; one row per training in WORK/rows.csv
    python tools/train_streetscenes.py export   # rows -> packaged table and provenance

Every training is one process with one thread, from a seeded start to learning rate zero; what counts is
the last step, never the best one. The same recipe, arch and seed give the same row on the same machine.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.stats import spearmanr
from torch import Tensor, nn

from proxygraph.errors import ConfigError, ParseError, ProxyGraphError
from segspace import streetscenes
from segspace.transnas101 import Arch, SegmentationNet, all_archs, build

PACKAGED: Final = Path(__file__).parents[1] / "segspace" / "data" / "streetscenes_micro.csv"
WORK: Final = Path("build") / "streetscenes"
SAMPLE_SEED: Final = 2026  # of the choice of networks
TRAIN_SCENES_SEED: Final = 1
VAL_SCENES_SEED: Final = 2


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training depends on besides its arch and seed."""

    scenes_version: int = streetscenes.VERSION
    size: int = 32
    stem_stride: int = 1  # keeps 4 cells a side in the last modules, where the published 4 would leave one
    width: int = 8
    decoder_least: int = 16
    train_scenes: int = 1024
    val_scenes: int = 384
    batch: int = 32
    steps: int = 350
    optimiser: str = "AdamW"
    schedule: str = "one-cycle, cosine, 25 % warm-up, to zero"
    peak_lr: float = 0.02
    weight_decay: float = 0.01
    class_weight_power: float = -0.5  # weight = share of pixels ** power, scaled to mean 1


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one training: percent, and CPU seconds."""

    arch: str
    seed: int
    miou: float
    accuracy: float
    seconds: float
    class_iou: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scenes:
    """Training and validation scenes, normalised, as tensors."""

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor


HEADER: Final = (
    "arch",
    "seed",
    "miou",
    "accuracy",
    "seconds",
    *(f"iou_{name}" for name in streetscenes.CLASSES),
)


def scenes(recipe: Recipe) -> Scenes:
    """Return the recipe's scenes; training and validation scenes have different seeds."""
    side = recipe.size
    pairs = (
        streetscenes.batch(TRAIN_SCENES_SEED, recipe.train_scenes, side, side),
        streetscenes.batch(VAL_SCENES_SEED, recipe.val_scenes, side, side),
    )
    return Scenes(*(torch.from_numpy(array) for pair in pairs for array in pair))


def confusion(network: nn.Module, images: Tensor, labels: Tensor, n_classes: int) -> NDArray[np.int64]:
    """Return the counts [true class, predicted class] over all pixels, in evaluation mode."""
    network.eval()
    counts = torch.zeros(n_classes * n_classes, dtype=torch.int64)
    with torch.no_grad():
        for x, y in zip(images.split(32), labels.split(32), strict=True):
            predicted = network(x).argmax(1)
            counts += torch.bincount((y * n_classes + predicted).flatten(), minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).numpy()


def class_ious(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection over union of each class; NaN where a class is neither there nor predicted."""
    both = np.diag(counts).astype(np.float64)
    either = counts.sum(0) + counts.sum(1) - both
    ious: NDArray[np.float64] = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
    return ious


def memory_format(width: int) -> torch.memory_format:
    """Return channels-last, a third faster here, where it is safe.

    The backward pass of a channels-last 1x1 convolution with stride 2 and fewer than 8 input channels
    corrupts the heap (torch 2.13, CPU with AVX2). Multiples of 8 are checked against float64 in the tests.
    """
    return torch.channels_last if width % 8 == 0 else torch.contiguous_format


def fitted(network: SegmentationNet, recipe: Recipe, data: Scenes, seed: int) -> SegmentationNet:
    """Train ``network`` in place by the recipe's whole schedule and return it."""
    rng = np.random.default_rng([seed, 77])
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.peak_lr, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_lr, total_steps=recipe.steps + 1, pct_start=0.25, final_div_factor=1e9
    )
    share = torch.bincount(data.train_labels.flatten(), minlength=len(streetscenes.CLASSES)).double()
    weights = (share / share.sum()).clamp(min=1e-4) ** recipe.class_weight_power
    weights = (weights / weights.mean()).float()
    layout = memory_format(recipe.width)
    network.train()
    order = np.empty(0, np.int64)
    for _ in range(recipe.steps):
        if len(order) < recipe.batch:
            order = rng.permutation(len(data.train_images))
        chosen, order = torch.from_numpy(order[: recipe.batch]), order[recipe.batch :]
        images, labels = data.train_images[chosen], data.train_labels[chosen]
        flip = torch.from_numpy(rng.random(len(chosen)) < 0.5)
        images[flip], labels[flip] = images[flip].flip(-1), labels[flip].flip(-1)
        logits = network(images.contiguous(memory_format=layout)).permute(0, 2, 3, 1)
        loss = nn.functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network


def trained_row(arch: Arch, seed: int, recipe: Recipe, data: Scenes) -> Row:
    """Return what one training gives on the validation scenes."""
    begin = time.process_time()
    n_classes = len(streetscenes.CLASSES)
    network = build(
        arch,
        classes=n_classes,
        width=recipe.width,
        stem_stride=recipe.stem_stride,
        decoder_least=recipe.decoder_least,
        seed=seed,
    )
    network.to(memory_format=memory_format(recipe.width))  # type: ignore[call-overload]
    fitted(network, recipe, data, seed)
    counts = confusion(network, data.val_images, data.val_labels, n_classes)
    ious = class_ious(counts)
    accuracy = float(np.diag(counts).sum() / counts.sum())
    seconds = time.process_time() - begin
    return Row(
        str(arch), seed, 100 * float(np.nanmean(ious)), 100 * accuracy, seconds, tuple((100 * ious).tolist())
    )


def sampled_archs(n: int) -> list[Arch]:
    """Return ``n`` connected networks of distinct live cells, drawn uniformly over all micro networks."""
    archs = all_archs()
    drawn: dict[Arch, Arch] = {}
    for k in np.random.default_rng(SAMPLE_SEED).permutation(len(archs)).tolist():
        if archs[k].connected:
            drawn.setdefault(archs[k].live(), archs[k])
    if not 1 <= n <= len(drawn):
        raise ConfigError(
            f"--networks {n}: expected 1 to {len(drawn)}, the number of distinct connected cells"
        )
    return list(drawn.values())[:n]


def planned(n_networks: int, n_second: int) -> list[tuple[Arch, int]]:
    """Return all (arch, seed) to train; second seeds are spread over the first three quarters."""
    if not 0 <= n_second <= n_networks:
        raise ConfigError(f"--second-seeds {n_second}: expected 0 to {n_networks}")
    archs = sampled_archs(n_networks)
    again = {round(k * 0.75 * n_networks / max(n_second, 1)) for k in range(n_second)}
    plan = []
    for k, arch in enumerate(archs):
        plan += [(arch, 0), (arch, 1)] if k in again else [(arch, 0)]
    return plan


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table; a last line that was cut off is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if not lines or tuple(lines[0]) != HEADER:
        raise ParseError(f"{path}: the header is not {','.join(HEADER)}; move the file away to begin anew")
    whole = [line for line in lines[1:] if len(line) == len(HEADER) and line[-1]]
    return [
        Row(a, int(s), float(m), float(c), float(t), tuple(map(float, rest)))
        for a, s, m, c, t, *rest in whole
    ]


def _line(row: Row) -> str:
    ious = (f"{iou:.3f}" for iou in row.class_iou)
    return ",".join(
        [row.arch, str(row.seed), f"{row.miou:.4f}", f"{row.accuracy:.4f}", f"{row.seconds:.1f}", *ious]
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a whole table, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join([",".join(HEADER), *map(_line, rows)]) + "\n", encoding="utf-8")
    partial.replace(path)


@contextmanager
def _owned(work: Path, recipe: Recipe) -> Iterator[None]:
    """Hold the folder for this process and this recipe."""
    work.mkdir(parents=True, exist_ok=True)
    wanted, path = json.dumps(asdict(recipe), indent=1), work / "recipe.json"
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{work}: another process trains into this folder; wait or give another --work"
            ) from None
        if path.exists() and json.loads(path.read_text()) != asdict(recipe):
            raise ConfigError(
                f"{work}: its rows were trained by another recipe ({path}); give another --work"
            )
        path.write_text(wanted + "\n")
        yield


_data: Scenes | None = None


def _start_worker(recipe: Recipe) -> None:
    """Set up a worker: one thread, its own scenes; Ctrl-C is the parent's business."""
    global _data
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _data = scenes(recipe)


def _work(arch: Arch, seed: int, recipe: Recipe) -> Row:
    assert _data is not None
    return trained_row(arch, seed, recipe, _data)


class _Stop:
    """Ctrl-C as a flag: the first asks for a stop between trainings, the second interrupts."""

    def __init__(self) -> None:
        self.asked = False
        self._before = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, signum: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def restore(self) -> None:
        signal.signal(signal.SIGINT, self._before)


def train_all(
    plan: Sequence[tuple[Arch, int]],
    recipe: Recipe,
    work: Path,
    pool: Executor,
    workers: int,
    progress: Progress,
) -> bool:
    """Train what the folder lacks, append each row as it comes, return whether the plan is complete.

    After Ctrl-C the trainings under way are finished and kept; the next run goes on from there.
    """
    path = work / "rows.csv"
    rows = read_rows(path)
    write_rows(path, rows)  # drops what a crash cut off
    done = {(row.arch, row.seed) for row in rows}
    todo = [(arch, seed) for arch, seed in plan if (str(arch), seed) not in done][::-1]
    bar = progress.add_task("training", total=len(plan), completed=len(plan) - len(todo))
    stop = _Stop()
    waiting: set[Future[Row]] = set()
    try:
        with path.open("a", encoding="utf-8") as file:
            while waiting or (todo and not stop.asked):
                while todo and len(waiting) < workers and not stop.asked:
                    waiting.add(pool.submit(_work, *todo.pop(), recipe))
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for row in (future.result() for future in finished):
                    file.write(_line(row) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                    progress.advance(bar)
                    note = f"{row.arch} seed {row.seed}: mIoU {row.miou:.2f}, {row.seconds:.0f} s CPU"
                    progress.console.print(f"{datetime.now(UTC):%H:%M:%S} {note}")
    finally:
        stop.restore()
    return not todo


def noise(rows: Sequence[Row]) -> dict[str, float | int]:
    """Return what two seeds of one arch differ by, beside what archs differ by (mIoU, percent)."""
    first = {row.arch: row.miou for row in rows if row.seed == 0}
    pairs = np.array([(first[row.arch], row.miou) for row in rows if row.seed == 1 and row.arch in first])
    spread = float(np.std(list(first.values()), ddof=1)) if len(first) > 1 else float("nan")
    found: dict[str, float | int] = {
        "networks": len(first),
        "second_seeds": len(pairs),
        "arch_sd": round(spread, 4),
    }
    if len(pairs) > 2:
        found["seed_sd"] = round(float(np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) / 2)), 4)
        found["seed_spearman"] = round(float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic), 4)
        found["arch_sd_over_seed_sd"] = round(spread / found["seed_sd"], 2)
    return found


def provenance(rows: Sequence[Row], recipe: Recipe) -> dict[str, Any]:
    """Return what a reader of the table must know to judge or repeat it."""
    return {
        "what": "mIoU (percent) of TransNAS-Bench-101 micro networks at reduced width on streetscenes",
        "made_by": "tools/train_streetscenes.py",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "recipe": asdict(recipe),
        "scenes": {
            "classes": list(streetscenes.CLASSES),
            "train_seed": TRAIN_SCENES_SEED,
            "val_seed": VAL_SCENES_SEED,
            "normalisation": "every channel of every image to mean 0 and standard deviation 1",
            "augmentation": "horizontal flip",
        },
        "sample": {
            "seed": SAMPLE_SEED,
            "how": "uniform over the micro networks; connected ones, the first of each distinct live cell",
        },
        "metric": "mean over classes of IoU, pixels of all validation scenes pooled, after the last step",
        "noise": noise(rows),
        "cpu_seconds_total": round(sum(row.seconds for row in rows)),
        "threads_per_training": 1,
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_cpu_name()}",
        },
    }


def _cpu_name() -> str:
    """Return the processor's name and vector instructions, as the system tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    entries = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in entries.items()}
    flags = named.get("flags", "").split()
    vector = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no avx")
    return f"{named.get('model name', 'unknown processor')} ({vector})"


app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
WorkFolder = Annotated[Path, typer.Option("--work", help="Folder of the rows under way.")]


@app.command()
def run(
    work: WorkFolder = WORK,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 2,
    networks: Annotated[int, typer.Option(min=1, help="How many networks.")] = 136,
    second_seeds: Annotated[int, typer.Option(min=0, help="How many of them are trained twice.")] = 24,
) -> None:
    """Train what is missing; stop with Ctrl-C and run again to go on."""
    recipe, plan = Recipe(), planned(networks, second_seeds)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(recipe,))
    with _owned(work, recipe), Progress(*columns) as progress, pool:
        complete = train_all(plan, recipe, work, pool, workers, progress)
    print(json.dumps(noise(read_rows(work / "rows.csv"))))
    if not complete:
        raise typer.Exit(130)


@app.command()
def export(
    work: WorkFolder = WORK,
    out: Annotated[
        Path, typer.Option(help="Table to write; its provenance gets the same name in .json.")
    ] = PACKAGED,
) -> None:
    """Write the rows trained so far as the packaged table, sorted, with its provenance."""
    rows = sorted(read_rows(work / "rows.csv"), key=lambda row: (row.arch, row.seed))
    if not rows:
        raise ConfigError(f"{work}: no rows to export; train some with the command run")
    recipe = Recipe(**json.loads((work / "recipe.json").read_text()))
    write_rows(out, rows)
    out.with_suffix(".json").write_text(
        json.dumps(provenance(rows, recipe), indent=2) + "\n", encoding="utf-8"
    )
    print(f"{out}: {len(rows)} rows; {json.dumps(noise(rows))}")


def main() -> None:
    """Run the command line; one line on stderr for a caller's mistake."""
    try:
        app()
    except ProxyGraphError as error:
        print(f"train_streetscenes: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
