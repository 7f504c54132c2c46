"""Shared by data sets with one person and one file per clip, named by class and subject."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.discovery import FileReader, find_files
from smae.data.raw.recording import TRACKED, Recording
from smae.data.raw.source import BaseSource, Inventory
from smae.data.store.clip_table import ClipFacts
from smae.errors import BadRecording
from smae.skeleton import KINECT20, Layout


def single_body_recording(xyz: NDArray[Any], *, layout: Layout, strict: bool, max_range: float) -> Recording:
    """Return the recording of one body that is present in every frame, after NTU's checks.

    Args:
        xyz: float [T, V, 3], metres, in the layout's order; NaN where a joint is missing.
        layout: joint layout.
        strict: refuse NaN.
        max_range: largest accepted coordinate, metres.

    Raises:
        BadRecording: no frame, other joints, infinite numbers, or coordinates out of range.
    """
    if xyz.ndim != 3 or xyz.shape[1:] != (len(layout), 3):
        raise BadRecording("joint-count", f"expected [T, {len(layout)}, 3], found {list(xyz.shape)}")
    if not len(xyz):
        raise BadRecording("no-frames", "expected a frame at least")
    gaps = int(np.isnan(xyz).any(axis=2).sum())
    if np.isinf(xyz).any() or (strict and gaps):
        raise BadRecording("non-finite", "NaN or infinite coordinates")
    largest = float(np.nanmax(np.abs(xyz), initial=0))
    if largest > max_range:
        raise BadRecording("range", f"{largest:g} m from the sensor; at most {max_range:g} m are accepted")
    frames = len(xyz)
    return Recording(
        frames=frames,
        frame=np.arange(frames, dtype=np.int32),
        body=np.zeros(frames, np.uint64),
        xyz=xyz.astype(np.float32),
        state=np.full(xyz.shape[:2], TRACKED, np.uint8),
        notes={"nan": gaps} if gaps else {},
    )


class SingleBodySource(BaseSource):
    """Finds and reads the files; subclasses parse them and interpret their names.

    Attributes:
        form: of a sample's name (a file name without its suffix), with its numbers as groups.
        suffix: of the files.
        example: of a file name, for messages.
        split: name of the data set's split.
    """

    layout = KINECT20
    form: ClassVar[re.Pattern[str]]
    suffix: ClassVar[str]
    example: ClassVar[str]
    split: ClassVar[str]

    def describe(self, name: str, *numbers: int) -> tuple[ClipFacts, int]:
        """Return facts and role (train or test) of a sample by the numbers in its name."""
        raise NotImplementedError

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples under a folder or zip."""
        found = find_files(
            raw,
            suffix=self.suffix,
            valid=lambda name: self.form.fullmatch(name) is not None,
            strict_names=strict_names,
            looked_for=f"files or zip members named like {self.example}",
        )
        roles = self._splits[self.split] = {}
        for name in (sample.name for sample in found.samples):
            numbers = [int(digits) for match in self.form.finditer(name) for digits in match.groups()]
            self._facts[name], roles[name] = self.describe(name, *numbers)
        return found

    def reader(self, raw: Path) -> FileReader:
        """Return a reader of the samples under ``raw``."""
        return FileReader(raw)
