"""One task in, one shard and one outcome a sample out: what prepare's workers compute."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from blake3 import blake3

from smae.data.prepare.outcome import Outcome
from smae.data.prepare.plan import Settings, Task
from smae.data.raw.recording import MISSING, Clip
from smae.data.raw.source import SOURCES, Refused, Sample
from smae.data.store.file_store import FileStore
from smae.data.store.shards import Shard, ShardWriter
from smae.errors import BadRecording, NoBody
from smae.skeleton import Layout

if TYPE_CHECKING:
    from smae.data.clean.cleaning import Mode


@dataclass(frozen=True)
class TaskResult:
    """What came of a task.

    Attributes:
        task: its number.
        shards: what was written of its clips, in order; usually one, none where there is no clip.
        outcomes: one a sample, in order.
        size: bytes read.
    """

    task: int
    shards: tuple[Shard, ...]
    outcomes: tuple[Outcome, ...]
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, but for the dataclasses in the outcomes."""
        return {"shards": [shard.to_json() for shard in self.shards], "outcomes": self.outcomes, "size": self.size}

    @classmethod
    def from_json(cls, task: int, values: dict[str, Any]) -> TaskResult:
        """Return what ``to_json`` gave."""
        return cls(
            task=task,
            shards=tuple(Shard.from_json(shard) for shard in values["shards"]),
            outcomes=tuple(Outcome.from_json(outcome) for outcome in values["outcomes"]),
            size=values["size"],
        )


class Transform:
    """Reads, cleans, resamples and stores the samples of tasks.

    Args:
        raw: the raw folder or zip.
        root: files of the store being written.
        settings: what to do.
        layout: joint layout of the samples.
        safe: wait until each shard survives a power cut: on another machine, whoever notes that it is done cannot.
    """

    def __init__(self, raw: Path, root: FileStore, settings: Settings, layout: Layout, *, safe: bool = False) -> None:
        # Imported where the work is done: a process that only hands out tasks needs no compiled kernels.
        from smae.data.clean.cleaning import clean
        from smae.data.prepare.fast_path import usual_way

        self._settings, self._layout, self._clean = settings, layout, clean
        self._source = SOURCES.get(settings.source)()
        self._reader = self._source.reader(raw)
        self._writer = ShardWriter(root, layout=layout, codec=settings.codec, durable=safe)
        self._usual = usual_way(self._source, settings, layout)

    def __call__(self, task: Task) -> TaskResult:
        """Write the task's shard and return the outcomes; a bad sample is an outcome, never an error.

        Raises:
            EnvironmentFault: the disk refused.
        """
        self._writer.begin(task.number)
        outcomes = tuple(self._sample(sample) for sample in task.samples)
        return TaskResult(task.number, self._writer.end(), outcomes, task.size)

    def close(self) -> None:
        """Close the archives that are open."""
        self._reader.close()

    def _sample(self, sample: Sample) -> Outcome:
        data: bytes | memoryview | None = None
        try:
            data = self._reader.read(sample)
            if self._usual is not None:
                rows, frames = self._usual(data, *self._writer.free_rows())
                if rows:
                    self._writer.commit(rows)
                    notes = {"empty-frames": frames - rows} if frames > rows else None
                    return Outcome(sample.name, _blake3(data), frames=rows, bodies=1, notes=notes)
            clip, notes = self._clip(data)
            if problem := self._writer.rejection(clip):
                raise BadRecording(*problem)
        except BadRecording as error:
            return Outcome(sample.name, source=_blake3(data), refused=_refused(sample, data, error))
        except NoBody:
            return Outcome(sample.name, source=_blake3(data), excluded="no-body")
        self._writer.append(clip)
        bodies, frames = clip.joints.shape[:2]
        return Outcome(sample.name, source=_blake3(data), frames=frames, bodies=bodies, notes=notes)

    def _clip(self, data: bytes | memoryview) -> tuple[Clip, dict[str, int] | None]:
        settings = self._settings
        # Each source parses what its own reader gives.
        parsed = self._source.parse(cast("bytes", data), strict=settings.strict, max_range=settings.max_range)
        if isinstance(parsed, Clip):
            clip = parsed
        else:
            clip = self._clean(parsed, mode=cast("Mode", settings.mode), layout=self._layout)
        if settings.frames is not None:
            clip = _resampled(clip, settings.frames)
        return clip, {**parsed.notes, **clip.notes} if parsed.notes or clip.notes else None


def _blake3(data: bytes | memoryview | None) -> str:
    return "" if data is None else blake3(data).hexdigest()


def _resampled(clip: Clip, frames: int) -> Clip:
    from smae.data.clean.resampling import resample, resample_state

    joints, state = resample(clip.joints, frames), resample_state(clip.state, frames)
    # A frame between a seen and an unseen one is unknown, though the nearer of the two may have been seen.
    state[np.isnan(joints).any(-1)] = MISSING
    return Clip(joints=joints, state=state, notes=clip.notes)


def _refused(sample: Sample, data: bytes | memoryview | None, error: BadRecording) -> Refused:
    return Refused(
        path=sample.where,
        code=error.code,
        message=error.message,
        size=sample.size,
        sha256="" if data is None else hashlib.sha256(data).hexdigest(),
        line=error.line,
        column=error.column,
        excerpt=error.excerpt,
    )
