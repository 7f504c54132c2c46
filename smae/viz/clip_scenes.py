"""Scenes of recordings: what the sensor gave, what cleaning makes of it, what a store holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from smae.data.prepare.explain import find_sample, settings_of
from smae.data.prepare.settings import PrepareSettings
from smae.data.raw.class_counts import class_name, class_names
from smae.data.raw.labels import find_names, read_names
from smae.data.raw.ntu_names import parse_name
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.data.raw.source import SOURCES, Source
from smae.data.store.store import Store
from smae.errors import BadRecording, ConfigError, DataError, NoBody, UnknownNameError
from smae.viz import Panel, Scene

_LIST = "quarantine.jsonl"
_LIST_BYTES = 64 * 2**20
_SAME_POSE = 0.02
"""Metres: cleaning moves whole bodies, resampling joints by less than this between frames."""


def scene_of_raw(raw: Path, name: str | None, settings: PrepareSettings) -> Scene:
    """Return the scene of one raw recording: as recorded, and denoised where cleaning leaves somebody.

    Args:
        raw: a raw file; or a folder or zip of them, with ``name``.
        name: the sample.
        settings: how it is read and cleaned.

    Raises:
        DataError: a bad recording, worded as the quarantine list words it.
        NoBody: nobody in any frame.
        ConfigError: no name where one is needed, or an unknown one.
    """
    # Imported late: it brings compiled kernels, which a stored clip does not need.
    from smae.data.clean.cleaning import clean

    source = SOURCES.get(settings.source)()
    name, parsed, _ = _read(source, raw, name, settings)
    if isinstance(parsed, Clip):
        panels, notes = [_panel_of_clip("clip", parsed)], ["This kind of data was cleaned before."]
    else:
        try:
            clip = clean(parsed, mode=settings.mode, layout=source.layout)
            panels = [_panel_of_recording(parsed, clip), _panel_of_clip(f"denoised ({settings.mode} mode)", clip)]
            notes = []
        except NoBody as error:
            panels, notes = [_panel_of_recording(parsed)], [f"Left out when preparing, no body: {error}."]
    action = _action_of(raw, name) if settings.source == "ntu" else ""
    return Scene(name, f"{name}{action}", tuple(panels), source.layout, _facts_of(panels), tuple(notes))


def _action_of(raw: Path, name: str) -> str:
    """Return what a recording named as NTU's shows: as a ``classes.txt`` beside it says, else in NTU's words."""
    numbers = parse_name(name)
    if numbers is None:
        return ""
    label = f"A{numbers.action:03}"
    file = find_names(raw if raw.is_dir() else raw.parent, given=None)
    try:
        told = read_names(file, [label]) if file is not None else {}
    except ConfigError:
        told = {}  # some other list that bears this name: prepare refuses it, a picture does not need it
    return f" · {class_name('ntu120', label, told)}"


def scene_of_clip(store: Store, index: int, *, raw: Path | None = None) -> Scene:
    """Return the scene of one clip of a store; with ``raw``, beside what the sensor gave.

    Args:
        store: where the clip is.
        index: its number.
        raw: the raw folder or zip that the store was made of.

    Raises:
        DataError: a damaged store, or a bad raw recording.
        UnknownNameError: ``raw`` has no recording of the clip's name.
    """
    name, clips = str(store.clips.name[index]), store.clips
    clip = Clip(store.clip(index), store.clip_state(index))
    timed = raw is not None or store.attributes.frames is None
    panels, notes = [_panel_of_clip(f"as stored ({store.mode} mode)", clip)], list[str]()
    if raw is not None:
        settings = settings_of(store)
        _, parsed, digest = _read(SOURCES.get(settings.source)(), raw, name, settings)
        first = _panel_of_clip("raw", parsed) if isinstance(parsed, Clip) else _panel_of_recording(parsed, clip)
        panels = [first, replace(panels[0], title=f"denoised, {panels[0].title}")]
        if digest != clips.source[index].tobytes().hex():
            notes.append("The raw file is NOT the one this clip was made of: their BLAKE3 differ.")
    numbers = [(key, int(getattr(clips, key)[index])) for key in ("subject", "camera", "setup", "replication")]
    facts = (
        ("store", place_of(store, index)),
        *_facts_of(panels),
        *((key, str(number)) for key, number in numbers if number >= 0),
    )
    return Scene(name, clip_title(store, index), tuple(panels), store.layout, facts, tuple(notes), real_time=timed)


def clip_title(store: Store, index: int) -> str:
    """Return a clip's name and class, as people read them."""
    return f"{store.clips.name[index]} · {class_names(store)[int(store.clips.label[index])]}"


