"""Writes a raw folder of synthetic NTU-format `.skeleton` files, for demos and tests.

Nothing here is recorded: people, movements, sensors and faults are drawn from the seed. The same
arguments give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from smae import interrupts, progress
from smae.atomic_io import atomic_folder, check_output
from smae.data.raw.labels import CLASSES_FILE
from smae.data.raw.recording import TRACKED
from smae.data.synthetic import LIMITS, SynthSettings, simulator
from smae.data.synthetic.choreography import ACTIONS, Action, perform
from smae.data.synthetic.simulator import Floats, Track, View
from smae.errors import ConfigError
from smae.skeleton import NTU25

CLASSES = {f"A{number:03d}": action.name for number, action in enumerate(ACTIONS, 1)}
"""Class ids and their names; ``actions=K`` writes the first K."""

_ANGLES = (0.0, -45.0, 45.0)
"""Degrees of C001, C002 and C003 round the scene."""
_FILE = re.compile(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}\.skeleton")


@dataclass(frozen=True)
class SynthSummary:
    """Totals, class names by id, and the number of files with each fault."""

    out: Path
    files: int
    frames: int
    bytes: int
    classes: dict[str, str]
    faults: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Person:
    """How one subject looks and moves."""

    body: Floats
    pace: float
    size: float
    left_handed: bool
    stance: Floats


def synthesise(
    out: Path | str,
    *,
    seed: int = SynthSettings.seed,
    actions: int = SynthSettings.actions,
    subjects: int = SynthSettings.subjects,
    cameras: int = SynthSettings.cameras,
    replications: int = SynthSettings.replications,
    hard: bool = True,
    overwrite: bool = False,
) -> SynthSummary:
    """Write synthetic recordings as ``SsssCcccPpppRrrrAaaa.skeleton``.

    ``classes.txt`` beside them holds the names of the actions; prepare reads it. Subjects are
    numbered from 1, so that NTU-60's cross-subject split trains on 1, 2, 4, 5, 8 and tests on 3, 6,
    7. Setups alternate between subjects; C001 sees the middle, C002 and C003 are 45 degrees aside.

    Args:
        out: the folder; appears when everything is written.
        seed: of everything random.
        actions: number of classes, the first ones of ``CLASSES``.
        subjects: number of people.
        cameras: sensors that see each performance, up to 3.
        replications: performances of each action by each person.
        hard: add faults of real recordings: phantoms, gaps, bodies that return under another id.
        overwrite: replace an earlier folder of synthetic recordings.

    Raises:
        ConfigError: a number is out of range, or ``out`` must not be replaced.
        EnvironmentFault: the folder cannot be written.
        Interrupted: a signal arrived; nothing is left behind.
    """
    settings = SynthSettings(seed, actions, subjects, cameras, replications)
    for name, value in vars(settings).items():
        smallest, largest = int(name != "seed"), getattr(LIMITS, name)
        if not smallest <= value <= largest:
            raise ConfigError(f"{name}: expected {smallest} to {largest}, found {value}")
    out = Path(out)
    if not out.name:
        out = out.absolute()
    overwrite = overwrite or (out.is_dir() and not any(out.iterdir()))
    check_output(out, kind="a folder of synthetic recordings", is_kind=_is_synthetic, overwrite=overwrite)
    files = frames = size = 0
    faults: Counter[str] = Counter()
    classes = dict(list(CLASSES.items())[:actions])
    total = actions * subjects * cameras * replications
    with interrupts.deferred("run the same command again"), atomic_folder(out) as folder:
        (folder / CLASSES_FILE).write_text(_class_lines(actions), encoding="ascii")
        with progress.task("synth", total=total, unit="recordings") as task:
            for subject, action, replication in product(*(range(1, n + 1) for n in (subjects, actions, replications))):
                key = (seed, subject, action, replication)
                for camera, data, length, found in _performance(key, cameras=cameras, hard=hard):
                    interrupts.check()
                    name = f"S{_setup(subject):03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}.skeleton"
                    (folder / name).write_bytes(data)
                    files, frames, size = files + 1, frames + length, size + len(data)
                    faults.update(found)
                    task.advance()
    return SynthSummary(out, files, frames, size, classes, dict(sorted(faults.items())))


def _class_lines(actions: int) -> str:
    return "".join(f"{id_},{name}\n" for id_, name in list(CLASSES.items())[:actions])


def _is_synthetic(path: Path) -> bool:
    """Return whether a folder is empty or of ``synthesise``, by its list of classes."""
    if path.is_dir() and not any(path.iterdir()):
        return True
    marker = path / CLASSES_FILE
    if not marker.is_file() or not _class_lines(len(CLASSES)).encode().startswith(marker.read_bytes()):
        return False
    # Anything else in the folder would be lost when it is replaced.
    return all(entry.name == CLASSES_FILE or _FILE.fullmatch(entry.name) for entry in path.iterdir())


def _setup(subject: int) -> int:
    return 1 + subject % 2


def _person(seed: int, subject: int) -> _Person:
    rng = np.random.default_rng((seed, subject))
    ranges = ((1.52, 1.92), (0.94, 1.06), (0.93, 1.07), (0.88, 1.15))
    height, legs, arms, breadth = (rng.uniform(*limits) for limits in ranges)
    stance = rng.normal(size=(len(NTU25), 3)) * (3, 2, 3)
    # Every fifth person, so that both sides of the cross-subject split have left-handed people.
    left_handed = subject % 5 == 2
    body = simulator.make_body(height, legs=legs, arms=arms, breadth=breadth)
    return _Person(body, rng.uniform(0.82, 1.22), rng.uniform(0.78, 1.12), left_handed, stance)


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
        first = simulator.FIRST_ID + int(eye.integers(1000, 9000))
        tracks = []
        for number, body in enumerate(bodies):
            xyz, state = simulator.observe(eye, view.project(body))
            tracks.append(Track(first + number, np.arange(len(xyz)), xyz, state))
        faults: list[str] = []
        if hard:
            tracks, faults = _add_faults(eye, tracks, view)
        length = len(bodies[0])
        yield camera, simulator.skeleton_text(length, tracks), length, faults


def _act(rng: np.random.Generator, action: Action, people: list[_Person]) -> list[Floats]:
    """Return the joints [T, V, 3] of each body of one performance, world space, metres."""
    lead = people[0]
    frames = int(np.clip(round(action.frames / lead.pace * rng.uniform(0.9, 1.1)), 50, 110))
    # People start late and move at an uneven pace.
    start, stop = rng.uniform(0, 0.3), rng.uniform(0.75, 1)
    phase = np.clip((np.linspace(0, 1, frames) - start) / (stop - start), 0, 1) ** rng.uniform(0.75, 1.35)
    facing, middle = rng.uniform(-50, 50), rng.uniform(-0.2, 0.2, 2)
    side = 1 if rng.uniform() < 0.5 else -1
    apart = rng.uniform(0.78, 0.95)
    bodies = []
    for number, (act, person) in enumerate(zip(action.acts, people, strict=False)):
        motion = perform(act, phase=phase, size=person.size * rng.uniform(0.9, 1.1))
        # One time in six a person uses the other hand; two people meet right hand in right hand.
        other = person.left_handed != (rng.uniform() < 1 / 6)
        if other and len(action.acts) == 1:
            motion = motion.mirrored()
        sway = 3.0 * simulator.drift(rng, frames, len(NTU25), 3, pace=0.08)
        motion.angles[:] += person.stance + sway
        joints = simulator.forward(person.body, motion)
        if len(action.acts) == 2:
            # Face to face, across the line of sight of the middle sensor.
            towards = side * (1 - 2 * number)
            joints = joints @ simulator.rotation(1, np.array(-90.0 * towards)).T + (-towards * apart / 2, 0, 0)
        bodies.append(joints @ simulator.rotation(1, np.array(facing)).T + (middle[0], 0, middle[1]))
    return bodies


def _add_faults(rng: np.random.Generator, tracks: list[Track], view: View) -> tuple[list[Track], list[str]]:
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
    """Return a false body: a ghost of a person, or furniture that is wider than high."""
    shape = simulator.forward(simulator.make_body(1.4), perform(ACTIONS[4].acts[0], phase=np.ones(1), size=1.0))[0]
    if wide:
        shape = shape[:, [1, 0, 2]] * (1.0, 0.7, 0.6)
    beside = np.array([rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 1.4), 0.2, rng.uniform(0.1, 0.8)])
    noise = 0.01 * rng.normal(size=(count, len(NTU25), 3))
    seen = view.project(np.repeat((shape + beside)[None], count, axis=0)) + noise
    state = np.where(rng.uniform(size=seen.shape[:2]) < 0.6, 1, TRACKED)
    return Track(simulator.FIRST_ID + int(rng.integers(9100, 9900)), np.arange(first, first + count), seen, state)
