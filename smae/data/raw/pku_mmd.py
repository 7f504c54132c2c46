"""PKU-MMD: long videos with marked actions; each marked action is one sample (Liu et al., 2017).

A folder holds, at any depth, the skeletons (``0002-L.txt``: one line per frame, 2 bodies x 25
joints x 3 metres), in another folder the labels under the same names (lines of
``label,start,end,confidence``; frames from 0, end excluded, which is assumed), and split files
(``cross-subject.txt``, ``cross-view.txt``: the names of the training videos on the second line).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from smae.data.raw.recording import TRACKED, Recording
from smae.data.raw.source import BaseSource, Inventory, Refused, Sample
from smae.data.store.clip_table import TEST, TRAIN, ClipFacts
from smae.errors import BadRecording, ConfigError, DataError
from smae.skeleton import NTU25

_VIDEO = re.compile(r"([0-9A-Z]{4})-([LMR])")
_CAMERAS = {"L": 1, "M": 2, "R": 3}
_MARK = re.compile(r"\s*(\d{1,3})\s*,\s*(\d{1,7})\s*,\s*(\d{1,7})\s*(?:,.*)?")
_SPLITS = {"subject": "xsub", "view": "xview"}
_FIELDS = 150
_MAX_VIDEO = 512 * 2**20


class PkuMmdSource(BaseSource):
    """PKU-MMD I or II, unpacked as it is distributed; cameras are 1 for L, 2 for M, 3 for R."""

    dataset_name = "pku-mmd"

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return one sample per marked action; reads the labels, not the skeletons."""
        if not raw.is_dir():
            raise ConfigError(f"expected the folder of PKU-MMD at {raw}: skeletons, labels and splits in it")
        texts = sorted(path for path in raw.rglob("*.txt") if path.is_file() and not path.is_symlink())
        pairs = _pairs([path for path in texts if _VIDEO.fullmatch(path.stem)])
        samples: list[Sample] = []
        refused: list[Refused] = []
        for video, (labels, skeletons) in pairs.items():
            try:
                where, size = skeletons.relative_to(raw).as_posix(), skeletons.stat().st_size
                samples += self._actions(video, where, size, labels)
            except ValueError as error:
                refused.append(Refused(labels.relative_to(raw).as_posix(), "label", str(error)))
        for path in texts:
            for word, short in _SPLITS.items():
                if path.stem.lower().replace("_", "-").startswith(f"cross-{word}"):
                    self._splits[short] = _roles(path, samples)
        looked_for = "videos such as 0002-L.txt, once with skeletons and once, in another folder, with labels"
        return Inventory(tuple(sorted(samples)), tuple(refused), len(texts) - 2 * len(pairs), looked_for)

    def _actions(self, video: str, path: str, size: int, labels: Path) -> list[Sample]:
        """Return the samples of one video; the member is the range of frames."""
        samples = []
        lines = [line for line in labels.read_text("ascii").splitlines() if line.strip()]
        marks = [_MARK.fullmatch(line) for line in lines]
        if not all(marks):
            raise ValueError(f"line {marks.index(None) + 1}: expected label,start,end,confidence")
        spans = [tuple(int(number) for number in mark.groups()) for mark in marks if mark is not None]
        longest = max((end for _, _, end in spans), default=1)
        for number, (label, start, end) in enumerate(spans):
            if start >= end:
                raise ValueError(f"line {number + 1}: the action ends at {end}, before it starts at {start}")
            name = f"{video}-{number:03}"
            self._facts[name] = ClipFacts(name, f"A{label:03}", camera=_CAMERAS[video[-1]], replication=number)
            samples.append(Sample(name, path, f"{start}-{end}", size * (end - start) // longest))
        return samples

    def reader(self, raw: Path) -> PkuReader:
        """Return a reader of the actions."""
        return PkuReader(raw)

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Parse the lines of one action; a body is present where its numbers are not all 0."""
        try:
            numbers = np.array([line.split() for line in data.splitlines()], np.float64)
        except ValueError as error:
            raise BadRecording("number", f"expected {_FIELDS} numbers a line ({str(error)[:80]})") from error
        if numbers.ndim != 2 or numbers.shape[1] != _FIELDS or not len(numbers):
            raise BadRecording("fields", f"expected {_FIELDS} numbers a line, found {list(numbers.shape)}")
        xyz = numbers.reshape(len(numbers), 2, len(NTU25), 3)
        if not np.isfinite(xyz).all() or np.abs(xyz).max() > max_range:
            raise BadRecording("range", f"a number that is not finite, or beyond {max_range:g} m")
        frame, body = np.nonzero(xyz.any(axis=(2, 3)))
        rows = xyz[frame, body].astype(np.float32)
        state = np.full(rows.shape[:2], TRACKED, np.uint8)
        return Recording(len(xyz), frame.astype(np.int32), body.astype(np.uint64), rows, state)


class PkuReader:
    """Reads ranges of lines; keeps the last video, which the next sample mostly needs."""

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self._path = ""
        self._lines: list[bytes] = []

    def read(self, sample: Sample) -> bytes:
        """Return the lines of one action."""
        if sample.path != self._path:
            try:
                with open(self._raw / sample.path, "rb") as file:
                    data = file.read(_MAX_VIDEO + 1)
            except OSError as error:
                raise BadRecording("io", f"cannot be read: {error.strerror}") from error
            if len(data) > _MAX_VIDEO:
                raise BadRecording("size", f"more than {_MAX_VIDEO:,} bytes")
            self._path, self._lines = sample.path, data.splitlines(keepends=True)
        start, end = (int(number) for number in sample.member.split("-"))
        if start >= len(self._lines):
            raise BadRecording("label", f"marked from frame {start} on, and the video has {len(self._lines)}")
        return b"".join(self._lines[start:end])

    def close(self) -> None:
        """Release the lines."""
        self._lines = []


def _pairs(files: list[Path]) -> dict[str, list[Path]]:
    """Return [labels, skeletons] by video: the larger of its two files has the skeletons."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(path.stem, []).append(path)
    for video, paths in found.items():
        if len(paths) != 2:
            listed = ", ".join(map(str, paths))
            raise DataError(f"video {video}: expected a file of skeletons and one of labels, found {listed}")
        paths.sort(key=lambda path: path.stat().st_size)
    return found


def _roles(path: Path, samples: list[Sample]) -> dict[str, int]:
    lines = path.read_text("ascii", "replace").splitlines()
    if len(lines) < 2:
        raise DataError(
            f"{path}: expected the names of the training videos on its second line, found {len(lines)} lines"
        )
    train = {name.strip() for name in lines[1].split(",")}
    return {sample.name: TRAIN if sample.name.rpartition("-")[0] in train else TEST for sample in samples}
