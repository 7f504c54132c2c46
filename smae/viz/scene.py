"""Scenes of recordings and clips: panels of skeletons that move together, and cameras."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from smae.data.prepare import PrepareSettings
from smae.data.prepare.explain import settings_of
from smae.data.raw.labels import class_name, class_names, find_class_file, read_class_names
from smae.data.raw.ntu import parse_name
from smae.data.raw.recording import MISSING, RATE, Clip, Recording
from smae.data.raw.recordings import Recordings
from smae.data.store import Store
from smae.errors import BadRecording, ConfigError, DataError, NoBody, UnknownNameError
from smae.skeleton import Layout

NOT_TRACKED, INFERRED, TRACKED, ABSENT, MASKED, RECONSTRUCTED = range(6)
"""Kinds of joint. The first four are the tracking states of recordings and stores."""

KIND_WORDS = ("not tracked", "inferred", "tracked", "absent", "masked", "reconstructed")
ROLES = ("body 1", "body 2", "another body")
YAW, PITCH = 0.35, 0.12
"""Initial camera angles in radians: a little from one side, a little from above."""

_DISTANCE = 5.0
_SMALLEST = 0.5
_SAME_POSE = 0.02
"""Metres: cleaning moves whole bodies, resampling joints by less than this between frames."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Skeletons of one panel.

    Attributes:
        title: shown above the panel.
        joints: float [M, T, V, 3], metres: x to the sensor's left, y up, z away from it.
        kind: uint8 [M, T, V], see ``KIND_WORDS``; joints that are ``ABSENT`` are not drawn.
        bodies: M names; default ``body 1``, ``body 2``, ...
        roles: M numbers, which give the colours: 0 and 1 for the first and second actor, 2 for
            any other body; default in order.
        ghost: index of the panel that is drawn faintly behind this one; -1 for none.
    """

    title: str
    joints: NDArray[np.float32]
    kind: NDArray[np.uint8]
    bodies: tuple[str, ...] = ()
    roles: tuple[int, ...] = ()
    ghost: int = -1

    def __post_init__(self) -> None:
        shape = self.joints.shape
        if len(shape) != 4 or shape[-1] != 3 or self.kind.shape != shape[:3] or not shape[1]:
            raise DataError(
                f"panel '{self.title}': expected joints [M, T, V, 3] and kinds [M, T, V], found {shape} "
                f"and {self.kind.shape}"
            )
        kind = np.where(np.isfinite(self.joints).all(-1), self.kind, np.uint8(ABSENT))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "bodies", self.bodies or tuple(f"body {m + 1}" for m in range(shape[0])))
        object.__setattr__(self, "roles", self.roles or tuple(min(m, len(ROLES) - 1) for m in range(shape[0])))

    @property
    def frames(self) -> int:
        return int(self.joints.shape[1])

    @cached_property
    def box(self) -> NDArray[np.float64]:
        """Float64 [2, 3]: the 0.5th and 99.5th percentile of drawn coordinates, metres."""
        drawn = self.joints[self.kind != ABSENT].astype(np.float64)
        if not len(drawn):
            return np.zeros((2, 3))
        box: NDArray[np.float64] = np.percentile(drawn, (0.5, 99.5), axis=0)
        return box


class Camera(NamedTuple):
    """Projects a panel's positions to pixels; ``player.js`` does the same.

    It looks at ``centre`` [3]; ``width`` and ``height`` (metres) fill the picture.
    """

    centre: NDArray[np.float64]
    width: float
    height: float

    def project(self, positions: NDArray[np.float32], width: float, height: float) -> NDArray[np.float64]:
        """Return positions [..., 3] in metres as (x, y) [..., 2] in pixels of a picture, y down.

        The view is the sensor's: a person who faces it has the left hand on the picture's right.
        """
        x, y, z = np.moveaxis(positions - self.centre, -1, 0)
        across, depth = z * np.sin(YAW) - x * np.cos(YAW), z * np.cos(YAW) + x * np.sin(YAW)
        up, away = y * np.cos(PITCH) + depth * np.sin(PITCH), depth * np.cos(PITCH) - y * np.sin(PITCH)
        zoom = 0.84 * min(width / self.width, height / self.height) * _DISTANCE / np.maximum(_DISTANCE + away, 0.5)
        return np.stack([width / 2 + across * zoom, height / 2 - up * zoom], axis=-1)


@dataclass(frozen=True, eq=False)
class Scene:
    """Panels that play in time with each other, and what is written around them.

    Attributes:
        name: the clip's; files are named after it.
        title: shown above all panels.
        panels: drawn side by side; shorter ones are stretched to the longest.
        layout: joints and bones of all panels.
        facts: (label, value) pairs for people.
        notes: remarks about the data shown.
        real_time: whether a frame lasts 1 / ``RATE`` seconds; false for resampled clips.
        track: labels along the time: (first frame, end, label), without gaps; empty for none.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    layout: Layout
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    real_time: bool = True
    track: tuple[tuple[int, int, str], ...] = ()

    def __post_init__(self) -> None:
        for panel in self.panels:
            if panel.joints.shape[2] != len(self.layout):
                raise DataError(
                    f"panel '{panel.title}': expected the {len(self.layout)} joints of {self.layout.name}, "
                    f"found {panel.joints.shape[2]}"
                )

    @property
    def frames(self) -> int:
        """Number of frames of the longest panel."""
        return max(panel.frames for panel in self.panels)

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """Kinds of joint that are drawn in some panel, ascending; never ``ABSENT``."""
        return tuple(sorted({int(k) for panel in self.panels for k in np.unique(panel.kind)} - {ABSENT}))

    @cached_property
    def roles(self) -> tuple[int, ...]:
        """Roles of bodies that are drawn in some panel, ascending."""
        return tuple(sorted({role for panel in self.panels for role in panel.roles}))

    @cached_property
    def cameras(self) -> tuple[Camera, ...]:
        """One camera a panel, all on one scale; a panel with a ghost shares the ghost's centre."""
        size = np.max([panel.box[1] - panel.box[0] for panel in self.panels], axis=0)
        width, height = max(float(np.hypot(size[0], size[2])), _SMALLEST), max(float(size[1]), _SMALLEST)
        boxes = [panel.box for panel in self.panels]
        for number, panel in enumerate(self.panels):
            if panel.ghost >= 0:
                boxes[number] = self.panels[panel.ghost].box
        return tuple(Camera(box.mean(axis=0), width, height) for box in boxes)

    def frame_of(self, panel: Panel, frame: int) -> int:
        """Return which of a panel's frames is shown at ``frame`` of the scene."""
        return frame * panel.frames // self.frames

    def time_label(self, frame: int) -> str:
        """Return a frame's time in seconds, or its number where the clip was resampled."""
        return f"{frame / RATE:.1f} s" if self.real_time else f"frame {frame + 1}"

    def sample_frames(self, count: int) -> list[int]:
        """Return up to ``count`` evenly spaced frames, the first and last among them."""
        frames = np.linspace(0, self.frames - 1, min(count, self.frames)).round().astype(int)
        return [int(frame) for frame in np.unique(frames)]


