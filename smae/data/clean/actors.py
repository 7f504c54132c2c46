"""Which of a recording's bodies are actors: the removing, sorting and merging rules of the reference pipeline.

Steps 1 to 3 of the pipeline of the public CTR-GCN scripts. Both cleaning modes decide by these same rules; they differ
only in when a body is said to be there (its ``start`` and ``end``).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from smae.data.clean.kernels import mark_noisy, motion
from smae.data.raw.recording import Recording
from smae.errors import BadRecording

SHORTEST = 11
"""Bodies of this many rows or fewer are removed, if others are there (a threshold of the scripts)."""
NOISY_SHARE = 0.69754
"""Bodies of which this share of rows is noisy are removed, if others are there (likewise)."""


@dataclass
class Body:
    """One sensor id, what it measured, and what became of it.

    Attributes:
        id: the sensor's id.
        rows: integers [R], its rows in the recording, in time.
        place: integers [R], the frame at which each row will stand.
        xyz: float32 [R, V, 3], without NaN.
        motion: square metres; lowered to that of the good rows where some rows are noisy.
        noisy: number of rows too wide for their height; -1 where the rules did not come to look.
        moved: whether packing took a row away from its true frame.
        fate: what cleaning did with it, for people.
        actor: 0 or 1, or -1 where it was left out.
    """

    id: int
    rows: NDArray[np.integer]
    place: NDArray[np.integer]
    xyz: NDArray[np.float32]
    motion: float = 0.0
    noisy: int = -1
    moved: bool = False
    fate: str = ""
    actor: int = -1

    @property
    def start(self) -> int:
        """First frame it stands in."""
        return int(self.place[0])

    @property
    def end(self) -> int:
        """Last frame it stands in."""
        return int(self.place[-1])


def find_bodies(recording: Recording, *, packed: bool) -> list[Body]:
    """Return the bodies in the order in which they first appear, motion measured if there is more than one.

    Args:
        recording: at least one row, no NaN in ``xyz``.
        packed: number frames without those that hold nobody, and put a body's rows one after another from the first
            it is seen in (the reference's defect); otherwise rows stand at their true frames.

    Raises:
        BadRecording: one id twice in one frame.
    """
    ids, times = recording.body, recording.frame
    if (ids == ids[0]).all():
        bodies = [Body(int(ids[0]), np.arange(len(ids)), times, recording.xyz)]
        _check_once_a_frame(bodies[0])
        if packed:
            bodies[0].place = bodies[0].rows
        return bodies
    if packed:
        times = np.concatenate([[0], np.cumsum(times[1:] != times[:-1])])
    bodies = []
    for name in dict.fromkeys(ids.tolist()):
        rows = np.flatnonzero(ids == np.uint64(name))
        body = Body(name, rows, times[rows], recording.xyz.take(rows, axis=0))
        _check_once_a_frame(body)
        if packed:
            body.moved = body.end - body.start >= len(rows)
            body.place = body.start + np.arange(len(rows))
        body.motion = float(motion(body.xyz))
        bodies.append(body)
    return bodies


def _check_once_a_frame(body: Body) -> None:
    if (body.place[1:] == body.place[:-1]).any():
        raise BadRecording("duplicate-body", f"expected a body at most once in a frame, found body {body.id} twice")


def remove_noise(bodies: list[Body], *, notes: dict[str, int]) -> list[Body]:
    """Return the bodies that are people, largest motion first, out of two or more (step 2).

    Where the length rule would remove every body (the reference stops there with an error), the one with the largest
    motion is kept and ``kept-despite-length`` noted.
    """
    kept = [body for body in bodies if len(body.rows) > SHORTEST]
    for body in bodies:
        if len(body.rows) <= SHORTEST:
            body.fate = f"removed: too short, a person has more than {SHORTEST} rows"
    if not kept:
        kept = [max(bodies, key=attrgetter("motion"))]
        notes["kept-despite-length"] = 1
    count(notes, "removed-short", len(bodies) - len(kept))
    if len(kept) > 1:
        kept = _remove_wide(kept, notes=notes)
    return sorted(kept, key=attrgetter("motion"), reverse=True)


def _remove_wide(bodies: list[Body], *, notes: dict[str, int]) -> list[Body]:
    """Remove bodies wide in most rows, while more than one is left; take noisy rows out of the others' motion."""
    left = list(bodies)
    for body in bodies:
        if len(left) == 1:
            break
        noisy = np.empty(len(body.rows), np.bool_)
        body.noisy = mark_noisy(body.xyz, noisy)
        if body.noisy / len(noisy) >= NOISY_SHARE:
            left.remove(body)
            share = body.noisy / len(noisy)
            body.fate = f"removed: wider than a person in {body.noisy} rows ({share:.0%}; from {NOISY_SHARE:.0%} on)"
        elif body.noisy:
            body.motion = min(body.motion, float(motion(body.xyz[~noisy])))
    count(notes, "removed-spread", len(bodies) - len(left))
    return left


def cast(bodies: list[Body], *, notes: dict[str, int]) -> list[Body]:
    """Give each body, largest motion first, to actor 0 or 1 or to nobody (step 3); return those that got one.

    A body goes to the first actor whose interval it shares at most one frame with; the interval then grows.
    """
    spans = [(bodies[0].start, bodies[0].end), (0, 0)]
    bodies[0].actor, bodies[0].fate = 0, "actor 1"
    taken = 1
    for body in bodies[1:]:
        for actor, (start, end) in enumerate(spans):
            if min(end, body.end) - max(start, body.start) <= 0:
                spans[actor] = (min(start, body.start), max(end, body.end))
                merged = actor < taken
                body.actor, body.fate = actor, f"merged into actor {actor + 1}" if merged else f"actor {actor + 1}"
                count(notes, "merged-bodies", int(merged))
                taken = max(taken, actor + 1)
                break
        else:
            taken_by = " and ".join(f"actor {actor + 1} ({start} to {end})" for actor, (start, end) in enumerate(spans))
            body.fate = f"left out: less motion than {taken_by}, and there at the same time"
            count(notes, "dropped-bodies", 1)
    actors = [body for body in bodies if body.actor >= 0]
    count(notes, "moved-bodies", sum(body.moved for body in actors))
    return actors


def count(notes: dict[str, int], slug: str, number: int) -> None:
    """Add ``number`` to a note; notes of nothing are not made."""
    if number:
        notes[slug] = notes.get(slug, 0) + number
