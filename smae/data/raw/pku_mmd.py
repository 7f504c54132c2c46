"""PKU-MMD: long videos with marked actions; each marked action is one sample (Liu et al., 2017).

A folder holds, at any depth, the skeletons (``0002-L.txt``, in phase II ``A01N01-L.txt``: one line
per frame, 2 bodies x 25 joints x 3 metres), in another folder the labels under the same names (lines
of ``label,start,end,confidence``; frames from 0, end excluded, which is assumed), and split files
(``cross-subject.txt``, ``cross-view.txt``, in phase II with ``_v2``: the names of the training videos
on the second line, those of the validation videos, which results are reported on, on the fourth).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from smae.data.raw.recording import Recording
from smae.data.raw.single_body import bodies_recording
from smae.data.raw.source import BaseSource, Inventory, Refused, Sample
from smae.data.store.clips import ClipFacts
from smae.data.store.splits import TEST, TRAIN
from smae.errors import BadRecording, ConfigError, DataError
from smae.skeleton import NTU25

logger = logging.getLogger(__name__)

_VIDEO = re.compile(r"(A[0-9]{2}N[0-9]{2}|[0-9]{4})-([LMR])")
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
        pairs, refused = _pairs([path for path in texts if _VIDEO.fullmatch(path.stem)], raw)
        samples: list[Sample] = []
        for video, (labels, skeletons) in pairs.items():
            found, bad = self._actions(video, labels, skeletons, raw)
            samples += found
            refused += bad
        self._find_splits(texts, samples)
        looked_for = (
            "videos such as 0002-L.txt or A01N01-L.txt, once with skeletons and once, in another folder, with labels"
        )
        used = 2 * len(pairs) + sum(refusal.code == "pair" for refusal in refused)
        return Inventory(tuple(sorted(samples)), tuple(refused), len(texts) - used, looked_for)

    def _actions(self, video: str, labels: Path, skeletons: Path, raw: Path) -> tuple[list[Sample], list[Refused]]:
        """Return a video's samples, whose member is a range of frames, and bad label lines."""
        samples, refused = [], []
        spans: list[tuple[int, int, int, int]] = []
        lines = [line for line in labels.read_text("ascii", "replace").splitlines() if line.strip()]
        for number, line in enumerate(lines):
            match = _MARK.fullmatch(line)
            problem = "expected label,start,end,confidence"
            if match is not None:
                label, start, end = (int(digits) for digits in match.groups())
                problem = f"the action ends at {end}, before it starts at {start}"
                if start < end:
                    spans.append((number, label, start, end))
                    continue
            where = labels.relative_to(raw).as_posix()
            refused.append(Refused(where, "label", problem, line=number + 1, column=1, excerpt=ascii(line)[1:-1][:60]))
        path, size = skeletons.relative_to(raw).as_posix(), skeletons.stat().st_size
        longest = max((end for *_, end in spans), default=1)
        for number, label, start, end in spans:
            name = f"{video}-{number:03}"
            self._facts[name] = ClipFacts(name, f"A{label:03}", camera=_CAMERAS[video[-1]], replication=number)
            samples.append(Sample(name, path, f"{start}-{end}", size * (end - start) // longest))
        return samples, refused

    def _find_splits(self, texts: list[Path], samples: list[Sample]) -> None:
        """Read the lists of both phases: ``pku1-xsub`` and ``pku2-xsub`` where both are there."""
        phases = sorted({_phase(sample.name) for sample in samples})
        lists: dict[str, tuple[Path, dict[str, set[str]]]] = {}
        for path in texts:
            for word, short in _SPLITS.items():
                if not path.stem.lower().replace("_", "-").startswith(f"cross-{word}"):
                    continue
                parts = _read_list(path)
                phase = _phase(next(iter(parts["train"])))
                name = short if len(phases) < 2 else f"pku{phase}-{short}"
                if phase not in phases:
                    logger.info("%s: no video of its phase is here: it is left out", path)
                elif name in lists and lists[name][1] != parts:
                    raise DataError(f"{lists[name][0]} and {path} are different lists of split {name}: keep one")
                else:
                    lists[name] = path, parts
        for name, (path, parts) in lists.items():
            phase = _phase(next(iter(parts["train"])))
            self._splits[name] = _roles(path, parts, [one.name for one in samples if _phase(one.name) == phase])

    def reader(self, raw: Path) -> PkuReader:
        return PkuReader(raw)

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Parse the lines of one action; a body is present where its numbers are not all 0."""
        try:
            numbers = np.array([line.split() for line in data.splitlines()], np.float64)
        except ValueError as error:
            raise BadRecording("number", f"expected {_FIELDS} numbers a line ({str(error)[:80]})") from error
        if numbers.ndim != 2 or numbers.shape[1] != _FIELDS:
            raise BadRecording("fields", f"expected {_FIELDS} numbers a line, found {list(numbers.shape)}")
        xyz = numbers.reshape(len(numbers), 2, len(NTU25), 3)
        return bodies_recording(xyz, layout=self.layout, strict=True, max_range=max_range)


class PkuReader:
    """Reads ranges of lines; keeps the last video, which the next sample mostly needs."""

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self._path = ""
        self._lines: list[bytes] = []

    def read(self, sample: Sample) -> bytes:
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
        self._lines = []


def _pairs(files: list[Path], raw: Path) -> tuple[dict[str, tuple[Path, Path]], list[Refused]]:
    """Return (labels, skeletons) by video, the larger file, and what has no partner."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(path.stem, []).append(path)
    pairs: dict[str, tuple[Path, Path]] = {}
    refused = []
    for video, paths in found.items():
        if len(paths) == 2:
            labels, skeletons = sorted(paths, key=lambda path: path.stat().st_size)
            pairs[video] = labels, skeletons
            continue
        listed = [path.relative_to(raw).as_posix() for path in paths]
        message = f"video {video}: expected a file of skeletons and one of labels, found {', '.join(listed)}"
        refused += [Refused(where, "pair", message) for where in listed]
    return pairs, refused


def _phase(name: str) -> int:
    """Return the phase of a video, or of an action in it, by its name."""
    return 2 if name.startswith("A") else 1


def _read_list(path: Path) -> dict[str, set[str]]:
    """Return a split file's videos by part; ``test`` is missing where it is not listed."""
    lines = path.read_text("ascii", "replace").splitlines()
    parts = {
        part: {name.strip() for name in lines[row].split(",") if name.strip()}
        for part, row in (("train", 1), ("test", 3))
        if row < len(lines)
    }
    wrong = [name for names in parts.values() for name in sorted(names) if not _VIDEO.fullmatch(name)]
    if not parts.get("train") or wrong:
        shown = f"{len(lines)} lines" if not wrong else f"'{ascii(wrong[0])[1:41]}'"
        raise DataError(
            f"{path}: expected the names of the training videos, with commas between them, on its "
            f"second line and those of the validation videos on its fourth, found {shown}"
        )
    both = sorted(parts["train"] & parts.get("test", set()))
    if both:
        raise DataError(f"{path}: {len(both)} videos are in both lists: {', '.join(both[:3])}: mend the file")
    return parts


def _roles(path: Path, parts: dict[str, set[str]], names: list[str]) -> dict[str, int]:
    """Return the roles of samples; videos in neither list are in no part, and counted."""
    videos = {name: name.rpartition("-")[0] for name in names}
    # A file without the second list means: all others.
    tested = parts.get("test", set(videos.values()) - parts["train"])
    unlisted = sorted(set(videos.values()) - parts["train"] - tested)
    if unlisted:
        logger.info(
            "%s: %d videos are in neither list, so in no part of the split: %s", path, len(unlisted),
            ", ".join(unlisted[:5]) + (", ..." if len(unlisted) > 5 else ""),
        )  # fmt: skip
    roles = {name: TRAIN for name, video in videos.items() if video in parts["train"]}
    return roles | {name: TEST for name, video in videos.items() if video in tested}
