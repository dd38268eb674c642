"""What does it cost to give islands to other processes, and what would a thousand of them come to?

    python benchmarks/scale.py [--quick] [--json FILE]

Constants first: bytes and seconds of a recipe and of a state on its way, Dask's seconds per task, formulas
per second of one core. Then whole searches of fixed length on 1, 2, 4 and 8 local Dask workers, beside what
the model of docs/scale.md says from the constants alone. Wall time; compiling and starting is not counted.
A worker unpacks the state that it gets and packs the one that it made; the model takes for that the seconds
that the same takes the client. It goes by means, since all of a run adds up.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.common import Row, arguments, print_rows, row, write
from benchmarks.loop import networks, rows_500

import distributed  # isort: skip
import numpy as np  # isort: skip

from proxygraph.assemble import SCREEN_SAMPLES, SEARCH_SAMPLES, Assembled, Settings, assembled
from proxygraph.islands import Migration
from proxygraph.loop import Stop, run
from proxygraph.objective import OBJECTIVES
from proxygraph.remote import Dask, Job, Package, Remote, advanced, remote, sources

EVERY = 10
ISLANDS = 8
ABOUT: Row = {"n_rows": 500, "dtype": "float64"}


def search(seed: int = 0) -> Assembled:
    """Return eight islands on 500 rows."""
    settings = Settings(seed=seed, population=2000, islands=ISLANDS, migration=Migration(EVERY))
    return assembled(*rows_500(), OBJECTIVES["spearman"], settings, apart=False)


def timed(function: Any, *args: Any) -> tuple[float, Any]:
    """Return the wall seconds of a call and what it returned."""
    begin = time.perf_counter()
    found = function(*args)
    return time.perf_counter() - begin, found


def recipes(quick: bool) -> list[Row]:
    """Return the bytes of recipes: of a table of rows, and per network."""
    package = Package.of(search().recipe)
    rows = [row("recipe of a table", [len(package.content)], unit="bytes", **ABOUT)]
    n = 20 if quick else 60
    table, target = networks(n, 70, 512)
    for samples in (512, SEARCH_SAMPLES, SCREEN_SAMPLES):
        recipe = assembled(table, target, OBJECTIVES["spearman"], Settings(), apart=False).recipe
        size = len(pickle.dumps(replace(recipe, table=table.thin(samples)), protocol=5)) / n
        about: Row = {"n_rows": n, "dtype": "float32", "samples": samples, "leaves": len(table.leaves)}
        rows.append(row(f"recipe per network, {samples} samples", [size], unit="bytes", **about))
    return rows


def epochs(n: int) -> tuple[list[Row], dict[str, float]]:
    """Return the cost of states after some epochs, and means of what the model takes."""
    here, bytes_per_key = search(), []
    work, sizes, away, back, moved, rates = [], [], [], [], [], []
    state = search(99).start()  # loads the machine code
    for epoch in range(n):
        before = state.counters["evaluated"] if epoch else 0
        begin = time.perf_counter()
        for k in range(EVERY):
            state = here.step(state) if epoch or k else here.start()
        work.append((time.perf_counter() - begin) / ISLANDS)
        rates.append((state.counters["evaluated"] - before) / work[-1] / ISLANDS)
        for one in state.islands:
            seconds, packed = timed(pickle.dumps, one, 5)
            away.append(seconds)
            sizes.append(len(packed))
            back.append(timed(pickle.loads, packed)[0])
            keys = len(one.known) + len(one.classes) + len(one.fitted)
            bytes_per_key.append(len(packed) / keys)
        seconds, state = timed(here.migrated, state)
        moved.append(seconds / ISLANDS)
    new = [(b - a) / EVERY for a, b in zip(sizes[:-ISLANDS], sizes[ISLANDS:], strict=True)]
    rows = [
        row("one core: formulas", rates, unit="1/s", **ABOUT),
        row("one core: epoch of an island", work, unit="s", **ABOUT),
        row("state of an island", sizes, unit="bytes", **ABOUT),
        row("state of an island, per key", bytes_per_key, unit="bytes", **ABOUT),
        row("growth of a state per generation", new, unit="bytes", **ABOUT),
        row("client: pack a state", away, unit="s", **ABOUT),
        row("client: unpack a state", back, unit="s", **ABOUT),
        row("client: migration of an island", moved, unit="s", **ABOUT),
    ]
    means: dict[str, Any] = {
        "epoch": work,
        "pack": away,
        "unpack": back,
        "migrate": moved,
        "bytes": sizes,
    }
    return rows, {name: float(np.mean(values)) for name, values in means.items()}


def nothing(content: bytes, k: int) -> int:
    """Return at once."""
    return k


def echo(content: bytes, k: int) -> bytes:
    """Send back what came."""
    return content


def tasks(client: Any, n: int) -> tuple[list[Row], dict[str, float]]:
    """Return Dask's seconds per task, and per byte of a state that goes there or comes back."""
    executor = client.get_executor(pure=False)

    def burst(function: Any, size: int, many: int) -> float:
        contents = [os.urandom(size) for _ in range(many)]
        begin = time.perf_counter()
        futures = [executor.submit(function, content, k) for k, content in enumerate(contents)]
        for future in futures:
            future.result()
        return (time.perf_counter() - begin) / many

    burst(nothing, 10, 10)
    empty = [burst(nothing, 10, n) for _ in range(3)]
    size = 1_000_000
    full = [(burst(echo, size, 16) - min(empty)) / (2 * size) for _ in range(3)]
    rows = [
        row("Dask: empty task, several at a time", empty, unit="s", **ABOUT),
        row(
            "Dask: throughput through the scheduler, one way", [1 / f for f in full], unit="bytes/s", **ABOUT
        ),
    ]
    return rows, {"task": float(np.median(empty)), "byte": float(np.median(full))}


