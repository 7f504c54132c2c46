"""The loader's Numba kernels: on rows, and from rows to the finished items of a batch.

All release the GIL, run on one thread and read and write only the arrays given. Those on rows copy,
centre, fill gaps, find present bodies and normalise the view. They share ``rows`` float32
[R, V, 3]; ``present`` uint8 [R], 1 where a row shows a body; and of each clip ``start`` int64 [B],
its first row; ``frames`` int64 [B], rows of one body; ``bodies`` int64 [B], which are one after
another; ``count`` int64 [B], its rows, all bodies together.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.loader.augment import BatchPlan, Floats, Ints, ItemFormat
from smae.jit import inlined, njit

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
            # Without its sign bit, a float's bits order as its size does; NaN is above infinity.
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


# From rows to finished items, in one pass: an item of 120 frames is 36 KB, so that what follows the
# resizing happens in the nearest caches.
JOINT, DIFFERENCE, MOTION = 0, 1, 2
_STREAMS = {
    "joint": JOINT,
    "relative": DIFFERENCE,
    "bone": DIFFERENCE,
    "motion": MOTION,
    "bone-motion": DIFFERENCE | MOTION,
}
_NOISE = zlib.crc32(b"noise")
"""The noise stream's name, as ``smae.rng`` codes it."""
_LOW32 = 0xFFFFFFFF

# Constants of the series in ``_normal``. All float32: a float64 one would widen the whole loop.
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)
_LN2, _TURN = np.float32(np.log(2)), np.float32(2 * np.pi)
_THIRD, _FIFTH, _SEVENTH, _NINTH = np.float32(1 / 3), np.float32(1 / 5), np.float32(1 / 7), np.float32(1 / 9)
_S3, _S5, _S7, _S9 = (np.float32(one) for one in (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880))
_C2, _C4, _C6, _C8, _C10 = (np.float32(one) for one in (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800))
_UNIT = np.float32(2**-24)
_ROOT_HALF = np.int32(0x3F3504F3)  # the bits of sqrt(1/2)


def make_items(rows: Floats, plan: BatchPlan, *, item_format: ItemFormat, out: Floats) -> None:
    """Write what ``smae.data.loader.make_items`` returns, to float32 rounding, into out [N, T, V, 3]."""
    noise: tuple[Any, ...] = (0.0, np.empty(0, np.int64), 0, 0, 0)
    if plan.noise is not None:
        seed, item = plan.noise.seed, np.ascontiguousarray(plan.noise.item)
        noise = (item_format.sigma, item, plan.noise.epoch, seed & _LOW32, seed >> 32)
    sigma, item, epoch, low, high = noise
    windows = (plan.first, plan.length, plan.transform, plan.joint)
    stream, origin = _STREAMS[item_format.stream], item_format.origin
    nothing = np.empty((0, 0), np.uint8)
    stretch, offset, joints, frames = (*np.empty((2, 0, 0), np.float32), nothing, nothing)
    if plan.edits is not None:
        stretch = np.ascontiguousarray(plan.edits.stretch)
        offset = np.ascontiguousarray(plan.edits.offset).reshape(len(plan.first), -1)
        joints, frames = plan.edits.joint.view(np.uint8), plan.edits.frame.view(np.uint8)
    keyed = (rows, *windows, sigma, item, epoch, low, high)
    _make(*keyed, stream, origin, item_format.bones, stretch, offset, joints, frames, out)