def scene_of_raw(raw: Path, name: str | None, settings: PrepareSettings) -> Scene:
    """Return the scene of a raw recording, as recorded and, where cleaning keeps a body, denoised.

    ``raw`` is a file; or a folder or zip of files, with the sample's ``name``.

    Raises:
        DataError: a bad recording, with the message of the quarantine list.
        NoBody: no frame has a body.
        ConfigError: no name where one is needed, or an unknown one.
    """
    # Imported late: it brings compiled kernels, which a stored clip does not need.
    from smae.data.clean.cleaning import clean

    recordings = Recordings(raw, settings.source, layout=settings.layout)
    name, parsed, _ = _read(recordings, name, settings)
    layout = recordings.source.layout
    notes: tuple[str, ...] = ()
    if isinstance(parsed, Clip):
        panels = [Panel("clip", parsed.joints, parsed.state)]
        notes = ("Samples of this source are clean already.",)
    else:
        try:
            clip = clean(parsed, mode=settings.mode, layout=layout)
            denoised = Panel(f"denoised ({settings.mode} mode)", clip.joints, clip.state)
            panels = [_panel_of_recording(parsed, clip), denoised]
        except NoBody as error:
            panels = [_panel_of_recording(parsed)]
            notes = (f"smae prepare leaves this recording out: {error}.",)
    title = name
    if settings.source == "ntu":
        title += _action_of(raw, name)
    return Scene(name, title, tuple(panels), layout, _sizes(panels), notes)


def _action_of(raw: Path, name: str) -> str:
    """Return the class of an NTU file name, by a ``classes.txt`` beside it or by NTU's list."""
    facts, names = parse_name(name), dict[str, str]()
    if facts is None:
        return ""
    folder = raw if raw.is_dir() else raw.parent
    file = find_class_file(folder, given=None)
    if file is not None:
        # Another list of the same file name is refused by prepare; a picture does not need it.
        with suppress(ConfigError):
            names = read_class_names(file, [facts.action])
    return f" · {class_name('ntu120', facts.action, names)}"


