"""Writes the clips of one task as shards, each by one writer, once.

A shard holds whole clips, in order, so writers of different shards do not depend on each other; the
final numbers are given when all shards are written (``writer.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.recording import Clip
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS, UINT8, ShardEncoder, joint_codec, shard_key
from smae.data.store.file_store import FileStore
from smae.data.store.format import FileRecord, record_of
from smae.skeleton import Layout

DIMENSIONS = {"joints": 3, "state": 2}
"""The sharded arrays of a store, and the number of their dimensions."""


@dataclass(frozen=True)
class Shard:
    """One written shard of both row arrays.

    Attributes:
        joints, state: the files.
        clips: number of clips.
        rows: number of rows of those clips.
        error: largest error of a coordinate made by the codec, metres.
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

    def fsync(self, root: FileStore) -> None:
        """Wait until both files survive a power cut; raises as ``FileStore.fsync`` does."""
        for record in self.files.values():
            root.fsync(record.path)

    def to_json(self) -> dict[str, Any]:
        files = {array: {"path": record.path, **record.entry()} for array, record in self.files.items()}
        return {**files, "clips": self.clips, "rows": self.rows, "error": self.error}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Shard:
        files = {array: dict(values[array]) for array in DIMENSIONS}
        records = {array: FileRecord.from_entry(entry.pop("path"), entry) for array, entry in files.items()}
        return cls(**records, clips=values["clips"], rows=values["rows"], error=values["error"])


class ShardWriter:
    """Collects the clips of one task and writes a shard whenever the next clip does not fit.

    The first shard is written under the number of the task, which stays its key unless an earlier
    task needed more than one shard.

    Args:
        root: the store being written.
        layout: joint layout of the clips.
        codec: how joints are stored.
        durable: wait until each shard survives a power cut; else the caller calls ``fsync``.
    """

    def __init__(self, root: FileStore, *, layout: Layout, codec: str, durable: bool = False) -> None:
        self._durable = durable
        self._root, self._layout, self._codec = root, layout, joint_codec(codec)
        # Rows wait here until their chunk is full, and are compressed while they are still in the
        # processor's cache. The size is the largest clip's; the system backs only touched pages.
        self._joints = np.empty((CHUNK_ROWS + SHARD_ROWS, len(layout), 3), np.float32)
        self._state = np.empty((CHUNK_ROWS + SHARD_ROWS, len(layout)), np.uint8)
        self._clips = self._rows = self._waiting = 0
        self.begin(0)

    def begin(self, task: int) -> None:
        """Start the shards of a task."""
        self._task = task
        self._shards: list[Shard] = []
        self._start_shard()

    def rejection(self, clip: Clip) -> tuple[str, str] | None:
        """Return why a clip cannot be stored, as a short code and a message; None if it can."""
        bodies, frames, joints, _ = clip.joints.shape
        if joints != len(self._layout) or clip.state.shape != clip.joints.shape[:3]:
            shapes = f"{list(clip.joints.shape)} joints and {list(clip.state.shape)} states"
            return "layout", f"{shapes} where {len(self._layout)} joints of layout '{self._layout.name}' are expected"
        if bodies * frames > SHARD_ROWS:
            message = f"{bodies} x {frames} rows; at most {SHARD_ROWS} are kept of one clip: cut it into several"
            return "length", message
        codec, farthest = self._codec, 0.0
        if codec.reach < np.inf:
            farthest = float(np.nanmax(np.abs(clip.joints), initial=0))
        if farthest > codec.reach:
            message = f"codec '{codec.name}' reaches {codec.reach:.2f} m: use float32"
            return "range", f"a joint {farthest:.2f} m from the origin; {message}"
        return None

    def free_rows(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the shard's free rows, joints [R, V, 3] and state [R, V], to be filled."""
        free = slice(self._waiting, self._waiting + SHARD_ROWS - self._rows)
        return self._joints[free], self._state[free]

    def commit(self, rows: int) -> None:
        """Take the first ``rows`` of ``free_rows`` as a clip, which ``rejection`` would accept."""
        self._clips, self._rows, self._waiting = self._clips + 1, self._rows + rows, self._waiting + rows
        if self._waiting >= CHUNK_ROWS:
            self._encode(self._waiting // CHUNK_ROWS * CHUNK_ROWS)

    def append(self, clip: Clip) -> None:
        """Add a clip that ``rejection`` accepts; raises as ``FileStore.write`` does."""
        count = clip.joints.shape[0] * clip.joints.shape[1]
        if self._rows + count > SHARD_ROWS:
            self._flush()
        joints, state = self.free_rows()
        joints[:count] = clip.joints.reshape(count, -1, 3)
        state[:count] = clip.state.reshape(count, -1)
        self.commit(count)

    def end(self) -> tuple[Shard, ...]:
        """Write the last shard of the task and return all; raises as ``FileStore.write`` does."""
        if self._rows:
            self._flush()
        return tuple(self._shards)

    def _start_shard(self) -> None:
        self._clips = self._rows = self._waiting = 0
        self._encoders = {"joints": ShardEncoder(self._codec), "state": ShardEncoder(UINT8)}

    def _encode(self, rows: int) -> None:
        """Encode the first waiting rows, and move the others to the front."""
        buffers: dict[str, NDArray[Any]] = {"joints": self._joints, "state": self._state}
        for array, buffer in buffers.items():
            for start in range(0, rows, CHUNK_ROWS):
                self._encoders[array].add(buffer[start : min(start + CHUNK_ROWS, rows)])
            buffer[: self._waiting - rows] = buffer[rows : self._waiting]
        self._waiting -= rows

    def _flush(self) -> None:
        if self._waiting:
            self._encode(self._waiting)
        files = {}
        for array, encoder in self._encoders.items():
            key, pieces = part_key(array, self._task, len(self._shards)), encoder.finish()
            # Not durable by default: the process that records the task as done waits for the disk,
            # while this one already makes the next shard.
            self._root.write(key, *pieces, durable=self._durable)
            files[array] = record_of(key, *pieces, crc32c=encoder.crc32c)
        error = self._encoders["joints"].error
        self._shards.append(Shard(**files, clips=self._clips, rows=self._rows, error=error))
        self._start_shard()


def part_key(array: str, task: int, part: int) -> str:
    """Return the key under which a task's shard is written; the first's is mostly final."""
    if part == 0:
        return shard_key(array, task, dimensions=DIMENSIONS[array])
    return f"{array}/more/{task}-{part}"


def offsets(shards: Sequence[Shard], rows: Sequence[int]) -> NDArray[np.int64]:
    """Return int64 [B], the first row of each clip.

    Args:
        shards: in the order of their clips.
        rows: of each clip.
    """
    clips = [shard.clips for shard in shards]
    filled = np.array([shard.rows for shard in shards], np.int64)
    lengths = np.asarray(rows, np.int64)
    # Each shard begins at a multiple of SHARD_ROWS; ``gap`` is what offsets gain by that.
    gap = np.arange(len(shards)) * SHARD_ROWS - (np.cumsum(filled) - filled)
    offset: NDArray[np.int64] = np.cumsum(lengths) - lengths + np.repeat(gap, clips)
    return offset
