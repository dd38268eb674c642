"""The text that tells measures apart: it follows code and values, in every process alike."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property, partial, wraps
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from proxygraph.stats.identity import Untold, identity_text


def typed(code: str) -> Any:
    """Return `f` of code that has no file."""
    scope: dict[str, Any] = {"__name__": "typed"}
    exec(textwrap.dedent(code), scope)  # our own text
    return scope["f"]


def decorated(power: int) -> Any:
    @wraps(typed)
    def inner(v: Any) -> Any:
        return v**power

    return inner


def with_attribute(power: int) -> Any:
    def f(v: Any) -> Any:
        return v**f.power  # type: ignore[attr-defined]

    f.power = power  # type: ignore[attr-defined]
    return f


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


class Base(ABC):
    """What classes may hold."""

    @abstractmethod
    def __call__(self, v: Any) -> Any: ...

    @cached_property
    def twice(self) -> int:
        return 2

    @property
    def thrice(self) -> int:
        return 3


class Mode(Enum):
    ONE = 1
    TWO = 2


@dataclass(frozen=True)
class Rich(Base):
    mode: Mode
    sizes: dict[str, int] = field(default_factory=dict, repr=False)

    def __call__(self, v: Any) -> Any:
        return super().__hash__()


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(value)
    return layer


SLOTTED = """
class f:
    __slots__ = ("power",)
    def __init__(self, power): self.power = power
    def __call__(self, v): return v ** self.power
"""
PAIRS = {
    "constants": [lambda v: v + 1, lambda v: v + 2],
    "names": [lambda v: v.input, lambda v: v.output],
    "one line": [typed(f"f = lambda v: v * {k}") for k in (1, 2)],
    "inner functions": [typed(f"def f(v): return [(lambda x: x + {k})(x) for x in v]") for k in (1, 2)],
    "sets of names": [typed(f"def f(v): return v in {names}") for names in ({"a", "b"}, {"a", "c"})],
    "defaults": [typed(f"def f(v, k={k}): return k") for k in (1, 1.0)],
    "named defaults": [typed(f"def f(v, *, k={k}): return k") for k in (1, 2)],
    "decorators": [decorated(k) for k in (1, 2)],
    "decorators of torch": [torch.no_grad()(typed(f"def f(v): return {k}")) for k in (1, 2)],
    "attributes": [with_attribute(k) for k in (1, 2)],
    "partials": [partial(max, 1), partial(max, 2)],
    "partials by name": [partial(print, end="a"), partial(print, end="b")],
    "partials of partials": [partial(partial(pow, 2), mod=k) for k in (1, 2)],
    "arrays": [partial(np.dot, np.arange(5000.0) + (np.arange(5000) == k)) for k in (2500, 2501)],
    "tensors": [partial(torch.dot, torch.arange(5000.0) + (torch.arange(5000) == k)) for k in (2500, 2501)],
    "networks": [filled(1.0), filled(2.0)],
    "slots": [typed(SLOTTED)(k) for k in (1, 2)],
    "bodies of classes": [typed(SLOTTED.replace("** self", sign))(1) for sign in ("* self", "+ self")],
    "values of classes": [
        typed(f"class f:\n k = {k}\n def __call__(self, v): return self.k")() for k in (1, 2)
    ],
    "bound methods": [filled(1.0).forward, filled(2.0).forward],
    "cached": [cache(typed(f"def f(v): return {k}")) for k in (1, 2)],
    "builtins": [torch.numel, torch.sum],
    "methods of C": [torch.Tensor.sum, torch.Tensor.mean],
    "generators": [partial(print, np.random.default_rng(k)) for k in (1, 2)],
    "kinds of numbers": [partial(print, torch.float32), partial(print, torch.float64)],
    "data classes": [Rich(Mode.ONE, {"a": k}) for k in (1, 2)],
    "enumerations": [Rich(Mode.ONE), Rich(Mode.TWO)],
    "paths": [partial(print, Path("a")), partial(print, Path("b"))],
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_differs_is_told_apart(pair: list[Any]) -> None:
    one, other = (identity_text(each) for each in pair)
    assert one != other
    assert " at 0x" not in one
    assert identity_text(pair[0]) == one


def test_other_processes_say_the_same() -> None:
    code = "from proxygraph.stats.identity import identity_text as t\n"
    code += "from tests.stats.test_identity import PAIRS\nimport hashlib\nfor name, pair in PAIRS.items():\n"
    code += "  print(name, *(hashlib.sha256(t(each).encode()).hexdigest() for each in pair))"
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0].count("\n") == len(PAIRS)
    assert said[0] == said[1]


def test_where_code_stands_does_not_count() -> None:
    assert identity_text(typed("def f(v): return v")) == identity_text(
        typed("\n\n# moved\ndef f(v): return v")
    )


def test_a_function_that_calls_itself_ends() -> None:
    def down(v: int) -> int:
        return down(v - 1) if v else 0

    assert "up>" in identity_text(down)


@pytest.mark.parametrize("held", [Lock(), (x for x in "a"), [sys.stderr], nested(200)])
def test_what_cannot_be_told_is_refused(held: Any) -> None:
    with pytest.raises(Untold, match="object"):
        identity_text(lambda v: held)
