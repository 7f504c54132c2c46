"""A store as one HDF5 file, for people without Zarr: the same arrays under the same names.

``joints`` float32 [R, V, 3], ``state`` uint8 [R, V], ``clips/<column>`` as in ``docs/store-format.md``
(``clips/name`` as fixed-length bytes), ``splits/<name>`` uint8 [B] for every protocol that fits (1
train, 2 test, 3 validation, 0 none); attributes of the file: ``version``, ``layout``, ``mode``, ``dataset``,
``classes``, ``frames`` (0 if clips were not resampled) and ``fingerprint`` of the store. Chunks are
compressed by gzip and have Fletcher-32 checksums.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from smae import interrupts, progress
from smae.data.export import Request, signature
from smae.data.store import Store
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS
from smae.data.store.splits import TEST, TRAIN, VAL
from smae.errors import ConfigError
from smae.skeleton import layout_json

VERSION = 1


@signature(".h5", ".hdf5", magic=b"\x89HDF\r\n\x1a\n")
def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write the whole store; with ``protocol``, only that split's roles. It takes no ``frames``."""
    import h5py

    if request.frames is not None:
        raise ConfigError("--frames pads clips, and this format does not pad: leave it out")
    protocols = [request.protocol] if request.protocol is not None else list(store.protocols())
    splits = [store.split(protocol) for protocol in protocols]
    # Without times and in a fixed order, so that the same store gives the same bytes.
    sink = _Sink(path)
    with sink, h5py.File(sink, "w", libver=("earliest", "v110"), track_order=False) as file:
        file.attrs.update(
            version=VERSION,
            layout=store.layout.name,
            **{key: json.dumps(value) for key, value in layout_json(store.layout).items()},
            mode=store.mode,
            dataset=store.dataset,
            classes=np.array(store.classes, "S"),
            frames=store.attributes.frames or 0,
            fingerprint=store.fingerprint,
        )
        _copy_rows(store, file, sink)
        columns = store.clips.arrays()
        # The rows are end to end here, without the empty ones at the end of a store's shards.
        columns["offset"] = np.cumsum(store.clips.rows) - store.clips.rows
        columns["name"] = columns["name"].view(f"S{columns['name'].shape[1]}").reshape(-1)
        for name, column in columns.items():
            _create(file, f"clips/{name}", data=column)
        for split in splits:
            role = np.zeros(len(store), np.uint8)
            role[split.train], role[split.test], role[split.val] = TRAIN, TEST, VAL
            _create(file, f"splits/{split.name}", data=role)
        contents = {
            "joints": f"float32 {list(file['joints'].shape)}",
            "state": f"uint8 {list(file['state'].shape)}",
            "clips": f"{len(store)} entries in {len(columns)} columns",
        }
    sink.check()
    return contents | {f"splits/{split.name}": f"uint8 [{len(store)}]" for split in splits}, ()


class _Sink(io.FileIO):
    """A new file to which no write fails: the HDF5 library dies of a failed one when it closes.

    After the first failure it keeps what it is given, so that the library reads back what it wrote.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """Write all of ``data``, or keep it."""
        rest, end = memoryview(data).cast("B"), self.tell() + memoryview(data).nbytes
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        if rest:
            self._kept.append((end - len(rest), bytes(rest)))
            self.seek(end)
        return memoryview(data).nbytes

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, from what is kept too."""
        view, start = memoryview(buffer).cast("B"), self.tell()
        super().readinto(view)
        for at, data in self._kept:
            low, high = max(at, start), min(at + len(data), start + len(view))
            if low < high:
                view[low - start : high - start] = data[low - at : high - at]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, if the disk allows it."""
        with suppress(OSError):
            super().truncate(size)
        return self.tell() if size is None else size

    def check(self) -> None:
        """Raise the first failure."""
        if self.error is not None:
            raise self.error


def _copy_rows(store: Store, file: Any, sink: _Sink) -> None:
    clips, joints = store.clips, len(store.layout)
    rows = int(clips.rows.sum())
    packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    to_joints = _create(file, "joints", shape=(rows, joints, 3), dtype="<f4", rows=CHUNK_ROWS, **packed)
    to_state = _create(file, "state", shape=(rows, joints), dtype="u1", rows=CHUNK_ROWS, **packed)
    position = 0
    with progress.task("export", total=len(store), unit="clips") as task:
        for base in range(0, store.row_count, SHARD_ROWS):
            interrupts.check()
            sink.check()
            last = int(np.searchsorted(clips.offset, base + SHARD_ROWS)) - 1
            end = int(clips.offset[last] + clips.rows[last])
            target = slice(position, position + end - base)
            to_joints[target], to_state[target] = store.rows(base, end), store.states(base, end)
            position = target.stop
            task.update(last + 1)


def _create(file: Any, name: str, *, rows: int = 0, **options: Any) -> Any:
    shape = options["shape"] if "shape" in options else options["data"].shape
    chunks = (min(rows or shape[0], shape[0]), *shape[1:])
    return file.create_dataset(name, chunks=chunks, fletcher32=True, track_times=False, **options)
