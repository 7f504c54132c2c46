"""The ``.npz`` files of CTR-GCN's scripts: arrays x_train, y_train, x_test and y_test.

Arrays are larger than memory, so rows are read one by one, in any order, where no checksum applies.
``discover`` therefore unpacks each array once and compares its CRC-32 before a row of it is used.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from smae import interrupts, progress
from smae.data.raw import array_source as arrays
from smae.data.raw.discovery import open_zip
from smae.data.raw.source import Inventory, Sample
from smae.data.store.splits import DEFAULT, collect_parts
from smae.errors import BadRecording, DataError

_SUFFIXES = (".npz",)
_PARTS = ("train", "val", "test")
_DATASETS = {60: "ntu60", 120: "ntu120"}
_SPLITS = {"cs": "xsub", "csub": "xsub", "xsub": "xsub", "cv": "xview", "xview": "xview"}
_SPLITS |= {"cset": "xset", "xset": "xset"}
_LOCAL_HEADER = struct.Struct("<26xHH")
_BLOCK = 2**20
"""Bytes that are unpacked together; of labels at least one row."""


class CtrgcnNpzSource(arrays.CleanedSource):
    """One ``.npz``: x float [N, T, M x V x 3], zero-padded; y one-hot [N, classes] or numbers [N].

    M is 2, or 1 where the numbers fit one body. Beside train and test there may be x_val and y_val.

    Clips are named ``train-000000`` ... after their half and row. 60 columns of y make the data set
    ``ntu60``, 120 ``ntu120`` (with single bodies in both slots). The split is named after the file
    (``NTU60_CS.npz``: ``ntu60-xsub``).
    """

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return one sample per row; checks the arrays and reads the labels."""
        file = arrays.find_array_file(raw, _SUFFIXES)
        samples: list[Sample] = []
        parts: dict[str, list[str]] = {}
        width = 0
        with open_zip(file) as archive:
            found = _parts(file, archive)
            for name in (f"{kind}_{part}" for part in found for kind in "xy"):
                _check_array(file, archive, name)
            for part in found:
                rows = Rows(file, archive, f"x_{part}")
                rows.close()
                if rows.shape[2] != (width := width or rows.shape[2]):
                    raise DataError(f"{file}: x_{part} has {rows.shape[2]} numbers a frame, x_{found[0]} {width}")
                bodies = arrays.find_bodies(width, where=file, given=self.given_layout)
                self.layout = arrays.find_layout(width // bodies // 3, where=file, given=self.given_layout)
                member = f"x_{part}[%d]" + ", one body" * (bodies == 1)
                labels, columns = _labels(file, archive, f"y_{part}", count=rows.shape[0])
                self.dataset_name = _DATASETS.get(columns, "ctrgcn")
                parts[part] = [f"{part}-{row:06}" for row in range(len(labels))]
                for row, (name, label) in enumerate(zip(parts[part], labels.tolist(), strict=True)):
                    samples.append(arrays.array_sample(file, name, member % row, rows.row_bytes))
                    self._facts[name] = arrays.facts_of(name, label)
        word = re.split(r"[^a-z]+", file.stem.lower())[-1]
        roles = collect_parts(parts, self._facts, where=file)[DEFAULT]
        self._splits = {arrays.split_name(_SPLITS.get(word, "npz"), dataset=self.dataset_name): roles}
        return Inventory(tuple(sorted(samples)), (), 0, "rows of x_train and x_test")

    def reader(self, raw: Path) -> NpzReader:
        return NpzReader(arrays.find_array_file(raw, _SUFFIXES))


class Rows:
    """Rows of one float array [N, T, width] in an ``.npz``, read one at a time in any order.

    Args:
        file: the ``.npz``.
        archive: the same, opened.
        name: of the array.

    Raises:
        DataError: no such array, or one of another shape or type.
    """

    def __init__(self, file: Path, archive: zipfile.ZipFile, name: str) -> None:
        info = _member_info(file, archive, name)
        self.shape, self.dtype, header = _read_header(file, archive, name)
        if len(self.shape) in (4, 5) and self.shape[-1] == 3:
            # Joints, and perhaps bodies, on axes of their own: the same numbers in the same order.
            self.shape = (*self.shape[:2], math.prod(self.shape[2:]))
        if len(self.shape) != 3 or self.dtype.kind != "f" or self.shape[0] > arrays.MAX_CLIPS:
            raise DataError(f"{file}!{name}: expected float [N, T, 150], found {self.dtype} {list(self.shape)}")
        self.row_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        if header + self.shape[0] * self.row_bytes != info.file_size:
            raise DataError(f"{file}!{name}: {info.file_size} bytes do not hold {list(self.shape)}: it is damaged")
        self._stream: IO[bytes]
        self._start = header
        if info.compress_type == zipfile.ZIP_STORED:
            # Not through zipfile, which would read everything in front of a row.
            self._stream = file.open("rb")
            self._stream.seek(info.header_offset)
            sizes = _LOCAL_HEADER.unpack(self._stream.read(_LOCAL_HEADER.size))
            self._start += self._stream.tell() + sum(sizes)
        else:
            self._stream = archive.open(info)

    def read(self, row: int) -> NDArray[Any]:
        """Return [T, width] of one row; reading backwards unpacks again from the start."""
        self._stream.seek(self._start + row * self.row_bytes)
        return np.frombuffer(self._stream.read(self.row_bytes), self.dtype).reshape(self.shape[1:])

    def close(self) -> None:
        self._stream.close()


class NpzReader:
    """Reads rows of one ``.npz`` and packs them as clips."""

    def __init__(self, file: Path) -> None:
        self._file, self._archive = file, open_zip(file)
        self._rows: dict[str, Rows] = {}
        shape, _, _ = _read_header(file, self._archive, "y_train")
        self._doubled = len(shape) == 2 and _DATASETS.get(shape[1]) == "ntu120"

    def read(self, sample: Sample) -> bytes:
        """Return one row without its padding."""
        try:
            array, _, number = sample.member.partition("[")
            if array not in self._rows:
                self._rows[array] = Rows(self._file, self._archive, array)
            row = self._rows[array].read(int(number.partition("]")[0]))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BadRecording("io", f"cannot be read: {error}") from error
        single = sample.member.endswith("one body")
        slots = row.astype(np.float32, copy=False).reshape(len(row), 2 - single, -1, 3)
        if single:
            slots = np.concatenate([slots, np.zeros_like(slots)], axis=1)
        return arrays.pack_padded(slots, doubled=self._doubled and not single)

    def close(self) -> None:
        for rows in self._rows.values():
            rows.close()
        self._archive.close()


def _parts(file: Path, archive: zipfile.ZipFile) -> list[str]:
    """Return the parts that the file has: train, and test or val or both."""
    names = {entry.removesuffix(".npy") for entry in archive.namelist()}
    parts = [part for part in _PARTS if f"x_{part}" in names or f"y_{part}" in names]
    if "train" not in parts or len(parts) < 2:
        listed = ", ".join(sorted(names)[:10])
        raise DataError(f"{file}: expected x_train, y_train, x_test and y_test, found {listed}")
    return parts


def _member_info(file: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        known = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist()[:10])
        raise DataError(f"{file}: expected x_train, y_train, x_test and y_test, found {known}") from None
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{file}!{name}: encrypted or packed by method {info.compress_type}: save it with numpy.savez")
    return info


def _check_array(file: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Unpack an array and compare its size and CRC-32; a ``DataError`` if it is damaged."""
    info, size = _member_info(file, archive, name), 0
    try:
        with (
            progress.task(f"check {name}", total=info.file_size >> 20, unit="MB") as task,
            archive.open(info) as member,
        ):
            # zipfile compares the CRC-32 at the end. An empty read ends the loop, even if the
            # directory claims more.
            while block := member.read(_BLOCK):
                size += len(block)
                task.update(size >> 20)
                interrupts.check()
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file}!{name}: damaged ({error}): copy or download the file again") from error
    if size != info.file_size:
        raise DataError(f"{file}!{name}: damaged (the zip's directory says {info.file_size} bytes, found {size})")


def _read_header(file: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, type and header size of an array of plain numbers, else a ``DataError``."""
    info, where = _member_info(file, archive, name), f"{file}!{name}"
    try:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_2_0
            if version == (1, 0):
                read = np.lib.format.read_array_header_1_0
            shape, fortran, dtype = read(member)
            size = member.tell()
    except Exception as error:
        # NumPy evaluates the header as Python literals, and a hostile one can raise nearly
        # anything.
        raise DataError(f"{where}: not a NumPy array ({str(error)[:100]})") from error
    if fortran or dtype.hasobject:
        raise DataError(f"{where}: an array in Fortran order or of Python objects: save it again as plain floats")
    return shape, dtype, size


def _labels(file: Path, archive: zipfile.ZipFile, name: str, *, count: int) -> tuple[NDArray[np.int64], int]:
    """Return 0-based labels [count], and the number of columns (0 where y has class numbers)."""
    where = f"{file}!{name}"
    shape, dtype, header = _read_header(file, archive, name)
    columns = shape[1] if len(shape) == 2 else 0
    fits = len(shape) in (1, 2) and shape[0] == count and 0 not in shape[1:] and columns <= arrays.MAX_CLIPS
    if not fits or dtype.kind not in "fiu":
        raise DataError(
            f"{where}: expected [{count}, classes] one-hot or [{count}] numbers, found {dtype} {list(shape)}"
        )
    labels = np.empty(count, np.int64)
    # In blocks: one-hot labels of doubles take a thousand times the memory of class numbers.
    width = max(columns, 1) * dtype.itemsize
    step = max(1, _BLOCK // width)
    try:
        with archive.open(_member_info(file, archive, name)) as member:
            member.read(header)
            for start in range(0, count, step):
                rows = min(step, count - start)
                data = member.read(rows * width)
                y = np.frombuffer(data, dtype).reshape(rows, *shape[1:])
                labels[start : start + rows] = _class_numbers(y, start, where)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{where}: damaged: {error}") from error
    return labels, columns


def _class_numbers(y: NDArray[Any], start: int, where: str) -> NDArray[np.int64]:
    """Return class numbers of a block of labels, one-hot [N, classes] or [N]."""
    if y.ndim == 1:
        labels = y.astype(np.int64)
        if (labels < 0).any() or (y != labels).any():
            raise DataError(f"{where}: expected class numbers from 0")
        return labels
    wrong = ((y != 0) & (y != 1)).any(axis=1) | (y.sum(axis=1) != 1)
    if wrong.any():
        raise DataError(f"{where}: row {start + int(wrong.argmax())} is not one-hot: one 1 and zeros expected")
    return np.asarray(y.argmax(axis=1), np.int64)
