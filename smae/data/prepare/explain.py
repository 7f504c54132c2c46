"""``smae.explain``: one recording step by step: bytes, bodies, cleaning, clip in a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from smae import interrupts, progress
from smae.data.clean import MAX_FRAMES, Mode
from smae.data.prepare import UNITS, PrepareSettings
from smae.data.prepare.summary import find_refused
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.data.raw.recordings import Recordings, is_store
from smae.data.store import Store, open_store
from smae.data.store.chunks import FLOAT32
from smae.data.store.file_store import locate
from smae.errors import EXIT_DATA, EXIT_DONE, EXIT_QUARANTINED, BadRecording, ConfigError, DataError, NoBody
from smae.skeleton import Layout
from smae.tables import Grid, Table, plain

_STATES = ("not tracked", "inferred", "tracked", "absent")
_MAX_LISTED = 8


@dataclass(frozen=True)
class Explanation(Table):
    """What became of one recording.

    Attributes:
        name: of the sample.
        verdict: ``clip``, ``no body``, ``bad`` (it would be quarantined), ``left out`` (by a rule)
            or ``stored`` (only the store was read).
        raw: lines about its bytes and content; empty where only a store was read.
        steps: lines about cleaning.
        stored: lines about its clip in the store.
        notes: counts of oddities in reading and cleaning.
        differs: whether the store was made of another file, or holds another clip.
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
        """0; 3 if the recording is bad; 4 if the store differs from it."""
        if self.differs:
            return EXIT_DATA
        return EXIT_QUARANTINED if self.verdict == "bad" else EXIT_DONE

    def tables(self) -> list[Grid]:
        sections = {"raw": self.raw, "cleaning": self.steps, "store": self.stored}
        blocks = ["\n  ".join([title, *lines]) for title, lines in sections.items() if lines]
        return plain(f"{self.name}: {self.verdict}", blocks)


def explain(
    path: Path | str,
    name: str | None = None,
    *,
    raw: Path | str | None = None,
    mode: Mode | None = None,
    source: str = PrepareSettings.source,
    layout: str | None = None,
) -> Explanation:
    """Explain what becomes of one recording.

    Args:
        path: one raw file; or a folder or zip of raw files; or a store, also by URL.
        name: of the sample, such as ``S001C002P003R002A013``; not needed for a single one.
        raw: with a store: its raw folder or zip, to explain the cleaning and compare.
        mode: cleaning mode; by default the store's, or ``reference``.
        source: registered source of the raw files.
        layout: whose joints they hold, where they do not say: a name or a ``.toml`` file.

    Raises:
        ConfigError: nothing at ``path``, or no name given.
        UnknownNameError: no such sample.
        DataError: a damaged store or archive.
    """
    path = locate(path)
    stored = is_store(path)
    if stored and name is None:
        raise ConfigError(f"{path} holds many recordings: name one, for example S001C002P003R002A013")
    with progress.task("explain"):
        if isinstance(path, Path) and not stored:
            if raw is not None:
                raise ConfigError(f"--raw goes with a store, and {path} is not one: leave --raw out")
            return _explain_raw(path, name, PrepareSettings(source, mode or PrepareSettings.mode, layout=layout))[0]
        if layout is not None:
            raise ConfigError(f"--layout: {path} is a store, which has its own: leave --layout out")
        assert name is not None, "a store has many recordings"
        return _explain_stored(open_store(path), name, raw=raw, mode=mode)


def _explain_stored(store: Store, name: str, *, raw: Path | str | None, mode: Mode | None) -> Explanation:
    settings = settings_of(store, mode)
    if name not in store.clips.name:
        refused = find_refused(store, name)
        lines: tuple[str, ...] = (f"{store.path} holds no clip of this name",)
        if refused is not None:
            lines = (*lines, f"quarantined or left out when it was prepared: {refused}")
        if raw is not None:
            explanation, _, _ = _explain_raw(Path(raw), name, settings, store.layout)
            return replace(explanation, stored=lines)
        if refused is not None:
            verdict = {"no-body": "no body", "missing-list": "left out"}.get(refused.code, "bad")
            return Explanation(name, verdict, stored=lines)
    index = store.index_of(name)
    lines = _describe_clip(store, index)
    if raw is None:
        hint = "for its bodies, and the rules that removed some, add --raw and the folder or zip of its raw file"
        return Explanation(name, "stored", stored=(*lines, hint))
    explanation, clip, digest = _explain_raw(Path(raw), name, settings, store.layout)
    comparison, same = _compare(store, index, clip, digest, own_mode=settings.mode == store.mode)
    return replace(explanation, stored=(*lines, comparison), differs=not same)


def settings_of(store: Store, mode: Mode | None = None) -> PrepareSettings:
    """Return the settings that a store records, or the same with another ``mode``."""
    origin = store.attributes.origin
    recorded = {key: origin[key] for key in PrepareSettings.__annotations__ if key in origin}
    try:
        settings = TypeAdapter(PrepareSettings).validate_python(recorded)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(f"{store.path}: a setting it records, {wrong}; prepare the store again") from None
    fits = settings.frames is None or 1 <= settings.frames <= MAX_FRAMES
    if settings.unit not in (None, *UNITS) or not fits:
        raise DataError(f"{store.path}: a setting it records, unit or frames, is none of prepare's; prepare it again")
    return replace(settings, mode=mode or cast("Mode", store.mode))


