"""Constants of trees fitted by least squares: derivatives, convergence, what must stay as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxygraph.compact.forest import CONST, Forest, Vocabulary, folded, to_dag, to_forest, tree_length
from proxygraph.dag import Dag
from proxygraph.errors import ConfigError, ShapeMismatch
from proxygraph.infix import parse, text
from proxygraph.kernels.adjoint import derivatives, values
from proxygraph.kernels.fit import BLOCK
from proxygraph.kernels.fitter import Fitter
from proxygraph.kernels.free import occurrences, seconds
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.objective import find_objective
from proxygraph.ops import OPS
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.numeric import all_finite
from tests.strategies import random_dag

ROW_OPS = tuple(name for name, op in OPS.items() if op.kind == "elementwise")


def table_of(n: int, seed: int = 0) -> StatTable:
    rng = np.random.default_rng(seed)
    return StatTable.from_columns(None, {name: rng.uniform(0.1, 3.0, n) for name in "xyz"})


TABLE = table_of(BLOCK + 37)  # a whole block and a piece
SMALL = TABLE.take(np.arange(60))


def forest(formulas: Sequence[str | Dag], table: StatTable = TABLE) -> Forest:
    dags = [parse(f, table.leaves) if isinstance(f, str) else f for f in formulas]
    return to_forest(dags, Vocabulary.of(table.leaves), max(map(tree_length, dags)))


def truth(formula: str | Dag, table: StatTable = TABLE) -> np.ndarray:
    dag = parse(formula, table.leaves) if isinstance(formula, str) else formula
    return ReferenceKernel(lower([dag]))(table)[0]


def fitted(
    formula: str, target: np.ndarray, table: StatTable = TABLE, **options: object
) -> tuple[str, float]:
    fitter = Fitter(table, target)
    found = fitter.fitted(forest([formula], table), 100, enough=0.0, **options)  # type: ignore[arg-type]
    return text(to_dag(found.trees, 0, fitter.vocabulary)), float(found.loss[0])


SMOOTH_OPS = tuple(name for name in ROW_OPS if name not in ("maximum", "minimum"))
"""Equal arguments, as of min(a, a), have a derivative on one side only, which no difference shows."""


def random_trees(seed: int, n: int, table: StatTable = TABLE, ops: Sequence[str] = ROW_OPS) -> Forest:
    rng = np.random.default_rng(seed)
    found: list[Dag] = []
    while len(found) < n:
        dag = random_dag(rng, table.leaves, 10, ops, 2)
        if np.isfinite(list(folded(dag).values())).all():  # no constant of a tree is inf
            found.append(dag)
    return forest(found, table)


# ---- derivatives -------------------------------------------------------------------------------------------


def jacobian(tree: Forest, table: StatTable) -> tuple[np.ndarray, list[int]]:
    """Derivatives of the values by all constants below no sign(), shape (K, N), and their places."""
    columns = Fitter(table, np.arange(float(table.n_rows))).columns
    (code,), (value,), n = tree.code, tree.value, int(tree.length[0])
    arity = Vocabulary.of(table.leaves).symbols.arity
    second, around, place = (np.zeros(len(code), np.int64) for _ in range(3))
    assert seconds(code, n, arity, second)
    k = occurrences(code, n, arity, second, False, np.zeros(0, bool), place, around)
    row = np.zeros(len(code), np.int64)
    row[place[:k]] = np.arange(k)
    skip = np.zeros(len(code), bool)
    slopes = np.zeros((len(code), table.n_rows))
    node, up, f = np.empty((len(code), table.n_rows)), np.empty_like(slopes), np.empty(table.n_rows)
    for at in range(n - 1, -1, -1):
        args = [] if code[at] < 0 or code[at] >= 1000 else [at + 1, int(second[at])][: arity[code[at]]]
        skip[at] = at not in place[:k] and all(skip[j] for j in args)
    values(code, value, n, arity, second, np.zeros(len(code), bool), columns, 0, node, f)
    derivatives(code, value, n, arity, second, skip, row, columns, 0, node, f, up, slopes)
    return slopes[:k], place[:k].tolist()


def differences(tree: Forest, table: StatTable, at: int, h: float) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of the values by one constant, and by how much the two sides differ."""
    found = []
    for sign in (-1.0, 0.0, 1.0):
        moved = Forest(tree.code, tree.value.copy(), tree.length)
        moved.value[0, at] += sign * h
        found.append(truth(to_dag(moved, 0, Vocabulary.of(table.leaves)), table))
    low, mid, high = found
    return (high - low) / (2.0 * h), np.abs(high - 2.0 * mid + low) / h


