"""Hand-made proxies and discovered ones on segmentation: how well do they rank, and what do labels buy?

    python benchmarks/proxies.py handmade CSV [--published CSV] [--camvid] [--quick] [--json FILE]
    python benchmarks/proxies.py discover SOURCE [--labels 50 100 400] [--seeds 0 1 2] [--evaluations N]
    python benchmarks/proxies.py apart CSV OUT.safetensors [--draw N]
    python benchmarks/proxies.py transfer SOURCE SOURCE... [--seeds 0 1 2] [--evaluations N]
    python benchmarks/proxies.py plots [--work DIR] [--variant NAME]

CSV holds the published results of the micro networks of TransNAS-Bench-101 (columns ``arch`` and the tasks').

``handmade`` ranks networks by every proxy of the zoo, on the five tasks of that benchmark and on the problems
``streetscenes`` and ``camvid``: Spearman, Kendall and the overlap of the best tenth, each with the interval
that holds 95 % of 1000 resamples of the networks; CPU seconds of each class of leaves; and agreement with the
scores that NAS-Bench-Suite-Zero published (--published). Proxies that need dear leaves are measured on the
first networks of a random order only (--dear).

``discover`` runs the protocol of docs/proxies.md: a search for every number of labels and seed, the winner
chosen on validation, one look at the test rows, and baselines that learn from the same rows of the same
leaves. Each finished run stays in --work and is not run again; the result has the runs of the asked labels,
seeds and evaluations, of every problem of the variant.

``apart`` writes a problem of 500 other networks for ``discover``: on it the protocol is decided.

``transfer`` leaves every problem out of a search on the others and judges what was found on it.

``plots`` draws the pictures and fills in the tables of docs/proxies.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Row, print_rows, write

# isort: split
import numpy as np

from benchmarks import apart, discovery, handmade, transfer
from proxygraph.command import console, reporting
from proxygraph.problem import Problem, Report, load_problem

RESULTS = Path(__file__).parent / "results"


def handmade_rows(options: argparse.Namespace, report: Report) -> list[Row]:
    """Measure all hand-made proxies."""
    resamples = 50 if options.quick else handmade.RESAMPLES
    query = "?sample=10" if options.quick else ""
    rows: list[Row] = []
    for source in (
        f"transnas101:{options.csv}{query}",
        "streetscenes",
        *(["camvid"] if options.camvid else []),
    ):
        problem = load_problem(source, None, report)
        scores = handmade.scores_of(problem.table)
        if problem.name == "transnas101":
            for task, target in handmade.results_of(options.csv, problem.table.rows).items():
                rows += handmade.agreement_rows(problem.name, task, scores, target, resamples)
            rows += _dear_rows(options, problem, resamples, report)
            if options.published:
                rows += handmade.published_rows(options.published, problem.table, scores)
        else:
            rows += handmade.agreement_rows(problem.name, "segmentation", scores, problem.target, resamples)
    return rows + handmade.cost_rows(1 if options.quick else options.networks)


ROWS = {"handmade": handmade_rows, "discover": discovery.rows, "transfer": transfer.rows}


def _dear_rows(options: argparse.Namespace, problem: Problem, resamples: int, report: Report) -> list[Row]:
    """Measure the proxies of the second cost class on some of the networks."""
    n = min(2 if options.quick else options.dear, problem.table.n_rows)
    archs = [problem.table.rows[i] for i in np.random.default_rng(5).permutation(problem.table.n_rows)[:n]]
    if len(archs) < 2:
        return []
    scores = handmade.dear_scores(archs, report)
    rows = []
    for task, target in handmade.results_of(options.csv, archs).items():
        rows += handmade.agreement_rows(problem.name, task, scores, target, resamples)
    return rows


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("handmade", help="rank networks by the proxies of the zoo")
    one.add_argument("csv", type=Path, help="published results of the micro networks")
    one.add_argument("--published", type=Path, help="scores of NAS-Bench-Suite-Zero")
    one.add_argument("--camvid", action="store_true", help="also the problem camvid, if its table is there")
    one.add_argument("--dear", type=int, default=100, help="networks for the dear leaves (100)")
    one.add_argument("--networks", type=int, default=10, help="networks whose statistics are timed (10)")
    two = parts.add_parser("discover", help="run the protocol")
    discovery.add_options(two)
    four = parts.add_parser("apart", help="write a problem of networks that the results are not reported on")
    four.add_argument("csv", type=Path, help="published results of the micro networks")
    four.add_argument("out", type=Path, help=".safetensors file to write")
    four.add_argument("--draw", type=int, default=0, help="seed of the networks' weights and pictures (0)")
    five = parts.add_parser("transfer", help="judge formulas on problems they have not seen")
    transfer.add_options(five)
    for part in (one, two, five):
        part.add_argument("--quick", action="store_true", help="few networks, short runs, no result file")
        part.add_argument(
            "--json",
            type=Path,
            help="result file; by default in benchmarks/results, but for --quick and variants",
        )
    three = parts.add_parser("plots", help="draw the pictures and fill in the tables of docs/proxies.md")
    discovery.add_places(three)
    options = parser.parse_args(arguments)
    published = options.part in ("handmade", "transfer") or (
        options.part == "discover" and options.variant == "default"
    )
    if published and options.json is None and not options.quick:
        options.json = RESULTS / f"{options.part}.json"
    return options


def main() -> None:
    """Measure or draw."""
    options = options_of()
    if options.part == "plots":
        from benchmarks import proxy_plots

        proxy_plots.main(options.work, options.variant)
        return
    with reporting(console()) as report:
        if options.part == "apart":
            apart.problem_apart(options.csv, options.draw, report=report).save(options.out)
            return
        rows = ROWS[options.part](options, report)
    print_rows(
        rows, "problem", {"handmade": "task", "discover": "labels", "transfer": "searched_on"}[options.part]
    )
    write(options.json, options.part, rows)


if __name__ == "__main__":
    main()
