"""Problems that ``proxygraph.evolve`` finds through entry points: networks with measured mIoU.

Statistics are collected once, on the first run, and kept in the user's cache folder (``PROXYGRAPH_CACHE``,
else ``XDG_CACHE_HOME/proxygraph``, else ``~/.cache/proxygraph``); an interrupted collection goes on where it
stopped.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np

from proxygraph.cache import cache_folder
from proxygraph.errors import ConfigError, ParseError
from proxygraph.problem import MIN_ROWS, Problem, Report

if TYPE_CHECKING:
    from torch import Tensor, nn

    from proxygraph.table import StatTable
    from segspace.transnas101 import Arch

SAMPLE = 1000
"""Networks of the problem ``transnas101``."""

NETWORKS_VERSION = 2
"""Part of every cache key: raise it when the same arch is built differently."""


@dataclass(frozen=True)
class Measurement:
    """How statistics are taken.

    Attributes
    ----------
    size : int
        Side of the square input images.
    images, batches : int
        Images of the first batch, and number of batches. The later ones, which only the mean and the spread
        of gradients over batches are for, have half as many.
    samples : int
        Values kept per layer.
    width, stem_stride, decoder_least, classes : int
        Of the networks (`segspace.transnas101.build`).
    draw : int
        Seed of the initial weights, and which pictures: two draws differ by chance alone.
    leaves : tuple of str, optional
        Which statistics; by default those of `proxygraph.stats.collect`.
    """

    size: int = 64
    images: int = 8
    batches: int = 2
    samples: int = 512
    width: int = 64
    stem_stride: int = 4
    decoder_least: int = 1
    classes: int = 17
    draw: int = 0
    leaves: tuple[str, ...] | None = None


def streetscenes(argument: str, *, report: Report) -> Problem:
    """Return the embedded problem: micro networks of reduced width trained on generated street scenes.

    The target is the mean over training seeds of the final mIoU (percent) that this project measured with
    the forerunner of ``segspace.groundtruth``; the recipe stands beside the table in ``segspace/data``.

    Parameters
    ----------
    argument : str
        Must be empty.
    report : callable
        Progress of collecting statistics.
    """
    from segspace.transnas101 import Arch

    if argument:
        raise ConfigError(f"problem 'streetscenes' takes no argument, got {argument!r}")
    data = files("segspace") / "data"
    recipe = json.loads((data / "streetscenes_micro.json").read_text(encoding="utf-8"))["recipe"]
    measured: dict[str, list[float]] = {}
    for row in csv.DictReader((data / "streetscenes_micro.csv").read_text(encoding="utf-8").splitlines()):
        measured.setdefault(row["arch"], []).append(float(row["miou"]))
    how = Measurement(
        size=recipe["size"],
        images=8,
        width=recipe["width"],
        stem_stride=recipe["stem_stride"],
        decoder_least=recipe["decoder_least"],
        classes=len(_classes()),
    )
    archs = [Arch.parse(text) for text in measured]
    table = statistics(archs, how, report)
    target = np.array([float(np.mean(values)) for values in measured.values()])
    return Problem("streetscenes", table, target, "miou", tuple(str(arch.live()) for arch in archs))


def transnas101(argument: str, *, report: Report) -> Problem:
    """Return a seeded sample of the published micro networks of TransNAS-Bench-101 with their mIoU.

    Parameters
    ----------
    argument : str
        ``CSV`` or ``CSV?sample=1000&sample_seed=0&size=64&target=seg_valid_miou``: the file of published
        results (columns ``arch`` and the target), how many networks to draw and with which seed, side of the
        images that statistics are taken on; further settings are those of `Measurement`. The sample does not
        follow the seed of a search: searches with other seeds split the same networks in other ways and share
        their statistics.
    report : callable
        Progress of collecting statistics.

    Raises
    ------
    ConfigError
        If the file or a column is missing, or a value is not a number.
    ParseError
        If an arch cannot be read.
    """
    from segspace.transnas101 import Arch

    path, settings = _settings(argument)
    target = str(settings.pop("target", "seg_valid_miou"))
    n_sample, sample_seed = int(settings.pop("sample", SAMPLE)), int(settings.pop("sample_seed", 0))
    if n_sample < MIN_ROWS or min([sample_seed, *settings.values()], default=0) < 0:
        raise ConfigError(
            f"problem 'transnas101': sample at least {MIN_ROWS}, no setting below 0: {argument!r}"
        )
    how = Measurement(**settings)
    results = published(Path(path), target)
    names = sampled(sorted(results), n_sample, sample_seed)
    archs = [Arch.parse(name) for name in names]
    table = statistics(archs, how, report)
    y = np.array([results[name] for name in names])
    return Problem("transnas101", table, y, target, tuple(str(arch.live()) for arch in archs))


def sampled(names: Sequence[str], n: int = SAMPLE, seed: int = 0) -> list[str]:
    """Return `n` of the names in their order, drawn by seed; all of them if there are no more."""
    if n >= len(names):
        return list(names)
    chosen = np.random.default_rng([seed, 0x7A5]).choice(len(names), size=n, replace=False)
    return [names[i] for i in sorted(chosen)]


def camvid(argument: str, *, report: Report) -> Problem:
    """Return segmenters of the space ``rtseg`` with the mIoU that this project measured on CamVid.

    The target is the mean over training seeds of the mIoU (percent) on val; how it was measured
    (``python -m segspace.groundtruth``) and how noisy it is stands in ``segspace/data/camvid_rtseg.json``.

    Parameters
    ----------
    argument : str
        Empty: statistics are taken on generated street scenes, since the pictures of CamVid may not be
        passed on. Or the folder of CamVid, to take them on its training pictures.
    report : callable
        Progress of collecting statistics.

    Raises
    ------
    ConfigError
        If the table is not there, or the folder's files are not in order.
    """
    from segspace.batches import photographs, scenes
    from segspace.datasets import open_dataset
    from segspace.losses import segmentation_loss
    from segspace.measured import read_rows
    from segspace.models import build

    with as_file(files("segspace") / "data") as data:
        path = data / "camvid_rtseg.csv"
        if not path.is_file():
            raise ConfigError(f"problem 'camvid': {path} is missing; make it with segspace.groundtruth")
        found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        rows = read_rows(path, found["classes"])
    measured: dict[str, list[float]] = {}
    for row in rows:
        measured.setdefault(row.arch, []).append(row.miou)
    size, classes = found["settings"]["recipe"]["size"], len(found["classes"])
    how = Measurement(classes=classes)
    counts = [how.images if i == 0 else max(1, how.images // 2) for i in range(how.batches)]
    batches = (
        photographs(open_dataset(f"camvid:{argument}"), counts, size) if argument else scenes(counts, size)
    )
    recipe = json.dumps({"version": NETWORKS_VERSION, "space": "rtseg", "classes": classes})
    networks = [(arch, partial(build, arch, classes)) for arch in measured]
    table = _collected(networks, batches, segmentation_loss, how.samples, recipe, report)
    target = np.array([float(np.mean(values)) for values in measured.values()])
    return Problem("camvid", table, target, "miou", tuple(measured))


def statistics(archs: Sequence[Arch], how: Measurement, report: Report) -> StatTable:
    """Return the statistics of micro networks, from the cache where they are there already."""
    import torch

    from segspace.batches import scenes
    from segspace.transnas101 import build

    counts = [how.images if i == 0 else max(1, how.images // 2) for i in range(how.batches)]
    # collect_many keeps batches and settings apart by itself; here stands what a row id leaves open
    shape = {
        "width": how.width,
        "stem_stride": how.stem_stride,
        "decoder_least": how.decoder_least,
        "classes": how.classes,
    }
    drawn = {"seed": how.draw} if how.draw else {}  # what was kept before there were draws stays valid
    recipe = json.dumps({"version": NETWORKS_VERSION, **shape, **drawn}, sort_keys=True)
    networks = [(str(arch), partial(build, arch, **shape, **drawn)) for arch in archs]
    batches, loss = scenes(counts, (how.size, how.size), how.draw), torch.nn.functional.cross_entropy
    return _collected(networks, batches, loss, how.samples, recipe, report, how.leaves)


def _collected(
    networks: Sequence[tuple[str, Callable[[], nn.Module]]],
    batches: Sequence[tuple[Tensor, Tensor]],
    loss: Callable[..., Tensor],
    samples: int,
    recipe: str,
    report: Report,
    leaves: Sequence[str] | None = None,
) -> StatTable:
    """Return the statistics of networks; every one is kept by itself, for other samples and after Ctrl-C."""
    import torch

    from proxygraph.stats import collect_many

    folder = cache_folder() / "statistics" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    what, total = "collecting statistics", len(networks)
    # spawned processes: forking after torch has started its threads can hang
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        return collect_many(
            networks,
            batches,
            loss,
            leaves=leaves,
            samples=samples,
            cache=folder,
            executor=pool,
            progress=lambda done, _: report(what, done, total),
        )


def _classes() -> Sequence[str]:
    from segspace.streetscenes import CLASSES

    return CLASSES


def _settings(argument: str) -> tuple[str, dict[str, Any]]:
    path, _, query = argument.partition("?")
    if not path:
        raise ConfigError("problem 'transnas101' needs the file of published results: transnas101:CSV")
    known: Mapping[str, Callable[[str], Any]] = {
        "target": str,
        "sample": int,
        "sample_seed": int,
        "size": int,
        "images": int,
        "batches": int,
        "samples": int,
        "draw": int,
    }
    settings: dict[str, Any] = {}
    for name, value in parse_qsl(query):
        if name not in known:
            raise ConfigError(f"problem 'transnas101': unknown setting {name!r}; known: {', '.join(known)}")
        try:
            settings[name] = known[name](value)
        except ValueError:
            raise ConfigError(f"problem 'transnas101': {name}={value!r} is not a whole number") from None
    return path, settings


def published(path: Path, target: str) -> dict[str, float]:
    """Return the published results of the networks by their text, for one column of the file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not rows or "arch" not in rows[0] or target not in rows[0]:
        columns = ", ".join(rows[0]) if rows else "none"
        raise ConfigError(f"{path}: needs the columns 'arch' and {target!r}; it has {columns}")
    results: dict[str, float] = {}
    for i, row in enumerate(rows):
        name = row["arch"]
        if name in results:
            raise ConfigError(f"{path}: arch {name!r} occurs more than once (line {i + 2})")
        try:
            results[name] = float(row[target])
            if not math.isfinite(results[name]):
                raise ValueError
        except (TypeError, ValueError):
            raise ParseError(
                f"{path}: {target} of {name!r} is not a finite number: {row[target]!r} (line {i + 2})"
            ) from None
    return results
