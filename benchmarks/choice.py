"""Which formula of a finished search should win? Rules of choice on the halls of fame of many searches.

    python benchmarks/choice.py PROBLEM.safetensors RUN [RUN...] [--json FILE]

RUNs are folders of ``python -m proxygraph.evolve`` on the problem. For every rule: Spearman on the test rows
of what it chooses among all formulas of the hall of fame, mean over the runs of the same settings. "best on
test" is no rule, but what a perfect one would reach. Rules are tried on networks apart from those that
results are reported on (``benchmarks/proxies.py apart``).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Row, print_rows, row, write

# isort: split
import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError
from proxygraph.infix import parse
from proxygraph.kernels import compile_kernel
from proxygraph.problem import Problem, Split
from proxygraph.program import lower
from proxygraph.rank import spearman
from proxygraph.run import RunFolder

Floats = NDArray[np.float64]
TOGETHER = 8
"""Formulas compiled together."""


@dataclass(frozen=True)
class Hall:
    """The formulas of a finished search on all rows: values (formulas, rows), turned as training rows say."""

    values: Floats
    sizes: NDArray[np.int64]
    split: Split

    @classmethod
    def read(cls, folder: Path, problem: Problem) -> Hall:
        """Evaluate a hall of fame.

        Raises
        ------
        ConfigError
            If the run is on other data.
        """
        settings = RunFolder(folder).read("config.json")
        if settings["data"] != problem.digest:
            raise ConfigError(f"{folder}: a run on other data than {problem.name}")
        split = problem.split(settings["seed"], settings["train"], settings["validation"])
        with (folder / "hall_of_fame.csv").open(encoding="utf-8", newline="") as file:
            dags = [parse(line["formula"], problem.table.leaves) for line in csv.DictReader(file)]
        portions = [dags[i : i + TOGETHER] for i in range(0, len(dags), TOGETHER)]
        values = np.concatenate([compile_kernel(lower(portion))(problem.table) for portion in portions])
        backward = [rho(v[split.train], problem.target[split.train]) < 0.0 for v in values]
        values = np.where(np.array(backward)[:, None], -values, values)
        return cls(values, np.array([dag.size for dag in dags]), split)

    @property
    def seen(self) -> NDArray[np.int64]:
        """Return the rows that the search or the choice saw."""
        return np.concatenate([self.split.train, self.split.validation])


def hall(folder: Path, problem: Problem) -> dict[str, Floats]:
    """Return size, undefined rows and rho on the parts of the rows, of every formula of a hall of fame.

    Turned as the training rows say; -1 where undefined.
    """
    one = Hall.read(folder, problem)
    parts = {"train": one.split.train, "validation": one.split.validation}
    parts |= {"seen": one.seen, "test": one.split.test}
    found = {
        part: np.nan_to_num([rho(v[rows], problem.target[rows]) for v in one.values], nan=-1.0)
        for part, rows in parts.items()
    }
    undefined = (~np.isfinite(one.values[:, one.seen])).sum(axis=1).astype(float)
    return found | {"size": one.sizes.astype(float), "undefined": undefined}


def rho(values: Floats, target: Floats) -> float:
    """Return Spearman over the rows with a value, NaN where it is undefined."""
    ok = np.isfinite(values)
    if ok.sum() < 2 or (values[ok] == values[ok][0]).all():
        return float("nan")
    return float(spearman(values[ok][None], target[ok])[0])


def among_sizes(found: Mapping[str, Floats], n_sizes: int) -> int:
    """Return the best on all rows seen among the sizes whose formulas validate best on average."""
    size, validation = found["size"], found["validation"]
    mean = {s: float(np.mean(validation[size == s])) for s in np.unique(size)}
    kept = sorted(mean, key=lambda s: -mean[s])[:n_sizes]
    return int(np.argmax(np.where(np.isin(size, kept), found["seen"], -2.0)))


RULES: Mapping[str, Callable[[Mapping[str, Floats]], int]] = {
    "best on validation": lambda found: int(np.argmax(found["validation"] - 1e-9 * found["size"])),
    "best on all rows seen": lambda found: int(np.argmax(found["seen"])),
    "one size by validation, then all rows seen": lambda found: among_sizes(found, 1),
    "three sizes by validation, then all rows seen": lambda found: among_sizes(found, 3),
    "best on test": lambda found: int(np.argmax(found["test"])),
}


def settings_of(folder: Path) -> tuple[Any, ...]:
    """Return what runs must share to be averaged."""
    settings, rows = (
        RunFolder(folder).read("config.json"),
        RunFolder(folder).read("result.json")["problem"]["rows"],
    )
    return (
        rows["train"] + rows["validation"],
        settings["objective"],
        settings["max_size"],
        settings["evaluations"],
    )


def rows_of(problem: Problem, folders: list[Path]) -> list[Row]:
    """Return a row for every group of runs and rule."""
    groups: dict[tuple[Any, ...], list[Path]] = {}
    for folder in folders:
        groups.setdefault(settings_of(folder), []).append(folder)
    rows = []
    for (labels, objective, max_size, evaluations), members in sorted(groups.items(), key=str):
        halls = []
        for folder in members:
            found = hall(folder, problem)
            kept = found["undefined"] == found["undefined"].min()
            halls.append({name: values[kept] for name, values in found.items()})
        for rule, choice in RULES.items():
            reached = [float(one["test"][choice(one)]) for one in halls]
            about = {
                "labels": labels,
                "objective": objective,
                "max_size": max_size,
                "evaluations": evaluations,
            }
            about |= {"mean": float(np.mean(reached)), "least": min(reached), "runs": len(reached)}
            n_rows = problem.table.n_rows - labels
            rows.append(
                row(rule, reached, n_rows=n_rows, dtype="float64", unit="Spearman, test rows", **about)
            )
    return rows


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("problem", type=Path, help="saved problem")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of searches on it")
    parser.add_argument("--quick", action="store_true", help="the first two runs only")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    rows = rows_of(Problem.load(options.problem), options.runs[: 2 if options.quick else None])
    print_rows(rows, "labels", "objective", "max_size", "evaluations", "mean", "least", "runs")
    write(options.json, "choice", rows)


if __name__ == "__main__":
    main()
