"""Statistics of many networks, or a plain table: columns on axes, in one read-only value and one file.

Holds ragged columns (rows have layers, layers have sampled elements and activations), how to take rows or
fewer samples of them, and the file format. Knows nothing of torch, of how a column was measured or of what
formulas do with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxygraph.errors import ConfigError, ProxyGraphError, ShapeMismatch, UnknownName
from proxygraph.leaves import STATISTICS, Axis, Cost, Leaf, Sign
from proxygraph.table import tensorfile

FORMAT: Final = "proxygraph.stattable"
VERSION: Final = "1"
_RAGGED: tuple[Axis, ...] = ("element", "activation", "layer")

Values = NDArray[np.float32] | NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StatTable:
    """Columns on axes. Checked when made; never changes afterwards.

    Attributes
    ----------
    rows : tuple of str
        Ids, unique.
    columns : mapping of str to ndarray, shape (size(axis),)
        Leaf name to values, read-only. float64 stays float64; whole numbers become float64 on the row
        axis; everything else becomes float32. The samples of one layer are in random order.
    leaves : mapping of str to Leaf
        The leaf of every column. Left out entries are taken from ``proxygraph.leaves.STATISTICS``.
    offsets : mapping of str to ndarray of int64
        ``"element"`` and ``"activation"``, shape (L+1,): where each layer's samples begin; ``"layer"``, shape
        (N+1,): where each row's layers begin. Only the axes the table has; none for a table of rows.
    counts : mapping of str to ndarray of float64
        ``"element"``, ``"activation"``, shape (L,): the entries there were before sampling; ``"layer"``,
        shape (N,): layers per row. What is left out is the number of samples.
    header : mapping
        What JSON can hold: seed, batch digest, versions. The entry ``"layers"``, if there is one, maps a
        row id to the names of its layers and follows the rows when they are taken or joined.

    Raises
    ------
    ShapeMismatch
        If a length, offset or count disagrees with the others.
    UnknownName
        If a column has no leaf.
    ConfigError
        If ids repeat, or a leaf that promises nonnegative values has a negative one (NaN is allowed).

    Examples
    --------
    >>> table = StatTable.from_columns(["a", "b"], {"x": [1.0, 2.0]})
    >>> table.take([1]).columns["x"]
    array([2.])
    """

    rows: tuple[str, ...]
    columns: Mapping[str, Values]
    leaves: Mapping[str, Leaf]
    offsets: Mapping[str, Index]
    counts: Mapping[str, NDArray[np.float64]]
    header: Mapping[str, Any]

    def __post_init__(self) -> None:
        def put(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        put("rows", tuple(self.rows))
        put("leaves", MappingProxyType({name: _leaf(name, self.leaves) for name in self.columns}))
        columns = {name: _values(array, self.leaves[name].axis) for name, array in self.columns.items()}
        put("columns", MappingProxyType(columns))
        put("offsets", MappingProxyType({k: _frozen(v, np.int64) for k, v in self.offsets.items()}))
        counts = {axis: np.diff(offsets) for axis, offsets in self.offsets.items()} | dict(self.counts)
        put("counts", MappingProxyType({k: _frozen(v, np.float64) for k, v in counts.items()}))
        put("header", MappingProxyType(dict(self.header)))
        _check_offsets(self)
        _check_columns(self)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.columns, self.leaves, self.offsets, self.counts, self.header)
        return StatTable, (self.rows, *(dict(part) for part in parts))

    def __repr__(self) -> str:
        layers = f", {self.size('layer')} layers" if "layer" in self.offsets else ""
        return f"StatTable({self.n_rows} rows{layers}, columns {', '.join(self.columns)})"

    @property
    def n_rows(self) -> int:
        """Number of rows, N."""
        return len(self.rows)

    def size(self, axis: Axis) -> int:
        """Return the number of values of a column on `axis`; 0 where the table has no such axis."""
        if axis == "row":
            return self.n_rows
        return int(self.offsets[axis][-1]) if axis in self.offsets else 0

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, of ids, columns, offsets and counts."""
        sha = hashlib.sha256("\0".join(self.rows).encode())
        for name, array in _tensors(self).items():
            sha.update(f"\0{name}\0{array.dtype.str}\0{len(array)}\0".encode())
            sha.update(array.view(np.uint8).data)
        return sha.hexdigest()

    def take(self, indices: ArrayLike) -> StatTable:
        """Return the table of the rows at `indices`, in that order.

        Parameters
        ----------
        indices : array_like of int
            Row numbers from 0 to N-1, each at most once.

        Raises
        ------
        ConfigError
            If a number repeats or is out of range.
        """
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if index.size and (index.min() < 0 or index.max() >= self.n_rows):
            raise ConfigError(f"take: row {index.min()}..{index.max()} outside 0..{self.n_rows - 1}")
        rows = tuple(self.rows[i] for i in index.tolist())
        header = dict(self.header)
        if "layers" in header:
            header["layers"] = {row: header["layers"][row] for row in rows if row in header["layers"]}
        positions: dict[str, Index] = {"row": index}
        offsets: dict[str, Index] = {}
        if "layer" in self.offsets:
            starts, lengths = self.offsets["layer"][index], np.diff(self.offsets["layer"])[index]
            positions["layer"], offsets["layer"] = _ranges(starts, lengths), _ends(lengths)
            for axis in self.offsets.keys() & {"element", "activation"}:
                starts = self.offsets[axis][positions["layer"]]
                lengths = np.diff(self.offsets[axis])[positions["layer"]]
                positions[axis], offsets[axis] = _ranges(starts, lengths), _ends(lengths)
        return self._picked(rows, positions, offsets, header)

    def thin(self, k: int) -> StatTable:
        """Return the table with at most the first `k` samples of every layer.

        The samples are in random order, so the first ones are a fair sample; the true counts stay.
        """
        if k < 1:
            raise ConfigError(f"thin: k = {k}, expected at least 1")
        positions: dict[str, Index] = {}
        offsets = dict(self.offsets)
        for axis in self.offsets.keys() & {"element", "activation"}:
            lengths = np.minimum(np.diff(self.offsets[axis]), k)
            positions[axis], offsets[axis] = _ranges(self.offsets[axis][:-1], lengths), _ends(lengths)
        return self._picked(self.rows, positions, offsets, dict(self.header))

    def _picked(
        self,
        rows: tuple[str, ...],
        positions: dict[str, Index],
        offsets: dict[str, Index],
        header: dict[str, Any],
    ) -> StatTable:
        """Return the table of the values at `positions` on each axis; an axis not named stays whole."""
        columns = {
            name: array[positions[axis]] if (axis := self.leaves[name].axis) in positions else array
            for name, array in self.columns.items()
        }
        owner = {"element": "layer", "activation": "layer", "layer": "row"}
        counts = {
            axis: count[positions[owner[axis]]] if owner[axis] in positions else count
            for axis, count in self.counts.items()
        }
        return StatTable(rows, columns, self.leaves, offsets, counts, header)

    @staticmethod
    def concat(tables: Sequence[StatTable]) -> StatTable:
        """Return the rows of all tables, in order.

        Header entries on which all agree stay; where they differ, ``"mixed"`` lists the different values.

        Raises
        ------
        ConfigError
            If there is no table, an id repeats, or the columns or leaves differ.
        """
        if not tables:
            raise ConfigError("concat: no table")
        first = tables[0]
        for table in tables[1:]:
            if dict(table.leaves) != dict(first.leaves) or table.offsets.keys() != first.offsets.keys():
                odd = sorted(set(first.leaves.items()) ^ set(table.leaves.items()), key=lambda item: item[0])
                names = ", ".join(dict.fromkeys(name for name, _ in odd)) or "axes"
                raise ConfigError(
                    f"concat: the tables of {first.rows[:1]} and {table.rows[:1]} differ in {names}"
                )
        rows = tuple(row for table in tables for row in table.rows)
        columns = {name: np.concatenate([t.columns[name] for t in tables]) for name in first.columns}
        offsets = {
            axis: _ends(np.concatenate([np.diff(t.offsets[axis]) for t in tables])) for axis in first.offsets
        }
        counts = {axis: np.concatenate([t.counts[axis] for t in tables]) for axis in first.counts}
        return StatTable(rows, columns, first.leaves, offsets, counts, _merged_header(tables))

    @staticmethod
    def from_columns(
        ids: Sequence[str] | None,
        columns: Mapping[str, ArrayLike],
        leaves: Mapping[str, Leaf] | None = None,
        header: Mapping[str, Any] | None = None,
    ) -> StatTable:
        """Return a table with only a row axis.

        Parameters
        ----------
        ids : sequence of str or None
            One per row; None numbers the rows from 0.
        columns : mapping of str to array_like
            Values, one per row. Numbers of other types than float32 become float64.
        leaves : mapping of str to Leaf, optional
            Leaves of columns that promise something; any other column is a row leaf of any sign, also if
            its name is that of a network statistic.
        header : mapping, optional
            Anything JSON can hold.
        """
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        for name, array in arrays.items():
            if array.ndim != 1 or array.dtype.kind not in "fiub":
                raise ConfigError(
                    f"column {name!r}: expected numbers in one dimension, got {array.dtype} {array.shape}"
                )
        given = leaves or {}
        own = {name: given.get(name, Leaf(name, "row")) for name in arrays}
        n_rows = len(next(iter(arrays.values()), ()))
        rows = map(str, range(n_rows)) if ids is None else ids
        return StatTable(tuple(rows), arrays, own, {}, {}, header or {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to `path`; the file is there whole or not at all.

        Raises
        ------
        ConfigError
            If the disk is full, the folder is missing or read-only, or the header is no JSON.
        """
        tensorfile.write(Path(path), _metadata(self), _tensors(self))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> StatTable:
        """Return the table of a file, its columns mapped from the file and read-only.

        Nothing in the file is run: it is numbers and JSON.

        Raises
        ------
        ConfigError
            If the file is missing, truncated, of another kind or version, or contradicts itself.
        """
        path = Path(path)
        metadata, tensors = tensorfile.read(path)
        remedy = "collect again or check the path"
        if metadata.get("format") != FORMAT:
            raise ConfigError(f"{path}: a safetensors file, but no {FORMAT}; {remedy}")
        if metadata.get("version") != VERSION:
            found = f"{path}: written by version {metadata.get('version')}"
            raise ConfigError(f"{found}, this proxygraph reads version {VERSION}: collect again or upgrade")
        try:
            return _decoded(metadata, tensors)
        except (ProxyGraphError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path}: the table contradicts itself ({error}); {remedy}") from error


def _leaf(name: str, leaves: Mapping[str, Leaf]) -> Leaf:
    leaf = leaves.get(name) or STATISTICS.get(name)
    if leaf is None:
        raise UnknownName(
            f"column {name!r} has no leaf: declare it in `leaves`; known: {', '.join(STATISTICS)}"
        )
    if leaf.name != name:
        raise ConfigError(f"column {name!r} is declared with the leaf {leaf.name!r}")
    return leaf


def _values(array: ArrayLike, axis: Axis) -> Values:
    """Return the column as a read-only, contiguous float array."""
    array = np.asarray(array)
    double = array.dtype == np.float64 or (axis == "row" and array.dtype != np.float32)
    return _frozen(array, np.float64 if double else np.float32)


def _frozen(array: ArrayLike, dtype: Any) -> NDArray[Any]:
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _check_offsets(table: StatTable) -> None:
    if len(set(table.rows)) != table.n_rows:
        seen: set[str] = set()
        twice = next(row for row in table.rows if row in seen or seen.add(row))  # type: ignore[func-returns-value]
        raise ConfigError(f"row id {twice!r} appears more than once: ids must be unique")
    if unknown := table.offsets.keys() - set(_RAGGED):
        raise ShapeMismatch(f"offsets for {sorted(unknown)}: expected axes {_RAGGED}")
    if table.offsets and "layer" not in table.offsets:
        raise ShapeMismatch(f"offsets for {sorted(table.offsets)}, but none for 'layer'")
    if table.counts.keys() != table.offsets.keys():
        raise ShapeMismatch(f"counts for {sorted(table.counts)}, offsets for {sorted(table.offsets)}")
    for axis in sorted(table.offsets, key=_RAGGED.index, reverse=True):  # the layers first: they say how many
        offsets, groups = table.offsets[axis], table.n_rows if axis == "layer" else table.size("layer")
        if offsets.shape != (groups + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ShapeMismatch(
                f"offsets of {axis!r}: expected {groups + 1} rising numbers from 0, got {_shown(offsets)}"
            )
        counts = table.counts[axis]
        if counts.shape != (groups,) or not (counts >= np.diff(offsets)).all():
            raise ShapeMismatch(
                f"counts of {axis!r}: expected {groups} numbers, each at least the number of samples"
            )


def _check_columns(table: StatTable) -> None:
    for name, array in table.columns.items():
        leaf = table.leaves[name]
        if leaf.axis != "row" and leaf.axis not in table.offsets:
            raise ShapeMismatch(
                f"column {name!r} is on the {leaf.axis} axis, but the table has no offsets for it"
            )
        if array.shape != (table.size(leaf.axis),):
            expected = f"expected {table.size(leaf.axis)} values on the {leaf.axis} axis"
            raise ShapeMismatch(f"column {name!r}: {expected}, got shape {array.shape}")
        if leaf.sign == "nonneg" and (array < 0).any():
            raise ConfigError(
                f"column {name!r} is declared nonnegative, but its value {array.argmin()} is {array.min()}"
            )


def _shown(array: NDArray[Any]) -> str:
    return np.array2string(array, threshold=6, edgeitems=2)


def _ends(lengths: Index) -> Index:
    """Return the offsets of groups of these lengths, shape (G+1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _ranges(starts: Index, lengths: Index) -> Index:
    """Return start, start+1, ..., start+length-1 of every group, one after the other."""
    return np.repeat(starts - _ends(lengths)[:-1], lengths) + np.arange(int(lengths.sum()))


def _merged_header(tables: Sequence[StatTable]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    mixed: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for table in tables for key in table.header):
        values = [table.header.get(key) for table in tables]
        if key == "layers":
            header[key] = {row: names for value in values if value for row, names in value.items()}
        elif all(value == values[0] for value in values):
            header[key] = values[0]
        else:
            distinct = [value for i, value in enumerate(values) if value not in values[:i]]
            mixed[key] = distinct
    return header | ({"mixed": mixed} if mixed else {})


def _tensors(table: StatTable) -> dict[str, NDArray[Any]]:
    """Return every array under its name in the file, in a fixed order."""
    named: dict[str, NDArray[Any]] = {
        f"{table.leaves[name].axis}/{name}": a for name, a in table.columns.items()
    }
    named |= {f"offsets/{axis}": array for axis, array in table.offsets.items()}
    named |= {f"counts/{axis}": array for axis, array in table.counts.items()}
    return dict(sorted(named.items()))


def _metadata(table: StatTable) -> dict[str, str]:
    try:
        header = json.dumps(dict(table.header), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the table's header cannot be written as JSON: {error}") from None
    leaves = json.dumps([asdict(leaf) for leaf in table.leaves.values()])
    return {
        "format": FORMAT,
        "version": VERSION,
        "rows": json.dumps(table.rows),
        "leaves": leaves,
        "header": header,
    }


def _decoded(metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> StatTable:
    """Return the table of a file's parts; whatever is wrong raises."""
    rows = json.loads(metadata["rows"])
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise ValueError("the ids are not a list of texts")
    leaves = {leaf.name: leaf for leaf in (_leaf_of(entry) for entry in json.loads(metadata["leaves"]))}
    header = json.loads(metadata["header"])
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    groups: dict[str, dict[str, NDArray[Any]]] = {"offsets": {}, "counts": {}}
    columns = {}
    for tensor, array in tensors.items():
        group, _, name = tensor.partition("/")
        if group in groups:
            if array.dtype != (np.int64 if group == "offsets" else np.float64):
                raise ValueError(f"the {group} of {name!r} are {array.dtype}")
            groups[group][name] = array
        elif name not in leaves or leaves[name].axis != group:
            raise ValueError(f"tensor {tensor!r} is no declared column")
        else:
            columns[name] = array
    if missing := leaves.keys() - columns.keys():
        raise ValueError(f"column {sorted(missing)[0]!r} is missing")
    if missing := {str(leaf.axis) for leaf in leaves.values()} - {"row"} - groups["offsets"].keys():
        raise ValueError(f"the offsets of {sorted(missing)} are missing")
    if missing := groups["offsets"].keys() - groups["counts"].keys():
        raise ValueError(f"the counts of {sorted(missing)} are missing")
    ordered = {name: columns[name] for name in leaves}
    return StatTable(tuple(rows), ordered, leaves, groups["offsets"], groups["counts"], header)


def _leaf_of(entry: Mapping[str, Any]) -> Leaf:
    allowed = {
        "axis": get_args(Axis),
        "sign": get_args(Sign),
        "cost": get_args(Cost),
        "labels": (False, True),
    }
    if set(entry) != {field.name for field in fields(Leaf)}:
        raise ValueError(f"a leaf has the fields {sorted(entry)}")
    for field, value in entry.items():
        if value not in allowed[field] if field in allowed else not isinstance(value, str):
            raise ValueError(f"leaf {entry['name']!r}: {field} is {value!r}")
    return Leaf(**entry)