@inlined
def _apply(matrix: Floats, line: Floats, to: Floats) -> None:
    """Write x' = A x of each joint of line, x y z x y z ..., into to."""
    # Read once, so that the nine numbers stay in registers.
    xx, xy, xz = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    yx, yy, yz = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    zx, zy, zz = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    for v in range(line.shape[0] // 3):
        x, y, z = line[3 * v], line[3 * v + 1], line[3 * v + 2]
        to[3 * v] = xx * x + xy * y + xz * z
        to[3 * v + 1] = yx * x + yy * y + yz * z
        to[3 * v + 2] = zx * x + zy * y + zz * z


@inlined
def _reorder(line: Floats, joint: Ints, to: Floats) -> None:
    """Write joint[v] of line, x y z x y z ..., as joint v of to."""
    for v in range(joint.shape[0]):
        at, source = 3 * v, 3 * joint[v]
        to[at] = line[source]
        to[at + 1] = line[source + 1]
        to[at + 2] = line[source + 2]


@inlined
def _resize(window: Floats, length: int, matrix: Floats, joint: Ints, scratch: Floats, out: Floats) -> None:
    """Write a window's rows, mapped and resized, into out [T, 3 V].

    Rows are mapped first, into a scratch that stays in the processor's nearest cache, and frames
    are interpolated between them: most windows are shorter than the output, so each row is mapped
    once (two and a half times as fast, measured, as mapping each frame). Of a window longer than
    twice the output, only the two rows next to each frame are mapped.
    """
    frames, size = out.shape
    steps = 2 * frames
    dense = length <= steps
    if dense:
        _apply(matrix, window, scratch[0])
    else:
        for t in range(frames):
            low = ((2 * t + 1) * length - frames) // steps
            _apply(matrix, window[low * size : (low + 2) * size], scratch[0, 2 * t * size :])
    mapped = scratch[0]
    identity = True
    for v in range(joint.shape[0]):
        identity &= joint[v] == v
    if not identity:
        mapped = scratch[1]
        for at in range(0, min(length, steps) * size, size):
            _reorder(scratch[0, at:], joint, mapped[at:])
    # Frame t is at low + rest / steps, low = ((2 t + 1) L - T) div 2 T, not below 0: whole numbers.
    low, rest = 0, length - frames
    for t in range(frames):
        if rest >= steps:
            low, rest = low + rest // steps, rest % steps
        at = low
        if not dense:
            at = 2 * t
        weight = np.float32(max(rest, 0)) / np.float32(steps)
        below = mapped[at * size : (at + 1) * size]
        after = at
        if low + 1 < length:
            after = at + 1
        above = mapped[after * size : (after + 1) * size]
        to = out[t]
        for k in range(size):
            to[k] = below[k] + weight * (above[k] - below[k])
        rest += 2 * length


@njit("void(int64, int64, int64, int64, float32[::1], float32[::1])", allocates=False)
def _draw(item: int, epoch: int, low: int, high: int, first: Floats, second: Floats) -> None:
    """Write the item's numbers of stream "noise" in pairs, the first as 1 - u, on (0, 1].

    The generator is that of ``smae.rng``, with all blocks of an item at once.
    """
    left, right, mask = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57), np.uint64(_LOW32)
    half, drop = np.uint64(32), np.uint64(8)
    for block in range(first.shape[0] // 2):
        a, b, c, d = np.uint64(block), np.uint64(item) & mask, np.uint64(epoch) & mask, np.uint64(_NOISE)
        key, other = np.uint64(low), np.uint64(high)
        for _ in range(10):
            one, two = a * left, c * right
            a, b, c, d = (two >> half) ^ b ^ key, two & mask, (one >> half) ^ d ^ other, one & mask
            key, other = (key + np.uint64(0x9E3779B9)) & mask, (other + np.uint64(0xBB67AE85)) & mask
        first[2 * block] = _ONE - np.float32(np.int64(a >> drop)) * _UNIT
        first[2 * block + 1] = _ONE - np.float32(np.int64(c >> drop)) * _UNIT
        second[2 * block] = np.float32(np.int64(b >> drop)) * _UNIT
        second[2 * block + 1] = np.float32(np.int64(d >> drop)) * _UNIT


@njit("void(float32[::1], float32[::1], float32[::1])", allocates=False)
def _normal(first: Floats, second: Floats, normal: Floats) -> None:
    """Write r cos(2 pi v), r sin(2 pi v) a pair, r = sqrt(-2 ln w) (Box and Muller, 1958).

    Logarithm, sine and cosine are series, good to float32, without branches, so that the compiler
    does eight at a time: w = m 2^e with m about 1 and ln m = 2 artanh((m - 1) / (m + 1)); v is a
    whole number of quarter turns and the rest.
    """
    bits = first.view(np.int32)
    for p in range(first.shape[0]):
        exponent = (bits[p] - _ROOT_HALF) >> np.int32(23)
        normal[2 * p] = np.float32(exponent)
        bits[p] = bits[p] - (exponent << np.int32(23))
    for p in range(first.shape[0]):
        s = (first[p] - _ONE) / (first[p] + _ONE)
        q = s * s
        logarithm = _TWO * s * (_ONE + q * (_THIRD + q * (_FIFTH + q * (_SEVENTH + q * _NINTH))))
        radius = np.sqrt(-_TWO * (normal[2 * p] * _LN2 + logarithm))
        quarter = np.floor(np.float32(4) * second[p] + _HALF)
        angle = (second[p] - np.float32(0.25) * quarter) * _TURN
        q = angle * angle
        sine = angle * (_ONE + q * (_S3 + q * (_S5 + q * (_S7 + q * _S9))))
        cosine = _ONE + q * (_C2 + q * (_C4 + q * (_C6 + q * (_C8 + q * _C10))))
        # Selected and not branched to, so that the loop can be vectorized.
        odd = (np.int32(quarter) & np.int32(1)) != 0
        x, y = (-sine if odd else cosine), (cosine if odd else sine)
        sign = -radius if (np.int32(quarter) & np.int32(2)) != 0 else radius
        normal[2 * p], normal[2 * p + 1] = sign * x, sign * y


@njit("void(float32[:, ::1], int64[:, ::1], float32[::1], float32[::1])", allocates=False)
def _stretch(x: Floats, bones: Ints, change: Floats, shift: Floats) -> None:
    """Make bones of x [T, 3 V] longer by the shares ``change`` [V]; shift [3 V] is scratch."""
    for t in range(x.shape[0]):
        line = x[t]
        for k in range(line.shape[0]):
            shift[k] = 0
        for b in range(bones.shape[0]):
            at, above, share = 3 * bones[b, 0], 3 * bones[b, 1], change[bones[b, 0]]
            for c in range(3):
                shift[at + c] = shift[above + c] + share * (line[at + c] - line[above + c])
        for k in range(line.shape[0]):
            line[k] += shift[k]


@njit("void(float32[:, ::1], float32, float32[::1], float32[::1])", allocates=False)
def _displace(x: Floats, sigma: float, normal: Floats, offset: Floats) -> None:
    """Add noise [T * 3 V] and an offset [3 V], or either, to frames of x that are not 0."""
    frames, size = x.shape
    for t in range(frames):
        line = x[t]
        present = False
        for k in range(size):
            present |= line[k] != 0
        if present and normal.shape[0]:
            numbers = normal[t * size : (t + 1) * size]
            for k in range(size):
                line[k] += sigma * numbers[k]
        if present and offset.shape[0]:
            for k in range(size):
                line[k] += offset[k]


@njit("void(float32[:, ::1], uint8[::1], uint8[::1])", allocates=False)
def _blank(x: Floats, joint: Bytes, frame: Bytes) -> None:
    """Set marked joints [V] and frames [T] of x [T, 3 V] to 0."""
    for t in range(x.shape[0]):
        if frame[t]:
            x[t] = 0
            continue
        for v in range(joint.shape[0]):
            if joint[v]:
                x[t, 3 * v : 3 * v + 3] = 0


@njit("void(float32[:, ::1], int64[::1], float32[::1])", allocates=False)
def _to_differences(x: Floats, origin: Ints, line: Floats) -> None:
    """Subtract each joint's origin, -1 for none, from x [T, 3 V]; line [3 V] is scratch."""
    frames, size = x.shape
    for t in range(frames):
        this = x[t]
        for k in range(size):
            line[k] = this[k]
        for v in range(origin.shape[0]):
            at, above = 3 * v, 3 * origin[v]
            if above < 0:
                continue
            this[at] = line[at] - line[above]
            this[at + 1] = line[at + 1] - line[above + 1]
            this[at + 2] = line[at + 2] - line[above + 2]


@njit("void(float32[:, ::1])", allocates=False)
def _to_motion(x: Floats) -> None:
    """Turn joints x [T, 3 V] into motion in place: the next frame minus this one, the last 0."""
    frames, size = x.shape
    for t in range(frames - 1):
        this, after = x[t], x[t + 1]
        for k in range(size):
            this[k] = after[k] - this[k]
    x[frames - 1] = 0


@njit(
    "void(float32[:, :, ::1], int64[::1], int64[::1], float32[:, :, ::1], int64[:, ::1], float32, int64[::1], int64,"
    "int64, int64, int64, int64[::1], int64[:, ::1], float32[:, ::1], float32[:, ::1], uint8[:, ::1],"
    "uint8[:, ::1], float32[:, :, :, ::1])"
)
def _make(
    rows: Floats,
    first: Ints,
    length: Ints,
    transform: Floats,
    joint: Ints,
    sigma: float,
    item: Ints,
    epoch: int,
    low: int,
    high: int,
    stream: int,
    origin: Ints,
    bones: Ints,
    stretch: Floats,
    offset: Floats,
    blank_joint: Bytes,
    blank_frame: Bytes,
    out: Floats,
) -> None:
    frames, size = out.shape[1], 3 * out.shape[2]
    flat, items = rows.reshape(rows.shape[0] * size), out.reshape(out.shape[0], frames, size)
    longest = 0
    for n in range(length.shape[0]):
        longest = max(longest, min(length[n], 2 * frames))
    scratch = np.empty((2, longest * size), np.float32)
    pairs = 0
    if sigma > 0:
        # The generator gives four numbers, two pairs, at a time.
        pairs = 2 * (-(-frames * size // 4))
    ones, others = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    normal = np.empty(2 * pairs, np.float32)
    edited, nothing = offset.shape[0] > 0, np.empty(0, np.float32)
    for n in range(first.shape[0]):
        window = flat[first[n] * size : (first[n] + length[n]) * size]
        _resize(window, length[n], transform[n], joint[n], scratch, items[n])
        if edited and stretch[n].any():
            _stretch(items[n], bones, stretch[n], scratch[0])
        if sigma > 0:
            _draw(item[n], epoch, low, high, ones, others)
            _normal(ones, others, normal)
        if sigma > 0 or edited:
            _displace(items[n], sigma, normal, offset[n] if edited else nothing)
        if stream & DIFFERENCE:
            _to_differences(items[n], origin, scratch[0])
        if stream & MOTION:
            _to_motion(items[n])
        if edited:
            _blank(items[n], blank_joint[n], blank_frame[n])
