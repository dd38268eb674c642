"""Elementary functions that LLVM turns into vector code inside a plain loop.

``math.exp`` in a compiled loop is a call per element. The functions here have no calls, branches or tables,
only multiplications, additions, selections and shifts of bits, so that the loop runs on whole vectors. Each
name exists for scalars, in two precisions chosen by the type of the argument (`exp`, for use in other
compiled code), and for arrays (`exp_into`). Special values are those of numpy, subnormal numbers included.

Method, for all: reduce the argument to a short interval with a constant split in parts whose products are
exact (Cody & Waite 1980), evaluate a polynomial, scale back with the exponent bits (Muller, Elementary
Functions, 3rd ed., ch. 5 and 11). The coefficients are our own: Remez exchange on the relative error of the
function, 50 digits in mpmath, each coefficient rounded to the working precision. What remains of the
approximation is below a fifth of an ulp, the rest is rounding. Largest errors met by
``benchmarks/vecmath.py`` among four million arguments, in ulp, float32 and float64, with fused multiply-add:
exp 1.02 and 1.04, log 0.85 and 0.79, log1p 1.41 and 1.13, tanh 1.50 and 1.50, sigmoid 1.91 and 1.92, sin and
cos 1.85 and 2.03, pow 0.5 and about 1 + 0.7 |exponent|.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from proxygraph.jit import jit
from proxygraph.kernels.intrinsics import (
    add,
    and_,
    bits,
    copysign,
    fma,
    horner,
    inlined,
    of_bits,
    or_,
    select,
    shl,
    shr,
    sub,
    use_wide_vectors,
    xor,
)

# --- constants ----------------------------------------------------------------------------------------------
f32 = np.float32
INF32, NAN32 = f32(np.inf), f32(np.nan)
ONE32, TWO32, HALF32 = f32(1.0), f32(2.0), f32(0.5)
LOG2E = 1.4426950408889634
INV_PI = 0.3183098861837907
# ln 2: the first part is short enough that its product with any exponent is exact
LN2_32 = (0.693145751953125, 1.428606765330187e-06)
LN2_64 = (0.6931471805601177, -1.7239444525614835e-13)
# pi: parts of 33 bits have exact products with integers of 20 bits
PI_32 = (3.1415926534682512, 1.2154201013012384e-10)
PI_64 = (3.1415926534682512, 1.2154201012607932e-10, 4.044532497422333e-21, 1.69568553207378e-31)
# Adding 1.5 * 2**23 (2**52) to a small number rounds it to an integer and leaves that in the low bits. An
# exponent bias added to it comes along for nothing.
ROUND32, ROUND64 = f32(1.5 * 2.0**23), 1.5 * 2.0**52
BIAS32, BIAS64 = f32(1.5 * 2.0**23 + 127), 1.5 * 2.0**52 + 1023
TWICE32, TWICE64 = f32(1.5 * 2.0**23 + 254), 1.5 * 2.0**52 + 2046
SIN_LIMIT = f32(2.0**20)
SIGN32, SIGN64 = -(2**31), -(2**63)

# (expm1(r) - r) / r**2 on |r| <= ln(2)/2, for the relative error of expm1
EXP32 = (0.4999999701976776, 0.1666654348373413, 0.04166720062494278, 0.008366546593606472,
         0.0013882500352337956)  # fmt: skip
EXP64 = (0.5000000000000006, 0.16666666666666588, 0.04166666666657649, 0.008333333333389585,
         0.0013888888931662064, 0.0001984126971911847, 2.4801505147115284e-05, 2.7557407262066746e-06,
         2.762609145431724e-07, 2.5053923850571953e-08)  # fmt: skip
# (tanh(x)/x - 1) / x**2 as a polynomial in x**2, |x| <= 0.5494 = artanh(1/2)
TANH32 = (-0.33333325386047363, 0.13332794606685638, -0.05387074127793312, 0.02113853022456169,
          -0.006359812803566456)  # fmt: skip
TANH64 = (-0.3333333333333333, 0.1333333333333084, -0.053968253965849346, 0.02186948843836875,
          -0.008863233374210135, 0.003592099161461453, -0.0014555853524955266, 0.0005886080956273384,
          -0.00023377433882774937, 8.385132986164033e-05, -1.9810249522064704e-05)  # fmt: skip
# (log1p(f) - f + f**2/2) / f**3 on sqrt(1/2) <= 1 + f <= sqrt(2)
LOG32 = (0.3333333134651184, -0.250008225440979, 0.20001228153705597, -0.16623353958129883,
         0.1420174539089203, -0.13160206377506256, 0.1276165395975113, -0.0763450562953949)  # fmt: skip
# (2 atanh(s)/s - 2) / s**2 as a polynomial in s**2, s = f/(2 + f) with the same f
ATANH64 = (0.6666666666666687, 0.39999999999660535, 0.28571428695904333, 0.22222202787513184,
           0.18183366041568627, 0.15318720685294382, 0.147524080014978)  # fmt: skip
# (sin(r)/r - 1) / r**2 as a polynomial in r**2, |r| <= pi/2
SIN32 = (-0.16666662693023682, 0.008333124220371246, -0.00019813081598840654, 2.612309344840469e-06)
SIN64 = (-0.16666666666666666, 0.008333333333333269, -0.00019841269841231008, 2.7557319214316495e-06,
         -2.505210712781446e-08, 1.6058951164672635e-10, -7.643262085648862e-13,
         2.723790503641276e-15)  # fmt: skip


def _precisions(function: Any, single: Any, double: Any) -> None:
    """Compile calls of `function` as `single` or `double`, by the type of the argument."""

    def choose(x: Any) -> Any:
        if x == types.float32:
            return single
        return double if x == types.float64 else None

    overload(function, jit_options={"forceinline": True})(choose)


def _only_compiled(name: str) -> TypeError:
    return TypeError(f"vecmath.{name} is for compiled code; use vecmath.{name}_into(out, x) on arrays")


# --- exp, tanh, sigmoid -------------------------------------------------------------------------------------
@inlined
def _exp_within32(x: Any) -> Any:
    # e**x = 2**n e**r. The power of two is applied in two halves: it may lie outside the normal numbers
    # although e**x does not, and the last product then rounds once, to a subnormal or to infinity.
    t = fma(x, LOG2E, TWICE32)
    n = t - TWICE32
    r = fma(n, -LN2_32[1], fma(n, -LN2_32[0], x))
    p = ONE32 + fma(r * r, horner(r, EXP32), r)
    m = bits(t)
    half = shr(m, 1)
    return p * of_bits(shl(half, 23)) * of_bits(shl(sub(m, half), 23))


@inlined
def _exp_within64(x: Any) -> Any:
    t = fma(x, LOG2E, TWICE64)
    n = t - TWICE64
    r = fma(n, -LN2_64[1], fma(n, -LN2_64[0], x))
    p = 1.0 + fma(r * r, horner(r, EXP64), r)
    m = bits(t)
    half = shr(m, 1)
    return p * of_bits(shl(half, 52)) * of_bits(shl(sub(m, half), 52))


def _exp32(x: Any) -> Any:
    # comparisons with NaN are false, so that NaN passes both limits
    x = select(x > f32(89.0), 89.0, x)
    return _exp_within32(select(x < f32(-104.0), -104.0, x))


def _exp64(x: Any) -> Any:
    x = select(x > 710.0, 710.0, x)
    return _exp_within64(select(x < -746.0, -746.0, x))


def _sigmoid32(x: Any) -> Any:
    # with e**-|x|, which cannot overflow, small results keep their digits down to the last subnormal
    size = -abs(x)
    e = _exp_within32(select(size < f32(-104.0), -104.0, size))
    total = ONE32 + e
    ratio = select(x < f32(0.0), e, 1.0) / total
    lost = e - (total - ONE32)  # exact; 1 - e/2 stands for 1/total
    return fma(-ratio * lost, fma(e, -0.5, 1.0), ratio)


def _sigmoid64(x: Any) -> Any:
    size = -abs(x)
    e = _exp_within64(select(size < -746.0, -746.0, size))
    total = 1.0 + e
    ratio = select(x < 0.0, e, 1.0) / total
    lost = e - (total - 1.0)  # exact; 1 - e/2 stands for 1/total
    return fma(-ratio * lost, fma(e, -0.5, 1.0), ratio)


def _tanh32(x: Any) -> Any:
    # a polynomial below 1/2, then 1 - 2e/(1 + e) with e = exp(-2|x|): no rounding error is amplified
    size = abs(x)
    z = size * size
    small = fma(size * z, horner(z, TANH32), size)
    y = select(size > f32(12.0), -24.0, size * f32(-2.0))
    t = fma(y, LOG2E, BIAS32)
    n = t - BIAS32
    r = fma(n, -LN2_32[1], fma(n, -LN2_32[0], y))
    scale = of_bits(shl(bits(t), 23))
    e = fma(scale, fma(r * r, horner(r, EXP32), r), scale)
    large = ONE32 - TWO32 * e / (ONE32 + e)
    return copysign(select(size < f32(0.5493), small, large), x)


def _tanh64(x: Any) -> Any:
    size = abs(x)
    z = size * size
    small = fma(size * z, horner(z, TANH64), size)
    y = select(size > 24.0, -48.0, size * -2.0)
    t = fma(y, LOG2E, BIAS64)
    n = t - BIAS64
    r = fma(n, -LN2_64[1], fma(n, -LN2_64[0], y))
    scale = of_bits(shl(bits(t), 52))
    e = fma(scale, fma(r * r, horner(r, EXP64), r), scale)
    large = 1.0 - 2.0 * e / (1.0 + e)
    return copysign(select(size < 0.5493, small, large), x)


# --- log, log1p ---------------------------------------------------------------------------------------------
# A positive number is 2**k m with m between sqrt(1/2) and sqrt(2). Adding (bits of 1) - (bits of sqrt(1/2))
# to its bits carries into the exponent exactly where m has to be halved.
SQRT_HALF32, CARRY32, FRACTION32 = 0x3F3504F3, 0x3F800000 - 0x3F3504F3, (1 << 23) - 1
SQRT_HALF64 = 0x3FE6A09E667F3BCD
CARRY64, FRACTION64 = 0x3FF0000000000000 - SQRT_HALF64, (1 << 52) - 1
SHIFT32, SHIFT64 = f32(2.0**23), 2.0**52
SHIFT_BITS32, SHIFT_BITS64 = 0x4B000000, 0x4330000000000000


@inlined
def _log_sum32(f: Any, k: Any) -> Any:
    """log(1 + f) + k log 2."""
    z = f * f
    rest = fma(k, LN2_32[1], f * z * horner(f, LOG32))
    return fma(k, LN2_32[0], f + fma(z, -0.5, rest))


@inlined
def _log_sum64(f: Any, k: Any) -> Any:
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    rest = fma(s, fma(z, horner(z, ATANH64), half), k * LN2_64[1])
    return fma(k, LN2_64[0], f - (half - rest))


def _log32(x: Any) -> Any:
    tiny = x < f32(2.0**-126)
    carried = add(bits(select(tiny, x * SHIFT32, x)), CARRY32)
    exponent = shr(carried, 23)
    k = of_bits(or_(exponent, SHIFT_BITS32)) - select(tiny, SHIFT32 + f32(127 + 23), SHIFT32 + f32(127))
    f = of_bits(add(and_(carried, FRACTION32), SQRT_HALF32)) - ONE32
    special = select(x > f32(0.0), x, select(x == f32(0.0), -INF32, NAN32))
    return select((x > f32(0.0)) & (x < INF32), _log_sum32(f, k), special)


def _log64(x: Any) -> Any:
    tiny = x < 2.0**-1022
    carried = add(bits(select(tiny, x * SHIFT64, x)), CARRY64)
    exponent = shr(carried, 52)
    k = of_bits(or_(exponent, SHIFT_BITS64)) - select(tiny, SHIFT64 + (1023 + 52), SHIFT64 + 1023)
    f = of_bits(add(and_(carried, FRACTION64), SQRT_HALF64)) - 1.0
    special = select(x > 0.0, x, select(x == 0.0, -np.inf, np.nan))
    return select((x > 0.0) & (x < np.inf), _log_sum64(f, k), special)


def _log1p32(x: Any) -> Any:
    u = ONE32 + x
    v = u - ONE32
    lost = (ONE32 - (u - v)) + (x - v)  # exact: u + lost = 1 + x (Knuth's sum with its error)
    carried = add(bits(u), CARRY32)
    exponent = shr(carried, 23)
    k = of_bits(or_(exponent, SHIFT_BITS32)) - (SHIFT32 + f32(127))
    # 2**(1-k) rather than 2**-k, which is no normal number for the largest u
    lost = lost * of_bits(shl(sub(255, exponent), 23)) * HALF32
    f = (of_bits(add(and_(carried, FRACTION32), SQRT_HALF32)) - ONE32) + lost
    special = select(x > f32(-1.0), x, select(x == f32(-1.0), -INF32, NAN32))
    inside = (x > f32(-1.0)) & (x < INF32) & (x != f32(0.0))  # log1p(-0.0) is -0.0
    return select(inside, _log_sum32(f, k), special)


def _log1p64(x: Any) -> Any:
    u = 1.0 + x
    v = u - 1.0
    lost = (1.0 - (u - v)) + (x - v)
    carried = add(bits(u), CARRY64)
    exponent = shr(carried, 52)
    k = of_bits(or_(exponent, SHIFT_BITS64)) - (SHIFT64 + 1023)
    lost = lost * of_bits(shl(sub(2047, exponent), 52)) * 0.5
    f = (of_bits(add(and_(carried, FRACTION64), SQRT_HALF64)) - 1.0) + lost
    special = select(x > -1.0, x, select(x == -1.0, -np.inf, np.nan))
    inside = (x > -1.0) & (x < np.inf) & (x != 0.0)
    return select(inside, _log_sum64(f, k), special)


# --- sin, cos -----------------------------------------------------------------------------------------------
# |x| = k pi + r with |r| <= pi/2: one polynomial instead of two and a selection. For the cosine k is half an
# integer: cos(x) = sin(x + pi/2). The sign of the result, the parity of k, is given to r.
@inlined
def _rest32(x: Any, shift: Any) -> Any:
    # in float64, where two parts of pi suffice for the smallest r that a float32 below the limit can have
    size = abs(np.float64(x))
    t = fma(size, INV_PI, shift) + ROUND64
    k = t - ROUND64 - shift
    r = fma(k, -PI_32[1], fma(k, -PI_32[0], size))
    return f32(of_bits(xor(bits(r), shl(bits(t), 63))))


@inlined
def _sine32(r: Any) -> Any:
    z = r * r
    return fma(r * z, horner(z, SIN32), r)


@inlined
def _sine64(x: Any, shift: Any) -> Any:
    size = abs(x)
    t = fma(size, INV_PI, shift) + ROUND64
    k = t - ROUND64 - shift
    a = fma(k, -PI_64[0], size)  # exact
    b = k * PI_64[1]
    c = k * PI_64[2]
    first = a - b
    high = first - c
    # the errors of the two differences are exact (Dekker: a and first are multiples of the last bit of b, c)
    low = fma(k, -PI_64[3], ((a - first) - b) + ((first - high) - c))
    r = high + low
    low = (high - r) + low
    z = r * r
    slope = fma(z, -0.4052847345693511, 1.0)  # cos(r) as 1 - 4 r**2/pi**2: low is half an ulp at most
    y = r + fma(r * z, horner(z, SIN64), low * slope)
    return of_bits(xor(bits(y), shl(bits(t), 63)))


@inlined
def _flipped(y: Any, sign: Any) -> Any:
    return of_bits(xor(bits(y), sign))


def _sin32(x: Any) -> Any:
    return _flipped(_sine32(_rest32(x, 0.0)), and_(bits(x), SIGN32))


def _sin64(x: Any) -> Any:
    return _flipped(_sine64(x, 0.0), and_(bits(x), SIGN64))


def _cos32(x: Any) -> Any:
    return _sine32(_rest32(x, 0.5))


def _cos64(x: Any) -> Any:
    return _sine64(x, 0.5)


# --- pow, sign, maximum, minimum ----------------------------------------------------------------------------
@inlined
def _power(x: Any, p: Any) -> Any:
    """Two factors of x**p, float64, for 0 <= p <= 16, both about as large as the root of the product."""
    # The exponent is the same for all elements, yet a selection would be turned into one loop per case; with
    # masks, factors that are not wanted become 1.
    one = bits(1.0)
    x2 = x * x
    x4 = x2 * x2
    a = -((p >> 1) & 1)
    b = -((p >> 2) & 1)
    c = -((p >> 3) & 1)
    d = -((p >> 4) & 1)
    odd = -(p & 1)
    low = of_bits(or_(and_(bits(x), a), one & ~a)) * of_bits(or_(and_(bits(x2), b), one & ~b))
    high = of_bits(or_(and_(bits(x4), c), one & ~c)) * of_bits(or_(and_(bits(x4 * x4), d), one & ~d))
    return low * high, low * high * of_bits(or_(and_(bits(x), odd), one & ~odd))


@inlined
def _root_base(x: Any) -> Any:
    # as in numpy (C99, F.9.4.4): half-integer powers of -inf are those of inf, those of -0.0 those of 0.0
    return select((x < 0.0) & (x > -np.inf), np.nan, abs(x))


# --- scalars ------------------------------------------------------------------------------------------------
def exp(x: Any) -> Any:
    """Return e**x; overflow gives inf, underflow is gradual."""
    raise _only_compiled("exp")


def log(x: Any) -> Any:
    """Return the natural logarithm; -inf at 0, NaN below."""
    raise _only_compiled("log")


def log1p(x: Any) -> Any:
    """Return log(1 + x) without loss for small x; -inf at -1, NaN below."""
    raise _only_compiled("log1p")


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent, relatively accurate for small x."""
    raise _only_compiled("tanh")


