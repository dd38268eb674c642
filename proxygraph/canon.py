"""One meaning, one spelling: the canonical form.

Bottom-up, every operator is rebuilt by a constructor that knows its algebra: sums collect like terms, products
collect like factors, reductions let out what is constant within a group, and everything else goes through the
table in ``proxygraph.rules`` until no rule applies. The result depends on the meaning of the parts only, so that
many spellings meet in one key. No rewrite changes the axis of a part: ``w - w`` is one zero per element, ``0`` is
not, so it stays as written.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from proxygraph.dag import FINENESS, Dag, Node, elementwise_axis, op_nonneg, reachable
from proxygraph.leaves import COARSER, Axis
from proxygraph.ops import OPS
from proxygraph.patterns import Facts, Pattern, coarser, match, rewrite_rules

MAX_POWER = 16.0
MAX_PASSES = 8


def canonical(dag: Dag) -> Dag:
    """Return the canonical spelling of a formula.

    Wherever `dag` is finite, the result has the same value up to rounding; it may be finite in more places.
    ``canonical(canonical(d)) == canonical(d)``.

    Parameters
    ----------
    dag : Dag
        Any formula.

    Returns
    -------
    Dag
        Equal keys mean equal formulas.

    Examples
    --------
    >>> from proxygraph.infix import parse, text
    >>> print(text(canonical(parse("sum(sum(abs(2*g*w)))"))))
    2 * sum(l1(g * w))
    """
    # one pass is almost always a fixed point; now and then a rewrite opens the way for another one
    for _ in range(MAX_PASSES):
        build = _Builder(dag)
        ids: list[int] = []
        for node in dag.nodes:
            ids.append(build.node(node, [ids[j] for j in node.args]))
        following = Dag(reachable(build.nodes, ids[-1]), dag.leaves, root_axis=dag.axes[-1])
        if following.key == dag.key:
            return following
        dag = following
    return dag


class _Factors:
    """A product as coefficient and powers: ``coef * prod(base ** exponent)``."""

    def __init__(self) -> None:
        self.coef = 1.0
        self.powers: dict[int, float] = {}

    def multiply(self, base: int, exponent: float) -> None:
        total = self.powers.get(base, 0.0) + exponent
        if total == 0.0:
            del self.powers[base]
        else:
            self.powers[base] = total


class _Builder:
    """Hash-consed nodes and the constructors that keep them canonical."""

    def __init__(self, dag: Dag) -> None:
        self.leaves = dag.leaves
        self.nodes: list[Node] = []
        self.axes: list[Axis] = []
        self.nonneg: list[bool] = []
        self.order: list[tuple[int, int, str]] = []  # fineness, size as a tree, content hash
        self.index: dict[tuple[object, ...], int] = {}
        self.facts = Facts(self.nodes, self.axes, self.nonneg)

    # ---- nodes ----------------------------------------------------------------------------------------------

    def intern(self, node: Node) -> int:
        """Add a node as it is, arguments of commutative operators in order; equal nodes are one."""
        args = node.args
        if node.kind == "op" and OPS[node.name].commutative:
            args = tuple(sorted(args, key=self.order.__getitem__))
            node = Node("op", node.name, args)
        content = (node.kind, node.name, args, node.value.hex())
        if content in self.index:
            return self.index[content]
        if node.kind == "op":
            hashes = ",".join(self.order[j][2] for j in args)
            label, size = f"{node.name}({hashes})", 1 + sum(self.order[j][1] for j in args)
            axis = self.expected_axis(node.name, args)
            nonneg = op_nonneg(node.name, [self.nonneg[j] for j in args])
        elif node.kind == "leaf":
            leaf = self.leaves[node.name]
            label, size, axis, nonneg = f"leaf {node.name}", 1, leaf.axis, leaf.sign == "nonneg"
        else:
            label, size, axis, nonneg = node.value.hex(), 1, "row", node.value >= 0.0
        # leaves sort by name, everything else by content
        digest = label if node.kind == "leaf" else hashlib.blake2b(label.encode(), digest_size=12).hexdigest()
        self.index[content] = len(self.nodes)
        self.nodes.append(node)
        self.axes.append(axis)
        self.nonneg.append(nonneg)
        self.order.append((FINENESS[axis], size, digest))
        return len(self.nodes) - 1

    def const(self, value: float) -> int:
        return self.intern(Node("const", value=value + 0.0))  # + 0.0 turns -0.0 into 0.0

    def value(self, i: int) -> float | None:
        """The value of a constant node."""
        return self.nodes[i].value if self.nodes[i].kind == "const" else None

    def expected_axis(self, op: str, args: Sequence[int]) -> Axis:
        if OPS[op].kind == "reduction":
            return COARSER[self.axes[args[0]]]
        axis = elementwise_axis([self.axes[j] for j in args])
        assert axis is not None, "the Dag was checked"
        return axis

    def is_sum(self, i: int) -> bool:
        return self.nodes[i].kind == "op" and self.nodes[i].name in ("add", "sub")

    # ---- constructors ---------------------------------------------------------------------------------------

    def node(self, node: Node, args: Sequence[int]) -> int:
        """Rebuild a node of the given formula on canonical arguments."""
        if node.kind == "op":
            return self.make(node.name, args)
        return self.intern(node)

    def make(self, op: str, args: Sequence[int]) -> int:
        """Return the canonical form of ``op(*args)``; on the axis the operator has, or as written."""
        folded = self.fold(op, args)
        if folded is not None:
            return folded
        special = _CONSTRUCTORS.get(op)
        if OPS[op].kind == "reduction":
            result = self.reduction(op, args[0])
        elif special is not None:
            result = special(self, *args)
        else:
            result = self.apply(op, args)
        if self.axes[result] != self.expected_axis(op, args):
            return self.intern(Node("op", op, tuple(args)))
        return result

    def fold(self, op: str, args: Sequence[int]) -> int | None:
        """The value of an operator on constants, if it is finite."""
        if OPS[op].kind == "reduction" or any(self.nodes[j].kind != "const" for j in args):
            return None
        with np.errstate(all="ignore"):
            value = float(OPS[op].numpy(np, *(np.float64(self.nodes[j].value) for j in args)))
        return self.const(value) if math.isfinite(value) else None

    def apply(self, op: str, args: Sequence[int]) -> int:
        """Apply the first rule that fits, else keep the operator."""
        for lhs, rhs in rewrite_rules().get(op, ()):
            bound = match(lhs, op, args, self.facts)
            if bound is not None:
                return self.instance(rhs, bound)
        return self.intern(Node("op", op, tuple(args)))

    def instance(self, pattern: Pattern, bound: dict[str, int]) -> int:
        if pattern.letter:
            return bound[pattern.letter]
        if not pattern.op:
            return self.const(pattern.value)
        return self.make(pattern.op, [self.instance(p, bound) for p in pattern.args])

    # ---- sums -----------------------------------------------------------------------------------------------

    def terms(self, parts: Sequence[tuple[float, int]]) -> tuple[float, dict[int, float]]:
        """Flatten a sum: its constant and the coefficient of every other term."""
        constant = 0.0
        coefs: dict[int, float] = {}
        stack = list(parts)
        while stack:
            coef, i = stack.pop()
            node = self.nodes[i]
            if node.kind == "const":
                constant += coef * node.value
            elif self.is_sum(i):
                left, right = node.args
                stack += [(coef, left), (-coef if node.name == "sub" else coef, right)]
            else:
                inner, rest = self.coefficient(i)
                if self.is_sum(rest) and abs(inner) == 1.0:
                    stack.append((coef * inner, rest))
                else:
                    coefs[rest] = coefs.get(rest, 0.0) + coef * inner
        return constant, {i: c for i, c in coefs.items() if c != 0.0}

    def coefficient(self, i: int) -> tuple[float, int]:
        """Split ``c * rest``."""
        node = self.nodes[i]
        if node.kind == "op":
            if node.name == "neg":
                return -1.0, node.args[0]
            if node.name in ("mul", "div"):
                for slot in (0, 1) if node.name == "mul" else (0,):
                    value = self.value(node.args[slot])
                    if value is not None:
                        rest = node.args[1 - slot]
                        return value, rest if node.name == "mul" else self.intern(Node("op", "inv", (rest,)))
        return 1.0, i

    def sum(self, parts: Sequence[tuple[float, int]]) -> int:
        """Collect like terms; coarse terms are added first, so that they are added once per group."""
        constant, coefs = self.terms(parts)
        coefs = self.merge_logs(coefs)
        by_level: dict[int, list[tuple[float, int]]] = {0: []}
        for i, coef in coefs.items():
            by_level.setdefault(self.order[i][0], []).append((coef, i))
        sign, total = 1.0, -1
        for level in sorted(by_level):
            plus = sorted((self.scaled(c, i) for c, i in by_level[level] if c > 0), key=self.order.__getitem__)
            minus = sorted((self.scaled(-c, i) for c, i in by_level[level] if c < 0), key=self.order.__getitem__)
            if level == 0 and constant:
                (plus if constant > 0 else minus).append(self.const(abs(constant)))
            if total >= 0:
                (plus if sign > 0 else minus).insert(0, total)
            if not plus and not minus:
                continue
            first, *more = plus or minus
            for j in more:
                first = self.intern(Node("op", "add", (first, j)))
            for j in minus if plus else ():
                first = self.intern(Node("op", "sub", (first, j)))
            sign, total = (1.0 if plus else -1.0), first
        if total < 0:
            return self.const(0.0)
        if sign > 0:
            return total
        return self.intern(Node("op", "neg", (total,))) if self.is_sum(total) else self.scaled(-1.0, total)

    def merge_logs(self, coefs: dict[int, float]) -> dict[int, float]:
        """``log(a) + log(b) - log(c)`` is ``log(a * b / c)``, on each axis."""
        logs: dict[Axis, list[int]] = {}
        for i, coef in coefs.items():
            if self.nodes[i].kind == "op" and self.nodes[i].name == "log" and abs(coef) == 1.0:
                logs.setdefault(self.axes[i], []).append(i)
        for group in logs.values():
            if len(group) < 2:
                continue
            factors = _Factors()
            for i in group:
                self.factor(factors, self.nodes[i].args[0], coefs.pop(i))
            merged = self.make("log", [self.product(factors)])
            constant, more = self.terms([(1.0, merged)])
            if constant:  # a constant logarithm: leave it to the next pass
                more[merged] = 1.0
            for j, c in more.items():
                coefs[j] = coefs.get(j, 0.0) + c
        return {i: c for i, c in coefs.items() if c != 0.0}

    def scaled(self, coef: float, i: int) -> int:
        """Return ``coef * i``, where `i` is no sum to be negated into itself."""
        inner, rest = self.coefficient(i)
        coef *= inner
        value = self.value(rest)
        if value is not None:
            return self.const(coef * value)
        if coef == 0.0 or not math.isfinite(coef):
            return self.intern(Node("op", "mul", (self.const(0.0 if coef == 0.0 else inner), i)))
        if coef == 1.0:
            return rest
        node = self.nodes[rest]
        if coef == -1.0:
            if self.is_sum(rest):
                return self.sum([(-1.0, rest)])
            if node.kind == "op" and node.name in _ODD and self.is_sum(node.args[0]):
                negated = self.sum([(-1.0, node.args[0])])
                if self.is_sum(negated):  # b - a, not -(a + b)
                    return self.make(node.name, [negated])
            return self.intern(Node("op", "neg", (rest,)))
        if node.kind == "op" and node.name == "inv":
            return self.intern(Node("op", "div", (self.const(coef), node.args[0])))
        return self.intern(Node("op", "mul", (self.const(coef), rest)))

    # ---- products -------------------------------------------------------------------------------------------

    def factor(self, out: _Factors, i: int, exponent: float) -> None:
        """Multiply ``i ** exponent`` into `out`, taken apart as far as that is true for all arguments.

        With an integer exponent everything may be taken apart. With half an odd number the value is finite only
        if the base is >= 0, so products are taken apart only if every factor is known to be >= 0.
        """
        stack = [(i, exponent)]
        while stack:
            i, e = stack.pop()
            node, whole = self.nodes[i], e.is_integer()
            name = node.name if node.kind == "op" else node.kind
            if name == "const" and self.fold_power(out, node.value, e):
                continue
            if name == "neg" and whole:
                out.coef *= -1.0 if e % 2 else 1.0
                stack.append((node.args[0], e))
            elif name in ("mul", "div") and (whole or all(self.nonneg[j] for j in node.args)):
                stack += [(node.args[0], e), (node.args[1], e if name == "mul" else -e)]
            elif name == "inv":
                stack.append((node.args[0], -e))
            elif name in _POWERS and (2.0 * e * self.power_of(node)).is_integer():
                power = self.power_of(node)
                even = power.is_integer() and power % 2 == 0
                base = node.args[0] if whole or not even else self.make("abs", [node.args[0]])
                stack.append((base, e * power))
            elif whole and self.is_sum(i) and self.leading_sign(i) < 0:
                out.coef *= -1.0 if e % 2 else 1.0
                out.multiply(self.sum([(-1.0, i)]), e)
            elif name == "exp" and self.half_coefficient(node.args[0]) != 1.0:
                coef, rest = self.coefficient(node.args[0])
                stack.append((self.make("exp", [rest]), coef * e))
            else:
                out.multiply(i, e)

    def fold_power(self, out: _Factors, value: float, exponent: float) -> bool:
        """Multiply a constant power into the coefficient, if it and the result are finite."""
        if (value < 0.0 and not exponent.is_integer()) or (value == 0.0 and exponent < 0.0):
            return False
        coef = out.coef * value**exponent
        if math.isfinite(coef):
            out.coef = coef
        return math.isfinite(coef)

    def power_of(self, node: Node) -> float:
        value = self.value(node.args[1]) if node.name == "pow" else _POWERS[node.name]
        assert value is not None, "a checked pow has a constant exponent"
        return value

    def leading_sign(self, i: int) -> float:
        """Sign of a sum's first term: a - b and b - a are one base in a product."""
        _, coefs = self.terms([(1.0, i)])
        first = min(coefs, key=self.order.__getitem__, default=None)
        return 1.0 if first is None or coefs[first] > 0 else -1.0

    def product(self, factors: _Factors) -> int:
        """Write a product down: coarse factors first, so that they are multiplied once per group."""
        self.merge_factors(factors)
        coef = self.absorb_sign(factors) if len(factors.powers) > 1 else factors.coef
        over, total = True, -1
        for level in sorted({self.order[i][0] for i in factors.powers}):
            powers = [(i, e) for i, e in factors.powers.items() if self.order[i][0] == level]
            above = sorted((j for i, e in powers if e > 0 for j in self.power(i, e)), key=self.order.__getitem__)
            below = sorted((j for i, e in powers if e < 0 for j in self.power(i, -e)), key=self.order.__getitem__)
            if total >= 0:
                (above if over else below).insert(0, total)
            first, *more = above or below
            for j in more:
                first = self.apply("mul", (first, j))
            if above and below:
                bottom, *more = below
                for j in more:
                    bottom = self.apply("mul", (bottom, j))
                first = self.intern(Node("op", "div", (first, bottom)))
            over, total = bool(above), first
        if total < 0:
            return self.const(coef)
        if not over:
            total = self.intern(Node("op", "inv", (total,)))
        return self.scaled(coef, total)

    def absorb_sign(self, factors: _Factors) -> float:
        """Let a sum in the product take a negative sign: ``-(a - b) * c`` is ``(b - a) * c``."""
        if factors.coef >= 0.0:
            return factors.coef
        sums = [i for i, e in factors.powers.items() if e % 2 == 1 and self.is_sum(i)]
        if not sums:
            return factors.coef
        first = min(sums, key=self.order.__getitem__)
        exponent = factors.powers.pop(first)
        factors.multiply(self.sum([(-1.0, first)]), exponent)
        return -factors.coef

    def merge_factors(self, factors: _Factors) -> None:
        """Even powers forget absolute values and roots; absolute values and exponentials of one axis become one."""
        for i, e in list(factors.powers.items()):
            if e % 2 == 0 and (self.is_call(i, "abs") or self.is_call(i, "l2")):
                del factors.powers[i]
                inside = self.nodes[i].args[0]
                if self.is_call(i, "abs"):
                    self.factor(factors, inside, e)
                else:
                    self.factor(factors, self.make("sum", [self.make("square", [inside])]), e / 2.0)
        for axis in {self.axes[i] for i in factors.powers}:
            group = [i for i, e in factors.powers.items() if self.is_call(i, "abs") and self.axes[i] == axis and e % 2 == 1]
            if len(group) > 1:
                inside = _Factors()
                for i in group:
                    self.factor(inside, self.nodes[i].args[0], factors.powers.pop(i))
                self.factor(factors, self.make("abs", [self.product(inside)]), 1.0)
            group = [i for i in factors.powers if self.is_call(i, "exp") and self.axes[i] == axis]
            if len(group) > 1:
                total = self.sum([(factors.powers.pop(i), self.nodes[i].args[0]) for i in group])
                self.factor(factors, self.make("exp", [total]), 1.0)

    def is_call(self, i: int, name: str) -> bool:
        return self.nodes[i].kind == "op" and self.nodes[i].name == name

    def power(self, base: int, exponent: float) -> list[int]:
        """Return factors whose product is ``base ** exponent``, exponent > 0; more than one beyond the limit of pow."""
        node = self.nodes[base]
        if self.is_call(base, "sum") and self.is_call(node.args[0], "square") and not exponent.is_integer():
            base, exponent = self.apply("l2", (self.nodes[node.args[0]].args[0],)), 2.0 * exponent
        factors = []
        while exponent > MAX_POWER:
            factors.append(self.intern(Node("op", "pow", (base, self.const(MAX_POWER)))))
            exponent -= MAX_POWER
        if exponent == 1.0:
            return [*factors, base]
        for name, power in _POWERS.items():
            if exponent == power:
                return [*factors, self.apply(name, (base,))]
        return [*factors, self.apply("pow", (base, self.const(exponent)))]

    # ---- other operators ------------------------------------------------------------------------------------

    def extremum(self, op: str, args: Sequence[int]) -> int:
        """Flatten nested max (or min), drop repetitions, fold constants."""
        found: set[int] = set()
        stack = list(args)
        while stack:
            i = stack.pop()
            if self.is_call(i, op):
                stack += self.nodes[i].args
            else:
                found.add(i)
        constants = [v for i in found if (v := self.value(i)) is not None]
        if len(constants) > 1:
            found = {i for i in found if self.value(i) is None}
            found.add(self.const(max(constants) if op == "maximum" else min(constants)))
        first, *more = sorted(found, key=self.order.__getitem__)
        for j in more:
            first = self.apply(op, (first, j))
        return first

    def half_coefficient(self, i: int) -> float:
        """The constant factor of `i` if it is a power that `pow` can write, else 1."""
        coef, _ = self.coefficient(i)
        return coef if (2.0 * coef).is_integer() and 0.0 < abs(coef) <= MAX_POWER else 1.0

    def split(self, i: int, take: Callable[[int, float], bool], signed: bool) -> tuple[_Factors, _Factors]:
        """Split a product into the powers that `take` accepts, with the coefficient, and the others.

        If the sign matters (`signed`), a sum takes it when it can, so that none has to be let out.
        """
        outer, inner = _Factors(), _Factors()
        every = _Factors()
        self.factor(every, i, 1.0)
        self.merge_factors(every)
        outer.coef = self.absorb_sign(every) if signed else abs(every.coef)
        for base, e in every.powers.items():
            (outer if take(base, e) else inner).multiply(base, e)
        return outer, inner

    def known_nonneg(self, base: int, exponent: float) -> bool:
        return self.nonneg[base] or exponent % 2 != 1

    def absolute(self, i: int) -> int:
        """Let out of ``abs`` what is >= 0 or coarser."""
        axis = self.axes[i]
        outer, inner = self.split(
            i, lambda b, e: self.known_nonneg(b, e) or coarser(self.axes[b], axis), signed=False
        )
        if not outer.powers and outer.coef == 1.0:
            if len(inner.powers) == 1:
                ((base, e),) = inner.powers.items()
                if e != 1.0:
                    lone = _Factors()
                    lone.multiply(self.make("abs", [base]), e)
                    return self.product(lone)
            return self.apply("abs", (self.product(inner),))
        result = _Factors()
        result.coef = outer.coef
        for base, e in outer.powers.items():
            self.factor(result, base if self.known_nonneg(base, e) else self.make("abs", [base]), e)
        if inner.powers:
            self.factor(result, self.make("abs", [self.product(inner)]), 1.0)
        return self.product(result)

    def upright(self, i: int) -> int:
        """A sum up to its sign, for functions that do not see it."""
        return self.sum([(-1.0, i)]) if self.is_sum(i) and self.leading_sign(i) < 0 else i

    def reduction(self, op: str, i: int) -> int:
        """Let out of a reduction what is constant within each group."""
        if op == "count":
            return self.intern(Node("op", op, (self.representative(i),)))
        axis = self.axes[i]
        if op in _LINEAR | _HOMOGENEOUS | _MONOTONE:
            outer, inner = self.split(
                i,
                lambda b, e: coarser(self.axes[b], axis) and (op not in _MONOTONE or self.known_nonneg(b, e)),
                signed=op not in _HOMOGENEOUS,
            )
            core = self.product(inner)
            if inner.powers and (outer.powers or outer.coef != 1.0):
                return self.let_out(op, outer, core)
            if inner.powers:
                i = core
        if op in _SHIFTED:
            constant, coefs = self.terms([(1.0, i)])
            outside = [(c, j) for j, c in coefs.items() if coarser(self.axes[j], axis)]
            inside = [(c, j) for j, c in coefs.items() if not coarser(self.axes[j], axis)]
            if inside and (outside or constant):
                core = self.make(op, [self.sum(inside)])
                return core if op == "std" else self.sum([(1.0, core), (constant, self.const(1.0)), *outside])
        return self.apply(op, (i,))

    def let_out(self, op: str, outer: _Factors, inner: int) -> int:
        result = _Factors()
        result.coef = outer.coef
        if op in _MONOTONE and outer.coef < 0.0:
            op = "min" if op == "max" else "max"
        for base, e in outer.powers.items():
            keep = op not in _HOMOGENEOUS or self.known_nonneg(base, e)
            self.factor(result, base if keep else self.make("abs", [base]), e)
        self.factor(result, self.make(op, [inner]), 1.0)
        return self.product(result)

    def representative(self, i: int) -> int:
        """The first leaf on the axis of `i` below it: count() sees only the axis."""
        below = {i}
        for j in range(i, -1, -1):
            if j in below:
                below.update(self.nodes[j].args)
        on_axis = [j for j in below if self.nodes[j].kind == "leaf" and self.axes[j] == self.axes[i]]
        # a layer value made by reductions alone has no layer leaf below it; then it stays
        return min(on_axis, key=self.order.__getitem__, default=i)

    # ---- operators with a constructor of their own ----------------------------------------------------------

    def times(self, parts: Sequence[tuple[int, float]]) -> int:
        factors = _Factors()
        for i, e in parts:
            self.factor(factors, i, e)
        return self.product(factors)

    def logarithm(self, i: int) -> int:
        """``log(1 + a)`` is log1p(a)."""
        if self.is_sum(i):
            constant, coefs = self.terms([(1.0, i)])
            if constant == 1.0:
                return self.make("log1p", [self.sum([(c, j) for j, c in coefs.items()])])
        return self.apply("log", (i,))

    def exponential(self, i: int) -> int:
        """``exp(c * a)`` is a power of exp(a) where `pow` can write it."""
        coef = self.half_coefficient(i)
        if coef == 1.0:
            return self.apply("exp", (i,))
        return self.times([(self.make("exp", [self.coefficient(i)[1]]), coef)])

    def signum(self, i: int) -> int:
        coef, rest = self.coefficient(i)
        inner = self.apply("sign", (rest,))
        return self.scaled(-1.0, inner) if coef < 0.0 else inner

    def rectified(self, i: int) -> int:
        coef, rest = self.coefficient(i)
        if coef > 0.0 and coef != 1.0:
            return self.scaled(coef, self.make("relu", [rest]))
        return self.apply("relu", (i,))

    def power_node(self, base: int, exponent: int) -> int:
        value = self.value(exponent)
        assert value is not None, "a checked pow has a constant exponent"
        if value == 0.0:  # IEEE: a**0 is 1 for every a, also where a is not finite; we keep to finite a
            return self.const(1.0)
        return self.times([(base, value)])


