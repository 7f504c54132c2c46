"""Codecs of row arrays: numbers unchanged, or joints as multiples of a quarter of a millimetre."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from smae.data.store.file_store import FileStore
from smae.errors import DataError, UnknownNameError
from smae.registry import nearest

STEP = 2.0**-12
"""Metres in a step of ``int16``: with a power of two, every multiple is exact in float32."""
_NAN = np.int16(-(2**15))


class Codec:
    """Rows stored unchanged; the base of the others.

    Attributes:
        name: as in settings and in the store's attributes.
        dtype: NumPy type of the stored numbers.
        reach: largest absolute value that can be stored.
    """

    reach = float("inf")

    def __init__(self, name: str) -> None:
        self.name, self.dtype = name, np.dtype(name)

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """Return the stored form of rows within ``reach``, and the largest error it makes."""
        return rows, 0.0

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the rows of a stored form into ``out``."""
        out[:] = stored


class Int16(Codec):
    """float32 metres as int16 multiples of 2^-12 m, rounded to the nearest; -2^15 stands for NaN.

    The error is at most half a step, 0.122 mm; the sensor's own noise is several millimetres.
    """

    reach = (2**15 - 1) * STEP

    def encode(self, rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
        missing = np.isnan(rows)
        steps = np.rint(rows * np.float32(1 / STEP))
        steps[missing] = _NAN
        stored = steps.astype(np.int16)
        # In place from here on: this runs once a chunk, and the copies would leave the cache.
        steps *= np.float32(STEP)
        steps -= rows
        np.abs(steps, out=steps)
        if missing.all():
            return stored, 0.0
        return stored, float(np.nanmax(steps))

    def decode(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        np.multiply(stored, np.float32(STEP), out=out, dtype=np.float32)
        out[stored == _NAN] = np.nan


FLOAT32, UINT8 = Codec("float32"), Codec("uint8")
JOINT_CODECS: dict[str, Codec] = {"float32": FLOAT32, "int16": Int16("int16")}
"""Codecs of ``joints``; ``state`` is always ``UINT8``."""


def joint_codec(name: str) -> Codec:
    """Return a codec of joints by name, else an ``UnknownNameError``."""
    if name not in JOINT_CODECS:
        known = ", ".join(JOINT_CODECS)
        raise UnknownNameError(f"unknown codec '{name}': expected one of {known}{nearest(name, JOINT_CODECS)}")
    return JOINT_CODECS[name]


SHARD_ROWS = 65_536
CHUNK_ROWS = 2_048
CHUNKS = SHARD_ROWS // CHUNK_ROWS
ABSENT = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold."""
BLOSC_LEVEL = 5
_CRC_BYTES = 4
INDEX_BYTES = 16 * CHUNKS + _CRC_BYTES
_BLOSC_HEADER = 16


def encode(rows: NDArray[Any]) -> tuple[bytes, int]:
    """Return one chunk as Blosc bytes, and their CRC-32C, which follows them in the file."""
    # With threads, Blosc writes the blocks of a chunk in the order in which they finish.
    blosc.use_threads = False
    body: bytes = blosc.compress(np.ascontiguousarray(rows), b"lz4", BLOSC_LEVEL, blosc.SHUFFLE)
    return body, google_crc32c.value(body)


def checksum_bytes(checksum: int) -> bytes:
    """Return a CRC-32C as it is stored."""
    return checksum.to_bytes(_CRC_BYTES, "little")


class ShardEncoder:
    """Encodes one shard, chunk by chunk: those of zeros are stored, those after the last row not.

    Attributes:
        crc32c: checksum of each inner chunk so far, 8 hex digits each, end to end.
        error: the largest error of the codec so far.
    """

    def __init__(self, codec: Codec) -> None:
        self.crc32c, self.error = "", 0.0
        self._codec = codec
        self._pieces: list[bytes] = []
        self._index = np.full((CHUNKS, 2), ABSENT, "<u8")
        self._chunks = self._size = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Add the next chunk: ``CHUNK_ROWS`` rows [R, ...], contiguous; the last has fewer."""
        stored, error = self._codec.encode(rows)
        if len(stored) < CHUNK_ROWS:
            padding = np.zeros((CHUNK_ROWS - len(stored), *stored.shape[1:]), stored.dtype)
            stored = np.concatenate([stored, padding])
        body, checksum = encode(stored)
        length = len(body) + _CRC_BYTES
        self._pieces += [body, checksum_bytes(checksum)]
        self._index[self._chunks] = self._size, length
        self._chunks, self._size = self._chunks + 1, self._size + length
        self.crc32c += f"{checksum:08x}"
        self.error = max(self.error, error)

    def finish(self) -> list[bytes]:
        """Return the content of the shard's file, in pieces, end to end."""
        index = self._index.tobytes()
        return [*self._pieces, index, checksum_bytes(google_crc32c.value(index))]


def decode(data: bytes, *, out: NDArray[Any], where: str, expected: int | None = None) -> None:
    """Check one chunk (Blosc bytes, then their CRC-32C) and unpack it into ``out``.

    Args:
        data: the chunk as stored.
        out: C-contiguous array that the chunk must fill exactly.
        where: the chunk's name in errors.
        expected: its checksum in the manifest, for inner chunks of a shard.

    Raises:
        DataError: damaged, swapped, or of another size than ``out``.
    """
    if len(data) < _BLOSC_HEADER + _CRC_BYTES:
        raise DataError(f"{where}: {len(data)} bytes are too few for a chunk: the store is damaged, prepare it again")
    body, stored = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    checksum = google_crc32c.value(body)
    if expected is None:
        expected = stored
    if checksum != stored or checksum != expected:
        raise DataError(
            f"{where}: CRC-32C is {checksum:08x}, expected {expected:08x}: the chunk is damaged or "
            "belongs elsewhere; prepare the store again or copy it again"
        )
    # The header is compared before unpacking, so a forged one allocates nothing.
    nbytes, _, cbytes = struct.unpack_from("<III", body, 4)
    if nbytes != out.nbytes or cbytes != len(body):
        raise DataError(f"{where}: holds {nbytes} bytes instead of {out.nbytes}: not a store that smae wrote")
    try:
        blosc.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{where}: Blosc cannot unpack it ({error}): the store is damaged, prepare it again") from error


def parse_index(index: bytes, *, size: int, where: str) -> NDArray[np.uint64]:
    """Return uint64 [chunks, 2], (offset, length) of a shard's inner chunks, CRC-32C checked."""
    body, stored = index[:-_CRC_BYTES], int.from_bytes(index[-_CRC_BYTES:], "little")
    if len(index) != INDEX_BYTES or google_crc32c.value(body) != stored:
        raise DataError(f"{where}: the shard's index fails its CRC-32C: damaged, prepare the store again")
    spans = np.frombuffer(body, dtype="<u8").reshape(CHUNKS, 2).astype(np.uint64)
    present = spans[spans[:, 0] != ABSENT]
    end = np.uint64(size - INDEX_BYTES)
    # ``offset + length`` could overflow: the length is compared with what is left.
    if (present[:, 0] > end).any() or (present[:, 1] > end - np.minimum(present[:, 0], end)).any():
        raise DataError(f"{where}: the shard's index points outside the file: damaged, prepare the store again")
    return spans


@dataclass(frozen=True)
class ShardedRows:
    """One row array of a store.

    Attributes:
        root: the store's files.
        array: name of the array, ``joints`` or ``state``.
        rows: R, rows in the array.
        row_shape: shape of one row, ``(V, 3)`` or ``(V,)``.
        dtype: NumPy type of the rows that ``read`` returns.
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
    _indices: dict[int, NDArray[np.uint64]] = field(default_factory=dict, repr=False)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop``, [stop - start, ...], every touched chunk verified.

        Rows between a shard's last clip and the next shard are zeros.

        Raises:
            IndexError: beyond the rows of the array.
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
        filled = len(self.checksums[shard]) * CHUNK_ROWS
        if stop > filled:
            out[max(filled - start, 0) :] = 0
            stop = max(filled, start)
        chunks = range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS))
        if not chunks:
            return
        key = shard_key(self.array, shard, dimensions=1 + len(self.row_shape))
        name = f"{self.root.name}/{key}"
        spans = self._index(shard, key)[chunks.start : chunks.stop]
        if (missing := np.flatnonzero(spans[:, 0] == ABSENT)).size:
            chunk = chunks.start + int(missing[0])
            raise DataError(f"{name} chunk {chunk}: missing from its shard: the store is damaged, prepare it again")
        for chunk, data in zip(chunks, self._read_spans(key, spans.astype(np.int64)), strict=True):
            base = chunk * CHUNK_ROWS
            low, high = max(start, base), min(stop, base + CHUNK_ROWS)
            where, expected = f"{name} chunk {chunk}", self.checksums[shard][chunk]
            target = out[low - start : high - start]
            if len(target) == CHUNK_ROWS and self.codec.dtype == self.dtype:
                # A whole chunk is unpacked in its final position, without a copy.
                decode(data, out=target, where=where, expected=expected)
                continue
            stored = np.empty((CHUNK_ROWS, *self.row_shape), self.codec.dtype)
            decode(data, out=stored, where=where, expected=expected)
            self.codec.decode(stored[low - base : high - base], target)

    def _index(self, shard: int, key: str) -> NDArray[np.uint64]:
        if shard not in self._indices:
            size = self.sizes[shard]
            index = self.root.read_part(key, max(size - INDEX_BYTES, 0), INDEX_BYTES)
            self._indices[shard] = parse_index(index, size=size, where=f"{self.root.name}/{key}")
        return self._indices[shard]

    def _read_spans(self, key: str, spans: NDArray[np.int64]) -> Iterator[bytes]:
        """Yield the bytes at each (offset, length)."""
        offset, length = spans[:, 0], spans[:, 1]
        if (offset[1:] != offset[:-1] + length[:-1]).any():
            for begin, size in spans.tolist():
                yield self.root.read_part(key, begin, size)
            return
        # smae writes chunks end to end: one request, which counts for object stores.
        data = self.root.read_part(key, int(offset[0]), int(length.sum()))
        for begin, end in zip(offset - offset[0], offset - offset[0] + length, strict=True):
            yield data[begin:end]


def shard_key(array: str, shard: int, *, dimensions: int) -> str:
    """Return the key of one shard (Zarr's default chunk keys: ``joints/c/<shard>/0/0``)."""
    return "/".join([array, "c", str(shard), *["0"] * (dimensions - 1)])
