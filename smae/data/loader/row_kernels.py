"""Numba kernels on rows: copy, centre, fill gaps, find present bodies, normalise the view.

All release the GIL, run on one thread and read and write only the arrays given. They share
``rows`` float32 [R, V, 3]; ``present`` uint8 [R], 1 where a row shows a body; and of each clip
``start`` int64 [B], its first row; ``frames`` int64 [B], rows of one body; ``bodies`` int64 [B],
which are one after another; ``count`` int64 [B], its rows, all bodies together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smae.errors import ConfigError
from smae.jit import njit
from smae.skeleton import Layout

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@njit("boolean(Array(float32, 3, 'C', readonly=True), int64[::1], int64[::1], float32[:, :, ::1], uint8[::1])")
def copy_clips(raw: Floats, first: Ints, count: Ints, rows: Floats, present: Bytes) -> bool:
    """Copy clips from rows ``first`` of raw [Q, V, 3] end to end; return whether any is NaN.

    Rows in which any coordinate is a number other than 0 are marked as present.
    """
    gaps = False
    size = raw.shape[1] * raw.shape[2]
    bits = raw.reshape(raw.shape[0], size).view(np.uint32)
    out = rows.reshape(rows.shape[0], size).view(np.uint32)
    r = 0
    for b in range(first.shape[0]):
        for q in range(first[b], first[b] + count[b]):
            # Without its sign bit, a float's bits order as its size does, and NaN is above
            # infinity.
            largest = np.uint32(0)
            source, to = bits[q], out[r]
            for k in range(size):
                to[k] = source[k]
                largest = max(largest, source[k] & np.uint32(0x7FFFFFFF))
            present[r] = largest > 0
            if largest > np.uint32(0x7F800000):
                gaps = True
                present[r] = (np.nan_to_num(rows[r]) != 0).any()
            r += 1
    return gaps


CENTRED = 0.05
"""Metres within which a clip counts as centred already."""


@njit("void(float32[:, :, ::1], uint8[::1], int64[::1], int64[::1], int64[::1], int64)")
def centre_clips(rows: Floats, present: Bytes, start: Ints, frames: Ints, bodies: Ints, joint: int) -> None:
    """Move clips so that ``joint`` of the first body, when first seen, is the origin.

    Centred clips stay: those whose joint comes within 5 cm of 0. Resampling moves it by some
    millimetres, and in camera space it is half a metre away at least. Rows without a body stay.
    """
    for b in range(start.shape[0]):
        first = -1
        for r in range(start[b], start[b] + frames[b]):
            x, y, z = rows[r, joint]
            if not present[r] or np.isnan(x + y + z):
                continue
            if first < 0:
                first = r
            if x * x + y * y + z * z < CENTRED * CENTRED:
                first = -1
                break
        if first < 0:
            continue
        origin = rows[first, joint].copy()
        for r in range(start[b], start[b] + frames[b] * bodies[b]):
            if present[r]:
                rows[r] -= origin


@njit("void(float32[:, :, ::1], int64[::1], int64[::1])")
def fill_gaps(rows: Floats, start: Ints, count: Ints) -> None:
    """Fill NaN joint by joint from the nearest frame that has it (the earlier of two), or 0.

    ``start`` and ``count`` int64 [K] are of tracks: one body of one clip.
    """
    for k in range(start.shape[0]):
        track = rows[start[k] : start[k] + count[k]]
        for v in range(rows.shape[1]):
            last = -1
            for t in range(count[k]):
                if np.isnan(track[t, v, 0]) or np.isnan(track[t, v, 1]) or np.isnan(track[t, v, 2]):
                    continue
                for gap in range(last + 1, t):
                    nearest = t
                    if last >= 0 and gap - last <= t - gap:
                        nearest = last
                    track[gap, v] = track[nearest, v]
                last = t
            for gap in range(last + 1, count[k]):
                for c in range(3):
                    track[gap, v, c] = track[last, v, c] if last >= 0 else np.float32(0)


@njit("void(uint8[::1], int64[::1], int64[::1], int64[::1], boolean, int64[::1], int64[::1])")
def valid_frames(
    present: Bytes, start: Ints, frames: Ints, bodies: Ints, counted: bool, begin: Ints, valid: Ints
) -> None:
    """Write the frames to crop from, for each clip: begin [B] and valid [B], at least 1.

    A frame counts if any body is present. With ``counted`` they are the first n frames, n being how
    many count; otherwise they run from the first that counts to the last.
    """
    for b in range(start.shape[0]):
        count, first, last = 0, -1, -1
        for t in range(frames[b]):
            for m in range(bodies[b]):
                if present[start[b] + m * frames[b] + t]:
                    count += 1
                    last = t
                    if first < 0:
                        first = t
                    break
        if counted or first < 0:
            begin[b], valid[b] = 0, max(1, count)
        else:
            begin[b], valid[b] = first, last - first + 1


@njit("UniTuple(int64[::1], 3)(uint8[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def present_bodies(
    present: Bytes, start: Ints, frames: Ints, bodies: Ints, skip: Ints, length: Ints
) -> tuple[Ints, Ints, Ints]:
    """Return (clip, body, first row), int64 [N], of all bodies present in their clip's window.

    A window is ``length`` frames from ``skip`` on. A clip with no body in it keeps its first.
    """
    clip = np.empty(bodies.sum(), np.int64)
    body, first = np.empty_like(clip), np.empty_like(clip)
    n = 0
    for b in range(start.shape[0]):
        before = n
        for m in range(bodies[b]):
            row = start[b] + m * frames[b] + skip[b]
            if present[row : row + length[b]].any():
                clip[n], body[n], first[n] = b, m, row
                n += 1
        if n == before:
            clip[n], body[n], first[n] = b, 0, start[b] + skip[b]
            n += 1
    return clip[:n].copy(), body[:n].copy(), first[:n].copy()


@njit("void(float32[:, :, ::1], int64[::1], int64[::1], float32[:, :, ::1])")
def copy_windows(rows: Floats, first: Ints, length: Ints, out: Floats) -> None:
    """Copy the windows rows[first : first + length] one after another into out."""
    at = 0
    for n in range(first.shape[0]):
        out[at : at + length[n]] = rows[first[n] : first[n] + length[n]]
        at += length[n]


@dataclass(frozen=True)
class Trunk:
    """The joints that define which way a person faces.

    Attributes:
        across: int64 [P, 2], (left, right) pairs.
        spine: int64 [2], lowest and uppermost joint.
        upright: turn the spine upright too, and not about the vertical axis alone.
    """

    across: Ints
    spine: Ints
    upright: bool


def trunk_of(layout: Layout, *, align: str) -> Trunk | None:
    """Return what ``augment.align`` needs of a layout; a ``ConfigError`` if it names no trunk."""
    if align == "none":
        return None
    if not layout.across or layout.spine is None:
        raise ConfigError(
            f"augment.align={align} turns people by their hips, shoulders and spine, and layout '{layout.name}' "
            "does not name them: give it `across` and `spine`, or choose augment.align=none"
        )
    return Trunk(np.array(layout.across, np.int64), np.array(layout.spine, np.int64), align == "body")


@njit(
    "void(float32[:, :, ::1], uint8[::1], int64[::1], int64[::1], int64[:, ::1], int64[::1], "
    "boolean, float32[:, :, ::1])"
)
def facing_axes(
    rows: Floats, present: Bytes, start: Ints, count: Ints, across: Ints, spine: Ints, upright: bool, axes: Floats
) -> None:
    """Write each clip's view normalisation R, x' = R x, by its first row with a body.

    R's rows are the new axes in old coordinates: y up (with ``upright`` along the spine), x from
    left to right made orthogonal to y, z = x times y, so that a person who faces a camera at the
    origin is not turned. R is the identity where the trunk gives no direction or no body is
    present. Computed in float64, from rows without NaN; ``axes`` float32 [B, 3, 3] receives R.
    """
    for b in range(start.shape[0]):
        axes[b] = np.eye(3, dtype=np.float32)
        r = start[b]
        while r < start[b] + count[b] and not present[r]:
            r += 1
        if r == start[b] + count[b]:
            continue
        x, y = np.zeros(3), np.zeros(3)
        for c in range(3):
            for p in range(across.shape[0]):
                x[c] += np.float64(rows[r, across[p, 1], c]) - np.float64(rows[r, across[p, 0], c])
            if upright:
                y[c] = np.float64(rows[r, spine[1], c]) - np.float64(rows[r, spine[0], c])
        if not upright:
            y[1] = 1.0
        height = np.sqrt((y * y).sum())
        if height < 1e-6:
            continue
        y /= height
        x -= (x * y).sum() * y
        width = np.sqrt((x * x).sum())
        if width < 1e-6:
            continue
        x /= width
        z = np.array((x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]))
        for c in range(3):
            axes[b, 0, c], axes[b, 1, c], axes[b, 2, c] = x[c], y[c], z[c]
