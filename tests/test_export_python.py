"""formula.py: one file, torch alone, the same score as the table on full tensors."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from collections.abc import Mapping
from types import CodeType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from proxygraph.dag import Dag, Node
from proxygraph.errors import CompileError
from proxygraph.infix import parse, text
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import STATISTICS, Leaf
from proxygraph.ops import BUILTIN, OPS, Op, register, unregister
from proxygraph.program import lower
from proxygraph.source_parts import Parts
from proxygraph.standalone.draws import drawn
from proxygraph.stats import collect
from proxygraph.stats.sampling import prefix
from proxygraph.table import StatTable
from proxygraph.torch_source import formula_python
from proxygraph.zoo import ZOO
from segspace.batches import scenes
from segspace.losses import segmentation_loss
from segspace.models import build as build_segmenter
from segspace.transnas101 import Arch, build
from tests.stats.networks import blocky, labels, maps, odd, odd_loss, plain
from tests.strategies import formula_of, op_cases, random_dag, random_table
from tests.test_symbolic import finite_inside, jittered

TOLERANCE = 1e-6
"""Relative; both sides sum in float64, but passes are in float32 and may run in another order."""

ALLOWED = set(sys.stdlib_module_names) | {"torch"}


def executed(source: str, allowed: set[str] = ALLOWED) -> dict[str, Any]:
    """The names of a generated file, run where nothing but `allowed` can be imported by it."""

    def guarded(name: str, *args: Any) -> Any:
        assert name.partition(".")[0] in allowed, f"imports {name}"
        return __import__(name, *args)

    code: CodeType = compile(source, "formula.py", "exec")
    names: dict[str, Any] = {
        "__name__": "formula",
        "__builtins__": {**vars(__import__("builtins")), "__import__": guarded},
    }
    # dataclasses look their module up
    module = type(sys)("formula")
    module.__dict__.update(names)
    sys.modules["formula"] = module
    exec(code, module.__dict__)
    return module.__dict__


@pytest.fixture(autouse=True)
def _no_module_left():
    yield
    sys.modules.pop("formula", None)


def generated(formula: str | Dag, **more: Any) -> dict[str, Any]:
    dag = parse(formula) if isinstance(formula, str) else formula
    return executed(formula_python(dag, provenance={"seed": 0}, **more))


def score_of_table(dag: Dag, table: StatTable) -> float:
    return float(ReferenceKernel(lower([dag]))(table)[0, 0])


def both(formula: str, model: nn.Module, batches: Any, loss: Any, seed: int = 0) -> tuple[float, float]:
    dag = parse(formula)
    table = collect(model, batches, loss, leaves=sorted(dag.leaves), samples=None, seed=seed)
    inputs, targets = [x for x, _ in batches], [y for _, y in batches]
    return generated(dag)["score"](model, inputs, targets, loss, seed=seed), score_of_table(dag, table)


def probe(name: str) -> str:
    """A formula of one statistic that sees every value of it."""
    leaf = STATISTICS[name]
    if leaf.axis == "row":
        return name
    if leaf.axis == "layer":
        return f"sum({name} * (1 + depth)) + std({name})"
    return f"sum((l1({name}) + mean({name})) * (1 + depth))"


OF_BLOCKS = {"expressivity", "progressivity", "trainability"}
MEASURED = [name for name in STATISTICS if name != "latency_ms"]


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("seed", [0, 3])
def test_every_statistic_equals_the_table(name, seed):
    if name in OF_BLOCKS:
        got, want = both(probe(name), blocky(), maps(images=5), nn.functional.cross_entropy, seed)
    else:
        got, want = both(probe(name), odd(), maps(images=5), odd_loss, seed)
    assert np.isfinite(want) or name == "jacov"
    assert got == pytest.approx(want, rel=TOLERANCE, nan_ok=True)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_zoo_on_a_plain_network(name):
    maps_needed = bool(set(ZOO[name].dag.leaves) & (OF_BLOCKS | {"receptive"}))
    model, batches = (blocky(), maps(3, classes=4)) if maps_needed else (plain(), labels(3))
    got, want = both(ZOO[name].formula, model, batches, nn.functional.cross_entropy)
    assert got == pytest.approx(want, rel=TOLERANCE)


@pytest.mark.parametrize(
    "formula",
    [
        "sum(sum(abs(w * g)))",
        "sum(mean(abs(gs * w)))",
        "sum(relu(log(sum(g_mean / max(g_std, 1e-30)))))",
        "sum(min_eig * eff_rank) + sum(w_logdet) + sum(nwot)",
        "sum(std((a - mean(a)) * da) * fisher * backbone) / log(macs_total)",
    ],
)
def test_a_segmentation_network_with_dead_layers(formula):
    arch = Arch.parse("64-41414-3_00_300")
    assert str(arch.live()) == "64-41414-0_00_300"
    model = build(arch, classes=5, width=4)
    got, want = both(formula, model, maps(2, images=2, side=64), nn.functional.cross_entropy)
    assert np.isfinite(want)
    assert got == pytest.approx(want, rel=TOLERANCE)


def test_blocks_that_take_the_picture():
    model, batch = build_segmenter("rtseg:tiny:c2-C2z3D4-i1", 11, seed=0), scenes((2, 1), (32, 48))
    got, want = both("trainability", model, batch, segmentation_loss)
    assert np.isfinite(want)
    assert got == pytest.approx(want, rel=TOLERANCE)


def test_many_channels_and_positions_are_sampled_as_the_search_did():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 300, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(300, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    batches = [(x, y[:, 0, 0] % 4) for x, y in maps(2, images=2, side=24)]
    formula = "sum(eff_rank) + sum(min_eig) + sum(w_logdet) + swap"
    got, want = both(formula, model, batches, nn.functional.cross_entropy, seed=5)
    # logarithms of eigenvalues near 0 magnify the rounding of float32 passes, which differs by processor
    assert got == pytest.approx(want, rel=10 * TOLERANCE)


@pytest.mark.parametrize("n", [1, 5, 8, 300, 4097, 16384, 16385, 100_000])
def test_draws_equal_numpy(n):
    for key in ([0, 0, 3], [7, 12, 5], [2**40 + 5, 1, 4]):
        assert drawn(key, n, 256) == prefix(key, n, 256).tolist()


def test_dropout_draws_the_same_numbers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 36, 4))
    batches = [(x, y[:, 0, 0] % 4) for x, y in maps(2)]
    got, want = both("sum(sum(abs(w * g)))", model, batches, nn.functional.cross_entropy, seed=4)
    assert got == pytest.approx(want, rel=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    model = plain().to(dtype)
    got, want = both("sum(sum(abs(w * g)))", model, labels(2), nn.functional.cross_entropy)
    assert got == pytest.approx(want, rel=TOLERANCE)


def test_the_network_is_left_as_it_was():
    model = odd().train()
    model.decoder.eval()
    batches = maps(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    known = [name for name in MEASURED if name not in OF_BLOCKS]  # this network has no blocks
    score = generated(" + ".join(f"({probe(name)})" for name in known))["score"]
    first = score(model, [x for x, _ in batches], [y for _, y in batches], odd_loss)
    assert first == score(model, [x for x, _ in batches], [y for _, y in batches], odd_loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert model.grouped.weight.requires_grad is False


def test_a_single_batch_needs_no_list():
    score = generated("sum(sum(abs(w * g)))")["score"]
    ((x, y),) = labels(1)
    assert score(plain(), x, y, nn.functional.cross_entropy) == score(
        plain(), [x], [y], nn.functional.cross_entropy
    )
    with torch.no_grad():  # the caller's mode does not matter
        assert score(plain(), x, y, nn.functional.cross_entropy) > 0


def test_labels_are_asked_for_where_they_are_needed():
    ((x, y),) = labels(1)
    assert generated("sum(l2(w))")["score"](plain(), x) > 0
    with pytest.raises(TypeError, match="targets"):
        generated("sum(l2(g))")["score"](plain(), x)
    with pytest.raises(ValueError, match="at least two batches"):
        generated("sum(sum(g_mean))")["score"](plain(), x, y, nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="no convolution or linear module ran"):
        generated("sum(l2(w))")["score"](nn.ReLU(), x)


def test_measured_values_are_parameters():
    score = generated("latency_ms * sum(depth)")["score"]
    ((x, _),) = labels(1)
    assert score(plain(), x, latency_ms=2.0) == 3.0


# ---- the expression ---


def layers_of(table: StatTable, row: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row of a table as ``formula`` takes it."""
    one = table.take([row])
    network = {
        n: torch.tensor(float(v[0]), dtype=torch.float64)
        for n, v in one.columns.items()
        if one.leaves[n].axis == "row"
    }
    layers = []
    for i in range(int(one.offsets["layer"][-1])):
        layer = {}
        for name, values in one.columns.items():
            axis = one.leaves[name].axis
            if axis == "layer":
                layer[name] = torch.tensor(float(values[i]), dtype=torch.float64)
            elif axis != "row":
                start, end = one.offsets[axis][i : i + 2]
                layer[name] = torch.tensor(values[start:end].astype(np.float64))
        layers.append(layer)
    return layers, network


