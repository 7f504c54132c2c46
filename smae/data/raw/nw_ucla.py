"""NW-UCLA (Wang et al., CVPR 2014), one person, 20 Kinect v1 joints, in two forms.

CTR-GCN's JSON has a file for each clip, ``a01_s02_e00_v03.json``. As the data set is handed out, a clip is a
folder with a text for each frame, ``view_3/a01_s02_e00/frame_7_tc_231_skeletons.txt``: a first line that
counts, then a line ``x,y,z,state`` for each joint.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from smae.data.raw.discovery import find_files
from smae.data.raw.file_reader import FileReader
from smae.data.raw.recording import Recording
from smae.data.raw.single_body import SingleBodySource, bodies_recording, single_body_recording
from smae.data.raw.source import Inventory, Refused, Sample
from smae.data.store.clip_table import ClipFacts
from smae.data.store.splits import TEST, TRAIN
from smae.errors import BadRecording

TRAIN_VIEWS = (1, 2)
_SUFFIX = "_skeletons.txt"
_FRAME = re.compile(r"frame_([0-9]{1,9})_tc_([0-9]{1,12})")
_FOLDER = re.compile(r"view_([0-9]{1,2})/a([0-9]{2})_s([0-9]{2})_e([0-9]{2})/[^/]*$")
_FRAME_BEGINS = b"\f"
"""Stands before the text of each frame, which holds none."""


class NwUclaSource(SingleBodySource):
    """CTR-GCN's JSON files ``{"skeletons": [T][20][3], "label": 1-10, ...}``, or a text for each frame.

    Action numbers skip 7 and 10, so that the sorted action ids are the ten labels. Cross-view:
    views 1 and 2 train.
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

    def reader(self, raw: Path) -> UclaReader:  # type: ignore[override]
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


class UclaReader:
    """Reads JSON files, and the texts of a clip's frames one after another."""

    def __init__(self, raw: Path) -> None:
        self._raw, self._files = raw, FileReader(raw)
        self._clips: dict[str, list[Sample]] | None = None

    def read(self, sample: Sample) -> bytes:
        """Return a JSON file, or the texts of the frames in order, with a form feed before each."""
        if sample.where.endswith(NwUclaSource.suffix):
            return bytes(self._files.read(sample))
        if self._clips is None:
            self._clips, _ = _find_frames(self._raw)
        texts = self._clips.get(sample.name, [])
        if sum(text.size for text in texts) != sample.size:
            raise BadRecording("io", "changed while running: its frames are not those that were found")
        return b"".join(_FRAME_BEGINS + bytes(self._files.read(text)) for text in texts)

    def close(self) -> None:
        self._files.close()


def _find_frames(raw: Path) -> tuple[dict[str, list[Sample]], tuple[Refused, ...]]:
    """Return the texts of each clip's frames in order, and the files that are refused."""
    found = find_files(
        raw,
        suffix=_SUFFIX,
        valid=lambda name: _FRAME.fullmatch(name) is not None,
        looked_for=f"frame_7_tc_231{_SUFFIX}",
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
