"""One batch of samples in, arrays and outcomes out: the pure function that prepare's workers compute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from smae.data.preparing.outcome import Outcome
from smae.data.preparing.plan import Settings
from smae.data.recording import MISSING, Clip
from smae.data.sources import SOURCES, Refused, Sample
from smae.errors import BadRecording, NoBody
from smae.skeleton import Layout

if TYPE_CHECKING:
    from smae.data.cleaning.clean import Mode


@dataclass(frozen=True)
class BatchResult:
    """A batch's clips end to end, and one outcome a sample.

    Attributes:
        joints: float32 [R, V, 3], metres.
        state: uint8 [R, V].
        outcomes: in the batch's order; their rows add up to R.
        size: bytes read.
    """

    joints: NDArray[np.float32]
    state: NDArray[np.uint8]
    outcomes: tuple[Outcome, ...]
    size: int


class Transform:
    """Reads, cleans and resamples batches of samples under one raw folder.

    Args:
        raw: the raw folder or zip.
        settings: what to do.
        layout: joint layout of the samples.
    """

    def __init__(self, raw: Path, settings: Settings, layout: Layout) -> None:
        self._settings, self._layout = settings, layout
        self._source = SOURCES.get(settings.source)()
        self._reader = self._source.reader(raw)

    def __call__(self, batch: Sequence[Sample]) -> BatchResult:
        """Return the batch's rows and outcomes; a bad sample is an outcome, never an error."""
        done = [self._sample(sample) for sample in batch]
        clips = [clip for _, clip in done if clip is not None]
        joints_count = len(self._layout)
        joints = [clip.joints.reshape(-1, joints_count, 3) for clip in clips]
        state = [clip.state.reshape(-1, joints_count) for clip in clips]
        return BatchResult(
            joints=np.concatenate(joints) if joints else np.empty((0, joints_count, 3), np.float32),
            state=np.concatenate(state) if state else np.empty((0, joints_count), np.uint8),
            outcomes=tuple(outcome for outcome, _ in done),
            size=sum(sample.size for sample in batch),
        )

    def close(self) -> None:
        """Close the archives that are open."""
        self._reader.close()

    def _sample(self, sample: Sample) -> tuple[Outcome, Clip | None]:
        # Imported where the work is done: a process that only hands out batches needs no compiled kernels.
        from smae.data.cleaning.clean import clean

        digest = ""
        try:
            data = self._reader.read(sample)
            digest = hashlib.sha256(data).hexdigest()
            settings = self._settings
            parsed = self._source.parse(data, strict=settings.strict, max_range=settings.max_range)
            if isinstance(parsed, Clip):
                clip = parsed
            else:
                clip = clean(parsed, mode=cast("Mode", settings.mode), layout=self._layout)
        except BadRecording as error:
            return Outcome(sample.name, source=digest, refused=_refused(sample, digest, error)), None
        except NoBody:
            return Outcome(sample.name, source=digest, excluded="no-body"), None
        if self._settings.frames is not None:
            clip = _resampled(clip, self._settings.frames)
        bodies, frames = clip.joints.shape[:2]
        notes = {**parsed.notes, **clip.notes}
        return Outcome(sample.name, source=digest, frames=frames, bodies=bodies, notes=notes), clip


def _resampled(clip: Clip, frames: int) -> Clip:
    from smae.data.cleaning.resample import resample, resample_state

    joints, state = resample(clip.joints, frames), resample_state(clip.state, frames)
    # A frame between a seen and an unseen one is unknown, though the nearer of the two may have been seen.
    state[np.isnan(joints).any(-1)] = MISSING
    return Clip(joints=joints, state=state, notes=clip.notes)


def _refused(sample: Sample, digest: str, error: BadRecording) -> Refused:
    return Refused(
        path=sample.where,
        code=error.code,
        message=error.message,
        size=sample.size,
        sha256=digest,
        line=error.line,
        column=error.column,
        excerpt=error.excerpt,
    )
