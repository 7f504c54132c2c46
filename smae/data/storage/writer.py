"""Writes one store: clips to shards, then what is known of them, then the manifest.

A shard holds whole clips, in order, and is written by one writer, once: so writers of different shards need not know of
each other. Which shard has which number is settled when all are there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from smae.data.clip_table import ClipFacts, ClipTable, build_table
from smae.data.recording import Clip
from smae.data.storage.atomic import disk, sync_folder
from smae.data.storage.chunks import SHARD_ROWS, shard_key
from smae.data.storage.codecs import UINT8, joint_codec
from smae.data.storage.encode import encode_metadata, encode_shard
from smae.data.storage.manifest import MANIFEST, QUARANTINE, STORE_VERSION, FileRecord, encode_manifest, record_of
from smae.data.storage.places import LocalPlace, Place
from smae.errors import DataError
from smae.skeleton import Layout

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIMENSIONS = {"joints": 3, "state": 2}


@dataclass(frozen=True)
class Header:
    """What a store says of itself as a whole (``attributes.smae`` of its group).

    Attributes:
        layout: joint layout.
        mode: ``reference`` or ``exact``.
        dataset: ``ntu60``, ``ntu120`` or another data set's own name.
        classes: sorted action ids; label = index.
        codec: how joints are kept, see ``codecs.py``.
        frames: T if every clip was resampled to it, else None.
        origin: where the clips came from, as settings and digests; nothing of place, time or machine.
        counts: what was found, kept and left out.
    """

    layout: Layout
    mode: str
    dataset: str
    classes: tuple[str, ...]
    codec: str = "float32"
    frames: int | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)

    def attributes(self, splits: Iterable[str]) -> dict[str, Any]:
        """Return the group's attributes, ready for JSON."""
        return {
            "smae": {
                "version": STORE_VERSION,
                "layout": self.layout.name,
                "mode": self.mode,
                "codec": self.codec,
                "dataset": self.dataset,
                "classes": list(self.classes),
                "frames": self.frames,
                "splits": sorted(splits),
                "origin": dict(self.origin),
                "counts": dict(self.counts),
            }
        }


@dataclass(frozen=True)
class Shard:
    """One written shard of both row arrays.

    Attributes:
        joints, state: the files.
        clips: how many clips it holds.
        rows: how many rows they have.
        error: largest error of a coordinate that the codec made, metres.
    """

    joints: FileRecord
    state: FileRecord
    clips: int
    rows: int
    error: float = 0.0

    @property
    def files(self) -> dict[str, FileRecord]:
        """Both files by array."""
        return {"joints": self.joints, "state": self.state}

    def settle(self, place: Place) -> None:
        """Wait until both files survive a power cut.

        Raises:
            EnvironmentFault: the disk refused.
        """
        for record in self.files.values():
            place.settle(record.path)

    def to_json(self) -> dict[str, Any]:
        """Return the shard as JSON values."""
        files = {array: {"path": record.path, **record.entry()} for array, record in self.files.items()}
        return {**files, "clips": self.clips, "rows": self.rows, "error": self.error}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Shard:
        """Return what ``to_json`` gave."""
        files = {array: dict(values[array]) for array in _DIMENSIONS}
        records = {array: FileRecord.from_entry(entry.pop("path"), entry) for array, entry in files.items()}
        return cls(**records, clips=values["clips"], rows=values["rows"], error=values["error"])