def full(table: StatTable) -> StatTable:
    """The table with every entry kept: counts are numbers of samples."""
    return StatTable(table.rows, table.columns, table.leaves, table.offsets, {}, {})


def check_expression(dag: Dag, table: StatTable, rows: Mapping[int, Any]) -> int:
    """Compare one formula on every row; return how many rows do not hang on the inputs' last digits."""
    formula = generated(dag, tabular=False)["formula"]
    (want,) = ReferenceKernel(lower([dag]))(table)
    (off,) = ReferenceKernel(lower([dag]))(jittered(table, np.random.default_rng(0)))
    got = np.array([float(formula(*rows[i])) for i in range(table.n_rows)])
    steady = np.isclose(off, want, rtol=1e-9, atol=0, equal_nan=True)
    # a standard deviation may be 0 here and a rounding error there, torch's pow(-0.0, -0.5) is another one
    steady &= finite_inside(dag, table)
    np.testing.assert_allclose(got[steady], want[steady], rtol=1e-7, atol=1e-14, err_msg=text(dag))
    return int(steady.sum())


def test_random_expressions_equal_the_reference():
    rng = np.random.default_rng(0)
    table = full(random_table(rng, n_rows=3))
    rows = {i: layers_of(table, i) for i in range(table.n_rows)}
    steady = 0
    for _ in range(60):
        steady += check_expression(random_dag(rng, max_ops=12), table, rows)
    assert steady > 100


