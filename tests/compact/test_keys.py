"""Keys of trees: equal exactly where the tidy trees are, and tidying changes no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.compact.breed import choices
from proxygraph.compact.forest import Forest, Vocabulary, check_trees
from proxygraph.compact.keys import EMPTY, KeySet
from proxygraph.dag import Dag, Node
from proxygraph.infix import parse, text
from proxygraph.leaves import STATISTICS
from proxygraph.ops import BUILTIN, OPS, Op, register, unregister
from proxygraph.program import lower
from tests.compact.trees import bred, dags_of, spellings, tidied, written
from tests.numeric import all_finite, disagreement
from tests.strategies import dags, random_dag, random_table

FEW = {name: STATISTICS[name] for name in ("w", "numel", "params")}
WORDS, FEW_WORDS = Vocabulary.of(STATISTICS), Vocabulary.of(FEW)
FOLDED = ("neg", "abs", "inv", "square", "cube", "sqrt", "relu", "sign")
PLAIN = (*FOLDED, "add", "sub", "mul", "div", "maximum", "minimum", "pow", "sum", "tanh")


class Degenerate(Exception):
    """A part is constant without being a constant."""


# ---- the rules once more, on nested tuples: what arrays must do ------------------------------------------

Tree = tuple[Any, ...]


def value_of(op: str, *args: float) -> float:
    with np.errstate(all="ignore"):
        return float(OPS[op].numpy(np, *map(np.float64, args))) + 0.0


def folded(op: str, *args: float) -> Tree:
    value = value_of(op, *args) if op in PLAIN[:-3] else np.nan
    if not np.isfinite(value):
        raise Degenerate
    return ("const", value)


def unary(op: str, exponent: float | None, a: Tree) -> Tree:
    if a[0] == "const":
        return folded(op, a[1])
    if (op == a[0] and op in ("abs", "relu", "sign")) or (op, a[0]) == ("abs", "square") or exponent == 1.0:
        return a
    if op == a[0] and op in ("neg", "inv"):
        return a[2]
    if op in ("abs", "square") and a[0] in ("neg", "abs"):
        return unary(op, None, a[2])
    return (op, exponent, a)


def binary(op: str, a: Tree, b: Tree) -> Tree:
    if a[0] == b[0] == "const":
        return folded(op, a[1], b[1])
    if a == b and op in ("sub", "div"):
        raise Degenerate
    if a == b and op in ("maximum", "minimum"):
        return a
    for one, other, right in ((a, b, False), (b, a, True)):
        if one[0] == "const":
            if (op == "add" or (op == "sub" and right)) and one[1] == 0.0:
                return other
            if (op == "mul" or (op == "div" and right)) and one[1] == 1.0:
                return other
            if op in ("mul", "div") and one[1] == 0.0:
                raise Degenerate
    return (op, None, *(sorted((a, b), key=repr) if OPS[op].commutative else (a, b)))


def simplest(dag: Dag, i: int) -> Tree:
    """The simplest spelling of part `i`, commutative arguments in some fixed order."""
    node = dag.nodes[i]
    if node.kind == "const":
        return ("const", node.value + 0.0)
    if node.kind == "leaf":
        return ("leaf", node.name)
    first = simplest(dag, node.args[0])
    if node.name == "pow":
        return unary("pow", dag.nodes[node.args[1]].value, first)
    if len(node.args) == 1:
        return unary(node.name, None, first)
    return binary(node.name, first, simplest(dag, node.args[1]))


def simplified(dag: Dag) -> Tree | None:
    try:
        made = simplest(dag, len(dag.nodes) - 1)
    except Degenerate:
        return None
    return None if made[0] == "const" else made


def as_dag(tree: Tree) -> Dag:
    nodes: list[Node] = []

    def walk(tree: Tree) -> int:
        if tree[0] == "const":
            nodes.append(Node("const", value=tree[1]))
        elif tree[0] == "leaf":
            nodes.append(Node("leaf", tree[1]))
        else:
            args = [walk(arg) for arg in tree[2:]]
            if tree[1] is not None:
                nodes.append(Node("const", value=tree[1]))
                args.append(len(nodes) - 1)
            nodes.append(Node("op", tree[0], tuple(args)))
        return len(nodes) - 1

    walk(tree)
    return Dag(nodes)


def population(seed: int, n: int) -> list[Dag]:
    """Formulas full of what is simplified: few leaves, few operators, zeros and ones; and bred ones."""
    rng = np.random.default_rng(seed)
    made = [random_dag(rng, FEW, max_ops=3 + i % 12, ops=PLAIN) for i in range(n)]
    have = choices(FEW_WORDS, sorted(BUILTIN), 14, constants=(0.0, 1.0, -1.0, 2.0, -0.0, 5e-324, 1e300))
    return made + dags_of(bred(have, n, seed=seed)[0], FEW_WORDS)


# ---- the promises ----------------------------------------------------------------------------------------


def test_keys_are_equal_exactly_where_the_simplest_spellings_are():
    made = population(1, 3000)
    forest = written(made, FEW_WORDS)
    keys, sizes = tidied(forest, FEW_WORDS)
    spelling: dict[int, Tree] = {}
    by_spelling: dict[Tree, int] = {}
    simplified_trees = 0
    for i, dag in enumerate(made):
        expected = simplified(dag)
        assert (keys[i] == EMPTY) == (expected is None), text(dag)
        if expected is None:
            assert sizes[i] == 0
            continue
        assert spelling.setdefault(int(keys[i]), expected) == expected
        assert by_spelling.setdefault(expected, int(keys[i])) == keys[i], text(dag)
        back = as_dag(expected)
        assert dags_of(forest.take([i]), FEW_WORDS)[0] == back, text(dag)
        assert sizes[i] == back.size
        simplified_trees += back.size < dag.size
    assert simplified_trees > 500
    assert len(spelling) < 0.9 * (keys != EMPTY).sum()  # there were equal ones
    assert (keys == EMPTY).sum() > 100


def test_tidying_changes_no_finite_value():
    rng = np.random.default_rng(3)
    samples = [random_table(rng, n_rows=8, extreme=i % 2 == 1) for i in range(4)]
    made = [*population(2, 250), *(random_dag(rng) for _ in range(300))]
    forest = written(made, WORDS)
    keys, _ = tidied(forest, WORDS)
    asked = 0
    for i, dag in enumerate(made):
        if keys[i] != EMPTY:
            (after,) = dags_of(forest.take([i]), WORDS)
            wrong = disagreement(dag, after, samples[i % 4])
            assert wrong is None, f"{text(dag)} became {text(after)}: {wrong}"
            asked += int(all_finite(lower([dag]), samples[i % 4]).sum())
    assert asked > 0.3 * 8 * len(made)


@given(dags())
def test_tidy_trees_are_trees_and_stay(dag: Dag):
    forest = written([dag], WORDS)
    keys, sizes = tidied(forest, WORDS)
    assert (keys[0] == EMPTY) == (simplified(dag) is None)
    if keys[0] != EMPTY:
        check_trees(forest, len(WORDS.names))
        assert sizes[0] == dags_of(forest, WORDS)[0].size
        before = spellings(forest)
        again, again_sizes = tidied(forest, WORDS)
        assert spellings(forest) == before
        assert again[0] == keys[0]
        assert again_sizes[0] == sizes[0]


def swapped(dag: Dag, flips: list[bool]) -> Dag:
    nodes = []
    for i, node in enumerate(dag.nodes):
        flip = node.kind == "op" and OPS[node.name].commutative and flips[i % len(flips)]
        nodes.append(Node(node.kind, node.name, node.args[::-1] if flip else node.args, node.value))
    return Dag(nodes, dag.leaves)


@given(dags(), st.lists(st.booleans(), min_size=1, max_size=8))
def test_the_order_of_commutative_arguments_means_nothing(dag: Dag, flips: list[bool]):
    forest = written([dag, swapped(dag, flips)], WORDS)
    keys, sizes = tidied(forest, WORDS)
    assert keys[0] == keys[1]
    assert sizes[0] == sizes[1]
    if keys[0] != EMPTY:
        assert len(set(spellings(forest))) == 1


def test_the_share_of_the_work_means_nothing():
    made = population(4, 200)
    whole, parts = written(made, FEW_WORDS), written(made, FEW_WORDS)
    expected = tidied(whole, FEW_WORDS)
    for a, b in ((150, 400), (0, 37), (37, 150)):
        share = Forest(*(array[a:b] for array in parts))  # views: in place
        keys, sizes = tidied(share, FEW_WORDS)
        np.testing.assert_array_equal(keys, expected[0][a:b])
        np.testing.assert_array_equal(sizes, expected[1][a:b])
    assert spellings(parts.take(keys_kept := expected[0] != EMPTY)) == spellings(whole.take(keys_kept))


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("--params", "params"),
        ("abs(-abs(-(params - zen)))", "abs(params - zen)"),
        ("square(-abs(zen))", "square(zen)"),
        ("abs(square(zen))", "square(zen)"),
        ("inv(inv(zen)) ** 1", "zen"),
        ("relu(relu(sign(sign(zen))))", "relu(sign(zen))"),
        ("(zen + 0) * 1 - 0", "zen"),
        ("zen / 1", "zen"),
        ("0 + 1 * zen", "zen"),
        ("0 - zen", "0 - zen"),
        ("1 / zen", "1 / zen"),
        ("max(zen, min(zen, zen))", "zen"),
        ("zen * (2 + 3 * 4)", "14 * zen"),
        ("zen * sqrt(16) - cube(2) + relu(-1)", "4 * zen - 8"),
        ("sum(sum(-(-w))) / 1", "sum(sum(w))"),
        ("zen - zen", ""),
        ("zen * zen / (zen * zen)", ""),
        ("sum(exp(sum(w - w)))", ""),
        ("0 * zen", ""),
        ("zen / 0", ""),
        ("0 / zen", ""),
        ("params + 1 / 0", ""),
        ("params + log(2)", ""),
        ("3", ""),
        ("1 + 2", ""),
    ],
)
def test_spelled(formula: str, expected: str):
    forest = written([parse(formula)], WORDS)
    keys, sizes = tidied(forest, WORDS)
    if expected:
        assert dags_of(forest, WORDS)[0] == parse(expected)
        assert sizes[0] == parse(expected).size
        assert keys[0] == tidied(written([parse(expected)], WORDS), WORDS)[0][0] != EMPTY
    else:
        assert keys[0] == EMPTY
        assert sizes[0] == 0


def test_the_two_zeros_are_one_and_neighbours_are_two():
    numbers = [0.0, -0.0, 5e-324, -5e-324, 1.0, float(np.nextafter(1.0, 2.0)), 1e308]
    nodes = [[Node("leaf", "zen"), Node("const", value=v), Node("op", "maximum", (0, 1))] for v in numbers]
    keys, _ = tidied(written([Dag(n) for n in nodes], WORDS), WORDS)
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == len(numbers) - 1


def test_exponents_tell_powers_apart():
    keys, sizes = tidied(written([parse(f"zen ** {e}") for e in (0, 0.5, 2, 3, -2)], WORDS), WORDS)
    assert len(set(keys.tolist())) == 5
    assert sizes.tolist() == [3] * 5


def test_user_operators():
    register(Op("hypot", 2, "elementwise", lambda np, a, b: np.hypot(a, b), commutative=True))
    register(Op("lean", 2, "elementwise", lambda np, a, b: a - 0.5 * b))
    try:
        words = Vocabulary.of(STATISTICS)
        made = [parse(f) for f in ("hypot(zen, params)", "hypot(params, zen)", "lean(zen, params)")]
        made += [parse(f) for f in ("lean(params, zen)", "lean(zen, zen)", "lean(2, 3) + zen")]
        keys, _ = tidied(written(made, words), words)
        assert keys[0] == keys[1]
        assert len({*keys[1:5].tolist()}) == 4
        assert EMPTY not in keys[:5]
        assert keys[5] == EMPTY
    finally:
        unregister("hypot")
        unregister("lean")


# ---- sets of keys ----------------------------------------------------------------------------------------


class Model:
    """The same as `KeySet`, with a dictionary."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.least = capacity, dict[int, int]()

    def add(self, keys: np.ndarray, sizes: np.ndarray) -> list[bool]:
        least = dict(self.least)
        new = []
        for key, size in zip(keys.tolist(), np.minimum(sizes, 255).tolist(), strict=True):
            new.append(key != 0 and size < least.get(key, 1000))
            if new[-1]:
                least[key] = size
        if len(self.least) + len(keys) <= self.capacity:
            self.least = least
        return new


