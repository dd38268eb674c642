"""Many formulas on one table, with memory: numpy, whole columns, float32 where the data are.

Each part of a formula is computed once and kept, by its content key, within a bound of bytes: values on the
layer and row axes are small and stay long, element and activation values are large and go first. Used by the
search; what is reported is recomputed by the reference.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.dag import FINENESS, Dag
from proxygraph.errors import UnknownName
from proxygraph.kernels.reference import reduce as reference_reduce
from proxygraph.leaves import Axis
from proxygraph.ops import BUILTIN, OPS
from proxygraph.table import StatTable

Array = NDArray[Any]


class _Cache:
    """Arrays by key, least recently used out first, within a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.arrays: OrderedDict[str, Array] = OrderedDict()
        self.lock = Lock()

    def get(self, key: str) -> Array | None:
        with self.lock:
            found = self.arrays.get(key)
            if found is not None:
                self.arrays.move_to_end(key)
            return found

    def put(self, key: str, array: Array) -> None:
        if array.nbytes > self.limit:
            return
        with self.lock:
            if key in self.arrays:
                return
            self.arrays[key] = array
            self.bytes += array.nbytes
            while self.bytes > self.limit:
                _, old = self.arrays.popitem(last=False)
                self.bytes -= old.nbytes


class ColumnKernel:
    """Evaluates formulas on one table.

    Parameters
    ----------
    table : StatTable
        The rows to score.
    threads : int
        Formulas are shared out over so many threads; the values do not depend on it.
    fine_bytes, coarse_bytes : int
        Memory for values on the element and activation axes, and on the layer and row axes.
    """

    def __init__(
        self,
        table: StatTable,
        threads: int = 1,
        fine_bytes: int = 400_000_000,
        coarse_bytes: int = 200_000_000,
    ) -> None:
        self.table = table
        self.threads = threads
        self.fine = _Cache(fine_bytes)
        self.coarse = _Cache(coarse_bytes)
        self.repeats = {axis: np.diff(offsets) for axis, offsets in table.offsets.items()}
        # reduceat cannot express an empty group; such tables take the slow path
        self.regular = {axis: bool((n > 0).all()) for axis, n in self.repeats.items()}
        fine = [column for name, column in table.columns.items() if FINENESS[table.leaves[name].axis] == 2]
        self.fine_dtype = np.result_type(np.float32, *{column.dtype for column in fine})

    def __call__(self, dags: Sequence[Dag]) -> NDArray[np.float64]:
        """Return the values of every formula, shape (P, N); NaN and inf are kept.

        Raises
        ------
        UnknownName
            If the table lacks a leaf.
        """
        for dag in dags:
            for name in dag.leaves:
                if name not in self.table.columns:
                    raise UnknownName(f"the formula needs the leaf {name!r}, which the table lacks")
        out = np.empty((len(dags), self.table.n_rows))

        def work(first: int) -> None:
            with np.errstate(all="ignore"):
                for i in range(first, len(dags), self.threads):
                    out[i] = self.values(dags[i])

        if self.threads == 1:
            work(0)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(work, range(self.threads)))
        return out

    def values(self, dag: Dag) -> Array:
        """Return the values of one formula, computing only what is not kept."""
        need = [False] * len(dag.nodes)
        need[-1] = True
        held: dict[int, Array] = {}
        for i in range(len(dag.nodes) - 1, -1, -1):
            if not need[i]:
                continue
            found = self.kept(dag, i)
            if found is not None:
                held[i] = found
            else:
                for j in dag.nodes[i].args:
                    need[j] = True
        for i, node in enumerate(dag.nodes):
            if need[i] and i not in held:
                held[i] = self.compute(dag, i, [held[j] for j in node.args])
                cache = self.fine if FINENESS[dag.axes[i]] == 2 else self.coarse
                cache.put(dag.keys[i], held[i])
        return np.broadcast_to(held[len(dag.nodes) - 1], (self.table.n_rows,))

    def kept(self, dag: Dag, i: int) -> Array | None:
        """Return what is there without computing: a column, a constant, or a value kept from before."""
        node = dag.nodes[i]
        if node.kind == "leaf":
            return self.table.columns[node.name]
        if node.kind == "const":
            return np.asarray(node.value)
        return (self.fine if FINENESS[dag.axes[i]] == 2 else self.coarse).get(dag.keys[i])

    def compute(self, dag: Dag, i: int, args: list[Array]) -> Array:
        """Return the value of one operator."""
        node, axis = dag.nodes[i], dag.axes[i]
        op = OPS[node.name]
        if op.kind == "reduction":
            return self.reduce(node.name, args[0], dag.axes[node.args[0]])
        spread = [self.spread(a, dag.axes[j], axis) for a, j in zip(args, node.args, strict=True)]
        # beside an array a constant must be a python float, or numpy makes float32 columns float64
        operands = [float(a) if a.ndim == 0 and any(b.ndim for b in spread) else a for a in spread]
        return np.asarray(op.numpy(np, *operands))

    def spread(self, values: Array, axis: Axis, to: Axis) -> Array:
        """Repeat the values of a coarser axis for every entry of a finer one."""
        if values.ndim == 0 or FINENESS[axis] == FINENESS[to]:
            return values
        if axis == "row":
            values = np.repeat(values, self.repeats["layer"])
        if to == "layer":
            return values
        # a layer value may be float64 (reductions are); fine axes stay float32, or passes take twice as long
        return np.repeat(values.astype(self.fine_dtype, copy=False), self.repeats[to])

    def reduce(self, op: str, values: Array, axis: Axis) -> Array:
        """Reduce values on `axis` to the axis one step coarser."""
        counts, n = self.table.counts[axis], self.repeats[axis]
        starts = self.table.offsets[axis][:-1]
        if op not in BUILTIN or not self.regular[axis]:
            return reference_reduce(self.table, op, np.asarray(values, dtype=np.float64), axis)
        if op == "min":
            return np.minimum.reduceat(values, starts).astype(np.float64)
        if op == "max":
            return np.maximum.reduceat(values, starts).astype(np.float64)
        if op == "l1":
            return self.total(np.abs(values), starts) * (counts / n)
        if op == "l2":
            return np.sqrt(self.total(np.square(values), starts) * (counts / n))
        if op == "count":
            return counts + 0.0 * self.total(values, starts)
        if op == "std":
            if values.dtype == np.float64:  # as in the reference: equal values have a deviation of exactly 0
                values = values - np.repeat(values[starts], n)
            means = self.total(values, starts) / n
            return np.sqrt(
                self.total(np.square(values - np.repeat(means.astype(values.dtype), n)), starts) / n
            )
        sums = self.total(values, starts)
        return sums * (counts / n) if op == "sum" else sums / n

    @staticmethod
    def total(values: Array, starts: Array) -> Array:
        """Sum every group, in float64."""
        return np.add.reduceat(values, starts, dtype=np.float64)