@pytest.mark.parametrize(("name", "axis"), op_cases())
def test_every_operator_on_every_axis(name, axis):
    table = full(random_table(np.random.default_rng(1), n_rows=3))
    check_expression(formula_of(name, axis), table, {i: layers_of(table, i) for i in range(table.n_rows)})


@pytest.mark.parametrize("name", sorted(name for name in BUILTIN if OPS[name].arity == 1))
def test_invalid_numbers_stay_invalid(name):
    dag = parse(f"{name}(zen)") if OPS[name].kind == "elementwise" else parse(f"{name}(depth)")
    formula = generated(dag)["formula"]
    nan = torch.tensor(math.nan, dtype=torch.float64)
    assert math.isnan(formula([{"depth": nan}, {"depth": nan}], {"zen": nan}))


@pytest.mark.parametrize(
    "formula",
    [
        "2.5",
        "log(2)",
        "-(-3)",
        "max(2, zen)",
        "2 / 0",
        "sum(mean(w - mean(mean(w) + sum(depth))))",
        "params + params",
        "sum(mean(w - log(mean(mean(abs(w)))) * log(params + 2)))",
        "mean(depth) + max(depth * mean(depth * max(depth)))",
        "cube(sum(depth) + 1)",
        "sum(count(w) + count(a))",
    ],
)
def test_expressions_with_traps(formula):
    table = full(random_table(np.random.default_rng(2), n_rows=2))
    check_expression(parse(formula), table, {i: layers_of(table, i) for i in range(table.n_rows)})


def test_user_operators():
    register(
        Op(
            "softsign",
            1,
            "elementwise",
            lambda np, a: a / (1 + np.abs(a)),
            torch="{0} / (1.0 + torch.abs({0}))",
        )
    )
    register(Op("spread", 1, "reduction", lambda np, v, count: np.ptp(v), torch="({0}.amax() - {0}.amin())"))
    register(Op("bare", 1, "elementwise", lambda np, a: a))
    try:
        table = full(random_table(np.random.default_rng(3), n_rows=2))
        dag = parse(
            "2 * softsign(w + 1, ) * 3".replace(", )", ")")
            if False
            else "sum(spread(2 * softsign(w + 1) * 3))"
        )
        check_expression(dag, table, {i: layers_of(table, i) for i in range(table.n_rows)})
        with pytest.raises(CompileError, match="operator 'bare' has no torch template"):
            formula_python(parse("bare(zen)"), provenance={})
        with pytest.raises(CompileError, match="operator 'bare' has no numba template"):
            formula_python(parse("bare(zen)"), provenance={}, tabular=True)
    finally:
        for name in ("softsign", "spread", "bare"):
            unregister(name)


# ---- tables ---


NASTY = "größe %'\"\n\\ {0} x); raise SystemExit  # "


def columns(*names: str) -> dict[str, Leaf]:
    return {name: Leaf(name, "row") for name in names}


