"""Content keys of trees: equal trees up to the order of commutative arguments have equal keys.

`tidy` brings trees into one spelling (constants folded, arguments ordered, needless operators dropped) and
gives every tree a key of 64 bits. Two different trees share a key by chance once in about 2**64 pairs; then
one of them is taken for a duplicate. What is reported never rests on keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.forest import CODES, CONST, LEAF, POW
from proxygraph.jit import jit

ADD, SUB, MUL, DIV = (CODES[name] for name in ("add", "sub", "mul", "div"))
NEG, INV, ABS, RELU, SIGN = (CODES[name] for name in ("neg", "inv", "abs", "relu", "sign"))
SQUARE, CUBE, SQRT = (CODES[name] for name in ("square", "cube", "sqrt"))
MAXIMUM, MINIMUM = CODES["maximum"], CODES["minimum"]
EMPTY = np.uint64(0)

_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_GOLD = np.uint64(0x9E3779B97F4A7C15)
_S33 = np.uint64(33)


@jit(inline="always")
def mixed(x: Any) -> Any:
    """Return 64 well mixed bits of 64 bits (the finaliser of MurmurHash3, Appleby 2011)."""
    x = np.uint64(x)
    x ^= x >> _S33
    x *= _M1
    x ^= x >> _S33
    x *= _M2
    return x ^ (x >> _S33)


@jit(inline="always")
def combined(a: Any, b: Any) -> Any:
    """Return the key of an ordered pair of keys."""
    return mixed(np.uint64(a) * _GOLD + mixed(np.uint64(b) + _GOLD))


@jit(inline="always")
def code_key(code: Any) -> Any:
    """Return the key of an operator or leaf."""
    return mixed(np.uint64(code + 12345) * _GOLD)


@jit(inline="always")
def value_key(value: Any) -> Any:
    """Return the key of a constant; every float64 has its own, but 0.0 and -0.0 share one."""
    return mixed(np.float64(value + 0.0).view(np.uint64) + np.uint64(0x51AFD7ED))


@jit()
def _folded_unary(op: int, x: float) -> float:
    """Return the value of a unary operator of a constant where that is plain arithmetic, else NaN."""
    if op == NEG:
        return -x
    if op == ABS:
        return abs(x)
    if op == INV:
        return 1.0 / x
    if op == SQUARE:
        return x * x
    if op == CUBE:
        return x * x * x
    if op == SQRT:
        return np.sqrt(x)
    if op == RELU:
        return max(x, 0.0)
    if op == SIGN:
        return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)
    return np.nan


@jit()
def _folded_binary(op: int, x: float, y: float) -> float:
    """Return the value of a binary operator of two constants where that is plain arithmetic, else NaN."""
    if op == ADD:
        return x + y
    if op == SUB:
        return x - y
    if op == MUL:
        return x * y
    if op == DIV:
        return x / y
    if op == MAXIMUM:
        return max(x, y)
    if op == MINIMUM:
        return min(x, y)
    return np.nan


@jit()
def _drops_unary(op: int, below: int, exponent: float) -> int:
    """Return how a unary operator and the code below cancel: 0 not, 1 the upper goes, 2 both, 3 the lower."""
    if op == below and (op == ABS or op == RELU or op == SIGN):
        return 1
    if op == below and (op == NEG or op == INV):
        return 2
    if (op == ABS and below == SQUARE) or (op == POW and exponent == 1.0):
        return 1
    if (op == ABS or op == SQUARE) and (below == NEG or below == ABS):
        return 3
    return 0


@jit()
def tidy(
    code: NDArray[np.int16],
    value: NDArray[np.float64],
    length: NDArray[np.int32],
    symbols: Any,
    first: int,
    last: int,
    keys: NDArray[np.uint64],
    sizes: NDArray[np.int32],
) -> None:
    """Bring trees `first` to `last` into one spelling, in place; set their keys and sizes.

    Size is the number of distinct nodes, exponents of pow included, as `Dag` counts it. A tree that has no
    leaf, or a part that is constant without being a constant (``a - a``), gets the key `EMPTY`.
    """
    capacity = code.shape[1]
    new_code, new_value = np.empty(capacity, np.int16), np.empty(capacity)
    held_code, held_value = np.empty(capacity, np.int16), np.empty(capacity)
    start, hashes = np.empty(capacity + 1, np.int64), np.empty(capacity + 1, np.uint64)
    parts = np.empty(2 * capacity, np.uint64)
    for i in range(first, last):
        pos, top, good = capacity, 0, True
        start[0] = capacity
        for at in range(length[i] - 1, -1, -1):
            c, v = code[i, at], value[i, at]
            if c == CONST or c >= LEAF:
                pos -= 1
                new_code[pos], new_value[pos] = c, v + 0.0
                top += 1
                start[top] = pos
                hashes[top] = value_key(v) if c == CONST else code_key(c)
            elif symbols.arity[c] == 1:
                below = new_code[pos]
                if below == CONST:
                    folded = _folded_unary(c, new_value[pos])
                    if not np.isfinite(folded):
                        good = False
                        break
                    new_value[pos] = folded + 0.0
                    hashes[top] = value_key(folded)
                    continue
                drops = _drops_unary(c, below, v)
                while drops >= 2:
                    # what stands under the lower operator begins at the next place
                    pos += 1
                    drops = _drops_unary(c, new_code[pos], v) if drops == 3 else -1
                if start[top] != pos:
                    start[top] = pos
                    hashes[top] = _rehashed(new_code, new_value, pos, symbols, capacity)
                if drops != 0:
                    continue
                pos -= 1
                new_code[pos], new_value[pos] = c, v if c == POW else 0.0
                start[top] = pos
                own = code_key(c)
                if c == POW:
                    own = combined(own, value_key(v))
                hashes[top] = combined(own, hashes[top])
            else:
                left, right = start[top], start[top - 1]
                end = start[top - 2] if top > 2 else capacity
                x, y = hashes[top], hashes[top - 1]
                left_const, right_const = new_code[left] == CONST, new_code[right] == CONST
                if left_const and right_const:
                    folded = _folded_binary(c, new_value[left], new_value[right])
                    if not np.isfinite(folded):
                        good = False
                        break
                    top -= 1
                    pos = end - 1
                    new_code[pos], new_value[pos] = CONST, folded + 0.0
                    start[top] = pos
                    hashes[top] = value_key(folded)
                    continue
                if x == y:
                    if c == SUB or c == DIV:
                        good = False
                        break
                    if c == MAXIMUM or c == MINIMUM:
                        top -= 1
                        pos = right
                        continue
                if right_const:
                    r = new_value[right]
                    if ((c == ADD or c == SUB) and r == 0.0) or ((c == MUL or c == DIV) and r == 1.0):
                        # the right side goes: move the left one to its place
                        for k in range(right - 1, left - 1, -1):
                            new_code[k + 1], new_value[k + 1] = new_code[k], new_value[k]
                        top -= 1
                        pos = left + 1
                        start[top] = pos
                        hashes[top] = x
                        continue
                    if r == 0.0 and (c == MUL or c == DIV):
                        good = False
                        break
                if left_const:
                    r = new_value[left]
                    if (c == ADD and r == 0.0) or (c == MUL and r == 1.0):
                        top -= 1
                        pos = right
                        continue
                    if r == 0.0 and (c == MUL or c == DIV):
                        good = False
                        break
                if symbols.commutes[c] and x > y:
                    n, m = right - left, end - right
                    for k in range(n):
                        held_code[k], held_value[k] = new_code[left + k], new_value[left + k]
                    for k in range(m):
                        new_code[left + k], new_value[left + k] = new_code[right + k], new_value[right + k]
                    for k in range(n):
                        new_code[left + m + k], new_value[left + m + k] = held_code[k], held_value[k]
                    x, y = y, x
                top -= 1
                pos -= 1
                new_code[pos], new_value[pos] = c, 0.0
                start[top] = pos
                hashes[top] = combined(combined(code_key(c), x), y)
        n = capacity - pos
        if not good or n == 0 or (n == 1 and new_code[pos] == CONST):
            keys[i], sizes[i] = EMPTY, 0
            continue
        for k in range(n):
            code[i, k], value[i, k] = new_code[pos + k], new_value[pos + k]
        length[i] = n
        sizes[i] = _distinct(new_code, new_value, pos, symbols, capacity, hashes, parts)
        keys[i] = hashes[1] if hashes[1] != EMPTY else np.uint64(1)


@jit()
def _rehashed(code: Any, value: Any, at: int, symbols: Any, capacity: int) -> Any:
    """Return the key of the tidy part that begins at `at`."""
    # its extent first: `missing` arguments are still to come
    end, missing = at, 1
    while missing > 0:
        c = code[end]
        missing += (symbols.arity[c] if 0 <= c < LEAF else 0) - 1
        end += 1
    stack, top = np.empty(end - at + 1, np.uint64), 0
    for k in range(end - 1, at - 1, -1):
        c = code[k]
        if c == CONST:
            stack[top] = value_key(value[k])
            top += 1
        elif c >= LEAF:
            stack[top] = code_key(c)
            top += 1
        elif symbols.arity[c] == 1:
            own = code_key(c)
            if c == POW:
                own = combined(own, value_key(value[k]))
            stack[top - 1] = combined(own, stack[top - 1])
        else:
            top -= 1
            stack[top - 1] = combined(combined(code_key(c), stack[top]), stack[top - 1])
    return stack[0]


@jit()
def _distinct(code: Any, value: Any, pos: int, symbols: Any, capacity: int, stack: Any, parts: Any) -> int:
    """Return the number of distinct nodes; the key of the whole is left in ``stack[1]``."""
    n, top = 0, 0
    for k in range(capacity - 1, pos - 1, -1):
        c = code[k]
        if c == CONST:
            own = value_key(value[k])
            top += 1
        elif c >= LEAF:
            own = code_key(c)
            top += 1
        elif symbols.arity[c] == 1:
            own = code_key(c)
            if c == POW:
                parts[n] = value_key(value[k])
                n += 1
                own = combined(own, value_key(value[k]))
            own = combined(own, stack[top])
        else:
            own = combined(combined(code_key(c), stack[top]), stack[top - 1])
            top -= 1
        stack[top] = own
        parts[n] = own
        n += 1
    distinct = 0
    for k in range(n):
        seen = False
        for j in range(k):
            if parts[j] == parts[k]:
                seen = True
                break
        distinct += not seen
    return distinct


@jit()
def _add_all(table: Any, least: Any, keys: Any, sizes: Any, new: Any) -> int:
    """Put keys into an open-addressing table; returns how many were not there.

    `new` says which were not there, or there with a larger size only.
    """
    mask, added = np.uint64(len(table) - 1), 0
    for i in range(len(keys)):
        key, size = keys[i], min(sizes[i], 255)
        new[i] = False
        if key == EMPTY:
            continue
        at = key & mask
        while table[at] != EMPTY and table[at] != key:
            at = (at + np.uint64(1)) & mask
        if table[at] == EMPTY:
            table[at], least[at] = key, size
            new[i] = True
            added += 1
        elif size < least[at]:
            least[at] = size
            new[i] = True
    return added


class KeySet:
    """A growing set of keys, each with the least size it was met with.

    Parameters
    ----------
    capacity : int
        Most keys it holds; keys met later are not remembered.
    """

    def __init__(self, capacity: int = 1 << 25) -> None:
        self.capacity = capacity
        self._table = np.zeros(1 << 12, np.uint64)
        self._least = np.zeros(1 << 12, np.uint8)
        self._n = 0

    @classmethod
    def of(cls, capacity: int, keys: NDArray[np.uint64], least: NDArray[np.uint8]) -> KeySet:
        """Return the set that had this `content`."""
        found = cls(capacity)
        found.add(keys, least.astype(np.int32))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return KeySet.of, (self.capacity, *self.content())  # 9 bytes a key: most of the table is empty

    def __len__(self) -> int:
        return self._n

    def add(self, keys: NDArray[np.uint64], sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Add keys; return for each whether it is new, or known with a larger size only.

        Earlier entries of `keys` count as known; `EMPTY` is never new.

        Raises
        ------
        ValueError
            If there is not one size for every key, which compiled code would read.
        """
        if len(keys) != len(sizes):
            raise ValueError(f"{len(keys)} keys but {len(sizes)} sizes")
        if self._n + len(keys) > self.capacity:
            return self._only_asked(keys, sizes)
        while 2 * (self._n + len(keys)) > len(self._table):
            old, least = self.content()
            self._table = np.zeros(4 * len(self._table), np.uint64)
            self._least = np.zeros(len(self._table), np.uint8)
            _add_all(self._table, self._least, old, least, np.empty(len(old), bool))
        new = np.empty(len(keys), bool)
        self._n += _add_all(self._table, self._least, keys, sizes, new)
        return new

    def _only_asked(self, keys: NDArray[np.uint64], sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Answer as `add` does, but remember nothing."""
        table = self._table
        mask, at = np.uint64(len(table) - 1), keys & np.uint64(len(table) - 1)
        found, searching = np.zeros(len(keys), bool), keys != EMPTY
        while searching.any():
            found |= searching & (table[at] == keys)
            searching &= ~found & (table[at] != EMPTY)
            at = np.where(searching, (at + np.uint64(1)) & mask, at)
        aside = KeySet(2 * len(keys))
        aside.add(keys[found], self._least[at[found]].astype(np.int32))
        return aside.add(keys, sizes)

    def content(self) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """Return all keys and their sizes, in no order that means anything."""
        there = self._table != EMPTY
        return self._table[there], self._least[there]
