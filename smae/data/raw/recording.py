"""The two shapes of a sample on its way to the store: Recording (as the sensor gave it) and Clip (cleaned).

Axis letters, everywhere: B clip, M body, T frame, V joint, C coordinate, L token, D width; R a row, one body in one
frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MISSING = 3
"""Tracking state of a joint that nobody saw: 0 not tracked, 1 inferred, 2 tracked, 3 no body in this frame."""


@dataclass(frozen=True)
class Recording:
    """What one raw file holds before any cleaning: one row per body and frame, in file order.

    Attributes:
        frames: number of frames in the file, those without a body included.
        frame: int32 [R], 0-based frame of each row, never decreasing.
        body: uint64 [R], the sensor's id of the body in each row.
        xyz: float32 [R, V, 3], metres, camera space (x to the sensor's left, y up, z away); NaN where missing.
        state: uint8 [R, V], tracking state 0, 1 or 2.
        notes: things accepted but worth counting, such as ``{"nan": 3}``.
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
        joints: float32 [M, T, V, 3], metres, relative to the origin. ``reference`` mode: rows of zeros where the body
            is absent. ``exact`` mode: NaN where the body or joint is absent.
        state: uint8 [M, T, V], tracking state; ``MISSING`` where the body is absent.
        notes: what cleaning did, counted (``{"removed-short": 1, "dropped-frames": 4}``).
        story: the same told step by step for people, filled only when asked for.
    """

    joints: NDArray[np.float32]
    state: NDArray[np.uint8]
    notes: dict[str, int] = field(default_factory=dict)
    story: tuple[str, ...] = ()
