"""The vector functions: error in ulp against wider arithmetic, special values, no dependence on position."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from proxygraph.kernels import vecmath

mpmath: Any = pytest.importorskip("mpmath")  # comes with sympy
DTYPES = (np.float32, np.float64)
# numpy's name and the largest error in ulp allowed for float32 and float64
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "exp": (np.exp, 1.1, 1.1),
    "log": (np.log, 1.0, 1.0),
    "log1p": (np.log1p, 1.6, 1.6),
    "tanh": (np.tanh, 1.9, 1.9),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2.0, 2.2),
    "sin": (np.sin, 2.0, 2.2),
    "cos": (np.cos, 2.0, 2.2),
}
INF, NAN = math.inf, math.nan
EXACT_INTERVALS = {np.float32: (-104.0, 90.0), np.float64: (-746.0, 711.0)}


def run(name: str, x: NDArray[Any], *more: Any) -> NDArray[Any]:
    out = np.full_like(x, 17.0)
    getattr(vecmath, name + "_into")(out, x, *more)
    return out


def errors(got: NDArray[Any], exact: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance in units in the last place of the exact value; inf where one is not finite."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        unit = np.spacing(np.abs(rounded)).astype(exact.dtype)
        ulp = np.abs(got.astype(exact.dtype) - exact) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(exact))
    return np.where(same & ~np.isfinite(rounded), 0.0, np.where(np.isfinite(ulp), ulp, INF)).astype(float)


def sample(dtype: Any, n: int, seed: int = 0) -> NDArray[Any]:
    """All signs, exponents and subnormals alike, and the ranges where something happens."""
    rng = np.random.default_rng(seed)
    integer = np.int32 if dtype == np.float32 else np.int64
    limits = np.iinfo(integer)
    low, high = EXACT_INTERVALS[dtype]
    turns = rng.integers(-20_000, 20_000, n) * (np.longdouble(np.pi) / 2)
    parts = [
        rng.integers(limits.min, limits.max, n, dtype=integer).view(dtype),
        rng.uniform(low, high, n).astype(dtype),
        rng.uniform(-2, 2, n).astype(dtype),
        rng.uniform(-12, 12, n).astype(dtype),
        (1 + rng.normal(size=n) / 64).astype(dtype),
        rng.uniform(-1e6, 1e6, n).astype(dtype),
        turns.astype(dtype),
    ]
    return np.concatenate(parts)


def exact(name: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return the value in the next wider type; longdouble is checked against mpmath below."""
    wide: Any = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        result: NDArray[Any] = FUNCTIONS[name][0](x.astype(wide))
    return result


needs_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="longdouble is no wider than double here"
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_of_float32(name: str) -> None:
    x = sample(np.float32, 15_000)
    ulp = errors(run(name, x), exact(name, x))
    worst = int(ulp.argmax())
    assert ulp[worst] <= FUNCTIONS[name][1], f"{name}({x[worst]!r}): {ulp[worst]} ulp"


@needs_longdouble
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_of_float64(name: str) -> None:
    x = sample(np.float64, 15_000)
    ulp = errors(run(name, x), exact(name, x))
    worst = int(ulp.argmax())
    assert ulp[worst] <= FUNCTIONS[name][2], f"{name}({x[worst]!r}): {ulp[worst]} ulp"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_of_float64_against_mpmath(name: str) -> None:
    x = sample(np.float64, 60, seed=1)
    got = run(name, x)
    functions = {
        "sigmoid": lambda a: 1 / (1 + mpmath.exp(-a)),
        "log1p": lambda a: mpmath.log(1 + a),
    }
    function = functions.get(name) or getattr(mpmath, name)
    with mpmath.workprec(2400):  # 1 + x and the reduction by pi for every float64
        for a, y in zip(x, got, strict=True):
            if not np.isfinite(y):
                continue
            truth = function(mpmath.mpf(float(a)))
            unit = np.spacing(abs(float(truth)))
            assert abs(mpmath.mpf(float(y)) - truth) <= FUNCTIONS[name][2] * mpmath.mpf(float(unit)), a


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_of_millions(name: str, dtype: Any) -> None:
    for seed in range(2, 12):
        x = sample(dtype, 100_000, seed)
        assert errors(run(name, x), exact(name, x)).max() <= FUNCTIONS[name][1 if dtype == np.float32 else 2]


