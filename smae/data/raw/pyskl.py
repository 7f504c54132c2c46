"""Pickles of pyskl and MMAction2: splits by name, and one annotation with keypoints per clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw import array_source as arrays
from smae.data.raw.plain_pickle import as_array, load_plain_pickle
from smae.data.raw.source import Inventory, Sample
from smae.data.store.splits import collect_parts
from smae.errors import BadRecording, DataError

_SUFFIXES = (".pkl", ".pickle")


class PysklSource(arrays.CleanedSource):
    """One pickle of 3D skeletons, of plain types and arrays only; nothing in it is ever executed.

    Joints are kept as they are (those projects' files use the sensor's space), so that an export
    gives them back; loading centres them. Each worker holds the whole file in memory: use few for a
    large one.
    """

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return one sample per annotation."""
        file = arrays.find_array_file(raw, _SUFFIXES)
        annotations, splits = read_pickle(file)
        arrays.check_names([note["frame_dir"] for note in annotations], where=file)
        samples = []
        for note in annotations:
            name, keypoint = note["frame_dir"], note["keypoint"]
            self._facts[name] = arrays.facts_of(name, note["label"])
            samples.append(arrays.array_sample(file, name, "annotations", keypoint.nbytes))
        if not annotations:
            raise DataError(f"{file}: it holds no annotation")
        first = annotations[0]["keypoint"].shape
        if len(first) != 4:
            raise DataError(f"{file}: keypoints of shape {list(first)}: expected [M, T, V, 3]")
        self.layout = arrays.find_layout(first[2], first[3], where=file, given=self.given_layout)
        self.dataset_name = arrays.dataset_of(list(self._facts.values()), otherwise="pyskl")
        parts = collect_parts(splits, self._facts, where=file)
        self._splits = {arrays.split_name(short, dataset=self.dataset_name): roles for short, roles in parts.items()}
        return Inventory(tuple(sorted(samples)), (), 0, "annotations")

    def reader(self, raw: Path) -> PysklReader:
        """Return a reader of the annotations."""
        return PysklReader(arrays.find_array_file(raw, _SUFFIXES))


class PysklReader:
    """Returns the keypoints of one pickle, which it loads at the first read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keypoints: dict[str, NDArray[Any]] = {}

    def read(self, sample: Sample) -> bytes:
        """Return one clip, packed."""
        if not self._keypoints:
            self._keypoints = {note["frame_dir"]: note["keypoint"] for note in read_pickle(self._file)[0]}
        if sample.name not in self._keypoints:
            raise BadRecording("io", "changed while running: the clip is gone from the file")
        return arrays.pack(self._keypoints[sample.name])

    def close(self) -> None:
        """Release the pickle."""
        self._keypoints = {}


def read_pickle(file: Path) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return annotations (``frame_dir``, ``label``, ``keypoint``) and splits.

    Raises:
        DataError: another structure, or anything but plain data.
    """
    content = load_plain_pickle(file)
    notes, split = content, {}
    if isinstance(content, dict):
        notes, split = content.get("annotations"), content.get("split", {})
    if not isinstance(notes, list) or not isinstance(split, dict):
        raise DataError(f"{file}: expected a dict with 'split' and 'annotations', found {type(content).__name__}")
    annotations = []
    for number, note in enumerate(notes):
        if not isinstance(note, Mapping):
            note = {}
        name, label, keypoint = note.get("frame_dir"), note.get("label"), as_array(note.get("keypoint"))
        if not (isinstance(name, str) and arrays.is_label(label) and isinstance(keypoint, np.ndarray)):
            raise DataError(f"{file}: annotation {number}: expected frame_dir, label and keypoint, found other types")
        if keypoint.dtype.kind != "f":
            raise DataError(f"{file}: annotation {number}: keypoints of type {keypoint.dtype}: expected floats")
        annotations.append({"frame_dir": name, "label": label, "keypoint": keypoint})
    for key, names in split.items():
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (isinstance(key, str) and listed):
            raise DataError(f"{file}: split {ascii(key)[:40]}: expected a list of frame_dirs under a name")
    return annotations, split
