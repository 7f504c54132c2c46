"""Valid `.skeleton` texts to test with: bodies as lists of fields, which a test can change before it writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FIRST_ID = 72057594037930000


@dataclass
class Body:
    """One body of one frame: 10 fields, the fields of the joint count, and 25 rows of 12 fields, all as text."""

    head: list[str]
    count: str
    rows: list[list[str]]


def body(rng: np.random.Generator, *, id: int = FIRST_ID, digits: int = 7) -> Body:
    """Return a body with random places and orientations, written as the Kinect's recorder does (``%.7g``)."""
    # One value in 40 is tiny, so that exponents occur.
    values = rng.normal(0, 1, (25, 11)) * np.where(rng.random((25, 11)) < 0.025, 1e-5, 1.0)
    values[:, 3:7] = np.abs(values[:, 3:7]) * 300
    states = rng.integers(0, 3, 25)
    rows = [[f"{v:.{digits}g}" for v in row] + [str(s)] for row, s in zip(values, states, strict=True)]
    lean = [f"{v:.{digits}g}" for v in rng.normal(0, 0.1, 2)]
    return Body([str(id), "0", "1", "1", "0", "1", "0", *lean, "2"], "25", rows)


def walk(frames: int = 3, *, bodies: int = 1, seed: int = 0, digits: int = 7) -> list[list[Body]]:
    """Return frames of ``bodies`` bodies each, in the order of their ids."""
    rng = np.random.default_rng(seed)
    return [[body(rng, id=FIRST_ID + n, digits=digits) for n in range(bodies)] for _ in range(frames)]


def write_skeleton(
    frames: list[list[Body]],
    *,
    count: str | None = None,
    newline: str = "\r\n",
    separator: str = " ",
    final_newline: bool = True,
    bom: bool = False,
) -> bytes:
    """Return the text of a recording.

    Args:
        frames: the bodies of each frame.
        count: declared frame count, when it shall differ from the real one.
        newline: what ends each line.
        separator: what lies between fields.
        final_newline: whether the last line is ended too.
        bom: whether a UTF-8 byte order mark comes first.
    """
    lines = [str(len(frames)) if count is None else count]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for one in bodies:
            lines += [separator.join(one.head), one.count, *(separator.join(row) for row in one.rows)]
    text = newline.join(lines) + (newline if final_newline else "")
    return (b"\xef\xbb\xbf" if bom else b"") + text.encode()