def test_errors_can_be_seen() -> None:
    x = sample(np.float32, 1000)
    good = run("exp", x)
    assert errors(np.nextafter(good, np.float32(INF)), exact("exp", x)).max() > FUNCTIONS["exp"][1]
    assert errors(np.array([NAN]), np.array([1.0]))[0] == INF
    assert errors(np.array([1.0]), np.array([INF]))[0] == INF


SPECIAL = [0.0, -0.0, INF, -INF, NAN, 1.0, -1.0]
EXPECTED: dict[str, list[float | None]] = {
    "exp": [1.0, 1.0, INF, 0.0, NAN, None, None],
    "log": [-INF, -INF, INF, NAN, NAN, 0.0, NAN],
    "log1p": [0.0, -0.0, INF, NAN, NAN, None, -INF],
    "tanh": [0.0, -0.0, 1.0, -1.0, NAN, None, None],
    "sigmoid": [0.5, 0.5, 1.0, 0.0, NAN, None, None],
    "sin": [0.0, -0.0, NAN, NAN, NAN, None, None],
    "cos": [1.0, 1.0, NAN, NAN, NAN, None, None],
    "sign": [0.0, 0.0, 1.0, -1.0, NAN, 1.0, -1.0],
    "relu": [0.0, 0.0, INF, 0.0, NAN, 1.0, 0.0],
}


def same_bits(a: Any, b: Any) -> bool:
    return bool((np.isnan(a) and np.isnan(b)) or (a == b and np.signbit(a) == np.signbit(b)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXPECTED)
def test_special_values(name: str, dtype: Any) -> None:
    got = run(name, np.array(SPECIAL, dtype))
    for x, y, expected in zip(SPECIAL, got, EXPECTED[name], strict=True):
        assert expected is None or same_bits(y, expected), f"{name}({x}) = {y}, not {expected}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_arguments_come_back(dtype: Any) -> None:
    info = np.finfo(dtype)
    x = np.array([info.smallest_subnormal, info.tiny, info.eps**2, -info.smallest_subnormal], dtype)
    for name in ("log1p", "tanh", "sin"):
        np.testing.assert_array_equal(run(name, x), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_overflow_and_gradual_underflow(dtype: Any) -> None:
    info = np.finfo(dtype)
    top = dtype(np.log(np.float64(info.max)))
    assert run("exp", np.array([top * dtype(0.9999), top * dtype(1.0001)])).tolist()[1] == INF
    assert np.isfinite(run("exp", np.array([top * dtype(0.9999)])))[0]
    for name in ("exp", "sigmoid"):
        low = run(name, np.array([np.log(np.float64(info.tiny)) - 3.0], dtype))[0]
        assert 0 < low < info.tiny
    huge = np.array([-info.max, info.max], dtype)
    assert run("exp", huge).tolist() == [0.0, INF]
    assert run("sigmoid", huge).tolist() == [0.0, 1.0]
    assert run("tanh", huge).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sine_on_both_sides_of_the_limit(dtype: Any) -> None:
    limit = dtype(vecmath.SIN_LIMIT)
    x = np.array([limit, np.nextafter(limit, dtype(INF)), 1e9, 1e22, -1e22, 1.0, np.finfo(dtype).max], dtype)
    for name in ("sin", "cos"):
        want = np.array([float(getattr(mpmath, name)(mpmath.mpf(float(a)))) for a in x])
        assert errors(run(name, x), want).max() <= 2.2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*EXPECTED, "pow"])
def test_a_value_has_one_result_wherever_it_stands(name: str, dtype: Any) -> None:
    more = (-2.5,) if name == "pow" else ()
    values = sample(dtype, 60, seed=3)
    alone = np.concatenate([run(name, values[i : i + 1], *more) for i in range(len(values))])
    for n in (0, 1, 7, 8, 9, 33, len(values)):
        for start in (0, 1, 5):
            got = run(name, values[start : start + n].copy(), *more)
            np.testing.assert_array_equal(got.view(np.uint8), alone[start : start + n].view(np.uint8))
    np.testing.assert_array_equal(run(name, values, *more), run(name, values, *more))