def scene_of_clip(store: Store, index: int, *, raw: Path | None = None) -> Scene:
    """Return the scene of one clip of a store; with its raw folder or zip, beside the recording."""
    name, clips = str(store.clips.name[index]), store.clips
    clip, notes = Clip(store.clip(index), store.clip_state(index)), list[str]()
    panels = [Panel(f"as stored ({store.mode} mode)", clip.joints, clip.state)]
    if raw is not None:
        settings = settings_of(store)
        layout = store.layout if settings.layout else None
        _, parsed, digest = _read(Recordings(raw, settings.source, layout=layout), name, settings)
        if isinstance(parsed, Clip):
            first = Panel("raw", parsed.joints, parsed.state)
        else:
            first = _panel_of_recording(parsed, clip)
        panels = [first, replace(panels[0], title=f"denoised, {panels[0].title}")]
        if digest != clips.source[index].tobytes().hex():
            notes.append("The raw file is NOT the one this clip was prepared from: its BLAKE3 differs.")
    facts = (
        ("store", clip_location(store, index)),
        *_sizes(panels),
        *((key, str(number)) for key, number in clips.numbers(index).items()),
    )
    real_time = raw is not None or store.attributes.frames is None
    return Scene(name, clip_title(store, index), tuple(panels), store.layout, facts, tuple(notes), real_time)


def clip_title(store: Store, index: int) -> str:
    """Return a clip's name and class."""
    return f"{store.clips.name[index]} · {class_names(store)[int(store.clips.label[index])]}"


def clip_location(store: Store, index: int) -> str:
    """Return a clip's store and number, for people, who count from 1."""
    where = f"{store.name} ({store.dataset}, {store.mode} mode)"
    return f"{where}, clip {index + 1:,} of {len(store):,} (index {index})"


def find_clip(store: Store, name: str) -> int:
    """Return the number of the clip called ``name``; a bad recording's message if it has none."""
    try:
        return store.index_of(name)
    except UnknownNameError:
        # Imported late: it brings zarr, which a known name does not need.
        from smae.data.prepare.summary import find_refused

        refused = find_refused(store, name)
        if refused is not None:
            raise DataError(f"{refused}; it was quarantined or left out: {store.path} does not hold it") from None
        raise


def _read(recordings: Recordings, name: str | None, settings: PrepareSettings) -> tuple[str, Recording | Clip, str]:
    """Return a sample's name, its content, and its BLAKE3."""
    sample, _ = recordings.find(name, by=" with --clip")
    try:
        data = recordings.read(sample)
        parsed = recordings.parse(data, strict=settings.strict, max_range=settings.max_range, unit=settings.unit)
        return sample.name, parsed, blake3(data).hexdigest()
    except BadRecording as error:
        where = sample.where
        if error.line:
            where += f":{error.line}:{error.column}"
        raise DataError(f"{where}: {error.code}: {error.message}") from error


def _panel_of_recording(recording: Recording, clip: Clip | None = None) -> Panel:
    """Return every recorded body under its id, in the colour of the actor it became."""
    if not len(recording.frame):
        raise NoBody(f"expected a body in some frame, found none in {recording.frames}: there is nothing to show")
    ids, body = np.unique(recording.body, return_inverse=True)
    shape = (len(ids), recording.frames, recording.xyz.shape[1])
    joints, kind = np.full((*shape, 3), np.nan, np.float32), np.full(shape, MISSING, np.uint8)
    joints[body, recording.frame], kind[body, recording.frame] = recording.xyz, recording.state
    roles: tuple[int, ...] = ()
    if clip is not None:
        roles = tuple(_actor(recording.xyz[body == number], clip) for number in range(len(ids)))
    return Panel("raw", joints, kind, tuple(f"id {number}" for number in ids), roles)


def _actor(rows: NDArray[np.float32], clip: Clip) -> int:
    """Return which actor has the middle pose of a body's ``rows`` [R, V, 3]; 2 for neither."""
    poses = clip.joints - clip.joints[:, :, :1]
    pose = rows[len(rows) // 2] - rows[len(rows) // 2, :1]
    distance = np.nan_to_num(np.abs(poses - pose).max(axis=(-1, -2)), nan=np.inf).min(axis=1)
    return int(distance.argmin()) if distance.min() < _SAME_POSE else 2


def _sizes(panels: list[Panel]) -> tuple[tuple[str, str], ...]:
    """Return the number of bodies and frames of each panel."""
    noun = {1: "body"}
    counts = [(panel.title, len(panel.bodies), panel.frames) for panel in panels]
    return tuple((title, f"{n} {noun.get(n, 'bodies')}, {frames} frames") for title, n, frames in counts)
