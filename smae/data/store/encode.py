"""How a store's arrays lie on disk: shards of rows, written here; metadata and columns, written by zarr-python.

Shards are Zarr v3's ``sharding_indexed`` (specification 1.0): the inner chunks, then (offset, length) of each as
little-endian uint64, then the CRC-32C of those. zarr-python would give the same bytes of a whole shard in three times
the time (measured); it cannot leave out the chunks beyond the last row and keep those that are all zeros.
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from smae.data.store.chunks import ABSENT, CHUNK_ROWS, CHUNKS, SHARD_ROWS
from smae.data.store.codecs import Codec

_LEVEL = 5


class ShardEncoder:
    """Makes one shard, chunk by chunk; chunks of zeros are kept, chunks beyond the last row are left out.

    Attributes:
        crc32c: checksum of each inner chunk so far, 8 hex digits each, end to end.
        error: the largest error that the codec made so far.

    Args:
        codec: how numbers are kept.
    """

    def __init__(self, codec: Codec) -> None:
        # With threads, Blosc writes a chunk's blocks in the order in which they are done.
        blosc.use_threads = False
        self.crc32c, self.error = "", 0.0
        self._codec = codec
        self._pieces: list[bytes] = []
        self._index = np.full((CHUNKS, 2), ABSENT, "<u8")
        self._chunks = self._at = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Add the next chunk: ``CHUNK_ROWS`` rows [R, ...], C-contiguous; the last one may have fewer."""
        kept, error = self._codec.encode(rows)
        if len(kept) < CHUNK_ROWS:
            kept = np.concatenate([kept, np.zeros((CHUNK_ROWS - len(kept), *kept.shape[1:]), kept.dtype)])
        body = blosc.compress(np.ascontiguousarray(kept), b"lz4", _LEVEL, blosc.SHUFFLE)
        checksum = google_crc32c.value(body)
        length = len(body) + 4
        self._pieces += [body, checksum.to_bytes(4, "little")]
        self._index[self._chunks] = self._at, length
        self._chunks, self._at = self._chunks + 1, self._at + length
        self.crc32c += f"{checksum:08x}"
        self.error = max(self.error, error)

    def finish(self) -> list[bytes]:
        """Return the file's bytes, in pieces, end to end."""
        table = self._index.tobytes()
        return [*self._pieces, table, google_crc32c.value(table).to_bytes(4, "little")]


def encode_metadata(
    attributes: dict[str, Any], rows: dict[str, tuple[tuple[int, ...], str]], columns: dict[str, NDArray[Any]]
) -> dict[str, bytes]:
    """Return every file of a store's Zarr hierarchy but the shards, by key.

    Args:
        attributes: of the root group.
        rows: shape and type of each sharded array.
        columns: whole arrays, by path; each becomes one chunk.
    """
    kept: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(kept), zarr_format=3, attributes=attributes)
    for name, (shape, dtype) in rows.items():
        _create_rows(group.store, name, shape, np.dtype(dtype))
    for name in sorted({name.split("/")[0] for name in columns}):
        group.create_group(name)
    for name, array in columns.items():
        _create_column(group.store, name, array)
    return {key: buffer.to_bytes() for key, buffer in sorted(kept.items())}


def _create_rows(store: ZarrStore, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    zarr.create_array(
        store,
        name=name,
        shape=shape,
        dtype=dtype,
        chunks=(CHUNK_ROWS, *shape[1:]),
        shards=(SHARD_ROWS, *shape[1:]),
        compressors=_codecs(dtype),
        fill_value=0,
    )


def _create_column(store: ZarrStore, name: str, array: NDArray[Any]) -> None:
    column = zarr.create_array(
        store,
        name=name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=array.shape,
        compressors=_codecs(array.dtype),
        fill_value=0,
        # Without this a column of zeros is left out, and could not be told from one that was lost.
        config={"write_empty_chunks": True},
    )
    column[...] = array


def _codecs(dtype: np.dtype[Any]) -> list[Any]:
    return [BloscCodec(typesize=dtype.itemsize, cname="lz4", clevel=_LEVEL, shuffle="shuffle"), Crc32cCodec()]