def sigmoid(x: Any) -> Any:
    """Return 1/(1 + exp(-x)), relatively accurate for all results, subnormal ones included."""
    raise _only_compiled("sigmoid")


def sin(x: Any) -> Any:
    """Return the sine, for ``|x| <= SIN_LIMIT`` only; `sin_into` takes all x."""
    raise _only_compiled("sin")


def cos(x: Any) -> Any:
    """Return the cosine, for ``|x| <= SIN_LIMIT`` only; `cos_into` takes all x."""
    raise _only_compiled("cos")


def sign(x: Any) -> Any:
    """Return -1.0, 0.0 or 1.0; NaN for NaN; never -0.0."""
    raise _only_compiled("sign")


def maximum(x: Any, y: Any) -> Any:
    """Return the larger argument, NaN if one is NaN."""
    raise _only_compiled("maximum")


def minimum(x: Any, y: Any) -> Any:
    """Return the smaller argument, NaN if one is NaN."""
    raise _only_compiled("minimum")


def _sign_any(x: Any) -> Any:
    zero = fma(x, 1.0, 0.0)  # keeps NaN, turns -0.0 into 0.0
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, zero))


def _maximum_any(x: Any, y: Any) -> Any:
    return select((x > y) | (x != x), x, y)


def _minimum_any(x: Any, y: Any) -> Any:
    return select((x < y) | (x != x), x, y)


