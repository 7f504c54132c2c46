"""Sixty-four bytes at a time: classes of bytes as bits of one integer, for kernels that read text.

Each function is plain Python (the definition) with a few lines of LLVM beside it that kernels get instead. The idea is
that of Langdale and Lemire, "Parsing gigabytes of JSON per second" (VLDB Journal 28, 2019), sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numpy.typing import NDArray

_overload: Callable[..., Any] = numba.extending.overload
_intrinsic: Callable[..., Any] = numba.extending.intrinsic

BLOCK = 64
"""Bytes in a block, bits in a mask."""


def mask(text: NDArray[np.uint8], at: int | np.uint64, low: np.uint8, high: np.uint8) -> np.uint64:
    """Return 64 bits: bit k tells whether ``low <= text[at + k] <= high``. Reads 64 bytes; bounds are the caller's."""
    block = text[int(at) : int(at) + BLOCK]
    return np.uint64(np.packbits((block >= low) & (block <= high), bitorder="little").view(np.uint64)[0])


def word(text: NDArray[np.uint8], at: int | np.uint64) -> np.uint64:
    """Return the 8 bytes from ``at`` as one little-endian integer; bounds are the caller's."""
    return np.uint64(text[int(at) : int(at) + 8].view("<u8")[0])


def trailing_zeros(bits: np.uint64) -> np.uint64:
    """Return the place of the lowest set bit; 64 when none is set."""
    value = int(bits)
    return np.uint64((value & -value).bit_length() - 1 if value else 64)


def popcount(bits: np.uint64) -> np.uint64:
    """Return how many bits are set."""
    return np.uint64(int(bits).bit_count())


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return the address of ``text[at]``: the first two arguments of a kernel's call."""
    text = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(text.data, [args[1]])


@_intrinsic
def _mask(typing: Any, text: Any, at: Any, low: Any, high: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(8), BLOCK)
        source = builder.bitcast(_pointer(context, builder, signature, args), lanes.as_pointer())
        block = builder.load(source, align=1)

        def spread(byte: Any) -> Any:
            one = builder.insert_element(ir.Constant(lanes, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
            return builder.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), everywhere)

        # low <= byte <= high, told by one comparison: byte - low wraps round to a large number below low.
        distance = builder.sub(block, spread(args[2]))
        inside = builder.icmp_unsigned("<=", distance, spread(builder.sub(args[3], args[2])))
        return builder.bitcast(inside, ir.IntType(BLOCK))

    return types.uint64(text, types.uint64, types.uint8, types.uint8), emit


@_intrinsic
def _word(typing: Any, text: Any, at: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = builder.bitcast(_pointer(context, builder, signature, args), ir.IntType(64).as_pointer())
        return builder.load(source, align=1)

    return types.uint64(text, types.uint64), emit


@_intrinsic
def _trailing_zeros(typing: Any, bits: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.false_bit)

    return types.uint64(types.uint64), emit


@_intrinsic
def _popcount(typing: Any, bits: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), emit


# Lambdas, for Numba wants the outer and the inner signature equal, annotations included.
_overload(mask)(lambda text, at, low, high: lambda text, at, low, high: _mask(text, at, low, high))
_overload(word)(lambda text, at: lambda text, at: _word(text, at))
_overload(trailing_zeros)(lambda bits: lambda bits: _trailing_zeros(bits))
_overload(popcount)(lambda bits: lambda bits: _popcount(bits))
