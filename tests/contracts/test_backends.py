"""What every back end promises, whatever it is made of: the numbers of the reference."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given

from proxygraph.dag import Dag, Node
from proxygraph.errors import BackendUnavailable, ConfigError, UnknownName
from proxygraph.infix import parse, text
from proxygraph.kernels import BACKENDS, Kernel, compile_kernel
from proxygraph.kernels.fused import FusedKernel
from proxygraph.kernels.fused_torch import TorchKernel
from proxygraph.kernels.reference import ReferenceKernel, reduce
from proxygraph.leaves import STATISTICS, Axis, Leaf
from proxygraph.ops import OPS, Op, register, unregister
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.contracts.agreement import compare, same, well_conditioned
from tests.contracts.plain_fused import PlainFused
from tests.strategies import (
    ALL_OPS,
    AXES,
    LARGEST_LAYER,
    PAIRS,
    dags,
    formula_of,
    on_axes,
    random_dag,
    random_table,
    tables,
    with_a_large_layer,
)

Make = Callable[..., Kernel]
# Every back end; those that compile are shared out with care, since each formula costs them half a second.
COMPILED: dict[str, Make] = {"fused": FusedKernel, "fused on 2 threads": partial(FusedKernel, threads=2)}
QUICK: dict[str, Make] = {"plain fused": PlainFused, "torch": TorchKernel}
IMPLEMENTATIONS: dict[str, Make] = {**QUICK, **COMPILED}

LEAVES = {name: STATISTICS[name] for pair in PAIRS.values() for name in pair}
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-30, -1e30, 1e200, -1e200, 800.0, np.inf, -np.inf, np.nan)
X, Y = Leaf("x", "row"), Leaf("y", "row")


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def backend(request: pytest.FixtureRequest) -> Make:
    return request.param


def table_of(seed: int, leaves=STATISTICS, **kind: bool) -> StatTable:
    return random_table(np.random.default_rng(seed), leaves, **kind)


def gentle_table() -> StatTable:
    """Values in (0.2, 2.2), where every operator is finite and none swallows another's error."""
    table = table_of(5, LEAVES)
    rng = np.random.default_rng(6)
    columns = {name: rng.uniform(0.2, 2.2, size=len(values)) for name, values in table.columns.items()}
    columns["g"], columns["a"] = columns["g"].astype(np.float32), columns["a"].astype(np.float32)
    return StatTable(table.rows, columns, LEAVES, table.offsets, table.counts, {})


# ---- the protocol ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ReferenceKernel, *IMPLEMENTATIONS.values()])
def test_a_kernel_has_what_the_protocol_asks_and_pickles_as_its_program(make: Make):
    program = lower([parse("sum(sum(abs(w*g)))"), parse("sum(numel)")])
    kernel = make(program)
    assert kernel.backend in BACKENDS
    assert kernel.key == program.key
    assert isinstance(kernel.source, str)
    assert kernel.program == program
    again = pickle.loads(pickle.dumps(kernel))
    table = table_of(1)
    np.testing.assert_array_equal(again(table), kernel(table))


def test_compile_kernel_knows_every_backend_and_refuses_others():
    program = lower([parse("params")])
    assert [compile_kernel(program, name).backend for name in BACKENDS] == list(BACKENDS)
    with pytest.raises(BackendUnavailable, match=r"no back end 'cuda9'; available: reference, fused, torch"):
        compile_kernel(program, "cuda9")


@pytest.mark.parametrize("make", [ReferenceKernel, *IMPLEMENTATIONS.values()])
def test_a_table_without_the_leaf_is_refused_by_name(make: Make):
    kernel = make(lower([parse("sum(sum(w))")]))
    with pytest.raises(UnknownName, match=r"needs the leaf 'w', which the table lacks; it has: x, y"):
        kernel(StatTable.from_columns(None, {"x": [1.0], "y": [2.0]}))


@pytest.mark.parametrize("make", [ReferenceKernel, *IMPLEMENTATIONS.values()])
def test_a_leaf_on_another_axis_is_refused(make: Make):
    kernel = make(lower([parse("sum(sum(w))")]))
    with pytest.raises(
        ConfigError, match=r"leaf 'w' is on the element axis in the formula, but on the row axis"
    ):
        kernel(StatTable.from_columns(None, {"w": [1.0, 2.0]}))


