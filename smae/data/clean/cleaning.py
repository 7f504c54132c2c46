"""Cleaning: Recording -> Clip, one or two actors over the same frames, and resampling of clips.

Steps 1 to 4 of the public CTR-GCN scripts for NTU RGB+D, in two modes:

- ``reference``: bit for bit what the scripts give, defects included. Empty frames are cut out; a
  body that leaves and returns is packed, its rows one after another from the first; where the file
  holds more than one id, rows that add up to zero are dropped (both actors) or zeroed (one actor).
- ``exact``: the same rules decide who is an actor, but every row is placed at its true frame. The
  clip runs from the first to the last frame in which an actor is seen; gaps in between are NaN.

Where the scripts stop with an error or pass NaN through, cleaning goes on and notes it.

Resampling to another number of frames is linear for positions, nearest for tracking states. Frame i
covers the time from i to i + 1, so its centre is i + 1/2: half-pixel centres, as in
``torch.nn.functional.interpolate`` with ``align_corners=False``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from smae.data.clean import MODES, Mode
from smae.data.clean.actors import Body, add_note, assign_actors, centre_single_body, denoise, find_bodies
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.errors import ConfigError, DataError, NoBody
from smae.skeleton import NTU25, Layout

_ALL_ZERO = "expected a joint away from zero, found every joint of actor 1 at zero: leave this recording out"


def clean(recording: Recording, *, mode: Mode = "reference", layout: Layout = NTU25, story: bool = False) -> Clip:
    """Return the clip of a recording.

    Notes count: ``empty-frames`` (without bodies), ``held-joints`` (NaN, replaced by the last good
    position of that joint, else the next, else a neighbour's; ``exact`` only measures with these),
    ``removed-short``, ``removed-spread``, ``kept-despite-length``, ``merged-bodies``,
    ``dropped-bodies``, ``moved-bodies`` (packed away from their true frames), ``dropped-frames``
    (with a body, but not in the clip) and ``empty-actor`` (all bodies were merged into actor 1, and
    the reference still writes a second actor, of zeros).

    Args:
        recording: the output of a reader.
        mode: ``reference`` or ``exact``, see above.
        layout: joint layout of the recording.
        story: also describe each step, in lines for people.

    Returns:
        ``reference``: ``state`` is ``MISSING`` in the rows of zeros; held joints have state 0.
        ``exact``: ``joints`` is NaN exactly where ``state`` is ``MISSING``.

    Raises:
        NoBody: no row, or no actor with a joint away from zero.
        DataError: another number of joints than in the layout.
        BadRecording: one body id twice in a frame.
        ConfigError: unknown mode.
    """
    _check(recording, mode=mode, layout=layout)
    reference = mode == "reference"
    if reference and not story and (clip := _clean_single_body(recording, centre=layout.centre)) is not None:
        return clip
    notes: dict[str, int] = {}
    present = 1 + int(np.count_nonzero(recording.frame[1:] != recording.frame[:-1]))
    add_note(notes, "empty-frames", recording.frames - present)
    if np.isnan(recording.xyz).any():
        filled_state = {"reference": 0, "exact": MISSING}[mode]
        recording = _fill_missing(recording, centre=layout.centre, state=filled_state, notes=notes)
    bodies = find_bodies(recording, packed=reference)
    left = bodies
    if len(bodies) > 1:
        left = denoise(bodies, notes=notes)
    actors = assign_actors(left, notes=notes)
    if reference:
        if len(bodies) == 1:
            joints, state = recording.xyz[:, None].copy(), recording.state[:, None].copy()
        else:
            joints, state = _place_packed(recording, actors, frames=present, two=len(left) > 1)
        add_note(notes, "empty-actor", int(len(left) > 1 and not any(body.actor for body in actors)))
        joints, state, origin = _centre_packed(joints, state, centre=layout.centre)
        add_note(notes, "dropped-frames", present - joints.shape[1])
    else:
        joints, state, origin = _place_exact(recording, actors, centre=layout.centre, notes=notes)
    clip = Clip(joints, state, notes)
    if story:
        return replace(clip, story=_describe(recording, bodies, clip, layout=layout, origin=origin))
    return clip


def _clean_single_body(recording: Recording, *, centre: int) -> Clip | None:
    """Return the clip of a single body without NaN, as the general way does, or None."""
    xyz = np.ascontiguousarray(recording.xyz)
    joints = np.empty(xyz.shape, np.float32)
    if centre_single_body(recording.frame, recording.body, xyz, centre, joints) < 0:
        return None
    notes: dict[str, int] = {}
    add_note(notes, "empty-frames", recording.frames - len(joints))
    return Clip(joints[None], recording.state.copy()[None], notes)


def _check(recording: Recording, *, mode: str, layout: Layout) -> None:
    if mode not in MODES:
        raise ConfigError(f"unknown cleaning mode '{mode}': expected one of {', '.join(MODES)}")
    if not len(recording.frame):
        raise NoBody(f"expected a body in some frame, found none in {recording.frames}: leave this recording out")
    if recording.xyz.shape[1] != len(layout):
        raise DataError(
            f"expected the {len(layout)} joints of layout '{layout.name}', found {recording.xyz.shape[1]}: "
            "name the layout that the recording was made in"
        )


def _fill_missing(recording: Recording, *, centre: int, state: int, notes: dict[str, int]) -> Recording:
    """Return the recording with a position and ``state`` for every joint that is NaN.

    A joint that a body never shows gets the position of the centre joint, else of the first joint
    that is ever shown; a body that shows none is placed at zero, as absent bodies are.
    """
    missing: NDArray[np.bool_] = np.logical_or.reduce(np.isnan(recording.xyz), axis=2)
    add_note(notes, "held-joints", int(missing.sum()))
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
            stand_in = int(shown.argmax())
            if shown[centre]:
                stand_in = centre
            xyz[np.ix_(rows, ~shown)] = xyz[rows, stand_in][:, None]
    return replace(recording, xyz=xyz, state=np.where(missing, np.uint8(state), recording.state))


def _place_packed(
    recording: Recording, actors: list[Body], *, frames: int, two: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return joints [T, M, V, 3] and state [T, M, V], without frames that add up to 0."""
    shape = (frames, 1 + two, recording.xyz.shape[1])
    joints, state = np.zeros((*shape, 3), np.float32), np.full(shape, MISSING, np.uint8)
    for body in actors:
        joints[body.start : body.end + 1, body.actor] = body.xyz
        state[body.start : body.end + 1, body.actor] = recording.state[body.rows]
    # The reference adds a frame's 150 numbers in float32: another order would drop other frames.
    seen = joints.reshape(frames, -1).sum(axis=1) != 0
    if seen.all():
        return joints, state
    return joints[seen], state[seen]


def _centre_packed(
    joints: NDArray[np.float32], state: NDArray[np.uint8], *, centre: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Return centred joints [M, T, V, 3], state [M, T, V] and the origin [3] (step 4)."""
    frames, bodies, size = *joints.shape[:2], joints.shape[2] * 3
    flat = joints.reshape(frames, bodies, size)
    first = next((frame for frame in range(frames) if joints[frame, 0].any()), None)
    if first is None:
        raise NoBody(_ALL_ZERO)
    origin = joints[first, 0, centre].copy()
    absent = flat.sum(axis=2) == 0
    flat -= np.concatenate([origin] * joints.shape[2])
    # The scripts zero absent actors again only where there are two.
    if bodies == 2:
        joints[absent], state[absent] = 0, MISSING
    return np.ascontiguousarray(joints.swapaxes(0, 1)), np.ascontiguousarray(state.swapaxes(0, 1)), origin


def _place_exact(
    recording: Recording, actors: list[Body], *, centre: int, notes: dict[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Return centred joints [M, T, V, 3] with NaN in gaps, state [M, T, V] and the origin [3].

    A row of zeros, or of missing joints only, counts as a gap.
    """
    shown = (recording.xyz.any(axis=2) & (recording.state != MISSING)).any(axis=1)
    for body in actors:
        body.rows = body.rows[shown[body.rows]]
    actors = [body for body in actors if len(body.rows)]
    if not actors:
        raise NoBody(_ALL_ZERO)
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
    add_note(notes, "dropped-frames", len(outside))
    return joints, state, origin


def _describe(
    recording: Recording, bodies: list[Body], clip: Clip, *, layout: Layout, origin: NDArray[np.float32]
) -> tuple[str, ...]:
    """Return lines for people: bodies and their outcomes, frames left out (from 1), the result."""
    first = f"{recording.frames} frames"
    if empty := clip.notes.get("empty-frames", 0):
        first += f", {empty} of them without anybody"
    lines = [f"{first}; bodies: {len(bodies)}"]
    lines += [_describe_body(body, recording, several=len(bodies) > 1) for body in bodies]
    words = {
        "held-joints": "missing joints, given a neighbouring position: {}",
        "kept-despite-length": "all bodies are short: the one that moves most was kept",
        "moved-bodies": "bodies that left and came back, their rows packed away from their true frames: {}",
        "dropped-frames": "frames dropped, since they show a body but no actor: {}",
        "empty-actor": "all bodies were merged into actor 1: actor 2 is written as zeros, as in the reference",
    }
    lines += [text.format(clip.notes[slug]) for slug, text in words.items() if slug in clip.notes]
    position = ", ".join(f"{value:.3f}" for value in origin)
    lines.append(f"origin: {layout.joints[layout.centre]} of actor 1 when first seen, ({position}) m in camera space")
    count, frames, joints = clip.state.shape
    lines.append(f"clip: bodies {count}, frames {frames}, joints {joints}")
    return tuple(lines)


def _describe_body(body: Body, recording: Recording, *, several: bool) -> str:
    seen = recording.frame[recording.body == np.uint64(body.id)]
    words = f"body {body.id}: frames {seen[0] + 1} to {seen[-1] + 1}, {len(seen)} rows"
    if several:
        words += f", motion {body.motion:.6f} m²"
    if body.noisy > 0 and not body.outcome.startswith("removed"):
        words += f", {body.noisy} of the rows wider than a person"
    if body.actor >= 0 and (body.start, body.end) != (seen[0], seen[-1]):
        words += f", placed at frames {body.start + 1} to {body.end + 1}"
    return f"{words}; {body.outcome}"


def resample(joints: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Resample joints to ``frames`` frames: linear, constant beyond the outermost centres.

    New frame i is at old time (i + 1/2) T / frames - 1/2. NaN spreads to frames that depend on it.

    Args:
        joints: float32 [M, T, V, 3].
        frames: new number of frames, at least 1.

    Returns:
        float32 [M, frames, V, 3]; bit for bit ``joints`` where ``frames`` is T.

    Raises:
        ConfigError: ``frames`` is less than 1.
        DataError: a clip without frames.
    """
    time = np.clip(_frame_centres(joints.shape[1], frames) - 0.5, 0, joints.shape[1] - 1)
    before = np.floor(time).astype(np.intp)
    weight = (time - before).astype(np.float32)[:, None, None]
    # A frame that is hit exactly must not see its neighbour: 0 x NaN is NaN.
    after = np.ceil(time).astype(np.intp)
    return joints[:, before] * (1 - weight) + joints[:, after] * weight


def resample_state(state: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """Resample tracking states uint8 [M, T, V]: each is that of the old frame at the new centre."""
    return state[:, np.floor(_frame_centres(state.shape[1], frames)).astype(np.intp)]


def _frame_centres(length: int, frames: int) -> NDArray[np.float64]:
    """Return float64 [frames], the centres of the new frames in old frames, each in (0, length)."""
    if frames < 1:
        raise ConfigError(f"expected at least 1 frame to resample to, found {frames}: ask for more")
    if length < 1:
        raise DataError("expected a clip of at least 1 frame to resample, found none: leave this clip out")
    return (np.arange(frames) + 0.5) * length / frames
