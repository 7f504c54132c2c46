"""Kernels that read numbers in ASCII text: 64 bytes are classified, 8 digits converted at a time.

Classes of bytes become bits of one integer (Langdale and Lemire, "Parsing gigabytes of JSON per
second", VLDB Journal 28, 2019, sections 3.1 and 3.2). The first four functions are plain Python,
which defines them; compiled kernels get the LLVM code below instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numpy.typing import NDArray

from smae.jit import inlined

_overload: Callable[..., Any] = numba.extending.overload
_intrinsic: Callable[..., Any] = numba.extending.intrinsic

BLOCK = 64
"""Bytes in a block, bits in a mask."""
_U, _B = np.uint64, np.uint8
_ZERO, _ONE, _TWO, _EIGHT, _TEN, _SIXTEEN, _HALF = _U(0), _U(1), _U(2), _U(8), _U(10), _U(16), _U(32)
_ZERO_CHAR, _NINE_CHAR = _B(48), _B(57)
_DOT, _MINUS, _PLUS, _SMALL_E, _BIG_E = (_B(ord(c)) for c in ".-+eE")
_ASCII_ZEROS, _OVER_NINE, _HIGH_BITS = _U(0x3030303030303030), _U(0x7676767676767676), _U(0x8080808080808080)
_ALL_BITS, _MAX_DECIMALS = ~_U(0), _U(14)
_PAIRS, _PAIR_MASK = _U(10 * 2**8 + 1), _U(0x00FF00FF00FF00FF)
_QUADS, _QUAD_MASK = _U(100 * 2**16 + 1), _U(0x0000FFFF0000FFFF)
_OCTETS, _DOUBLE_EXACT = _U(10_000 * 2**32 + 1), _U(2**53)
_TENS = np.array([10**k for k in range(9)], dtype=np.int64)
_POWERS = np.array([10.0**k for k in range(23)])
"""Powers of ten that a double holds exactly."""


def byte_mask(text: NDArray[np.uint8], at: int | np.uint64, low: np.uint8, high: np.uint8) -> np.uint64:
    """Return 64 bits: bit k is set if ``low <= text[at + k] <= high``. Unchecked bounds."""
    block = text[int(at) : int(at) + BLOCK]
    return np.uint64(np.packbits((block >= low) & (block <= high), bitorder="little").view(np.uint64)[0])


def load_word(text: NDArray[np.uint8], at: int | np.uint64) -> np.uint64:
    """Return the 8 bytes from ``at`` as one little-endian integer. The caller checks the bounds."""
    return np.uint64(text[int(at) : int(at) + 8].view("<u8")[0])


def trailing_zeros(bits: np.uint64) -> np.uint64:
    """Return the index of the lowest set bit, 64 if none is set."""
    value = int(bits)
    return np.uint64((value & -value).bit_length() - 1 if value else 64)


def popcount(bits: np.uint64) -> np.uint64:
    """Return the number of set bits."""
    return np.uint64(int(bits).bit_count())


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return the address of ``text[at]``: the first two arguments of a kernel's call."""
    text = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(text.data, [args[1]])


@_intrinsic
def _byte_mask(typing: Any, text: Any, at: Any, low: Any, high: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(8), BLOCK)
        source = builder.bitcast(_pointer(context, builder, signature, args), lanes.as_pointer())
        block = builder.load(source, align=1)

        def spread(byte: Any) -> Any:
            one = builder.insert_element(ir.Constant(lanes, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
            return builder.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), everywhere)

        # low <= byte <= high in one comparison: byte - low wraps round to a large number below low.
        distance = builder.sub(block, spread(args[2]))
        inside = builder.icmp_unsigned("<=", distance, spread(builder.sub(args[3], args[2])))
        return builder.bitcast(inside, ir.IntType(BLOCK))

    return types.uint64(text, types.uint64, types.uint8, types.uint8), emit


@_intrinsic
def _load_word(typing: Any, text: Any, at: Any) -> Any:
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


# Lambdas, because Numba compares the outer and the inner signature, annotations included.
_overload(byte_mask)(lambda text, at, low, high: lambda text, at, low, high: _byte_mask(text, at, low, high))
_overload(load_word)(lambda text, at: lambda text, at: _load_word(text, at))
_overload(trailing_zeros)(lambda bits: lambda bits: _trailing_zeros(bits))
_overload(popcount)(lambda bits: lambda bits: _popcount(bits))


@inlined
def _eight_digits(digits: np.uint64) -> np.uint64:
    """Return the number of 8 decimal digits, one per byte, the first one lowest.

    Neighbours are joined to pairs, pairs to fours, fours to eight, by three multiplications
    (Lemire, "Number parsing at a gigabyte per second", SPE 51, 2021, section 3).
    """
    digits = digits * _PAIRS >> _EIGHT & _PAIR_MASK
    digits = digits * _QUADS >> _SIXTEEN & _QUAD_MASK
    return digits * _OCTETS >> _HALF


