"""Many formulas on one table: one plan, run block by block, with memory for what comes back.

Used by searches. Values on the element and activation axes are computed in the dtype of the columns, those
on the layer and row axes in float64; what is reported is computed again by the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxygraph.compact.forest import (
    AXES,
    CODES,
    CONST,
    LAYER,
    LEAF,
    ROW,
    Forest,
    Vocabulary,
    to_dag,
    to_forest,
    tree_length,
)
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, ShapeMismatch, UnknownName
from proxygraph.kernels import interpreter
from proxygraph.kernels.columns import ColumnKernel
from proxygraph.kernels.lanes import lanes_of
from proxygraph.kernels.plan import (
    FIELDS,
    PARTS,
    WAYS,
    Memory,
    Nodes,
    arrange,
    collect_parts,
    finish,
    move_apart,
)
from proxygraph.kernels.scratch import LINE, Scratch, aligned
from proxygraph.leaves import Axis
from proxygraph.ops import BUILTIN
from proxygraph.table import StatTable

BLOCK_BYTES: Final = 8192
"""Bytes of one value of one block: a handful of them fits the first cache of a core."""
BATCH: Final = 1024
"""Trees that are planned together."""
FEW: Final = 64
"""Trees for which another thread is worth the while."""
SHORT: Final = 16_384
"""Rows up to which threads share trees rather than rows: each plans its own, and planning weighs there."""
MAX_SLOTS: Final = 1 << 16
MAX_ROW_SLOTS: Final = 1 << 12
"""The same on the row axis of ragged tables: reductions to it come back rarely, those to layers cost more."""
VECTOR: Final = LINE // 4
"""Entries of float32 in the longest vectors there are, and in a cache line."""

Array = NDArray[Any]


class _Plan(NamedTuple):
    """What is to be done for one batch, from `proxygraph.kernels.plan`; gone when its thread plans again."""

    nodes: Nodes
    roots: NDArray[np.int32]
    steps: NDArray[np.int32]
    literal: NDArray[np.float64]
    n_steps: int
    slots: NDArray[np.int64]
    stretches: NDArray[np.int64]


class Population:
    """Evaluates formulas on one table.

    Parameters
    ----------
    table : StatTable
        The rows to score.
    threads : int
        Formulas (on short tables) or blocks of rows are shared out over so many threads; the values do not
        depend on it.
    memory : int
        Bytes for values kept between calls: at most half of them for some thousand values on the row axis,
        the others for values on the layer axis.
    dtype : {float64, float32}
        Of values on the row and layer axes.

    Attributes
    ----------
    vocabulary : Vocabulary
        Codes of the trees that `run` takes.
    """

    def __init__(
        self, table: StatTable, threads: int = 1, memory: int = 64_000_000, dtype: Any = np.float64
    ) -> None:
        self.table = table
        self.threads = threads
        self.dtype = np.dtype(dtype)
        self.vocabulary = Vocabulary.of(table.leaves)
        self._columns: ColumnKernel | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._arrays = Scratch()
        self._plans = 0
        self._ragged = bool(table.offsets)
        self._share_trees = threads > 1 and not self._ragged and table.n_rows <= SHORT
        row_layer, n_layers = _groups(table, "layer", table.n_rows)
        samples = [_groups(table, axis, int(row_layer[-1])) for axis in AXES[2:]]
        self._layers = row_layer, n_layers
        self._extent = np.array([table.n_rows, *(table.size(axis) for axis in AXES[1:])], np.int64)
        fine = [c for name, c in table.columns.items() if table.leaves[name].axis in AXES[2:]]
        self._fine_dtype = np.result_type(np.float32, *{column.dtype for column in fine})
        self._starts = self._blocks([offsets for offsets, _ in samples])
        # values of a block begin where a vector may: a load across two cache lines takes twice as long
        self._longest = -(-np.diff(self._starts, axis=1).max(axis=1, initial=0) // VECTOR) * VECTOR
        laid = [lanes_of(offsets, counts, self._starts[LAYER]) for offsets, counts in samples]
        self._lanes = tuple(lanes for lanes, _ in laid)
        places = [slice(None), slice(None), *(places for _, places in laid)]
        self._memory, self._stores, self._leaf_place = self._stored(memory, places)

    # ---- data ----------------------------------------------------------------------------------------------

    def _blocks(self, samples: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the first entry of every block on every axis, and the end, shape (4, blocks + 1)."""
        n, row_layer = self.table.n_rows, self._layers[0]
        first_of_row = [np.arange(n + 1), row_layer, *(offsets[row_layer] for offsets in samples)]
        per_row = np.max([np.diff(first) for first in first_of_row], axis=0)
        # longer where there are layers and rows, whose values are few per block
        width = self._fine_dtype.itemsize / 2 if self._ragged else self.dtype.itemsize
        ends = np.cumsum(per_row)
        sharing = 1 if self._share_trees else self.threads
        room = max(1, min(int(BLOCK_BYTES / width), -(-int(per_row.sum()) // sharing)))
        rows = [0]
        while rows[-1] < n:
            before = int(ends[rows[-1] - 1]) if rows[-1] else 0
            rows.append(max(rows[-1] + 1, int(np.searchsorted(ends, before + room, side="right"))))
        return np.stack([first[np.array(rows)] for first in first_of_row])

    def _stored(self, memory: int, places: Sequence[Any]) -> tuple[Memory, list[Array], NDArray[np.int64]]:
        """Return the memory of kept values, the store of every axis, and where every leaf begins in it.

        `places` says for every axis where the entries of a column go.
        """
        table = self.table
        slots, stores = [], []
        place = np.zeros(len(table.leaves), np.int64)
        most, parts = (MAX_ROW_SLOTS if self._ragged else MAX_SLOTS, MAX_SLOTS, 0, 0), (2, 1, 1, 1)
        for k, axis in enumerate(AXES):
            names = [name for name, leaf in table.leaves.items() if leaf.axis == axis]
            n, dtype = int(self._extent[k]), self.dtype if k <= LAYER else self._fine_dtype
            kept = min(most[k], memory // parts[k] // max(1, n * dtype.itemsize)) // WAYS * WAYS
            memory -= kept * n * dtype.itemsize
            slots.append(kept)
            store = aligned((len(names) + kept) * n, dtype)
            for i, name in enumerate(names):
                with np.errstate(over="ignore"):
                    store[i * n : (i + 1) * n][places[k]] = table.columns[name]
                place[list(table.leaves).index(name)] = i
            stores.append(store)
        axes = [leaf.axis for leaf in table.leaves.values()]
        base = np.array([axes.count(axis) for axis in AXES[:2]], np.int64)
        keys = (np.zeros(slots[0], np.uint64), np.zeros(slots[1], np.uint64))
        stamps = (np.zeros(slots[0], np.int64), np.zeros(slots[1], np.int64))
        made = (np.zeros(slots[0], np.int64), np.zeros(slots[1], np.int64))
        return Memory(keys, stamps, made, base, np.zeros(2, np.int64)), stores, place

    @property
    def kept(self) -> tuple[int, int]:
        """How many values were found in memory, and how many were computed to be kept."""
        found, computed = self._memory.counts.tolist()
        return found, computed

    # ---- running -------------------------------------------------------------------------------------------

    def __call__(self, dags: Sequence[Dag]) -> NDArray[np.float64]:
        """Return the values of every formula, shape (P, N); NaN and inf are kept.

        Raises
        ------
        UnknownName
            If the table lacks a leaf.
        ConfigError
            If a leaf is on another axis than the formula takes it for.
        """
        for dag in dags:
            for name, leaf in dag.leaves.items():
                if name not in self.table.columns:
                    raise UnknownName(f"the formula needs the leaf {name!r}, which the table lacks")
                if leaf.axis != self.table.leaves[name].axis:
                    raise ConfigError(
                        f"leaf {name!r} is on the {leaf.axis} axis in the formula, but on the "
                        f"{self.table.leaves[name].axis} axis in the table; give parse() the table's leaves"
                    )
        out = np.empty((len(dags), self.table.n_rows))
        plain = [i for i, dag in enumerate(dags) if self._known(dag)]
        if plain:
            capacity = max(tree_length(dags[i]) for i in plain)
            out[plain] = self.run(to_forest([dags[i] for i in plain], self.vocabulary, capacity))
        others = sorted(set(range(len(dags))) - set(plain))
        if others:
            out[others] = self._by_columns([dags[i] for i in others])
        return out

    def _by_columns(self, dags: Sequence[Dag]) -> NDArray[np.float64]:
        """Run formulas with operators of the user, which are numpy functions: whole columns, one by one."""
        self._columns = self._columns or ColumnKernel(self.table, self.threads)
        return self._columns(dags)

    def _known(self, dag: Dag) -> bool:
        return tree_length(dag) <= 4096 and all(n.kind != "op" or n.name in BUILTIN for n in dag.nodes)

    def run(self, forest: Forest, out: Array | None = None) -> Array:
        """Return the values of trees in `vocabulary`, shape (P, N), in `dtype`.

        Parameters
        ----------
        forest : Forest
            No operator may have constants alone as arguments; `tidy` and `to_forest` make one constant of it.
        out : ndarray, shape (P, N), optional
            Written and returned, of `dtype` and contiguous. Many megabytes asked of the system anew take
            about a third as long as filling them.

        Raises
        ------
        ShapeMismatch
            If `out` has another shape or type, or is not contiguous.
        """
        out = self._fitting(out, (len(forest.length), self.table.n_rows))
        others = self._users(forest)
        if others.any():
            out[~others] = self.run(forest.take(~others))
            trees = [to_dag(forest, int(i), self.vocabulary) for i in np.flatnonzero(others)]
            with np.errstate(over="ignore"):
                out[others] = self._by_columns(trees)
            return out
        self._run(forest, out)
        return out

    def _fitting(self, out: Array | None, shape: tuple[int, ...]) -> Array:
        """Return `out`, or a new array."""
        if out is None:
            return np.empty(shape, self.dtype)
        if out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            layout = "" if out.flags.c_contiguous else ", not contiguous"
            raise ShapeMismatch(
                f"out must be a contiguous {self.dtype} array of shape {shape}, not {out.dtype} of "
                f"shape {out.shape}{layout}"
            )
        return out

    def _users(self, forest: Forest) -> NDArray[np.bool_]:
        """Return which trees have operators of the user, shape (P,)."""
        if len(self.vocabulary.ops) == len(CODES):
            return np.zeros(len(forest.length), np.bool_)
        users = (forest.code >= len(CODES)) & (forest.code < LEAF)
        users &= np.arange(forest.code.shape[1]) < forest.length[:, None]
        return np.asarray(users.any(axis=1))

    def over_constants(self, dag: Dag, constants: ArrayLike) -> Array:
        """Return the values of one structure with many sets of constants, shape (C, N), in `dtype`.

        What holds no constant is computed once for all sets.

        Parameters
        ----------
        dag : Dag
            Of built-in operators. Operators of constants alone count as one constant.
        constants : array_like of float, shape (C, K)
            A value for each of the K constants, in the order in which the text of the formula, its arguments
            from left to right, meets them; a constant that occurs twice has two. Exponents stay.

        Raises
        ------
        ShapeMismatch
            If the formula has another number of constants.
        """
        trees = to_forest([dag], self.vocabulary, tree_length(dag))
        (values,) = self.run_sets(trees, np.atleast_2d(np.asarray(constants, np.float64)))
        return np.asarray(values)

    def run_sets(self, forest: Forest, constants: NDArray[np.float64], out: Array | None = None) -> Array:
        """Return the values of each tree with many sets of constants, shape (P, C, N), in `dtype`.

        On tables that have the row axis only there is one plan for all sets, and what holds no constant is
        computed once; else every set is a tree of its own.

        Parameters
        ----------
        forest : Forest
            As for `run`.
        constants : ndarray of float64, shape (C, K)
            Values for the constants of all trees, in the order of `forest`.
        out : ndarray, shape (P, C, N), optional
            As for `run`.

        Raises
        ------
        ShapeMismatch
            If the trees have another number of constants, or `out` does not fit.
        """
        inside = np.arange(forest.code.shape[1]) < forest.length[:, None]
        rows, places = np.nonzero((forest.code == CONST) & inside)
        n_sets = len(constants)
        if constants.shape[1] != len(rows):
            what = "formula has" if len(forest.length) == 1 else "formulas have"
            raise ShapeMismatch(f"the {what} {len(rows)} constants, not {constants.shape[1]}")
        out = self._fitting(out, (len(forest.length), n_sets, self.table.n_rows))
        fixed = np.bincount(rows, minlength=len(out)) == 0
        out[fixed] = self.run(forest.take(fixed))[:, None]
        # a constant by itself is no instruction; reductions and functions of the user have other ways
        single = ~fixed & ((forest.length == 1) | self._ragged | self._users(forest))
        if single.any():
            trees = forest.take(np.repeat(np.flatnonzero(single), n_sets))
            mine = np.flatnonzero(single[rows])
            first = (np.cumsum(single) - 1)[rows[mine]] * n_sets
            for c in range(n_sets):
                trees.value[first + c, places[mine]] = constants[c, mine]
            out[single] = self.run(trees).reshape(out[single].shape)
        together = np.flatnonzero(~fixed & ~single)
        for begin in range(0, len(together), FEW):
            chosen = together[begin : begin + FEW]
            plan = self._planned_sets(forest.take(chosen), constants[:, np.isin(rows, chosen)], chosen)
            self._shared(plan, out.reshape(-1))
        return out

    def _planned_sets(self, trees: Forest, constants: NDArray[np.float64], rows: NDArray[np.int64]) -> _Plan:
        """Return one plan for all sets of constants of some trees; `rows` are theirs in the results."""
        inside = np.arange(trees.code.shape[1]) < trees.length[:, None]
        # counted instead of named: no two are alike, and an instruction tells which one it has
        trees.value[(trees.code == CONST) & inside] = np.arange(1, constants.shape[1] + 1)
        plan = self._planned(trees, 1, _no_memory())
        n = plan.n_steps
        which, stretches = np.empty(n, np.int64), np.empty((len(trees.length), 3), np.int64)
        move_apart(plan.steps, plan.literal[0], n, rows * len(constants), plan.slots, which, stretches)
        literal = np.repeat(plan.literal[:, :n], len(constants), axis=0)
        literal[:, which >= 0] = constants[:, which[which >= 0]]
        # no roots: every result has an instruction that writes it
        return plan._replace(roots=plan.roots[:0], literal=literal, stretches=stretches)

    def _run(self, forest: Forest, out: Array) -> None:
        """Run batch after batch; with several threads on a short table, as many batches at a time."""
        try:
            if self._share_trees and len(out) >= 2 * FEW:
                self._at_once(forest, out)
                return
            for first in range(0, len(out), BATCH):
                rows = slice(first, first + BATCH)
                self._shared(self._planned(forest.take(rows), 1), out[rows].reshape(-1))
        except BaseException:
            for keys in self._memory.key:  # what a plan promised may not be there
                keys[:] = 0
            raise

    def _at_once(self, forest: Forest, out: Array) -> None:
        """Run a batch in every thread, this one included; each plans its own.

        Plans that keep values are made in the order of the batches. A batch waits only for earlier ones, and
        all of these have been taken by some thread.
        """
        at_once, keeping = self.threads, any(len(keys) for keys in self._memory.key)
        size = min(BATCH, max(FEW, -(-len(out) // at_once)))
        n = -(-len(out) // size)
        self._pool = self._pool or ThreadPoolExecutor(at_once)
        now = self._plans + at_once + 1  # all plans before have been run: they are settled for the first one
        self._plans = now + n
        arranged, ran = [Event() for _ in range(n)], [Event() for _ in range(n)]
        counts = np.zeros((n, 2), np.int64)
        batches, turn, failed = iter(range(n)), Lock(), Event()

        def work(k: int) -> None:
            rows = slice(k * size, (k + 1) * size)
            memory = self._memory if keeping else self._memory._replace(counts=counts[k])
            try:
                parts = self._collected(forest.take(rows))
                if keeping and k > 0:
                    arranged[k - 1].wait()
                if k >= at_once:
                    ran[k - at_once].wait()
                if failed.is_set():  # what an earlier plan promised may not be there
                    return
                plan = self._arranged(parts, now + k, at_once, memory)
            finally:
                arranged[k].set()
            self._alone(plan, out[rows].reshape(-1))

        def take() -> None:
            while not failed.is_set():
                with turn:
                    k = next(batches, n)
                if k == n:
                    return
                try:
                    work(k)
                except BaseException:
                    failed.set()
                    raise
                finally:
                    ran[k].set()

        others = [self._pool.submit(take) for _ in range(min(at_once, n) - 1)]
        try:
            take()
        except BaseException:  # Ctrl-C may come anywhere in this thread: nobody waits for its batch
            failed.set()
            for event in (*arranged, *ran):
                event.set()
            raise
        finally:
            # a thread that has not begun yet is not waited for: there is nothing left to do
            wait([other for other in others if not other.cancel()])
        for other in others:
            if not other.cancelled():
                other.result()
        self._memory.counts[:] += counts.sum(axis=0)

    def _planned(self, trees: Forest, at_once: int, memory: Memory | None = None) -> _Plan:
        """Return the plan of one batch; `at_once` plans, this one included, may be running."""
        self._plans += 1
        return self._arranged(self._collected(trees), self._plans, at_once, memory or self._memory)

    def _collected(self, trees: Forest) -> tuple[Nodes, int, NDArray[np.int32]]:
        """Return the distinct parts of some trees, how many, and which are the roots."""
        most = (2 if self._ragged else 1) * int(trees.length.sum()) + len(self.vocabulary.names)
        room = self._arrays.empty
        nodes = Nodes(
            room("part", (most, PARTS), np.int32),
            room("key", most, np.uint64),
            room("value", most, np.float64),
        )
        roots = room("roots", len(trees.length), np.int32)
        table = room("table", 1 << (2 * most).bit_length(), np.int32)
        return nodes, collect_parts(trees, self.vocabulary.symbols, nodes, table, roots), roots

    def _arranged(
        self, parts: tuple[Nodes, int, NDArray[np.int32]], now: int, at_once: int, memory: Memory
    ) -> _Plan:
        """Return the plan number `now`; `at_once` plans, this one included, may be running."""
        (nodes, n, roots), room = parts, self._arrays.empty
        steps, literal = room("steps", (n, FIELDS), np.int32), room("literal", n, np.float64)
        slots = np.empty(4, np.int64)
        count = arrange(
            nodes,
            n,
            len(self.vocabulary.names),
            roots,
            self.vocabulary.symbols,
            memory,
            now,
            now - at_once,
            self._leaf_place,
            steps,
            literal,
            slots,
            room("free", (4, n + 1), np.int32),
        )
        return _Plan(nodes, roots, steps, literal[None], count, slots, np.array([[0, count, count]]))

    def _alone(self, plan: _Plan, out: Array) -> None:
        """Run a plan on all blocks; `out` is flat."""
        self._work(plan, out, range(self._starts.shape[1] - 1))
        finish(plan.nodes, plan.roots, self.table.n_rows, self._stores[ROW], out)

    def _work(self, plan: _Plan, out: Array, share: range) -> None:
        """Run a plan on some blocks."""
        passing = [
            self._arrays.empty(axis, int(slots * longest), store.dtype)
            for axis, slots, longest, store in zip(AXES, plan.slots, self._longest, self._stores, strict=True)
        ]
        row, layer, element, activation = (
            (store, room, out if k == ROW else room)
            for k, (store, room) in enumerate(zip(self._stores, passing, strict=True))
        )
        if self._ragged:
            interpreter.run_ragged(
                plan.steps,
                plan.literal[0],
                plan.n_steps,
                self._starts,
                share.start,
                share.stop,
                (self._longest, self._extent),
                (row, layer),
                (element, activation),
                self._layers,
                self._lanes,
                self._scratch(),
            )
        else:
            what = (plan.steps, plan.literal, plan.stretches, self._starts[ROW], share.start, share.stop)
            interpreter.run_rows(*what, self._longest[ROW], self._extent[ROW], row)

    def _scratch(self) -> tuple[Array, ...]:
        """Return what `interpreter.run_ragged` needs beside the values."""
        n = int(self._longest[LAYER])
        return np.empty(n), np.empty(n), np.empty(n), np.empty(n, self._fine_dtype), np.empty(n)

    def _shared(self, plan: _Plan, out: Array) -> None:
        """Run a plan, its blocks shared out over the threads; `out` is flat."""
        shares = list(_shares(self._starts.shape[1] - 1, 1 if self._share_trees else self.threads))
        if len(shares) == 1:
            self._alone(plan, out)
            return
        self._pool = self._pool or ThreadPoolExecutor(self.threads)
        done = wait([self._pool.submit(self._work, plan, out, share) for share in shares]).done
        for future in done:
            future.result()
        finish(plan.nodes, plan.roots, self.table.n_rows, self._stores[ROW], out)


def _no_memory() -> Memory:
    """Return a memory in which nothing can be kept."""
    keys, stamps = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    nothing = np.zeros(2, np.int64)
    return Memory((keys, keys), (stamps, stamps), (stamps, stamps), nothing, nothing)


def _shares(n: int, parts: int) -> Iterator[range]:
    """Return `n` things in at most `parts` runs of nearly equal length, at least one run."""
    parts = max(1, min(n, parts))
    for k in range(parts):
        yield range(k * n // parts, (k + 1) * n // parts)


def _groups(table: StatTable, axis: Axis, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first entry of all `n` groups and the end, and their true numbers of entries.

    All 0 if the table lacks the axis.
    """
    offsets = np.asarray(table.offsets.get(axis, np.zeros(n + 1)), np.int64)
    return offsets, np.asarray(table.counts.get(axis, np.zeros(n)), np.float64)
