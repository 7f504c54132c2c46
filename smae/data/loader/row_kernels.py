"""Numba kernels of the loader: take over rows, fill gaps, list present bodies, copy windows.

All release the GIL, run on one thread and read and write only the arrays given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smae.jit import njit

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@njit("boolean(Array(float32, 3, 'C', readonly=True), int64[::1], int64[::1], float32[:, :, ::1], uint8[::1])")
def take(raw: Floats, first: Ints, count: Ints, rows: Floats, present: Bytes) -> bool:
    """Copy clips end to end into rows, and look at each row on the way; tell whether any number is NaN.

    Args:
        raw: float32 [Q, V, 3], as read.
        first: int64 [B], each clip's first row there.
        count: int64 [B], its rows.
        rows: float32 [R, V, 3], R the sum of ``count``.
        present: uint8 [R], becomes 1 where any coordinate is a number other than 0.
    """
    gaps = False
    size = raw.shape[1] * raw.shape[2]
    bits, goal = raw.reshape(raw.shape[0], size).view(np.uint32), rows.reshape(rows.shape[0], size).view(np.uint32)
    r = 0
    for b in range(first.shape[0]):
        for q in range(first[b], first[b] + count[b]):
            # Without its sign bit, a float's bits order as its size does, and NaN lies above infinity.
            largest = np.uint32(0)
            source, to = bits[q], goal[r]
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
def centre(rows: Floats, present: Bytes, start: Ints, frames: Ints, bodies: Ints, joint: int) -> None:
    """Move each clip in place so that ``joint`` of its first body, when first seen, is the origin; leave centred ones.

    A clip is centred where that joint comes within 5 cm of 0: resampling moves it off by some millimetres, and from a
    camera it is half a metre away at least. Rows in which nobody is present stay as they are.

    Args:
        rows: float32 [R, V, 3]; NaN is missing.
        present: uint8 [R], whether a row shows somebody.
        start: int64 [B], first row of each clip.
        frames: int64 [B], rows of each of its bodies.
        bodies: int64 [B], its bodies, which lie one after another.
        joint: number of the joint.
    """
    for b in range(start.shape[0]):
        first = -1
        for r in range(start[b], start[b] + frames[b]):
            x, y, z = rows[r, joint]
            if not present[r] or np.isnan(x + y + z):
                continue
            first = r if first < 0 else first
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
def hold(rows: Floats, start: Ints, count: Ints) -> None:
    """Fill NaN in place, joint by joint: the nearest frame that has the joint (the earlier of two), or 0 if none has.

    Args:
        rows: float32 [R, V, 3].
        start: int64 [K], first row of each track (one body of one clip).
        count: int64 [K], its rows.
    """
    for k in range(start.shape[0]):
        track = rows[start[k] : start[k] + count[k]]
        for v in range(rows.shape[1]):
            last = -1
            for t in range(count[k]):
                if np.isnan(track[t, v, 0]) or np.isnan(track[t, v, 1]) or np.isnan(track[t, v, 2]):
                    continue
                for gap in range(last + 1, t):
                    near = last if last >= 0 and gap - last <= t - gap else t
                    track[gap, v] = track[near, v]
                last = t
            for gap in range(last + 1, count[k]):
                for c in range(3):
                    track[gap, v, c] = track[last, v, c] if last >= 0 else np.float32(0)


@njit("void(uint8[::1], int64[::1], int64[::1], int64[::1], boolean, int64[::1], int64[::1])")
def spans(present: Bytes, start: Ints, frames: Ints, bodies: Ints, prefix: bool, begin: Ints, valid: Ints) -> None:
    """Write the frames to crop from, for each clip: begin [B] and valid [B], at least 1.

    A frame counts if any body is present. With ``prefix`` the span is the first n frames, n being how many count;
    otherwise it runs from the first that counts to the last.
    """
    for b in range(start.shape[0]):
        counted, first, last = 0, -1, -1
        for t in range(frames[b]):
            for m in range(bodies[b]):
                if present[start[b] + m * frames[b] + t]:
                    counted += 1
                    first = t if first < 0 else first
                    last = t
                    break
        begin[b] = 0 if prefix or first < 0 else first
        valid[b] = max(1, counted) if prefix or first < 0 else last - first + 1


@njit("UniTuple(int64[::1], 3)(uint8[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])")
def list_items(
    present: Bytes, start: Ints, frames: Ints, bodies: Ints, skip: Ints, length: Ints
) -> tuple[Ints, Ints, Ints]:
    """Return (clip, body, first row) of every body that is present in its clip's window: three int64 [N].

    A clip none of whose bodies is present there keeps its first.

    Args:
        present: uint8 [R].
        start: int64 [B], first row of each clip.
        frames: int64 [B], rows of each body.
        bodies: int64 [B].
        skip: int64 [B], the window's first frame.
        length: int64 [B], the window's frames.
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
    place = 0
    for n in range(first.shape[0]):
        out[place : place + length[n]] = rows[first[n] : first[n] + length[n]]
        place += length[n]