@given(st.sampled_from(sorted(FUNCTIONS)), st.floats(width=32, allow_nan=False))
@settings(max_examples=400, deadline=None)
def test_any_float32(name: str, value: float) -> None:
    x = np.array([value], np.float32)
    assert errors(run(name, x), exact(name, x))[0] <= FUNCTIONS[name][1]


@needs_longdouble
@given(st.sampled_from(sorted(FUNCTIONS)), st.floats(allow_nan=False))
@settings(max_examples=400, deadline=None)
def test_any_float64(name: str, value: float) -> None:
    x = np.array([value])
    assert errors(run(name, x), exact(name, x))[0] <= FUNCTIONS[name][2]


@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.floats(width=32))
@settings(deadline=None)
def test_sign_maximum_minimum_are_numpys(values: list[float], other: float) -> None:
    for dtype in DTYPES:
        x, y = np.array(values, dtype), np.full(len(values), other, dtype)
        np.testing.assert_array_equal(run("sign", x), np.sign(x))
        np.testing.assert_array_equal(run("relu", x), np.maximum(x, 0))
        np.testing.assert_array_equal(run("maximum", x, y), np.maximum(x, y))
        np.testing.assert_array_equal(run("minimum", x, y), np.minimum(x, y))


EXPONENTS = [k / 2 for k in range(-32, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_error_of_pow(dtype: Any) -> None:
    wide: Any = np.float64 if dtype == np.float32 else np.longdouble
    if dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("longdouble is no wider than double here")
    x = np.abs(sample(dtype, 1500, seed=4))
    x = np.concatenate([x, np.exp(np.random.default_rng(5).uniform(-60, 60, 1500)).astype(dtype)])
    x = np.concatenate([x, -x])
    for exponent in EXPONENTS:
        with np.errstate(all="ignore"):
            want = np.power(x.astype(wide), wide(exponent))
        allowed = 0.51 if dtype == np.float32 else 1.5 + 0.75 * abs(exponent)
        got = run("pow", x, exponent)
        # a double rounding can end one subnormal step away, and infinity stands for what exceeds the range
        with np.errstate(over="ignore"):
            edge = np.isinf(got) & (np.abs(want.astype(dtype)) >= np.finfo(dtype).max)
        ulp = np.where(edge, 0.0, errors(got, want))
        worst = int(ulp.argmax())
        assert ulp[worst] <= allowed, f"{x[worst]!r} ** {exponent} = {got[worst]!r}: {ulp[worst]} ulp"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_special_values_of_pow(exponent: float, dtype: Any) -> None:
    x = np.array([0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, -2.0], dtype)
    with np.errstate(all="ignore"):
        want = np.power(x, np.full(len(x), exponent, dtype))  # as the reference does; a scalar 0.5 is a root
    for a, got, expected in zip(x, run("pow", x, exponent), want, strict=True):
        assert same_bits(got, expected), f"{a} ** {exponent} = {got}, not {expected}"


def test_scalars_in_compiled_code_and_outside() -> None:
    @numba.njit
    def both(x: Any) -> Any:
        return vecmath.maximum(vecmath.log(vecmath.exp(x)), vecmath.sin(x)) * vecmath.sign(x)

    for dtype in DTYPES:
        assert both(dtype(2.0)) == pytest.approx(2.0, rel=1e-6)
    with pytest.raises(TypeError, match="exp_into"):
        vecmath.exp(1.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_loops_have_no_calls(name: str) -> None:
    # a call per element is what these functions exist to avoid; sin and cos keep one for huge arguments
    x = np.ones(3, np.float32)
    kept = getattr(vecmath, name + "_into")
    function = numba.njit(nogil=True, error_model="numpy")(kept.py_func)  # code from disk hides its text
    function(np.empty_like(x), x, 1.5) if name == "pow" else function(np.empty_like(x), x)
    (text,) = [t for s, t in function.inspect_llvm().items() if s[1].dtype == numba.float32]
    assert "<4 x float>" in text or "<8 x float>" in text or "<16 x float>" in text
    for call in ("expf", "logf", "log1pf", "tanhf", "powf"):
        assert f"@{call}(" not in text
