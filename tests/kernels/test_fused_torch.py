"""What is particular to the torch kernel: its text, devices, compiling, dtypes.

That its numbers are the reference's is tested in ``tests/contracts/test_backends.py``.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from proxygraph.dag import Dag, Node
from proxygraph.errors import BackendUnavailable, CompileError, ConfigError
from proxygraph.infix import parse
from proxygraph.kernels import compile_kernel, fused_torch
from proxygraph.kernels.fused_torch import TorchKernel, function
from proxygraph.kernels.fused_torch_source import emit_torch
from proxygraph.kernels.reference import ReferenceKernel
from proxygraph.leaves import Leaf
from proxygraph.ops import OPS, Op, register, unregister
from proxygraph.program import lower
from proxygraph.table import StatTable
from tests.contracts.agreement import compare, same
from tests.strategies import ALL_OPS, random_dag, random_table

SNIP = "sum(sum(abs(w*g)))"
FORMULAS = (
    SNIP,
    "sum(log(mean(abs(g)) / std(g)))",
    "sum(mean(((w - mean(w)) / std(w))**3))",
    "sum(std(w * log1p(mean(mean(abs(w)) * nwot) / zen)) * mean(a - max(a)))",
)


@pytest.fixture
def median():
    op = register(Op("median", 1, "reduction", lambda np, v, count: np.median(v), torch="{0}.quantile(0.5)"))
    yield op
    unregister(op.name)


# ---- the text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ALL_OPS if OPS[name].kind == "reduction"])
def test_every_built_in_reduction_takes_all_segments_at_once(name: str):
    text = emit_torch(parse(f"sum({name}(w))")).text
    assert "each(" not in text
    assert text.count("total(") + text.count("lowest(") + text.count("highest(") >= 2


def test_large_values_are_freed_after_their_last_use():
    text = emit_torch(parse("sum(mean(((w - mean(w)) / std(w))**3))")).text
    lines = [line.strip() for line in text.splitlines()]
    freed = [name for line in lines if line.startswith("del ") for name in line[4:].split(", ")]
    fine = {"v0", "v1_element", "v2", "v3_first", "v3_element", "v4", "v6"}
    assert set(freed) == fine
    assert len(freed) == len(fine)


def test_a_value_is_spread_once_for_each_axis():
    text = emit_torch(parse("sum(mean(w - mean(w)) + std(w * mean(w)))")).text
    assert text.count("spread(v1, element)") == 1


def test_axes_without_broadcasts_need_no_index():
    assert emit_torch(parse(SNIP)).spread == frozenset()
    assert emit_torch(parse("sum(mean(w - mean(w)))")).spread == {"element"}
    assert emit_torch(parse("sum(std(w))")).spread == {"element"}  # the first value of each segment


def test_a_finer_root_is_refused():
    with pytest.raises(CompileError, match=r"the formula mean\(w\) is on the layer axis"):
        emit_torch(parse("mean(w)", root_axis=None))


# ---- operators of users ----------------------------------------------------------------------------------


def test_a_reduction_that_needs_its_values_in_order_runs_segment_by_segment(median: Op):
    program = lower([parse("sum(median(w))")])
    kernel = TorchKernel(program)
    assert "each(lambda v: (v.quantile(0.5)), v0, element)" in kernel.source
    table = random_table(np.random.default_rng(1), empty=True)
    assert compare(kernel(table), program, table).mean() > 0.6


@pytest.mark.parametrize(
    ("init", "update", "final"),
    [
        ("1.0", "{s0} * {x}", "{s0}"),  # a product
        ("0.0", "{s0} + {x} * {s0}", "{s0}"),  # depends on what came before
        ("1.0", "{s0} + {x}", "{s0}"),  # does not start at 0
        ("0.0", "np.maximum({s0}, {x})", "{s0}"),  # never below 0
        ("0.0", "{s0} + {x}", "{s0} if {n} > 1 and {s0} > 0.0 else 0.0"),  # `and` of tensors is an error
        ("0.0", "{s0} + np.floor_divide({x}, 2.0)", "{s0}"),  # no function that torch has too
    ],
)
def test_what_is_no_sum_or_extreme_is_never_taken_for_one(init: str, update: str, final: str):
    op = Op("odd", 1, "reduction", lambda np, v, count: 0.0, init=(init,), update=(update,), final=final)
    register(op)
    try:
        with pytest.raises(CompileError, match=r"operator 'odd' has no torch template and no form over seg"):
            emit_torch(parse("sum(odd(w))"))
    finally:
        unregister("odd")


def test_an_operator_without_template_is_named_with_the_remedy():
    register(Op("erf", 1, "elementwise", lambda np, a: a, numba="{0}"))
    try:
        with pytest.raises(
            CompileError, match=r"'erf' has no torch template.*`torch` expression.*'reference'"
        ):
            TorchKernel(lower([parse("erf(params)")]))
    finally:
        unregister("erf")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{0} +", "torch template is not Python"),
        ("{1} + 1", r"operator 'odd': the template '\(\{1\} \+ 1\)' cannot be filled"),
        ("{0} + nothing", "torch refuses an operator's template in formula_.*: .*nothing"),
        ("torch.nothing({0})", "torch refuses an operator's template in formula_.*: .*nothing"),
    ],
)
def test_a_wrong_template_is_a_compile_error(template: str, message: str):
    register(Op("odd", 1, "elementwise", lambda np, a: a, torch=template))
    try:
        with pytest.raises(CompileError, match=message):
            TorchKernel(lower([parse("odd(params)")]))(StatTable.from_columns(None, {"params": [1.0]}))
    finally:
        unregister("odd")


def test_a_constant_in_a_users_template_is_a_tensor():
    register(
        Op("larger", 2, "elementwise", lambda np, a, b: np.maximum(a, b), torch="torch.maximum({0}, {1})")
    )
    try:
        program = lower([parse("larger(2.5, params)")])
        got = TorchKernel(program)(StatTable.from_columns(None, {"params": [1.0, 3.0]}))
        np.testing.assert_array_equal(got, [[2.5, 3.0]])
    finally:
        unregister("larger")


# ---- running ---------------------------------------------------------------------------------------------


def test_formulas_of_constants_alone():
    table = StatTable.from_columns(None, {"params": [3.0, 0.0]}, {"params": Leaf("params", "row")})
    for formula in ("log(2)", "-1/0", "params / (-1/0)", "params + 1/0", "params * log(-1)", "-0.5 / params"):
        program = lower([parse(formula)])
        np.testing.assert_array_equal(TorchKernel(program)(table), ReferenceKernel(program)(table))


def test_a_quotient_of_tiny_numbers_is_no_product_with_an_inverse():
    leaf = {"x": Leaf("x", "row")}
    dag = Dag([Node("const", value=1e-310), Node("leaf", "x"), Node("op", "div", (0, 1))], leaf)
    got = TorchKernel(lower([dag]))(StatTable.from_columns(None, {"x": [2e-310]}, leaf))
    assert got[0, 0] == pytest.approx(0.5)


def test_layers_without_any_entry():
    offsets = {"layer": np.array([0, 2]), "element": np.array([0, 0, 0])}
    leaf = {"w": Leaf("w", "element")}
    table = StatTable(("r",), {"w": np.empty(0)}, leaf, offsets, {}, {})
    for formula in ("sum(std(w))", "max(max(w - mean(w)))", SNIP.replace("*g", "")):
        program = lower([parse(formula)])
        np.testing.assert_array_equal(TorchKernel(program)(table), ReferenceKernel(program)(table))


def test_columns_stay_as_they_are_and_no_warning_is_given():
    table = random_table(np.random.default_rng(2))
    before = {name: column.copy() for name, column in table.columns.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchKernel(lower([parse(formula) for formula in FORMULAS]))(table)
    for name, column in table.columns.items():
        assert not column.flags.writeable
        np.testing.assert_array_equal(column, before[name])


def test_float32_is_a_choice_and_gives_float32_digits():
    program, table = lower([parse(SNIP)]), random_table(np.random.default_rng(3))
    exact = ReferenceKernel(program)(table)
    got = TorchKernel(program, dtype="float32")(table)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, exact, rtol=1e-5)
    assert (got != exact).any()
    with pytest.raises(ConfigError, match="dtype='float16': the torch kernel computes in float64 or float32"):
        TorchKernel(program, dtype="float16")


def test_the_options_travel_with_the_kernel():
    kernel = pickle.loads(pickle.dumps(TorchKernel(lower([parse(SNIP)]), dtype="float32")))
    assert (kernel.device, kernel.compiled, kernel.dtype) == ("cpu", False, "float32")
    assert compile_kernel(kernel.program, "torch", dtype="float32").key == kernel.key
    with pytest.raises(ConfigError, match="'torch' has no option 'threads'; it has: device, compiled, dtype"):
        compile_kernel(kernel.program, "torch", threads=2)
    with pytest.raises(ConfigError, match="'reference' has no option 'device'; it has: none"):
        compile_kernel(kernel.program, "reference", device="cpu")


@pytest.mark.parametrize("device", ["nowhere", "meta", "cuda:99"])
def test_a_device_that_cannot_be_used_is_refused(device: str):
    with pytest.raises(BackendUnavailable, match=rf"cannot compute in float64 on the device '{device}': \S+"):
        TorchKernel(lower([parse(SNIP)]), device=device)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        BackendUnavailable, match=r"needs a C\+\+ compiler and there is no 'no-such-compiler'.*CXX.*=False"
    ):
        TorchKernel(lower([parse(SNIP)]), compiled=True)
    monkeypatch.setattr(fused_torch, "_require_device", lambda device, dtype: None)
    monkeypatch.setattr(fused_torch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="needs triton for the device 'cuda:0'"):
        TorchKernel(lower([parse(SNIP)]), device="cuda:0", compiled=True)


def test_functions_are_remembered_within_a_bound():
    formula = emit_torch(parse(SNIP))
    assert function(formula.name, formula.text, False) is function(formula.name, formula.text, False)
    assert function.cache_info().maxsize == fused_torch.MAX_COMPILED


def test_torch_is_imported_when_a_kernel_is_made_and_not_before():
    program = (
        "import sys; from proxygraph.kernels import fused_torch, fused_torch_source; "
        "from proxygraph.infix import parse; fused_torch_source.emit_torch(parse('sum(sum(w))')); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.slow
def test_compiled_functions_agree_on_tables_of_all_sizes():
    program = lower([parse(formula) for formula in FORMULAS])
    try:
        kernel = TorchKernel(program, compiled=True)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # torch's compiler warns of its own doings
        for n_rows in (1, 2, 7):
            table = random_table(np.random.default_rng(n_rows), n_rows=n_rows, empty=n_rows == 7)
            compare(kernel(table), program, table)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_cuda_agrees_with_the_reference(compiled: bool):
    rng = np.random.default_rng(8)
    dags = [parse(formula) for formula in FORMULAS]
    program = lower(dags if compiled else [*dags, *(random_dag(rng, min_ops=4) for _ in range(100))])
    kernel = TorchKernel(program, device="cuda", compiled=compiled)
    for empty in (False, True):
        table = random_table(rng, empty=empty)
        assert compare(kernel(table), program, table).mean() > 0.6
    assert same(kernel(table), kernel(table), 0.0).all()
