"""Which of a recording's bodies are actors: the denoising and merging rules of the public CTR-GCN scripts.

Steps 1 to 3 of that pipeline. Both cleaning modes decide by these rules; they differ only in the frames at which a
body's rows are placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from smae.data.clean.kernels import mark_noisy, motion
from smae.data.raw.recording import Recording
from smae.errors import BadRecording

NOISE_LENGTH = 11
"""Bodies of this many rows or fewer are removed if there are others (threshold of the scripts)."""
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
        """First frame."""
        return int(self.frames[0])

    @property
    def end(self) -> int:
        """Last frame."""
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
    """Remove short and wide bodies of two or more; return the others, largest motion first (step 2).

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
    """Remove bodies with mostly noisy rows, but never the last one; leave noisy rows out of ``motion``."""
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
    """Assign bodies, largest motion first, to actor 0, actor 1 or none (step 3); return the assigned ones.

    A body goes to the first actor with whose interval it shares at most one frame; the interval
    then grows.
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
