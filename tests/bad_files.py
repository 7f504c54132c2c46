"""The `.skeleton` rows of the table of bad inputs, as texts, with what a reader must say of each."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import numpy as np

from smae.data.raw.recording import MAX_BYTES
from tests.skeletons import Body, body, walk, write_skeleton

GOOD = write_skeleton(walk(6))
LINES = GOOD.split(b"\r\n")
Frames = list[list[Body]]


def edited(change: Callable[[Frames], object]) -> bytes:
    """Return a text of 6 frames of which ``change`` has edited the fields."""
    frames = walk(6)
    change(frames)
    return write_skeleton(frames)


def field(row: int, column: int, token: str) -> bytes:
    """Return a text in which one joint field of frame 2 is another token."""
    return edited(lambda f: f[2][0].rows[row].__setitem__(column, token))


def without_row(frames: Frames) -> None:
    frames[2][0].count = "24"
    del frames[2][0].rows[-1]


def one_row_more(frames: Frames) -> None:
    frames[2][0].count = "26"
    frames[2][0].rows.append(frames[2][0].rows[0])


def no_rows(frames: Frames) -> None:
    frames[2][0].count = "0"
    frames[2][0].rows.clear()


FRAME_2, FIRST_ROW = 2 + 2 * 28, 2 + 2 * 28 + 3
"""Lines of the third frame's body count and of its first joint row."""

BAD: dict[str, tuple[bytes, str, int, int]] = {
    "1 empty": (b"", "empty", 0, 0),
    "2 newline": (b"\n", "header", 1, 1),
    "3 NULs": (bytes(4000), "binary", 1, 1),
    "4 NULs in the middle": (GOOD[:5000] + bytes(512) + GOOD[5512:], "binary", GOOD[:5000].count(b"\n") + 1, -1),
    "6 UTF-16": (GOOD.decode().encode("utf-16"), "encoding", 1, 1),
    "6 UTF-16 without mark": (GOOD.decode().encode("utf-16-be"), "encoding", 1, 1),
    "7 gzip": (gzip.compress(GOOD), "gzip", 1, 1),
    "8 HTML": (b"\n<!DOCTYPE html><html>404</html>", "html", 1, 1),
    "9 no frames": (b"0\r\n", "no-frames", 1, 1),
    "10 negative": (b"-5" + GOOD[1:], "header", 1, 1),
    "10 fraction": (b"5.0" + GOOD[1:], "header", 1, 1),
    "11 10^12 frames": (b"1000000000000" + GOOD[1:], "header", 1, 1),
    "11 10^4000 frames": (b"1" + b"0" * 4000 + GOOD[1:], "header", 1, 1),
    "11 more frames than bytes": (b"999999" + GOOD[1:], "truncated", 1, 1),
    "12 a frame too few": (write_skeleton(walk(5), count="6"), "truncated", 2 + 5 * 28, 1),
    "13 a frame too many": (write_skeleton(walk(5), count="4"), "trailing-data", 2 + 4 * 28, 1),
    "14 underscore": (b"0_6" + GOOD[1:], "header", 1, 1),
    "14 Arabic digit": ("٦".encode() + GOOD[1:], "header", 1, 1),
    "17 negative bodies": (GOOD.replace(b"\r\n1\r\n", b"\r\n-1\r\n", 1), "body-count", 2, 1),
    "17 10^6 bodies": (GOOD.replace(b"\r\n1\r\n", b"\r\n1000000\r\n", 1), "body-count", 2, 1),
    "19 one id twice": (edited(lambda f: f[2].append(f[2][0])), "duplicate-body", FRAME_2 + 28, 1),
    "21 24 joints": (edited(without_row), "joint-count", FRAME_2 + 2, 1),
    "21 26 joints": (edited(one_row_more), "joint-count", FRAME_2 + 2, 1),
    "22 0 joints": (edited(no_rows), "joint-count", FRAME_2 + 2, 1),
    "23 24 declared, 25 there": (edited(lambda f: setattr(f[2][0], "count", "24")), "joint-count", FRAME_2 + 2, 1),
    "24 11 fields": (edited(lambda f: f[2][0].rows[0].pop()), "fields", FIRST_ROW, -1),
    "24 13 fields": (field(0, 3, "2 61.416"), "fields", FIRST_ROW, -1),
    "25 2 fields": (edited(lambda f: f[2][0].rows[0].__delitem__(slice(2, None))), "fields", FIRST_ROW, -1),
    "26 body row of 9": (edited(lambda f: f[2][0].head.pop()), "fields", FRAME_2 + 1, -1),
    "28 inf": (field(0, 0, "inf"), "non-finite", FIRST_ROW, 1),
    "28 -1.#INF": (field(0, 0, "-1.#INF"), "non-finite", FIRST_ROW, 1),
    "28 1e400": (field(0, 0, "1e400"), "non-finite", FIRST_ROW, 1),
    "28 1e400, not kept": (field(0, 9, "-1e400"), "non-finite", FIRST_ROW, -1),
    "28 400 digits, not kept": (field(0, 9, "9" * 400), "non-finite", FIRST_ROW, -1),
    "29 decimal comma": (field(0, 0, "0,5"), "number", FIRST_ROW, 1),
    **{
        f"30 {token}, column {column}": (field(0, column, token), "number", FIRST_ROW, -1)
        for token in ("0x1F", "0.1.2", "1e", "1_0", "--1", "1e5.0", "1e1e1", ".", "-", "1-1", "e5", "1e+", "a", "٣")
        for column in (0, 1, 2, 3, 10)
    },
    "31 5000 m": (field(0, 2, "5000"), "range", FIRST_ROW, -1),
    "32 tracking state 9": (field(4, 11, "9"), "enum", FIRST_ROW + 4, -1),
    "32 tracking state 02": (field(4, 11, "02"), "enum", FIRST_ROW + 4, -1),
    "32 tracking state of the body": (edited(lambda f: f[2][0].head.__setitem__(9, "3")), "enum", FRAME_2 + 1, -1),
    "33 inside the last number": (GOOD[:-5], "truncated", 1 + 6 * 28, -1),
    "34 at the end of a line": (b"\r\n".join(LINES[:100]) + b"\r\n", "truncated", 101, 1),
    "34 at a line, unended": (b"\r\n".join(LINES[:100]), "truncated", 101, 1),
    "34 at a frame's end": (b"\r\n".join(LINES[: 1 + 5 * 28]) + b"\r\n", "truncated", 2 + 5 * 28, 1),
    "37 blank line": (b"\r\n".join([*LINES[:29], b"", *LINES[29:]]), "structure", 30, 1),
    "37 blank line of spaces": (b"\r\n".join([*LINES[:29], b"  ", *LINES[29:]]), "structure", 30, 1),
    "38 garbage": (GOOD + b"\r\n  x", "trailing-data", 2 + 6 * 28 + 1, 1),
    "38 a second copy": (GOOD + GOOD, "trailing-data", 2 + 6 * 28, 1),
    "39 a line of 5 KB": (GOOD.replace(b" ", b" " * 5000, 1), "line-length", 3, 1),
    "40 id 2^64 + 1": (edited(lambda f: f[2][0].head.__setitem__(0, str(2**64 + 1))), "id", FRAME_2 + 1, 1),
    "40 id 2^64": (edited(lambda f: f[2][0].head.__setitem__(0, str(2**64))), "id", FRAME_2 + 1, 1),
    "40 id -1": (edited(lambda f: f[2][0].head.__setitem__(0, "-1")), "id", FRAME_2 + 1, 1),
    "47 over 64 MiB": (bytes(MAX_BYTES + 1), "size", 0, 0),
    "a row instead of a count": (edited(lambda f: f[2][0].rows.append(f[2][0].rows[0])), "structure", FRAME_2 + 28, 1),
}
"""Text, code, line and column (-1: any); the name begins with the row of the table."""


