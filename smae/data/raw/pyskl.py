"""The pickles of pyskl and MMAction2: splits by name, and an annotation with its keypoints a clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.array_source import (
    CleanedSource,
    checked_names,
    dataset_of,
    facts_of,
    is_label,
    layout_of,
    need_file,
    only_file,
    pack,
    sample_of,
    split_name,
)
from smae.data.raw.plain_pickle import load_plain, plain
from smae.data.raw.source import Inventory, Sample
from smae.data.store.splits import TEST, TRAIN
from smae.errors import BadRecording, DataError

_ROLES = {"train": TRAIN, "val": TEST, "test": TEST}
_SUFFIXES = (".pkl", ".pickle")


class PysklSource(CleanedSource):
    """One pickle of 3D skeletons; plain types and arrays only, anything else is refused by name and never executed.

    Joints stay as they are (in the sensor's space, in the files that those projects hand out), so that an export gives
    them back; loading centres them. The whole file stands in the memory of each worker: use few for a large one.
    """

    other_dataset = "pyskl"

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return one sample an annotation."""
        need_file(raw)
        file = only_file(raw, _SUFFIXES, form=".pkl")
        annotations, splits = read_pickle(file)
        checked_names([note["frame_dir"] for note in annotations], where=file)
        samples = []
        for note in annotations:
            name, keypoint = note["frame_dir"], note["keypoint"]
            self._facts[name] = facts_of(name, note["label"])
            samples.append(sample_of(file, name, "annotations", keypoint.nbytes))
        if not annotations:
            raise DataError(f"{file}: it holds no annotation")
        first = annotations[0]["keypoint"].shape
        if len(first) != 4:
            raise DataError(f"{file}: keypoints of shape {list(first)}: expected [M, T, V, 3]")
        self.layout = layout_of(first[2], first[3], where=file)
        dataset = dataset_of(list(self._facts.values()), otherwise=self.other_dataset)
        for key, names in splits.items():
            short, _, part = key.rpartition("_")
            if part in _ROLES and short:
                roles = self._splits.setdefault(split_name(short, dataset=dataset), {})
                roles |= dict.fromkeys(names, _ROLES[part])
        return Inventory(tuple(sorted(samples)), (), 0, "annotations")

    def reader(self, raw: Path) -> PysklReader:
        """Return a reader of the annotations."""
        return PysklReader(only_file(raw, _SUFFIXES, form=".pkl"))


class PysklReader:
    """Hands out the keypoints of one pickle, which it reads when the first is asked for."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keypoints: dict[str, NDArray[Any]] = {}

    def read(self, sample: Sample) -> bytes:
        """Return one clip, packed; see ``SampleReader.read``."""
        if not self._keypoints:
            self._keypoints = {note["frame_dir"]: note["keypoint"] for note in read_pickle(self._file)[0]}
        if sample.name not in self._keypoints:
            raise BadRecording("io", "changed while running: the clip is gone from the file")
        joints = self._keypoints[sample.name].astype(np.float32)
        return pack(joints)

    def close(self) -> None:
        """Let the pickle go."""
        self._keypoints = {}


def read_pickle(file: Path) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return annotations (``frame_dir``, ``label``, ``keypoint``) and splits.

    Raises:
        DataError: another form, or anything but plain data.
    """
    content = load_plain(file)
    notes = content.get("annotations") if isinstance(content, dict) else content
    split = content.get("split", {}) if isinstance(content, dict) else {}
    if not isinstance(notes, list) or not isinstance(split, dict):
        raise DataError(f"{file}: expected a dict with 'split' and 'annotations', found {type(content).__name__}")
    annotations = []
    for number, note in enumerate(notes):
        name, label = (note.get(key) if isinstance(note, Mapping) else None for key in ("frame_dir", "label"))
        keypoint = plain(note.get("keypoint")) if isinstance(note, Mapping) else None
        if not (isinstance(name, str) and is_label(label) and isinstance(keypoint, np.ndarray)):
            raise DataError(f"{file}: annotation {number}: expected frame_dir, label and keypoint, found other types")
        if keypoint.dtype.kind != "f":
            raise DataError(f"{file}: annotation {number}: keypoints of type {keypoint.dtype}: expected floats")
        annotations.append({"frame_dir": name, "label": label, "keypoint": keypoint})
    for key, names in split.items():
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (isinstance(key, str) and listed):
            raise DataError(f"{file}: split {ascii(key)[:40]}: expected a list of frame_dirs under a name")
    return annotations, split
