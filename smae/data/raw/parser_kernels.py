"""The kernels of the fast `.skeleton` reader: ``scan`` the spelling, ``outline`` the counts, ``fill`` the arrays.

``scan`` checks every number and separator 64 bytes at a time, without cutting the text into tokens: classes of bytes
become bit masks, and a rule such as "a dot follows a digit" becomes an ``and`` of two masks, one of them shifted.
``outline`` walks from frame to frame, so that arrays get their exact size. ``fill`` reads the numbers that are kept.
Whatever is rare (NaN, tabs, 400 digits) or wrong makes a kernel answer "not sure".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.bits import BLOCK, mask, popcount, trailing_zeros
from smae.data.raw.decimals import digits_until, rare_number, usual_number
from smae.data.raw.skeleton_parser import BODY_FIELDS, JOINT_FIELDS, JOINTS, MANY_BODIES, MAX_BODIES, MAX_FRAMES
from smae.jit import inlined, njit

_U, _B = np.uint64, np.uint8
_ZERO, _ONE, _TOP, _STEP = _U(0), _U(1), _U(BLOCK - 1), _U(BLOCK)
_ZERO_CHAR, _TWO_CHAR, _NINE_CHAR = _B(48), _B(50), _B(57)
_DOT, _SPACE, _LF, _CR, _MINUS, _PLUS, _SMALL_E, _BIG_E = (_B(ord(c)) for c in ". \n\r-+eE")

PAD = np.frombuffer(b"\n" + b"0\n" * 128, dtype=np.uint8)
"""What follows a file's text, without its first byte where the text ends in LF: well-spelt lines, so that the last
block needs no rule of its own. Lines past the end of the file are not counted."""


@inlined
def _exponent_ends_well(text: NDArray[np.uint8], at: np.uint64) -> bool:
    """Tell whether a finite exponent and a separator follow the ``e`` at ``at``."""
    at += _ONE
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += _ONE
    start = at
    while _ZERO_CHAR <= text[at] <= _NINE_CHAR:
        at += _ONE
    # Two digits after at most 126 digits of mantissa cannot reach 1e308; a negative exponent cannot at any length.
    digits_fine = at > start and (negative or at <= start + _U(2))
    return bool(digits_fine and text[at] in (_SPACE, _CR, _LF))


@njit("int64(uint8[::1], uint64, int32[::1], int32[::1])", allocates=False)
def scan(text: NDArray[np.uint8], size: int | np.uint64, ends: NDArray[np.int32], spaces: NDArray[np.int32]) -> int:
    """Check the spelling of a padded text and find its lines; return their number, or -1 when not sure.

    Args:
        text: uint8, the file followed by ``PAD``.
        size: bytes of the file.
        ends: int32, gets the place of each line's LF.
        spaces: int32, gets how many spaces lie before each line's LF, counted from the start of the file.
    """
    lines, count = 0, _ZERO
    digit_before = cr_before = sign_before = dot_before = exponent_before = fraction_runs_on = _ZERO
    gap_before = _ONE
    for at in range(_ZERO, _U(size) + _ONE, _STEP):
        digit = mask(text, at, _ZERO_CHAR, _NINE_CHAR)
        dot = mask(text, at, _DOT, _DOT)
        space = mask(text, at, _SPACE, _SPACE)
        lf = mask(text, at, _LF, _LF)
        cr = mask(text, at, _CR, _CR)
        sign = mask(text, at, _MINUS, _MINUS) | mask(text, at, _PLUS, _PLUS)
        exponent = mask(text, at, _SMALL_E, _SMALL_E) | mask(text, at, _BIG_E, _BIG_E)
        gap = space | lf

        after_digit = digit << _ONE | digit_before
        after_dot = dot << _ONE | dot_before
        after_cr = cr << _ONE | cr_before
        wrong = ~(digit | dot | gap | cr | sign | exponent)
        wrong |= (space | cr | dot | exponent) & ~after_digit
        wrong |= lf & ~(after_digit | after_cr)
        wrong |= after_cr & ~lf
        wrong |= (after_dot | sign << _ONE | sign_before) & ~digit
        wrong |= sign & ~(gap << _ONE | gap_before | exponent << _ONE | exponent_before)
        # Adding a run's first bit to the run carries up to the first byte past it: a second dot must not be there.
        # The run may cross into the next block; then the sum overflows and the carry goes on there.
        carried = digit + (after_dot & digit)
        total = carried + fraction_runs_on
        wrong |= total & ~digit & dot
        # A block without a separator: a number of over 60 characters, which might overflow.
        if wrong != _ZERO or gap == _ZERO:
            return -1
        fraction_runs_on = _U(carried < digit)
        digit_before, cr_before, sign_before = digit >> _TOP, cr >> _TOP, sign >> _TOP
        dot_before, exponent_before, gap_before = dot >> _TOP, exponent >> _TOP, gap >> _TOP

        while exponent != _ZERO:
            if not _exponent_ends_well(text, at + trailing_zeros(exponent)):
                return -1
            exponent &= exponent - _ONE
        while lf != _ZERO:
            below = (lf - _ONE) & ~lf
            end = at + popcount(below)
            if end > size or lines == len(ends):
                return lines if end > size else -1
            ends[lines], spaces[lines] = end, count + popcount(space & below)
            lines += 1
            lf &= lf - _ONE
        count += popcount(space)
    return lines


@inlined
def _line(text: NDArray[np.uint8], ends: NDArray[np.int32], line: int | np.int64) -> tuple[np.uint64, np.uint64]:
    """Return where a line starts and where its content stops, its CR and LF left out."""
    start = _U(ends[line - 1]) + _ONE if line > 0 else _ZERO
    stop = _U(ends[line])
    if text[stop - _ONE] == _CR:
        stop -= _ONE
    return start, stop


@inlined
def _count(text: NDArray[np.uint8], ends: NDArray[np.int32], line: int | np.int64) -> np.int64:
    """Return the number of up to 9 digits that is alone in its line; -1 when not sure."""
    start, stop = _line(text, ends, line)
    value, end = digits_until(text, start, min(stop, start + _U(9)))
    return np.int64(value) if end == stop else np.int64(-1)


@inlined
def _tracking_state(text: NDArray[np.uint8], stop: np.uint64) -> np.int64:
    """Return the last field of a line if it is 0, 1 or 2; -1 when not sure."""
    state = text[stop - _ONE]
    sure = text[stop - _U(2)] == _SPACE and _ZERO_CHAR <= state <= _TWO_CHAR
    return np.int64(state - _ZERO_CHAR) if sure else np.int64(-1)


@inlined
def _body(
    text: NDArray[np.uint8], ends: NDArray[np.int32], spaces: NDArray[np.int32], line: int
) -> tuple[np.uint64, bool]:
    """Read a body row and the joint count below it; return the body's id and whether all is sure."""
    start, stop = _line(text, ends, line)
    id_, end = digits_until(text, start, min(stop, start + _U(19)))
    sure = spaces[line] - spaces[line - 1] == BODY_FIELDS - 1 and text[end] == _SPACE
    return id_, bool(sure and _tracking_state(text, stop) >= 0 and _count(text, ends, line + 1) == JOINTS)