def _one_id(bodies: int) -> Frames:
    rng = np.random.default_rng(1)
    return [[body(rng, id=n) for n in range(bodies)] for _ in range(6)]


GOOD_ENOUGH: dict[str, tuple[bytes, dict[str, int]]] = {
    "5 BOM": (write_skeleton(walk(6), bom=True), {"bom": 1}),
    "15 no body at all": (b"3\r\n0\r\n0\r\n0\r\n", {}),
    "16 some frames empty": (edited(lambda f: f[1].clear()), {}),
    "18 seven bodies": (write_skeleton(_one_id(7)), {"many-bodies": 6}),
    "20 leaves and returns": (edited(lambda f: (f[2].clear(), f[3].clear())), {}),
    "27 NaN": (field(0, 1, "nan(ind)"), {"nan": 1}),
    "35 no final newline": (write_skeleton(walk(6), final_newline=False), {}),
    "36 mixed": (GOOD.replace(b"\r\n", b"\n", 30).replace(b"\n", b"\r", 10).replace(b" ", b"\t  ", 50), {}),
    "40 id 2^64 - 1": (edited(lambda f: f[2][0].head.__setitem__(0, str(2**64 - 1))), {}),
    "41 all 0": (edited(lambda f: [r.__setitem__(slice(0, 3), ["0"] * 3) for b in f for r in b[0].rows]), {}),
    "42 400 digits": (field(0, 0, "0." + "3" * 400), {}),
    "42 1e-310": (field(0, 0, "1e-310"), {}),
    "42 leading +": (field(0, 0, "+0.5"), {}),
}
"""Text, and what is noted of it."""
