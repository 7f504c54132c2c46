"""Cleaning: Recording -> Clip, one or two actors over the same frames, with their origin at the first actor's spine.

Steps 1 to 4 of the pipeline that published numbers rest on (the public CTR-GCN scripts, NTU RGB+D), in two modes:

- ``reference``: bit for bit what the scripts give, defects included. Frames in which nobody was seen are cut out; a
  body that leaves and returns is packed, its rows one after another from the first; where the file holds more than one
  id, rows that add up to zero are dropped (both actors) or set to zero (one actor).
- ``exact``: the same rules decide who is an actor, but every row stands at its true frame. The clip runs from the
  first to the last frame in which an actor is seen; what nobody saw in between is NaN.

Where the scripts stop with an error or pass NaN through, cleaning goes on, and notes say so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from smae.data.clean.actors import Body, cast, count, find_bodies, remove_noise
from smae.data.clean.kernels import centre_one
from smae.data.clean.story import tell
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.errors import ConfigError, DataError, NoBody
from smae.skeleton import NTU25, Layout

Mode = Literal["reference", "exact"]
_MODES = get_args(Mode)


def clean(recording: Recording, *, mode: Mode = "reference", layout: Layout = NTU25, story: bool = False) -> Clip:
    """Return the clip of a recording.

    Notes count: ``empty-frames`` (nobody named), ``held-joints`` (NaN, given the body's last good position of that
    joint, else its next, else a neighbour's; ``exact`` only measures with these), ``removed-short``,
    ``removed-spread``, ``kept-despite-length``, ``merged-bodies``, ``dropped-bodies``, ``moved-bodies`` (packed away
    from their true frames), ``dropped-frames`` (they name a body, but are not in the clip) and ``empty-actor``
    (everybody was merged into actor 1, and the reference still writes a second actor, of zeros).

    Args:
        recording: what a reader gave.
        mode: ``reference`` or ``exact``, see above.
        layout: joint table of the recording.
        story: also tell, line by line, what was done.

    Returns:
        ``reference``: ``state`` is ``MISSING`` in the rows of zeros; held joints have state 0.
        ``exact``: ``joints`` is NaN exactly where ``state`` is ``MISSING``.

    Raises:
        NoBody: no row, or no actor with a joint that is not zero.
        DataError: the recording's joints are not the layout's.
        BadRecording: one body id twice in a frame.
        ConfigError: unknown mode.
    """
    _check(recording, mode=mode, layout=layout)
    if mode == "reference" and not story and (clip := _usual(recording, centre=layout.centre)) is not None:
        return clip
    notes: dict[str, int] = {}
    present = 1 + int(np.count_nonzero(recording.frame[1:] != recording.frame[:-1]))
    count(notes, "empty-frames", recording.frames - present)
    if np.isnan(recording.xyz).any():
        recording = _hold(recording, centre=layout.centre, state=0 if mode == "reference" else MISSING, notes=notes)
    bodies = find_bodies(recording, packed=mode == "reference")
    left = bodies if len(bodies) == 1 else remove_noise(bodies, notes=notes)
    actors = cast(left, notes=notes)
    if mode == "reference":
        if len(bodies) == 1:
            joints, state = recording.xyz[:, None].copy(), recording.state[:, None].copy()
        else:
            joints, state = _place_packed(recording, actors, frames=present, two=len(left) > 1)
        count(notes, "empty-actor", int(len(left) > 1 and not any(body.actor for body in actors)))
        joints, state, origin = _centre_packed(joints, state, centre=layout.centre)
        count(notes, "dropped-frames", present - joints.shape[1])
    else:
        joints, state, origin = _place_exact(recording, actors, centre=layout.centre, notes=notes)
    lines = tell(recording, bodies, layout=layout, origin=origin, shape=joints.shape, notes=notes) if story else ()
    return Clip(joints, state, notes, lines)


def _usual(recording: Recording, *, centre: int) -> Clip | None:
    """Return the clip of one body without NaN, of which most recordings are, as the general way gives it."""
    xyz = np.ascontiguousarray(recording.xyz)
    joints = np.empty(xyz.shape, np.float32)
    if centre_one(recording.frame, recording.body, xyz, centre, joints) < 0:
        return None
    empty = recording.frames - len(joints)
    return Clip(joints[None], recording.state.copy()[None], {"empty-frames": empty} if empty else {})


def _check(recording: Recording, *, mode: str, layout: Layout) -> None:
    if mode not in _MODES:
        raise ConfigError(f"unknown cleaning mode '{mode}': expected one of {', '.join(_MODES)}")
    if not len(recording.frame):
        raise NoBody(f"expected a body in some frame, found none in {recording.frames}: leave this recording out")
    if recording.xyz.shape[1] != len(layout):
        raise DataError(
            f"expected the {len(layout)} joints of layout '{layout.name}', found {recording.xyz.shape[1]}: "
            "name the layout that the recording was made in"
        )


def _hold(recording: Recording, *, centre: int, state: int, notes: dict[str, int]) -> Recording:
    """Return the recording with a position for every joint that is NaN, and with that ``state`` there.

    A joint that its body never shows takes the place of the centre joint, else of the first joint that is ever shown;
    a body that shows none stands at zero, as absent bodies do.
    """
    missing: NDArray[np.bool_] = np.logical_or.reduce(np.isnan(recording.xyz), axis=2)
    count(notes, "held-joints", int(missing.sum()))
    xyz = recording.xyz.copy()
    for name in np.unique(recording.body):
        rows = np.flatnonzero(recording.body == name)
        good: NDArray[np.bool_] = ~missing[rows]
        last = np.maximum.accumulate(np.where(good, np.arange(len(rows))[:, None], -1), axis=0)
        source = np.where(last < 0, good.argmax(axis=0), last)
        xyz[rows] = xyz[rows[source], np.arange(xyz.shape[1])]
        shown = np.logical_or.reduce(good, axis=0)
        if not shown.any():
            xyz[rows] = 0
        elif not shown.all():
            stand_in = centre if shown[centre] else int(shown.argmax())
            xyz[np.ix_(rows, ~shown)] = xyz[rows, stand_in][:, None]
    return replace(recording, xyz=xyz, state=np.where(missing, np.uint8(state), recording.state))


def _place_packed(
    recording: Recording, actors: list[Body], *, frames: int, two: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return joints [T, M, V, 3] and state [T, M, V] where there are several ids, less frames that add up to 0."""
    shape = (frames, 1 + two, recording.xyz.shape[1])
    joints, state = np.zeros((*shape, 3), np.float32), np.full(shape, MISSING, np.uint8)
    for body in actors:
        joints[body.start : body.end + 1, body.actor] = body.xyz
        state[body.start : body.end + 1, body.actor] = recording.state[body.rows]
    # The reference adds up a frame's 150 numbers in float32: another order of adding gives other frames.
    seen = joints.reshape(frames, -1).sum(axis=1) != 0
    return (joints, state) if seen.all() else (joints[seen], state[seen])


def _centre_packed(
    joints: NDArray[np.float32], state: NDArray[np.uint8], *, centre: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Return joints [M, T, V, 3] seen from the origin, state [M, T, V], and the origin [3] (step 4)."""
    frames, bodies, size = *joints.shape[:2], joints.shape[2] * 3
    flat = joints.reshape(frames, bodies, size)
    first = next((frame for frame in range(frames) if joints[frame, 0].any()), None)
    if first is None:
        raise _nobody()
    origin = joints[first, 0, centre].copy()
    absent = flat.sum(axis=2) == 0 if bodies == 2 else None
    flat -= np.concatenate([origin] * joints.shape[2])
    if absent is not None:
        joints[absent], state[absent] = 0, MISSING
    return np.ascontiguousarray(joints.swapaxes(0, 1)), np.ascontiguousarray(state.swapaxes(0, 1)), origin


def _place_exact(
    recording: Recording, actors: list[Body], *, centre: int, notes: dict[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Return joints [M, T, V, 3] seen from the origin, NaN where nobody was seen, state [M, T, V], and the origin [3].

    A row that is all zeros, or that has no joint but missing ones, shows nobody.
    """
    shown = (recording.xyz.any(axis=2) & (recording.state != MISSING)).any(axis=1)
    for body in actors:
        body.rows = body.rows[shown[body.rows]]
    actors = [body for body in actors if len(body.rows)]
    if not actors:
        raise _nobody()
    times = recording.frame
    first, last = min(times[body.rows[0]] for body in actors), max(times[body.rows[-1]] for body in actors)
    slots = {actor: slot for slot, actor in enumerate(sorted({body.actor for body in actors}))}
    shape = (len(slots), int(last - first) + 1, recording.xyz.shape[1])
    joints, state = np.zeros((*shape, 3), np.float32), np.full(shape, MISSING, np.uint8)
    for body in actors:
        joints[slots[body.actor], times[body.rows] - first] = recording.xyz[body.rows]
        state[slots[body.actor], times[body.rows] - first] = recording.state[body.rows]
    origin = joints[0, (state[0] != MISSING).any(axis=1).argmax(), centre].copy()
    joints -= origin
    joints[state == MISSING] = np.nan
    outside = np.unique(times[(times < first) | (times > last)])
    count(notes, "dropped-frames", len(outside))
    return joints, state, origin


def _nobody() -> NoBody:
    return NoBody("expected a joint away from zero, found every joint of actor 1 at zero: leave this recording out")
