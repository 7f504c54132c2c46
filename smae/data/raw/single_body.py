"""Data sets of single bodies, with a file for each clip or frame: UTD-MHAD and NW-UCLA.

UTD-MHAD (Chen et al., ICIP 2015) is MATLAB, of 20 Kinect v1 joints. "MAT-File Format" (MathWorks),
level 5, as ``save -v6`` and ``-v7`` write it: a 128-byte header, then elements of (type, size) and
data, padded to 8 bytes; those of 4 bytes or fewer are packed into their tag; 15 is a deflated one.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.discovery import find_files
from smae.data.raw.file_reader import FileReader
from smae.data.raw.recording import MAX_BYTES, TRACKED, Recording
from smae.data.raw.source import BaseSource, Inventory, Refused, Sample
from smae.data.store.clips import UNLABELLED, ClipFacts
from smae.data.store.splits import TEST, TRAIN
from smae.errors import BadRecording
from smae.skeleton import KINECT20, Layout

_HEADER = 128
_MATRIX, _COMPRESSED, _COMPLEX = 14, 15, 0x800
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_REAL_CLASSES = range(6, 16)
# The files begin with head, shoulder centre, spine, hip centre; the Kinect's own order is the
# reverse.
_ORDER = np.array([3, 2, 1, 0, *range(4, 20)])
TRAIN_VIEWS = (1, 2)
_FRAME_SUFFIX = "_skeletons.txt"
_FRAME = re.compile(r"frame_([0-9]{1,9})_tc_([0-9]{1,12})")
_FOLDER = re.compile(r"view_([0-9]{1,2})/a([0-9]{2})_s([0-9]{2})_e([0-9]{2})/[^/]*$")
_FRAME_BEGINS = b"\f"
"""Stands before the text of each frame, which holds none."""


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
    frames = len(xyz)
    rows, notes = _checked(xyz, strict=strict, max_range=max_range)
    frame, body = np.arange(frames, dtype=np.int32), np.zeros(frames, np.uint64)
    return Recording(frames, frame, body, rows, np.full(xyz.shape[:2], TRACKED, np.uint8), notes)


def bodies_recording(xyz: NDArray[Any], *, layout: Layout, strict: bool, max_range: float) -> Recording:
    """Return the recording of numbered bodies; one is absent where its coordinates are all 0.

    Args:
        xyz: float [T, M, V, 3], metres, in the layout's order; NaN where a joint is missing.
        layout, strict, max_range: see ``single_body_recording``.
    """
    if xyz.ndim != 4 or xyz.shape[2:] != (len(layout), 3):
        raise BadRecording("joint-count", f"expected [T, bodies, {len(layout)}, 3], found {list(xyz.shape)}")
    if not len(xyz):
        raise BadRecording("no-frames", "expected a frame at least")
    frame, body = np.nonzero(xyz.any(axis=(2, 3)))
    rows, notes = _checked(xyz[frame, body], strict=strict, max_range=max_range)
    state = np.full(rows.shape[:2], TRACKED, np.uint8)
    return Recording(len(xyz), frame.astype(np.int32), body.astype(np.uint64), rows, state, notes)


def _checked(rows: NDArray[Any], *, strict: bool, max_range: float) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Return rows [R, V, 3] as float32, and the number of missing joints in them."""
    gaps = int(np.isnan(rows).any(axis=2).sum())
    if np.isinf(rows).any() or (strict and gaps):
        raise BadRecording("non-finite", "NaN or infinite coordinates")
    largest = float(np.nanmax(np.abs(rows), initial=0))
    if largest > max_range:
        raise BadRecording("range", f"{largest:g} m from the sensor; at most {max_range:g} m are accepted")
    return rows.astype(np.float32), {"nan": gaps} if gaps else {}


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
        found = find_files(
            raw,
            suffix=self.suffix,
            valid=lambda name: self.form.fullmatch(name) is not None,
            strict_names=strict_names,
            looked_for=f"files or zip members named like {self.example}",
        )
        roles = self._splits[self.split] = {}
        for name in (sample.name for sample in found.samples):
            if self.form.fullmatch(name) is None:
                self._facts[name] = ClipFacts(name, UNLABELLED)
                continue
            numbers = [int(digits) for match in self.form.finditer(name) for digits in match.groups()]
            self._facts[name], roles[name] = self.describe(name, *numbers)
        return found

    def reader(self, raw: Path) -> FileReader:
        return FileReader(raw)