def predicted(constant: Mapping[str, float], workers: int, cores: int, n_epochs: float) -> float:
    """Return the seconds of a search by the model.

    Work of islands is shared out, what passes through the client is not.
    """
    packing = constant["pack"] + constant["unpack"]
    in_worker = constant["epoch"] + packing
    in_client = packing + constant["migrate"] + constant["task"] + 2 * constant["byte"] * constant["bytes"]
    turns = -(-ISLANDS // min(workers, cores))
    return n_epochs * (turns * in_worker + ISLANDS * in_client)


def crew_run(client: Any, seed: int, generations: int) -> float:
    """Return the seconds of a search whose recipe the workers have already."""
    elsewhere: Remote = remote(search(seed), Dask(client))
    package = elsewhere.package
    job = Job(package.digest, sources(), 0, None, 1)
    client.run(advanced, job, package.content)  # loads the machine code, on every worker
    return timed(run, elsewhere, Stop(generations=generations, fitness=2.0))[0]


def main() -> None:
    """Run, print, write."""
    options = arguments(__doc__)
    quick = options.quick
    generations = EVERY * (2 if quick else 4)
    rows = recipes(quick)
    new, constant = epochs(2 if quick else 4)
    rows += new
    cores = len(os.sched_getaffinity(0))
    for workers in (1, 2) if quick else (1, 2, 4, 8):
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            if workers == 1:
                new, measured = tasks(client, 200 if quick else 500)
                rows += new
                constant |= measured
            seconds = [crew_run(client, seed, generations) for seed in range(2 if quick else 3)]
        model = predicted(constant, workers, cores, generations / EVERY)
        about = {**ABOUT, "threads": workers, "islands": ISLANDS, "generations": generations, "cores": cores}
        rows.append(row("search on Dask workers", seconds, unit="s", **about))
        rows.append(row("search on Dask workers, by the model", [model], unit="s", **about))
    print_rows(rows)
    write(options.json, "scale", rows, cores)


if __name__ == "__main__":
    main()