# ---- operators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", QUICK.values(), ids=QUICK.keys())
@pytest.mark.parametrize("name", ALL_OPS)
def test_every_operator_on_every_axis(name: str, make: Make):
    axes = [axis for axis in AXES if OPS[name].kind == "elementwise" or axis != "row"]
    program = lower([formula_of(name, axis) for axis in axes])
    checked = np.concatenate(
        [
            compare(make(program)(table), program, table)
            for table in (
                gentle_table(),
                table_of(7),
                table_of(8, extreme=True),
                table_of(9, missing=True, empty=True),
            )
        ],
        axis=1,
    )
    assert checked.mean() > 0.75
    gentle = ReferenceKernel(program)(gentle_table())
    assert np.isfinite(gentle).all()


@pytest.mark.parametrize("name", ALL_OPS)
def test_every_operator_on_every_axis_compiled(name: str):
    """All axes in one formula, because compiling is dear; all terms are of the same size, so none can hide.

    Activations are left out: the emitter writes them as it writes elements.
    """
    axes: list[Axis] = (
        ["row", "layer", "element"] if OPS[name].kind == "elementwise" else ["layer", "element"]
    )
    nodes: list[Node] = []
    total: int | None = None
    for axis in axes:
        base = len(nodes)
        part = formula_of(name, axis)
        nodes += [Node(n.kind, n.name, tuple(base + j for j in n.args), n.value) for n in part]
        root = len(nodes) - 1
        if total is not None:
            nodes.append(Node("op", "add", (total, root)))
        total = len(nodes) - 1
    program = lower([Dag(nodes)])
    assert compare(FusedKernel(program)(gentle_table()), program, gentle_table()).all()


@pytest.mark.parametrize("make", [FusedKernel, TorchKernel])
@pytest.mark.parametrize("name", [name for name in ALL_OPS if OPS[name].kind == "elementwise"])
def test_special_values(name: str, make: Make):
    pairs = (
        [(a, b) for a in SPECIAL for b in SPECIAL] if OPS[name].arity == 2 else [(a, 1.0) for a in SPECIAL]
    )
    table = StatTable.from_columns(
        None, {"x": [p[0] for p in pairs], "y": [p[1] for p in pairs]}, {"x": X, "y": Y}
    )
    exponents = (2.5, -1.5, 3.0, -3.0, 0.5, -0.5, 0.0) if name == "pow" else (0.0,)
    program = lower(
        [formula_of(name, "row", {"row": ("x", "y")}, {"x": X, "y": Y}, exponent) for exponent in exponents]
    )
    got, expected = make(program)(table), ReferenceKernel(program)(table)
    wrong = ~same(got, expected, 1e-13)
    assert not wrong.any(), [
        (pairs[n], got[p, n], expected[p, n]) for p, n in zip(*np.nonzero(wrong), strict=True)
    ]
    if name not in ("maximum", "minimum", "relu"):  # numpy itself leaves the sign of max(0.0, -0.0) open
        zero = expected == 0.0
        assert (np.signbit(got[zero]) == np.signbit(expected[zero])).all()


@pytest.mark.parametrize("name", ["exp", "log", "log1p", "tanh", "sigmoid", "sin", "cos"])
def test_special_values_in_loops_over_entries(name: str):
    """There the compiled kernel has functions of its own, made for vectors."""
    values = [*SPECIAL, 1e-310, -1e-310, 1e308, 709.7, 709.8, -745.0, -746.0, 1 + 1e-12, -1 + 1e-12, 40.0]
    ends = np.arange(len(values) + 1)
    leaf = {"x": Leaf("x", "element")}
    nodes = [Node("leaf", "x"), Node("op", name, (0,)), Node("op", "max", (1,)), Node("op", "max", (2,))]
    rows = tuple(map(str, range(len(values))))
    table = StatTable(rows, {"x": np.array(values)}, leaf, {"layer": ends, "element": ends}, {}, {})
    program = lower([Dag(nodes, leaf)])
    got, expected = FusedKernel(program)(table)[0], ReferenceKernel(program)(table)[0]
    if name in ("sin", "cos"):  # beyond 1e8 an argument has no digits left for its angle
        got, expected = got[np.abs(values) <= 1e8], expected[np.abs(values) <= 1e8]
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-300)


