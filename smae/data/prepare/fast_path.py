"""Fast path of ``prepare``: frequent `.skeleton` files, from text to cleaned rows in one kernel.

Nine of ten recordings show one body, are spelled the usual way and have no NaN. For them, creating
a Recording and a Clip costs more than parsing. Files that the kernel does not take go the general
way; where both apply, they give the same rows (tests/data/prepare/test_fast_path.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.data.clean.actors import centre_single_body
from smae.data.prepare import PrepareSettings
from smae.data.raw.fast_parser import count_rows, fill_arrays, pad_text, scan
from smae.data.raw.ntu import NtuSource
from smae.data.raw.skeleton_parser import FLOAT32_MAX
from smae.data.raw.source import Source
from smae.jit import njit
from smae.skeleton import Layout

_NONE = np.int64(0)
MAX_ROWS = 4096
"""Longest recording that it takes, in rows: over two minutes."""


def fast_path(source: Source, settings: PrepareSettings, layout: Layout) -> FastPath | None:
    """Return the fast path if source and settings allow it, else None."""
    if type(source) is not NtuSource:
        return None
    if (
        settings.mode != "reference"
        or settings.frames is not None
        or settings.codec != "float32"
        or settings.unit not in (None, "m")
    ):
        return None
    return FastPath(max_range=settings.max_range, centre=layout.centre)


class FastPath:
    """Parses and cleans recordings into rows of given arrays.

    Args:
        max_range: metres; files with larger coordinates are not taken.
        centre: the joint that becomes the origin.
    """

    def __init__(self, *, max_range: float, centre: int) -> None:
        self._limit, self._centre = min(max_range, FLOAT32_MAX), centre
        self._scratch = np.empty(MAX_ROWS, np.int32), np.empty(MAX_ROWS, np.uint64)

    def __call__(
        self, data: bytes | memoryview, joints: NDArray[np.float32], state: NDArray[np.uint8]
    ) -> tuple[int, int]:
        """Write a recording's rows; return the numbers of rows and frames, 0 rows if not taken.

        Args:
            data: a whole `.skeleton` file.
            joints: float32 [R, V, 3], whose first rows are written.
            state: uint8 [R, V], likewise.
        """
        laid = pad_text(data)
        if laid is None:
            return 0, 0
        text, ends, spaces = laid
        arrays = (*self._scratch, joints, state)
        rows, frames = _parse_and_centre(text, len(data), ends, spaces, self._limit, self._centre, *arrays)
        return int(rows), int(frames)


@njit(
    "UniTuple(int64, 2)(uint8[::1], uint64, int32[::1], int32[::1], float64, int64, int32[::1], uint64[::1],"
    " float32[:, :, ::1], uint8[:, ::1])"
)
def _parse_and_centre(
    text: NDArray[np.uint8],
    size: int,
    ends: NDArray[np.int32],
    spaces: NDArray[np.int32],
    limit: float,
    centre: int,
    frame: NDArray[np.int32],
    body: NDArray[np.uint64],
    joints: NDArray[np.float32],
    state: NDArray[np.uint8],
) -> tuple[np.int64, np.int64]:
    lines = scan(text, size, ends, spaces)
    if lines < 1:
        return _NONE, _NONE
    frames, rows, _ = count_rows(text, ends, lines)
    # More rows than frames: several bodies.
    if frames < 1 or rows < 1 or rows > frames or rows > len(joints) or rows > len(frame):
        return _NONE, _NONE
    frame, body, joints, state = frame[:rows], body[:rows], joints[:rows], state[:rows]
    if not fill_arrays(text, ends, spaces, limit, frames, frame, body, joints, state):
        return _NONE, _NONE
    if centre_single_body(frame, body, joints, centre, joints) < 0:
        return _NONE, _NONE
    return rows, frames