class ShardWriter:
    """Takes the clips of one task and writes a shard whenever the next clip does not fit.

    The first shard gets the task's number for a key, which it keeps unless an earlier task needed more than one.

    Args:
        place: where the store is being written.
        layout: joint layout of the clips.
        codec: how joints are kept.
    """

    def __init__(self, place: Place, *, layout: Layout, codec: str) -> None:
        self._place, self._layout, self._codec = place, layout, joint_codec(codec)
        # Used again for every task: fresh memory costs more than the rows that are copied into it.
        self._joints = np.empty((SHARD_ROWS, len(layout), 3), np.float32)
        self._state = np.empty((SHARD_ROWS, len(layout)), np.uint8)
        self.begin(0)

    def begin(self, task: int) -> None:
        """Take what follows as the clips of a task."""
        self._task, self._clips, self._rows = task, 0, 0
        self._shards: list[Shard] = []

    def unfit(self, clip: Clip) -> tuple[str, str] | None:
        """Return why a clip cannot be kept, as a short code and a message; None where it can."""
        bodies, frames, joints, _ = clip.joints.shape
        if joints != len(self._layout) or clip.state.shape != clip.joints.shape[:3]:
            shapes = f"{list(clip.joints.shape)} joints and {list(clip.state.shape)} states"
            return "layout", f"{shapes} where {len(self._layout)} joints of layout '{self._layout.name}' belong"
        if bodies * frames > SHARD_ROWS:
            return "length", f"{bodies} x {frames} rows; at most {SHARD_ROWS} are kept of one clip: cut it into several"
        reach = self._codec.reach
        if reach < np.inf and (far := float(np.nanmax(np.abs(clip.joints), initial=0))) > reach:
            message = (
                f"a joint {far:.2f} m from the origin; codec '{self._codec.name}' reaches {reach:.2f} m: use float32"
            )
            return "range", message
        return None

    def append(self, clip: Clip) -> None:
        """Take a clip for which ``unfit`` has nothing to say.

        Raises:
            EnvironmentFault: the disk refused.
        """
        count = clip.joints.shape[0] * clip.joints.shape[1]
        if self._rows + count > SHARD_ROWS:
            self._flush()
        rows = slice(self._rows, self._rows + count)
        self._joints[rows] = clip.joints.reshape(count, -1, 3)
        self._state[rows] = clip.state.reshape(count, -1)
        self._clips, self._rows = self._clips + 1, self._rows + count

    def end(self) -> tuple[Shard, ...]:
        """Write what is left of the task, and return its shards, which ``Shard.settle`` makes safe.

        Raises:
            EnvironmentFault: the disk refused.
        """
        if self._rows:
            self._flush()
        return tuple(self._shards)

    def _flush(self) -> None:
        state = encode_shard(self._state[: self._rows], UINT8)
        joints = encode_shard(self._joints[: self._rows], self._codec)
        files = {"joints": joints, "state": state}
        records = {}
        for array, encoded in files.items():
            key = part_key(array, self._task, len(self._shards))
            # Whoever notes that the shard is done waits for the disk, while the next one is being made.
            self._place.write(key, *encoded.pieces, safe=False)
            records[array] = record_of(key, *encoded.pieces, crc32c=encoded.crc32c)
        self._shards.append(Shard(records["joints"], records["state"], self._clips, self._rows, joints.error))
        self._clips, self._rows = 0, 0


def part_key(array: str, task: int, part: int) -> str:
    """Return the key under which a task's shard is written: its likely final one for the first."""
    return shard_key(array, task, dimensions=_DIMENSIONS[array]) if part == 0 else f"{array}/more/{task}-{part}"


def offsets(shards: Sequence[Shard], rows: Sequence[int]) -> NDArray[np.int64]:
    """Return int64 [B], the first row of each clip, of clips that fill shards in order.

    Args:
        shards: in the order of their clips.
        rows: of each clip.
    """
    clips, rows_of = ([getattr(shard, what) for shard in shards] for what in ("clips", "rows"))
    first_row = np.arange(len(shards)) * SHARD_ROWS - (np.cumsum(rows_of) - rows_of)
    offset: NDArray[np.int64] = np.cumsum(rows) - rows + np.repeat(first_row, clips)
    return offset


