"""Kernels of cleaning: motion, spread, and centring of a single body, rounded as the reference rounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.jit import njit

NOISE_SPREAD = 0.8
"""A row is noisy when its x range is more than this part of its y range (threshold of the CTR-GCN scripts)."""


@njit("float32(float32[:, :, ::1])")
def motion(xyz: NDArray[np.float32]) -> np.float32:
    """Return the sum of the variances of x, y and z over all rows and joints, in square metres.

    Bit for bit ``np.sum(np.var(xyz.reshape(-1, 3), axis=0))``, which adds row after row in float32;
    NumPy is over ten times slower on an array with three columns.

    Args:
        xyz: float32 [R, V, 3], C-contiguous, without NaN, R > 0.
    """
    rows, joints, _ = xyz.shape
    count = np.float32(rows * joints)
    # Each sum is a chain of additions that must not be reordered, but the three chains can overlap.
    x = y = z = np.float32(0)
    for r in range(rows):
        for v in range(joints):
            x += xyz[r, v, 0]
            y += xyz[r, v, 1]
            z += xyz[r, v, 2]
    x, y, z = x / count, y / count, z / count
    xx = yy = zz = np.float32(0)
    for r in range(rows):
        for v in range(joints):
            dx, dy, dz = xyz[r, v, 0] - x, xyz[r, v, 1] - y, xyz[r, v, 2] - z
            xx += dx * dx
            yy += dy * dy
            zz += dz * dz
    return xx / count + yy / count + zz / count


@njit("int64(float32[:, :, ::1], boolean[::1])")
def mark_noisy(xyz: NDArray[np.float32], noisy: NDArray[np.bool_]) -> int:
    """Mark the rows with x range > 0.8 y range, too wide for a person, and return their number.

    Args:
        xyz: float32 [R, V, 3], C-contiguous, without NaN.
        noisy: bool [R], written.
    """
    number = 0
    for r in range(xyz.shape[0]):
        left = right = xyz[r, 0, 0]
        low = high = xyz[r, 0, 1]
        for v in range(1, xyz.shape[1]):
            x, y = xyz[r, v, 0], xyz[r, v, 1]
            left, right = min(left, x), max(right, x)
            low, high = min(low, y), max(high, y)
        # Product and comparison in float64, as in NumPy 1, with which all published arrays were made.
        noisy[r] = np.float64(right - left) > NOISE_SPREAD * np.float64(high - low)
        number += noisy[r]
    return number


@njit("int64(int32[::1], uint64[::1], float32[:, :, ::1], int64, float32[:, :, ::1])", allocates=False)
def centre_single_body(
    frame: NDArray[np.int32], body: NDArray[np.uint64], xyz: NDArray[np.float32], centre: int, out: NDArray[np.float32]
) -> int:
    """Clean a recording of a single body without NaN in one pass.

    Writes the rows relative to the centre joint of the first row that is not all zeros, and returns
    the index of that row. Returns -1, with ``out`` half written, where the recording has several
    bodies, a body twice in a frame, a NaN, or only zeros.

    Args:
        frame: int32 [R].
        body: uint64 [R].
        xyz: float32 [R, V, 3].
        centre: the joint that becomes the origin.
        out: float32 [R, V, 3], written; may be ``xyz`` itself.
    """
    rows, joints, _ = xyz.shape
    first = -1
    for r in range(rows):
        if body[r] != body[0] or (r > 0 and frame[r] == frame[r - 1]):
            return -1
        if first < 0:
            for v in range(joints):
                for c in range(3):
                    if xyz[r, v, c] != 0:
                        first = r
    if first < 0:
        return -1
    x, y, z = xyz[first, centre, 0], xyz[first, centre, 1], xyz[first, centre, 2]
    whole = True
    for r in range(rows):
        for v in range(joints):
            out[r, v, 0] = xyz[r, v, 0] - x
            out[r, v, 1] = xyz[r, v, 1] - y
            out[r, v, 2] = xyz[r, v, 2] - z
            # NaN is the only value that differs from itself.
            whole &= out[r, v, 0] == out[r, v, 0] and out[r, v, 1] == out[r, v, 1] and out[r, v, 2] == out[r, v, 2]
    if not whole:
        return -1
    return first