def check(batches: list[list[tuple[int, int]]], capacity: int) -> None:
    found, model = KeySet(capacity), Model(capacity)
    for batch in batches:
        keys = np.array([key for key, _ in batch], np.uint64)
        sizes = np.array([size for _, size in batch], np.int32)
        assert found.add(keys, sizes).tolist() == model.add(keys, sizes)
        assert len(found) == len(model.least) <= capacity
        kept, least = found.content()
        assert dict(zip(kept.tolist(), least.tolist(), strict=True)) == model.least


# keys that meet in the table: equal in their low bits, and at its end
some_keys = st.integers(0, 6) | st.sampled_from([4096, 8192, 4095, 8191, 2**64 - 1, 2**63, 1 << 40])
some_batches = st.lists(st.lists(st.tuples(some_keys, st.integers(0, 300)), max_size=12), max_size=6)


@given(some_batches, st.integers(0, 40))
def test_a_set_of_keys_is_a_dictionary(batches, capacity: int):
    check(batches, capacity)


@pytest.mark.parametrize("capacity", [1 << 25, 9000, 3000])
def test_a_set_of_keys_is_a_dictionary_when_it_grows(capacity: int):
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 2**64, size=12_000, dtype=np.uint64)
    pool[:3000] &= np.uint64(0xFFFF)  # crowded
    batches = [
        list(zip(rng.choice(pool, n).tolist(), rng.integers(0, 30, n).tolist(), strict=True))
        for n in (0, 1, 900, 2500, 5000, 3000, 5000, 900, 400)
    ]
    check(batches, capacity)


def test_a_size_for_every_key():
    with pytest.raises(ValueError, match="2 keys but 1 sizes"):
        KeySet().add(np.array([1, 2], np.uint64), np.array([1], np.int32))


def test_content_makes_the_same_set():
    rng = np.random.default_rng(1)
    first = KeySet()
    first.add(rng.integers(0, 2**64, 20_000, dtype=np.uint64), rng.integers(0, 40, 20_000).astype(np.int32))
    keys, least = first.content()
    second = KeySet()
    assert second.add(keys, least.astype(np.int32)).all()
    asked = np.concatenate([keys[:5000], rng.integers(0, 2**64, 5000, dtype=np.uint64)])
    sizes = rng.integers(0, 40, 10_000).astype(np.int32)
    np.testing.assert_array_equal(first.add(asked, sizes), second.add(asked, sizes))
    assert len(first) == len(second)
