"""A sample on its way to the store: Recording (from the sensor) and Clip (cleaned).

Axis letters, everywhere: B clip, M body, T frame, V joint, C coordinate, L token, D width; R row,
one body in one frame.

This module does not import NumPy at run time: the command line reads the constants for ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_RANGE = 20.0
"""Default of the largest accepted coordinate, metres; a Kinect measures up to 8 m."""
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
"""Endings of files that are read as videos."""
KEYPOINTS = (".npy", ".npz", ".json")
"""Endings of files of 3D keypoints."""
RATE = 30
"""Frames per second of the Kinect v2, and of all recordings here."""
MAX_BYTES = 64 * 2**20
"""Largest raw file that is read; the largest of NTU's is below 10 MB."""

TRACKED = 2
"""Tracking state of a joint that the sensor saw; 0 is not tracked, 1 inferred."""
MISSING = 3
"""Tracking state of a joint in frames where its body is absent."""


@dataclass(frozen=True)
class Recording:
    """Content of one raw file before cleaning: one row per body and frame, in file order.

    Attributes:
        frames: number of frames in the file, those without a body included.
        frame: int32 [R], 0-based frame of each row, never decreasing.
        body: uint64 [R], the sensor's id of the body in each row.
        xyz: float32 [R, V, 3], metres (x to the sensor's left, y up, z away); NaN where missing.
        state: uint8 [R, V], tracking state 0, 1 or 2.
        notes: tolerated oddities, counted (``{"nan": 3}``).
    """

    frames: int
    frame: NDArray[np.int32]
    body: NDArray[np.uint64]
    xyz: NDArray[np.float32]
    state: NDArray[np.uint8]
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """One cleaned sample: one or two bodies over the same frames.

    Attributes:
        joints: float32 [M, T, V, 3], metres, relative to the origin. ``reference`` mode: rows of
            zeros where the body is absent. ``exact`` mode: NaN where the body or joint is absent.
        state: uint8 [M, T, V], tracking state; ``MISSING`` where the body is absent.
        notes: cleaning steps, counted (``{"removed-short": 1, "dropped-frames": 4}``).
        story: the steps of cleaning as sentences; filled only for ``smae explain``.
    """

    joints: NDArray[np.float32]
    state: NDArray[np.uint8]
    notes: dict[str, int] = field(default_factory=dict)
    story: tuple[str, ...] = ()