_precisions(exp, _exp32, _exp64)
_precisions(log, _log32, _log64)
_precisions(log1p, _log1p32, _log1p64)
_precisions(tanh, _tanh32, _tanh64)
_precisions(sigmoid, _sigmoid32, _sigmoid64)
_precisions(sin, _sin32, _sin64)
_precisions(cos, _cos32, _cos64)
_precisions(sign, _sign_any, _sign_any)


@overload(maximum, jit_options={"forceinline": True})
def _choose_maximum(x: Any, y: Any) -> Any:
    return _maximum_any


@overload(minimum, jit_options={"forceinline": True})
def _choose_minimum(x: Any, y: Any) -> Any:
    return _minimum_any


# --- arrays -------------------------------------------------------------------------------------------------
@jit()
def exp_into(out: Any, x: Any) -> None:
    """Write `exp` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = exp(x[i])


@jit()
def log_into(out: Any, x: Any) -> None:
    """Write `log` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = log(x[i])


@jit()
def log1p_into(out: Any, x: Any) -> None:
    """Write `log1p` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = log1p(x[i])


@jit()
def tanh_into(out: Any, x: Any) -> None:
    """Write `tanh` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = tanh(x[i])


@jit()
def sigmoid_into(out: Any, x: Any) -> None:
    """Write `sigmoid` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = sigmoid(x[i])


@jit()
def sign_into(out: Any, x: Any) -> None:
    """Write `sign` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = sign(x[i])


