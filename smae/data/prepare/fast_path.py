"""The usual recording, from text to rows in one kernel: one person, the usual spelling, cleaned in reference mode.

Nine of ten recordings are such, and for them the way through a Recording and a Clip costs more than the parsing itself.
What this does not take, the general way does; where both do, they give the same rows (see the tests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.data.clean.kernels import centre_one
from smae.data.prepare.plan import Settings
from smae.data.raw.fast_parser import count_rows, fill_arrays, pad_text, scan
from smae.data.raw.ntu import NtuSource
from smae.data.raw.skeleton_parser import FLOAT32_MAX
from smae.data.raw.source import Source
from smae.jit import njit
from smae.skeleton import Layout

_NONE = np.int64(0)
MAX_ROWS = 4096
"""Rows of the longest recording that goes the short way: over two minutes."""


def usual_way(source: Source, settings: Settings, layout: Layout) -> Usual | None:
    """Return the short way where the settings ask for nothing that it does not do; else None."""
    same = settings.mode == "reference" and settings.frames is None and settings.codec == "float32"
    if not same or not isinstance(source, NtuSource):
        return None
    return Usual(max_range=settings.max_range, centre=layout.centre)


class Usual:
    """Reads and cleans recordings of the usual kind into rows that are given.

    Args:
        max_range: metres; a coordinate beyond is not usual.
        centre: the joint whose place becomes the origin.
    """

    def __init__(self, *, max_range: float, centre: int) -> None:
        self._limit, self._centre = min(max_range, FLOAT32_MAX), centre
        self._scratch = np.empty(MAX_ROWS, np.int32), np.empty(MAX_ROWS, np.uint64)

    def __call__(
        self, data: bytes | memoryview, joints: NDArray[np.float32], state: NDArray[np.uint8]
    ) -> tuple[int, int]:
        """Write a recording's rows and return their number and that of its frames; 0 rows where it is not usual.

        Args:
            data: a whole `.skeleton` file.
            joints: float32 [R, V, 3], the first rows of which are written.
            state: uint8 [R, V], likewise.
        """
        laid = pad_text(data)
        if laid is None:
            return 0, 0
        text, ends, spaces = laid
        arrays = (*self._scratch, joints, state)
        rows, frames = _usual(text, len(data), ends, spaces, self._limit, self._centre, *arrays)
        return int(rows), int(frames)


@njit(
    "UniTuple(int64, 2)(uint8[::1], uint64, int32[::1], int32[::1], float64, int64, int32[::1], uint64[::1],"
    " float32[:, :, ::1], uint8[:, ::1])"
)
def _usual(
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
    if frames < 1 or rows < 1 or rows > frames or rows > len(joints) or rows > len(frame):
        return _NONE, _NONE
    frame, body, joints, state = frame[:rows], body[:rows], joints[:rows], state[:rows]
    if not fill_arrays(text, ends, spaces, limit, frames, frame, body, joints, state):
        return _NONE, _NONE
    return (rows, frames) if centre_one(frame, body, joints, centre, joints) >= 0 else (_NONE, _NONE)