@njit("UniTuple(int64, 3)(uint8[::1], int32[::1], int64)", allocates=False)
def outline(text: NDArray[np.uint8], ends: NDArray[np.int32], lines: int) -> tuple[np.int64, np.int64, np.int64]:
    """Walk the counts of a scanned text; return frames (-1 when not sure), rows, and frames of many bodies."""
    frames, rows, crowded = _count(text, ends, 0), np.int64(0), np.int64(0)
    if frames > MAX_FRAMES:
        return np.int64(-1), rows, crowded
    line = np.int64(1)
    for _ in range(frames):
        bodies = _count(text, ends, line) if line < lines else np.int64(-1)
        if bodies < 0 or bodies > MAX_BODIES:
            return np.int64(-1), rows, crowded
        rows += bodies
        crowded += np.int64(bodies >= MANY_BODIES)
        line += 1 + bodies * (JOINTS + 2)
    return (frames if line == lines else np.int64(-1)), rows, crowded


@njit(
    "boolean(uint8[::1], int32[::1], int32[::1], float64, int64,"
    " int32[::1], uint64[::1], float32[:, :, ::1], uint8[:, ::1])",
    allocates=False,
)
def fill(
    text: NDArray[np.uint8],
    ends: NDArray[np.int32],
    spaces: NDArray[np.int32],
    limit: float,
    frames: int | np.int64,
    frame: NDArray[np.int32],
    body: NDArray[np.uint64],
    xyz: NDArray[np.float32],
    state: NDArray[np.uint8],
) -> bool:
    """Read the kept columns of an outlined text into the arrays of a ``Recording``; False when not sure."""
    line, row = 1, 0
    for number in range(frames):
        bodies = _count(text, ends, line)
        line += 1
        for nth in range(bodies):
            body[row], sure = _body(text, ends, spaces, line)
            for earlier in range(row - nth, row):
                sure &= body[earlier] != body[row]
            if not sure:
                return False
            frame[row] = number
            line += 2
            before = _U(line - 1)
            at = _U(ends[before]) + _ONE
            for joint in range(_ZERO, _U(JOINTS)):
                stop = _U(ends[before + _ONE])
                # Numbers are found by the spaces after them, so that none waits until the one before it is read.
                start, gaps = at, mask(text, at, _SPACE, _SPACE)
                if popcount(gaps) < _U(3):
                    return False
                for axis in range(_ZERO, _U(3)):
                    end = start + trailing_zeros(gaps)
                    gaps &= gaps - _ONE
                    value, sure = usual_number(text, at, end)
                    if not sure:
                        value, sure = rare_number(text, at, end)
                    if not (sure and abs(value) <= limit):
                        return False
                    xyz[_U(row), joint, axis] = value
                    at = end + _ONE
                at = stop + _ONE
                tracked = _tracking_state(text, stop - _U(text[stop - _ONE] == _CR))
                if tracked < 0 or spaces[before + _ONE] - spaces[before] != JOINT_FIELDS - 1:
                    return False
                state[_U(row), joint] = tracked
                before += _ONE
            line += JOINTS
            row += 1
    return True
