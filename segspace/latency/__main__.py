"""``python -m segspace.latency``: Make, ask and test a table of latencies; time whole networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from proxygraph.command import completing, console, next_steps, reporting, run_command
from proxygraph.errors import ConfigError
from segspace.options import (
    DATA,
    FILES,
    MEASURING,
    NETWORKS,
    RUNTIMES,
    BusyOk,
    Classes,
    LatencyTableFile,
    MeasureMissing,
    Rounds,
    RunBatch,
    RunThreads,
    Runtime,
    Size,
    SpaceName,
    Statistic,
    preset_of,
)

if TYPE_CHECKING:
    from segspace.latency.runtimes import Runtime as Engine
    from segspace.latency.table import LatencyTable, Setting
    from segspace.latency.table import Size as Pixels
    from segspace.rtseg.arch import Arch

DEFAULT_TABLE = Path("latency.json")
_USUAL = "by default that of --study, or"

Table = LatencyTableFile
Seed = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Seed of the networks that are drawn.", rich_help_panel=NETWORKS),
]
Json = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the report to this file (.json).", rich_help_panel=FILES),
]


def build(
    archs: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARCH", help="Only the pieces of these networks of the space rtseg."),
    ] = None,
    space: SpaceName = "rtseg:tiny",
    networks: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Whole networks that calibrate the sums.", rich_help_panel=NETWORKS
        ),
    ] = 12,
    seed: Seed = 0,
    size: Size = "120x160",
    classes: Classes = 11,
    runtime: Runtime = "eager",
    threads: RunThreads = 1,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE",
            help="float32; torch also bfloat16 and, on CUDA, float16.",
            rich_help_panel=MEASURING,
            autocompletion=completing(lambda: ("float32", "bfloat16", "float16")),
        ),
    ] = "float32",
    layout: Annotated[
        str,
        typer.Option(
            metavar="LAYOUT",
            help="nchw; torch also nhwc (channels last).",
            rich_help_panel=MEASURING,
            autocompletion=completing(lambda: ("nchw", "nhwc")),
        ),
    ] = "nchw",
    batch: RunBatch = 1,
    rounds: Rounds = 15,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Measure again what was measured while the machine was slow.",
            rich_help_panel=MEASURING,
        ),
    ] = False,
    busy_ok: BusyOk = False,
    table: Table = DEFAULT_TABLE,
) -> None:
    """Measure the pieces of a space, and whole networks that calibrate their sum; goes on where it stopped.

    Example: python -m segspace.latency build --runtime onnxruntime --table onnx.json
    """
    from segspace.datasets.opening import parse_size
    from segspace.latency.table import LEAST_NETWORKS

    known = built(
        table,
        archs or [],
        space=space,
        networks=networks,
        seed=seed,
        size=size,
        classes=classes,
        runtime=runtime,
        threads=threads,
        dtype=dtype,
        layout=layout,
        batch=batch,
        rounds=rounds,
        refresh=refresh,
        busy_ok=busy_ok,
    )
    if len(known.measured(parse_size(size), classes)) < LEAST_NETWORKS:
        return
    told = f"--table {quote(str(table))} --size {size} --classes {classes}"
    test = f"test it on other networks: python -m segspace.latency check --space {space} {told}"
    next_steps(console(), test, *_search_with(known.setting, space, told))


def built(
    table: Path,
    archs: Sequence[str] = (),
    *,
    space: str = "rtseg:tiny",
    networks: int = 12,
    seed: int = 0,
    size: str = "120x160",
    classes: int = 11,
    runtime: str = "eager",
    threads: int = 1,
    dtype: str = "float32",
    layout: str = "nchw",
    batch: int = 1,
    rounds: int = 15,
    refresh: bool = False,
    busy_ok: bool = False,
) -> LatencyTable:
    """Measure what a table lacks, as the command ``build`` is asked to, and return the table."""
    from segspace.datasets.opening import parse_size
    from segspace.latency.build import add_networks, add_pieces, open_table, pieces_of, slow_keys
    from segspace.latency.runtimes import runtime as find
    from segspace.latency.table import LEAST_NETWORKS
    from segspace.rtseg.program import program
    from segspace.rtseg.space import Space

    pixels, whole = parse_size(size), Space.preset(preset_of(space))
    chosen = [_arch(text) for text in archs]
    runner = find(runtime, threads, dtype, layout)
    known = open_table(table, runner, batch)
    if chosen:
        pieces = [step.piece for arch in chosen for step in program(arch, pixels, classes).steps]
    else:
        pieces = pieces_of(whole, pixels, classes)
    calibrating = known.measured(pixels, classes)
    if len(calibrating) < networks:
        calibrating = draw(whole, networks, pixels, classes, seed)
        pieces += [step.piece for arch in calibrating for step in program(arch, pixels, classes).steps]
    out = console()
    out.print(
        f"{known.setting}: {len(set(pieces))} pieces, {len(known.pieces)} records in {table}", soft_wrap=True
    )
    options: dict[str, Any] = {"rounds": rounds, "busy_ok": busy_ok, "warn": _warner()}
    with _interruptible(table), reporting(out) as report:
        known = add_pieces(known, table, runner, pieces, refresh=refresh, report=report, **options)
        known = add_networks(known, table, runner, calibrating, pixels, classes, **options)
    if slow := slow_keys(known.pieces):
        out.print(
            f"{len(slow)} pieces were measured while the machine was slow: --refresh measures them again",
            soft_wrap=True,
        )
    if len(known.measured(pixels, classes)) >= LEAST_NETWORKS:
        line = known.calibration(pixels, classes)
        out.print(
            f"{table}: {len(known.pieces)} pieces; latency = {line.slope:.3f} × sum {line.offset:+.3f} ms, "
            f"mean error {line.mape:.1f} % on the {line.n} networks it was fitted to",
            soft_wrap=True,
        )
    return known


def predict(
    arch: Annotated[
        str, typer.Argument(metavar="ARCH", help="Text of a network: rtseg:PRESET:TRUNK-DEEP-DETAIL.")
    ],
    size: Size = "120x160",
    classes: Classes = 11,
    statistic: Statistic = "p10",
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Sum of the pieces, not calibrated.", rich_help_panel=MEASURING),
    ] = False,
    measure_missing: MeasureMissing = False,
    busy_ok: BusyOk = False,
    table: Table = DEFAULT_TABLE,
) -> None:
    """Print the latency of a network in ms and the shares of its steps.

    Example: python -m segspace.latency predict rtseg:tiny:c2-C2z3D4-i1 --table onnx.json
    """
    from segspace.datasets.opening import parse_size
    from segspace.latency.build import add_pieces
    from segspace.latency.table import LatencyTable

    network, pixels, kind = _arch(arch), parse_size(size), _statistic(statistic)
    known = LatencyTable.load(table)
    if measure_missing and (missing := known.missing(network, pixels, classes)):
        runner = _same_runtime(known.setting)
        known = add_pieces(known, table, runner, missing, busy_ok=busy_ok, warn=_warner())
    ms = known.predict(network, pixels, classes, statistic=kind, calibrated=not raw)
    shares = known.shares(network, pixels, classes, kind)
    total = sum(share.ms for share in shares)
    print(f"{ms:.3f} ms  {network} at {size}, {kind}, {known.setting}")
    for share in shares:
        print(f"{100 * share.ms / total:6.1f} % {share.ms:9.4f} ms  {share.name:16} {share.key}")
    if not raw:
        line = known.calibration(pixels, classes, kind)
        print(f"         {total:9.4f} ms  sum; calibrated: {line.slope:.3f} × sum {line.offset:+.3f} ms")


def check(
    archs: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARCH", help="Networks, as arch text; drawn if none is given."),
    ] = None,
    space: SpaceName = "rtseg:tiny",
    networks: Annotated[
        int, typer.Option(min=2, metavar="N", help="How many are drawn.", rich_help_panel=NETWORKS)
    ] = 24,
    seed: Seed = 1,
    size: Size = "120x160",
    classes: Classes = 11,
    rounds: Rounds = 15,
    statistic: Statistic = "p10",
    measure_missing: MeasureMissing = False,
    busy_ok: BusyOk = False,
    table: Table = DEFAULT_TABLE,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Picture of predicted over measured.", rich_help_panel=FILES),
    ] = None,
    json: Json = None,
) -> None:
    """Measure networks that the table has not seen and compare with its predictions: MAPE, tau, Spearman.

    Example: python -m segspace.latency check --table onnx.json --plot onnx.png
    """
    from json import dumps

    from proxygraph.run import RunFolder
    from segspace.datasets.opening import parse_size
    from segspace.latency.build import add_pieces
    from segspace.latency.check import check as compare
    from segspace.latency.check import plot as draw_picture
    from segspace.latency.load import machine_load, refuse_if_busy
    from segspace.latency.table import LatencyTable
    from segspace.rtseg.space import Space

    pixels, kind = parse_size(size), _statistic(statistic)
    known = LatencyTable.load(table)
    runner = _same_runtime(known.setting)
    chosen = [_arch(text) for text in archs or []] or unseen(
        known, Space.preset(preset_of(space)), networks, pixels, classes, seed
    )
    if warning := refuse_if_busy(machine_load(), busy_ok):
        _warner()(warning)
    if measure_missing:
        missing = [piece for arch in chosen for piece in known.missing(arch, pixels, classes)]
        known = add_pieces(known, table, runner, missing, busy_ok=busy_ok, warn=_warner())
    report = compare(known, runner, chosen, pixels, classes, rounds=rounds, seed=seed)
    print(
        f"{report.setting}: {len(chosen)} unseen networks at {size}, spread {100 * report.spread:.1f} %, "
        f"reference kernel takes {report.pace:.2f} of its time at building"
    )
    print("statistic    MAPE %  worst %  tau_b    rho   sum alone: MAPE %   calibration (ms)")
    for one in report.agreement:
        print(
            f"{one.statistic:10} {one.mape:8.2f} {one.worst:8.2f} {one.tau_b or 0:6.3f} {one.rho or 0:6.3f} "
            f"{one.sum_mape:12.2f}           {one.slope:.3f} × sum {one.offset:+.3f}"
        )
    if json is not None:
        RunFolder(json.parent).write(json.name, dumps(report.as_dict(), indent=1) + "\n")
    if plot is not None:
        draw_picture(report, plot, kind)
    told = f"--table {quote(str(table))} --size {size} --classes {classes}"
    for line in _search_with(known.setting, space, told):
        print(line)


def measure(
    archs: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARCH", help="Networks of any space, or baselines, as arch text."),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a search: measure its front too, in its setting; by default --json is then "
            "DIR/measured.json, which segspace.report shows.",
            rich_help_panel=NETWORKS,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Seed of weights and of the order.", rich_help_panel=NETWORKS),
    ] = 0,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help=f"Height and width of the pictures, in pixels; {_USUAL} 120x160.",
            rich_help_panel=DATA,
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"Number of classes; {_USUAL} 11.", rich_help_panel=DATA),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="RUNTIME",
            help=f"What runs the network: eager, onnxruntime, openvino, compile or cuda; {_USUAL} eager.",
            rich_help_panel=MEASURING,
            autocompletion=completing(lambda: RUNTIMES),
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Threads of one run; {_USUAL} 1.", rich_help_panel=MEASURING),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"Images per run; {_USUAL} 1.", rich_help_panel=MEASURING),
    ] = None,
    rounds: Rounds = 50,
    busy_ok: BusyOk = False,
    json: Json = None,
) -> None:
    """Measure whole networks that take turns: ms, images per second, parameters, multiply-accumulates.

    Example: python -m segspace.latency measure --study runs/search

    Example: python -m segspace.latency measure enet fastscnn bisenetv2:0.25 ddrnet:0.25 --size 64x96
    """
    from dataclasses import asdict
    from json import dumps

    from proxygraph.run import RunFolder
    from segspace.cost import cost
    from segspace.datasets.opening import parse_size
    from segspace.latency.build import measure_networks
    from segspace.latency.load import machine_load, refuse_if_busy
    from segspace.latency.runtimes import runtime as find
    from segspace.latency.table import Setting
    from segspace.models import build as network

    names = list(archs or [])
    asked: dict[str, Any] = {"runtime": runtime, "threads": threads, "batch": batch, "classes": classes}
    asked["size"] = None if size is None else parse_size(size)
    given = {name: value for name, value in asked.items() if value is not None}
    wanted = Wanted()._replace(**given)
    if study is not None:
        names, wanted = _of_study(study, names, given)
        json = json or study / "measured.json"
    if not names:
        raise ConfigError("no networks to measure: name some, or give the folder of a search with --study")
    pixels, runner = wanted.size, find(wanted.runtime, wanted.threads, wanted.dtype, wanted.layout)
    batch, classes = wanted.batch, wanted.classes
    costs = [cost(network(arch, classes), pixels) for arch in names]
    if warning := refuse_if_busy(machine_load(), busy_ok):
        _warner()(warning)
    records = measure_networks(names, pixels, classes, runner, batch, rounds, seed)
    setting = Setting.of(runner, batch)
    shown = f"{pixels[0]}x{pixels[1]}, {classes} classes, {rounds} rounds in turns"
    print(f"{setting}, {shown}; images/s of the median")
    print("median ms     p10     p90  images/s  params (k)  MACs (M)  network")
    for arch, spent, one in zip(names, costs, records, strict=True):
        print(
            f"{one.median:9.3f} {one.p10:7.3f} {one.p90:7.3f} {1e3 * batch / one.median:9.1f} "
            f"{spent.params / 1e3:11.1f} {spent.macs / 1e6:9.1f}  {arch}"
        )
    if json is not None:
        rows = [
            {"arch": arch, **asdict(one), "params": spent.params, "macs": spent.macs}
            for arch, spent, one in zip(names, costs, records, strict=True)
        ]
        found = {"setting": asdict(setting), "size": pixels, "classes": classes, "networks": rows}
        RunFolder(json.parent).write(json.name, dumps(found, indent=1) + "\n")
    if study is not None:
        next_steps(console(), f"see it: python -m segspace.report {quote(str(study))}")


class Wanted(NamedTuple):
    """In which setting networks are measured; the values are the usual ones."""

    runtime: str = "eager"
    threads: int = 1
    batch: int = 1
    size: tuple[int, int] = (120, 160)
    classes: int = 11
    dtype: str = "float32"
    layout: str = "nchw"


def _of_study(study: Path, archs: list[str], given: dict[str, Any]) -> tuple[list[str], Wanted]:
    """Return the front of a search and further networks, and the setting of the search.

    A prediction can only be compared with a measurement of its own setting: another one that is `given`, by
    the names of `Wanted`, is refused.
    """
    from segspace.search.results import read_results

    found = read_results(study)
    if found.setting is None:
        raise ConfigError(
            f"--study {study}: written by an older version, which did not keep its setting; run the command "
            "of the search again, which goes on and ends at once"
        )
    was = found.setting
    own = Wanted(was.runtime, was.threads, was.batch, found.size, found.classes, was.dtype, was.layout)
    for name, here in own._asdict().items():
        if (asked := given.get(name, here)) != here:
            raise ConfigError(f"--study {study}: its {name} is {here}, not {asked}; leave --{name} away")
    return list(dict.fromkeys([*(one.arch for one in found.front), *archs])), own


def draw(space: Any, n: int, size: Pixels, classes: int, seed: int) -> list[Arch]:
    """Return networks of all costs, see `Space.stratified`."""
    import numpy as np

    archs: list[Arch] = space.stratified(n, np.random.default_rng(seed), size=size, classes=classes)
    return archs


def unseen(known: LatencyTable, space: Any, n: int, size: Pixels, classes: int, seed: int) -> list[Arch]:
    """Return networks of all costs that the table is not calibrated with."""
    seen = set(known.measured(size, classes))
    return [arch for arch in draw(space, n + len(seen), size, classes, seed) if arch not in seen][:n]


def _same_runtime(setting: Setting) -> Engine:
    """Return the runtime of a table, `ConfigError` if here it would be another setting."""
    from segspace.latency.runtimes import runtime
    from segspace.latency.table import Setting

    found = runtime(setting.runtime, setting.threads, setting.dtype, setting.layout)
    if difference := setting.difference(Setting.of(found, setting.batch)):
        raise ConfigError(f"the table cannot be measured further here: {difference}; make one of its own")
    return found


def _search_with(setting: Setting, space: str, told: str) -> list[str]:
    """Return the command that searches with a table; none if it is of a setting that a search has not got."""
    if (setting.threads, setting.batch, setting.dtype, setting.layout) != (1, 1, "float32", "nchw"):
        return []
    command = f"python -m segspace.search --proxy snip --space {space} --runtime {setting.runtime} {told}"
    return [f"search with it: {command}"]


def _arch(text: str) -> Arch:
    from segspace.rtseg.arch import Arch

    return Arch.parse(text)


def _statistic(text: str) -> Any:
    from segspace.latency.table import STATISTICS

    if text not in STATISTICS:
        raise ConfigError(f"--statistic {text}: there are {', '.join(STATISTICS)}")
    return text


def _warner() -> Any:
    """Return what prints a warning on stderr, the same beginning once."""
    told: set[str] = set()

    def warn(text: str) -> None:
        if (start := text.partition("(")[0]) not in told:
            told.add(start)
            typer.echo(f"warning: {text}", err=True)

    return warn


@contextmanager
def _interruptible(table: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"{table} keeps what is done; the same command goes on from there", err=True)
        raise


def main() -> None:
    """Run the command."""
    run_command(build, "python -m segspace.latency", predict, check, measure)


if __name__ == "__main__":
    main()