def test_tables():
    rng = np.random.default_rng(4)
    leaves = columns("x", "sepal length (cm)", "import", "t0", NASTY)
    ops = [name for name, axis in op_cases() if axis == "row"]
    values = {name: rng.normal(size=9) for name in leaves}
    table = StatTable.from_columns([str(i) for i in range(9)], values, leaves)
    for _ in range(80):
        dag = random_dag(rng, leaves, max_ops=8, ops=ops)
        predict = executed(formula_python(dag, provenance={}, tabular=True), ALLOWED | {"numpy"})["predict"]
        want = ReferenceKernel(lower([dag]))(table)[0]
        np.testing.assert_allclose(np.broadcast_to(predict(values), 9), want, rtol=1e-12, err_msg=text(dag))


def test_what_counts_as_a_table():
    assert "def predict(" in formula_python(parse("x + 1", columns("x")), provenance={})
    assert "def score(" in formula_python(parse("zen + 1"), provenance={})
    assert "def predict(" in formula_python(parse("zen + 1"), provenance={}, tabular=True)


def test_user_operators_of_tables():
    register(
        Op("clipped", 1, "elementwise", lambda np, a: np.minimum(a, 1.0), numba="1.0 if {0} > 1.0 else {0}")
    )
    try:
        names = executed(
            formula_python(parse("2 * clipped(x)", columns("x")), provenance={}), ALLOWED | {"numpy"}
        )
        assert names["predict"]({"x": [0.5, 3.0]}).tolist() == [1.0, 2.0]
    finally:
        unregister("clipped")


# ---- the file ---


def test_texts_of_users_do_not_become_code():
    leaves = columns(NASTY)
    dag = Dag([Node("leaf", NASTY), Node("op", "abs", (0,))], leaves)
    hostile = {"a\nraise SystemExit": 'x"""\nraise SystemExit\r\fraise SystemExit\u2028', "coding": "latin-1"}
    source = formula_python(dag, provenance=hostile)
    tree = ast.parse(source)
    assert not any(isinstance(node, ast.Raise) for node in ast.walk(tree))
    names = executed(source, ALLOWED | {"numpy"})
    assert names["predict"]({NASTY: [-2.0]}).tolist() == [2.0]
    assert names["FORMULA"] == text(dag)
    assert source.encode().decode() == source


def test_leaves_that_cannot_be_measured():
    odd_leaf = {"mine": Leaf("mine", "layer")}
    with pytest.raises(CompileError, match="leaf 'mine' on the layer axis is no statistic of the package"):
        formula_python(parse("sum(mine)", odd_leaf), provenance={})
    with pytest.raises(CompileError, match="this part of a formula is on the layer axis"):
        formula_python(parse("mean(w)", root_axis="layer"), provenance={})
    with pytest.raises(CompileError, match="leaf 'a b' on the row axis"):
        formula_python(parse("`a b` + 1", columns("a b")), provenance={}, tabular=False)


def test_long_formulas_keep_lines_short():
    dag = parse(" + ".join(f"sum(std((w - mean(w)) * {k}.{k}e-07) * log(numel + {k}))" for k in range(1, 30)))
    source = formula_python(dag, provenance={})
    assert executed(source)["FORMULA"] == text(dag)
    assert max(map(len, source.splitlines())) <= 125


@pytest.mark.parametrize("name", MEASURED)
def test_files_hold_what_they_need_and_no_more(name):
    source = formula_python(parse(probe(name)), provenance={"name": name})
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--target-version=py311",
            "--select=F,E4,E7,E9,W,I,UP,B",
            "-",
        ],
        input=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    tree = ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("__"):
            assert node.name in used | {"score"}, f"{node.name} is not used"


def test_a_file_runs_where_only_torch_is_installed(tmp_path):
    (tmp_path / "formula.py").write_text(
        formula_python(parse("sum(min_eig) + swap + jacov"), provenance={}), encoding="utf-8"
    )
    code = """
        import importlib.abc, sys, warnings
        class Only(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("proxygraph", "numpy", "numba", "networkx", "safetensors"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Only())
        warnings.simplefilter("ignore")  # torch says that numpy is missing
        import torch
        warnings.simplefilter("error")
        import formula
        layers = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4)
        print(formula.score(torch.nn.Sequential(*layers), torch.randn(5, 3, 8, 8)))
    """
    lines = [line[8:] for line in code.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert np.isfinite(float(done.stdout))


def test_parts_leave_out_what_is_not_used():
    few = "\n".join(Parts([("proxygraph.standalone.leaves", "leaf_w")]).sources())
    assert "slopes" not in few
    assert "def first(" in few
    more = Parts([("proxygraph.standalone.leaves", "leaf_swap")])
    assert ("torch.nn", "functional", "F") in more.imports
    assert any(source.startswith("RECTIFIERS = ") for source in more.sources())
