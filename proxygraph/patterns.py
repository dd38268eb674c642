"""The rule table read into patterns, and how a pattern meets a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from proxygraph.dag import FINENESS, Node
from proxygraph.infix import parse
from proxygraph.leaves import Axis, Leaf
from proxygraph.ops import OPS
from proxygraph.rules import RULES

# any axis that can be reduced does; a rule is about shapes of formulas, not about a particular axis
LETTERS: Mapping[str, Leaf] = {
    c: Leaf(c, "row" if c in "sr" else "layer", "nonneg" if c in "pqrk" else "any") for c in "abcpqknxsr"
}
EXPONENT = 3.5  # stands for the letter n while a rule is parsed: pow wants a constant


@dataclass(frozen=True, slots=True)
class Pattern:
    """A side of a rule: a letter, a constant, or an operator over patterns."""

    letter: str = ""
    value: float = 0.0
    op: str = ""
    args: tuple[Pattern, ...] = ()


@cache
def rewrite_rules() -> Mapping[str, tuple[tuple[Pattern, Pattern], ...]]:
    """Return the rule table as patterns, by the operator at the top of the left side."""
    by_top: dict[str, list[tuple[Pattern, Pattern]]] = {}
    for rule in RULES:
        lhs, rhs = read_pattern(rule.lhs), read_pattern(rule.rhs)
        by_top.setdefault(lhs.op, []).append((lhs, rhs))
    return {top: tuple(rows) for top, rows in by_top.items()}


@cache
def rules_for(op: str, kinds: tuple[str, ...]) -> tuple[tuple[Pattern, Pattern], ...]:
    """Return the rules that may fit operator `op` on arguments of these kinds (operator, "leaf", "const")."""

    def may_fit(pattern: Pattern) -> bool:
        wanted = [p.op or "const" for p in pattern.args if not p.letter]
        return all(wanted.count(kind) <= kinds.count(kind) for kind in wanted)

    return tuple((lhs, rhs) for lhs, rhs in rewrite_rules().get(op, ()) if may_fit(lhs))


def read_pattern(text: str) -> Pattern:
    """Read one side of a rule."""
    built: list[Pattern] = []
    for node in parse(text.replace("**n", f"**{EXPONENT}"), LETTERS, root_axis=None).nodes:
        if node.kind == "leaf":
            built.append(Pattern(letter=node.name))
        elif node.kind == "const":
            built.append(Pattern(letter="n") if node.value == EXPONENT else Pattern(value=node.value))
        else:
            built.append(Pattern(op=node.name, args=tuple(built[j] for j in node.args)))
    return built[-1]


@dataclass(frozen=True, slots=True)
class Facts:
    """What matching needs to know about the nodes of a graph under construction."""

    nodes: Sequence[Node]
    axes: Sequence[Axis]
    nonneg: Sequence[bool]


def match(pattern: Pattern, op: str, args: Sequence[int], facts: Facts) -> dict[str, int] | None:
    """Return what each letter stands for if operator `op` on the nodes `args` has the shape of `pattern`."""
    if pattern.op != op or len(pattern.args) != len(args):
        return None
    orders = [args, args[::-1]] if OPS[op].commutative else [args]
    for order in orders:
        bound: dict[str, int] = {}
        if all(_bind(p, i, facts, bound) for p, i in zip(pattern.args, order, strict=True)):
            return bound
    return None


def _bind(pattern: Pattern, i: int, facts: Facts, bound: dict[str, int]) -> bool:
    node = facts.nodes[i]
    if pattern.letter:
        if pattern.letter in bound:
            return bound[pattern.letter] == i
        if not _LETTER_FITS.get(pattern.letter, _anything)(i, facts):
            return False
        bound[pattern.letter] = i
        return True
    if not pattern.op:
        return node.kind == "const" and node.value == pattern.value
    if node.kind != "op":
        return False
    if node.name != pattern.op:
        return False
    orders = [node.args, node.args[::-1]] if OPS[node.name].commutative else [node.args]
    for order in orders:
        trial = dict(bound)
        if all(_bind(p, j, facts, trial) for p, j in zip(pattern.args, order, strict=True)):
            bound.update(trial)
            return True
    return False


def _anything(i: int, facts: Facts) -> bool:
    return True


def _is_nonneg(i: int, facts: Facts) -> bool:
    return facts.nonneg[i]


def _is_odd_exponent(i: int, facts: Facts) -> bool:
    node = facts.nodes[i]
    return node.kind == "const" and (not node.value.is_integer() or node.value % 2 == 1)


_LETTER_FITS: Mapping[str, Callable[[int, Facts], bool]] = {
    "p": _is_nonneg,
    "q": _is_nonneg,
    "n": _is_odd_exponent,
}


def coarser(axis: Axis, than: Axis) -> bool:
    """Whether a value on `axis` is constant within each group that `than` is reduced over."""
    return FINENESS[axis] < FINENESS[than]
