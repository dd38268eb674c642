"""Folders of searches for the tests of their report, made without one: drawn networks, invented scores."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from proxygraph.infix import text
from proxygraph.run import RunFolder, csv_text, environment
from proxygraph.zoo import ZOO
from segspace.drawing import triptych
from segspace.latency.table import Record, Setting
from segspace.rtseg.arch import Arch
from segspace.rtseg.program import program
from segspace.rtseg.space import Space
from segspace.search.report import front, write_results
from segspace.search.study import Candidate

SIZE, CLASSES = (64, 96), 3
SETTING = Setting("eager", "2.0", "a processor", 1, "float32", "nchw", 1, "cpu")
NAMES, PALETTE = ("sky", "road", "car"), ((70, 130, 180), (128, 64, 128), (0, 0, 142))


def candidates(n: int, invalid: int = 2, seed: int = 1) -> list[Candidate]:
    """Distinct networks; latency: 10 µs per step, 0.1 ns per multiply-accumulate; the last have no score."""
    space, rng = Space.preset("tiny"), np.random.default_rng(seed)
    archs: dict[str, None] = {}
    while len(archs) < n:
        archs[str(space.diverse(rng))] = None
    found = []
    for k, arch in enumerate(archs):
        steps = program(Arch.parse(arch), SIZE, CLASSES)
        cost = round(0.01 * len(steps.steps) + 1e-7 * steps.macs, 6)
        score = None if k >= n - invalid else float(np.sqrt(steps.macs) * rng.uniform(0.5, 1.5))
        reason = "" if score is not None else "the score is nan"
        found.append(Candidate(k, arch, score, cost, steps.macs, steps.params, reason))
    return found


def make_study(path: Path, found: list[Candidate], *, budget: float | None = 1.5, old: bool = False) -> Path:
    """Write the folder of a search; an `old` one knows neither its setting nor the shares of steps."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    invalid = sum(one.score is None for one in found)
    result = {
        "proxy": {"infix": text(ZOO["snip"].dag), "key": ZOO["snip"].dag.key, "leaves": ["g", "w"]},
        "settings": {
            "space": "rtseg:tiny",
            "size": list(SIZE),
            "classes": CLASSES,
            "latency": f"{SETTING}; 1.0000 x sum -0.0100 ms",
            "max_latency_ms": budget,
            "proxy": ZOO["snip"].dag.key,
            "sampler": "nsga2",
            "population": 5,
            "seed": 7,
            "data": "street scenes",
            "score_size": list(SIZE),
        },
        "study": {"name": "search", "storage": "sqlite:///study.db"},
        "counts": {
            "candidates": len(found),
            "invalid": invalid,
            "duplicate": 11,
            "over_budget": 22,
            "unmeasured": 33,
        },
        "ended": "enough",
        "seconds": 12.5,
        "processes": 1,
        "environment": environment(1) | {"optuna": "5.0.0", "cores": 2},
    }
    if not old:
        result["latency"] = {
            "table": "latency-eager.json",
            "setting": asdict(SETTING),
            "calibration": {"slope": 1.0, "offset": -0.01, "n": 12, "mape": 2.5},
        }
        result["invalid_reasons"] = {"the score is nan": invalid} if invalid else {}
        shares = [
            {
                "arch": one.arch,
                "step": step.name,
                "piece": step.piece.text(),
                "ms": 0.01 + 1e-7 * step.piece.macs,
            }
            for one in front(found)
            for step in program(Arch.parse(one.arch), SIZE, CLASSES).steps
        ]
        folder.write("shares.csv", csv_text(shares))
    write_results(folder, found, "latency_ms", result)
    return path


def make_measured(path: Path, ms: dict[str, float], **setting: object) -> Path:
    """Write measurements: these 10th percentiles, and a little more for the others."""
    rows = [
        {"arch": arch, **asdict(Record(1.1 * v, v, 1.3 * v, 0.9 * v, 15, 1.0)), "params": 1, "macs": 1}
        for arch, v in ms.items()
    ]
    found = {
        "setting": asdict(replace(SETTING, **setting)),
        "size": list(SIZE),
        "classes": CLASSES,
        "networks": rows,
    }
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def label_maps(k: int) -> tuple[np.ndarray, np.ndarray]:
    """A truth with ignored pixels, and a prediction."""
    rng = np.random.default_rng(k)
    truth, predicted = (rng.integers(0, 3, SIZE).astype(np.uint8) for _ in range(2))
    truth[:4] = 255
    return truth, predicted


def make_trained(path: Path, arch: str, *, pictures: int = 2, names: tuple[str, ...] = NAMES) -> Path:
    """Write the run of a training; with pictures, an evaluation inside."""
    path.mkdir(parents=True)
    result = {
        "arch": arch,
        "protocol": "made-up scenes; val, 2 pictures",
        "size": list(SIZE),
        "miou": 45.25,
        "accuracy": 80.5,
        "class_iou": dict(zip(names, [60.0, 30.5, None], strict=True)),
    }
    (path / "config.json").write_text(
        json.dumps({"command": "train", "arch": arch, "data": "streetscenes:64x96"})
    )
    (path / "result.json").write_text(json.dumps(result))
    if pictures:
        inside = path / "evaluation-val"
        inside.mkdir()
        palette = dict(zip(names, map(list, PALETTE), strict=True))
        (inside / "evaluation.json").write_text(json.dumps(result | {"miou": 47.75, "palette": palette}))
        for k in range(pictures):
            image = Image.effect_noise((SIZE[1], SIZE[0]), 50).convert("RGB")
            triptych(image, *label_maps(k), PALETTE).save(inside / f"prediction-scene-{k}.png")
    return path