@inlined
def _leading_digits(digits: np.uint64) -> np.uint64:
    """Return the number of leading digits in 8 bytes, each xor-ed with ASCII ``0``."""
    # Adding 0x76 sets the high bit of a byte above 9. The text is ASCII (``scan`` checked it), so
    # that no sum overflows into the next byte.
    return trailing_zeros((digits + _OVER_NINE) & _HIGH_BITS) >> _U(3)


@inlined
def parse_short_number(text: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> tuple[float, bool]:
    """Read the number from ``at`` to ``end`` if it has 1 + up to 14 or up to 7 + up to 8 digits.

    The digits form an integer below 2^53 and the power of ten is below 10^23: both are exact
    doubles, so that one division rounds correctly (Clinger, "How to read floating point numbers
    accurately", PLDI 1990).

    Returns:
        The number, and whether it was read; if not, it has another form.
    """
    minus = text[at] == _MINUS
    at += _U(minus)
    first = _U(text[at] - _ZERO_CHAR)
    # Joints are less than 10 m away: one digit, a dot, the decimals.
    if first < _TEN and text[at + _ONE] == _DOT:
        digits = load_word(text, at + _TWO) ^ _ASCII_ZEROS
        power = _leading_digits(digits)
        # Zeros behind the decimals change no value, and bytes after the number do not count.
        decimals = _eight_digits(digits & _ALL_BITS >> (_EIGHT - power) * _EIGHT)
        whole, divisor = np.int64(first) * _TENS[_EIGHT] + np.int64(decimals), _POWERS[_EIGHT]
        if power == _EIGHT:
            # Up to 15 digits in all stay below 2^53.
            while power < _MAX_DECIMALS and _ZERO_CHAR <= text[at + _TWO + power] <= _NINE_CHAR:
                whole = whole * 10 + np.int64(text[at + _TWO + power] - _ZERO_CHAR)
                power += _ONE
            divisor = _POWERS[power]
        value = np.float64(whole) / divisor
        if minus:
            value = -value
        return value, at + _TWO + power == end
    digits = load_word(text, at) ^ _ASCII_ZEROS
    width = _leading_digits(digits)
    if width in (_ZERO, _EIGHT):
        return 0.0, False
    whole, power = np.int64(_eight_digits(digits << (_EIGHT - width) * _EIGHT)), _ZERO
    at += width
    if text[at] == _DOT:
        digits = load_word(text, at + _ONE) ^ _ASCII_ZEROS
        power = _leading_digits(digits)
        whole = whole * _TENS[power] + np.int64(_eight_digits(digits << (_EIGHT - power) * _EIGHT))
        at += power + _ONE
    value = np.float64(whole) / _POWERS[power]
    if minus:
        value = -value
    # Characters left before the end (an exponent, more digits) mean another form.
    return value, at == end


@inlined
def parse_digits(text: NDArray[np.uint8], at: np.uint64, stop: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the integer at ``at`` and the position of the first byte after its digits."""
    value = _ZERO
    while at < stop and _ZERO_CHAR <= text[at] <= _NINE_CHAR:
        value = value * _TEN + _U(text[at] - _ZERO_CHAR)
        at += _ONE
    return value, at


@inlined
def parse_number(text: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> tuple[float, bool]:
    """Read a number of any accepted spelling, one character at a time.

    The spelling itself was checked by ``scan``. Numbers that one multiplication or division cannot
    round correctly are not read.

    Returns:
        The number, and whether it was read.
    """
    minus = text[at] == _MINUS
    if minus or text[at] == _PLUS:
        at += _ONE
    mantissa, digits, whole_digits = _ZERO, 0, -1
    while text[at] == _DOT or _ZERO_CHAR <= text[at] <= _NINE_CHAR:
        if text[at] == _DOT:
            whole_digits = digits
        else:
            mantissa = mantissa * _TEN + _U(text[at] - _ZERO_CHAR)
            digits += 1
        at += _ONE
    power = np.int64(whole_digits - digits if whole_digits >= 0 else 0)
    if text[at] == _SMALL_E or text[at] == _BIG_E:
        down = text[at + _ONE] == _MINUS
        at += _U(2) if down or text[at + _ONE] == _PLUS else _ONE
        shift, at = parse_digits(text, at, min(end, at + _U(4)))
        power += -np.int64(shift) if down else np.int64(shift)
    # 19 digits fit 64 bits; beyond 2^53 or 10^22 a double is not exact.
    if at != end or digits > 19 or mantissa > _DOUBLE_EXACT or abs(power) > 22:
        return 0.0, False
    value = np.float64(mantissa)
    value = value / _POWERS[-power] if power < 0 else value * _POWERS[power]
    if minus:
        value = -value
    return value, True