class UtdMhadSource(SingleBodySource):
    """UTD-MHAD: ``d_skel`` 20 x 3 x T, metres. Odd subjects train, even ones test."""

    form = re.compile(r"a([0-9]{1,2})_s([0-9])_t([0-9])")
    suffix = "_skeleton.mat"
    split, dataset_name = "xsub", "utd-mhad"
    example = "a1_s2_t3_skeleton.mat"

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        skeleton = read_matlab_array(data, "d_skel")
        if skeleton.ndim == 2:
            skeleton = skeleton[..., None]  # MATLAB drops a last axis of length 1: one frame
        if skeleton.ndim != 3 or skeleton.shape[:2] != (20, 3):
            raise BadRecording("joint-count", f"expected d_skel of 20 x 3 x T, found {list(skeleton.shape)}")
        xyz = skeleton.transpose(2, 0, 1)[:, _ORDER]
        return single_body_recording(xyz, layout=self.layout, strict=strict, max_range=max_range)

    def describe(self, name: str, *numbers: int) -> tuple[ClipFacts, int]:
        """The trial is the replication."""
        action, subject, trial = numbers
        return ClipFacts(name, f"A{action:03}", subject=subject, replication=trial), TRAIN if subject % 2 else TEST


def read_matlab_array(data: bytes, name: str) -> NDArray[Any]:
    """Return the real, full array ``name`` of a MATLAB 5 file, in MATLAB's shape."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if len(data) < _HEADER or order is None or not data.startswith(b"MATLAB 5.0"):
        raise BadRecording("mat", "not a MATLAB 5 file: expected one saved by `save -v6` or `-v7`")
    try:
        names = []
        for kind, body in _elements(data[_HEADER:], order):
            if kind == _COMPRESSED:
                kind, body = next(_elements(_inflate(body), order))
            if kind == _MATRIX:
                label, array = _matrix(body, order)
                if label == name and array is not None:
                    return array
                names.append(label)
    except (struct.error, ValueError, StopIteration, zlib.error, IndexError) as error:
        raise BadRecording("mat", f"damaged or cut off ({str(error)[:80]})") from error
    raise BadRecording("mat", f"expected a real array {name}, found {ascii(names)[:80]}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        else:
            start, step = at + 8, 8 + size
            if kind != _COMPRESSED:
                step += -size % 8
        if start + size > len(data) or (step == 8 and size > 4):
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        yield kind, data[start : start + size]
        at += step


def _inflate(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(body, MAX_BYTES)
    # zlib has compared the stream's Adler-32 when it reports the end.
    if stream.unconsumed_tail or not stream.eof:
        raise ValueError(f"cut off, or more than {MAX_BYTES:,} bytes")
    return data


def _matrix(body: bytes, order: str) -> tuple[str, NDArray[Any] | None]:
    """Return name and array; None for the array if it is complex or not numeric."""
    parts = list(_elements(body, order))
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    shape = np.frombuffer(parts[1][1], f"{order}i4")
    name = parts[2][1].decode("ascii", "replace")
    if flags & 0xFF not in _REAL_CLASSES or flags & _COMPLEX or len(parts) < 4 or parts[3][0] not in _NUMBERS:
        return name, None
    numbers = np.frombuffer(parts[3][1], np.dtype(order + _NUMBERS[parts[3][0]]))
    return name, numbers.reshape(tuple(int(length) for length in shape), order="F").astype(np.float64)


class NwUclaSource(SingleBodySource):
    """NW-UCLA (Wang et al., CVPR 2014) in two forms. Cross-view: views 1 and 2 train.

    CTR-GCN has a JSON file for each clip, ``a01_s02_e00_v03.json``, ``{"skeletons": [T][20][3],
    ...}``. As the data set is handed out, a clip is a folder with a text for each frame,
    ``view_3/a01_s02_e00/frame_7_tc_231_skeletons.txt``: a first line that counts, then a line
    ``x,y,z,state`` for each joint. Action numbers skip 7 and 10, so that the sorted action ids are
    the ten labels.
    """

    form = re.compile(r"a([0-9]{2})_s([0-9]{2})_e([0-9]{2})_v([0-9]{2})")
    suffix = ".json"
    split, dataset_name = "xview", "nw-ucla"
    example = "a01_s02_e00_v03.json, or view_3/a01_s02_e00/frame_7_tc_231_skeletons.txt"

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples of both forms under a folder or zip."""
        found = super().discover(raw, strict_names=strict_names)
        clips, refused = _find_frames(raw)
        samples = list(found.samples)
        for name, texts in clips.items():
            first, size = texts[0], sum(text.size for text in texts)
            folders = [text.rpartition("/")[0] for text in (first.path, first.member)]
            if first.member:
                folders[0] = first.path
            samples.append(Sample(name, folders[0] or ".", folders[1], size))
            self._facts[name], self._splits[self.split][name] = self.describe(name, *_numbers(name))
        # Links are refused by both searches, and counted once.
        known = {one.path for one in found.refused}
        refused = tuple(one for one in refused if one.path not in known)
        frames = sum(map(len, clips.values())) + len(refused)
        everything = (*found.refused, *refused)
        return Inventory(tuple(sorted(samples)), everything, found.ignored - frames, found.looked_for)

    def reader(self, raw: Path) -> UclaReader:
        return UclaReader(raw)

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Parse one JSON file, or the texts of a clip's frames."""
        if data.startswith(_FRAME_BEGINS):
            texts = data.split(_FRAME_BEGINS)[1:]
            frames = [_parse_frame(number, text) for number, text in enumerate(texts, 1)]
            xyz = np.zeros((len(frames), max(map(len, frames)), len(self.layout), 3))
            for frame, bodies in zip(xyz, frames, strict=True):
                frame[: len(bodies)] = bodies
            return bodies_recording(xyz, layout=self.layout, strict=strict, max_range=max_range)
        try:
            xyz = np.array(json.loads(data)["skeletons"], np.float64)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            message = f"expected a JSON object with 'skeletons' of numbers ({type(error).__name__}: {str(error)[:80]})"
            raise BadRecording("json", message) from error
        return single_body_recording(xyz, layout=self.layout, strict=strict, max_range=max_range)

    def describe(self, name: str, *numbers: int) -> tuple[ClipFacts, int]:
        """The view is the camera, the episode the replication."""
        action, subject, episode, view = numbers
        facts = ClipFacts(name, f"A{action:03}", subject=subject, camera=view, replication=episode)
        return facts, TRAIN if view in TRAIN_VIEWS else TEST


