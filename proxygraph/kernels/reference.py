"""The plain path: numpy, float64, one instruction after the other, one Python loop per reduction.

Slow and obvious on purpose; it is the truth that every other back end is compared with, and every reported
number is computed by it. It shares nothing with the generated code but the operator's ``numpy`` column.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import FINENESS
from proxygraph.errors import ConfigError, UnknownName
from proxygraph.leaves import Axis
from proxygraph.ops import OPS
from proxygraph.program import Program
from proxygraph.table import StatTable

Array = NDArray[np.float64]


class ReferenceKernel:
    """Runs a program on a table.

    Parameters
    ----------
    program : Program
        One or many formulas.
    """

    backend = "reference"
    source = ""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.key = program.key

    def __call__(self, table: StatTable) -> Array:
        """Return the values of every formula, shape (P, N), float64; NaN and inf are kept."""
        require_leaves(self.program, table)
        values: list[Array] = []
        axes = self.program.axes
        with np.errstate(all="ignore"):
            for node, axis in zip(self.program.nodes, axes, strict=True):
                if node.kind == "const":
                    values.append(np.full(table.n_rows, node.value))
                elif node.kind == "leaf":
                    values.append(table.columns[node.name].astype(np.float64))
                elif OPS[node.name].kind == "reduction":
                    (j,) = node.args
                    values.append(reduce(table, node.name, values[j], axes[j]))
                else:
                    args = [spread(table, values[j], axes[j], axis) for j in node.args]
                    values.append(np.asarray(OPS[node.name].numpy(np, *args), dtype=np.float64))
        return (
            np.stack([values[i] for i in self.program.outputs])
            if self.program.outputs
            else np.empty((0, table.n_rows))
        )


def require_leaves(program: Program, table: StatTable) -> None:
    """Refuse a table that lacks a leaf of the program.

    Raises
    ------
    UnknownName
        If there is no such column; the message lists the table's.
    ConfigError
        If the column is on another axis than the formula takes it for.
    """
    for name, leaf in program.leaves.items():
        if name not in table.leaves:
            raise UnknownName(
                f"the formula needs the leaf {name!r}, which the table lacks; it has: "
                f"{', '.join(table.leaves) or 'no columns'}"
            )
        if table.leaves[name].axis != leaf.axis:
            raise ConfigError(
                f"leaf {name!r} is on the {leaf.axis} axis in the formula, but on the "
                f"{table.leaves[name].axis} axis in the table; give parse() the table's leaves"
            )


def reduce(table: StatTable, op: str, values: Array, axis: Axis) -> Array:
    """Reduce `values` on `axis` to the axis one step coarser; an empty group gives NaN."""
    offsets, counts = table.offsets[axis], table.counts[axis]
    result = np.full(len(counts), np.nan)
    for i, (start, end) in enumerate(pairwise(offsets)):
        if end > start:
            result[i] = OPS[op].numpy(np, values[start:end], counts[i])
    return result


def spread(table: StatTable, values: Array, axis: Axis, to: Axis) -> Array:
    """Repeat the values of a coarser axis for every entry of a finer one."""
    if FINENESS[axis] == FINENESS[to]:
        return values
    if axis == "row":
        values = np.repeat(values, np.diff(table.offsets["layer"]))
    if to == "layer":
        return values
    return np.repeat(values, np.diff(table.offsets[to]))
