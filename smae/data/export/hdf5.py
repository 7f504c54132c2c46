"""A store as one HDF5 file: the same arrays under the same names, readable without Zarr.

``joints`` float32 [R, V, 3], ``state`` uint8 [R, V], ``clips/<column>`` as in ``docs/store-format.md`` (``clips/name``
as fixed-length bytes), ``splits/<name>`` uint8 [B] for every protocol that fits (1 train, 2 test, 0 neither);
attributes of the file: ``version``, ``layout``, ``mode``, ``dataset``, ``classes``, ``frames`` (0 where clips were not
resampled) and ``fingerprint`` of the store. Chunks are compressed by gzip and have Fletcher-32 checksums.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smae import progress
from smae.data.export.base import Request
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS
from smae.data.store.splits import TEST, TRAIN
from smae.data.store.store import Store
from smae.errors import ConfigError

VERSION = 1


def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write the whole store; with ``protocol``, only that split.

    Raises:
        ConfigError: ``frames`` is given, and this format does not pad.
        UnknownNameError: no such protocol for this store.
    """
    import h5py

    if request.frames is not None:
        raise ConfigError("--frames pads clips, and this format does not pad: leave it out")
    protocols = [request.protocol] if request.protocol is not None else list(store.protocols())
    splits = [store.split(protocol) for protocol in protocols]
    # Times are left out, so that the same store gives the same bytes.
    with h5py.File(path, "w", libver=("earliest", "v110"), track_order=False) as file:
        file.attrs.update(_attributes(store))
        _copy_rows(store, file)
        columns = store.clips.arrays()
        # Contiguous, without the unused rows at the ends of shards.
        columns["offset"] = np.cumsum(store.clips.rows) - store.clips.rows
        names = columns.pop("name")
        _create(file, "clips/name", data=names.view(f"S{names.shape[1]}").reshape(-1))
        for name, column in columns.items():
            _create(file, f"clips/{name}", data=column)
        for split in splits:
            role = np.zeros(len(store), np.uint8)
            role[split.train], role[split.test] = TRAIN, TEST
            _create(file, f"splits/{split.name}", data=role)
        contents = {
            "joints": f"float32 {list(file['joints'].shape)}",
            "state": f"uint8 {list(file['state'].shape)}",
            "clips": f"{len(store)} entries in {len(columns) + 1} columns",
        }
    return contents | {f"splits/{split.name}": f"uint8 [{len(store)}]" for split in splits}, ()


def _attributes(store: Store) -> dict[str, Any]:
    return {
        "version": VERSION,
        "layout": store.layout.name,
        "mode": store.mode,
        "dataset": store.dataset,
        "classes": np.array(store.classes, "S"),
        "frames": store.attributes.frames or 0,
        "fingerprint": store.fingerprint,
    }


def _copy_rows(store: Store, file: Any) -> None:
    clips, joints = store.clips, len(store.layout)
    rows = int(clips.rows.sum())
    packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    into_joints = _create(file, "joints", shape=(rows, joints, 3), dtype="<f4", rows=CHUNK_ROWS, **packed)
    into_state = _create(file, "state", shape=(rows, joints), dtype="u1", rows=CHUNK_ROWS, **packed)
    at = 0
    shards = range(0, store.row_count, SHARD_ROWS)
    for base in progress.track(shards, "export", unit="shards"):
        last = int(np.searchsorted(clips.offset, base + SHARD_ROWS)) - 1
        end = int(clips.offset[last] + clips.rows[last])
        target = slice(at, at + end - base)
        into_joints[target], into_state[target] = store.rows(base, end), store.states(base, end)
        at = target.stop


def _create(file: Any, name: str, *, rows: int = 0, **options: Any) -> Any:
    shape = options.get("shape")
    if shape is None:
        shape = options["data"].shape
    chunks = (min(rows or shape[0], shape[0]), *shape[1:])
    return file.create_dataset(name, chunks=chunks, fletcher32=True, track_times=False, **options)
