"""Synthetic raw data: a folder of NTU-format `.skeleton` files, acted by a kinematic model, for demos and tests.

Nothing here is recorded: people, movements, sensors and faults are all drawn from the seed. The same arguments give the
same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from smae.data.raw.labels import NAMES_FILE
from smae.data.synthetic.choreography import ACTIONS, Action, perform
from smae.data.synthetic.kinect import FIRST_ID, TRACKED, Track, View, drift, observe, skeleton_text
from smae.data.synthetic.kinematics import Body, Floats, forward, make_body, turn
from smae.errors import ConfigError, EnvironmentFault
from smae.skeleton import NTU25

CLASSES = {f"A{number:03d}": action.name for number, action in enumerate(ACTIONS, 1)}
"""Class ids and their names; ``actions=K`` writes the first K."""

_ANGLES = (0.0, -45.0, 45.0)
"""Degrees of C001, C002 and C003 round the scene."""
_MOST = {"actions": len(ACTIONS), "subjects": 40, "cameras": len(_ANGLES), "replications": 9}
_NAME = re.compile(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}\.skeleton")


@dataclass(frozen=True)
class SynthSummary:
    """What was written: files, frames and bytes in all, class names by id, and how many files hold each fault."""

    out: Path
    files: int
    frames: int
    bytes: int
    classes: dict[str, str]
    faults: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Person:
    """How one subject looks and moves."""

    body: Body
    pace: float
    size: float
    left_handed: bool
    stance: Floats


def synthesise(
    out: Path, *, seed: int = 0, actions: int = 12, subjects: int = 8, cameras: int = 3, replications: int = 2,
    hard: bool = True, overwrite: bool = False, tell: Callable[[int, int], None] = lambda done, total: None,
) -> SynthSummary:  # fmt: skip
    """Write ``actions * subjects * cameras * replications`` recordings as ``SsssCcccPpppRrrrAaaa.skeleton``.

    Beside them stands ``classes.txt``, the names of the actions, which prepare takes.

    Subjects are numbered from 1, so that NTU-60's cross-subject split holds 1, 2, 4, 5, 8 for training and 3, 6, 7 for
    testing. Two setups alternate between subjects, C001 sees the middle, C002 and C003 stand 45 degrees to its sides.

    Args:
        out: the folder; made where it is missing.
        seed: where everything random comes from.
        actions: how many classes, the first ones of ``CLASSES``.
        subjects: how many people.
        cameras: how many sensors see each performance, up to 3.
        replications: how often each person does each action.
        hard: add what real recordings suffer from: phantoms, gaps, bodies that come back under another id.
        tell: takes progress: recordings written, in all.
        overwrite: remove the recordings that ``out`` already holds; other files in it are left alone.

    Raises:
        ConfigError: a number is out of range, or ``out`` is a file or not empty.
        EnvironmentFault: the folder cannot be written.
    """
    for name, value in (("actions", actions), ("subjects", subjects), ("cameras", cameras),
                        ("replications", replications)):  # fmt: skip
        if not 1 <= value <= _MOST[name]:
            raise ConfigError(f"{name}: expected 1 to {_MOST[name]}, found {value}")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed: expected 0 to 2**64 - 1, found {seed}")
    files = frames = size = 0
    faults: Counter[str] = Counter()
    try:
        _clear(out, overwrite)
        told = dict(list(CLASSES.items())[:actions])
        lines = "".join(f"{id_},{name}\n" for id_, name in told.items())
        (out / NAMES_FILE).write_text(lines, encoding="ascii")
        for subject, action, replication in product(*(range(1, n + 1) for n in (subjects, actions, replications))):
            key = (seed, subject, action, replication)
            for camera, data, length, found in _performance(key, cameras=cameras, hard=hard):
                name = f"S{_setup(subject):03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}.skeleton"
                (out / name).write_bytes(data)
                files, frames, size = files + 1, frames + length, size + len(data)
                tell(files, actions * subjects * cameras * replications)
                faults.update(found)
    except OSError as error:
        raise EnvironmentFault(f"cannot write synthetic recordings to {out}: {error.strerror or error}") from error
    return SynthSummary(out, files, frames, size, told, dict(sorted(faults.items())))


def _clear(out: Path, overwrite: bool) -> None:
    """Make ``out`` an existing folder without recordings, or refuse."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"output {out}: expected a folder, found a file")
    out.mkdir(parents=True, exist_ok=True)
    present = sorted(out.iterdir())
    if present and not overwrite:
        raise ConfigError(
            f"output {out}: expected an empty folder, found {len(present)} entries such as "
            f"{present[0].name}; choose another folder or pass --overwrite"
        )
    for path in present:
        if _NAME.fullmatch(path.name):
            path.unlink()


def _setup(subject: int) -> int:
    return 1 + subject % 2


def _person(seed: int, subject: int) -> _Person:
    rng = np.random.default_rng((seed, subject))
    body = make_body(
        rng.uniform(1.52, 1.92), legs=rng.uniform(0.94, 1.06), arms=rng.uniform(0.93, 1.07),
        breadth=rng.uniform(0.88, 1.15),
    )  # fmt: skip
    stance = rng.normal(size=(len(NTU25), 3)) * (3, 2, 3)
    # Every fifth person, so that both sides of the cross-subject split hold left-handed people.
    return _Person(body, rng.uniform(0.82, 1.22), rng.uniform(0.78, 1.12), subject % 5 == 2, stance)


def _views(seed: int, setup: int) -> list[View]:
    """Return the three sensors of a setup: setups differ in distance and height, as NTU's do."""
    rng = np.random.default_rng((seed, 1_000_000 + setup))
    distance, height = (2.7, 1.1) if setup % 2 else (3.5, 1.8)
    return [
        View(angle, distance + rng.uniform(-0.25, 0.35), height + rng.uniform(-0.15, 0.15), rng.uniform(-6, 0))
        for angle in _ANGLES
    ]