@given(st.integers(0, 2**32 - 1))
def test_derivatives_are_those_of_differences(seed: int) -> None:
    tree = random_trees(seed, 1, SMALL, SMOOTH_OPS)
    with np.errstate(all="ignore"):
        dag = to_dag(tree, 0, Vocabulary.of(SMALL.leaves))
        f, moderate = truth(dag, SMALL), all_finite(lower([dag]), SMALL, 1e5)[0]
        assume(np.isfinite(f).all() and np.abs(f).max() < 1e8)
        exact, places = jacobian(tree, SMALL)
        for slopes, at in zip(exact, places, strict=True):
            h = 1e-6 * max(1.0, abs(tree.value[0, at]))
            slope, bend = differences(tree, SMALL, at, h)
            rounding = 1e-8 * (1.0 + np.abs(f)) / h
            smooth = (
                moderate & np.isfinite(slope) & (bend < 1e-3 * np.abs(slope) + rounding)
            )  # kinks, poles are left out
            close = np.abs(slopes - slope) < 1e-2 * np.abs(slope) + 10.0 * rounding
            # where a part is infinite and the whole is not, there is no derivative: 0 times infinity
            assert (close | np.isnan(slopes))[smooth].all()


@pytest.mark.parametrize("op", ROW_OPS)
def test_each_operator_has_its_derivative(op: str) -> None:
    one, two = ("({x} - 0.7)", "({y} + 0.4)") if op not in ("log", "sqrt", "pow") else ("(x + 0.7)", "")
    one, two = one.format(x="x"), two.format(y="y")
    call = OPS[op].call
    formulas = (
        ["(x + 0.7)**1.5", "(x - 0.4)**4", "(x + 0.3)**-2", "(x + 0.3)**-0.5"]
        if op == "pow"
        else [f"{call}({one})"]
        if OPS[op].arity == 1
        else [f"{one} {sign} {two}" for sign in (OPS[op].infix[4:5],)]
        if OPS[op].infix
        else [f"{call}({one}, {two})"]
    )
    if OPS[op].infix == "-{0}":
        formulas = [f"-{one}"]
    for formula in formulas:
        tree = forest([formula], SMALL)
        exact, places = jacobian(tree, SMALL)
        assert len(places) == (0 if op == "sign" else OPS[op].arity if op != "pow" else 1)
        for slopes, at in zip(exact, places, strict=True):
            np.testing.assert_allclose(slopes, differences(tree, SMALL, at, 1e-6)[0], rtol=1e-5, atol=1e-7)


# ---- fits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "true"),
    [
        ("exp(0.5*x)", "3*exp(-0.4*x) + 1"),
        ("sin(2.5*x + 0.3)*exp(-0.3*y) + 0.4*z/(z + 2)", "sin(2.2*x + 0.5)*exp(-0.7*y) + 1.3*z/(z + 1)"),
        ("log(x + 2)", "log(x + 0.3)*5 - 100"),
        ("(x - 0.5)**4", "(x - 0.9)**4"),
        ("tanh(2*x) - y*0.3", "tanh(1.2*x) - y*0.1"),
    ],
)
def test_known_constants_are_found(start: str, true: str) -> None:
    assert fitted(start, truth(true))[1] < 1e-24


def test_the_formula_itself_can_be_judged_instead_of_the_line() -> None:
    target = truth("0.5*x*exp(-0.25*x) + 2")
    found, loss = fitted("1.3*x*exp(-0.4*x) + 1", target, line=False)
    assert loss < 1e-24
    dag = parse(found, TABLE.leaves)
    np.testing.assert_allclose(sorted(n.value for n in dag if n.kind == "const"), [-0.25, 0.5, 2.0])


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_the_loss_is_never_higher_than_before(seed: int, line: bool, tied: bool) -> None:
    target = np.sin(2.0 * SMALL.columns["x"]) + SMALL.columns["y"]
    fitter = Fitter(SMALL, target)
    trees = random_trees(seed, 12, SMALL)
    before = fitter.losses(trees, line=line)
    found = fitter.fitted(trees, 4, line=line, tied=tied)
    after = fitter.losses(found.trees, line=line)
    assert np.isfinite(found.trees.value).all()
    changed = (found.trees.value != trees.value).any(axis=1)
    assert (after[changed] < before[changed]).all()
    judged = np.isfinite(found.loss)
    np.testing.assert_array_equal(
        after[judged], found.loss[judged]
    )  # the loss is that of the trees given back
    assert not changed[~judged].any()


def test_the_loss_is_one_minus_the_fitness_of_the_objective() -> None:
    target = np.sin(2.0 * TABLE.columns["x"]) + TABLE.columns["y"]
    trees = random_trees(3, 60)
    loss = Fitter(TABLE, target).losses(trees)
    dags = [to_dag(trees, i, Vocabulary.of(TABLE.leaves)) for i in range(60)]
    with np.errstate(all="ignore"):
        fitness = find_objective("r2").fitness(ReferenceKernel(lower(dags))(TABLE), target)
    both = np.isfinite(loss) & np.isfinite(fitness)
    assert both.sum() > 20
    np.testing.assert_allclose(1.0 - loss[both], fitness[both], atol=1e-9)


