"""Found segmenters beside hand-made ones: trained by one recipe, judged, timed, in one table.

    python benchmarks/segmenters.py ARCH... enet fastscnn bisenetv2:0.25 ddrnet:0.25 --data camvid:DIR
        --size 360x480 --epochs 200 --options="--batch 8 --class-weight-power=-0.3"

Trains (``segspace.train``, two at a time with one thread each), judges on val (``segspace.evaluate``),
measures latency in ONNX Runtime and OpenVINO, networks in turns (``segspace.latency measure``), prints
the table and writes it, a row per network and seed (``--seeds 0 1``). Made for several sittings: Ctrl-C (or
--seconds) stops all trainings after the step under way, each with a checkpoint, and says how far they are;
the same command goes on. ``--only judge``, ``--only latency`` and ``--only table`` do one part with whatever
is trained so far: the table says how many epochs of how many are done. A training that was stopped has not
lowered its learning rate to zero, its mIoU is that of a sketch. ``--add`` keeps what the result file says of
other networks and seeds, so that they may be trained on several machines.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.common import Row, processor, row, write

# isort: split
from rich.console import Console

from proxygraph.command import console, fail, reporting
from proxygraph.errors import ConfigError, ProxyGraphError
from proxygraph.run import RunFolder
from segspace.checkpoint import NAME, Header, read_header
from segspace.datasets import open_dataset
from segspace.resumable import stopping

RESULTS = Path(__file__).parent / "results"
PARTS = ("train", "judge", "latency", "table")
RUNTIMES = ("onnxruntime", "openvino")
QUICK = ("rtseg:tiny:c0-C0-0", "enet", "bisenetv2:0.05")
UNIT = "mIoU on val, %"
NEEDED = ("engine", "seed", "epochs", "recipe", "protocol", "size", "params", "macs", "latency_ms")
"""What a row must have for others to be added to it."""
Run = tuple[str, int]
"""A network and the seed of its training."""
STOPPED = (130, -signal.SIGINT)
"""How a command ends after Ctrl-C: the second before it could set itself up."""


# ---- commands ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A command and the file that what it says is added to."""

    name: str
    command: tuple[str, ...]
    log: Path


def run_all(
    jobs: Sequence[Job],
    at_a_time: int,
    stop: Callable[[], bool] = lambda: False,
    tick: Callable[[], None] = lambda: None,
    poll: float = 0.5,
) -> bool:
    """Run commands, so many at a time; return whether all of them are done.

    Parameters
    ----------
    jobs : sequence of Job
        In the order they are begun.
    at_a_time : int
    stop : callable
        Once it is true no other job begins, and those under way get one Ctrl-C and are waited for.
    tick : callable
        Called now and then.
    poll : float
        Seconds between looks.

    Raises
    ------
    ConfigError
        If a command fails; the others are stopped as by Ctrl-C. The message has the last line that it said.
    """
    left, running, asked, cut = list(jobs)[::-1], dict[Job, subprocess.Popen[bytes]](), False, False
    with ExitStack() as logs:
        try:
            while running or (left and not asked):
                while left and len(running) < at_a_time and not asked:
                    job = left.pop()
                    running[job] = _begun(job, logs.enter_context(job.log.open("ab")))
                time.sleep(poll)
                tick()
                for job in [job for job, process in running.items() if process.poll() is not None]:
                    code = running.pop(job).returncode
                    cut |= code in STOPPED
                    if code and code not in STOPPED:
                        raise ConfigError(f"{job.name}: ended with code {code}: {_last_line(job.log)}")
                if stop() and not asked:
                    asked = True
                    _interrupt(running.values())
        finally:
            _interrupt(running.values())
            for process in running.values():
                process.wait()
    return not left and not cut


