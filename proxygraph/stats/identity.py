"""The text by which a cache tells measures apart: what is computed, and with what values.

It follows code and values, not what code names: a module, or a function or variable of the module.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
from functools import cached_property, partial
from itertools import chain
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import torch

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, EllipsisType)
_KNOWN: Final = sys.stdlib_module_names | {"torch", "numpy"}
"""Packages whose classes are told by name."""


class Untold(Exception):
    """A value that cannot be told from another one of its type."""


def identity_text(value: Any, inside: tuple[int, ...] = ()) -> str:
    """Return a text that differs where code or values differ, and is the same in another process.

    Parameters
    ----------
    value : object
        A measure, or what it holds. Of functions the byte code, defaults and closure count; of objects what
        pickle would keep, and the code of their class.
    inside : tuple of int
        What this value was met in, by `id`; a value that holds itself ends there.

    Raises
    ------
    Untold
        If it holds something without a state that can be told: a generator, a lock, an open file.
    """
    if isinstance(value, _PLAIN):
        return repr(value) if type(value) in _PLAIN else f"{type(value).__qualname__}({value!r})"
    if id(value) in inside:
        return f"<{len(inside) - inside.index(id(value))} up>"
    if len(inside) > 100:
        raise Untold("deeply nested object")
    inside = (*inside, id(value))

    def each(values: Any) -> str:
        return ", ".join([identity_text(one, inside) for one in values])

    kind = type(value)
    if kind in (set, frozenset):
        return f"{kind.__name__}({sorted(identity_text(one, inside) for one in value)})"
    if kind in (tuple, list):
        return f"{kind.__name__}({each(value)})"
    if kind is dict:
        return f"dict({each(chain.from_iterable(value.items()))})"
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"tensor({value.dtype}, {tuple(value.shape)}, {hashlib.sha256(array.tobytes()).hexdigest()})"
    if kind is np.ndarray and not value.dtype.hasobject:
        return f"array({value.dtype}, {value.shape}, {hashlib.sha256(value.tobytes()).hexdigest()})"
    if kind is partial:
        return f"partial({each((value.func, value.args, value.keywords))})"
    if kind is CodeType:
        return f"code({each(_of_code(value))})"
    if kind is FunctionType:
        return f"function({each(_of_function(value))})"
    if kind is MethodType:
        return f"method({each((value.__func__, value.__self__))})"
    if kind is BuiltinFunctionType:
        at = value.__self__
        return f"builtin({value.__name__}, {value.__module__}, {each([at])})"
    if kind is ModuleType:
        return f"module({value.__name__})"
    if isinstance(value, type):
        return f"class({value.__module__}.{value.__qualname__}, {each(_of_class(value))})"
    return f"object({each(_of_object(value))})"


def _of_code(code: CodeType) -> tuple[Any, ...]:
    """Return what code does, not where it stands."""
    return (
        code.co_code,
        code.co_exceptiontable,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_cellvars,
        code.co_freevars,
        (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
    )


def _of_function(function: FunctionType) -> tuple[Any, ...]:
    cells: list[tuple[Any, ...]] = []
    for cell in function.__closure__ or ():
        try:
            cells.append((cell.cell_contents,))
        except ValueError:  # not filled yet
            cells.append(())
    state = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
    return function.__code__, function.__defaults__, function.__kwdefaults__, tuple(cells), state


def _of_class(kind: type) -> tuple[Any, ...]:
    """Return the methods and values of a class and its bases, nothing for one of a known package."""
    found: list[Any] = []
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _KNOWN:
            found.append(f"{base.__module__}.{base.__qualname__}")
            continue
        for name, value in vars(base).items():
            if isinstance(value, staticmethod | classmethod):
                found += [name, value.__func__]
            elif isinstance(value, property):
                found += [name, value.fget]
            elif isinstance(value, cached_property):  # itself it holds a lock
                found += [name, value.func]
            elif isinstance(value, FunctionType) or not (name.startswith("__") or name == "_abc_impl"):
                found += [name, value]
    return tuple(found)


def _of_object(value: Any) -> tuple[Any, ...]:
    """Return class and state of an object, as pickle takes it apart."""
    kind = type(value)
    try:
        reducer = copyreg.dispatch_table.get(kind)
        reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    except Exception as error:  # whatever a foreign class raises
        raise Untold(f"{kind.__qualname__} object") from error
    if not isinstance(reduced, str):
        make, args, *state = reduced
        return (
            kind,
            make,
            args,
            *(None if s is None else list(s) if hasattr(s, "__next__") else s for s in state),
        )
    wrapped = getattr(value, "__wrapped__", None)  # functools.cache
    module = str(getattr(value, "__module__", None) or kind.__module__)
    if wrapped is None and module.partition(".")[0] not in _KNOWN:
        raise Untold(f"{kind.__qualname__} object")
    return kind.__qualname__, module, reduced, wrapped