def place_of(store: Store, index: int) -> str:
    """Return where a clip is, as people say it."""
    return f"{store.name} ({store.dataset}, {store.mode} mode), clip {index} of {len(store)}"


def find_clip(store: Store, name: str) -> int:
    """Return the number of the clip called ``name``.

    Raises:
        DataError: the recording was bad; worded as the store's quarantine list words it.
        UnknownNameError: no such clip.
    """
    try:
        return store.index_of(name)
    except UnknownNameError:
        # Imported late: it brings zarr, which a known name does not need.
        from smae.data.prepare.summary import decode_quarantine

        for refused in decode_quarantine(store.root.read(_LIST, limit=_LIST_BYTES)) if _LIST in store.files else ():
            if Path(refused.path.rpartition("!")[2]).stem == name:
                raise DataError(f"{refused}; it was quarantined, so {store.path} does not hold it") from None
        raise


def _read(source: Source, raw: Path, name: str | None, settings: PrepareSettings) -> tuple[str, Recording | Clip, str]:
    """Return a sample's name, what it holds, and its BLAKE3."""
    sample, _ = find_sample(source, raw, name)
    reader = source.reader(raw)
    try:
        data = bytes(reader.read(sample))
        parsed = source.parse(data, strict=settings.strict, max_range=settings.max_range)
        return sample.name, parsed, blake3(data).hexdigest()
    except BadRecording as error:
        place = f":{error.line}:{error.column}" if error.line else ""
        raise DataError(f"{sample.where}{place}: {error.code}: {error.message}") from error
    finally:
        reader.close()


def _panel_of_clip(title: str, clip: Clip) -> Panel:
    return Panel(title, clip.joints, clip.state)


def _panel_of_recording(recording: Recording, clip: Clip | None = None) -> Panel:
    """Return every body that the sensor saw, under its own id, at its true frames, in the colour of what it became."""
    if not len(recording.frame):
        raise NoBody(f"expected a body in some frame, found none in {recording.frames}: there is nothing to show")
    ids, body = np.unique(recording.body, return_inverse=True)
    shape = (len(ids), recording.frames, recording.xyz.shape[1])
    joints, kind = np.full((*shape, 3), np.nan, np.float32), np.full(shape, MISSING, np.uint8)
    joints[body, recording.frame], kind[body, recording.frame] = recording.xyz, recording.state
    roles = () if clip is None else tuple(_actor(recording.xyz[body == number], clip) for number in range(len(ids)))
    return Panel("raw", joints, kind, tuple(f"id {number}" for number in ids), roles)


def _actor(rows: NDArray[np.float32], clip: Clip) -> int:
    """Return which actor of a clip took the pose in the middle of a body's ``rows`` [R, V, 3]; 2 for neither."""
    poses = clip.joints - clip.joints[:, :, :1]
    pose = rows[len(rows) // 2] - rows[len(rows) // 2, :1]
    away = np.nan_to_num(np.abs(poses - pose).max(axis=(-1, -2)), nan=np.inf).min(axis=1)
    return int(away.argmin()) if away.min() < _SAME_POSE else 2


def _facts_of(panels: list[Panel]) -> tuple[tuple[str, str], ...]:
    words = [
        f"{len(panel.bodies)} {'body' if len(panel.bodies) == 1 else 'bodies'}, {panel.frames} frames"
        for panel in panels
    ]
    return tuple((panel.title, text) for panel, text in zip(panels, words, strict=True))