def _performance(
    key: tuple[int, int, int, int], *, cameras: int, hard: bool
) -> Iterator[tuple[int, bytes, int, list[str]]]:
    """Yield (camera, file, frames, faults) for each sensor that sees one performance."""
    seed, subject, action, _ = key
    rng = np.random.default_rng(key)
    bodies = _act(rng, ACTIONS[action - 1], [_person(seed, subject), _person(seed, 1000 + subject)])
    for camera, view in enumerate(_views(seed, _setup(subject))[:cameras], 1):
        eye = np.random.default_rng((*key, camera))
        first = FIRST_ID + int(eye.integers(1000, 9000))
        tracks = []
        for number, body in enumerate(bodies):
            xyz, state = observe(eye, view.see(body))
            tracks.append(Track(first + number, np.arange(len(xyz)), xyz, state))
        faults: list[str] = []
        if hard:
            tracks, faults = _spoil(eye, tracks, view)
        length = len(bodies[0])
        yield camera, skeleton_text(length, tracks), length, faults


def _act(rng: np.random.Generator, action: Action, people: list[_Person]) -> list[Floats]:
    """Return the places [T, V, 3] of each body of one performance, world space, metres."""
    lead = people[0]
    frames = int(np.clip(round(action.frames / lead.pace * rng.uniform(0.9, 1.1)), 50, 110))
    # Nobody starts with the first frame, nor moves at an even pace.
    start, stop = rng.uniform(0, 0.3), rng.uniform(0.75, 1)
    phase = np.clip((np.linspace(0, 1, frames) - start) / (stop - start), 0, 1) ** rng.uniform(0.75, 1.35)
    facing, middle, side = rng.uniform(-50, 50), rng.uniform(-0.2, 0.2, 2), 1 if rng.uniform() < 0.5 else -1
    apart = rng.uniform(0.78, 0.95)
    places = []
    for number, (act, person) in enumerate(zip(action.acts, people, strict=False)):
        motion = perform(act, phase=phase, size=person.size * rng.uniform(0.9, 1.1))
        # One time in six a person takes the other hand; two people meet right hand in right hand.
        other = person.left_handed != (rng.uniform() < 1 / 6)
        motion = motion.mirrored() if other and len(action.acts) == 1 else motion
        sway = 3.0 * drift(rng, frames, len(NTU25), 3, pace=0.08)
        motion.angles[:] += person.stance + sway
        place = forward(person.body, motion)
        if len(action.acts) == 2:
            # Face to face, across the line of sight of the middle sensor.
            towards = side * (1 - 2 * number)
            place = place @ turn(1, np.array(-90.0 * towards)).T + (-towards * apart / 2, 0, 0)
        places.append(place @ turn(1, np.array(facing)).T + (middle[0], 0, middle[1]))
    return places


def _spoil(rng: np.random.Generator, tracks: list[Track], view: View) -> tuple[list[Track], list[str]]:
    """Return the tracks with the faults of real recordings, and the names of those faults."""
    luck = rng.uniform(size=4)
    faults = []
    frames = len(tracks[0].frame)
    if len(tracks) == 2 and luck[0] < 0.3:
        faults.append("late-body")
        tracks = [tracks[0], _part(tracks[1], tracks[1].frame >= rng.integers(4, 13))]
    if luck[1] < 0.14:
        faults.append("new-id" if luck[1] < 0.06 else "gap")
        tracks = _gap(rng, tracks, renamed=luck[1] < 0.06)
    if luck[2] < 0.08:
        faults.append("short-phantom")
        tracks = [*tracks, _phantom(rng, view, first=frames // 3, count=int(rng.integers(2, 11)), wide=False)]
    if luck[3] < 0.08:
        faults.append("wide-phantom")
        tracks = [*tracks, _phantom(rng, view, first=0, count=frames - int(rng.integers(0, 20)), wide=True)]
    return tracks, faults


def _part(track: Track, kept: np.ndarray[tuple[int], np.dtype[np.bool_]], body: int = 0) -> Track:
    return Track(body or track.body, track.frame[kept], track.xyz[kept], track.state[kept])


def _gap(rng: np.random.Generator, tracks: list[Track], *, renamed: bool) -> list[Track]:
    """Empty a few frames; the bodies return under the same ids, or the first one under a new id."""
    frames = len(tracks[0].frame)
    start = int(rng.integers(frames // 4, 3 * frames // 4))
    stop = start + int(rng.integers(2, 8))
    if not renamed:
        return [_part(track, (track.frame < start) | (track.frame >= stop)) for track in tracks]
    lead = tracks[0]
    return [_part(lead, lead.frame < start), *tracks[1:], _part(lead, lead.frame >= stop, lead.body + 20)]


def _phantom(rng: np.random.Generator, view: View, *, first: int, count: int, wide: bool) -> Track:
    """Return a body that is none: a piece of furniture wider than high, or a ghost of a person, trembling."""
    shape = forward(make_body(1.4), perform(ACTIONS[4].acts[0], phase=np.ones(1), size=1.0))[0]
    if wide:
        shape = shape[:, [1, 0, 2]] * (1.0, 0.7, 0.6)
    beside = np.array([rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 1.4), 0.2, rng.uniform(0.1, 0.8)])
    seen = view.see(np.repeat((shape + beside)[None], count, axis=0)) + 0.01 * rng.normal(size=(count, len(NTU25), 3))
    state = np.where(rng.uniform(size=seen.shape[:2]) < 0.6, 1, TRACKED)
    return Track(FIRST_ID + int(rng.integers(9100, 9900)), np.arange(first, first + count), seen, state)
