"""Writing of shards: Zarr v3's ``sharding_indexed`` (specification 1.0), one writer a shard.

A shard is its inner chunks, then (offset, length) of each as little-endian uint64, then the CRC-32C of
those. It holds whole clips, in order, so writers of different shards are independent; ``writer.py``
numbers the shards when all are written. zarr-python gives the same bytes of a whole shard in three times
the time (measured), but cannot leave out the chunks beyond the last row and keep those of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from smae.data.raw.recording import Clip
from smae.data.store.chunks import ABSENT, CHUNK_ROWS, CHUNKS, SHARD_ROWS, shard_key
from smae.data.store.codecs import UINT8, Codec, joint_codec
from smae.data.store.file_store import FileStore
from smae.data.store.manifest import FileRecord, record_of
from smae.skeleton import Layout

BLOSC_LEVEL = 5
"""Blosc compression level; ``format.py`` expects the same."""
DIMENSIONS = {"joints": 3, "state": 2}
"""The sharded arrays of a store, and the number of their dimensions."""


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

    def fsync(self, root: FileStore) -> None:
        """Wait until both files survive a power cut.

        Raises:
            EnvironmentFault: the disk refused.
        """
        for record in self.files.values():
            root.fsync(record.path)

    def to_json(self) -> dict[str, Any]:
        """Return the shard as JSON values."""
        files = {array: {"path": record.path, **record.entry()} for array, record in self.files.items()}
        return {**files, "clips": self.clips, "rows": self.rows, "error": self.error}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Shard:
        """Return the shard of ``to_json``'s values."""
        files = {array: dict(values[array]) for array in DIMENSIONS}
        records = {array: FileRecord.from_entry(entry.pop("path"), entry) for array, entry in files.items()}
        return cls(**records, clips=values["clips"], rows=values["rows"], error=values["error"])


