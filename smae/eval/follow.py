"""Classes of a recording that is being made: an answer for each window once it is complete."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smae import interrupts, progress
from smae.data.prepare import UNITS
from smae.data.raw.recording import RATE, Clip, Recording
from smae.data.raw.recordings import GrowingFile, source_of
from smae.data.raw.source import make_source, parse_sample
from smae.data.store.convert import check_joints
from smae.errors import ConfigError, DataError, NoBody
from smae.eval.export import LoadedEncoder
from smae.eval.predict import first_five, load_head, probabilities
from smae.eval.raw_clips import cut, prepare_clip, windows_of
from smae.train.distributed import pick_device

logger = logging.getLogger(__name__)

POLL = 0.05
"""Seconds between two looks at the file."""


@dataclass(frozen=True)
class WindowPrediction:
    """Predicted classes of one window of a followed recording.

    Attributes:
        path: the file.
        start, stop: the window's first frame, and the frame after its last.
        seconds: the same in seconds of the recording.
        label: the most probable class; None where no body was recorded.
        name: the class in words; empty without a label.
        probability: its softmax probability, not calibrated; 0 without a label.
        first: the most probable classes with their probabilities, at most five.
        bodies: in the window.
    """

    path: str
    start: int
    stop: int
    seconds: tuple[float, float]
    label: str | None
    name: str
    probability: float
    first: tuple[tuple[str, float], ...]
    bodies: int


def follow(
    path: Path | str,
    *,
    run: Path | str | None = None,
    head: Path | str | None = None,
    probe: str | None = None,
    protocol: str | None = None,
    stride: float | None = None,
    idle: float | None = None,
    device: str = "auto",
) -> Iterator[WindowPrediction]:
    """Classify a ``.skeleton`` file while it is written, window by window.

    Windows are those of ``predict`` for a long recording: the median length of the training clips,
    the last one ending with the recording. What is not there yet is waited for; a file that is cut
    or replaced is read from its beginning again.

    Args:
        path: the file, there or not.
        run, head, probe, protocol: see ``predict``.
        stride: seconds between two windows; default 1.
        idle: end after so many seconds without a new frame; None: go on until interrupted.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        ConfigError: no ``.skeleton`` file, or wrong options.
        BadRecording: a frame breaks the format.
        DataError: no usable head, one of another joint layout, or no frame came.
        Interrupted: Ctrl-C or SIGTERM.
    """
    path = Path(path)
    if source_of(path, "") != "ntu" and path.suffix != ".skeleton":
        raise ConfigError(f"{path}: only .skeleton files can be followed: give others to smae predict when complete")
    if idle is not None and not idle > 0:
        raise ConfigError(f"--idle {idle:g}: expected seconds above 0")
    _, model, _ = load_head(head, run=run, protocol=protocol, probe=probe)
    follower = Follower(path, model, stride=stride, device=device)
    return follower.answers(idle)


class Follower:
    """Answers for the windows of one growing file.

    Args:
        path: the file.
        model: a classifier.
        stride, device: see ``follow``.

    Attributes:
        file: the file, read frame by frame.
    """

    def __init__(self, path: Path, model: LoadedEncoder, *, stride: float | None = None, device: str = "auto") -> None:
        source, prepared = make_source("ntu"), model.config.prepared
        check_joints(source.layout, model.layout, where=path)

        def parse(data: bytes) -> Recording:
            strict, limit, scale = prepared.strict, prepared.max_range, UNITS[prepared.unit or "m"]
            parsed = parse_sample(source, data, strict=strict, max_range=limit, scale=scale)
            assert isinstance(parsed, Recording)
            return parsed

        self.file, self._model, self._device = GrowingFile(path, parse), model, pick_device(device)
        assert model.config.head is not None, "load_head has looked"
        self._classes = model.config.head.classes
        self._names = dict(zip(self._classes, model.config.head.names or self._classes, strict=True))
        self._windows = windows_of(prepared, frames=model.config.augment.frames, stride=stride)
        self._prepared, self._layout = prepared, source.layout
        self._restarts = -1
        self._begin()

    def _begin(self) -> None:
        # Frames before the next window are dropped: memory does not grow with the recording.
        self._kept: Recording | None = None
        self._first = self._next = self._answered = 0
        self._restarts = self.file.restarts

    def answers(self, idle: float | None = None) -> Iterator[WindowPrediction]:
        """Yield an answer for each complete window, and at the end one for the last frames."""
        seconds = self._windows.frames / RATE
        logger.info(f"following {self.file.path}: windows of {seconds:.1f} s, every {self._windows.stride / RATE:g} s")
        last = time.monotonic()
        while idle is None or time.monotonic() - last < idle:
            interrupts.check()
            found = self.update()
            if found is None:
                time.sleep(POLL)
                continue
            yield from found
            last = time.monotonic()
        new = self.file.finish()
        if new is not None:
            yield from self.add(new)
        if not self.file.frames:
            raise DataError(f"{self.file.path}: no whole frame came in {idle:g} s: is it the file that is written?")
        yield from self.rest()
        logger.info(f"{self.file.path}: no new frame in {idle:g} s, ended after {self.file.frames:,} frames")

    def update(self) -> list[WindowPrediction] | None:
        """Return the answers for the windows that new frames complete; None if no frame is new."""
        new = self.file.read()
        if self.file.restarts != self._restarts:
            self._begin()
        return None if new is None else self.add(new)

    def add(self, new: Recording) -> list[WindowPrediction]:
        """Return the answers for the windows that new frames complete."""
        kept = new if self._kept is None else _joined(self._kept, new)
        end = self._first + kept.frames
        starts = list(range(self._next, end - self._windows.frames + 1, self._windows.stride))
        if starts:
            self._next = starts[-1] + self._windows.stride
        found = self._classify(kept, [(start, start + self._windows.frames) for start in starts])
        # The last window of all ends with the recording, whose end may be here.
        keep = max(self._first, min(self._next, end - self._windows.frames))
        self._kept, self._first = cut(kept, keep - self._first, kept.frames), keep
        return found

    def rest(self) -> list[WindowPrediction]:
        """Return the answer for the window that ends with the recording, unless it was given."""
        assert self._kept is not None
        end = self._first + self._kept.frames
        if end == self._answered:
            return []
        return self._classify(self._kept, [(max(self._first, end - self._windows.frames), end)])

    def _classify(self, kept: Recording, windows: Sequence[tuple[int, int]]) -> list[WindowPrediction]:
        clips = list[Clip | None]()
        for start, stop in windows:
            window = cut(kept, start - self._first, stop - self._first)
            try:
                clips.append(prepare_clip(window, self._prepared, own=self._layout, layout=self._model.layout))
            except NoBody:
                clips.append(None)
            self._answered = stop
        # Answers of a moment need no bar.
        with progress.reporting(None):
            rows = iter(probabilities([clip for clip in clips if clip], self._model, self._device))
        found = []
        for (start, stop), clip in zip(windows, clips, strict=True):
            seconds = (start / RATE, stop / RATE)
            one = WindowPrediction(str(self.file.path), start, stop, seconds, None, "", 0.0, (), 0)
            if clip is not None:
                first = first_five(next(rows), self._classes)
                label, probability = first[0]
                name, bodies = self._names[label], len(clip.joints)
                one = replace(one, label=label, name=name, probability=probability, first=first, bodies=bodies)
            found.append(one)
        return found


def _joined(before: Recording, after: Recording) -> Recording:
    """Return two recordings one after the other."""
    return Recording(
        frames=before.frames + after.frames,
        frame=np.concatenate([before.frame, after.frame + np.int32(before.frames)]),
        body=np.concatenate([before.body, after.body]),
        xyz=np.concatenate([before.xyz, after.xyz]),
        state=np.concatenate([before.state, after.state]),
    )
