"""``python -m segspace.latency build|predict|check|measure``: make, ask, test a table; time networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from proxygraph.command import console, reporting, run_command
from proxygraph.errors import ConfigError

if TYPE_CHECKING:
    from segspace.latency.runtimes import Runtime
    from segspace.latency.table import LatencyTable, Setting, Size
    from segspace.rtseg.arch import Arch

DEFAULT_TABLE = Path("latency.json")

Table = Annotated[Path, typer.Option(help="File of the table.")]
ImageSize = Annotated[str, typer.Option(help="Image size, HEIGHTxWIDTH.")]
Classes = Annotated[int, typer.Option(help="Number of classes.", min=1)]
Rounds = Annotated[int, typer.Option(help="Turns of everything that is measured.", min=2)]
Seed = Annotated[int, typer.Option(help="Seed of the networks that are drawn.", min=0)]
BusyOk = Annotated[bool, typer.Option("--busy-ok", help="Measure although the machine is busy.")]
MeasureMissing = Annotated[
    bool, typer.Option("--measure-missing", help="Measure and store what the table has not got.")
]
StatisticName = Annotated[str, typer.Option(help="What is predicted: p10, median or min of the rounds.")]


def build(
    archs: Annotated[list[str] | None, typer.Argument(help="Only the pieces of these networks.")] = None,
    table: Table = DEFAULT_TABLE,
    runtime: Annotated[
        str, typer.Option(help="eager, onnxruntime, openvino, compile (torch.compile) or cuda.")
    ] = "eager",
    threads: Annotated[int, typer.Option(help="Threads of one run.")] = 1,
    dtype: Annotated[
        str, typer.Option(help="float32; torch also bfloat16 and, on CUDA, float16.")
    ] = "float32",
    layout: Annotated[str, typer.Option(help="nchw; torch also nhwc (channels last).")] = "nchw",
    batch: Annotated[int, typer.Option(help="Images per run.", min=1)] = 1,
    preset: Annotated[str, typer.Option(help="Preset of the space whose pieces are measured.")] = "tiny",
    size: ImageSize = "120x160",
    classes: Classes = 11,
    networks: Annotated[int, typer.Option(help="Whole networks that calibrate.", min=0)] = 12,
    rounds: Rounds = 15,
    seed: Seed = 0,
    busy_ok: BusyOk = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Measure again what was measured while the machine was slow.")
    ] = False,
) -> None:
    """Measure the pieces of a space, and whole networks that calibrate their sum; goes on where it stopped.

    Example: python -m segspace.latency build --runtime onnxruntime --table onnx.json
    """
    from segspace.latency.build import add_networks, add_pieces, open_table, pieces_of, slow_keys
    from segspace.latency.runtimes import runtime as find
    from segspace.rtseg.program import program
    from segspace.rtseg.space import Space

    pixels, space = _size(size), Space.preset(preset)
    chosen = [_arch(text) for text in archs or []]
    runner = find(runtime, threads, dtype, layout)
    known = open_table(table, runner, batch)
    if chosen:
        pieces = [step.piece for arch in chosen for step in program(arch, pixels, classes).steps]
    else:
        pieces = pieces_of(space, pixels, classes)
    calibrating = known.measured(pixels, classes)
    if len(calibrating) < networks:
        calibrating = draw(space, networks, pixels, classes, seed)
        pieces += [step.piece for arch in calibrating for step in program(arch, pixels, classes).steps]
    out = console()
    out.print(f"{known.setting}: {len(set(pieces))} pieces, {len(known.pieces)} records in {table}")
    options: dict[str, Any] = {"rounds": rounds, "busy_ok": busy_ok, "warn": _warner()}
    with _interruptible(table), reporting(out) as report:
        known = add_pieces(known, table, runner, pieces, refresh=refresh, report=report, **options)
        known = add_networks(known, table, runner, calibrating, pixels, classes, **options)
    if slow := slow_keys(known.pieces):
        out.print(
            f"{len(slow)} pieces were measured while the machine was slow: --refresh measures them again"
        )
    if networks:
        line = known.calibration(pixels, classes)
        out.print(
            f"{table}: {len(known.pieces)} pieces; latency = {line.slope:.3f} × sum {line.offset:+.3f} ms, "
            f"mean error {line.mape:.1f} % on the {line.n} networks it was fitted to"
        )


def predict(
    arch: Annotated[str, typer.Argument(help="Network, rtseg:PRESET:TRUNK-DEEP-DETAIL.")],
    table: Table = DEFAULT_TABLE,
    size: ImageSize = "120x160",
    classes: Classes = 11,
    statistic: StatisticName = "p10",
    raw: Annotated[bool, typer.Option("--raw", help="Sum of the pieces, not calibrated.")] = False,
    measure_missing: MeasureMissing = False,
    busy_ok: BusyOk = False,
) -> None:
    """Print the latency of a network in ms and the shares of its steps.

    Example: python -m segspace.latency predict rtseg:tiny:c2-C2z3D4-i1 --table onnx.json
    """
    from segspace.latency.build import add_pieces
    from segspace.latency.table import LatencyTable

    network, pixels, kind = _arch(arch), _size(size), _statistic(statistic)
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
    archs: Annotated[list[str] | None, typer.Argument(help="Networks; drawn if none is given.")] = None,
    table: Table = DEFAULT_TABLE,
    size: ImageSize = "120x160",
    classes: Classes = 11,
    preset: Annotated[str, typer.Option(help="Preset of the space that networks are drawn from.")] = "tiny",
    networks: Annotated[int, typer.Option(help="How many are drawn.", min=2)] = 24,
    rounds: Rounds = 15,
    seed: Seed = 1,
    statistic: StatisticName = "p10",
    plot: Annotated[Path | None, typer.Option(help="Picture of predicted over measured.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    measure_missing: MeasureMissing = False,
    busy_ok: BusyOk = False,
) -> None:
    """Measure networks that the table has not seen and compare with its predictions: MAPE, tau, Spearman.

    Example: python -m segspace.latency check --table onnx.json --plot onnx.png
    """
    from json import dumps

    from proxygraph.run import RunFolder
    from segspace.latency.build import add_pieces
    from segspace.latency.check import check as compare
    from segspace.latency.check import plot as draw_picture
    from segspace.latency.load import machine_load, refuse_if_busy
    from segspace.latency.table import LatencyTable
    from segspace.rtseg.space import Space

    pixels, kind = _size(size), _statistic(statistic)
    known = LatencyTable.load(table)
    runner = _same_runtime(known.setting)
    chosen = [_arch(text) for text in archs or []] or unseen(
        known, Space.preset(preset), networks, pixels, classes, seed
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


def measure(
    archs: Annotated[list[str] | None, typer.Argument(help="Networks of any space, or baselines.")] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a search: its front too, in its setting, kept there as measured.json for "
            "segspace.report."
        ),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="eager, onnxruntime, openvino, compile or cuda. [eager]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one run. [1]", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Images per run. [1]", min=1)] = None,
    size: Annotated[str | None, typer.Option(help="Image size, HEIGHTxWIDTH. [120x160]")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes. [11]", min=1)] = None,
    rounds: Rounds = 50,
    seed: Seed = 0,
    json: Annotated[Path | None, typer.Option(help="Write the records to this file.")] = None,
    busy_ok: BusyOk = False,
) -> None:
    """Measure whole networks that take turns: ms, images per second, parameters, multiply-accumulates.

    Example: python -m segspace.latency measure enet fastscnn bisenetv2:0.25 ddrnet:0.25 --size 64x96
    """
    from dataclasses import asdict
    from json import dumps

    from proxygraph.run import RunFolder
    from segspace.cost import cost
    from segspace.latency.build import measure_networks
    from segspace.latency.load import machine_load, refuse_if_busy
    from segspace.latency.runtimes import runtime as find
    from segspace.latency.table import Setting
    from segspace.models import build as network

    names, usual = list(archs or []), Usual()
    if study is not None:
        names, usual = _of_study(study, names)
        json = json or study / "measured.json"
    if not names:
        raise ConfigError("no networks to measure: name some, or give the folder of a search with --study")
    runner = find(runtime or usual.runtime, threads or usual.threads, usual.dtype, usual.layout)
    batch, classes = batch or usual.batch, classes or usual.classes
    pixels = usual.size if size is None else _size(size)
    costs = [cost(network(arch, classes), pixels) for arch in names]
    if warning := refuse_if_busy(machine_load(), busy_ok):
        _warner()(warning)
    records = measure_networks(names, pixels, classes, runner, batch, rounds, seed)
    setting = Setting.of(runner, batch)
    print(
        f"{setting}, {pixels[0]}x{pixels[1]}, {classes} classes, {rounds} rounds in turns; "
        "images/s of the median"
    )
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


class Usual(NamedTuple):
    """In which setting networks are measured unless told otherwise."""

    runtime: str = "eager"
    threads: int = 1
    dtype: str = "float32"
    layout: str = "nchw"
    batch: int = 1
    size: Size = (120, 160)
    classes: int = 11


def _of_study(study: Path, archs: list[str]) -> tuple[list[str], Usual]:
    """Return the front of a search and further networks, and the setting of the search."""
    from segspace.search.results import read_results

    found = read_results(study)
    if found.setting is None:
        raise ConfigError(
            f"{study}: written by an older version, which did not keep its setting; run the command of the "
            "search again, which goes on and ends at once"
        )
    was = found.setting
    usual = Usual(was.runtime, was.threads, was.dtype, was.layout, was.batch, found.size, found.classes)
    return list(dict.fromkeys([*(one.arch for one in found.front), *archs])), usual


def draw(space: Any, n: int, size: Size, classes: int, seed: int) -> list[Arch]:
    """Return networks of all costs, see `Space.stratified`."""
    import numpy as np

    archs: list[Arch] = space.stratified(n, np.random.default_rng(seed), size=size, classes=classes)
    return archs


def unseen(known: LatencyTable, space: Any, n: int, size: Size, classes: int, seed: int) -> list[Arch]:
    """Return networks of all costs that the table is not calibrated with."""
    seen = set(known.measured(size, classes))
    return [arch for arch in draw(space, n + len(seen), size, classes, seed) if arch not in seen][:n]


def _same_runtime(setting: Setting) -> Runtime:
    """Return the runtime of a table, `ConfigError` if here it would be another setting."""
    from segspace.latency.runtimes import runtime
    from segspace.latency.table import Setting

    found = runtime(setting.runtime, setting.threads, setting.dtype, setting.layout)
    if difference := setting.difference(Setting.of(found, setting.batch)):
        raise ConfigError(f"the table cannot be measured further here: {difference}; make one of its own")
    return found


def _size(text: str) -> Size:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ConfigError(f"--size {text}: expected HEIGHTxWIDTH, such as 120x160")
    return int(match[1]), int(match[2])


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
