"""What became of one recording, told step by step: its raw bytes, its bodies and their fates, its place in a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from blake3 import blake3

from smae.data.clean.cleaning import Mode, clean
from smae.data.clean.resampling import resample
from smae.data.prepare.one_sample import find_sample, settings_of
from smae.data.prepare.plan import Settings
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.data.raw.source import SOURCES
from smae.data.store.codecs import FLOAT32
from smae.data.store.file_store import locate
from smae.data.store.store import Store, open_store
from smae.errors import EXIT_DATA, EXIT_DONE, EXIT_QUARANTINED, BadRecording, ConfigError, NoBody

_STATES = ("not tracked", "inferred", "tracked")
_SHOWN = 8


@dataclass(frozen=True)
class Explanation:
    """The story of one recording.

    Attributes:
        name: the sample.
        verdict: ``clip``, ``no body``, ``bad`` (it would be quarantined) or ``stored`` (only the store was asked).
        raw: what its bytes are and hold, line by line; empty where only a store was asked.
        steps: what cleaning does with it, line by line.
        stored: what a store knows of it, line by line.
        notes: what reading and cleaning counted.
        differs: the raw recording is not the one that the store was made of, or gives another clip.
    """

    name: str
    verdict: str
    raw: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    notes: dict[str, int] | None = None
    differs: bool = False

    @property
    def exit_code(self) -> int:
        """0; 3 where the recording is bad; 4 where it is not what the store was made of."""
        if self.differs:
            return EXIT_DATA
        return EXIT_QUARANTINED if self.verdict == "bad" else EXIT_DONE


def explain(
    where: Path | str, name: str | None = None, *, raw: Path | None = None, mode: str | None = None, source: str = "ntu"
) -> Explanation:
    """Tell what becomes of one recording.

    Args:
        where: one raw file; or a folder or zip of raw files; or a store, which can be a URL.
        name: the sample, such as ``S001C002P003R002A013``; not needed for one raw file.
        raw: with a store: where its raw files lie, to tell the whole story and compare.
        mode: ``reference`` or ``exact``; the store's own, or ``reference``, when left out.
        source: registered source of the raw files.

    Raises:
        ConfigError: nothing at ``where``, or no name given.
        UnknownNameError: no such sample.
        DataError: a damaged store or archive.
    """
    where = locate(where)
    if isinstance(where, Path) and not where.exists():
        raise ConfigError(f"nothing at {where}: give a recording, a folder or zip of recordings, or a store")
    is_store = isinstance(where, str) or (where / "zarr.json").is_file()
    if name is None and (isinstance(where, str) or where.is_dir() or where.suffix.lower() == ".zip"):
        raise ConfigError(f"{where} holds many recordings: say which, for example S001C002P003R002A013")
    if raw is not None and not is_store:
        raise ConfigError(f"--raw goes with a store, and {where} is none: leave --raw out")
    if isinstance(where, Path) and not is_store:
        settings = Settings(source=source, mode=mode or "reference")
        return _from_raw(where, name, settings)[0]
    store = open_store(where)
    assert name is not None
    if name not in store.clips.name and raw is not None:
        told, _, _ = _from_raw(raw, name, settings_of(store, mode))
        return replace(told, stored=(f"{where} holds no clip of this name",))
    index = store.index_of(name)
    lines = _about_clip(store, index)
    if raw is None:
        hint = "add --raw and where the raw files lie, to be told which bodies they show and which rules removed them"
        return Explanation(name, "stored", stored=(*lines, hint))
    told, clip, digest = _from_raw(raw, name, settings_of(store, mode))
    comparison, same = _compare(store, index, clip, digest, own_mode=mode in (None, store.mode))
    return replace(told, stored=lines + comparison, differs=not same)


def _from_raw(raw: Path, name: str | None, settings: Settings) -> tuple[Explanation, Clip | None, str]:
    """Return the story of a raw recording, its clip if it gives one, and its BLAKE3."""
    source = SOURCES.get(settings.source)()
    steps: tuple[str, ...]
    sample, copies = find_sample(source, raw, name)
    lines = [f"a second copy lies at {where}" for where in copies]
    if sample.name in source.missing():
        lines.append("on the official list of missing skeletons: prepare leaves it out, unless --no-missing-list")
    reader = source.reader(raw)
    digest = ""
    try:
        data = bytes(reader.read(sample))
        digest = blake3(data).hexdigest()
        lines = [f"file: {sample.where}, {len(data):,} bytes, BLAKE3 {digest}", *lines]
        lines += [_line_ends(data)] if source.cleaned is None else []
        parsed = source.parse(data, strict=settings.strict, max_range=settings.max_range)
        if isinstance(parsed, Clip):
            clip, steps = parsed, ("not cleaned: this kind of data was cleaned before",)
        else:
            lines += _about_recording(parsed)
            clip = clean(parsed, mode=cast(Mode, settings.mode), layout=source.layout, story=True)
            steps = (f"in {settings.mode} mode", *clip.story)
    except BadRecording as error:
        excerpt = f" ({error.excerpt})" if error.excerpt else ""
        steps = (f"quarantined, {error}{excerpt}",)
        return Explanation(sample.name, "bad", tuple(lines), steps), None, digest
    except NoBody as error:
        return Explanation(sample.name, "no body", tuple(lines), (f"excluded, no body: {error}",)), None, digest
    finally:
        reader.close()
    notes = {**parsed.notes, **clip.notes}
    if settings.frames is not None:
        clip = replace(clip, joints=resample(clip.joints, settings.frames))
        steps = (*steps, f"resampled to {settings.frames} frames, as the store's clips are")
    return Explanation(sample.name, "clip", tuple(lines), steps, notes=notes), clip, digest


def _line_ends(data: bytes) -> str:
    crlf = data.count(b"\r\n")
    kinds = {"CRLF": crlf, "LF": data.count(b"\n") - crlf, "CR": data.count(b"\r") - crlf}
    found = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
    told = ("mixed, " if len(found) > 1 else "") + (", ".join(found) or "none")
    mark = "; begins with a byte order mark" if data.startswith(b"\xef\xbb\xbf") else ""
    tail = "" if data.endswith((b"\r", b"\n")) else "; the last line is not ended"
    return f"line ends: {told}{tail}{mark}"


def _about_recording(recording: Recording) -> list[str]:
    empty = np.setdiff1d(np.arange(recording.frames), recording.frame)
    at_once = np.bincount(recording.frame, minlength=recording.frames).max(initial=0)
    shares = np.bincount(recording.state.reshape(-1), minlength=3)[:3] / max(recording.state.size, 1)
    lines = [f"read: {recording.frames} frames, {len(recording.frame)} rows (body-frames), at most {at_once} at once"]
    if len(empty):
        lines.append(f"frames without anybody: {_runs(empty.tolist())}")
    lines.append("joints: " + ", ".join(f"{share:.1%} {word}" for word, share in zip(_STATES, shares, strict=True)))
    if recording.notes:
        lines.append("tolerated: " + ", ".join(f"{slug} {number}" for slug, number in recording.notes.items()))
    return lines


def _runs(numbers: list[int]) -> str:
    """Return ascending numbers as ``0-3, 7, 9-12``, long lists cut short."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    told = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:_SHOWN]]
    return ", ".join(told) + (f" and {len(runs) - _SHOWN} more stretches" if len(runs) > _SHOWN else "")