def test_division_of_entries_by_a_value_of_their_layer(backend: Make):
    """By any divisor, one in each row: where its inverse would overflow or vanish too."""
    numbers = [v for v in SPECIAL if v != -0.0] + [-0.0, 1e-310, -3e-320, 5e-324, 1e-299, 1e-301, 1.7e308]
    pairs = [(a, b) for a in numbers for b in numbers]
    leaves = {"x": Leaf("x", "element"), "y": Leaf("y", "layer")}
    nodes = [Node("leaf", "x"), Node("leaf", "y"), Node("op", "div", (0, 1)), Node("op", "max", (2,))]
    ends = np.arange(len(pairs) + 1)
    columns = {"x": [p[0] for p in pairs], "y": [p[1] for p in pairs]}
    rows = tuple(map(str, range(len(pairs))))
    table = StatTable(rows, columns, leaves, {"layer": ends, "element": ends}, {}, {})
    program = lower([Dag([*nodes, Node("op", "max", (3,))], leaves)])
    got, expected = backend(program)(table)[0], ReferenceKernel(program)(table)[0]
    wrong = ~same(got, expected, 1e-13)
    assert not wrong.any(), [(pairs[n], got[n], expected[n]) for n in np.flatnonzero(wrong)]


@pytest.mark.parametrize("axis", ["element", "activation", "layer"])
def test_special_values_in_reductions(axis: Axis, backend: Make):
    """Infinities, NaN, squares that overflow, equal values and single entries, one kind per row."""
    names = [name for name in ALL_OPS if OPS[name].kind == "reduction"]
    if backend in COMPILED.values() and axis == "activation":
        pytest.skip("written by the same code as the element axis; compiling is dear")
    segments = [
        [1.0, np.inf, 2.0],
        [np.inf, 1.0],
        [-np.inf, np.inf],
        [np.nan, 1.0],
        [1.0, np.nan],
        [1e200, -1e200],
        [0.1, 0.1, 0.1],
        [0.1] * 7,
        [3.0],
        [0.0],
        [-0.0, 0.0],
        [1e8 + 1, 1e8, 1e8 + 2],
        [1e-30, 2e-30],
    ]
    x = Leaf("x", axis)
    lengths = [len(segment) for segment in segments]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    one_each = np.arange(len(segments) + 1)
    offsets = {"layer": ends} if axis == "layer" else {"layer": one_each, axis: ends}
    counts = {axis: 3.0 * np.array(lengths)}
    rows = tuple(map(str, range(len(segments))))
    table = StatTable(rows, {"x": np.concatenate(segments)}, {"x": x}, offsets, counts, {})
    outer = [] if axis == "layer" else [Node("op", "max", (1,))]
    program = lower([Dag([Node("leaf", "x"), Node("op", name, (0,)), *outer], {"x": x}) for name in names])
    got, expected = backend(program)(table), ReferenceKernel(program)(table)
    wrong = ~same(got, expected)
    assert not wrong.any(), [
        (names[p], segments[n], got[p, n], expected[p, n]) for p, n in zip(*np.nonzero(wrong), strict=True)
    ]
    deviation = expected[names.index("std")]
    assert deviation[6] == deviation[7] == 0.0


def test_user_operators_run_on_every_backend(backend: Make):
    ops = (
        Op(
            "softsign",
            1,
            "elementwise",
            lambda np, a: a / (1 + np.abs(a)),
            numba="({0} / (1.0 + abs({0})))",
            torch="{0} / (1.0 + torch.abs({0}))",
        ),
        Op(
            "range",
            1,
            "reduction",
            lambda np, v, count: np.max(v) - np.min(v),
            init=("-np.inf", "np.inf"),
            update=("np.maximum({s0}, {x})", "np.minimum({s1}, {x})"),
            final="{s0} - {s1}",
        ),
        # both updates read the old values
        Op(
            "lag",
            1,
            "reduction",
            lambda np, v, count: v[-1] - (v[-2] if len(v) > 1 else 0.0),
            init=("0.0", "0.0"),
            update=("{x}", "{s0}"),
            final="{s0} - {s1}",
            torch="{0}[-1] - ({0}[-2] if {0}.shape[0] > 1 else 0.0)",
        ),
        # a conditional as the last step: a group without entries is NaN all the same
        Op(
            "mostly",
            1,
            "reduction",
            lambda np, v, count: 1.0 if np.sum(v) >= 0 else -1.0,
            init=("0.0",),
            update=("{s0} + {x}",),
            final="1.0 if {s0} >= 0.0 else -1.0",
        ),
    )
    for op in ops:
        register(op)
    try:
        program = lower([parse("sum(range(softsign(w)) * lag(w))"), parse("max(mostly(w))")])
        table = table_of(3, empty=True)
        assert compare(backend(program)(table), program, table).mean() > 0.6
    finally:
        for op in ops:
            unregister(op.name)


