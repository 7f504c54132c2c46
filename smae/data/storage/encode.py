"""How a store's arrays lie on disk, written by zarr-python: shards of rows, columns of one chunk, checksums always."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from smae.data.storage.chunks import CHUNK_ROWS, SHARD_ROWS


def encode_shard(rows: NDArray[Any]) -> bytes:
    """Return up to ``SHARD_ROWS`` rows as the bytes of one Zarr v3 shard, every inner chunk kept, zeros included."""
    kept: dict[str, Buffer] = {}
    array = create_rows(MemoryStore(kept), None, rows.shape, rows.dtype)
    array[...] = rows
    return kept["/".join(["c", *("0" for _ in rows.shape)])].to_bytes()


def create_rows(
    store: ZarrStore, name: str | None, shape: tuple[int, ...], dtype: np.dtype[Any] | str
) -> zarr.Array[Any]:
    """Create the metadata of a row array, [R, ...]: shards of ``SHARD_ROWS``, inner chunks of ``CHUNK_ROWS`` rows."""
    return zarr.create_array(
        store,
        name=name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=(CHUNK_ROWS, *shape[1:]),
        shards=(SHARD_ROWS, *shape[1:]),
        compressors=_codecs(np.dtype(dtype)),
        fill_value=0,
        # Without this a chunk of zeros is left out, and could not be told from one that was lost.
        config={"write_empty_chunks": True},
    )


def create_column(store: ZarrStore, name: str, array: NDArray[Any]) -> None:
    """Write a whole column of the clips as one chunk."""
    column = zarr.create_array(
        store,
        name=name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=array.shape,
        compressors=_codecs(array.dtype),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    column[...] = array


def _codecs(dtype: np.dtype[Any]) -> list[Any]:
    return [BloscCodec(typesize=dtype.itemsize, cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()]
