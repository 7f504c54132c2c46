"""Clips to shards: what one task's clips become, written by one writer, once.

A shard holds whole clips, in order, so writers of different shards need not know of each other; which shard has which
number is settled when all are there (``writer.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.recording import Clip
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS, shard_key
from smae.data.store.codecs import UINT8, joint_codec
from smae.data.store.encode import ShardEncoder
from smae.data.store.file_store import Place
from smae.data.store.manifest import FileRecord, record_of
from smae.skeleton import Layout

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
        files = {array: dict(values[array]) for array in DIMENSIONS}
        records = {array: FileRecord.from_entry(entry.pop("path"), entry) for array, entry in files.items()}
        return cls(**records, clips=values["clips"], rows=values["rows"], error=values["error"])


class ShardWriter:
    """Takes the clips of one task and writes a shard whenever the next clip does not fit.

    The first shard gets the task's number for a key, which it keeps unless an earlier task needed more than one.

    Args:
        place: where the store is being written.
        layout: joint layout of the clips.
        codec: how joints are kept.
        safe: wait until each shard survives a power cut, which otherwise ``Shard.settle`` does.
    """

    def __init__(self, place: Place, *, layout: Layout, codec: str, safe: bool = False) -> None:
        self._safe = safe
        self._place, self._layout, self._codec = place, layout, joint_codec(codec)
        # Rows wait here for their chunk to be full, and are packed while the processor still has them in its cache; of
        # the room for the largest clip, hardly anything is ever touched.
        self._joints = np.empty((CHUNK_ROWS + SHARD_ROWS, len(layout), 3), np.float32)
        self._state = np.empty((CHUNK_ROWS + SHARD_ROWS, len(layout)), np.uint8)
        self._clips = self._rows = self._held = 0
        self.begin(0)

    def begin(self, task: int) -> None:
        """Take what follows as the clips of a task."""
        self._task = task
        self._shards: list[Shard] = []
        self._start_shard()

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

    def room(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the shard's free rows, joints [R, V, 3] and state [R, V], to be filled from the first on."""
        free = slice(self._held, self._held + SHARD_ROWS - self._rows)
        return self._joints[free], self._state[free]

    def filled(self, rows: int) -> None:
        """Take the first ``rows`` of ``room`` as a clip that is fit to be kept."""
        self._clips, self._rows, self._held = self._clips + 1, self._rows + rows, self._held + rows
        if self._held >= CHUNK_ROWS:
            self._pack(self._held // CHUNK_ROWS * CHUNK_ROWS)

    def append(self, clip: Clip) -> None:
        """Take a clip for which ``unfit`` has nothing to say.

        Raises:
            EnvironmentFault: the disk refused.
        """
        count = clip.joints.shape[0] * clip.joints.shape[1]
        if self._rows + count > SHARD_ROWS:
            self._flush()
        joints, state = self.room()
        joints[:count] = clip.joints.reshape(count, -1, 3)
        state[:count] = clip.state.reshape(count, -1)
        self.filled(count)

    def end(self) -> tuple[Shard, ...]:
        """Write what is left of the task, and return its shards, which ``Shard.settle`` makes safe.

        Raises:
            EnvironmentFault: the disk refused.
        """
        if self._rows:
            self._flush()
        return tuple(self._shards)

    def _start_shard(self) -> None:
        self._clips = self._rows = self._held = 0
        self._encoders = {"joints": ShardEncoder(self._codec), "state": ShardEncoder(UINT8)}

    def _pack(self, rows: int) -> None:
        """Encode the first rows that wait, and move the others up."""
        waits: dict[str, NDArray[Any]] = {"joints": self._joints, "state": self._state}
        for array, waiting in waits.items():
            for start in range(0, rows, CHUNK_ROWS):
                self._encoders[array].add(waiting[start : min(start + CHUNK_ROWS, rows)])
            waiting[: self._held - rows] = waiting[rows : self._held]
        self._held -= rows

    def _flush(self) -> None:
        if self._held:
            self._pack(self._held)
        files = {}
        for array, encoder in self._encoders.items():
            key, pieces = part_key(array, self._task, len(self._shards)), encoder.finish()
            # Whoever notes that the shard is done waits for the disk, while the next one is being made.
            self._place.write(key, *pieces, safe=self._safe)
            files[array] = record_of(key, *pieces, crc32c=encoder.crc32c)
        error = self._encoders["joints"].error
        self._shards.append(Shard(**files, clips=self._clips, rows=self._rows, error=error))
        self._start_shard()


def part_key(array: str, task: int, part: int) -> str:
    """Return the key under which a task's shard is written: its likely final one for the first."""
    return shard_key(array, task, dimensions=DIMENSIONS[array]) if part == 0 else f"{array}/more/{task}-{part}"


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
