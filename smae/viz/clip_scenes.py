"""Scenes of raw recordings, of their denoised form, and of clips in a store."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from smae.data.prepare import PrepareSettings
from smae.data.prepare.explain import find_sample, settings_of
from smae.data.raw.labels import class_name, class_names, find_class_file, read_class_names
from smae.data.raw.ntu import parse_name
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.data.raw.source import SOURCES, Source
from smae.data.store.format import QUARANTINE
from smae.data.store.store import Store
from smae.errors import BadRecording, ConfigError, DataError, NoBody, UnknownNameError
from smae.viz.scene import Panel, Scene

_QUARANTINE_BYTES = 64 * 2**20
_SAME_POSE = 0.02
"""Metres: cleaning moves whole bodies, resampling joints by less than this between frames."""


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

    source = SOURCES.get(settings.source)()
    name, parsed, _ = _read(source, raw, name, settings)
    notes: tuple[str, ...] = ()
    if isinstance(parsed, Clip):
        panels = [Panel("clip", parsed.joints, parsed.state)]
        notes = ("Samples of this source are clean already.",)
    else:
        try:
            clip = clean(parsed, mode=settings.mode, layout=source.layout)
            denoised = Panel(f"denoised ({settings.mode} mode)", clip.joints, clip.state)
            panels = [_panel_of_recording(parsed, clip), denoised]
        except NoBody as error:
            panels = [_panel_of_recording(parsed)]
            notes = (f"smae prepare leaves this recording out: {error}.",)
    title = name
    if settings.source == "ntu":
        title += _action_of(raw, name)
    return Scene(name, title, tuple(panels), source.layout, _sizes(panels), notes)


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
    """Return the scene of one clip of a store; with its raw folder or zip, beside the recording.

    Raises:
        DataError: a damaged store, or a bad raw recording.
        UnknownNameError: ``raw`` has no recording of the clip's name.
    """
    name, clips = str(store.clips.name[index]), store.clips
    clip, notes = Clip(store.clip(index), store.clip_state(index)), list[str]()
    panels = [Panel(f"as stored ({store.mode} mode)", clip.joints, clip.state)]
    if raw is not None:
        settings = settings_of(store)
        _, parsed, digest = _read(SOURCES.get(settings.source)(), raw, name, settings)
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
    """Return a clip's store and number, for people."""
    return f"{store.name} ({store.dataset}, {store.mode} mode), clip {index} of {len(store)}"


def find_clip(store: Store, name: str) -> int:
    """Return the number of the clip called ``name``.

    Raises:
        DataError: the recording was bad, with the message of the quarantine list.
        UnknownNameError: no such clip.
    """
    try:
        return store.index_of(name)
    except UnknownNameError:
        if QUARANTINE not in store.files:
            raise
        # Imported late: it brings zarr, which a known name does not need.
        from smae.data.prepare.summary import decode_quarantine

        for refused in decode_quarantine(store.root.read(QUARANTINE, limit=_QUARANTINE_BYTES)):
            if Path(refused.path.rpartition("!")[2]).stem == name:
                raise DataError(f"{refused}; it was quarantined, so {store.path} does not hold it") from None
        raise


def _read(source: Source, raw: Path, name: str | None, settings: PrepareSettings) -> tuple[str, Recording | Clip, str]:
    """Return a sample's name, its content, and its BLAKE3."""
    sample, _ = find_sample(source, raw, name)
    try:
        with closing(source.reader(raw)) as reader:
            data = bytes(reader.read(sample))
        parsed = source.parse(data, strict=settings.strict, max_range=settings.max_range)
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
