"""ST-GCN's files: ``train_data.npy`` [N, 3, T, V, M], ``train_label.pkl``; the same for ``val``.

Others call the joints ``train_data_joint.npy`` (2s-AGCN) or ``train_position.npy`` (CrosSCLR,
AimCLR), and put beside them streams that are made from joints: bones and motion.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw import array_source as arrays
from smae.data.raw.plain_pickle import as_array, load_plain_pickle
from smae.data.raw.source import Inventory, Sample
from smae.data.store.splits import DEFAULT, collect_parts
from smae.errors import BadRecording, DataError

logger = logging.getLogger(__name__)

_PARTS = ("train", "val", "test")
_JOINTS = {"data", "joint", "joints", "position", "positions", "xyz"}
_STREAMS = {"bone", "bones", "motion", "velocity", "vel", "acceleration", "acc"}
"""Words in the names of arrays of joints, and of streams made from joints."""
_RULES = ("xsub", "xview", "xset")


class StgcnNpySource(arrays.CleanedSource):
    """One folder; labels as a plain pickle of (names, labels) or as ``<half>_label.npy``.

    Clips keep their names (without ``.skeleton``). The split is named after the folder (``xsub``,
    ``xview``, ``xset``), else ``stgcn``. Joints are kept as they are; loading centres them.
    """

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return one sample per clip; reads the labels and the headers of the arrays."""
        arrays.check_exists(raw)
        files, streams = _files(raw)
        samples: list[Sample] = []
        parts: dict[str, list[str]] = {}
        for part, file in files.items():
            array = _open(file)
            self.layout = arrays.find_layout(array.shape[3], where=file, given=self.given_layout)
            names, labels = _labels(file.parent, part, count=len(array))
            for row, (name, label) in enumerate(zip(names, labels, strict=True)):
                samples.append(Sample(name, file.name, f"[{row}]", array[0].nbytes))
                self._facts[name] = arrays.facts_of(name, label)
            parts[part] = names
        arrays.check_names([sample.name for sample in samples], where=raw)
        self.dataset_name = arrays.dataset_of(list(self._facts.values()), otherwise="stgcn")
        short = next((rule for rule in _RULES if rule in raw.resolve().name), "stgcn")
        roles = collect_parts(parts, self._facts, where=raw)
        self._splits = {arrays.split_name(short, dataset=self.dataset_name): roles[DEFAULT]}
        return Inventory(tuple(sorted(samples)), (), streams, "rows of train_data.npy and val_data.npy")

    def reader(self, raw: Path) -> StgcnReader:
        return StgcnReader(raw)


class StgcnReader:
    """Reads rows of memory-mapped arrays in one folder."""

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self._arrays: dict[str, NDArray[Any]] = {}

    def read(self, sample: Sample) -> bytes:
        """Return one row without its padding."""
        if sample.path not in self._arrays:
            self._arrays[sample.path] = _open(self._raw / sample.path)
        row = np.array(self._arrays[sample.path][int(sample.member.strip("[]"))], np.float32).transpose(1, 3, 2, 0)
        if row.shape[1] == 1:
            row = np.concatenate([row, np.zeros_like(row)], axis=1)
        if row.shape[1] != 2:
            raise BadRecording("bodies", f"expected 1 or 2 bodies, found {row.shape[1]}")
        return arrays.pack_padded(row, doubled=False)

    def close(self) -> None:
        self._arrays.clear()


def _files(raw: Path) -> tuple[dict[str, Path], int]:
    """Return the array of joints of each part, and the number of arrays of other streams."""
    files: dict[str, Path] = {}
    others: dict[str, list[str]] = {}
    for path in sorted(raw.glob("*.npy")):
        part, *words = re.split("[^a-z]+", path.stem.lower())
        if part not in _PARTS:
            continue
        if _STREAMS.intersection(words):
            others.setdefault(part, []).append(path.name)
        elif _JOINTS.intersection(words):
            if part in files:
                raise DataError(f"{raw}: two arrays of '{part}': {files[part].name}, {path.name}; keep one")
            files[part] = path
    for part in [part for part in _PARTS if part in others and part not in files]:
        raise DataError(
            f"{raw}: of '{part}' there is only {', '.join(others[part])}: bones and motion are differences of joints, "
            f"and joints are expected, as {part}_data_joint.npy or {part}_position.npy holds them; "
            "smae makes the streams itself (augment.stream)"
        )
    if not files:
        listed = ", ".join(sorted(path.name for path in raw.glob("*"))[:5]) or "no folder"
        raise DataError(
            f"{raw}: expected a folder with train_data.npy, train_data_joint.npy or "
            f"train_position.npy and the same for val or test, found {listed}"
        )
    left_out = [name for names in others.values() for name in names]
    if left_out:
        logger.info("%s: joints are read; streams made from joints are left out: %s", raw, ", ".join(left_out))
    return files, len(left_out)


def _open(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: not a NumPy array of plain numbers ({str(error)[:100]})") from error
    if array.ndim != 5 or array.shape[1] != 3 or array.dtype.kind != "f" or not array.size:
        raise DataError(f"{file}: expected float [N, 3, T, V, M], found {array.dtype} {list(array.shape)}")
    return array


def _labels(folder: Path, half: str, *, count: int) -> tuple[list[str], list[int]]:
    pickled, saved = folder / f"{half}_label.pkl", folder / f"{half}_label.npy"
    names: Any = [f"{half}-{row:06}" for row in range(count)]
    if pickled.is_file():
        content = load_plain_pickle(pickled)
        if not isinstance(content, (tuple, list)) or len(content) < 2:
            raise DataError(f"{pickled}: expected (names, labels)")
        names, labels = (as_array(part) for part in content[:2])
    elif saved.is_file():
        try:
            labels = np.load(saved, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{saved}: not a NumPy array of numbers ({str(error)[:100]})") from error
    else:
        raise DataError(f"{folder}: expected {pickled.name} or {saved.name} beside the data")
    if isinstance(names, np.ndarray):
        names = names.tolist()
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    lists = all(isinstance(part, (list, tuple)) and len(part) == count for part in (names, labels))
    if not (lists and all(isinstance(name, str) for name in names) and all(map(arrays.is_label, labels))):
        raise DataError(f"{folder}: {count} clips of '{half}': expected as many names and class numbers from 0 on")
    return [name.removesuffix(".skeleton") for name in names], list(labels)
