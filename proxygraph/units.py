"""Physical units as exact products of powers: ``kg*m/s^2``, ``km/h``, ``[EUR]/h``.

A unit is a product of rational powers of the seven base units of the SI, of names of one's own in square
brackets, and of the primes 2, 3, 5, ... that scales are made of. So ``km`` and ``m`` are different units, as
adding their numbers would be wrong, and ``1000 m`` is ``km``; nothing is rounded. Units with an offset
(degrees Celsius) or an irrational scale (degrees of arc) are none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from proxygraph.errors import ParseError, UnknownName

Powers = Mapping[str, Fraction]

PREFIXES: Mapping[str, int] = MappingProxyType(
    {"Q": 30, "R": 27, "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1}
    | {"d": -1, "c": -2, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15, "a": -18}
    | {"z": -21, "y": -24, "r": -27, "q": -30}
)
"""Powers of ten of the SI prefixes (SI brochure, 9th edition, table 7)."""

_PREFIXED = {
    "m": "m", "g": "kg/1000", "s": "s", "A": "A", "K": "K", "mol": "mol", "cd": "cd", "Hz": "1/s",
    "N": "kg*m/s^2", "Pa": "kg/m/s^2", "J": "kg*m^2/s^2", "W": "kg*m^2/s^3", "C": "A*s",
    "V": "kg*m^2/s^3/A", "F": "A^2*s^4/kg/m^2", "ohm": "kg*m^2/s^3/A^2", "Ω": "kg*m^2/s^3/A^2",
    "S": "A^2*s^3/kg/m^2", "Wb": "kg*m^2/s^2/A", "T": "kg/s^2/A", "H": "kg*m^2/s^2/A^2", "lm": "cd",
    "lx": "cd/m^2", "Bq": "1/s", "Gy": "m^2/s^2", "Sv": "m^2/s^2", "kat": "mol/s", "rad": "1", "sr": "1",
    "L": "m^3/1000", "l": "m^3/1000", "t": "1000*kg", "bar": "100000*kg/m/s^2",
}  # fmt: skip
_PLAIN = {"min": "60*s", "h": "3600*s", "d": "86400*s", "ha": "10000*m^2", "%": "1/100"}
_BASE = ("m", "kg", "s", "A", "K", "mol", "cd")
_TOKEN = re.compile(
    r"\s*(?:(?P<power>\*\*|\^)|(?P<op>[*/·()])|(?P<own>\[[^\[\]]+\])|(?P<number>[+-]?\d+(?:\.\d+)?)"
    r"|(?P<name>[^\W\d]+|%))"
)
MAX_EXPONENT = 100


@dataclass(frozen=True)
class Unit:
    """A unit: exponents of base units, own names in brackets, and primes; those that are 0 left out."""

    powers: tuple[tuple[str, Fraction], ...] = ()

    @classmethod
    def of(cls, powers: Powers) -> Unit:
        """Return the unit of these exponents."""
        return cls(tuple(sorted((base, p) for base, p in powers.items() if p)))

    def __mul__(self, other: Unit) -> Unit:
        powers = dict(self.powers)
        for base, p in other.powers:
            powers[base] = powers.get(base, Fraction(0)) + p
        return Unit.of(powers)

    def __truediv__(self, other: Unit) -> Unit:
        return self * other ** Fraction(-1)

    def __pow__(self, exponent: Fraction) -> Unit:
        return Unit.of({base: p * exponent for base, p in self.powers})

    def __str__(self) -> str:
        plain = {p: f"^{p}" if p > 0 and p.denominator == 1 else f"^({p})" for _, p in self.powers}
        return "*".join(base if p == 1 else base + plain[p] for base, p in self.powers) or "1"


PLAIN = Unit()
"""The unit of plain numbers."""


def parse_unit(text: str) -> Unit:
    """Read a unit.

    Parameters
    ----------
    text : str
        Names of SI units with or without a prefix, a few others (min, h, d, L, t, bar, ha, %), names of one's
        own in square brackets and whole numbers; ``*``, ``·`` or a space between factors, ``/`` before a
        divisor, ``^`` or ``**`` before an exponent: ``2``, ``-1``, ``0.5`` or ``(1/2)``. Empty: a plain
        number.

    Raises
    ------
    ParseError
        If it cannot be read; the message says where.
    UnknownName
        If there is no such unit.

    Examples
    --------
    >>> print(parse_unit("km/h"))
    2^(-1)*3^(-2)*5*m*s^(-1)
    >>> parse_unit("N") == parse_unit("kg m s^-2")
    True
    """
    return _Reader(text).read() if text.strip() else PLAIN


class _Reader:
    """Reads one unit by recursive descent."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise ParseError(f"unit {text!r}: {text[at:].strip()[:1]!r} at {at + 1} means nothing here")
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "the end")

    def next(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def fail(self, token: str, wanted: str) -> ParseError:
        return ParseError(f"unit {self.text!r}: {wanted} expected, not {token}")

    def read(self) -> Unit:
        unit = self.product()
        if self.peek()[0] != "end":
            raise self.fail(repr(self.peek()[1]), "a factor")
        return unit

    def product(self) -> Unit:
        unit = self.factor()
        while True:
            kind, token = self.peek()
            if token == "/":
                self.next()
                unit = unit / self.factor()
            elif token in ("*", "·"):
                self.next()
                unit = unit * self.factor()
            elif kind in ("name", "own") or token == "(":
                unit = unit * self.factor()
            else:
                return unit

    def factor(self) -> Unit:
        kind, token = self.next()
        if token == "(":
            unit = self.product()
            if self.next()[1] != ")":
                raise self.fail("the end", "')'")
        elif kind == "own":
            unit = Unit.of({token: Fraction(1)})
        elif kind == "number":
            unit = _scale(token, self.text)
        elif kind == "name":
            unit = _named(token, self.text)
        else:
            raise self.fail(repr(token), "a unit")
        if self.peek()[0] == "power":
            self.next()
            unit = unit ** self.exponent()
        return unit

    def exponent(self) -> Fraction:
        kind, token = self.next()
        if token == "(":
            above, slash = self.next(), self.next()
            if slash[1] == "/":
                below, slash = self.next(), self.next()
            else:
                below = ("number", "1")
            good = above[0] == below[0] == "number" and slash[1] == ")" and Fraction(below[1]) != 0
            if not good:
                raise self.fail(repr(token), "an exponent such as (1/2)")
            value = Fraction(above[1]) / Fraction(below[1])
        elif kind == "number":
            value = Fraction(token)
        else:
            raise self.fail(repr(token), "an exponent")
        if abs(value) > MAX_EXPONENT or value.denominator > MAX_EXPONENT:
            raise ParseError(f"unit {self.text!r}: exponent {value} is beyond {MAX_EXPONENT}")
        return value


def _scale(number: str, text: str) -> Unit:
    """Return the unit of a whole number: its prime factors."""
    if not number.isdigit() or not 0 < int(number) <= 10**12:
        raise ParseError(f"unit {text!r}: a scale is a whole number from 1 to 10**12, not {number}")
    left, powers, prime = int(number), dict[str, Fraction](), 2
    while left > 1:
        if prime * prime > left:
            prime = left
        if left % prime:
            prime += 1
            continue
        left //= prime
        powers[str(prime)] = powers.get(str(prime), Fraction(0)) + 1
    return Unit.of(powers)


def _named(name: str, text: str) -> Unit:
    """Return the unit of a name, with a prefix or without."""
    if name in _BASE:
        return Unit.of({name: Fraction(1)})
    for table in (_PREFIXED, _PLAIN):
        if name in table:
            return parse_unit(table[name])
    for prefix, exponent in PREFIXES.items():
        rest = name[len(prefix) :]
        if name.startswith(prefix) and rest in _PREFIXED:
            ten = Unit.of({"2": Fraction(exponent), "5": Fraction(exponent)})
            return ten * parse_unit(_PREFIXED[rest])
    raise UnknownName(
        f"unit {text!r}: no unit named {name!r}; SI units with prefixes, {', '.join(_PLAIN)}, or a name of "
        f"your own in brackets, [{name}]"
    )