class ShardEncoder:
    """Encodes one shard, chunk by chunk; chunks of zeros are written, chunks beyond the last row are not.

    Attributes:
        crc32c: checksum of each inner chunk so far, 8 hex digits each, end to end.
        error: largest error of the codec so far.

    Args:
        codec: how values are stored.
    """

    def __init__(self, codec: Codec) -> None:
        # With threads, Blosc writes the blocks of a chunk in the order in which they finish.
        blosc.use_threads = False
        self.crc32c, self.error = "", 0.0
        self._codec = codec
        self._pieces: list[bytes] = []
        self._index = np.full((CHUNKS, 2), ABSENT, "<u8")
        self._chunks = self._at = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Add the next chunk: ``CHUNK_ROWS`` rows [R, ...], C-contiguous; the last one may have fewer."""
        stored, error = self._codec.encode(rows)
        if len(stored) < CHUNK_ROWS:
            padding = np.zeros((CHUNK_ROWS - len(stored), *stored.shape[1:]), stored.dtype)
            stored = np.concatenate([stored, padding])
        body = blosc.compress(np.ascontiguousarray(stored), b"lz4", BLOSC_LEVEL, blosc.SHUFFLE)
        checksum = google_crc32c.value(body)
        length = len(body) + 4
        self._pieces += [body, checksum.to_bytes(4, "little")]
        self._index[self._chunks] = self._at, length
        self._chunks, self._at = self._chunks + 1, self._at + length
        self.crc32c += f"{checksum:08x}"
        self.error = max(self.error, error)

    def finish(self) -> list[bytes]:
        """Return the bytes of the file in pieces."""
        table = self._index.tobytes()
        return [*self._pieces, table, google_crc32c.value(table).to_bytes(4, "little")]


class ShardWriter:
    """Writes the clips of tasks; a new shard begins when the next clip does not fit.

    The first shard of a task is written under the task's number, which it keeps unless an earlier
    task needed more than one shard.

    Args:
        root: files of the store being written.
        layout: joint layout of the clips.
        codec: how joints are stored.
        durable: wait until each shard survives a power cut; otherwise ``Shard.fsync`` does.
    """

    def __init__(self, root: FileStore, *, layout: Layout, codec: str, durable: bool = False) -> None:
        self._durable = durable
        self._root, self._layout, self._codec = root, layout, joint_codec(codec)
        # Rows are buffered until their chunk is full, and encoded while they are in the processor's cache. The
        # buffer fits the largest clip; the system gives it only the pages that are touched.
        self._joints = np.empty((CHUNK_ROWS + SHARD_ROWS, len(layout), 3), np.float32)
        self._state = np.empty((CHUNK_ROWS + SHARD_ROWS, len(layout)), np.uint8)
        self._clips = self._rows = self._buffered = 0
        self.begin(0)

    def begin(self, task: int) -> None:
        """Begin the clips of a task."""
        self._task = task
        self._shards: list[Shard] = []
        self._start_shard()

    def rejection(self, clip: Clip) -> tuple[str, str] | None:
        """Return why a clip cannot be stored, as (code, message); None if it can."""
        bodies, frames, joints, _ = clip.joints.shape
        if joints != len(self._layout) or clip.state.shape != clip.joints.shape[:3]:
            shapes = f"{list(clip.joints.shape)} joints and {list(clip.state.shape)} states"
            return "layout", f"{shapes} where {len(self._layout)} joints of layout '{self._layout.name}' are expected"
        if bodies * frames > SHARD_ROWS:
            return "length", f"{bodies} x {frames} rows; a clip has at most {SHARD_ROWS}: cut it into several"
        reach = self._codec.reach
        if reach < np.inf and (far := float(np.nanmax(np.abs(clip.joints), initial=0))) > reach:
            message = (
                f"a joint {far:.2f} m from the origin; codec '{self._codec.name}' reaches {reach:.2f} m: use float32"
            )
            return "range", message
        return None

    def free_rows(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the free rows of the shard, joints [R, V, 3] and state [R, V], to be filled from the first."""
        free = slice(self._buffered, self._buffered + SHARD_ROWS - self._rows)
        return self._joints[free], self._state[free]

    def commit(self, rows: int) -> None:
        """Take the first ``rows`` of ``free_rows`` as the next clip."""
        self._clips, self._rows, self._buffered = self._clips + 1, self._rows + rows, self._buffered + rows
        if self._buffered >= CHUNK_ROWS:
            self._pack(self._buffered // CHUNK_ROWS * CHUNK_ROWS)

    def append(self, clip: Clip) -> None:
        """Write a clip for which ``rejection`` is None.

        Raises:
            EnvironmentFault: the disk refused.
        """
        count = clip.joints.shape[0] * clip.joints.shape[1]
        if self._rows + count > SHARD_ROWS:
            self._flush()
        joints, state = self.free_rows()
        joints[:count] = clip.joints.reshape(count, -1, 3)
        state[:count] = clip.state.reshape(count, -1)
        self.commit(count)

    def end(self) -> tuple[Shard, ...]:
        """Write the rest of the task and return its shards; ``Shard.fsync`` makes them durable.

        Raises:
            EnvironmentFault: the disk refused.
        """
        if self._rows:
            self._flush()
        return tuple(self._shards)

    def _start_shard(self) -> None:
        self._clips = self._rows = self._buffered = 0
        self._encoders = {"joints": ShardEncoder(self._codec), "state": ShardEncoder(UINT8)}

    def _pack(self, rows: int) -> None:
        """Encode the first buffered rows and move the others to the front."""
        buffers: dict[str, NDArray[Any]] = {"joints": self._joints, "state": self._state}
        for array, buffer in buffers.items():
            for start in range(0, rows, CHUNK_ROWS):
                self._encoders[array].add(buffer[start : min(start + CHUNK_ROWS, rows)])
            buffer[: self._buffered - rows] = buffer[rows : self._buffered]
        self._buffered -= rows

    def _flush(self) -> None:
        if self._buffered:
            self._pack(self._buffered)
        files = {}
        for array, encoder in self._encoders.items():
            key, pieces = part_key(array, self._task, len(self._shards)), encoder.finish()
            # The journal waits for the disk before it notes the shard; meanwhile the next one is encoded.
            self._root.write(key, *pieces, durable=self._durable)
            files[array] = record_of(key, *pieces, crc32c=encoder.crc32c)
        error = self._encoders["joints"].error
        self._shards.append(Shard(**files, clips=self._clips, rows=self._rows, error=error))
        self._start_shard()


def part_key(array: str, task: int, part: int) -> str:
    """Return the key of a task's shard before numbering; that of the first is mostly final."""
    return shard_key(array, task, dimensions=DIMENSIONS[array]) if part == 0 else f"{array}/more/{task}-{part}"


def offsets(shards: Sequence[Shard], rows: Sequence[int]) -> NDArray[np.int64]:
    """Return int64 [B], the first row of each clip.

    Args:
        shards: in the order of their clips.
        rows: of each clip.
    """
    clips, rows_of = ([getattr(shard, what) for shard in shards] for what in ("clips", "rows"))
    first_row = np.arange(len(shards)) * SHARD_ROWS - (np.cumsum(rows_of) - rows_of)
    offset: NDArray[np.int64] = np.cumsum(rows) - rows + np.repeat(first_row, clips)
    return offset
