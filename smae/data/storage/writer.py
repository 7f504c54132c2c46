"""Writes one store: rows to whole shards in the order given, then the clips' columns, then the manifest.

``encode.py`` says how an array lies on disk; this file decides what is written when, so that a store is there whole or
not at all.
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
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from smae.data.clip_table import ClipFacts, ClipTable, build_table
from smae.data.recording import Clip
from smae.data.storage.atomic import disk, place, sync_file, sync_folder
from smae.data.storage.chunks import SHARD_ROWS, chunk_checksums
from smae.data.storage.encode import create_column, create_rows, encode_shard
from smae.data.storage.manifest import MANIFEST, QUARANTINE, STORE_VERSION, FileRecord, encode_manifest, list_files
from smae.errors import DataError
from smae.skeleton import Layout

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Header:
    """What a store says of itself as a whole (``attributes.smae`` of its group).

    Attributes:
        layout: joint layout.
        mode: ``reference`` or ``exact``.
        dataset: ``ntu60``, ``ntu120`` or another data set's own name.
        classes: sorted action ids; label = index.
        frames: T if every clip was resampled to it, else None.
        origin: where the clips came from, as settings and digests; nothing of place, time or machine.
        counts: what was found, kept and left out.
    """

    layout: Layout
    mode: str
    dataset: str
    classes: tuple[str, ...]
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
                "dataset": self.dataset,
                "classes": list(self.classes),
                "frames": self.frames,
                "splits": sorted(splits),
                "origin": dict(self.origin),
                "counts": dict(self.counts),
            }
        }


class StoreWriter:
    """Takes rows in order and writes every shard as soon as it is full.

    Args:
        folder: the store's folder while it is being written; made if it is not there.
        layout: joint layout of the rows.
        finished: records of shards that an earlier, interrupted writer finished, joints and state in turn; their rows
            are taken as written, and the rows handed to ``append`` must be those that follow.
    """

    def __init__(self, folder: Path, *, layout: Layout, finished: Sequence[FileRecord] = ()) -> None:
        self.folder, self.layout = folder, layout
        self._records = list(finished)
        self._full_shards = len(finished) // 2
        self._filled = 0
        self._joints = np.zeros((SHARD_ROWS, len(layout), 3), np.float32)
        self._state = np.zeros((SHARD_ROWS, len(layout)), np.uint8)
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> int:
        """Rows taken so far, those of ``finished`` included."""
        return self._full_shards * SHARD_ROWS + self._filled

    @property
    def full_rows(self) -> int:
        """Rows that lie in whole shards, safe on disk."""
        return self._full_shards * SHARD_ROWS

    def append(self, joints: NDArray[np.float32], state: NDArray[np.uint8]) -> list[tuple[FileRecord, FileRecord]]:
        """Take rows and return the (joints, state) records of every shard that they filled, now safe on disk.

        Args:
            joints: float32 [R, V, 3], metres.
            state: uint8 [R, V].

        Raises:
            DataError: rows of another shape or type than the layout's.
            EnvironmentFault: the disk refused; shards already written stay.
        """
        if joints.shape[1:] != (len(self.layout), 3) or state.shape != joints.shape[:2]:
            raise DataError(
                f"rows of {joints.shape} joints and {state.shape} states where [R, {len(self.layout)}, 3] and "
                f"[R, {len(self.layout)}] of layout '{self.layout.name}' belong"
            )
        taken, finished = 0, []
        while taken < len(joints):
            count = min(SHARD_ROWS - self._filled, len(joints) - taken)
            self._joints[self._filled : self._filled + count] = joints[taken : taken + count]
            self._state[self._filled : self._filled + count] = state[taken : taken + count]
            self._filled, taken = self._filled + count, taken + count
            if self._filled == SHARD_ROWS:
                finished.append(self._flush())
        return finished

    def finish(
        self,
        header: Header,
        clips: ClipTable,
        *,
        splits: Mapping[str, NDArray[np.uint8]] | None = None,
        quarantine: bytes = b"",
    ) -> str:
        """Write what is left, the columns and, last, the manifest; return the store's fingerprint.

        Args:
            header: what the store says of itself.
            clips: the table of all clips; its rows are the rows taken.
            splits: uint8 [B] a split that the data brought: 1 train, 2 test, 0 neither.
            quarantine: the lines of ``quarantine.jsonl``.

        Raises:
            DataError: a split's name cannot be a file's.
            EnvironmentFault: the disk refused.
        """
        rows = self.rows
        assert rows == int(clips.rows.sum()), "the clips' rows are not the rows that were written"
        if self._filled:
            self._flush()
        splits = splits or {}
        for name in splits:
            if not _SPLIT_NAME.fullmatch(name):
                raise DataError(f"split {name!a}: expected a name of letters, digits, '_', '.' and '-'")
        attributes = header.attributes(splits)
        with disk(self.folder):
            group = zarr.create_group(LocalStore(self.folder), zarr_format=3, attributes=attributes)
            create_rows(group.store, "joints", (rows, len(self.layout), 3), "float32")
            create_rows(group.store, "state", (rows, len(self.layout)), "uint8")
            columns = {f"clips/{name}": array for name, array in clips.arrays().items()}
            columns |= {f"splits/{name}": np.asarray(array, np.uint8) for name, array in splits.items()}
            for name in sorted({name.split("/")[0] for name in columns}):
                group.create_group(name)
            for name, array in columns.items():
                create_column(group.store, name, array)
        place(self.folder / QUARANTINE, quarantine)
        return self._write_manifest()

    def _flush(self) -> tuple[FileRecord, FileRecord]:
        count, shard = self._filled, self._full_shards
        joints = self._place_shard("joints", shard, self._joints[:count])
        state = self._place_shard("state", shard, self._state[:count])
        self._records += [joints, state]
        self._full_shards, self._filled = (shard + 1, 0) if count == SHARD_ROWS else (shard, count)
        return joints, state

    def _place_shard(self, array: str, shard: int, rows: NDArray[Any]) -> FileRecord:
        data = encode_shard(rows)
        path = "/".join([array, "c", str(shard), *("0" for _ in rows.shape[1:])])
        place(self.folder / path, data)
        checksums = "".join(f"{value:08x}" for value in chunk_checksums(data))
        return FileRecord(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest(), crc32c=checksums)

    def _write_manifest(self) -> str:
        known = {record.path: record for record in self._records}
        files = {path: known.get(path) or _record(self.folder, path) for path in list_files(self.folder)}
        for folder in sorted({(self.folder / path).parent for path in files}):
            sync_folder(folder)
        manifest = encode_manifest(files)
        place(self.folder / MANIFEST, manifest)
        return hashlib.sha256(manifest).hexdigest()


def write_store(
    folder: Path,
    *,
    header: Header,
    clips: Iterable[tuple[ClipFacts, Clip]],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
) -> str:
    """Write a store of clips that are already in memory and return its fingerprint.

    For data that does not come from raw files (imports, generated clips); a clip's ``source`` is the SHA-256 of its
    joints.

    Args:
        folder: must not exist yet; appears under its name only when it is complete.
        header: what the store says of itself.
        clips: facts and joints, in store order; float32 [M, T, V, 3] and uint8 [M, T, V].
        splits: uint8 [B] a split of one's own.

    Raises:
        DataError: no clip at all, or rows that are not the layout's.
        EnvironmentFault: the disk refused.
    """
    partial = folder.with_name(folder.name + ".wip")
    writer = StoreWriter(partial, layout=header.layout)
    facts, frames, bodies, source = [], [], [], []
    for fact, clip in clips:
        count = clip.joints.shape[0] * clip.joints.shape[1]
        writer.append(clip.joints.reshape(count, -1, 3), clip.state.reshape(count, -1))
        facts.append(fact)
        bodies.append(clip.joints.shape[0])
        frames.append(clip.joints.shape[1])
        source.append(hashlib.sha256(clip.joints.tobytes()).digest())
    if not facts:
        raise DataError("a store needs at least one clip; none was given")
    table = build_table(facts, frames=frames, bodies=bodies, source=source, classes=header.classes)
    fingerprint = writer.finish(header, table, splits=splits)
    with disk(folder):
        os.rename(partial, folder)
    sync_folder(folder.parent)
    return fingerprint


def _record(folder: Path, path: str) -> FileRecord:
    file = folder / path
    sync_file(file)
    with disk(file):
        data = file.read_bytes()
    return FileRecord(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