@jit()
def maximum_into(out: Any, x: Any, y: Any) -> None:
    """Write `maximum` of the elements of `x` and `y` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = maximum(x[i], y[i])


@jit()
def minimum_into(out: Any, x: Any, y: Any) -> None:
    """Write `minimum` of the elements of `x` and `y` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = minimum(x[i], y[i])


@jit()
def relu_into(out: Any, x: Any) -> None:
    """Write ``maximum(x, 0)`` of each element of `x` to `out`."""
    use_wide_vectors()
    for i in range(len(x)):
        out[i] = select((x[i] > 0.0) | (x[i] != x[i]), x[i], 0.0)


def _near_into(out: Any, x: Any, shift: Any) -> Any:
    """Write the sine (`shift` 0) or cosine (1/2); return whether an element was beyond the limit."""
    raise _only_compiled("near")


def _near32_into(out: Any, x: Any, shift: Any) -> Any:
    use_wide_vectors()  # here too: numba optimises a function before it is inlined
    # two loops: vectors hold as many elements as the widest number in their loop allows
    far = 0
    for i in range(len(x)):
        far |= abs(x[i]) > SIN_LIMIT
        out[i] = _rest32(x[i], shift)
    odd = SIGN32 if shift == 0.0 else 0
    for i in range(len(x)):
        out[i] = _flipped(_sine32(out[i]), and_(bits(x[i]), odd))
    return far