def finish_store(
    place: Place,
    header: Header,
    clips: ClipTable,
    *,
    shards: Sequence[Shard],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
    quarantine: bytes = b"",
) -> str:
    """Number the shards, write everything else and, last, the manifest; return the store's fingerprint.

    Args:
        place: where the shards lie; files that are no part of the store are removed.
        header: what the store says of itself.
        clips: the table of all clips, with ``offsets`` of the shards.
        shards: in the order of their clips.
        splits: uint8 [B] a split that the data brought: 1 train, 2 test, 0 neither.
        quarantine: the lines of ``quarantine.jsonl``.

    Raises:
        DataError: a split's name cannot be a file's.
        EnvironmentFault: the disk refused.
    """
    splits = splits or {}
    for name in splits:
        if not _SPLIT_NAME.fullmatch(name):
            raise DataError(f"split {name!a}: expected a name of letters, digits, '_', '.' and '-'")
    files = _number(place, shards)
    end = int(clips.offset[-1] + clips.rows[-1])
    joints = len(header.layout)
    columns = {f"clips/{name}": array for name, array in clips.arrays().items()}
    columns |= {f"splits/{name}": np.asarray(array, np.uint8) for name, array in splits.items()}
    rows = {"joints": ((end, joints, 3), joint_codec(header.codec).dtype.name), "state": ((end, joints), "uint8")}
    others = encode_metadata(header.attributes(splits), rows, columns) | {QUARANTINE: quarantine}
    for key, data in others.items():
        place.write(key, data)
        files[key] = record_of(key, data)
    for key in place.sizes():
        if key not in files:
            place.remove(key)
    if isinstance(place, LocalPlace):
        for folder in sorted({(place.folder / key).parent for key in files}):
            sync_folder(folder)
    manifest = encode_manifest(files)
    place.write(MANIFEST, manifest)
    return hashlib.sha256(manifest).hexdigest()


def _number(place: Place, shards: Sequence[Shard]) -> dict[str, FileRecord]:
    """Give each shard its final key; return the records by key.

    From the last to the first: a shard's number is never below its task's, so nothing is written over.
    """
    files: dict[str, FileRecord] = {}
    for number, shard in reversed(list(enumerate(shards))):
        for array, record in shard.files.items():
            key = shard_key(array, number, dimensions=_DIMENSIONS[array])
            if record.path != key:
                place.move(record.path, key)
            files[key] = FileRecord(key, record.size, record.blake3, record.crc32c)
    return files


def write_store(
    folder: Path,
    *,
    header: Header,
    clips: Iterable[tuple[ClipFacts, Clip]],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
) -> str:
    """Write a store of clips that are already in memory and return its fingerprint.

    For data that does not come from raw files (imports, generated clips); a clip's ``source`` is the BLAKE3 of its
    joints.

    Args:
        folder: must not exist yet; appears under its name only when it is complete.
        header: what the store says of itself.
        clips: facts and joints, in store order; float32 [M, T, V, 3] and uint8 [M, T, V].
        splits: uint8 [B] a split of one's own.

    Raises:
        DataError: no clip at all, or one that is not the layout's, too long, or beyond the codec's reach.
        EnvironmentFault: the disk refused.
    """
    place = LocalPlace(folder.with_name(folder.name + ".wip"))
    writer = ShardWriter(place, layout=header.layout, codec=header.codec)
    facts, frames, bodies, source = [], [], [], []
    for fact, clip in clips:
        if problem := writer.unfit(clip):
            raise DataError(f"clip {fact.name}: {problem[1]}")
        writer.append(clip)
        facts.append(fact)
        bodies.append(clip.joints.shape[0])
        frames.append(clip.joints.shape[1])
        source.append(blake3(clip.joints.tobytes()).digest())
    if not facts:
        raise DataError("a store needs at least one clip; none was given")
    shards = writer.end()
    for shard in shards:
        shard.settle(place)
    rows = [t * m for t, m in zip(frames, bodies, strict=True)]
    table = build_table(
        facts, offset=offsets(shards, rows), frames=frames, bodies=bodies, source=source, classes=header.classes
    )
    fingerprint = finish_store(place, header, table, shards=shards, splits=splits)
    with disk(folder):
        os.rename(place.folder, folder)
    sync_folder(folder.parent)
    return fingerprint
