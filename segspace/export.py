"""``python -m segspace.export``: a network as ONNX or torch.export program, checked against torch."""

from __future__ import annotations

import json
import logging
import os
import shlex
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from proxygraph.command import console, next_steps, run_command
from segspace.options import DATA, FILES

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET: Final = 18
TOLERANCE: Final = 1e-3
"""Largest difference of a logit, relative to the largest logit, that the check lets pass."""


def export(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK", help="Folder of a training, checkpoint, or arch text (then it is untrained)."
        ),
    ],
    size: Annotated[
        str,
        typer.Option(
            metavar="HxW",
            help="Height and width of the pictures, in pixels; by default as trained.",
            rich_help_panel=DATA,
        ),
    ] = "",
    classes: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Number of classes, of an arch text.", rich_help_panel=DATA),
    ] = 19,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write this ONNX file.", rich_help_panel=FILES)
    ] = None,
    program: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write this torch.export program (.pt2).", rich_help_panel=FILES),
    ] = None,
) -> None:
    """Print parameters and multiply-adds of a network; write it and check what was written against torch.

    The input is a normalised picture (1, 3, H, W), the output logits (1, classes, H, W); mean and spread of
    the normalisation stand in the file's metadata.

    Example: python -m segspace.export streetscenes:64-41414-1_02_103 --size 64x96 --onnx build/street.onnx
    """
    import torch

    from proxygraph.errors import ConfigError
    from segspace.cost import cost
    from segspace.datasets.opening import parse_size

    arch, n_classes, module, trained = _network(network, classes)
    if not size and trained is None:
        raise ConfigError(f"{network}: an arch text has no size of its own; give --size HxW, such as 120x160")
    seen = parse_size(size) if size else trained
    assert seen is not None
    spent = cost(module, seen)
    report: dict[str, Any] = {
        "arch": arch,
        "input": [1, 3, *seen],
        "classes": n_classes,
        "params": spent.params,
        "macs": spent.macs,
    }
    example = torch.randn(2, 1, 3, *seen, generator=torch.Generator().manual_seed(0))
    if onnx is not None:
        report["onnx"] = write_onnx(module, example, onnx, {"arch": arch, "classes": str(n_classes)})
    if program is not None:
        report["program"] = write_program(module, example, program)
    console().print_json(json.dumps(report))
    measure = f"python -m segspace.latency measure {shlex.quote(arch)} --size {seen[0]}x{seen[1]}"
    next_steps(console(stderr=True), f"time it here: {measure} --classes {n_classes} --runtime onnxruntime")


def write_onnx(module: nn.Module, example: Tensor, path: Path, note: dict[str, str]) -> dict[str, Any]:
    """Write a network as ONNX, run it by ONNX Runtime and compare; return what was found.

    Parameters
    ----------
    example : Tensor
        Inputs (k, 1, 3, h, w): the graph is made with the first and compared on all.
    note : dict
        Goes into the file's metadata.

    Raises
    ------
    BackendUnavailable
        If the packages of the extra ``onnx`` are not installed.
    StorageError
        If the result differs, or cannot be written.
    """
    import torch

    from proxygraph.errors import BackendUnavailable, StorageError
    from segspace.augment import MEAN, SPREAD

    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise BackendUnavailable(
            f"ONNX needs the package {error.name}: pip install 'proxygraph[onnx]'"
        ) from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports missing packages nobody needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        made = torch.onnx.export(
            module,
            (example[0],),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    assert made is not None
    proto = made.model_proto
    for key, value in {**note, "mean": json.dumps(MEAN), "spread": json.dumps(SPREAD)}.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(session.run(None, {"image": one.numpy()})[0]) for one in example]
    difference = _difference(module, example, found)
    if difference > TOLERANCE:
        raise StorageError(f"{path}: ONNX Runtime differs from torch by {difference:.1e}; not written")
    _write(path, content)
    return {
        "file": str(path),
        "opset": proto.opset_import[0].version,
        "bytes": len(content),
        "relative_difference": difference,
        "onnxruntime": onnxruntime.__version__,
    }


def write_program(module: nn.Module, example: Tensor, path: Path) -> dict[str, Any]:
    """Write a network as torch.export program, run it from the file and compare; return what was found."""
    import torch

    from proxygraph.errors import StorageError

    made = torch.export.export(module, (example[0],))
    found = [made.module()(one) for one in example]
    difference = _difference(module, example, found)
    if difference > TOLERANCE:
        raise StorageError(f"{path}: the program differs from torch by {difference:.1e}; not written")
    partial = path.with_name(f".{path.stem}.part.pt2")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(made, partial)
    os.replace(partial, path)
    return {"file": str(path), "bytes": path.stat().st_size, "relative_difference": difference}


def _network(text: str, classes: int) -> tuple[str, int, nn.Module, tuple[int, int] | None]:
    """Return arch text, classes, module and, if it was trained, size of what the text names."""
    from segspace.checkpoint import trained_network
    from segspace.models import build

    if Path(text).exists() or text.endswith(".safetensors"):
        header, module = trained_network(Path(text))
        return header.arch, len(header.classes), module, header.recipe.size
    return text, classes, build(text, classes).eval(), None


def _difference(module: nn.Module, example: Tensor, found: list[Tensor]) -> float:
    """Return the largest difference of a logit, relative to the largest logit."""
    import torch

    with torch.no_grad():
        expected = torch.stack([module(one) for one in example])
    return float((torch.stack(found).detach() - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _write(path: Path, content: bytes) -> None:
    from proxygraph.errors import StorageError

    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None


def main() -> None:
    """Run the command."""
    run_command(export, "python -m segspace.export")


if __name__ == "__main__":
    main()
