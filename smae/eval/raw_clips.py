"""Clips made of raw recordings, prepared like the data that an encoder was trained on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import interrupts, progress
from smae.data.clean.cleaning import clean, resample
from smae.data.raw.keypoints import Keypoints
from smae.data.raw.recording import MISSING, RATE, Clip, Recording
from smae.data.raw.recordings import Recordings, is_store, source_of
from smae.data.raw.source import SOURCES, Refused, Sample
from smae.data.store.convert import check_joints, layout_map
from smae.errors import BadRecording, ConfigError, NoBody
from smae.eval.export import PreparationConfig
from smae.skeleton import COMMON15, Layout

logger = logging.getLogger(__name__)

LONGEST = 300
"""Frames above which a recording is long, where the training clips are not known: NTU's longest."""


@dataclass(frozen=True)
class Windows:
    """How long recordings are cut, all in frames.

    Attributes:
        frames: of a window: the median of the clips that the encoder was trained on.
        longest: recordings with more frames are cut: the longest of these clips.
        stride: between the first frames of two windows.
    """

    frames: int
    longest: int
    stride: int

    def starts(self, frames: int) -> list[int]:
        """Return the first frame of each window; the last window ends with the recording."""
        if frames <= self.longest:
            return [0]
        last = max(frames - self.frames, 0)
        return [*range(0, last, self.stride), last]


def windows_of(prepared: PreparationConfig, *, frames: int, stride: float | None = None) -> Windows:
    """Return the windows for recordings of the kind that an encoder was trained on.

    Args:
        prepared: of its data; without lengths of clips, windows have ``frames`` frames.
        frames: of the encoder's input.
        stride: seconds; default 1, or the length of a shorter window.

    Raises:
        ConfigError: the stride is not above 0, or windows would leave gaps.
    """
    median, longest = prepared.clip_frames or (frames, max(frames, LONGEST))
    if stride is None:
        stride = min(1.0, median / RATE)
    if not 0 < stride <= median / RATE:
        raise ConfigError(
            f"--stride {stride:g}: expected seconds above 0, at most {median / RATE:.1f}, the length of a window"
        )
    return Windows(median, max(longest, median), max(1, round(stride * RATE)))


@dataclass(frozen=True)
class RawRecording:
    """A raw recording as clips: one, or one for each window of a long recording.

    Attributes:
        where: its file, for people.
        name: of the sample.
        action: its class, by its name.
        frames: of the whole recording.
        starts: first frame of each clip.
        clips: the clips; None for a window without a body.
    """

    where: str
    name: str
    action: str
    frames: int
    starts: tuple[int, ...]
    clips: tuple[Clip | None, ...]

    @property
    def whole(self) -> bool:
        """Whether it is one clip."""
        return len(self.starts) == 1


@dataclass(frozen=True)
class RawRecordings:
    """Raw recordings that were read, and those that could not be.

    Attributes:
        found: in the order given; in a folder or zip by name.
        quarantined: bad ones, as ``prepare`` lists them.
        no_body: those without a body.
    """

    found: tuple[RawRecording, ...]
    quarantined: tuple[Refused, ...]
    no_body: tuple[str, ...]

    @property
    def clips(self) -> list[Clip]:
        """All clips, recording by recording."""
        return [clip for one in self.found for clip in one.clips if clip is not None]


def read_recordings(
    paths: Sequence[Path | str | Keypoints],
    *,
    prepared: PreparationConfig,
    layout: Layout,
    own: str | None = None,
    source: str | None = None,
    windows: Windows | None = None,
) -> RawRecordings:
    """Return the clips of recordings, prepared like the training data.

    Args:
        paths: recordings, folders and zips of them, and recordings in memory, which come first.
        prepared: how the training data were prepared.
        layout: joint layout of the encoder.
        own: whose joints the files hold, where they do not say.
        source: registered source of the recordings; default the one of the training data.
        windows: how long recordings are cut; None: they are not.

    Raises:
        ConfigError: nothing at a path, a store, or no such source.
        BadRecording, NoBody: the only recording is bad or has no body; of several it is listed.
        DataError: the source has another joint layout than the encoder, or a damaged archive.
    """
    memory = [path for path in paths if isinstance(path, Keypoints)]
    files = [path for path in paths if not isinstance(path, Keypoints)]
    if stores := [path for path in files if is_store(path)]:
        raise ConfigError(f"{stores[0]} is a store: give recordings here; smae embed and smae eval take stores")
    places = [_place(path, source or prepared.source, layout, own) for path in files]
    for place in places:
        if place.inventory.ignored:
            logger.info(f"{place.path}: {place.inventory.ignored} files are no recordings, by their names")
        there = place.source.layout
        check_joints(there, layout, where=place.path)
        if there.name != layout.name:
            logger.info(f"{place.path}: joints of {there.name} are mapped to {layout.name}")
    total = sum(len(place.inventory.samples) for place in places)
    samples = ((place, *found) for place in places for found in place.each())
    refused = [replace(one, path=place.where(one)) for place in places for one in place.inventory.refused]
    only = len(memory) + total + len(refused) == 1
    good, no_body = list[RawRecording](), list[str]()
    for one in memory:
        try:
            clip = _resampled(one.clip(layout, mode=prepared.mode), prepared)
            good.append(RawRecording(str(one), one.name, one.label, one.recording.frames, (0,), (clip,)))
        except NoBody:
            if only:
                raise
            no_body.append(str(one))
    for place, sample, reader in progress.track(samples, "read", total=total, unit="files"):
        interrupts.check()
        where, data = place.where(sample), b""
        try:
            data = bytes(reader.read(sample))
            good.append(_read(place, sample, data, where=where, prepared=prepared, layout=layout, windows=windows))
        except BadRecording as error:
            if only:
                error.path = where
                raise
            digest, position = hashlib.sha256(data).hexdigest(), (error.line, error.column)
            refused.append(Refused(where, error.code, error.message, sample.size, digest, *position, error.excerpt))
        except NoBody as error:
            if only:
                raise NoBody(f"{where}: {error}") from None
            no_body.append(where)
    if only and refused and not good:
        bad = BadRecording(refused[0].code, refused[0].message)
        bad.path = refused[0].path
        raise bad
    return RawRecordings(tuple(good), tuple(refused), tuple(no_body))


