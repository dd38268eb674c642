"""The options of ``python -m proxygraph.evolve``, in the groups of its help."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from proxygraph.command import completing

PROBLEM: Final = "Problem"
END: Final = "When to stop"
SEARCH: Final = "Search"
LIMITS: Final = "Limits on formulas"
MACHINE: Final = "Machine"
FILES: Final = "Files"

OBJECTIVES: Final = (
    "spearman",
    "kendall",
    "pearson",
    "topk:",
    "r2",
    "mse",
    "lower:spearman",
    "lower:kendall",
)
COSTS: Final = ("static", "forward", "backward", "second-order")
SIGNS: Final = ("positive", "nonneg", "negative", "nonpos")


def _problems() -> Iterable[str]:
    from importlib.metadata import entry_points

    return [point.name for point in entry_points(group="proxygraph.problems")]


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Problem name (streetscenes, camvid, transnas101:CSV), a .csv or .parquet table with --target, "
        "or a saved problem (.safetensors).",
        autocompletion=completing(_problems),
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE",
        help="A problem on which the formula has to hold, too: its fitness is that on the worst of them. May "
        "be repeated.",
        rich_help_panel=PROBLEM,
        autocompletion=completing(_problems),
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column to predict, for tables.", rich_help_panel=PROBLEM),
]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="spearman, kendall, pearson, topk:K, r2, mse, or lower:NAME for the lower bound of one of "
        "them over resampled rows; by default what suits the problem.",
        rich_help_panel=PROBLEM,
        autocompletion=completing(lambda: OBJECTIVES),
    ),
]
Train = Annotated[
    int | None,
    typer.Option(metavar="N", help="Rows to train on; by default half of them.", rich_help_panel=PROBLEM),
]
Validation = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Rows that choose the winner; by default as many as train, at most half of the others.",
        rich_help_panel=PROBLEM,
    ),
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", help="Seed of split and search.", rich_help_panel=PROBLEM),
]
TimeBudget = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Seconds to search; by default 60, or no limit with --generations or --evaluations.",
        rich_help_panel=END,
    ),
]
Generations = Annotated[
    int | None,
    typer.Option(metavar="N", help="Stop after so many generations.", rich_help_panel=END),
]
Evaluations = Annotated[
    int | None,
    typer.Option(metavar="N", help="Stop after so many formulas were scored.", rich_help_panel=END),
]
Enough = Annotated[
    float | None,
    typer.Option(
        metavar="FITNESS",
        help="Stop when a formula has this fitness on the training rows (0 to 1).",
        rich_help_panel=END,
    ),
]
Stagnation = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Stop after so many generations without a better formula.", rich_help_panel=END
    ),
]
Population = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Formulas alive at the same time; by default 400 on networks, 1000 on tables.",
        rich_help_panel=SEARCH,
    ),
]
IslandCount = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Parts of the population that evolve apart; threads share them out.",
        rich_help_panel=SEARCH,
    ),
]
MigrateEvery = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Generations after which islands exchange their best formulas.",
        rich_help_panel=SEARCH,
    ),
]
Initial = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMULA", help="A formula to start from, as text; may be repeated.", rich_help_panel=SEARCH
    ),
]
MaxSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Most nodes of a formula, sign, scale and offset included; by default 30 for r2 and mse, else"
        " 15.",
        rich_help_panel=LIMITS,
    ),
]
MaxDepth = Annotated[
    int | None,
    typer.Option(metavar="N", help="Most operators above one another.", rich_help_panel=LIMITS),
]
MaxConstants = Annotated[
    int | None,
    typer.Option(metavar="N", help="Most constants, scale and offset included.", rich_help_panel=LIMITS),
]
Operators = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="The only operators allowed: add,mul,log; by default, for r2 and mse, none with bends or "
        "levels such as abs and tanh.",
        rich_help_panel=LIMITS,
    ),
]
Leaves = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="The only columns or statistics allowed: x,y.", rich_help_panel=LIMITS
    ),
]
MaxCost = Annotated[
    str | None,
    typer.Option(
        metavar="COST",
        help="Dearest pass that a statistic may need: static, forward, backward or second-order.",
        rich_help_panel=LIMITS,
        autocompletion=completing(lambda: COSTS),
    ),
]
Nesting = Annotated[
    str | None,
    typer.Option(
        metavar="RULES",
        help="How often operators may stand inside others: 'sin:sin=0,exp=1; exp:exp=0'.",
        rich_help_panel=LIMITS,
    ),
]
Units = Annotated[
    str | None,
    typer.Option(metavar="UNITS", help="Units of columns: 'x=m,t=s,v=m/s'.", rich_help_panel=LIMITS),
]
TargetUnit = Annotated[
    str | None,
    typer.Option(
        metavar="UNIT",
        help="Unit of the target; without it any is right, since a factor is fitted.",
        rich_help_panel=LIMITS,
    ),
]
Trends = Annotated[
    str | None,
    typer.Option(
        metavar="TRENDS",
        help="How it goes with columns: 'x=increasing,y=decreasing'.",
        rich_help_panel=LIMITS,
    ),
]
Sign = Annotated[
    str | None,
    typer.Option(
        metavar="SIGN",
        help="Of all values: positive, nonneg, negative or nonpos.",
        rich_help_panel=LIMITS,
        autocompletion=completing(lambda: SIGNS),
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        metavar="N", help="Threads for scoring; the result does not depend on it.", rich_help_panel=MACHINE
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Where a Dask scheduler listens, to share the islands out; local:N starts N workers.",
        rich_help_panel=MACHINE,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the run; by default runs/NAME-TIME.", rich_help_panel=FILES),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=FILES),
]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Seconds between checkpoints, at most lost if the machine goes down.",
        rich_help_panel=FILES,
    ),
]
Tensorboard = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder to write curves for TensorBoard to.", rich_help_panel=FILES),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Only print the result.", rich_help_panel=FILES),
]