# ---- formulas --------------------------------------------------------------------------------------------

BROADCASTS = (
    "sum(mean(((w - mean(w)) / std(w))**3))",  # element z-scores
    "l2(sum(abs(w)) / mean(sum(abs(w))))",  # layers over the row's mean
    "max((l1(g) - mean(l1(g))) / std(l1(g)))",  # layer z-scores
    "sum(mean(relu(abs(w) - mean(mean(abs(w))))))",  # the row's mean down to elements
    "sum(std(w * log1p(mean(mean(abs(w)) * nwot) / zen)) * mean(a - max(a)))",  # both fine axes, three levels
    "t0 = mean(std((w - mean(w)) / zen)); mean(std(w - t0 * l2(a / t0)) - mean(std(w)) * t0) - t0",
    "sum(log(mean(abs(g)) / std(g)))",
)


@pytest.mark.parametrize("formula", BROADCASTS)
def test_broadcasts_on_every_backend(formula: str, backend: Make):
    program = lower([parse(formula)])
    kernel = backend(program)
    assert compare(kernel(gentle_table()), program, gentle_table()).mean() > 0.8
    compare(kernel(table_of(3, LEAVES, empty=True)), program, table_of(3, LEAVES, empty=True))


def test_random_programs(backend: Make):
    """At least 300 formulas for the back end that needs no compilation, 10 for those that compile."""
    n_programs, size = (2, 5) if backend in COMPILED.values() else (110, 3)
    rng = np.random.default_rng(11)
    checked = []
    for n in range(n_programs):
        program = lower([random_dag(rng, min_ops=4) for _ in range(size)])
        table = random_table(rng, extreme=n % 3 == 1, missing=n % 5 == 4, empty=n % 7 == 6)
        checked.append(compare(backend(program)(table), program, table))
    assert np.mean(checked) > (0.75 if backend in COMPILED.values() else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_programs_in_volume(seed: int):
    """10,000 formulas for the back ends that need no compilation, 200 for the compiled one, on all axes."""
    rng = np.random.default_rng(1000 + seed)
    leaves = on_axes(LEAVES, ("row",)) if seed % 5 == 4 else LEAVES
    kinds = {"extreme": seed % 3 == 1, "missing": seed % 4 == 3, "empty": seed % 2 == 1}
    checked: dict[str, list[float]] = {name: [] for name in ("plain fused", "torch", "fused")}
    for n in range(50):
        dags = [random_dag(rng, leaves, min_ops=1, max_ops=3 + n % 12) for _ in range(10)]
        table = random_table(rng, leaves, **kinds)
        steady = well_conditioned(lower(dags), table)
        for name, one_by_one in checked.items():
            chosen = slice(1) if name == "fused" else slice(None)
            if name == "fused" and n % 5:
                continue
            program = lower(dags[chosen])
            got, expected = IMPLEMENTATIONS[name](program)(table), ReferenceKernel(program)(table)
            wrong = steady[chosen] & ~same(got, expected)
            if wrong.any():  # three runs of noise may not show it
                wrong &= well_conditioned(program, table, runs=24)
            assert not wrong.any(), [
                (name, text(dags[p]), int(row), got[p, row], expected[p, row])
                for p, row in zip(*np.nonzero(wrong), strict=True)
            ]
            one_by_one.append(float(steady[chosen].mean()))
    assert all(np.mean(shares) > 0.5 for shares in checked.values()), checked


@pytest.mark.slow
@pytest.mark.parametrize("make", [TorchKernel, *COMPILED.values()], ids=["torch", *COMPILED])
def test_the_largest_layer_of_a_network(make: Make):
    table, formulas = with_a_large_layer(LARGEST_LAYER)
    program = lower(formulas)
    assert compare(make(program)(table), program, table).sum() > 10


@given(dag=dags(), table=tables(empty=True))
def test_any_formula_on_any_table(dag: Dag, table: StatTable):
    program = lower([dag])
    for make in QUICK.values():
        compare(make(program)(table), program, table)


@given(dag=dags(leaves={"x": X, "y": Y}), table=tables(leaves={"x": X, "y": Y}))
def test_any_formula_on_a_table_of_rows(dag: Dag, table: StatTable):
    assert not table.offsets
    program = lower([dag])
    for make in QUICK.values():
        compare(make(program)(table), program, table)


@given(
    dag=dags(axes=("layer", "activation")), table=tables(leaves=on_axes(STATISTICS, ("layer", "activation")))
)
def test_any_formula_without_elements(dag: Dag, table: StatTable):
    program = lower([dag])
    for make in QUICK.values():
        compare(make(program)(table), program, table)


def test_tables_of_rows_compiled():
    rng = np.random.default_rng(4)
    leaves = {"x": X, "y": Y, "pet al (cm)": Leaf("pet al (cm)", "row")}
    program = lower([random_dag(rng, leaves, min_ops=5) for _ in range(6)])
    table = random_table(rng, leaves, n_rows=40)
    assert compare(FusedKernel(program)(table), program, table).mean() > 0.8


def test_empty_groups_are_nan(backend: Make):
    program = lower([parse("mean(sum(w))"), parse("min(numel)")])
    offsets = {"layer": [0, 1, 1, 3], "element": [0, 0, 2, 3]}
    table = StatTable(
        ("no elements", "no layers", "full"),
        {"w": [1.0, 2.0, 3.0], "numel": [4.0, 5.0, 6.0]},
        {},
        {k: np.array(v) for k, v in offsets.items()},
        {},
        {},
    )
    np.testing.assert_array_equal(backend(program)(table), [[np.nan, np.nan, 3.0], [4.0, np.nan, 5.0]])


def test_no_rows_and_no_formulas(backend: Make):
    table = StatTable.from_columns([], {"params": []})
    assert backend(lower([parse("params + 1")]))(table).shape == (1, 0)
    assert backend(lower([]))(table_of(1)).shape == (0, 6)


# ---- the checks can fail ---------------------------------------------------------------------------------


def test_the_comparison_sees_a_wrong_digit():
    program, table = lower([parse("sum(l2(w))")]), table_of(1)
    right = ReferenceKernel(program)(table)
    assert compare(right, program, table).all()
    with pytest.raises(AssertionError, match="formula 0, row 0: got"):
        compare(right * (1 + 1e-8), program, table)
    with pytest.raises(AssertionError, match=r"got np.float64\(nan\)"):
        compare(np.where(np.arange(6) == 3, np.nan, right), program, table)


def test_ill_conditioned_rows_are_told_apart():
    table = table_of(1)
    assert not compare(
        ReferenceKernel(lower([parse("sum(sum(w - mean(w)))")]))(table),
        lower([parse("sum(sum(w - mean(w)))")]),
        table,
    )[0, :3].all()


def test_a_kernel_that_ignores_true_counts_is_caught():
    program, table = lower([parse("sum(sum(w))")]), table_of(1)
    unscaled = StatTable(table.rows, table.columns, table.leaves, table.offsets, {}, {})
    with pytest.raises(AssertionError, match="the reference says"):
        compare(PlainFused(program)(unscaled), program, table)


def test_reduce_is_what_the_operator_says():
    """The reference itself, by hand: three entries that stand for six."""
    table = StatTable(
        ("r",),
        {"w": [1.0, -2.0, 4.0]},
        {},
        {"layer": np.array([0, 1]), "element": np.array([0, 3])},
        {"element": np.array([6.0])},
        {},
    )
    got = {
        name: float(reduce(table, name, np.array([1.0, -2.0, 4.0]), "element")[0])
        for name in ALL_OPS
        if OPS[name].kind == "reduction"
    }
    assert got == {
        "sum": 6.0,
        "mean": 1.0,
        "std": pytest.approx(6**0.5),
        "min": -2.0,
        "max": 4.0,
        "l1": 14.0,
        "l2": pytest.approx(42**0.5),
        "count": 6.0,
    }