def _place(path: Path | str, source: str, layout: Layout, own: str | None) -> Recordings:
    """Return the recordings at a path, of the layout ``own``; by default of the encoder's, where no file says it."""
    chosen = SOURCES.get(source)
    # The 15 common joints are those that others are mapped to: no file holds just them.
    unnamed = getattr(chosen, "takes_layout", False) and chosen.cleaned is None and layout != COMMON15
    if own is None and unnamed and source_of(Path(path), source) == source:
        return Recordings(path, source, layout=layout)
    return Recordings(path, source, layout=own)


def _read(
    place: Recordings,
    sample: Sample,
    data: bytes,
    *,
    where: str,
    prepared: PreparationConfig,
    layout: Layout,
    windows: Windows | None,
) -> RawRecording:
    parsed = place.parse(data, strict=prepared.strict, max_range=prepared.max_range, unit=prepared.unit)
    frames = parsed.frames if isinstance(parsed, Recording) else parsed.joints.shape[1]
    action = place.source.facts(sample.name).action
    starts = windows.starts(frames) if windows is not None else [0]
    if len(starts) == 1 or windows is None:
        clip = prepare_clip(parsed, prepared, own=place.source.layout, layout=layout)
        return RawRecording(where, sample.name, action, frames, (0,), (clip,))
    clips = list[Clip | None]()
    for start in starts:
        try:
            window = _cut(parsed, start, start + windows.frames)
            clips.append(prepare_clip(window, prepared, own=place.source.layout, layout=layout))
        except NoBody:
            clips.append(None)
    if not any(clips):
        raise NoBody("expected a body in some window, found none")
    logger.info(
        f"{where}: {frames / RATE:.0f} s, longer than the clips that the encoder was trained on: "
        f"{len(starts)} windows of {windows.frames / RATE:.1f} s"
    )
    return RawRecording(where, sample.name, action, frames, tuple(starts), tuple(clips))


def _cut(parsed: Recording | Clip, start: int, stop: int) -> Recording | Clip:
    if isinstance(parsed, Recording):
        return cut(parsed, start, stop)
    return replace(parsed, joints=parsed.joints[:, start:stop], state=parsed.state[:, start:stop])


def cut(recording: Recording, start: int, stop: int) -> Recording:
    """Return the frames from ``start`` to ``stop``."""
    first, end = np.searchsorted(recording.frame, (start, stop))
    rows = slice(int(first), int(end))
    return Recording(
        frames=min(stop, recording.frames) - start,
        frame=recording.frame[rows] - np.int32(start),
        body=recording.body[rows],
        xyz=recording.xyz[rows],
        state=recording.state[rows],
    )


def prepare_clip(parsed: Recording | Clip, prepared: PreparationConfig, *, own: Layout, layout: Layout) -> Clip:
    """Return the clip of what was parsed, cleaned, mapped and resampled like the training data.

    ``own`` is its layout, ``layout`` the training data's.

    Raises:
        NoBody: it shows none.
    """
    clip = parsed
    if isinstance(clip, Recording):
        clip = clean(clip, mode=prepared.mode, layout=own)
    if own.name != layout.name:
        clip = layout_map(own, layout)(clip, gaps=prepared.mode == "exact")
    return _resampled(clip, prepared)


def _resampled(clip: Clip, prepared: PreparationConfig) -> Clip:
    if prepared.frames is None:
        return clip
    return replace(clip, joints=resample(clip.joints, prepared.frames))


class ClipsInMemory:
    """Clips without a store, in the form that a ``Loader`` reads; their labels are 0."""

    fingerprint = "in memory"

    def __init__(self, clips: Sequence[Clip], *, layout: Layout, mode: str) -> None:
        self.layout, self.mode = layout, mode
        bodies, frames = np.array([clip.joints.shape[:2] for clip in clips], np.int64).T
        rows = bodies * frames
        self.clips: Any = SimpleNamespace(
            offset=np.cumsum(rows) - rows, frames=frames, bodies=bodies, label=np.zeros_like(rows)
        )
        self._rows = np.concatenate([clip.joints.reshape(-1, len(layout), 3) for clip in clips])
        # Joints of another layout that nothing gives are missing in all clips.
        never = np.array([(clip.state == MISSING).all((0, 1)) for clip in clips])
        self.missing = np.atleast_2d(never.all(0))
        self.member = np.zeros(len(rows), np.int64)

    def __len__(self) -> int:
        return len(self.clips.offset)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres."""
        return self._rows[start:stop]
