"""What numba does not offer: arithmetic that stays in the type of its argument, addresses, width of vectors.

numba widens int32 + int32 to 64 bits and float32 * 0.5 to float64; the functions here work in the narrowest
type among their arguments, so that constants can be plain Python numbers. For compiled code only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable
from numba.np.numpy_support import carray

from proxygraph.jit import jit

F = TypeVar("F", bound=Callable[..., Any])


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    # numba's own type would have every call pass the typing context too
    made: Callable[..., Any] = intrinsic(function)
    return made


def inlined(function: F) -> F:
    """Let compiled code call a Python function without a call."""
    helper: F = register_jitable(forceinline=True)(function)
    return helper


def _llvm(numba_type: Any) -> Any:
    return {
        types.float32: ir.FloatType(),
        types.float64: ir.DoubleType(),
        types.int32: ir.IntType(32),
        types.int64: ir.IntType(64),
    }[numba_type]


def _narrowed(builder: Any, value: Any, numba_type: Any) -> Any:
    """`value`, a float, in the wanted precision; constants are folded."""
    return value if value.type == _llvm(numba_type) else builder.fptrunc(value, _llvm(numba_type))


def _common(*args: Any) -> Any:
    return types.float32 if types.float32 in args else types.float64


def _call(builder: Any, name: str, args: Any) -> Any:
    """Call an LLVM intrinsic whose arguments and result are of one type."""
    kind = args[0].type
    function_type = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(builder.module.declare_intrinsic(name, [kind], function_type), args)


@_intrinsic
def address(typing_context: Any, array: Any, entry: Any) -> Any:
    """Return the address of an entry of a contiguous array."""
    kind: Any = types.CPointer(array.dtype)  # type: ignore[no-untyped-call]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        index = args[1] if args[1].type == ir.IntType(64) else builder.sext(args[1], ir.IntType(64))
        return builder.gep(data, [index])

    return kind(array, entry), code


@_intrinsic
def moved(typing_context: Any, pointer: Any, entries: Any) -> Any:
    """Return the address so many entries further."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), code


@jit(inline="always")
def bare(array: Any) -> Any:
    """Return a contiguous array whose references are not counted; something else must keep it alive."""
    return carray(address(array, 0), array.shape)


@_intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, in one instruction where the processor has it, and nowhere relied upon to be one."""
    kind = _common(a, b, c)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.fmuladd", [_narrowed(builder, arg, kind) for arg in args])

    return kind(a, b, c), code


@_intrinsic
def horner(typing_context: Any, x: Any, coefficients: Any) -> Any:
    """The polynomial with a tuple of constants, lowest power first."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        terms = [_narrowed(builder, builder.extract_value(args[1], i), x) for i in range(len(coefficients))]
        total = terms.pop()
        while terms:
            total = _call(builder, "llvm.fmuladd", [total, args[0], terms.pop()])
        return total

    return x(x, coefficients), code


@_intrinsic
def select(typing_context: Any, condition: Any, a: Any, b: Any) -> Any:
    """`a` where `condition`, else `b`, both evaluated: a Python conditional would be a branch."""
    kind = _common(a, b)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(args[0], *(_narrowed(builder, arg, kind) for arg in args[1:]))

    return kind(condition, a, b), code


@_intrinsic
def copysign(typing_context: Any, size: Any, sign: Any) -> Any:
    """`size` with the sign of `sign`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.copysign", args)

    return size(size, sign), code


@_intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float as an integer of the same width."""
    kind = types.int32 if x == types.float32 else types.int64
    return kind(x), lambda context, builder, signature, args: builder.bitcast(args[0], _llvm(kind))


@_intrinsic
def of_bits(typing_context: Any, i: Any) -> Any:
    """The float that has these bits."""
    kind = types.float32 if i == types.int32 else types.float64
    return kind(i), lambda context, builder, signature, args: builder.bitcast(args[0], _llvm(kind))


@_intrinsic
def use_wide_vectors(typing_context: Any) -> Any:
    """Have the loops of the calling function use vectors of 512 bits where the processor has them.

    LLVM takes 256 on Intel processors, for the sake of code around such loops that a lower clock would slow
    down; here the loops are all there is, and exp, log, tanh and sin take 0.6 to 0.75 of the time.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # llvmlite's own `add` refuses attributes that have a value
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), code


def _integer_operation(name: str) -> Any:
    """A wrapping operation on integers of one width; one may be a Python integer."""

    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        kind = types.int32 if types.int32 in (a, b) else types.int64

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            width = _llvm(kind)
            pair = (arg if arg.type == width else builder.trunc(arg, width) for arg in args)
            return getattr(builder, name)(*pair)

        return kind(a, b), code

    operation.__name__ = operation.__qualname__ = f"_int_{name}"
    return _intrinsic(operation)


add = _integer_operation("add")
sub = _integer_operation("sub")
and_ = _integer_operation("and_")
or_ = _integer_operation("or_")
xor = _integer_operation("xor")
shl = _integer_operation("shl")
shr = _integer_operation("lshr")
