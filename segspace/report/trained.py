"""What training made of a network: IoU per class, and pictures of what it sees, small enough for a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from proxygraph.errors import ConfigError
from proxygraph.run import RunFolder
from segspace.drawing import parts_of

MOST_PICTURES: Final = 6
"""Of one network on a page."""
MOST_WIDTH: Final = 480
"""Pixels that a picture is reduced to."""
RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Seen:
    """One picture with its label maps, as ``data:`` addresses."""

    name: str
    image: str
    truth: str
    predicted: str
    width: int
    height: int


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes
    ----------
    path : Path
        As it was named.
    arch : str
    protocol : str
        Data, split, what is ignored.
    size : (int, int)
        Height and width that the network sees.
    miou, accuracy : float
        Percent.
    class_iou : mapping of str to float or None
        Percent; None for a class that is neither there nor predicted.
    palette : mapping of str to (r, g, b)
        Colours of the label maps; empty if they were drawn by an older version.
    pictures : tuple of Seen
        Empty if the network was trained, but not evaluated.
    data : str
        What it was trained on, as text; empty if that is not known.
    run : Path or None
        Folder of the training, or a checkpoint; None if it is not known, or not there any more.
    unfinished : (int, int) or None
        After how many steps of how many it was judged; None if after all, or if an older version judged it.
    """

    path: Path
    arch: str
    protocol: str
    size: tuple[int, int]
    miou: float
    accuracy: float
    class_iou: Mapping[str, float | None]
    palette: Mapping[str, RGB]
    pictures: tuple[Seen, ...]
    data: str
    run: Path | None
    unfinished: tuple[int, int] | None


def read_trained(path: Path) -> Trained:
    """Read a run of `segspace.train`, or an evaluation of `segspace.evaluate`.

    A run that was evaluated has the evaluation inside; of several, that of val is taken, else of test. An
    evaluation made before the training ended counts only as long as there is no ``result.json``.

    Raises
    ------
    ConfigError
        If it is neither, the training is not finished, or a file is damaged.
    """
    if path.is_file():
        raise ConfigError(
            f"--trained {path}: is a file; give the folder of the training or of the evaluation"
        )
    if not path.is_dir():
        raise ConfigError(f"--trained {path}: no such folder")
    if (path / "evaluation.json").is_file():
        file, run = path / "evaluation.json", _run_of(path)
    elif _is_training(path):
        file, run = _best_file(path), path
    else:
        raise ConfigError(f"--trained {path}: neither a run of segspace.train nor of segspace.evaluate")
    folder, name = file.parent, file.name
    found = RunFolder(folder).read(name)
    try:
        height, width = (int(v) for v in found["size"])
        return Trained(
            path,
            str(found["arch"]),
            str(found["protocol"]),
            (height, width),
            float(found["miou"]),
            float(found["accuracy"]),
            {str(k): _share(v) for k, v in found["class_iou"].items()},
            {str(k): _rgb(v) for k, v in found.get("palette", {}).items()},
            tuple(_seen(one) for one in _spread(sorted(folder.glob("prediction-*.png")))),
            _data(run),
            run,
            _unfinished(found),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / name}: damaged or of another version ({error!r})") from None


def _is_training(folder: Path) -> bool:
    """Return whether a folder is a run of segspace.train: supernets and other runs train no arch."""
    return (folder / "config.json").is_file() and "arch" in RunFolder(folder).read("config.json")


def _best_file(run: Path) -> Path:
    """Return what tells most of a run: an evaluation after its end, its result, the latest evaluation."""
    folders = [run / f"evaluation-{split}" for split in ("val", "test", "train")]
    files = [one / "evaluation.json" for one in folders if (one / "evaluation.json").is_file()]
    ended = (run / "result.json").is_file()
    steps = []
    for file in files:
        found = RunFolder(file.parent).read(file.name)
        try:
            steps.append(_unfinished(found))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{file}: damaged or of another version ({error!r})") from None
        if steps[-1] is None and (ended or "step" in found):
            return file
    if ended:
        return run / "result.json"
    done = [(step[0], -k) for k, step in enumerate(steps) if step is not None]
    if not done:
        raise ConfigError(
            f"--trained {run}: this training is not finished, there is no result.json; go on with its "
            "command and --resume"
        )
    return files[-max(done)[1]]


def _unfinished(found: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the step of an evaluation and the last one, None if they are equal or not told."""
    if "step" not in found:
        return None
    step, steps = (int(v) for v in found["step"])
    return None if step == steps else (step, steps)


def _run_of(evaluation: Path) -> Path | None:
    """Return the run or checkpoint that was judged, None if it is gone and not around the evaluation."""
    judged = RunFolder(evaluation).read("evaluation.json").get("checkpoint")
    places = [] if judged is None else [Path(str(judged))]
    if evaluation.name.startswith("evaluation-") and _is_training(evaluation.parent):
        places.insert(0, evaluation.parent)  # the run may have been moved
    return next((one for one in places if one.exists()), None)


def _data(run: Path | None) -> str:
    """Return what a run was trained on, empty if that is not known."""
    folder = run if run is None or run.is_dir() else run.parent
    if folder is None or not (folder / "config.json").is_file():
        return ""
    return str(RunFolder(folder).read("config.json").get("data", ""))


def _share(value: Any) -> float | None:
    return None if value is None or math.isnan(float(value)) else float(value)


def _rgb(value: Any) -> RGB:
    r, g, b = (int(v) for v in value)
    return r, g, b


def _spread(paths: list[Path]) -> list[Path]:
    """Return some of the pictures, evenly spaced."""
    places = np.linspace(0, len(paths) - 1, min(MOST_PICTURES, len(paths))).round().astype(int)
    return [paths[i] for i in places.tolist()]


def _seen(path: Path) -> Seen:
    try:
        with Image.open(path) as file:
            image, truth, predicted = parts_of(file.convert("RGB"))
    except (OSError, UnidentifiedImageError, ConfigError) as error:
        raise ConfigError(f"{path}: cannot be read as image, truth and prediction: {error}") from None
    width = min(image.width, MOST_WIDTH)
    size = (width, max(1, round(image.height * width / image.width)))
    maps = [_png(one.resize(size, Image.Resampling.NEAREST)) for one in (truth, predicted)]
    name = path.stem.removeprefix("prediction-")
    return Seen(name, _jpeg(image.resize(size, Image.Resampling.LANCZOS)), maps[0], maps[1], *size)


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _png(labels: Image.Image) -> str:
    """Return a label map exactly, with a palette of its own: a tenth of the bytes."""
    pixels = np.asarray(labels, np.uint32)
    colours, index = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_inverse=True)
    if len(colours) > 256:
        raise ConfigError(f"{len(colours)} colours, label maps have at most 256")
    drawn = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8), "L")
    drawn.putpalette([int(c) >> shift & 255 for c in colours for shift in (16, 8, 0)])
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
