"""Pickles of pyskl and MMAction2: splits by name, and one annotation with keypoints per clip.

Older ones of MMAction2 hold the annotations of one part each: ``train.pkl`` and ``val.pkl``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smae.data.raw import array_source as arrays
from smae.data.raw.plain_pickle import as_array, load_plain_pickle
from smae.data.raw.source import Inventory, Refused, Sample
from smae.data.store.splits import collect_parts, parse_part
from smae.errors import BadRecording, DataError

_SUFFIXES = (".pkl", ".pickle")


class Annotation(NamedTuple):
    """One clip of a pickle.

    Attributes:
        name: its ``frame_dir``; empty if that is no text.
        label: 0-based class.
        keypoint: float [M, T, V, C].
        problem: why it cannot be read; empty for a good one.
    """

    name: str
    label: int
    keypoint: NDArray[Any]
    problem: str = ""


class PysklSource(arrays.CleanedSource):
    """A pickle of 3D skeletons, or one a part, of plain types and arrays only; nothing is executed.

    Joints are kept as they are (those projects' files use the sensor's space), so that an export
    gives them back; loading centres them. A bad annotation is quarantined alone.
    """

    one_reader = True

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        samples, refused = list[Sample](), list[Refused]()
        lists, names = dict[str, list[str]](), list[str]()
        shapes: Counter[tuple[int, ...]] = Counter()
        files = _find_files(raw)
        for file in files:
            annotations, splits = read_pickle(file)
            named = [note.name for note in annotations if note.name]
            names += named
            if len(files) > 1:
                if splits:
                    raise DataError(f"{file}: it has splits of its own: give it alone as --raw")
                splits = {file.stem: named}
            lists |= splits
            for row, note in enumerate(annotations):
                sample = arrays.array_sample(file, note.name, f"annotations[{row}]", note.keypoint.nbytes)
                if note.problem:
                    refused.append(Refused(sample.where, "annotation", note.problem))
                    continue
                samples.append(sample)
                self._facts[note.name] = arrays.facts_of(note.name, note.label)
                shapes[note.keypoint.shape] += note.keypoint.ndim == 4
        arrays.check_names(names, where=raw)
        if not samples:
            first = f" that can be read, for example {refused[0]}" if refused else ""
            raise DataError(f"{raw}: it holds no annotation{first}")
        joints = Counter[tuple[int, ...]]()
        for shape, count in shapes.items():
            joints[shape[2:]] += count
        (common, found), *_ = joints.most_common(1)
        if not found:
            raise DataError(f"{raw}: keypoints of shape {list(next(iter(shapes)))}: expected [M, T, V, 3]")
        self.layout = arrays.find_layout(*common, where=raw, given=self.given_layout)
        self.dataset_name = arrays.dataset_of(list(self._facts.values()), otherwise="pyskl")
        parts = collect_parts(lists, names, where=raw)
        self._splits = {arrays.split_name(short, dataset=self.dataset_name): roles for short, roles in parts.items()}
        return Inventory(tuple(sorted(samples)), tuple(refused), 0, "annotations")

    def reader(self, raw: Path) -> PysklReader:
        return PysklReader(_find_files(raw)[0].parent)


class PysklReader:
    """Returns the keypoints of the pickles in a folder, each loaded when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keypoints: dict[str, dict[str, NDArray[Any]]] = {}

    def read(self, sample: Sample) -> bytes:
        if sample.path not in self._keypoints:
            annotations, _ = read_pickle(self._folder / sample.path)
            self._keypoints[sample.path] = {note.name: note.keypoint for note in annotations}
        if sample.name not in self._keypoints[sample.path]:
            raise BadRecording("io", "changed while running: the clip is gone from the file")
        return arrays.pack(self._keypoints[sample.path][sample.name])

    def close(self) -> None:
        self._keypoints = {}


def _find_files(raw: Path) -> list[Path]:
    """Return the pickle, or those named after parts: ``train.pkl`` and ``val.pkl``."""
    arrays.check_exists(raw)
    if raw.is_dir():
        found = sorted(path for path in raw.iterdir() if path.suffix in _SUFFIXES and path.is_file())
        if len(found) > 1 and all(parse_part(path.stem) for path in found):
            return found
    return [arrays.find_array_file(raw, _SUFFIXES)]


def read_pickle(file: Path) -> tuple[list[Annotation], dict[str, list[str]]]:
    """Return annotations and splits; a ``DataError`` if it is anything but such plain data."""
    content = load_plain_pickle(file)
    notes, split = content, {}
    if isinstance(content, dict):
        notes, split = content.get("annotations"), content.get("split", {})
    if not isinstance(notes, list) or not isinstance(split, dict):
        raise DataError(f"{file}: expected a dict with 'split' and 'annotations', found {type(content).__name__}")
    for key, names in split.items():
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (isinstance(key, str) and listed):
            raise DataError(f"{file}: split {ascii(key)[:40]}: expected a list of frame_dirs under a name")
    return [_annotation(note) for note in notes], split


def _annotation(note: Any) -> Annotation:
    """Return one annotation, checked."""
    if not isinstance(note, Mapping):
        note = {}
    name, label, keypoint = note.get("frame_dir"), note.get("label"), as_array(note.get("keypoint"))
    problem = ""
    if not (isinstance(name, str) and arrays.is_label(label) and isinstance(keypoint, np.ndarray)):
        problem = "expected frame_dir, label and keypoint, found other types"
    elif keypoint.dtype.kind != "f":
        problem = f"keypoints of type {keypoint.dtype}: expected floats"
    if not problem:
        return Annotation(name, label, keypoint)
    return Annotation(name if isinstance(name, str) else "", 0, np.empty(0), problem)
