"""What formulas must look like: limits on depth, operators, leaves, nesting and constants, and units.

Everything here is about structure: it is compiled to arrays and checked on trees by
`proxygraph.compact.allowed`, before anything is evaluated. What values must be like is
`proxygraph.behaviour`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from proxygraph.compact.allowed import (
    EQUAL,
    EXPONENT,
    FORGET,
    KEEP,
    NO_LIMIT,
    POWER,
    PRODUCT,
    PURE,
    QUOTIENT,
    Rules,
    allowed_trees,
)
from proxygraph.compact.forest import Vocabulary, to_forest, tree_length
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, UnknownName
from proxygraph.leaves import Cost, Leaf
from proxygraph.ops import OPS
from proxygraph.units import PLAIN, Unit, parse_unit

UNIT_RULES: Mapping[str, int] = MappingProxyType(
    dict.fromkeys(("neg", "abs", "relu", "sum", "mean", "std", "min", "max", "l1", "l2"), KEEP)
    | dict.fromkeys(("add", "sub", "maximum", "minimum"), EQUAL)
    | dict.fromkeys(("square", "cube", "sqrt", "inv"), POWER)
    | {"mul": PRODUCT, "div": QUOTIENT, "pow": EXPONENT, "sign": FORGET, "count": FORGET}
)
"""What operators do to units; all others take and give plain numbers."""
_FACTORS = {"square": 2.0, "cube": 3.0, "sqrt": 0.5, "inv": -1.0}


@dataclass(frozen=True)
class Units:
    """Units of leaves and target.

    Attributes
    ----------
    leaves : mapping of str to Unit
        Leaves that are not named are plain numbers.
    target : Unit, optional
        The unit of the root; any if not given. A constant that carries a unit (`constants`), or the slope of
        a least-squares line (`slope`), leads to any unit.
    constants : {"any", "plain"}
        Whether each constant may carry the unit that is needed where it stands, or is a plain number.
    slope : {"any", "plain"}
        The same of the factor of the final form: with ``"any"``, the unit of the root does not matter.
    """

    leaves: Mapping[str, Unit]
    target: Unit | None = None
    constants: Literal["any", "plain"] = "any"
    slope: Literal["any", "plain"] = "any"

    def __post_init__(self) -> None:
        for what, value in (("constants", self.constants), ("slope", self.slope)):
            if value not in ("any", "plain"):
                raise ConfigError(f"units: {what} {value!r} is neither 'any' nor 'plain'")


@dataclass(frozen=True)
class Constraints:
    """Limits on the structure of formulas; what is None or empty does not limit.

    Attributes
    ----------
    max_depth : int, optional
        Most operators on a path from the root to a leaf.
    max_constants : int, optional
        Most constants of the formula written out, in which a shared part stands as often as it is used.
        Exponents are not counted.
    ops, leaves : sequence of str, optional
        The only ones allowed.
    max_cost : {"static", "forward", "backward", "second-order"}, optional
        The dearest pass that measuring a leaf may need.
    labels : bool
        Whether leaves that need labels are allowed.
    nesting : mapping of str to mapping of str to int
        ``{"sin": {"sin": 0, "exp": 1}}``: on any path below a sin there is no other sin, and at most one exp.
    units : Units, optional

    Raises
    ------
    UnknownName
        If there is no such operator or cost class.
    ConfigError
        If a limit is negative.
    """

    max_depth: int | None = None
    max_constants: int | None = None
    ops: Sequence[str] | None = None
    leaves: Sequence[str] | None = None
    max_cost: Cost | None = None
    labels: bool = True
    nesting: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    units: Units | None = None

    def __post_init__(self) -> None:
        limits = [("max_depth", self.max_depth), ("max_constants", self.max_constants)]
        limits += [
            (f"nesting of {b} in {a}", n) for a, inner in self.nesting.items() for b, n in inner.items()
        ]
        for what, limit in limits:
            if limit is not None and limit < 0:
                raise ConfigError(f"{what}: {limit} is below 0")
        _check_names("operator", [*(self.ops or ()), *self.nesting], OPS)
        for inner in self.nesting.values():
            _check_names("operator", inner, OPS)
        if self.max_cost is not None:
            _check_names("cost class", [self.max_cost], get_args(Cost))

    def allowed_leaves(self, leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
        """Return those of the leaves that formulas may use.

        Raises
        ------
        UnknownName
            If a leaf that a constraint names is not among them.
        ConfigError
            If none is left.
        """
        _check_names("leaf", self.leaves or (), leaves)
        _check_names("leaf", self.units.leaves if self.units else (), leaves)
        order = get_args(Cost)
        dearest = order.index(self.max_cost) if self.max_cost else len(order)
        found = {
            name: leaf
            for name, leaf in leaves.items()
            if (self.leaves is None or name in self.leaves)
            and order.index(leaf.cost) <= dearest
            and (self.labels or not leaf.labels)
        }
        if not found:
            raise ConfigError(f"no leaf is allowed: the constraints leave none of {', '.join(leaves)}")
        return found

    def allowed_ops(self, ops: Sequence[str]) -> tuple[str, ...]:
        """Return those of the operators that formulas may use, in order."""
        return tuple(name for name in ops if self.ops is None or name in self.ops)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return self == Constraints()

    def rules(self, vocabulary: Vocabulary) -> Rules:
        """Return the constraints as compiled code takes them."""
        allowed = self.allowed_leaves(vocabulary.leaves)
        inner = sorted({name for row in self.nesting.values() for name in row})
        most = np.full((len(vocabulary.ops), len(inner)), NO_LIMIT, np.int16)
        for outer, row in self.nesting.items():
            for name, limit in row.items():
                most[vocabulary.ops.index(outer), inner.index(name)] = min(limit, NO_LIMIT)
        units = self.units or Units({})
        root = PLAIN if units.target is None else units.target
        leaf_unit, root_unit = _exponents([units.leaves.get(name, PLAIN) for name in vocabulary.names], root)
        return Rules(
            op_ok=np.array([self.ops is None or name in self.ops for name in vocabulary.ops]),
            leaf_ok=np.array([name in allowed for name in vocabulary.names]),
            max_depth=NO_LIMIT if self.max_depth is None else self.max_depth,
            max_constants=NO_LIMIT if self.max_constants is None else self.max_constants,
            slot=np.array([inner.index(n) if n in inner else -1 for n in vocabulary.ops], np.int16),
            most=most,
            has_units=self.units is not None,
            op_unit=np.array([UNIT_RULES.get(name, PURE) for name in vocabulary.ops], np.int8),
            factor=np.array([_FACTORS.get(name, 1.0) for name in vocabulary.ops]),
            leaf_unit=leaf_unit,
            root_unit=root_unit,
            root_bound=units.target is not None and units.slope == "plain",
            free_constants=units.constants == "any",
        )

    def admits(self, dags: Sequence[Dag], vocabulary: Vocabulary) -> NDArray[np.bool_]:
        """Return for every formula whether it keeps the constraints, shape (P,).

        For a few formulas, such as seeds, and those that simplification has rewritten. What is made of
        constants alone counts as one constant.
        """
        if not dags:
            return np.zeros(0, bool)
        trees = to_forest(dags, vocabulary, max(map(tree_length, dags)))
        return allowed_trees(trees, vocabulary.symbols, self.rules(vocabulary))


def _check_names(what: str, names: Sequence[str] | Mapping[str, object], known: object) -> None:
    for name in names:
        if name not in known:  # type: ignore[operator]
            raise UnknownName(f"no {what} named {name!r}; known: {', '.join(known)}")  # type: ignore[arg-type]


def _exponents(leaves: Sequence[Unit], root: Unit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return exponents of the base units, times a common denominator: whole numbers, exact when halved."""
    rows = [dict(unit.powers) for unit in (*leaves, root)]
    bases = sorted({base for row in rows for base in row})
    scale = math.lcm(*(p.denominator for row in rows for p in row.values()))
    table = np.array([[float(row.get(base, Fraction(0)) * scale) for base in bases] for row in rows])
    table = table.reshape(len(rows), len(bases))
    return table[:-1].copy(), table[-1].copy()


