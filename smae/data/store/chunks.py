"""Reading of sharded Zarr v3 arrays: shard index, CRC-32C, Blosc, straight into the output array.

zarr-python can read them too. This reader exists because zarr-python reads a missing chunk as zeros,
lets a Blosc header ask for any amount of memory, and is several times slower on the rows of a clip.
Formats: Zarr v3 ``sharding_indexed`` (index at the end, ``offset, length`` uint64 pairs, then a CRC-32C), Blosc 1
header (``nbytes`` at 4, ``cbytes`` at 12).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from smae.data.store.codecs import Codec
from smae.data.store.file_store import FileStore
from smae.errors import DataError

SHARD_ROWS = 65_536
CHUNK_ROWS = 2_048
CHUNKS = SHARD_ROWS // CHUNK_ROWS
ABSENT = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold."""
_CRC_BYTES = 4
INDEX_BYTES = 16 * CHUNKS + _CRC_BYTES
_BLOSC_HEADER = 16


def decode(data: bytes, *, out: NDArray[Any], where: str, expected: int | None = None) -> None:
    """Check one chunk (Blosc bytes, then their CRC-32C) and decompress it into ``out``.

    Args:
        data: the chunk as on disk.
        out: C-contiguous array that the chunk must fill exactly.
        where: the chunk, for messages.
        expected: its checksum in the manifest, if the manifest has one.

    Raises:
        DataError: damaged, swapped, or of another size than ``out``; its header causes no allocation.
    """
    if len(data) < _BLOSC_HEADER + _CRC_BYTES:
        raise DataError(f"{where}: {len(data)} bytes are too few for a chunk: the store is damaged, prepare it again")
    body, stored = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    found = google_crc32c.value(body)
    if found != stored or (expected is not None and found != expected):
        wanted = stored if expected is None else expected
        raise DataError(
            f"{where}: CRC-32C is {found:08x}, expected {wanted:08x}: the chunk is damaged or belongs elsewhere; "
            "prepare the store again or copy it again"
        )
    nbytes, _, cbytes = struct.unpack_from("<III", body, 4)
    if nbytes != out.nbytes or cbytes != len(body):
        raise DataError(f"{where}: holds {nbytes} bytes instead of {out.nbytes}: not a store that smae wrote")
    try:
        blosc.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{where}: Blosc cannot decompress it ({error}): the store is damaged, prepare it again"
        ) from error


def chunk_ranges(index: bytes, *, size: int, where: str) -> NDArray[np.uint64]:
    """Return uint64 [chunks, 2], the (offset, length) of each inner chunk, from the last bytes of a shard.

    Raises:
        DataError: the index fails its CRC-32C or points outside the shard.
    """
    body, stored = index[:-_CRC_BYTES], int.from_bytes(index[-_CRC_BYTES:], "little")
    if len(index) != INDEX_BYTES or google_crc32c.value(body) != stored:
        raise DataError(f"{where}: the shard's index fails its CRC-32C: damaged, prepare the store again")
    ranges = np.frombuffer(body, dtype="<u8").reshape(CHUNKS, 2).astype(np.uint64)
    present = ranges[ranges[:, 0] != ABSENT]
    end = np.uint64(size - INDEX_BYTES)
    if (present[:, 0] > end).any() or (present[:, 1] > end - np.minimum(present[:, 0], end)).any():
        raise DataError(f"{where}: the shard's index points outside the file: damaged, prepare the store again")
    return ranges


@dataclass(frozen=True)
class ShardedRows:
    """One row array of a store, with the records of its shards in the manifest.

    Attributes:
        root: files of the store.
        array: its name, ``joints`` or ``state``.
        rows: R, rows in the array.
        row_shape: shape of one row, ``(V, 3)`` or ``(V,)``.
        dtype: NumPy type of decoded rows.
        codec: how they are stored.
        sizes: bytes of each shard.
        checksums: CRC-32C of each inner chunk, shard by shard.
    """

    root: FileStore
    array: str
    rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: Codec
    sizes: Sequence[int]
    checksums: Sequence[Sequence[int]]
    _ranges: dict[int, NDArray[np.uint64]] = field(default_factory=dict, repr=False)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop``, [stop - start, ...], every touched chunk verified.

        Rows after a shard's last clip, which belong to no clip, are zeros.

        Raises:
            IndexError: rows that the store does not have.
            DataError: a shard or chunk is missing or damaged; the message names it.
        """
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"rows {start} to {stop} of {self.rows} in {self.root.name}/{self.array}")
        out = np.empty((stop - start, *self.row_shape), self.dtype)
        for shard in range(start // SHARD_ROWS, -(-stop // SHARD_ROWS)):
            base = shard * SHARD_ROWS
            low, high = max(start, base), min(stop, base + SHARD_ROWS)
            self._read_shard(shard, low - base, high - base, out[low - start : high - start])
        return out

    def _read_shard(self, shard: int, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read rows of a shard, in one request where their chunks are contiguous."""
        filled = len(self.checksums[shard]) * CHUNK_ROWS
        if stop > filled:
            out[max(filled - start, 0) :] = 0
            stop = max(filled, start)
        chunks = range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS))
        if not chunks:
            return
        key = shard_key(self.array, shard, dimensions=1 + len(self.row_shape))
        ranges = self._index(shard, key)[chunks.start : chunks.stop]
        if (absent := np.flatnonzero(ranges[:, 0] == ABSENT)).size:
            where = f"{self.root.name}/{key} chunk {chunks.start + int(absent[0])}"
            raise DataError(f"{where}: missing from its shard: the store is damaged, prepare it again")
        for chunk, data in zip(chunks, self._read_ranges(key, ranges.astype(np.int64)), strict=True):
            base = chunk * CHUNK_ROWS
            low, high = max(start, base), min(stop, base + CHUNK_ROWS)
            where, expected = f"{self.root.name}/{key} chunk {chunk}", self.checksums[shard][chunk]
            target = out[low - start : high - start]
            if len(target) == CHUNK_ROWS and self.codec.dtype == self.dtype:
                decode(data, out=target, where=where, expected=expected)
                continue
            # Part of a chunk, or another type: decompress it whole, then decode the rows wanted.
            stored = np.empty((CHUNK_ROWS, *self.row_shape), self.codec.dtype)
            decode(data, out=stored, where=where, expected=expected)
            self.codec.decode(stored[low - base : high - base], target)

    def _index(self, shard: int, key: str) -> NDArray[np.uint64]:
        if shard not in self._ranges:
            size = self.sizes[shard]
            index = self.root.read_part(key, max(size - INDEX_BYTES, 0), INDEX_BYTES)
            self._ranges[shard] = chunk_ranges(index, size=size, where=f"{self.root.name}/{key}")
        return self._ranges[shard]

    def _read_ranges(self, key: str, ranges: NDArray[np.int64]) -> Iterator[bytes]:
        """Yield the bytes at each (offset, length)."""
        offset, length = ranges[:, 0], ranges[:, 1]
        if (offset[1:] == offset[:-1] + length[:-1]).all():
            data = self.root.read_part(key, int(offset[0]), int(length.sum()))
            for begin, end in zip(offset - offset[0], offset - offset[0] + length, strict=True):
                yield data[begin:end]
        else:
            for begin, size in ranges.tolist():
                yield self.root.read_part(key, begin, size)


def shard_key(array: str, shard: int, *, dimensions: int) -> str:
    """Return the key of one shard (Zarr's default chunk keys: ``joints/c/<shard>/0/0``)."""
    return "/".join([array, "c", str(shard), *("0" for _ in range(dimensions - 1))])
