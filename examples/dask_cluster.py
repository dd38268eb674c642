"""Let the islands of a search evolve on a Dask cluster: here two workers on this machine.

The result is the same as without a cluster, for the same seed. For a cluster that runs already, give its
address: ``python -m proxygraph.evolve table.csv --target y --dask tcp://HOST:8786`` does the rest.

    python examples/dask_cluster.py
    python examples/dask_cluster.py --workers 4 --islands 16 --seconds 60
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from distributed import Client, LocalCluster  # pip install 'proxygraph[distributed]'

from proxygraph import StatTable, text
from proxygraph.assemble import Settings, assembled
from proxygraph.islands import Migration
from proxygraph.loop import Stop, run
from proxygraph.objective import find_objective
from proxygraph.remote import Dask, remote


def rows(n: int = 400) -> tuple[StatTable, np.ndarray]:
    """Return a table, and a target that is a power of the distance between two points."""
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(-1, 1, n) for name in ("x0", "y0", "x1", "y1")}
    apart = (columns["x0"] - columns["x1"]) ** 2 + (columns["y0"] - columns["y1"]) ** 2
    return StatTable.from_columns(None, columns), np.sqrt(apart) * rng.normal(1, 0.02, n)


def main() -> None:
    """Run the example: workers are processes, so they import this file; hence the guard below."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--islands", type=int, default=4, help="parts of the population; tasks are islands")
    parser.add_argument("--population", type=int, default=400)
    parser.add_argument("--generations", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=30, help="looked at between migrations")
    given = parser.parse_args()

    table, target = rows()
    # a task is one island from one migration to the next: make it long against the few ms that it costs
    settings = Settings(
        population=given.population, islands=given.islands, migration=Migration(every=10), max_size=12
    )
    search = assembled(table, target, find_objective("spearman"), settings, apart=False)
    stop = Stop(generations=given.generations, seconds=given.seconds)
    with (
        LocalCluster(
            n_workers=given.workers, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR"
        ) as cluster,
        Client(cluster) as client,
    ):
        print(f"{given.workers} workers at {cluster.scheduler_address}")
        begin = time.monotonic()
        outcome = run(remote(search, Dask(client)), stop)
        seconds = time.monotonic() - begin
    scored = outcome.state.counters["evaluated"]
    print(f"{scored:,} formulas scored in {seconds:.0f} s; it ended because of: {outcome.reason}")
    for one in outcome.state.hall.front():
        print(f"{one.size:4} nodes  Spearman {one.fitness:.4f}  {text(one.dag)}")


if __name__ == "__main__":
    main()
