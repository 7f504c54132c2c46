"""Reading a store: names, sizes and columns are checked when it is opened, checksums when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.store import splits
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS, ShardedRows, decode, shard_key
from smae.data.store.clip_table import COLUMNS, ClipTable, decode_names
from smae.data.store.codecs import UINT8, Codec
from smae.data.store.file_store import FileStore, LocalFileStore, locate, open_file_store
from smae.data.store.format import ArrayMetadata, Attributes, column_metadata, read_attributes, rows_metadata
from smae.data.store.manifest import FileRecord, check_files, read_checked, read_json, read_manifest
from smae.data.store.splits import Split
from smae.errors import DataError, UnknownNameError
from smae.registry import nearest
from smae.skeleton import Layout

DEFAULT = Path("ntu.zarr")
"""Store that is taken when none is named."""


@dataclass(frozen=True, eq=False)
class Store:
    """One prepared data set; ``docs/store-format.md`` describes its files.

    Cheap to pickle: the path and the fingerprint are pickled, and the store is opened again.

    Attributes:
        path: its folder, or its URL.
        fingerprint: SHA-256, hex, of its manifest.
        attributes: its metadata.
        clips: NumPy columns, one entry a clip.
        files: the manifest.
        stored_splits: uint8 [B] each, the splits that came with the data.
        root: its files.
    """

    path: Path | str
    fingerprint: str
    attributes: Attributes
    clips: ClipTable
    files: dict[str, FileRecord]
    stored_splits: dict[str, NDArray[np.uint8]]
    root: FileStore
    _joints: ShardedRows
    _state: ShardedRows

    @property
    def name(self) -> str:
        """Last part of its path or URL."""
        return self.root.name.rstrip("/").rpartition("/")[2]

    @property
    def layout(self) -> Layout:
        """Joint layout of the rows."""
        return self.attributes.layout

    @property
    def mode(self) -> str:
        """``reference`` or ``exact``."""
        return self.attributes.mode

    @property
    def dataset(self) -> str:
        """``ntu60``, ``ntu120``, or another data set's own name."""
        return self.attributes.dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Action ids such as ``A001``; label = index."""
        return self.attributes.classes

    @property
    def names(self) -> Mapping[str, str]:
        """Names of classes by id, where they were given when it was prepared."""
        return self.attributes.names

    @property
    def row_count(self) -> int:
        """R, the length of the row arrays, with the unused rows at the end of shards."""
        return self._joints.rows

    def __len__(self) -> int:
        return len(self.clips)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.fingerprint)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres, checksums verified.

        Raises:
            IndexError: rows that the store does not have.
            DataError: a damaged or missing chunk, named.
        """
        return self._joints.read(start, stop)

    def states(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the tracking states of rows, uint8 [stop - start, V], checksums verified.

        Raises:
            IndexError: rows that the store does not have.
            DataError: a damaged or missing chunk, named.
        """
        return self._state.read(start, stop)

    def clip(self, index: int) -> NDArray[np.float32]:
        """Return one clip, float32 [M, T, V, 3], metres."""
        start, bodies, frames = self._extent(index)
        return self.rows(start, start + bodies * frames).reshape(bodies, frames, len(self.layout), 3)

    def clip_state(self, index: int) -> NDArray[np.uint8]:
        """Return the tracking states of one clip, uint8 [M, T, V]."""
        start, bodies, frames = self._extent(index)
        return self.states(start, start + bodies * frames).reshape(bodies, frames, len(self.layout))

    def index_of(self, name: str) -> int:
        """Return the number of the clip called ``name``.

        Raises:
            UnknownNameError: no such clip.
        """
        if name not in self._numbers:
            raise UnknownNameError(f"unknown clip '{name}' in {self.path}{nearest(name, self._numbers)}")
        return self._numbers[name]

    def split(self, protocol: str) -> Split:
        """Return the clips that a protocol trains and tests on; a short name such as ``xsub`` is enough.

        Raises:
            UnknownNameError: no such protocol for this data set.
            DataError: nothing to train or nothing to test on in this store.
        """
        return splits.find_split(protocol, dataset=self.dataset, clips=self.clips, stored=self.stored_splits)

    def protocols(self) -> dict[str, tuple[int, int]]:
        """Return the protocols that fit this store, with train and test sizes."""
        return splits.fitting(dataset=self.dataset, clips=self.clips, stored=self.stored_splits)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {str(name): index for index, name in enumerate(self.clips.name)}

    def _extent(self, index: int) -> tuple[int, int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.path}")
        return int(self.clips.offset[index]), int(self.clips.bodies[index]), int(self.clips.frames[index])


def find_store(path: Path | str | None = None) -> Path | str:
    """Return ``path``, which can be a URL; without one, ``ntu.zarr`` or the only ``*.zarr`` here.

    Raises:
        DataError: there is none, or there are several and none is called ``ntu.zarr``.
    """
    if path is not None:
        return path
    if DEFAULT.exists():
        return DEFAULT
    found = sorted(Path().glob("*.zarr"))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"several stores here ({', '.join(map(str, found))}): say which with --data")
    raise DataError("no store here (expected ntu.zarr): make one with `smae prepare --raw ntu/ --out ntu.zarr`")


def open_store(path: Store | Path | str | None = None) -> Store:
    """Open a store for reading.

    Checks that exactly the manifest's files are there with its sizes, that every array has the
    shape, type and codecs that smae writes, and that the columns of clips agree with the rows and
    the classes. No row is read yet.

    Args:
        path: the store, which can be a URL; found in the current folder if None; an open store is
            returned as it is.

    Raises:
        DataError: nothing at ``path``, or not a complete, undamaged store; the message names the file.
        EnvironmentFault: an object store does not answer or denies access.
    """
    if not isinstance(path, Path | str | None):
        return path
    path = find_store(path)
    root = open_file_store(path)
    if isinstance(root, LocalFileStore) and not root.folder.is_dir():
        found = "a file" if root.folder.exists() else "nothing"
        hint = nearest(root.folder.name, (other.name for other in root.folder.parent.glob("*.zarr")))
        raise DataError(f"expected a store at {path}, found {found}; give the folder that prepare wrote{hint}")
    fingerprint, files = read_manifest(root)
    problems = check_files(root, files)
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise DataError(f"{root.name}: the store is damaged: {shown}; copy it or prepare it again")
    attributes = read_attributes(root)
    joints_count, codec = len(attributes.layout), attributes.codec
    joints = _open_rows(root, "joints", row_shape=(joints_count, 3), dtype="float32", codec=codec, files=files)
    state = _open_rows(root, "state", row_shape=(joints_count,), dtype="uint8", codec=UINT8, files=files)
    clips = _read_clips(root, files, rows=joints.rows)
    stored_splits = {
        name: _read_column(root, f"splits/{name}", "uint8", len(clips), files) for name in attributes.splits
    }
    _check_clips(root, clips, rows=joints.rows, classes=len(attributes.classes))
    for array in (joints, state):
        _check_chunks(array, clips)
    for name, role in stored_splits.items():
        if role.max(initial=0) > splits.TEST:
            raise DataError(f"{root.name}: split '{name}' holds {role.max()} where 0, 1 or 2 belong; prepare it again")
    return Store(locate(path), fingerprint, attributes, clips, files, stored_splits, root, joints, state)


def _reopen(path: Path | str, fingerprint: str) -> Store:
    store = open_store(path)
    if store.fingerprint != fingerprint:
        raise DataError(f"{path}: the store was replaced while it was in use; start again with the new one")
    return store


def _open_rows(
    root: FileStore, name: str, *, row_shape: tuple[int, ...], dtype: str, codec: Codec, files: dict[str, FileRecord]
) -> ShardedRows:
    meta = _metadata(root, name, files)
    rows = meta.shape[0] if meta.shape else 0
    if meta != rows_metadata((rows, *row_shape), codec.dtype.name):
        raise DataError(f"{root.name}/{name}: shape, type or codecs are not those of a store that smae writes")
    count = sum(path.startswith(f"{name}/c/") for path in files)
    keys = [shard_key(name, shard, dimensions=1 + len(row_shape)) for shard in range(count)]
    if count != -(-rows // SHARD_ROWS) or not all(key in files for key in keys):
        raise DataError(f"{root.name}/{name}: {rows} rows do not fit the {count} shards of the manifest")
    return ShardedRows(
        root=root,
        array=name,
        rows=rows,
        row_shape=row_shape,
        dtype=np.dtype(dtype),
        codec=codec,
        sizes=[files[key].size for key in keys],
        checksums=[files[key].checksums for key in keys],
    )


def _metadata(root: FileStore, name: str, files: dict[str, FileRecord]) -> ArrayMetadata:
    if f"{name}/zarr.json" not in files:
        raise DataError(f"{root.name}: array '{name}' is missing from the store; prepare it again")
    return ArrayMetadata.from_json(read_json(root, f"{name}/zarr.json"), where=f"{root.name}/{name}")


def _read_clips(root: FileStore, files: dict[str, FileRecord], *, rows: int) -> ClipTable:
    shape = _metadata(root, "clips/offset", files).shape
    # Every clip has at least one row, so a larger count is false; found before memory is taken.
    if len(shape) != 1 or not 0 < shape[0] <= rows:
        raise DataError(f"{root.name}: {shape} clips in {rows} rows; prepare the store again")
    count = shape[0]
    columns: dict[str, Any] = {
        name: _read_column(root, f"clips/{name}", dtype, count, files) for name, dtype in COLUMNS.items()
    }
    width = (_metadata(root, "clips/name", files).shape or (0,))[-1]
    if not 0 < width <= 255:
        raise DataError(f"{root.name}: names {width} bytes wide where 1 to 255 belong; prepare the store again")
    try:
        names = decode_names(_read_column(root, "clips/name", "uint8", count, files, width=width))
    except UnicodeDecodeError as error:
        raise DataError(f"{root.name}: a clip's name is not ASCII; prepare the store again") from error
    return ClipTable(name=names, source=_read_column(root, "clips/source", "uint8", count, files, width=32), **columns)


def _read_column(
    root: FileStore, name: str, dtype: str, count: int, files: dict[str, FileRecord], *, width: int = 0
) -> NDArray[Any]:
    shape = (count, width) if width else (count,)
    if _metadata(root, name, files) != column_metadata(shape, dtype):
        raise DataError(f"{root.name}/{name}: shape, type or codecs are not those of a store that smae writes")
    key = "/".join([name, "c", *("0" for _ in shape)])
    if key not in files:
        raise DataError(f"{root.name}: {key} is missing from the store; prepare it again")
    out = np.empty(shape, np.dtype(dtype))
    decode(read_checked(root, files[key]), out=out, where=f"{root.name}/{key}")
    return out


def _check_clips(root: FileStore, clips: ClipTable, *, rows: int, classes: int) -> None:
    ends = clips.offset + clips.rows
    before = np.concatenate([[0], ends[:-1]])
    next_shard = -(-before // SHARD_ROWS) * SHARD_ROWS
    checks = {
        "bodies other than 1 or 2": (clips.bodies < 1) | (clips.bodies > 2),
        "no frames": clips.frames < 1,
        "rows that begin neither after the clip before it nor with the next shard": (clips.offset != before)
        & (clips.offset != next_shard),
        "rows in more than one shard": clips.offset // SHARD_ROWS != (ends - 1) // SHARD_ROWS,
        "a label outside the classes": (clips.label < 0) | (clips.label >= classes),
    }
    for what, wrong in checks.items():
        if wrong.any():
            raise DataError(f"{root.name}: clip {int(wrong.argmax())} has {what}; prepare the store again")
    if ends[-1] != rows:
        raise DataError(f"{root.name}: the clips end at row {ends[-1]}, the store at {rows}; prepare the store again")
    if len(np.unique(clips.name)) != len(clips):
        raise DataError(f"{root.name}: a clip's name occurs twice; prepare the store again")


def _check_chunks(array: ShardedRows, clips: ClipTable) -> None:
    """Refuse shards that hold more or fewer chunks than their clips' rows take."""
    last = np.zeros(len(array.checksums), np.int64)
    np.maximum.at(last, clips.offset // SHARD_ROWS, (clips.offset + clips.rows - 1) % SHARD_ROWS)
    for shard, (row, checksums) in enumerate(zip(last.tolist(), array.checksums, strict=True)):
        if len(checksums) != row // CHUNK_ROWS + 1:
            raise DataError(
                f"{array.root.name}/{array.array}: shard {shard} holds {len(checksums)} chunks where its clips take "
                f"{row // CHUNK_ROWS + 1}; prepare the store again"
            )