_POWERS = {"square": 2.0, "cube": 3.0, "sqrt": 0.5, "pow": math.nan}
_ODD = frozenset({"tanh", "sin", "sign"})
_LINEAR = frozenset({"sum", "mean"})
_HOMOGENEOUS = frozenset({"std", "l1", "l2"})
_MONOTONE = frozenset({"max", "min"})
_SHIFTED = frozenset({"mean", "std", "max", "min"})

_CONSTRUCTORS: dict[str, Callable[..., int]] = {
    "add": lambda b, i, j: b.sum([(1.0, i), (1.0, j)]),
    "sub": lambda b, i, j: b.sum([(1.0, i), (-1.0, j)]),
    "neg": lambda b, i: b.sum([(-1.0, i)]),
    "mul": lambda b, i, j: b.times([(i, 1.0), (j, 1.0)]),
    "div": lambda b, i, j: b.times([(i, 1.0), (j, -1.0)]),
    "inv": lambda b, i: b.times([(i, -1.0)]),
    "square": lambda b, i: b.times([(i, 2.0)]),
    "cube": lambda b, i: b.times([(i, 3.0)]),
    "sqrt": lambda b, i: b.times([(i, 0.5)]),
    "pow": _Builder.power_node,
    "maximum": lambda b, i, j: b.extremum("maximum", (i, j)),
    "minimum": lambda b, i, j: b.extremum("minimum", (i, j)),
    "abs": _Builder.absolute,
    "log": _Builder.logarithm,
    "exp": _Builder.exponential,
    "sign": _Builder.signum,
    "relu": _Builder.rectified,
    "cos": lambda b, i: b.apply("cos", (b.upright(i),)),
}
