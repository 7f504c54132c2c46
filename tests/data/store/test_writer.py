"""The Zarr hierarchy that smae writes itself, against the one that zarr-python writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from smae.data.raw.recording import Clip
from smae.data.store import Store, open_store
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS
from smae.data.store.clips import ClipFacts
from smae.data.store.format import EXCLUDED, MANIFEST, QUARANTINE, Header
from smae.data.store.writer import write_store
from smae.skeleton import NTU25


@pytest.mark.parametrize("codec", ["float32", "int16"])
def test_files_are_those_of_zarr_python(tmp_path: Path, codec: str) -> None:
    store = _store(tmp_path / "a.zarr", codec=codec)
    expected = _by_zarr(store)
    outside = (MANIFEST, QUARANTINE, EXCLUDED)
    written = {
        path.relative_to(store.path).as_posix(): path.read_bytes()
        for path in Path(store.path).rglob("*")
        if path.is_file() and path.name not in outside
    }
    assert len(expected) > 20
    assert {key: data for key, data in written.items() if not key.startswith(("joints/c", "state/c"))} == expected


def _store(path: Path, *, codec: str) -> Store:
    clips = []
    for number, frames in enumerate((3, 1, 40, 7)):
        values = np.random.default_rng(number).uniform(-1, 1, (2, frames, 25, 3))
        state = np.full((2, frames, 25), 2, np.uint8)
        facts = ClipFacts(f"clip {number}", f"A{number % 2:03}", subject=number)
        clips.append((facts, Clip(values.astype(np.float32), state, {})))
    header = Header(
        layout=NTU25,
        mode="reference",
        dataset="own",
        classes=("A000", "A001"),
        codec=codec,
        origin={"source": "ntu", "max_range": 20.0, "names": {"A000": "Grüßen"}},
    )
    splits = {"mine": np.array([1, 2, 0, 3], np.uint8), "none": np.zeros(4, np.uint8)}
    write_store(path, header=header, clips=clips, splits=splits)
    return open_store(path)


def _by_zarr(store: Store) -> dict[str, bytes]:
    """Return the same hierarchy without its shards, as zarr-python writes it."""
    files: dict[str, Buffer] = {}
    splits = store.attributes.splits
    group = zarr.create_group(MemoryStore(files), zarr_format=3, attributes=store.attributes.attributes(splits))
    rows = int(store.clips.rows.sum())
    for name, shape, dtype in (("joints", (rows, 25, 3), store.codec.dtype), ("state", (rows, 25), np.dtype("uint8"))):
        _create(group, name, shape, dtype, chunks=(CHUNK_ROWS, *shape[1:]), shards=(SHARD_ROWS, *shape[1:]))
    columns: dict[str, NDArray[Any]] = {f"clips/{name}": array for name, array in store.clips.arrays().items()}
    columns["splits/mine"], columns["splits/none"] = np.array([1, 2, 0, 3], np.uint8), np.zeros(4, np.uint8)
    group.create_group("clips")
    group.create_group("splits")
    for name, array in columns.items():
        # By default Zarr leaves out a column of zeros, which then looks like a lost one.
        full = {"write_empty_chunks": True}
        _create(group, name, array.shape, array.dtype, chunks=array.shape, config=full)[...] = array
    return {key: buffer.to_bytes() for key, buffer in files.items()}


def _create(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], **options: Any) -> Any:
    blosc = BloscCodec(typesize=dtype.itemsize, cname="lz4", clevel=5, shuffle="shuffle")
    return zarr.create_array(
        group.store, name=name, shape=shape, dtype=dtype, compressors=[blosc, Crc32cCodec()], fill_value=0, **options
    )
