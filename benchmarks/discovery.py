"""The protocol of docs/proxies.md: formulas from few labels, beside models that learn from the same rows.

A run is a search with so many labels and a seed: ``python -m proxygraph.evolve`` in a folder of its
own, then the baselines on the rows that search and choice saw, all tested on the rows that neither did.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, row

# isort: split
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer

from proxygraph.dag import Dag
from proxygraph.errors import ConfigError
from proxygraph.finish import CHUNK_VALUES, exact_values
from proxygraph.infix import parse
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.problem import Problem, Report, Split, load_problem
from proxygraph.program import lower
from proxygraph.rank import kendall, spearman
from proxygraph.table import StatTable

Floats = NDArray[np.float64]

LABELS, SEEDS, EVALUATIONS = (50, 100, 400), (0, 1, 2), 300_000
CHOOSING = 1 / 3  # of the labels: they choose the winner, the others train
UNIT = "Spearman, test rows"
ENGINES = ("formula", "forest", "linear", "handmade")
ON_LAYERS = ("sum", "mean", "std", "min", "max")
INSIDE = ("mean(abs({}))", "std({})")
DONE = "discovery.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the protocol to a command line."""
    parser.add_argument("source", help="problem, as for proxygraph.evolve")
    parser.add_argument(
        "--labels", type=int, nargs="+", help="training and validation rows together (50 100 400)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="(0 1 2)")
    parser.add_argument("--evaluations", type=int, help="formulas that every search scores (300000)")
    parser.add_argument("--threads", type=int, default=2, help="of every search (2)")
    add_places(parser)
    parser.add_argument("--options", default="", help="more options for proxygraph.evolve, as one text")


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where runs are."""
    parser.add_argument("--work", type=Path, default=Path("runs/proxies"), help="where runs are kept")
    parser.add_argument("--variant", default="default", help="name of a set of --options, for ablations")


# ---- the protocol ------------------------------------------------------------------------------------------


def rows(options: argparse.Namespace, report: Report) -> list[Row]:
    """Run what is missing of the protocol and return the rows of its result."""
    quick = options.quick
    labels = options.labels or ([20] if quick else LABELS)
    seeds = options.seeds or ([0] if quick else SEEDS)
    evaluations = options.evaluations or (5_000 if quick else EVALUATIONS)
    folder = options.work / ("quick" if quick else options.variant)
    folder.mkdir(parents=True, exist_ok=True)
    problem, source = kept_problem(options.source, options.work, report)
    pairs = [(n, seed) for n in labels for seed in seeds]
    for i, (n, seed) in enumerate(pairs):
        report("runs", i, len(pairs))
        out = folder / f"{problem.name}-{problem.digest[:8]}-{n}-{seed}-{evaluations}"
        if not (out / DONE).is_file():
            train, validation = shares(n)
            command = ["--train", str(train), "--validation", str(validation), "--seed", str(seed)]
            command += ["--evaluations", str(evaluations)]
            command += ["--threads", str(options.threads), *shlex.split(options.options)]
            cpu = searched(source, command, out)
            found = judged(problem, n, seed, read(out / "result.json"))
            about = {"labels": n, "seed": seed, "evaluations": evaluations, "options": options.options}
            write_whole(out / DONE, found | about | {"cpu_seconds": cpu})
        elif (other := read(out / DONE)["options"]) != options.options:
            raise ConfigError(f"{out}: was run with the options {other!r}; choose another --variant")
    report("runs", len(pairs), len(pairs))
    kept = [run for run in runs_of(folder) if run["problem"] != problem.name or run["data"] == problem.digest]
    asked = [run for run in kept if run["labels"] in labels and run["seed"] in seeds]
    return rows_of(newest([run for run in asked if run["evaluations"] == evaluations]))


def shares(n_labels: int) -> tuple[int, int]:
    """Return how many labels train, and how many choose the winner."""
    n_validation = round(CHOOSING * n_labels)
    return n_labels - n_validation, n_validation


def kept_problem(source: str, work: Path, report: Report) -> tuple[Problem, str]:
    """Return a problem and a saved copy of it: every search then opens one file."""
    problem = load_problem(source, None, report)
    if source.endswith(".safetensors"):
        return problem, source
    path = work / f"{problem.name}-{problem.digest[:12]}.safetensors"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.safetensors")
        problem.save(partial)
        partial.replace(path)
    return problem, str(path)


def searched(source: str, options: Sequence[str], out: Path) -> float | None:
    """Run one search to its end, from where it was interrupted.

    Return the CPU seconds it took; None if it went on from an interrupted one, whose seconds are not known.
    """
    resume = ["--resume"] if (out / "config.json").is_file() else []
    command = [sys.executable, "-m", "proxygraph.evolve", source, *options, "--out", str(out), *resume]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "--quiet"], stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ConfigError(f"the search in {out} ended with code {done.returncode}: {shlex.join(command)}")
    return None if resume else (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def judged(problem: Problem, n_labels: int, seed: int, result: dict[str, Any]) -> dict[str, Any]:
    """Return what is reported of one finished search; the test rows are looked at here, not before."""
    split = problem.split(seed, *shares(n_labels))
    best = result["best"]
    scores = {"formula": exact_values(Dag.from_json(best["graph"]), problem.table, split.test)}
    scores |= learnt(problem, split, seed)
    known = best_known(result["baselines"])
    proxy = parse(known["infix"], problem.table.leaves)
    scores["handmade"] = exact_values(proxy, problem.table, split.test)
    target, groups = problem.target[split.test], [problem.groups[i] for i in split.test]
    return {
        "problem": problem.name,
        "data": problem.digest,
        "rows": result["problem"]["rows"],
        "formula": {key: best[key] for key in ("infix", "latex", "size", "train", "validation", "test")},
        "front": [
            {key: one[key] for key in ("infix", "size", "graph", "train", "validation", "test")}
            for one in result["front"]
        ],
        "handmade": known["name"],
        "test": {name: tested(values, target, groups) for name, values in scores.items()},
        "scatter": {"target": target.tolist(), "formula": finite_or_none(scores["formula"])},
        "formulas_scored": result["search"]["evaluated"],
    }


def best_known(baselines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the hand-made proxy undefined on the fewest training rows; of those, the best on them."""

    def worth(one: dict[str, Any]) -> tuple[float, float]:
        return -one["train"]["invalid"], _or_worst(one["train"]["spearman"])

    return max(baselines, key=worth)


def _or_worst(rho: float | None) -> float:
    """Return a correlation, or less than any if it is undefined."""
    return -2.0 if rho is None else rho


def tested(scores: Floats, target: Floats, groups: Sequence[str] = ()) -> dict[str, Any]:  # noqa: PT028
    """Return how scores rank the test rows, and how good the network is that they put first.

    With the groups of equal networks also ``"distinct"``: Spearman over one row of each.
    """
    ok = np.isfinite(scores)
    x, y = scores[ok], target[ok]
    known = len(x) > 1 and bool((x != x[0]).any())
    if groups:
        first = np.unique(groups, return_index=True)[1]
        distinct = {"distinct": tested(scores[first], target[first])["spearman"]}
    else:
        distinct = {}
    pick = float(y[x == x.max()].mean()) if len(x) else float(target.min())  # equal scores: any of them
    return {
        "spearman": float(spearman(x[None], y)[0]) if known else None,
        "kendall": float(kendall(x[None], y)[0]) if known else None,
        "invalid": int((~ok).sum()),
        "regret": float(target.max()) - pick,
        "better": float((target > pick).mean()),
        **distinct,
    }


def finite_or_none(values: Floats) -> list[float | None]:
    """Return numbers as JSON can hold them."""
    return [float(v) if np.isfinite(v) else None for v in values]


def read(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write a file, never half of one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(partial, path)


# ---- models that learn from the same rows ------------------------------------------------------------------


def aggregates(table: StatTable) -> dict[str, Dag]:
    """Return one number per row for what a table holds: formulas over layers and their entries."""
    texts: list[str] = []
    for name, leaf in table.leaves.items():
        if leaf.axis == "row":
            texts.append(name)
        else:
            inner = [name] if leaf.axis == "layer" else [one.format(name) for one in INSIDE]
            texts += [f"{outer}({one})" for one in inner for outer in ON_LAYERS]
    return {text: parse(text, table.leaves) for text in texts}


def features(table: StatTable, wanted: NDArray[np.int64]) -> Floats:
    """Return the aggregates of some rows, shape (rows, features), NaN where not finite."""
    kernel = ReferenceKernel(lower(list(aggregates(table).values())))
    portion = max(1, int(CHUNK_VALUES * table.n_rows / max(table.size("element"), table.n_rows)) // 8)
    parts = [kernel(table.take(wanted[i : i + portion])) for i in range(0, len(wanted), portion)]
    found = np.concatenate(parts, axis=1).T.astype(np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def models(seed: int, n_rows: int) -> dict[str, Pipeline]:
    """Return the baselines, a forest and a line, on features made normal."""

    def prepared(model: BaseEstimator) -> Pipeline:
        # features span 1e-10 to 1e60: what counts is their order (a forest would overflow in float32)
        quantiles = {"n_quantiles": min(1000, n_rows), "random_state": seed}
        normal = QuantileTransformer(output_distribution="normal", **quantiles)
        return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), normal, model)

    return {
        "forest": prepared(RandomForestRegressor(500, max_features=1 / 3, random_state=seed)),
        "linear": prepared(RidgeCV(np.logspace(-2, 5, 15))),
    }


def learnt(problem: Problem, split: Split, seed: int) -> dict[str, Floats]:
    """Return the predictions of the baselines for the test rows; they learn from train and validation."""
    seen = np.concatenate([split.train, split.validation])
    x, y = features(problem.table, seen), problem.target[seen]
    unseen = features(problem.table, split.test)
    return {name: model.fit(x, y).predict(unseen) for name, model in models(seed, len(y)).items()}


# ---- results -----------------------------------------------------------------------------------------------


def runs_of(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs of a folder, the oldest first; the folder's name is their variant."""
    paths = sorted(folder.glob(f"*/{DONE}"), key=lambda path: (path.stat().st_mtime_ns, path))
    return [read(path) | {"variant": folder.name} for path in paths]


def newest(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs on the data that each problem had last."""
    data = {run["problem"]: run["data"] for run in runs}
    return [run for run in runs if run["data"] == data[run["problem"]]]


def of_rows(runs: Iterable[dict[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the runs that the rows of a result tell of, by labels and seed."""
    keys = ("problem", "data", "labels", "evaluations")
    wanted = {(*(row[key] for key in keys), seed) for row in rows for seed in row["seeds"]}
    found = [run for run in runs if (*(run[key] for key in keys), run["seed"]) in wanted]
    return sorted(found, key=lambda run: (run["problem"], run["labels"], run["evaluations"], run["seed"]))


def rows_of(runs: Sequence[dict[str, Any]]) -> list[Row]:
    """Return one row per number of labels and engine, over the seeds."""
    found = []
    for key in sorted({(run["problem"], run["labels"], run["evaluations"]) for run in runs}):
        problem, labels, evaluations = key
        same = [run for run in runs if (run["problem"], run["labels"], run["evaluations"]) == key]
        same.sort(key=lambda run: run["seed"])
        for engine in ENGINES:
            tests = [run["test"][engine] for run in same]
            values = [test["spearman"] for test in tests if test["spearman"] is not None]
            if not values:
                continue
            about: Row = {
                "problem": problem,
                "labels": labels,
                "evaluations": evaluations,
                "variant": same[0]["variant"],
                "options": same[0]["options"],
                "mean": float(np.mean(values)),
                "seeds": [run["seed"] for run in same],
                "spearman": [test["spearman"] for test in tests],
                "kendall": [test["kendall"] for test in tests],
                "distinct": [test["distinct"] for test in tests],
                "regret": [test["regret"] for test in tests],
                "better": [test["better"] for test in tests],
                "invalid": [test["invalid"] for test in tests],
                "rows": same[0]["rows"],
                "data": same[0]["data"],
            }
            if engine == "formula":
                about |= {
                    "formulas": [run["formula"]["infix"] for run in same],
                    "sizes": [run["formula"]["size"] for run in same],
                    "validation": [run["formula"]["validation"]["spearman"] for run in same],
                    "cpu_seconds": [run["cpu_seconds"] for run in same],
                    "scored": [run["formulas_scored"] for run in same],
                }
            elif engine == "handmade":
                about["formulas"] = [run["handmade"] for run in same]
            n_rows = same[0]["rows"]["test"]
            found.append(row(engine, values, n_rows=n_rows, dtype="float64", unit=UNIT, **about))
    return found


def used(runs: Iterable[dict[str, Any]], slack: float = 0.02) -> Iterator[Dag]:
    """Yield the good formulas of runs: those of the fronts that validate within `slack` of the winner."""
    for run in runs:
        least = _or_worst(run["formula"]["validation"]["spearman"]) - slack
        for one in run["front"]:
            if _or_worst(one["validation"]["spearman"]) >= least:
                yield Dag.from_json(one["graph"])