def _begun(job: Job, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own: a Ctrl-C in the terminal reaches it through us, and once."""
    return subprocess.Popen(job.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def _interrupt(processes: Any) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


# ---- the parts ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """The folder of all runs, and what they have in common."""

    folder: Path
    plan: dict[str, Any]

    @classmethod
    def opened(cls, options: argparse.Namespace) -> Work:
        """Open the folder.

        Raises
        ------
        ConfigError
            If it was begun with another plan.
        """
        plan = {name: getattr(options, name) for name in ("data", "size", "epochs", "options")}
        again = (options.work / "config.json").is_file()
        return cls(RunFolder.create(options.work, plan, again).path, plan)

    def path(self, run: Run) -> Path:
        """Return the folder of a run."""
        arch, seed = run
        return self.folder / (re.sub(r"[^\w.-]+", "_", arch) + (f"-seed{seed}" if seed else ""))

    def header(self, run: Run) -> Header | None:
        """Return what the checkpoint of a run says, None if there is none."""
        path = self.path(run)
        return read_header(path) if (path / NAME).is_file() else None

    def job(self, run: Run, module: str, *words: str) -> Job:
        """Return a command about a run."""
        path = self.path(run)
        path.mkdir(parents=True, exist_ok=True)
        log = path / f"{module.rpartition('.')[2]}.log"
        return Job(name_of(run), (sys.executable, "-m", module, *words), log)


def name_of(run: Run) -> str:
    """Return how a run is called in what is printed."""
    arch, seed = run
    return f"{arch}, seed {seed}" if seed else arch


def epochs_of(header: Header | None) -> tuple[float, int | None]:
    """Return how many epochs of how many are done; before the first checkpoint none of unknown many."""
    if header is None:
        return 0.0, None
    return round(header.step * header.recipe.epochs / header.steps, 2), header.recipe.epochs


def train(work: Work, runs: Sequence[Run], at_a_time: int, seconds: float | None, screen: Console) -> bool:
    """Train what is not trained to its end, or for so many seconds; return False after Ctrl-C."""
    plan, jobs = work.plan, []
    for run in runs:
        path = work.path(run)
        if (path / "result.json").is_file():
            continue
        words = [run[0], "--data", plan["data"], "--size", plan["size"], "--epochs", str(plan["epochs"])]
        words += ["--seed", str(run[1]), "--threads", "1", *shlex.split(plan["options"]), "--out", str(path)]
        resume = ["--resume"] if (path / "config.json").is_file() else []
        jobs.append(work.job(run, "segspace.train", *words, *resume))
    begin, told = time.monotonic(), dict[Run, int]()
    with reporting(screen) as report, stopping() as asked:

        def tick() -> None:
            for run in runs:
                done = _journalled(work.path(run))
                if told.get(run) != done:
                    told[run] = done
                    report(name_of(run), done, plan["epochs"])

        def stop() -> bool:
            return asked() or (seconds is not None and time.monotonic() - begin > seconds)

        run_all(jobs, at_a_time, stop, tick)
    for run in runs:
        done, planned = epochs_of(work.header(run))
        screen.print(f"{name_of(run)}: {done:g} of {planned or plan['epochs']} epochs", soft_wrap=True)
    return not asked()


def _journalled(path: Path) -> int:
    """Return the epochs that the journal of a run has."""
    journal = path / "journal.jsonl"
    return len(journal.read_bytes().splitlines()) if journal.is_file() else 0


def judge(work: Work, runs: Sequence[Run], at_a_time: int) -> None:
    """Judge what has been trained further since it was judged."""
    jobs = []
    for run in runs:
        header = work.header(run)
        if header is not None and evaluation(work, run, header) is None:
            words = (str(work.path(run)), "--data", work.plan["data"])
            jobs.append(work.job(run, "segspace.evaluate", *words))
    run_all(jobs, at_a_time)


def evaluation(work: Work, run: Run, header: Header) -> dict[str, Any] | None:
    """Return how a network was judged, None if it was not at its present step."""
    folder = RunFolder(work.path(run) / "evaluation-val")
    if not (folder.path / "evaluation.json").is_file():
        return None
    found = folder.read("evaluation.json")
    return found if found["step"] == [header.step, header.steps] else None


def latency(work: Work, archs: Sequence[str], options: argparse.Namespace) -> None:
    """Measure all networks, which take turns, in one runtime after the other."""
    classes = len(open_dataset(work.plan["data"]).classes)
    for runtime in options.runtimes:
        words = [*archs, "--runtime", runtime, "--size", work.plan["size"], "--classes", str(classes)]
        words += ["--rounds", str(options.rounds), "--json", str(work.folder / f"latency-{runtime}.json")]
        words += ["--busy-ok"] if options.busy_ok else []
        command = (sys.executable, "-m", "segspace.latency", "measure", *words)
        run_all([Job(runtime, command, work.folder / f"latency-{runtime}.log")], 1)


# ---- the table ---------------------------------------------------------------------------------------------


def timed(work: Work, runtimes: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what was measured of each network: by arch, then runtime; with the setting as text."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for runtime in runtimes:
        path = work.folder / f"latency-{runtime}.json"
        if not path.is_file():
            continue
        content = RunFolder(work.folder).read(path.name)
        setting = content["setting"]
        for one in content["networks"]:
            found.setdefault(one["arch"], {})[runtime] = one | {
                "version": setting["version"],
                "threads": setting["threads"],
            }
    return found


def table_rows(work: Work, runs: Sequence[Run], runtimes: Sequence[str]) -> list[Row]:
    """Return one row per run that has been judged."""
    measured, rows = timed(work, runtimes), []
    n = len(open_dataset(work.plan["data"]).split("val"))
    for run in runs:
        arch, header = run[0], work.header(run)
        found = None if header is None else evaluation(work, run, header)
        if header is None or found is None:
            continue
        done, planned = epochs_of(header)
        times = measured.get(arch, {})
        of_cost = next(iter(times.values()), {})
        about: Row = {
            "kind": "found" if arch.startswith("rtseg:") else "baseline",
            "epochs": done,
            "epochs_planned": planned,
            "cpu_minutes": round(header.cpu_seconds / 60, 1),
            "params": of_cost.get("params"),
            "macs": of_cost.get("macs"),
            "latency_ms": {
                runtime: {key: one[key] for key in ("median", "p10", "p90", "version", "threads")}
                | {"processor": processor()}
                for runtime, one in times.items()
            },
            "accuracy": found["accuracy"],
            "class_iou": found["class_iou"],
            "size": found["size"],
            "seed": header.seed,
            "processor": processor(),
            "protocol": found["protocol"],
            "recipe": header.recipe.to_json(),
        }
        rows.append(row(arch, [found["miou"]], n_rows=n, dtype="float32", unit=UNIT, **about))
    return rows


def added(rows: Sequence[Row], path: Path) -> list[Row]:
    """Return the rows of a result file with these in place of, or after, its own.

    Of two trainings of one network and seed the one with more epochs stays. All rows of a network have its
    latencies: those of `rows`, and of the file where there are none.

    Raises
    ------
    ConfigError
        If the file is no result of this script, or has networks of another recipe, judged otherwise, or
        timed on another kind of processor.
    """
    earlier = _rows_in(path)
    kept: dict[tuple[str, int], Row] = {}
    costs: dict[str, Row] = {}
    for one in (*earlier, *rows):
        engine = one["engine"]
        for key in ("recipe", "protocol", "size"):
            if one[key] != rows[0][key]:
                raise ConfigError(f"{path}: {engine} has another {key}; give another --json")
        before = kept.get((engine, one["seed"]))
        if before is None or before["epochs"] <= one["epochs"]:
            kept[engine, one["seed"]] = one
        cost = costs.setdefault(engine, {"latency_ms": {}})
        cost["latency_ms"] |= one["latency_ms"]
        cost |= {key: one[key] for key in ("params", "macs") if one[key] is not None}
    times = [time for cost in costs.values() for time in cost["latency_ms"].values()]
    if len({time["processor"] for time in times}) > 1:
        raise ConfigError(f"{path}: latencies of another kind of processor; time all of its networks here")
    return [one | costs[one["engine"]] for one in kept.values()]


def _rows_in(path: Path) -> list[Row]:
    """Return the rows of a result file (`ConfigError` if it is not one of this script)."""
    rows: list[Row] = RunFolder(path.parent).read(path.name).get("rows", [])
    for one in rows:
        times = one.get("latency_ms", {}).values()
        lacking = [key for key in NEEDED if key not in one]
        lacking += ["processor" for time in times if "processor" not in time]
        if lacking:
            raise ConfigError(f"{path}: a row without {lacking[0]}; give another --json")
    return rows


def shown(rows: Sequence[Row], runtimes: Sequence[str]) -> list[str]:
    """Return the lines of the table for a terminal, the best network first."""
    heads = "".join(f"{f'{runtime} ms, FPS':>24}" for runtime in runtimes)
    lines = [f"mIoU %           epochs   k params   M MACs{heads}  CPU min  network"]
    for one in sorted(rows, key=lambda one: -one["median"]):
        found = (one["latency_ms"].get(runtime) for runtime in runtimes)
        times = (f"{t['median']:.3f}, {1e3 / t['median']:.0f}" if t else "–" for t in found)
        epochs = f"{one['epochs']:g} of {one['epochs_planned']}"
        sizes = (
            f"{one[key] / unit:.1f}" if one[key] else "–" for key, unit in (("params", 1e3), ("macs", 1e6))
        )
        lines.append(
            f"{one['median']:6.2f} {epochs:>16} {next(sizes):>10} {next(sizes):>8}"
            + "".join(f"{time:>24}" for time in times)
            + f" {one['cpu_minutes']:8.1f}  {name_of((one['engine'], one['seed']))}"
        )
    return lines


# ---- the command -------------------------------------------------------------------------------------------


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archs", nargs="*", help="found networks and baselines, as for segspace.train")
    parser.add_argument("--data", help="as for segspace.train")
    parser.add_argument("--size", help="HxW that networks see and are timed at (360x480)")
    parser.add_argument("--epochs", type=int, help="of the whole schedule (200)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="each network is trained once with each of them (0)"
    )
    parser.add_argument("--options", help="more options for segspace.train, as one text")
    parser.add_argument("--work", type=Path, help="where runs are kept (runs/segmenters)")
    parser.add_argument("--at-a-time", type=int, default=2, help="trainings, one thread each (2)")
    parser.add_argument("--seconds", type=float, help="stop training after so long, as by Ctrl-C, and go on")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), help=" ".join(RUNTIMES))
    parser.add_argument("--rounds", type=int, default=50, help="turns of every network (50)")
    parser.add_argument("--busy-ok", action="store_true", help="measure latency on a busy machine")
    parser.add_argument("--only", choices=PARTS, help="do one part alone")
    parser.add_argument("--quick", action="store_true", help="small scenes, two epochs, no result file")
    parser.add_argument("--json", type=Path, help="write the result to this file [results/segmenters.json]")
    parser.add_argument("--add", action="store_true", help="keep its rows of other networks and seeds")
    options = parser.parse_args(arguments)
    quick = options.quick
    given: dict[str, Any] = {
        "data": "streetscenes:32x48?train=8&val=2" if quick else None,
        "size": "32x48" if quick else "360x480",
        "epochs": 2 if quick else 200,
        "options": "--batch 4" if quick else "",
        "work": Path("runs/segmenters-quick" if quick else "runs/segmenters"),
        "archs": list(QUICK) if quick else None,
    }
    for name, value in given.items():
        if getattr(options, name) in (None, []):
            setattr(options, name, value)
    if not options.archs or not options.data:
        parser.error("name networks, and give --data")
    if any(word.partition("=")[0] == "--seed" for word in shlex.split(options.options)):
        parser.error("--options: give seeds by --seeds")
    if quick:
        options.rounds, options.busy_ok = 3, True
    elif options.json is None:
        options.json = RESULTS / "segmenters.json"
    return options


def measured(options: argparse.Namespace, screen: Console) -> None:
    """Do what is asked for; SystemExit with 130 after Ctrl-C."""
    archs, work = list(dict.fromkeys(options.archs)), Work.opened(options)
    runs = [(arch, seed) for seed in dict.fromkeys(options.seeds) for arch in archs]
    parts = PARTS if options.only is None else (options.only,)
    if "train" in parts and not train(work, runs, options.at_a_time, options.seconds, screen):
        screen.print("stopped; the same command goes on; --only judge takes what is there")
        raise SystemExit(130)
    if "judge" in parts:
        screen.print("judging on val")
        judge(work, runs, options.at_a_time)
    if "latency" in parts:
        screen.print("measuring latency")
        latency(work, archs, options)
    rows = table_rows(work, runs, options.runtimes)
    if rows:
        if options.add and options.json is not None and options.json.is_file():
            rows = added(rows, options.json)
        for line in shown(rows, options.runtimes):
            screen.print(line, soft_wrap=True)
        write(options.json, "segmenters", rows)
    judged = {(one["engine"], one["seed"]) for one in rows}
    if missing := [name_of(run) for run in runs if run not in judged]:
        screen.print(f"not judged yet: {', '.join(missing)}", soft_wrap=True)


def main() -> None:
    """Measure, print, write."""
    try:
        measured(options_of(), console())
    except ProxyGraphError as error:
        fail(error, 2)
    except KeyboardInterrupt:
        fail("interrupted", 130)


if __name__ == "__main__":
    main()