class UclaReader(FileReader):
    """Reads JSON files, and the texts of a clip's frames one after another."""

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        self._raw = raw
        self._clips: dict[str, list[Sample]] | None = None

    def read(self, sample: Sample) -> bytes:
        """Return a JSON file, or the texts of the frames in order, with a form feed before each."""
        if sample.where.endswith(NwUclaSource.suffix):
            return bytes(super().read(sample))
        if self._clips is None:
            self._clips, _ = _find_frames(self._raw)
        texts = self._clips.get(sample.name, [])
        if sum(text.size for text in texts) != sample.size:
            raise BadRecording("io", "changed while running: its frames are not those that were found")
        return b"".join(_FRAME_BEGINS + bytes(super(UclaReader, self).read(text)) for text in texts)


def _find_frames(raw: Path) -> tuple[dict[str, list[Sample]], tuple[Refused, ...]]:
    """Return the texts of each clip's frames in order, and the files that are refused."""
    found = find_files(
        raw,
        suffix=_FRAME_SUFFIX,
        valid=lambda name: _FRAME.fullmatch(name) is not None,
        looked_for=f"frame_7_tc_231{_FRAME_SUFFIX}",
    )
    clips: dict[str, list[Sample]] = defaultdict(list)
    refused = list(found.refused)
    inside = "" if raw.is_file() else f"{raw.resolve().as_posix()}/"
    for text in found.samples:
        match = _FOLDER.search(text.member.replace("\\", "/") if text.member else inside + text.path)
        if match is None:
            message = "expected in a folder such as view_1/a01_s02_e00: it belongs to no clip"
            refused.append(Refused(text.where, "name", message, text.size))
            continue
        view, action, subject, episode = map(int, match.groups())
        clips[f"a{action:02}_s{subject:02}_e{episode:02}_v{view:02}"].append(text)
    for texts in clips.values():
        texts.sort(key=lambda text: _numbers(text.name))
    return clips, tuple(refused)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall("[0-9]+", name)))


def _parse_frame(number: int, text: bytes) -> Any:
    """Return the bodies of one frame, float [M, 20, 3]; none where the first line counts 0."""
    lines = [line.replace(b",", b" ").split() for line in text.splitlines() if line.strip()]
    if lines and len(lines[0]) < 3 and lines[0][0].isdigit():
        counted = int(lines.pop(0)[0][:9])
        if counted and not lines:
            raise BadRecording(
                "truncated", f"frame {number} of the clip: its first line counts {counted}, and none follow"
            )
    try:
        joints = [[float(value) for value in line[:3]] for line in lines]
    except ValueError as error:
        raise BadRecording("number", f"frame {number} of the clip: expected numbers ({str(error)[:80]})") from error
    if len(joints) % 20 or any(len(line) not in (3, 4) for line in lines):
        message = f"frame {number} of the clip: expected 20 lines x,y,z,state, found {len(lines)} lines"
        raise BadRecording("joint-count", message)
    return np.array(joints).reshape(-1, 20, 3)