def _about_clip(store: Store, index: int) -> tuple[str, ...]:
    clips = store.clips
    state = store.clip_state(index)
    counts = np.bincount(state.reshape(-1), minlength=MISSING + 1) / state.size
    numbers = {key: int(getattr(clips, key)[index]) for key in ("subject", "camera", "setup", "replication")}
    roles = []
    for protocol in store.protocols():
        split = store.split(protocol)
        if index in split.train or index in split.test:
            roles.append(f"{protocol} {'train' if index in split.train else 'test'}")
    first = int(clips.offset[index])
    label = int(clips.label[index])
    return (
        f"store: {store.path} ({store.dataset}, {store.mode} mode, {store.layout.name})",
        f"clip {index} of {len(store)}: class {store.classes[label]} (label {label})"
        + "".join(f", {key} {number}" for key, number in numbers.items() if number >= 0),
        f"bodies {clips.bodies[index]}, frames {clips.frames[index]}, rows {first} to {first + clips.rows[index] - 1}",
        "joints: " + ", ".join(f"{share:.1%} {word}" for word, share in zip((*_STATES, "absent"), counts, strict=True)),
        f"splits: {', '.join(roles) or 'none'}",
        f"made of a file of BLAKE3 {clips.source[index].tobytes().hex()}",
    )


def _compare(
    store: Store, index: int, clip: Clip | None, digest: str, *, own_mode: bool
) -> tuple[tuple[str, ...], bool]:
    """Return how a raw recording compares with the stored clip, and whether they agree."""
    if digest != store.clips.source[index].tobytes().hex():
        return ("the raw file is NOT the one this clip was made of: their BLAKE3 differ",), False
    if not own_mode:
        return ("the raw file is the one this clip was made of; told here in another mode than the store's",), True
    codec = store.codec
    same = False
    if clip is not None:
        kept = np.empty_like(clip.joints)
        codec.decode(codec.encode(clip.joints)[0], kept)
        same = np.array_equal(kept, store.clip(index), equal_nan=True)
    rounded = "" if codec is FLOAT32 else f" (rounded as {codec.name} rounds)"
    verdict = f"equals, bit for bit, what the file gives now{rounded}" if same else "is NOT what the file gives now"
    return (f"the raw file is the one this clip was made of; the clip {verdict}",), same
