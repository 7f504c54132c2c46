"""Reads the sharded Zarr v3 arrays of a store: shard index, CRC-32C, Blosc, straight into one's own buffer.

zarr-python writes them and can read them; this reader exists because zarr-python takes a missing chunk for zeros, lets
a Blosc header ask for any amount of memory, and is several times slower on the few rows of one clip.
Formats: Zarr v3 ``sharding_indexed`` (index at the end, ``offset, length`` uint64 pairs, then a CRC-32C), Blosc 1
header (``nbytes`` at 4, ``cbytes`` at 12).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from smae.errors import DataError

SHARD_ROWS = 65_536
CHUNK_ROWS = 2_048
CHUNKS = SHARD_ROWS // CHUNK_ROWS
_ABSENT = 2**64 - 1
_CRC_BYTES = 4
INDEX_BYTES = 16 * CHUNKS + _CRC_BYTES
_BLOSC_HEADER = 16


def decode(data: bytes, *, out: NDArray[Any], where: str, expected: int | None = None) -> None:
    """Check one chunk (Blosc bytes, then their CRC-32C) and unpack it into ``out``.

    Args:
        data: the chunk as it lies on disk.
        out: C-contiguous array that the chunk must fill exactly.
        where: names the chunk in errors.
        expected: the checksum that the manifest holds for this chunk, where it does.

    Raises:
        DataError: damaged, swapped, or claiming another size than ``out``; nothing is allocated from its header.
    """
    if len(data) < _BLOSC_HEADER + _CRC_BYTES:
        raise DataError(f"{where}: {len(data)} bytes are too few for a chunk: the store is damaged, prepare it again")
    body, stored = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    found = google_crc32c.value(body)
    if found != stored or (expected is not None and found != expected):
        wanted = stored if expected is None else expected
        raise DataError(
            f"{where}: CRC-32C is {found:08x}, expected {wanted:08x}: the chunk is damaged or not this store's own; "
            "prepare the store again or copy it again"
        )
    nbytes, _, cbytes = struct.unpack_from("<III", body, 4)
    if nbytes != out.nbytes or cbytes != len(body):
        raise DataError(f"{where}: holds {nbytes} bytes where {out.nbytes} belong: not a store that smae wrote")
    try:
        blosc.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{where}: Blosc cannot unpack it ({error}): the store is damaged, prepare it again") from error


def chunk_places(index: bytes, *, size: int, where: str) -> NDArray[np.uint64]:
    """Return uint64 [chunks, 2], the (offset, length) of each inner chunk, from the last bytes of a shard.

    Raises:
        DataError: the index fails its CRC-32C or points outside the shard.
    """
    body, stored = index[:-_CRC_BYTES], int.from_bytes(index[-_CRC_BYTES:], "little")
    if len(index) != INDEX_BYTES or google_crc32c.value(body) != stored:
        raise DataError(f"{where}: the shard's index fails its CRC-32C: damaged, prepare the store again")
    places = np.frombuffer(body, dtype="<u8").reshape(CHUNKS, 2).astype(np.uint64)
    present = places[places[:, 0] != _ABSENT]
    end = np.uint64(size - INDEX_BYTES)
    if (present[:, 0] > end).any() or (present[:, 1] > end - np.minimum(present[:, 0], end)).any():
        raise DataError(f"{where}: the shard's index points outside the file: damaged, prepare the store again")
    return places


def chunk_checksums(shard: bytes) -> list[int]:
    """Return the CRC-32C of every inner chunk of a shard that was just encoded, in order, absent ones left out."""
    places = chunk_places(shard[-INDEX_BYTES:], size=len(shard), where="shard")
    ends = [int(offset + length) for offset, length in places if offset != _ABSENT]
    return [int.from_bytes(shard[end - _CRC_BYTES : end], "little") for end in ends]


@dataclass(frozen=True)
class ShardedRows:
    """One row array of a store, its shards and what the manifest says of them.

    Attributes:
        folder: the array's folder, ``<store>/joints``.
        rows: R, rows in the array.
        row_shape: shape of one row, ``(V, 3)`` or ``(V,)``.
        dtype: NumPy type of the elements.
        sizes: bytes of each shard.
        checksums: CRC-32C of each inner chunk, shard by shard.
    """

    folder: Path
    rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sizes: Sequence[int]
    checksums: Sequence[Sequence[int]]
    _places: dict[int, NDArray[np.uint64]] = field(default_factory=dict, repr=False)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop``, [stop - start, ...], every touched chunk verified.

        Raises:
            IndexError: rows that the store does not have.
            DataError: a shard or chunk is missing or damaged; the message names it.
        """
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"rows {start} to {stop} of {self.rows} in {self.folder}")
        out = np.empty((stop - start, *self.row_shape), self.dtype)
        for shard in range(start // SHARD_ROWS, -(-stop // SHARD_ROWS)):
            base = shard * SHARD_ROWS
            low, high = max(start, base), min(stop, base + SHARD_ROWS)
            self._read_shard(shard, low - base, high - base, out[low - start : high - start])
        return out

    def shard_path(self, shard: int) -> Path:
        """Return the file of one shard (Zarr's default keys: ``c/<shard>/0/0``)."""
        return self.folder.joinpath("c", str(shard), *("0" for _ in self.row_shape))

    def _read_shard(self, shard: int, start: int, stop: int, out: NDArray[Any]) -> None:
        path = self.shard_path(shard)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                self._read_chunks(handle, shard, start, stop, out)
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}: a shard of the store cannot be read; copy it again") from error

    def _read_chunks(self, handle: int, shard: int, start: int, stop: int, out: NDArray[Any]) -> None:
        for chunk in range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS)):
            base = chunk * CHUNK_ROWS
            low, high = max(start, base), min(stop, base + CHUNK_ROWS)
            target = out[low - start : high - start]
            if high - low == CHUNK_ROWS:
                self._read_chunk(handle, shard, chunk, target)
            else:
                buffer = np.empty((CHUNK_ROWS, *self.row_shape), self.dtype)
                self._read_chunk(handle, shard, chunk, buffer)
                target[:] = buffer[low - base : high - base]

    def _read_chunk(self, handle: int, shard: int, chunk: int, out: NDArray[Any]) -> None:
        path, size = self.shard_path(shard), self.sizes[shard]
        where = f"{path} chunk {chunk}"
        if shard not in self._places:
            index = os.pread(handle, INDEX_BYTES, max(size - INDEX_BYTES, 0))
            self._places[shard] = chunk_places(index, size=size, where=str(path))
        offset, length = (int(value) for value in self._places[shard][chunk])
        if offset == _ABSENT or chunk >= len(self.checksums[shard]):
            raise DataError(f"{where}: missing from its shard: the store is damaged, prepare it again")
        decode(os.pread(handle, length, offset), out=out, where=where, expected=self.checksums[shard][chunk])
