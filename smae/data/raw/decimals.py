"""Decimal numbers in ASCII text, read by kernels: the usual ones eight digits at a time, the rest one by one.

Every function leaves to others (``not sure``) what it cannot round correctly; none checks more of the spelling than it
has to, since ``skeleton_kernels.scan`` has done so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.bits import trailing_zeros, word
from smae.jit import inlined

_U, _B = np.uint64, np.uint8
_ZERO, _ONE, _TWO, _EIGHT, _TEN, _SIXTEEN, _HALF = _U(0), _U(1), _U(2), _U(8), _U(10), _U(16), _U(32)
_ZERO_CHAR, _NINE_CHAR = _B(48), _B(57)
_DOT, _MINUS, _PLUS, _SMALL_E, _BIG_E = (_B(ord(c)) for c in ".-+eE")
_ASCII_ZEROS, _OVER_NINE, _HIGH_BITS = _U(0x3030303030303030), _U(0x7676767676767676), _U(0x8080808080808080)
_MOST_DECIMALS = _U(14)
_PAIRS, _PAIR_MASK = _U(10 * 2**8 + 1), _U(0x00FF00FF00FF00FF)
_QUADS, _QUAD_MASK = _U(100 * 2**16 + 1), _U(0x0000FFFF0000FFFF)
_OCTETS, _DOUBLE_EXACT = _U(10_000 * 2**32 + 1), _U(2**53)
_TENS = np.array([10**k for k in range(9)], dtype=np.int64)
_POWERS = np.array([10.0**k for k in range(23)])
"""Powers of ten that a double holds exactly."""


@inlined
def _eight_digits(digits: np.uint64) -> np.uint64:
    """Return the number that 8 decimal digits spell, one a byte, the first one lowest.

    Neighbours are joined to pairs, pairs to fours, fours to eight: three multiplications (Lemire, "Number parsing at a
    gigabyte per second", Software: Practice and Experience 51, 2021, section 3).
    """
    digits = digits * _PAIRS >> _EIGHT & _PAIR_MASK
    digits = digits * _QUADS >> _SIXTEEN & _QUAD_MASK
    return digits * _OCTETS >> _HALF


@inlined
def _leading_digits(digits: np.uint64) -> np.uint64:
    """Return how many of 8 ASCII bytes, each xor-ed with ``0``, are digits before the first that is none."""
    return trailing_zeros((digits + _OVER_NINE) & _HIGH_BITS) >> _U(3)


@inlined
def usual_number(text: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> tuple[float, bool]:
    """Read the number from ``at`` to ``end``, of 1 + up to 14 or 7 + up to 8 digits; return it and whether it is sure.

    The digits form a whole number below 2^53 and the power of ten is below 10^23: both are exact doubles, so that one
    division rounds correctly (Clinger, "How to read floating point numbers accurately", PLDI 1990).
    """
    minus = text[at] == _MINUS
    at += _U(minus)
    first = _U(text[at] - _ZERO_CHAR)
    # Joints are less than 10 m away: one digit, a dot, the decimals.
    if first < _TEN and text[at + _ONE] == _DOT:
        digits = word(text, at + _TWO) ^ _ASCII_ZEROS
        power = _leading_digits(digits)
        whole = np.int64(first) * _TENS[power] + np.int64(_eight_digits(digits << (_EIGHT - power) * _EIGHT))
        if power == _EIGHT:
            # Up to 15 digits in all, which stay below 2^53.
            while power < _MOST_DECIMALS and _ZERO_CHAR <= text[at + _TWO + power] <= _NINE_CHAR:
                whole = whole * 10 + np.int64(text[at + _TWO + power] - _ZERO_CHAR)
                power += _ONE
        value = np.float64(whole) / _POWERS[power]
        return (-value if minus else value), at + _TWO + power == end
    digits = word(text, at) ^ _ASCII_ZEROS
    width = _leading_digits(digits)
    if width in (_ZERO, _EIGHT):
        return 0.0, False
    whole, power = np.int64(_eight_digits(digits << (_EIGHT - width) * _EIGHT)), _ZERO
    at += width
    if text[at] == _DOT:
        digits = word(text, at + _ONE) ^ _ASCII_ZEROS
        power = _leading_digits(digits)
        whole = whole * _TENS[power] + np.int64(_eight_digits(digits << (_EIGHT - power) * _EIGHT))
        at += power + _ONE
    value = np.float64(whole) / _POWERS[power]
    return (-value if minus else value), at == end


@inlined
def digits_until(text: NDArray[np.uint8], at: np.uint64, stop: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the whole number at ``at`` and the place of the first byte that is not its digit."""
    value = _ZERO
    while at < stop and _ZERO_CHAR <= text[at] <= _NINE_CHAR:
        value = value * _TEN + _U(text[at] - _ZERO_CHAR)
        at += _ONE
    return value, at


@inlined
def rare_number(text: NDArray[np.uint8], at: np.uint64, end: np.uint64) -> tuple[float, bool]:
    """Read a number as ``usual_number`` does, but of any accepted spelling, one character at a time."""
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
        shift, at = digits_until(text, at, min(end, at + _U(4)))
        power += -np.int64(shift) if down else np.int64(shift)
    if at != end or digits > 19 or mantissa > _DOUBLE_EXACT or abs(power) > 22:
        return 0.0, False
    value = np.float64(mantissa)
    value = value / _POWERS[-power] if power < 0 else value * _POWERS[power]
    return (-value if minus else value), True
