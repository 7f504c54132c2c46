"""The work of a task: read, clean, resample and store its samples, usually into one shard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from blake3 import blake3

from smae import interrupts
from smae.data.prepare import UNITS, PrepareSettings
from smae.data.prepare.plan import Task
from smae.data.raw.recording import MISSING, Clip
from smae.data.raw.source import Refused, Sample, make_source, parse_sample
from smae.data.store.file_store import FileStore
from smae.data.store.shards import Shard, ShardWriter
from smae.errors import BadRecording, NoBody
from smae.skeleton import Layout


class SampleOutcome(NamedTuple):
    """What became of one sample; a tuple, since there are a hundred thousand of them.

    Attributes:
        name: of the sample.
        source: BLAKE3 of its bytes, hex; empty where it could not be read.
        frames: T of its clip, 0 without one.
        bodies: M of its clip, 0 without one.
        notes: counts of oddities that were accepted, or None.
        excluded: rule by which it is left out (``no-body``), or empty.
        refused: why it is quarantined, or None.
    """

    name: str
    source: str = ""
    frames: int = 0
    bodies: int = 0
    notes: dict[str, int] | None = None
    excluded: str = ""
    refused: Refused | None = None

    @property
    def rows(self) -> int:
        """Rows of its clip in the store."""
        return self.frames * self.bodies

    @classmethod
    def from_json(cls, values: list[Any]) -> SampleOutcome:
        """Return the outcome from its values, ``refused`` as a dictionary."""
        outcome = cls(*values)
        if values[-1]:
            return outcome._replace(refused=Refused(**values[-1]))
        return outcome._replace(refused=None)


@dataclass(frozen=True)
class TaskResult:
    """The result of a task.

    Attributes:
        task: its number.
        shards: shards written, in order; usually one, none where there is no clip.
        outcomes: one per sample, in order.
        size: bytes read.
    """

    task: int
    shards: tuple[Shard, ...]
    outcomes: tuple[SampleOutcome, ...]
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, except for the dataclasses in ``outcomes``."""
        return {"shards": [shard.to_json() for shard in self.shards], "outcomes": self.outcomes, "size": self.size}

    @classmethod
    def from_json(cls, task: int, values: dict[str, Any]) -> TaskResult:
        """Invert ``to_json``."""
        return cls(
            task=task,
            shards=tuple(Shard.from_json(shard) for shard in values["shards"]),
            outcomes=tuple(SampleOutcome.from_json(outcome) for outcome in values["outcomes"]),
            size=values["size"],
        )


class Worker:
    """Does tasks, one after another.

    Args:
        raw: the raw folder or zip.
        root: where the store is being written.
        settings: see ``PrepareSettings``.
        layout: joint layout of the samples.
        durable: flush each shard to the disk, where the journal's machine cannot do it.
    """

    def __init__(
        self, raw: Path, root: FileStore, settings: PrepareSettings, layout: Layout, *, durable: bool = False
    ) -> None:
        # Imported where the work is done: a process that only hands out tasks needs no compiled
        # kernels.
        from smae.data.clean.cleaning import clean
        from smae.data.prepare.fast_path import fast_path

        self._settings, self._layout, self._clean = settings, layout, clean
        self._source = make_source(settings.source, layout if settings.layout else None)
        self._reader = self._source.reader(raw)
        self._writer = ShardWriter(root, layout=layout, codec=settings.codec, durable=durable)
        self._fast_path = fast_path(self._source, settings, layout)

    def __call__(self, task: Task) -> TaskResult:
        """Write the shard; return the outcomes. A bad sample is an outcome, never an error."""
        self._writer.begin(task.number)
        outcomes = tuple(self._do_sample(sample) for sample in task.samples)
        return TaskResult(task.number, self._writer.end(), outcomes, task.size)

    def close(self) -> None:
        self._reader.close()

    def _do_sample(self, sample: Sample) -> SampleOutcome:
        # An unfinished task is not in the journal, so a resumed run does it again.
        interrupts.check()
        data: bytes | memoryview | None = None
        try:
            data = self._reader.read(sample)
            if self._fast_path is not None:
                rows, frames = self._fast_path(data, *self._writer.free_rows())
                if rows:
                    self._writer.commit(rows)
                    notes = None
                    if frames > rows:
                        notes = {"empty-frames": frames - rows}
                    return SampleOutcome(sample.name, _blake3(data), frames=rows, bodies=1, notes=notes)
            clip, notes = self._make_clip(data)
            if problem := self._writer.rejection(clip):
                raise BadRecording(*problem)
        except BadRecording as error:
            return SampleOutcome(sample.name, source=_blake3(data), refused=_refused(sample, data, error))
        except NoBody:
            return SampleOutcome(sample.name, source=_blake3(data), excluded="no-body")
        self._writer.append(clip)
        bodies, frames = clip.joints.shape[:2]
        return SampleOutcome(sample.name, source=_blake3(data), frames=frames, bodies=bodies, notes=notes)

    def _make_clip(self, data: bytes | memoryview) -> tuple[Clip, dict[str, int] | None]:
        settings = self._settings
        # Each source parses what its own reader gives.
        options = {"max_range": settings.max_range, "scale": UNITS[settings.unit or "m"]}
        parsed = parse_sample(self._source, cast("bytes", data), strict=settings.strict, **options)
        clip = parsed
        if not isinstance(clip, Clip):
            clip = self._clean(clip, mode=settings.mode, layout=self._layout)
        if settings.frames is not None:
            clip = _resampled(clip, settings.frames)
        return clip, {**parsed.notes, **clip.notes} or None


def _blake3(data: bytes | memoryview | None) -> str:
    if data is None:
        return ""
    return blake3(data).hexdigest()


def _resampled(clip: Clip, frames: int) -> Clip:
    from smae.data.clean.cleaning import resample, resample_state

    joints, state = resample(clip.joints, frames), resample_state(clip.state, frames)
    # A frame between a seen and an unseen one is unknown, even where the nearer of the two was
    # seen.
    state[np.isnan(joints).any(-1)] = MISSING
    return Clip(joints=joints, state=state, notes=clip.notes)


def _refused(sample: Sample, data: bytes | memoryview | None, error: BadRecording) -> Refused:
    sha256 = ""
    if data is not None:
        sha256 = hashlib.sha256(data).hexdigest()
    place = error.line, error.column, error.excerpt
    return Refused(sample.where, error.code, error.message, sample.size, sha256, *place)
