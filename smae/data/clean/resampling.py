"""Resampling a clip to another number of frames: linear for positions, nearest for tracking states.

Frame i stands for the time from i to i + 1, so its centre is i + 1/2 (half-pixel centres: what
``torch.nn.functional.interpolate`` does with ``align_corners=False``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.errors import ConfigError, DataError


def resample(joints: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return the clip at ``frames`` frames, linear between neighbours, held before the first and after the last centre.

    New frame i looks at old time (i + 1/2) T / frames - 1/2. NaN comes out where a neighbour with weight is NaN.

    Args:
        joints: float32 [M, T, V, 3].
        frames: how many frames to give, at least 1.

    Returns:
        float32 [M, frames, V, 3]; equal to ``joints`` where ``frames`` is T.

    Raises:
        ConfigError: ``frames`` is less than 1.
        DataError: a clip without frames.
    """
    time = np.clip(_centres(joints.shape[1], frames) - 0.5, 0, joints.shape[1] - 1)
    before = np.floor(time).astype(np.intp)
    weight = (time - before).astype(np.float32)[:, None, None]
    # A frame that is hit exactly must not see its neighbour: 0 x NaN is NaN.
    after = np.ceil(time).astype(np.intp)
    return joints[:, before] * (1 - weight) + joints[:, after] * weight


def resample_state(state: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """Return the tracking states at ``frames`` frames, each that of the old frame in which the new centre lies.

    Args:
        state: uint8 [M, T, V].
        frames: how many frames to give, at least 1.

    Returns:
        uint8 [M, frames, V].

    Raises:
        ConfigError: ``frames`` is less than 1.
        DataError: a clip without frames.
    """
    return state[:, np.floor(_centres(state.shape[1], frames)).astype(np.intp)]


def _centres(length: int, frames: int) -> NDArray[np.float64]:
    """Return float64 [frames], the new frames' centres in old frames, each in (0, length)."""
    if frames < 1:
        raise ConfigError(f"expected at least 1 frame to resample to, found {frames}: ask for more")
    if length < 1:
        raise DataError("expected a clip of at least 1 frame to resample, found none: leave this clip out")
    return (np.arange(frames) + 0.5) * length / frames
