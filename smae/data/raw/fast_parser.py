"""Fast `.skeleton` reader: compiled kernels read well-spelt files, the plain parser the rest.

``scan`` checks every number and separator 64 bytes at a time, without cutting the text into tokens:
classes of bytes become bit masks, and a rule such as "a dot follows a digit" becomes an ``and`` of
two masks, one of them shifted. ``count_rows`` walks from frame to frame, so that arrays get their
exact size. ``fill_arrays`` reads the columns that are kept. A kernel gives up on anything rare
(NaN, tabs, 400 digits) or wrong; the plain parser then reads the file or words the error. So the
plain parser alone defines the format, and a file that the kernels accept gives the same bits in
both.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.file_reader import ReadBuffer
from smae.data.raw.number_kernels import (
    BLOCK,
    byte_mask,
    parse_digits,
    parse_number,
    parse_short_number,
    popcount,
    trailing_zeros,
)
from smae.data.raw.recording import MAX_BYTES, MAX_RANGE, Recording
from smae.data.raw.skeleton_parser import (
    BODY_FIELDS,
    FLOAT32_MAX,
    JOINT_FIELDS,
    JOINTS,
    MANY_BODIES,
    MAX_BODIES,
    MAX_FRAMES,
    read_plain,
)
from smae.jit import inlined, njit

_U, _B = np.uint64, np.uint8
_ZERO, _ONE, _TOP, _STEP = _U(0), _U(1), _U(BLOCK - 1), _U(BLOCK)
_ZERO_CHAR, _TWO_CHAR, _NINE_CHAR = _B(48), _B(50), _B(57)
_DOT, _SPACE, _LF, _CR, _MINUS, _PLUS, _SMALL_E, _BIG_E = (_B(ord(c)) for c in ". \n\r-+eE")

PAD = np.frombuffer(b"\n" + b"0\n" * 128, dtype=np.uint8)
"""Follows a file's text, without its first byte if the text ends in LF.

