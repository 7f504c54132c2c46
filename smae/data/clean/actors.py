"""Which bodies are actors: the denoising and merging rules of the public CTR-GCN scripts.

Steps 1 to 3 of that pipeline. Both cleaning modes decide by these rules; they differ only in the
frames at which a body's rows are placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.recording import Recording
from smae.errors import BadRecording
from smae.jit import njit

NOISE_LENGTH = 11
"""Bodies of this many rows or fewer are removed if there are others (threshold of the scripts)."""
NOISE_SPREAD = 0.8
"""A row with an x range above this part of its y range is noisy (threshold of the scripts)."""
NOISE_SHARE = 0.69754
"""Bodies with at least this share of noisy rows are removed if there are others (likewise)."""


@dataclass
class Body:
    """The rows of one sensor id, and what cleaning does with them.

    Attributes:
        id: the sensor's id.
        rows: integers [R], its rows in the recording, in time order.
        frames: integers [R], the frame at which each row is placed.
        xyz: float32 [R, V, 3], without NaN.
        motion: variance in square metres; that of the good rows alone where it is smaller.
        noisy: number of noisy rows; -1 where that was not needed.
        moved: whether packing took a row away from its true frame.
        outcome: what cleaning did with it, for people.
        actor: 0 or 1, or -1 where it was left out.
    """

    id: int
    rows: NDArray[np.integer]
    frames: NDArray[np.integer]
    xyz: NDArray[np.float32]
    motion: float = 0.0
    noisy: int = -1
    moved: bool = False
    outcome: str = ""
    actor: int = -1

    @property
    def start(self) -> int:
        return int(self.frames[0])

    @property
    def end(self) -> int:
        return int(self.frames[-1])


def find_bodies(recording: Recording, *, packed: bool) -> list[Body]:
    """Return the bodies in order of appearance, with their motion if there are several.

    Args:
        recording: at least one row, no NaN in ``xyz``.
        packed: number frames without the empty ones, and place a body's rows one after another
            from its first frame on (the defect of the reference); else use the true frames.

    Raises:
        BadRecording: one id twice in one frame.
    """
    ids, times = recording.body, recording.frame
    if (ids == ids[0]).all():
        body = Body(int(ids[0]), np.arange(len(ids)), times, recording.xyz)
        _check_once_per_frame(body)
        if packed:
            body.frames = body.rows
        return [body]
    if packed:
        times = np.concatenate([[0], np.cumsum(times[1:] != times[:-1])])
    bodies = []
    for name in dict.fromkeys(ids.tolist()):
        rows = np.flatnonzero(ids == np.uint64(name))
        body = Body(name, rows, times[rows], recording.xyz.take(rows, axis=0))
        _check_once_per_frame(body)
        if packed:
            body.moved = body.end - body.start >= len(rows)
            body.frames = body.start + np.arange(len(rows))
        body.motion = float(motion(body.xyz))
        bodies.append(body)
    return bodies


def _check_once_per_frame(body: Body) -> None:
    if (body.frames[1:] == body.frames[:-1]).any():
        raise BadRecording("duplicate-body", f"expected a body at most once in a frame, found body {body.id} twice")


def denoise(bodies: list[Body], *, notes: dict[str, int]) -> list[Body]:
    """Remove short and wide bodies; return the others, largest motion first (step 2).

    Where all bodies are short, the reference stops with an error. Here the one with the largest
    motion is kept and ``kept-despite-length`` noted.
    """
    kept = [body for body in bodies if len(body.rows) > NOISE_LENGTH]
    for body in bodies:
        if len(body.rows) <= NOISE_LENGTH:
            body.outcome = f"removed: too short, a person has more than {NOISE_LENGTH} rows"
    if not kept:
        kept = [max(bodies, key=attrgetter("motion"))]
        notes["kept-despite-length"] = 1
    add_note(notes, "removed-short", len(bodies) - len(kept))
    if len(kept) > 1:
        kept = _denoise_by_spread(kept, notes=notes)
    return sorted(kept, key=attrgetter("motion"), reverse=True)


def _denoise_by_spread(bodies: list[Body], *, notes: dict[str, int]) -> list[Body]:
    """Remove bodies of mostly noisy rows, but never the last; ignore noisy rows in ``motion``."""
    left = list(bodies)
    for body in bodies:
        if len(left) == 1:
            break
        noisy = np.empty(len(body.rows), np.bool_)
        body.noisy = mark_noisy(body.xyz, noisy)
        share = body.noisy / len(noisy)
        if share >= NOISE_SHARE:
            left.remove(body)
            body.outcome = f"removed: wider than a person in {body.noisy} rows ({share:.0%}; from {NOISE_SHARE:.0%} on)"
        elif body.noisy:
            body.motion = min(body.motion, float(motion(body.xyz[~noisy])))
    add_note(notes, "removed-spread", len(bodies) - len(left))
    return left


def assign_actors(bodies: list[Body], *, notes: dict[str, int]) -> list[Body]:
    """Assign bodies, largest motion first, to actors 0 and 1 (step 3); return the assigned ones.

    A body goes to the first actor whose interval it overlaps by one frame at most, and widens it.
    """
    # The scripts begin the second actor's interval at frame 0, also when that actor starts later.
    spans = [(bodies[0].start, bodies[0].end), (0, 0)]
    bodies[0].actor, bodies[0].outcome = 0, "actor 1"
    assigned = 1
    for body in bodies[1:]:
        for actor, (start, end) in enumerate(spans):
            if min(end, body.end) - max(start, body.start) <= 0:
                spans[actor] = (min(start, body.start), max(end, body.end))
                body.actor, body.outcome = actor, f"actor {actor + 1}"
                if actor < assigned:
                    body.outcome = f"merged into actor {actor + 1}"
                    add_note(notes, "merged-bodies", 1)
                assigned = max(assigned, actor + 1)
                break
        else:
            others = " and ".join(f"actor {actor + 1} ({start} to {end})" for actor, (start, end) in enumerate(spans))
            body.outcome = f"left out: less motion than {others}, and there at the same time"
            add_note(notes, "dropped-bodies", 1)
    actors = [body for body in bodies if body.actor >= 0]
    add_note(notes, "moved-bodies", sum(body.moved for body in actors))
    return actors


def add_note(notes: dict[str, int], slug: str, count: int) -> None:
    """Add ``count`` to a note; a count of 0 makes no entry."""
    if count:
        notes[slug] = notes.get(slug, 0) + count


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
        # In float64, as in NumPy 1, with which all published arrays were made.
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