# ---- as text -----------------------------------------------------------------------------------------------


def parse_nesting(text: str) -> dict[str, dict[str, int]]:
    """Read nesting rules: ``sin:sin=0,exp=1; exp:exp=0``.

    Raises
    ------
    ConfigError
        If the text is not of that form.
    UnknownName
        If there is no such operator.

    Examples
    --------
    >>> parse_nesting("sin:sin=0,exp=1; exp:exp=0")
    {'sin': {'sin': 0, 'exp': 1}, 'exp': {'exp': 0}}
    """
    rules: dict[str, dict[str, int]] = {}
    for rule in filter(None, (part.strip() for part in text.split(";"))):
        outer, colon, inner = rule.partition(":")
        row = _pairs("nesting", inner) if colon else {}
        if not row or outer.strip() in rules:
            raise ConfigError(f"nesting {rule!r}: expected each operator once, as in sin:sin=0,exp=1")
        for name, limit in row.items():
            if not limit.isdecimal():
                raise ConfigError(f"nesting {rule!r}: {name}={limit} is not a whole number of at least 0")
        rules[outer.strip()] = {name: int(limit) for name, limit in row.items()}
    _check_names("operator", [*rules, *(name for row in rules.values() for name in row)], OPS)
    return rules


def parse_units(
    text: str,
    leaves: Mapping[str, Leaf],
    target: str | None = None,
    constants: Literal["any", "plain"] = "any",
    slope: Literal["any", "plain"] = "any",
) -> Units:
    """Read units of leaves: ``x=m,y=m/s^2``; `target` is a unit by itself.

    Raises
    ------
    ConfigError, ParseError
        If the text is not of that form.
    UnknownName
        If there is no such leaf or unit.

    Examples
    --------
    >>> str(parse_units("x=m/s", {"x": Leaf("x", "row")}).leaves["x"])
    'm*s^(-1)'
    """
    found = {name: parse_unit(unit) for name, unit in _pairs("units", text).items()}
    _check_names("leaf", found, leaves)
    return Units(found, None if target is None else parse_unit(target), constants, slope)


def parse_names(text: str) -> tuple[str, ...]:
    """Read names that commas separate: ``add,mul,log``."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _pairs(what: str, text: str) -> dict[str, str]:
    """Read ``a=1,b=2``; names in backticks may hold anything else."""
    pairs: dict[str, str] = {}
    for part in filter(str.strip, re.split(r",(?=(?:[^`]*`[^`]*`)*[^`]*$)", text)):
        match = re.fullmatch(r"\s*(?:`([^`]+)`|([^`=]+?))\s*=(.*)", part)
        if match is None:
            raise ConfigError(f"{what} {part.strip()!r}: expected name=value, several with commas between")
        name = match[1] or match[2]
        if name in pairs:
            raise ConfigError(f"{what}: {name!r} is given twice")
        pairs[name] = match[3].strip()
    return pairs