def _near64_into(out: Any, x: Any, shift: Any) -> Any:
    use_wide_vectors()
    far = 0
    odd = SIGN64 if shift == 0.0 else 0
    for i in range(len(x)):
        far |= abs(x[i]) > SIN_LIMIT
        out[i] = _flipped(_sine64(x[i], shift), and_(bits(x[i]), odd))
    return far


@overload(_near_into, jit_options={"forceinline": True})
def _choose_near(out: Any, x: Any, shift: Any) -> Any:
    return _near32_into if x.dtype == types.float32 else _near64_into


@jit()
def sin_into(out: Any, x: Any) -> None:
    """Write the sine of each element of `x` to `out`; elements beyond the limit of `sin` one by one."""
    use_wide_vectors()
    if _near_into(out, x, 0.0):
        for i in range(len(x)):
            if abs(x[i]) > SIN_LIMIT:
                out[i] = math.sin(x[i])


@jit()
def cos_into(out: Any, x: Any) -> None:
    """Write the cosine of each element of `x` to `out`; elements beyond the limit of `cos` one by one."""
    use_wide_vectors()
    if _near_into(out, x, 0.5):
        for i in range(len(x)):
            if abs(x[i]) > SIN_LIMIT:
                out[i] = math.cos(x[i])


@jit()
def pow_into(out: Any, x: Any, exponent: Any) -> None:
    """Write ``x ** exponent`` of each element of `x` to `out`: products, a root, divisions.

    They are done in float64 for both types.

    Parameters
    ----------
    out, x : ndarray, shape (n,)
        Of one dtype, contiguous, not overlapping.
    exponent : float
        A multiple of 1/2, at most 16 in size (`proxygraph.ops.is_half_integer`); not checked here.
    """
    use_wide_vectors()
    # Dividing by the two factors in turn, not by their product, which may overflow when the result does not
    p = int(abs(exponent))
    rooted = abs(exponent) != p
    if rooted and exponent < 0.0:
        for i in range(len(x)):
            base = _root_base(np.float64(x[i]))
            a, b = _power(base, p)
            out[i] = (1.0 / (a * math.sqrt(base))) * (1.0 / b)
    elif rooted and p == 0:
        for i in range(len(x)):  # in the type of x: no conversions, and short vectors hold more
            out[i] = select(x[i] == -np.inf, np.inf, fma(math.sqrt(x[i]), 1.0, 0.0))
    elif rooted:
        for i in range(len(x)):
            base = _root_base(np.float64(x[i]))
            a, b = _power(base, p)
            out[i] = a * math.sqrt(base) * b
    elif exponent < 0.0:
        for i in range(len(x)):
            a, b = _power(np.float64(x[i]), p)
            out[i] = (1.0 / a) * (1.0 / b)
    else:
        for i in range(len(x)):
            a, b = _power(np.float64(x[i]), p)
            out[i] = a * b
