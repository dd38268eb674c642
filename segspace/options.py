"""The options that several commands share: one name, one wording and one form each.

Loads nothing heavy: ``--help`` and shells that complete words must answer at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from proxygraph.command import completing
from proxygraph.errors import ConfigError

DATA: Final = "Data and pictures"
NETWORKS: Final = "Networks"
RECIPE: Final = "Training"
MEASURING: Final = "Measuring"
SEARCH: Final = "Search"
MACHINE: Final = "Machine"
FILES: Final = "Files"
"""Headings under which ``--help`` lists options."""

RUNTIMES: Final = ("eager", "onnxruntime", "openvino", "compile", "cuda")
DATA_FORMS: Final = "camvid:DIR, cityscapes:DIR or streetscenes[:HxW][?train=N&val=N]"


def preset_of(space: str) -> str:
    """Return the preset of ``rtseg:PRESET``; whether there is one of that name says `Space.preset`.

    Raises
    ------
    ConfigError
        If the text has another form.
    """
    kind, _, preset = space.partition(":")
    if kind != "rtseg" or not preset:
        raise ConfigError(f"--space {space}: expected rtseg:PRESET, such as rtseg:tiny")
    return preset


def _spaces() -> Iterable[str]:
    from segspace.rtseg.arch import PRESETS

    return [f"rtseg:{name}" for name in PRESETS]


def _proxies() -> Iterable[str]:
    from proxygraph.zoo import ZOO

    return ZOO


def _data_sets() -> Iterable[str]:
    return ("streetscenes", "camvid:", "cityscapes:")


def _archs() -> Iterable[str]:
    return ("rtseg:", "transnas101:", "streetscenes:", "enet", "fastscnn", "bisenetv2:0.25", "ddrnet:0.25")


Data = Annotated[
    str,
    typer.Option(
        metavar="DATA",
        help=f"Data set: {DATA_FORMS}.",
        rich_help_panel=DATA,
        autocompletion=completing(_data_sets),
    ),
]
_SIZE: Final = typer.Option(
    metavar="HxW", help="Height and width of the pictures, in pixels.", rich_help_panel=DATA
)
Size = Annotated[str, _SIZE]
SizeIfGiven = Annotated[str | None, _SIZE]
Crop = Annotated[
    str,
    typer.Option(
        metavar="HxW", help="What a network sees in training; by default --size.", rich_help_panel=DATA
    ),
]
_CLASSES: Final = typer.Option(min=1, metavar="N", help="Number of classes.", rich_help_panel=DATA)
Classes = Annotated[int, _CLASSES]
ClassesIfGiven = Annotated[int | None, _CLASSES]
Split = Annotated[
    str,
    typer.Option(
        metavar="SPLIT",
        help="Part of the data to judge on: train, val or test.",
        rich_help_panel=DATA,
        autocompletion=completing(lambda: ("train", "val", "test")),
    ),
]
ArchText = typer.Argument(
    metavar="ARCH",
    help="Text of a network: rtseg:PRESET:TRUNK-DEEP-DETAIL, transnas101:..., streetscenes:..., enet, "
    "fastscnn, bisenetv2:WIDTH or ddrnet:WIDTH.",
    autocompletion=completing(_archs),
)
SpaceName = Annotated[
    str,
    typer.Option(
        metavar="rtseg:PRESET",
        help="Space of networks: rtseg:tiny or rtseg:base.",
        rich_help_panel=NETWORKS,
        autocompletion=completing(_spaces),
    ),
]
Proxy = Annotated[
    str,
    typer.Option(
        metavar="PROXY",
        help="Folder of a run of proxygraph.evolve, name of a hand-made proxy, or formula as text; higher "
        "must mean better.",
        rich_help_panel=SEARCH,
        autocompletion=completing(_proxies),
    ),
]
_RUNTIME: Final = typer.Option(
    metavar="RUNTIME",
    help="What runs the network: eager, onnxruntime, openvino, compile (torch.compile) or cuda.",
    rich_help_panel=MEASURING,
    autocompletion=completing(lambda: RUNTIMES),
)
Runtime = Annotated[str, _RUNTIME]
RuntimeIfGiven = Annotated[str | None, _RUNTIME]
_RUN_THREADS: Final = typer.Option(metavar="N", help="Threads of one run.", rich_help_panel=MEASURING)
RunThreads = Annotated[int, _RUN_THREADS]
RunThreadsIfGiven = Annotated[int | None, _RUN_THREADS]
_RUN_BATCH: Final = typer.Option(min=1, metavar="N", help="Images per run.", rich_help_panel=MEASURING)
RunBatch = Annotated[int, _RUN_BATCH]
RunBatchIfGiven = Annotated[int | None, _RUN_BATCH]
Rounds = Annotated[
    int,
    typer.Option(min=2, metavar="N", help="Turns of everything that is measured.", rich_help_panel=MEASURING),
]
Statistic = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Which of the rounds' times is predicted: p10, median or min.",
        rich_help_panel=MEASURING,
        autocompletion=completing(lambda: ("median", "p10", "min")),
    ),
]
BusyOk = Annotated[
    bool,
    typer.Option("--busy-ok", help="Measure although the machine is busy.", rich_help_panel=MEASURING),
]
MeasureMissing = Annotated[
    bool,
    typer.Option(
        "--measure-missing",
        help="Measure and store what the table has not got.",
        rich_help_panel=MEASURING,
    ),
]
LatencyTableFile = Annotated[
    Path, typer.Option(metavar="FILE", help="Latency table (.json).", rich_help_panel=FILES)
]
Epochs = Annotated[
    int, typer.Option(min=1, metavar="N", help="Times that every picture is seen.", rich_help_panel=RECIPE)
]
Batch = Annotated[int, typer.Option(min=1, metavar="N", help="Pictures per step.", rich_help_panel=RECIPE)]
Lr = Annotated[float, typer.Option(metavar="RATE", help="Peak learning rate.", rich_help_panel=RECIPE)]
ClassWeightPower = Annotated[
    float,
    typer.Option(
        metavar="POWER",
        help="Class weights: share of the pixels to this power; 0: none.",
        rich_help_panel=RECIPE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="cpu, cuda or cuda:1.",
        rich_help_panel=MACHINE,
        autocompletion=completing(lambda: ("cpu", "cuda")),
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Threads of this process; 0: torch's choice.", rich_help_panel=MACHINE
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Processes that prepare pictures; 0: this one.", rich_help_panel=MACHINE
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=FILES)]
RunFolderOut = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run.", rich_help_panel=FILES)]