These are well-spelt lines, so that the last block needs no rule of its own and numbers may be read
past the end. Lines past the end of the file are not counted.
"""


class _Workspace(threading.local):
    """Buffers that one thread reuses for every file; they grow to the largest file."""

    def __init__(self) -> None:
        self.grow(1 << 20)

    def grow(self, size: int) -> None:
        """Make space for a file of ``size`` bytes."""
        self.text = np.frombuffer(ReadBuffer(size), np.uint8)
        # Lines shorter than 8 bytes on average cannot be bodies; if the table is full, scan gives
        # up.
        self.ends = np.empty(size // 8 + 64, np.int32)
        self.spaces = np.empty_like(self.ends)


_workspace = _Workspace()


def read_skeleton(data: bytes | memoryview, *, strict: bool = False, max_range: float = MAX_RANGE) -> Recording:
    """Read one `.skeleton` file: ``read_plain`` in result and errors, over a hundred times as fast.

    Args:
        data: the whole file.
        strict: refuse NaN coordinates instead of taking the joint as missing.
        max_range: largest accepted coordinate, metres.

    Raises:
        BadRecording: the file breaks the format; with line, column and what was expected.
    """
    recording = read_fast(data, max_range=max_range)
    return recording or read_plain(data, strict=strict, max_range=max_range)


def read_fast(data: bytes | memoryview, *, max_range: float = MAX_RANGE) -> Recording | None:
    """Read a well-spelt file; None if the plain parser has to decide."""
    padded = pad_text(data)
    if padded is None:
        return None
    text, ends, spaces = padded
    lines = scan(text, len(data), ends, spaces)
    if lines < 1:
        return None
    frames, rows, crowded = map(int, count_rows(text, ends, lines))
    if frames < 1:
        return None
    recording = Recording(
        frames=frames,
        frame=np.empty(rows, np.int32),
        body=np.empty(rows, np.uint64),
        xyz=np.empty((rows, JOINTS, 3), np.float32),
        state=np.empty((rows, JOINTS), np.uint8),
        notes={"many-bodies": crowded} if crowded else {},
    )
    limit = min(max_range, FLOAT32_MAX)
    arrays = (recording.frame, recording.body, recording.xyz, recording.state)
    if not fill_arrays(text, ends, spaces, limit, frames, *arrays):
        return None
    return recording


def pad_text(data: bytes | memoryview) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]] | None:
    """Return arguments of ``scan``: a file's text followed by ``PAD``, and two empty tables.

    They belong to this thread and are valid until its next call. A view of a ``ReadBuffer`` is
    padded where it is, without a copy. None for files that no kernel reads.
    """
    size = len(data)
    if not 0 < size <= MAX_BYTES or sys.byteorder != "little":
        return None
    if size + ReadBuffer.SLACK > len(_workspace.text):
        _workspace.grow(size)
    if isinstance(data, memoryview) and isinstance(data.obj, ReadBuffer):
        text = np.frombuffer(data.obj, np.uint8)
    else:
        text = _workspace.text
        text[:size] = np.frombuffer(data, np.uint8)
    pad = PAD[int(data[size - 1] == _LF) :]
    text[size : size + len(pad)] = pad
    return text, _workspace.ends, _workspace.spaces


@inlined
def _valid_exponent(text: NDArray[np.uint8], at: np.uint64) -> bool:
    """Return whether a finite exponent and a separator follow the ``e`` at ``at``."""
    at += _ONE
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += _ONE
    start = at
    while _ZERO_CHAR <= text[at] <= _NINE_CHAR:
        at += _ONE
    # Two digits after at most 126 digits of mantissa cannot reach 1e308; a negative exponent cannot
    # at any length.
    valid = at > start and (negative or at <= start + _U(2))
    return bool(valid and text[at] in (_SPACE, _CR, _LF))


@njit("int64(uint8[::1], uint64, int32[::1], int32[::1])", allocates=False)
def scan(
    text: NDArray[np.uint8], size: int | np.uint64, ends: NDArray[np.int32], spaces: NDArray[np.int32]
) -> np.int64:
    """Check the spelling of a padded text and find its lines; return their number, -1 to give up.

    Args:
        text: uint8, the file followed by ``PAD``.
        size: bytes of the file.
        ends: int32, receives the position of each line's LF.
        spaces: int32, receives the number of spaces from the file's start to each line's LF.
    """
    # Unsigned, as every index here: a signed one might be negative, which costs steps.
    lines, count, most = _ZERO, _ZERO, _U(len(ends))
    # The last bit of each class, carried into the next block. The file begins as if after a line
    # end.
    digit_before = cr_before = sign_before = dot_before = exponent_before = fraction_carry = _ZERO
    gap_before = _ONE
    for at in range(_ZERO, _U(size) + _ONE, _STEP):
        digit = byte_mask(text, at, _ZERO_CHAR, _NINE_CHAR)
        dot = byte_mask(text, at, _DOT, _DOT)
        space = byte_mask(text, at, _SPACE, _SPACE)
        lf = byte_mask(text, at, _LF, _LF)
        cr = byte_mask(text, at, _CR, _CR)
        sign = byte_mask(text, at, _MINUS, _MINUS) | byte_mask(text, at, _PLUS, _PLUS)
        exponent = byte_mask(text, at, _SMALL_E, _SMALL_E) | byte_mask(text, at, _BIG_E, _BIG_E)
        gap = space | lf

        # Bit k of ``after_x`` is set if byte k - 1 is an x; each rule below marks the bytes that
        # break it.
        after_digit = digit << _ONE | digit_before
        after_dot = dot << _ONE | dot_before
        after_cr = cr << _ONE | cr_before
        wrong = ~(digit | dot | gap | cr | sign | exponent)
        wrong |= (space | cr | dot | exponent) & ~after_digit
        wrong |= lf & ~(after_digit | after_cr)
        wrong |= after_cr & ~lf
        wrong |= (after_dot | sign << _ONE | sign_before) & ~digit
        wrong |= sign & ~(gap << _ONE | gap_before | exponent << _ONE | exponent_before)
        # One dot per number: adding a fraction's first bit to its run of digits carries to the
        # first byte past the run, which must not be a dot. If the run crosses into the next block,
        # the sum overflows and the carry goes on there.
        carried = digit + (after_dot & digit)
        total = carried + fraction_carry
        wrong |= total & ~digit & dot
        # A block without a separator holds a number of over 60 characters, which might overflow.
        if wrong != _ZERO or gap == _ZERO:
            return np.int64(-1)
        fraction_carry = _U(carried < digit)
        digit_before, cr_before, sign_before = digit >> _TOP, cr >> _TOP, sign >> _TOP
        dot_before, exponent_before, gap_before = dot >> _TOP, exponent >> _TOP, gap >> _TOP

        # Exponents are rare: each is checked alone. ``x & (x - 1)`` clears the lowest set bit.
        while exponent != _ZERO:
            if not _valid_exponent(text, at + trailing_zeros(exponent)):
                return np.int64(-1)
            exponent &= exponent - _ONE
        while lf != _ZERO:
            below = (lf - _ONE) & ~lf
            end = at + popcount(below)
            if end > size or lines == most:
                return np.int64(lines) if end > size else np.int64(-1)
            ends[lines], spaces[lines] = end, count + popcount(space & below)
            lines += _ONE
            lf &= lf - _ONE
        count += popcount(space)
    return np.int64(lines)


@inlined
def _line(text: NDArray[np.uint8], ends: NDArray[np.int32], line: int | np.int64) -> tuple[np.uint64, np.uint64]:
    """Return where a line starts and where its content stops, without CR and LF."""
    start = _U(ends[line - 1]) + _ONE if line > 0 else _ZERO
    stop = _U(ends[line])
    if text[stop - _ONE] == _CR:
        stop -= _ONE
    return start, stop


@inlined
def _count(text: NDArray[np.uint8], ends: NDArray[np.int32], line: int | np.int64) -> np.int64:
    """Return the number of up to 9 digits that is alone in its line, -1 for other lines."""
    start, stop = _line(text, ends, line)
    value, end = parse_digits(text, start, min(stop, start + _U(9)))
    if end != stop:
        return np.int64(-1)
    return np.int64(value)


@inlined
def _tracking_state(text: NDArray[np.uint8], stop: np.uint64) -> np.int64:
    """Return the last field of a line if it is 0, 1 or 2, else -1."""
    state = text[stop - _ONE]
    if text[stop - _U(2)] != _SPACE or state < _ZERO_CHAR or state > _TWO_CHAR:
        return np.int64(-1)
    return np.int64(state - _ZERO_CHAR)


@inlined
def _body(
    text: NDArray[np.uint8], ends: NDArray[np.int32], spaces: NDArray[np.int32], line: int
) -> tuple[np.uint64, bool]:
    """Read a body row and its joint count; return the id and whether both are valid."""
    start, stop = _line(text, ends, line)
    # 19 digits fit 64 bits; longer ids are left to the plain parser.
    id_, end = parse_digits(text, start, min(stop, start + _U(19)))
    valid = spaces[line] - spaces[line - 1] == BODY_FIELDS - 1 and text[end] == _SPACE
    return id_, bool(valid and _tracking_state(text, stop) >= 0 and _count(text, ends, line + 1) == JOINTS)


@njit("UniTuple(int64, 3)(uint8[::1], int32[::1], int64)", allocates=False)
def count_rows(
    text: NDArray[np.uint8], ends: NDArray[np.int32], lines: int | np.int64
) -> tuple[np.int64, np.int64, np.int64]:
    """Walk the counts; return frames (-1 to give up), rows, and frames of many bodies."""
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
    if line != lines:
        return np.int64(-1), rows, crowded
    return frames, rows, crowded


@njit(
    "boolean(uint8[::1], int32[::1], int32[::1], float64, int64,"
    " int32[::1], uint64[::1], float32[:, :, ::1], uint8[:, ::1])",
    allocates=False,
)
def fill_arrays(
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
    """Read the kept columns into the arrays of a ``Recording``; False to give up."""
    line, row = 1, 0
    for number in range(frames):
        bodies = _count(text, ends, line)
        line += 1
        for nth in range(bodies):
            body[row], valid = _body(text, ends, spaces, line)
            for earlier in range(row - nth, row):
                valid &= body[earlier] != body[row]
            if not valid:
                return False
            frame[row] = number
            line += 2
            before = _U(line - 1)
            at = _U(ends[before]) + _ONE
            for joint in range(_ZERO, _U(JOINTS)):
                stop = _U(ends[before + _ONE])
                # The spaces after them delimit the numbers, so that the processor starts on one
                # before the one in front of it is read.
                start, gaps = at, byte_mask(text, at, _SPACE, _SPACE)
                if popcount(gaps) < _U(3):
                    return False
                for axis in range(_ZERO, _U(3)):
                    end = start + trailing_zeros(gaps)
                    gaps &= gaps - _ONE
                    value, valid = parse_short_number(text, at, end)
                    if not valid:
                        value, valid = parse_number(text, at, end)
                    if not (valid and abs(value) <= limit):
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
