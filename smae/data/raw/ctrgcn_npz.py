"""The ``.npz`` of the public CTR-GCN scripts and of code that reads the same: x_train, y_train, x_test, y_test."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from smae.data.raw.array_source import (
    MAX_CLIPS,
    CleanedSource,
    facts_of,
    layout_of,
    only_file,
    pack,
    sample_of,
    split_name,
    told_apart,
)
from smae.data.raw.files import open_archive
from smae.data.raw.source import Inventory, Sample
from smae.data.store.splits import TEST, TRAIN
from smae.errors import BadRecording, DataError, NoBody

_HALVES = {"train": TRAIN, "test": TEST}
_DATASETS = {60: "ntu60", 120: "ntu120"}
_SPLITS = {
    "cs": "xsub",
    "csub": "xsub",
    "xsub": "xsub",
    "cv": "xview",
    "xview": "xview",
    "cset": "xset",
    "xset": "xset",
}
_LOCAL_HEADER = struct.Struct("<26xHH")
_LABEL_BLOCK = 2**20
"""Bytes of labels that are looked at together, if a row is not larger."""


class CtrgcnNpzSource(CleanedSource):
    """One ``.npz``: x float [N, T, 2 x V x 3], zero-padded; y [N, classes] one-hot, or [N] class numbers.

    Clips are called ``train-000000`` ... after their half and row. 60 columns make it ``ntu60``, 120 ``ntu120`` (whose
    single bodies stand in both slots). The split is called after the file (``NTU60_CS.npz``: ``ntu60-xsub``).
    """

    other_dataset = "ctrgcn"

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return one sample a row; reads the labels and the headers of the arrays."""
        file = only_file(raw, (".npz",), form=".npz")
        samples: list[Sample] = []
        roles: dict[str, int] = {}
        with open_archive(file) as archive:
            for half, role in _HALVES.items():
                rows = Rows(file, archive, f"x_{half}")
                rows.close()
                if rows.shape[2] % 6:
                    raise DataError(f"{file}: {rows.shape[2]} numbers a frame: expected 2 x joints x 3, such as 150")
                self.layout = layout_of(rows.shape[2] // 6, where=file)
                labels, columns = _labels(file, archive, f"y_{half}", count=rows.shape[0])
                self._dataset = _DATASETS.get(columns, self.other_dataset)
                for row, label in enumerate(labels.tolist()):
                    name = f"{half}-{row:06}"
                    samples.append(sample_of(file, name, f"x_{half}", rows.row_bytes))
                    self._facts[name], roles[name] = facts_of(name, label), role
        word = re.split(r"[^a-z]+", file.stem.lower())[-1]
        self._splits = {split_name(_SPLITS.get(word, "npz"), dataset=self._dataset): roles}
        return Inventory(tuple(sorted(samples)), (), 0, "rows of x_train and x_test")

    def dataset(self, facts: Any) -> str:
        """Return ``ntu60`` or ``ntu120`` after the columns of y, else ``ctrgcn``."""
        return self._dataset

    def reader(self, raw: Path) -> NpzReader:
        """Return a reader of the rows."""
        return NpzReader(only_file(raw, (".npz",), form=".npz"))


class Rows:
    """Rows of one three-dimensional float array in an ``.npz``, read one at a time, in any order.

    Args:
        file: the ``.npz``.
        archive: the same, opened.
        name: the array's.

    Raises:
        DataError: no such array, or one of another kind.
    """

    def __init__(self, file: Path, archive: zipfile.ZipFile, name: str) -> None:
        self._archive, self._info = archive, member_info(file, archive, name)
        self._stream: IO[bytes] | None = None
        self._at = 0
        with archive.open(self._info) as member:
            self.shape, self.dtype = read_header(member, where=f"{file}!{name}")
            self._header = member.tell()
        if len(self.shape) != 3 or self.dtype.kind != "f" or self.shape[0] > MAX_CLIPS:
            raise DataError(f"{file}!{name}: expected float [N, T, 150], found {self.dtype} {list(self.shape)}")
        self.row_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        if self._header + self.shape[0] * self.row_bytes != self._info.file_size:
            raise DataError(
                f"{file}!{name}: {self._info.file_size} bytes do not hold {list(self.shape)}: it is damaged"
            )
        self._offset = self._stored_at(file) if self._info.compress_type == zipfile.ZIP_STORED else None
        self._plain: IO[bytes] | None = None if self._offset is None else file.open("rb")

    def read(self, row: int) -> NDArray[Any]:
        """Return [T, width] of one row; compressed arrays are unpacked from the start when rows are read backwards."""
        start = self._header + row * self.row_bytes
        if self._plain is not None and self._offset is not None:
            self._plain.seek(self._offset + start)
            data = self._plain.read(self.row_bytes)
        else:
            if self._stream is None or start < self._at:
                self._stream, self._at = self._archive.open(self._info), 0
            while self._at < start:
                self._at += len(self._stream.read(min(start - self._at, 2**20)))
            data = self._stream.read(self.row_bytes)
            self._at += len(data)
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def close(self) -> None:
        """Close the file."""
        for stream in (self._plain, self._stream):
            if stream is not None:
                stream.close()

    def _stored_at(self, file: Path) -> int:
        with open(file, "rb") as plain:
            plain.seek(self._info.header_offset)
            name, extra = _LOCAL_HEADER.unpack(plain.read(_LOCAL_HEADER.size))
        return self._info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


@dataclass
class NpzReader:
    """Reads rows of one ``.npz`` and packs them as clips."""

    file: Path

    def __post_init__(self) -> None:
        self._archive = open_archive(self.file)
        self._rows: dict[str, Rows] = {}
        shape, _ = _header_of(self.file, self._archive, "y_train")
        self._doubled = len(shape) == 2 and _DATASETS.get(shape[1]) == "ntu120"

    def read(self, sample: Sample) -> bytes:
        """Return one row, its bodies told apart; see ``SampleReader.read``."""
        if sample.member not in self._rows:
            self._rows[sample.member] = Rows(self.file, self._archive, sample.member)
        rows = self._rows[sample.member]
        try:
            row = rows.read(int(sample.name.rpartition("-")[2])).astype(np.float32, copy=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BadRecording("io", f"cannot be read: {error}") from error
        slots = row.reshape(len(row), 2, -1, 3)
        try:
            return pack(told_apart(slots, doubled=self._doubled))
        except NoBody:
            return pack(slots[:1, :1].swapaxes(0, 1))

    def close(self) -> None:
        """Close the file."""
        for rows in self._rows.values():
            rows.close()
        self._archive.close()


def member_info(file: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the directory entry of an array.

    Raises:
        DataError: no such array, or packed or encrypted in a way that is not read.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        known = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist()[:10])
        raise DataError(f"{file}: expected x_train, y_train, x_test and y_test, found {known}") from None
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{file}!{name}: encrypted or packed by method {info.compress_type}: save it with numpy.savez")
    return info


def read_header(member: IO[bytes], *, where: object) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an ``.npy`` whose data come next.

    Raises:
        DataError: no ``.npy``, Fortran order, or objects.
    """
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
    except Exception as error:
        # NumPy reads the header as Python's literals, and stumbles over hostile ones in many ways.
        raise DataError(f"{where}: not a NumPy array ({str(error)[:100]})") from error
    if fortran or dtype.hasobject:
        raise DataError(f"{where}: an array in Fortran order or of Python objects: save it again as plain floats")
    return shape, dtype


def _header_of(file: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(member_info(file, archive, name)) as member:
        return read_header(member, where=f"{file}!{name}")


def _labels(file: Path, archive: zipfile.ZipFile, name: str, *, count: int) -> tuple[NDArray[np.int64], int]:
    """Return 0-based labels [count], and the number of columns (0 where y holds class numbers)."""
    info, where = member_info(file, archive, name), f"{file}!{name}"
    with archive.open(info) as member:
        shape, dtype = read_header(member, where=where)
        wide = shape[1] if len(shape) == 2 else 1
        if len(shape) not in (1, 2) or shape[0] != count or dtype.kind not in "fiu" or not 0 < wide <= MAX_CLIPS:
            raise DataError(
                f"{where}: expected [{count}, classes] one-hot or [{count}] numbers, found {dtype} {list(shape)}"
            )
        labels = np.empty(count, np.int64)
        # Some rows at a time: one-hot labels of doubles take a thousand times the memory of what they say.
        step = max(1, _LABEL_BLOCK // (wide * dtype.itemsize))
        for start in range(0, count, step):
            rows = min(step, count - start)
            try:
                data = member.read(rows * wide * dtype.itemsize)
                y = np.frombuffer(data, dtype).reshape(rows, *shape[1:])
            except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise DataError(f"{where}: damaged: {error}") from error
            labels[start : start + rows] = _one_hot(y, start, where) if len(shape) == 2 else _numbers(y, where)
    return labels, shape[1] if len(shape) == 2 else 0


def _one_hot(y: NDArray[Any], start: int, where: str) -> NDArray[np.int64]:
    wrong = ((y != 0) & (y != 1)).any(axis=1) | (y.sum(axis=1) != 1)
    if wrong.any():
        raise DataError(f"{where}: row {start + int(wrong.argmax())} is not one-hot: one 1 and zeros expected")
    return np.asarray(y.argmax(axis=1), np.int64)


def _numbers(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    labels = y.astype(np.int64)
    if (labels < 0).any() or (y != labels).any():
        raise DataError(f"{where}: expected class numbers from 0")
    return labels