def _explain_raw(
    raw: Path, name: str | None, settings: PrepareSettings, layout: Layout | None = None
) -> tuple[Explanation, Clip | None, str]:
    """Return the explanation of a raw recording, its clip if it gives one, and its BLAKE3."""
    # Imported late: this module is also used for stored clips, which need no compiled kernels.
    from smae.data.clean.cleaning import clean, resample

    recordings = Recordings(raw, settings.source, layout=settings.layout and (layout or settings.layout))
    source = recordings.source
    sample, copies = recordings.find(name)
    interrupts.check()
    lines = [f"a second copy is at {where}" for where in copies]
    if sample.name in source.missing():
        lines.append("on the official list of missing skeletons: prepare leaves it out, unless --no-missing-list")
    digest = ""
    steps: tuple[str, ...]
    try:
        data = recordings.read(sample)
        digest = blake3(data).hexdigest()
        lines = [f"file: {sample.where}, {len(data):,} bytes, BLAKE3 {digest}", *lines]
        if source.cleaned is None:
            lines.append(_describe_line_ends(data))
        parsed = recordings.parse(data, strict=settings.strict, max_range=settings.max_range, unit=settings.unit)
        if isinstance(parsed, Clip):
            clip, steps = parsed, ("not cleaned: this kind of data was cleaned before",)
        else:
            lines += _describe_recording(parsed)
            clip = clean(parsed, mode=settings.mode, layout=source.layout, story=True)
            steps = (f"in {settings.mode} mode", *clip.story)
    except BadRecording as error:
        excerpt = f" ({error.excerpt})" if error.excerpt else ""
        steps = (f"quarantined, {error}{excerpt}",)
        return Explanation(sample.name, "bad", tuple(lines), steps), None, digest
    except NoBody as error:
        return Explanation(sample.name, "no body", tuple(lines), (f"excluded, no body: {error}",)), None, digest
    notes = {**parsed.notes, **clip.notes}
    if settings.frames is not None:
        clip = replace(clip, joints=resample(clip.joints, settings.frames))
        steps = (*steps, f"resampled to {settings.frames} frames, as the store's clips are")
    return Explanation(sample.name, "clip", tuple(lines), steps, notes=notes), clip, digest


def _describe_line_ends(data: bytes) -> str:
    crlf = data.count(b"\r\n")
    kinds = {"CRLF": crlf, "LF": data.count(b"\n") - crlf, "CR": data.count(b"\r") - crlf}
    counts = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
    words = ", ".join(counts) or "none"
    if len(counts) > 1:
        words = f"mixed, {words}"
    if not data.endswith((b"\r", b"\n")):
        words += "; the last line has no end"
    if data.startswith(b"\xef\xbb\xbf"):
        words += "; begins with a byte order mark"
    return f"line ends: {words}"


def _describe_recording(recording: Recording) -> list[str]:
    rows = np.bincount(recording.frame, minlength=recording.frames)
    empty = np.flatnonzero(rows == 0)
    lines = [
        f"read: {recording.frames} frames, {len(recording.frame)} rows (body-frames), "
        f"at most {rows.max(initial=0)} at once"
    ]
    if len(empty):
        lines.append(f"frames without anybody: {_ranges((empty + 1).tolist())}")
    # No reader gives a body that is absent.
    lines.append(_describe_states(recording.state, _STATES[:MISSING]))
    if recording.notes:
        lines.append("tolerated: " + ", ".join(f"{slug} {count}" for slug, count in recording.notes.items()))
    return lines


def _describe_states(state: np.ndarray, names: tuple[str, ...]) -> str:
    shares = np.bincount(state.reshape(-1), minlength=len(names))[: len(names)] / max(state.size, 1)
    return "joints: " + ", ".join(f"{share:.1%} {name}" for share, name in zip(shares, names, strict=True))


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers as ``0-3, 7, 9-12``, long lists cut short."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    words = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:_MAX_LISTED]]
    if len(ranges) > _MAX_LISTED:
        words[-1] += f" and {len(ranges) - _MAX_LISTED} more ranges"
    return ", ".join(words)


def _describe_clip(store: Store, index: int) -> tuple[str, ...]:
    clips = store.clips
    roles = []
    for protocol in store.protocols():
        split = store.split(protocol)
        roles += [f"{protocol} {role}" for role in ("train", "test") if index in getattr(split, role)]
    first, label = int(clips.offset[index]), int(clips.label[index])
    return (
        f"store: {store.path} ({store.dataset}, {store.mode} mode, {store.layout.name})",
        f"clip {index + 1:,} of {len(store):,} (index {index}): class {store.classes[label]} (label {label})"
        + "".join(f", {key} {number}" for key, number in clips.numbers(index).items()),
        f"bodies {clips.bodies[index]}, frames {clips.frames[index]}, rows {first + 1} to {first + clips.rows[index]}",
        _describe_states(store.clip_state(index), _STATES),
        f"splits: {', '.join(roles) or 'none'}",
        f"made of a file with BLAKE3 {clips.source[index].tobytes().hex()}",
    )


def _compare(store: Store, index: int, clip: Clip | None, digest: str, *, own_mode: bool) -> tuple[str, bool]:
    """Compare a raw recording with the stored clip; return a line and whether they agree."""
    if digest != store.clips.source[index].tobytes().hex():
        return "the raw file is NOT the one this clip was made of: their BLAKE3 differ", False
    origin = "the raw file is the one this clip was made of"
    if not own_mode:
        return f"{origin}; explained here in another mode than the store's", True
    codec = store.codec
    if clip is not None:
        decoded = np.empty_like(clip.joints)
        codec.decode(codec.encode(clip.joints)[0], decoded)
        if np.array_equal(decoded, store.clip(index), equal_nan=True):
            rounded = "" if codec is FLOAT32 else f" (rounded as {codec.name} rounds)"
            return f"{origin}; the clip equals, bit for bit, what the file gives now{rounded}", True
    return f"{origin}; the clip is NOT what the file gives now", False
