"""Plain-Python parser of `.skeleton` files: it defines the format and words every error.

The grammar, one line of the file per row::

    frame count
    per frame: body count
      per body: id, 8 numbers, tracking state     (10 fields)
                joint count = 25
                25 x: x y z, 8 numbers, tracking state     (12 fields)

Lines end in LF, CRLF or CR; fields are separated by spaces and tabs. Counts are digits. Tolerated,
and counted in ``Recording.notes``: a byte order mark (``bom``), NaN coordinates (``nan``: missing
joints), NaN in columns that are not kept (``nan-unused``), five or more bodies in a frame
(``many-bodies``: frames).
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from typing import NoReturn

import numpy as np

from smae.data.raw.recording import MAX_BYTES, MAX_RANGE, Recording
from smae.errors import BadRecording

MAX_LINE = 4096
MAX_FRAMES = 1_000_000
MAX_BODIES = 64
MANY_BODIES = 5
JOINTS = 25
BODY_FIELDS = 10
JOINT_FIELDS = 12
FLOAT32_MAX = float(np.finfo(np.float32).max)
_EXCERPT = 60

# Each pattern is linear in its input, and a line has a limit: hostile files cost no more than their
# size.
_LINE = re.compile(rb"([^\r\n]{0,%d})(\r\n?|\n|\Z)" % MAX_LINE)
_FIELD = re.compile(rb"[^ \t]+")
_DIGITS = re.compile(rb"[0-9]+")
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAN = re.compile(rb"[+-]?(?:nan(?:\([a-z0-9_]*\))?|1\.#(?:ind|qnan|snan)[0-9]*)", re.IGNORECASE)
_INFINITE = re.compile(rb"[+-]?(?:inf(?:inity)?|1\.#inf[0-9]*)", re.IGNORECASE)
_LINE_END = re.compile(rb"\r\n?|\n")
_BLANK = re.compile(rb"[ \t\r\n]*")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BOM = b"\xef\xbb\xbf"


def read_plain(data: bytes | memoryview, *, strict: bool = False, max_range: float = MAX_RANGE) -> Recording:
    """Read one `.skeleton` file.

    Numbers are correctly rounded to double, then to float32. Memory grows with the text, never with
    a declared count.

    Args:
        data: the whole file.
        strict: refuse NaN coordinates instead of taking the joint as missing.
        max_range: largest accepted coordinate, metres.

    Raises:
        BadRecording: the file breaks the format; with line, column and what was expected.
    """
    if len(data) > MAX_BYTES:
        message = f"expected at most {MAX_BYTES >> 20} MiB, found {len(data)} bytes: no clip is so long"
        raise BadRecording("size", message)
    text = bytes(data)
    _refuse_other_formats(text)
    return _Parser(text, strict=strict, limit=min(max_range, FLOAT32_MAX)).read()


def _refuse_other_formats(text: bytes) -> None:
    """Refuse binary files and files of other formats with a message of their own."""
    head = text[:64]
    if not text:
        raise BadRecording("empty", "the file has 0 bytes: copy or download it again")
    if head.startswith(b"\x1f\x8b"):
        raise BadRecording("gzip", "this looks like gzip: unpack it first", line=1, column=1, excerpt=_escape(head))
    # ASCII text in UTF-16 has a zero in every second byte.
    halves = any(head[0::2]), any(head[1::2])
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) > 3 and halves[0] != halves[1]):
        message = "this looks like UTF-16: expected ASCII; save it as plain text"
        raise BadRecording("encoding", message, line=1, column=1, excerpt=_escape(head))
    if text[:1024].removeprefix(_BOM).lstrip().startswith(b"<"):
        message = "this looks like HTML: expected a frame count; download the file again"
        raise BadRecording("html", message, line=1, column=1, excerpt=_escape(head))
    if control := _CONTROL.search(text):
        at = control.start()
        starts = [0, *(end.end() for end in _LINE_END.finditer(text, 0, at))]
        message = f"expected text, found byte 0x{text[at]:02x} at offset {at}: copy or download the file again"
        column, excerpt = at - starts[-1] + 1, _escape(text[at : at + 64])
        raise BadRecording("binary", message, line=len(starts), column=column, excerpt=excerpt)


def _escape(text: bytes) -> str:
    """Return at most 60 printable characters for some bytes."""
    shown = "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in text[: _EXCERPT + 1])
    return shown if len(shown) <= _EXCERPT else shown[: _EXCERPT - 3] + "..."


class _Line:
    """One line: its number, its text without the line end, and its fields.

    Args:
        last: whether the file ends here, without a line end.
    """

    def __init__(self, number: int, text: bytes, *, last: bool) -> None:
        self.number, self.text, self.last = number, text, last
        self.fields = _FIELD.findall(text)

    def fail(self, code: str, message: str, *, field: int | None = None) -> NoReturn:
        """Raise at a field of this line, or at the whole line."""
        column, excerpt = 1, self.text
        if field is not None:
            columns = [(match.start() + 1, match.group()) for match in _FIELD.finditer(self.text)]
            column, excerpt = [*columns, (len(self.text) + 1, self.text)][min(field, len(columns))]
        raise BadRecording(code, message, line=self.number, column=column, excerpt=_escape(excerpt))

    def expect_fields(self, count: int, *, what: str) -> None:
        """Raise unless this line has ``count`` fields."""
        found = len(self.fields)
        if found < count and self.last:
            self.fail("truncated", f"the file ends inside a {what}: copy or download it again", field=found)
        if found != count:
            stray = ": is there a stray space inside a number?" if found > count else ""
            self.fail("fields", f"expected {count} fields in a {what}, found {found}{stray}", field=min(found, count))

    def number_at(self, field: int) -> float:
        """Return a field as a double, correctly rounded; NaN is accepted."""
        token = self.fields[field]
        if _NUMBER.fullmatch(token):
            value = float(token)
        elif _NAN.fullmatch(token):
            value = math.nan
        elif _INFINITE.fullmatch(token):
            value = math.inf
        else:
            hint = " (a decimal comma: write the file again in a locale that has a point)" if b"," in token else ""
            self.fail("number", f"expected a number, found '{_escape(token)}'{hint}", field=field)
        if math.isinf(value):
            self.fail("non-finite", f"expected a finite number, found '{_escape(token)}'", field=field)
        return value

    def tracking_state(self) -> int:
        """Return the last field: 0, 1 or 2."""
        token, last = self.fields[-1], len(self.fields) - 1
        if token not in (b"0", b"1", b"2"):
            self.number_at(last)  # text that is no number at all has a message of its own
            self.fail("enum", f"expected tracking state 0, 1 or 2, found '{_escape(token)}'", field=last)
        return int(token)


class _Parser:
    """Walks a text line by line; each method reads one rule of the grammar."""

    def __init__(self, text: bytes, *, strict: bool, limit: float) -> None:
        self.text, self.strict, self.limit = text, strict, limit
        self.at, self.number = 0, 0
        self.notes: Counter[str] = Counter()
        self.frame, self.body, self.xyz, self.state = array("i"), array("Q"), array("f"), array("B")
        if text.startswith(_BOM):
            self.at = len(_BOM)
            self.notes["bom"] = 1

    def read(self) -> Recording:
        frames = self.frame_count()
        for frame in range(frames):
            bodies = self.body_count(left=frames - frame)
            self.notes["many-bodies"] += bodies >= MANY_BODIES
            ids: set[int] = set()
            for _ in range(bodies):
                self.frame.append(frame)
                self.body_row(ids)
                self.joint_count()
                for _ in range(JOINTS):
                    self.joint_row()
        self.end(frames)
        return Recording(
            frames=frames,
            frame=np.array(self.frame, np.int32),
            body=np.array(self.body, np.uint64),
            xyz=np.array(self.xyz, np.float32).reshape(-1, JOINTS, 3),
            state=np.array(self.state, np.uint8).reshape(-1, JOINTS),
            notes={name: count for name, count in self.notes.items() if count},
        )

    def line(self, what: str) -> _Line:
        """Return the next line, in which ``what`` is expected."""
        self.number += 1
        match = _LINE.match(self.text, self.at)
        if match is None:
            message = f"expected lines of at most {MAX_LINE} bytes: this is no line of a skeleton file"
            _Line(self.number, self.text[self.at : self.at + _EXCERPT + 1], last=False).fail("line-length", message)
        line = _Line(self.number, match[1], last=not match[2])
        if not line.fields and self.number > 1:
            if _BLANK.fullmatch(self.text, self.at):
                line.fail("truncated", f"the file ends where a {what} is expected: copy or download it again")
            line.fail("structure", f"expected a {what}, found a blank line: remove it")
        self.at = match.end()
        return line

    def frame_count(self) -> int:
        line = self.line("frame count")
        if len(line.fields) != 1 or not _DIGITS.fullmatch(line.fields[0]):
            line.fail("header", f"expected a frame count, in digits, found '{_escape(line.text)}'")
        frames = int(line.fields[0])
        if frames == 0:
            line.fail("no-frames", "the frame count is 0: nothing was recorded", field=0)
        if frames > MAX_FRAMES:
            line.fail("header", f"expected at most {MAX_FRAMES} frames, found '{_escape(line.text)}'", field=0)
        # Every frame takes at least a digit and a line end.
        if frames > len(self.text) // 2:
            found = f"found a file of {len(self.text)} bytes, too short for them"
            line.fail("truncated", f"expected {_escape(line.fields[0])} frames, {found}", field=0)
        return frames

    def body_count(self, *, left: int) -> int:
        line = self.line(f"body count ({left} more frames declared)")
        if len(line.fields) != 1:
            line.fail("structure", f"expected a body count alone in its line, found {len(line.fields)} fields")
        if not _DIGITS.fullmatch(line.fields[0]) or int(line.fields[0]) > MAX_BODIES:
            message = f"expected a body count of 0 to {MAX_BODIES}, found '{_escape(line.text)}'"
            line.fail("body-count", message, field=0)
        return int(line.fields[0])

    def body_row(self, ids: set[int]) -> None:
        line = self.line("body row")
        line.expect_fields(BODY_FIELDS, what="body row")
        token = line.fields[0]
        if not _DIGITS.fullmatch(token) or int(token) >= 2**64:
            line.fail("id", f"expected a body id of 0 to 2^64 - 1, found '{_escape(token)}'", field=0)
        if int(token) in ids:
            line.fail("duplicate-body", f"body {int(token)} is twice in this frame: ids must differ", field=0)
        ids.add(int(token))
        self.body.append(int(token))
        self.unused(line)
        line.tracking_state()

    def joint_count(self) -> None:
        line = self.line("joint count")
        alone = len(line.fields) == 1 and _DIGITS.fullmatch(line.fields[0])
        if not alone or int(line.fields[0]) != JOINTS:
            if line.last and line.fields == [b"2"]:
                line.fail("truncated", "the file ends inside a joint count: copy or download it again", field=0)
            line.fail("joint-count", f"expected {JOINTS} joints, alone in a line, found '{_escape(line.text)}'")

    def joint_row(self) -> None:
        line = self.line("joint row")
        line.expect_fields(JOINT_FIELDS, what="joint row")
        xyz = [line.number_at(axis) for axis in range(3)]
        for axis, value in enumerate(xyz):
            if math.isnan(value) and self.strict:
                line.fail("non-finite", "expected a finite coordinate, found NaN (refused when strict)", field=axis)
            if abs(value) > self.limit:
                message = f"expected a coordinate within {self.limit:g} m, found {value:g}: is it in millimetres?"
                line.fail("range", message, field=axis)
        # A joint with one unknown coordinate is missing: the other two mean nothing without it.
        if any(map(math.isnan, xyz)):
            self.notes["nan"] += 1
            xyz = [math.nan] * 3
        self.xyz.extend(xyz)
        self.unused(line, start=3)
        self.state.append(line.tracking_state())

    def unused(self, line: _Line, *, start: int = 1) -> None:
        """Check the numbers that are not kept, from ``start`` to the last but one."""
        for field in range(start, len(line.fields) - 1):
            if math.isnan(line.number_at(field)):
                self.notes["nan-unused"] += 1

    def end(self, frames: int) -> None:
        """Raise if anything but white space follows."""
        blank = _BLANK.match(self.text, self.at)
        assert blank is not None
        if blank.end() < len(self.text):
            self.number += sum(1 for _ in _LINE_END.finditer(self.text, self.at, blank.end()))
            self.at = blank.end()
            line = self.line("")
            message = f"expected the end of the file after {frames} frames, as declared in line 1, found more"
            line.fail("trailing-data", message)