def test_results_do_not_depend_on_threads_or_neighbours() -> None:
    target = np.cos(TABLE.columns["x"] * TABLE.columns["y"])
    trees = random_trees(5, 40)
    one, two = Fitter(TABLE, target).fitted(trees), Fitter(TABLE, target, threads=2).fitted(trees)
    alone = [Fitter(TABLE, target).fitted(trees.take([i])) for i in range(8)]
    np.testing.assert_array_equal(one.trees.value, two.trees.value)
    np.testing.assert_array_equal(one.loss, two.loss)
    np.testing.assert_array_equal(one.loss[:8], np.concatenate([a.loss for a in alone]))


@pytest.mark.parametrize("n", [2, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_any_number_of_rows(n: int) -> None:
    table = table_of(n, 4)
    assert fitted("exp(0.5*x)", truth("exp(-0.4*x)", table), table)[1] < 1e-20


def test_one_row_has_nothing_to_fit() -> None:
    table = table_of(1)
    assert fitted("exp(0.5*x)", np.array([3.0]), table)[0] == "exp(0.5 * x)"


def test_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    times = rng.integers(0, 4, SMALL.n_rows)
    target = truth("exp(-0.4*x)", SMALL) + 0.1 * rng.normal(size=SMALL.n_rows)
    weighted = Fitter(SMALL, target, times).fitted(forest(["exp(0.5*x)"], SMALL), 100, enough=0.0)
    rows = np.repeat(np.arange(SMALL.n_rows), times)
    columns = {name: column[rows] for name, column in SMALL.columns.items()}
    repeated = Fitter(StatTable.from_columns(None, columns), target[rows]).fitted(
        forest(["exp(0.5*x)"], SMALL), 100, enough=0.0
    )
    np.testing.assert_allclose(weighted.trees.value, repeated.trees.value, rtol=1e-6)
    np.testing.assert_allclose(weighted.loss, repeated.loss, rtol=1e-9)


# ---- what stays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "3*x + 2",  # a line makes up for it
        "2*x*y/(3*z)",
        "log(2*x)",
        "exp(x + 0.5)",
        "sign(x - 1)*y",
        "x*y",
        "exp(exp(exp(4*x)))",  # overflow
        "log(x - 1.5)*2.5 + y",  # NaN on some rows
        "max(x, 5)",  # the same on all rows
    ],
)
def test_what_cannot_gain_stays(formula: str) -> None:
    target = np.sin(3.0 * TABLE.columns["x"])
    fitter, trees = Fitter(TABLE, target), forest([formula])
    found = fitter.fitted(trees, 20)
    np.testing.assert_array_equal(found.trees.value, trees.value)
    assert np.isnan(found.loss[0])


def test_a_formula_that_is_a_constant_becomes_the_mean() -> None:
    target = truth("x*y")
    trees = forest(["3"])
    assert Fitter(TABLE, target).fitted(trees).trees.value[0, 0] == 3.0  # the line has an offset
    assert Fitter(TABLE, target).fitted(trees, 20, line=False, enough=0.0).trees.value[0, 0] == pytest.approx(
        target.mean()
    )


def test_frozen_constants_stay_and_equal_ones_move_together() -> None:
    target = truth("exp(-0.4*x) + y*exp(-1.1*z)")
    fitter, trees = Fitter(TABLE, target), forest(["exp(-0.5*x) + y*exp(-0.5*z)"])
    at = trees.code == CONST
    frozen = at & (np.cumsum(at, axis=1) == 1)
    held = fitter.fitted(trees, 50, frozen=frozen)
    assert held.trees.value[frozen] == -0.5
    assert (held.trees.value[at & ~frozen] != -0.5).all()
    together = fitter.fitted(trees, 50, tied=True)
    assert len(set(together.trees.value[at])) == 1
    free = fitter.fitted(trees, 50, enough=0.0)
    assert free.loss[0] < 1e-24 < together.loss[0] < fitter.losses(trees)[0]


def test_a_constant_target_leaves_all_as_it_is() -> None:
    trees = forest(["exp(0.5*x)"])
    found = Fitter(TABLE, np.ones(TABLE.n_rows)).fitted(trees)
    assert (found.trees.value == trees.value).all()
    assert np.isnan(found.loss).all()


def test_wrong_use_is_refused() -> None:
    n = SMALL.n_rows
    with pytest.raises(ShapeMismatch, match="target of shape"):
        Fitter(SMALL, np.ones(n + 1))
    with pytest.raises(ConfigError, match="target: every value must be finite"):
        Fitter(SMALL, np.full(n, np.nan))
    with pytest.raises(ConfigError, match="none may be negative"):
        Fitter(SMALL, np.ones(n), -np.ones(n))
    with pytest.raises(ShapeMismatch, match="frozen has shape"):
        Fitter(SMALL, np.arange(n)).fitted(forest(["x*y"]), frozen=np.zeros((1, 1), bool))
