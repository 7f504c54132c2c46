"""A store, opened and read: names, sizes and columns are checked at open, checksums on reading."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.store import format as store_format
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS, UINT8, Codec, ShardedRows, decode, joint_codec, shard_key
from smae.data.store.clips import COLUMNS, ClipSequence, ClipTable, decode_names
from smae.data.store.file_store import FileStore, LocalFileStore, locate, open_file_store
from smae.data.store.format import FileRecord, Header
from smae.data.store.splits import VAL, Split, find_split, fitting, read_own_splits, training_split
from smae.errors import DataError, UnknownNameError
from smae.registry import nearest
from smae.skeleton import Layout

DEFAULT_STORE = Path("ntu.zarr")
RATES = {"ntu": 30.0, "nw-ucla": 30.0, "pku-mmd": 30.0, "utd-mhad": 30.0, "video": 30.0}
"""Frames per second of sources that have one: Kinects', and videos', which are resampled to it."""


@dataclass(frozen=True, eq=False, repr=False)
class Store(ClipSequence):
    """One prepared data set, open for reading; its format is in ``docs/store-format.md``.

    A sequence of clips: ``store[0]``, ``store["NAME"]`` and iteration give each as a ``StoreClip``.
    Pickled as path and fingerprint: the process that unpickles it opens the store again.

    Attributes:
        path: its folder, or its URL.
        fingerprint: SHA-256, hex, of its manifest.
        attributes: the store's attributes as a whole.
        clips: NumPy columns, one entry a clip.
        files: the manifest's records by path.
        stored_splits: uint8 [B] each, the splits that came with the data, or were made since.
        root: access to the files.
        own_splits: names of those that were made since, by ``smae split``.
    """

    path: Path | str
    fingerprint: str
    attributes: Header
    clips: ClipTable
    files: dict[str, FileRecord]
    stored_splits: dict[str, NDArray[np.uint8]]
    root: FileStore
    _joints: ShardedRows
    _state: ShardedRows
    own_splits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path or URL."""
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
    def codec(self) -> Codec:
        """The codec of ``joints``."""
        return self._joints.codec

    @property
    def dataset(self) -> str:
        """``ntu60``, ``ntu120``, or the name of another data set."""
        return self.attributes.dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Action ids such as ``A001``; label = index."""
        return self.attributes.classes

    @property
    def names(self) -> Mapping[str, str]:
        """Names of classes in words, by id, where the preparation was given them."""
        return self.attributes.names

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Bool [S, V], the joints that each of S sources lacks and its rows do not give; S is 1."""
        lost = self.attributes.origin.get("missing", ())
        return np.array([[joint in lost for joint in self.attributes.layout.joints]])

    @property
    def member(self) -> NDArray[np.int64]:
        """Int64 [B], which of the S sources each clip is of."""
        return np.zeros(len(self), np.int64)

    @property
    def row_count(self) -> int:
        """R, the length of the row arrays, with the empty rows at the end of a shard."""
        return self._joints.rows

    def __len__(self) -> int:
        return len(self.clips)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.fingerprint)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres, checksums verified.

        Raises:
            IndexError: beyond the rows of the store.
            DataError: a damaged or missing chunk; the message names it.
        """
        return self._joints.read(start, stop)

    def states(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the tracking states of rows, uint8 [stop - start, V]; raises as ``rows`` does."""
        return self._state.read(start, stop)

    def number(self, clip: int | str) -> int:
        """Return the number, from 0, of a clip by number or name; raises as ``store[clip]``."""
        if isinstance(clip, str):
            return self.index_of(clip)
        if not -len(self) <= (number := operator.index(clip)) < len(self):
            raise IndexError(f"clip {clip} of {len(self)} in {self.path}")
        return number % len(self)

    def clip(self, clip: int | str) -> NDArray[np.float32]:
        """Return the joints of one clip, by number or name: float32 [M, T, V, 3], metres."""
        start, bodies, frames = self._span(clip)
        return self.rows(start, start + bodies * frames).reshape(bodies, frames, len(self.layout), 3)

    def clip_state(self, clip: int | str) -> NDArray[np.uint8]:
        """Return the tracking states of one clip, uint8 [M, T, V]."""
        start, bodies, frames = self._span(clip)
        return self.states(start, start + bodies * frames).reshape(bodies, frames, len(self.layout))

    def index_of(self, name: str) -> int:
        """Return the index of a clip by name, else an ``UnknownNameError``."""
        if name not in self._indices:
            known = f"expected one of its {len(self):,} names, such as {self.clips.name[0]}"
            raise UnknownNameError(f"unknown clip '{name}' in {self.path}: {known}{nearest(name, self._indices)}")
        return self._indices[name]

    def split(self, protocol: str) -> Split:
        """Return the parts of a protocol: its full name, or ``xsub`` in an NTU store.

        Raises:
            UnknownNameError: no such protocol for this data set.
            DataError: no train or no test clips in this store.
        """
        return find_split(protocol, dataset=self.dataset, clips=self.clips, stored=self.stored_splits)

    def training_split(self, protocol: str) -> Split:
        """Return what to pre-train on: the train part, or all clips of a store without parts.

        Raises:
            UnknownNameError, DataError: the store has other protocols, but not this one.
        """
        return training_split(protocol, dataset=self.dataset, clips=self.clips, stored=self.stored_splits)

    def protocols(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of train and test clips of each protocol that fits this store."""
        return fitting(dataset=self.dataset, clips=self.clips, stored=self.stored_splits)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {str(name): index for index, name in enumerate(self.clips.name)}

    def _span(self, clip: int | str) -> tuple[int, int, int]:
        index = self.number(clip)
        return int(self.clips.offset[index]), int(self.clips.bodies[index]), int(self.clips.frames[index])


def preparation(store: Any) -> dict[str, Any]:
    """Return how a store's recordings became clips, so that others can be prepared in the same way.

    ``clip_frames`` are median and largest number of frames; None if resampled.
    """
    origin = store.attributes.origin
    known = {key: origin[key] for key in ("source", "strict", "max_range", "frames", "unit") if key in origin}
    frames = np.sort(store.clips.frames)
    clip_frames = None
    if known.get("frames") is None and len(frames):
        clip_frames = [int(frames[len(frames) // 2]), int(frames[-1])]
    return known | {"mode": store.mode, "clip_frames": clip_frames}


def frame_rate(store: Store) -> float | None:
    """Return the frames per second of a store's clips; None where that is not known."""
    origin = store.attributes.origin
    if store.attributes.frames is not None:
        return None
    rate = origin.get("fps", RATES.get(str(origin.get("source"))))
    known = type(rate) in (int, float) and 1 <= rate <= 1000
    return float(rate) if known else None


def find_store(path: Path | str | None = None) -> Path | str:
    """Return ``path`` (or URL); by default ``ntu.zarr`` or the only ``*.zarr`` here.

    Raises:
        DataError: none found, or several of which none is ``ntu.zarr``.
    """
    if path is not None:
        return path
    if DEFAULT_STORE.exists():
        return DEFAULT_STORE
    stores = sorted(Path().glob("*.zarr"))
    if not stores:
        raise DataError("no store here (expected ntu.zarr): make one with `smae prepare --raw ntu/ --out ntu.zarr`")
    if len(stores) > 1:
        raise DataError(f"several stores here ({', '.join(map(str, stores))}): say which with --data")
    return stores[0]


def open_store(path: Store | Path | str | None = None) -> Store:
    """Open a store for reading.

    Checks that exactly the manifest's files exist with its sizes, that every array has the shape, type
    and codecs that smae writes, and that the columns agree with rows and classes. Reads no rows.

    Args:
        path: folder or URL; by default that of ``find_store``. An open store is returned.

    Raises:
        DataError: no store there, or an incomplete or damaged one; the message names the file.
        EnvironmentFault: an object store does not answer or denies access.
    """
    if not isinstance(path, Path | str | None):
        return path
    path = find_store(path)
    root = open_file_store(path)
    if isinstance(root, LocalFileStore) and not root.folder.is_dir():
        folder = root.folder
        found = "a file" if folder.exists() else "nothing"
        hint = nearest(folder.name, (other.name for other in folder.parent.glob("*.zarr")))
        raise DataError(f"expected a store at {path}, found {found}; give the folder that prepare wrote{hint}")
    fingerprint, files = store_format.read_manifest(root)
    present = root.sizes()
    problems = [store_format.describe(*item) for item in store_format.check_files(present, files).items()]
    if problems:
        shown = "; ".join(problems[:5])
        if len(problems) > 5:
            shown += f"; and {len(problems) - 5} more"
        raise DataError(f"{root.name}: the store is damaged: {shown}; copy it or prepare it again")
    opening = _Opening(root, files, store_format.read_header(root), own_splits=store_format.SPLITS_FILE in present)
    return opening.store(locate(path), fingerprint)


def _reopen(path: Path | str, fingerprint: str) -> Store:
    store = open_store(path)
    if store.fingerprint != fingerprint:
        raise DataError(f"{path}: the store was replaced while it was in use; start again with the new one")
    return store


@dataclass(frozen=True)
class _Opening:
    """Reads and checks the arrays of a store that is being opened."""

    root: FileStore
    files: dict[str, FileRecord]
    header: Header
    own_splits: bool

    def store(self, path: Path | str, fingerprint: str) -> Store:
        header, joints_count = self.header, len(self.header.layout)
        joints = self.rows("joints", (joints_count, 3), np.dtype(np.float32), joint_codec(header.codec))
        state = self.rows("state", (joints_count,), np.dtype(np.uint8), UINT8)
        clips = self.clips(joints.rows)
        splits = {name: self.column(f"splits/{name}", "uint8", len(clips)) for name in header.splits}
        self.check_clips(clips, joints.rows)
        for array in (joints, state):
            self.check_chunks(array, clips)
        for name, role in splits.items():
            if role.max(initial=0) > VAL:
                problem = f"split '{name}' holds {role.max()} where 0 to 3 are expected"
                raise DataError(f"{self.root.name}: {problem}; prepare it again")
        own = read_own_splits(self.root, clips) if self.own_splits else {}
        return Store(
            path, fingerprint, header, clips, self.files, splits | own, self.root, joints, state, tuple(sorted(own))
        )

    def error(self, problem: str) -> DataError:
        return DataError(f"{self.root.name}{problem}; prepare the store again")

    def metadata(self, name: str) -> dict[str, Any]:
        if f"{name}/zarr.json" not in self.files:
            raise self.error(f": array '{name}' is missing from the store")
        content = store_format.read_json(self.root, f"{name}/zarr.json")
        return store_format.array_metadata(content, where=f"{self.root.name}/{name}")

    def rows(self, name: str, row_shape: tuple[int, ...], dtype: np.dtype[Any], codec: Codec) -> ShardedRows:
        metadata = self.metadata(name)
        rows = [*metadata["shape"], 0][0]
        if metadata != store_format.rows_metadata((rows, *row_shape), codec.dtype.name):
            raise self.error(f"/{name}: shape, type or codecs are not those of a store that smae writes")
        count = sum(path.startswith(f"{name}/c/") for path in self.files)
        # Counted first: rows in the metadata may be 2^60, and no list is made of what they claim.
        keys = [shard_key(name, shard, dimensions=1 + len(row_shape)) for shard in range(count)]
        if count != -(-rows // SHARD_ROWS) or not all(key in self.files for key in keys):
            raise self.error(f"/{name}: {rows} rows do not fit the {count} shards of the manifest")
        sizes = [self.files[key].size for key in keys]
        checksums = [self.files[key].checksums for key in keys]
        return ShardedRows(self.root, name, rows, row_shape, dtype, codec, sizes, checksums)

    def clips(self, rows: int) -> ClipTable:
        shape = self.metadata("clips/offset")["shape"]
        # Every clip has a row: a false count is found before memory is allocated for it.
        if len(shape) != 1 or not 0 < shape[0] <= rows:
            raise self.error(f": {shape} clips in {rows} rows")
        count = shape[0]
        columns: dict[str, Any] = {name: self.column(f"clips/{name}", type_, count) for name, type_ in COLUMNS.items()}
        width = [0, *self.metadata("clips/name")["shape"]][-1]
        if not 0 < width <= 255:
            raise self.error(f": names {width} bytes wide where 1 to 255 are expected")
        try:
            names = decode_names(self.column("clips/name", "uint8", count, width))
        except ValueError as error:
            raise self.error(": a clip's name is not printable ASCII") from error
        return ClipTable(name=names, source=self.column("clips/source", "uint8", count, 32), **columns)

    def column(self, name: str, dtype: str, *shape: int) -> NDArray[Any]:
        if self.metadata(name) != store_format.column_metadata(shape, dtype):
            raise self.error(f"/{name}: shape, type or codecs are not those of a store that smae writes")
        key = "/".join([name, "c", *["0"] * len(shape)])
        if key not in self.files:
            raise self.error(f": {key} is missing from the store")
        out = np.empty(shape, np.dtype(dtype))
        decode(store_format.read_checked(self.root, self.files[key]), out=out, where=f"{self.root.name}/{key}")
        return out

    def check_clips(self, clips: ClipTable, rows: int) -> None:
        ends = clips.offset + clips.rows
        before = np.concatenate([[0], ends[:-1]])
        next_shard = -(-before // SHARD_ROWS) * SHARD_ROWS
        gaps = (clips.offset != before) & (clips.offset != next_shard)
        checks = {
            "bodies other than 1 or 2": (clips.bodies < 1) | (clips.bodies > 2),
            "no frames": clips.frames < 1,
            "rows that begin neither where the clip before it ends nor with the next shard": gaps,
            "rows in more than one shard": clips.offset // SHARD_ROWS != (ends - 1) // SHARD_ROWS,
            "a label outside the classes": (clips.label < 0) | (clips.label >= len(self.header.classes)),
        }
        for problem, wrong in checks.items():
            if wrong.any():
                raise self.error(f": clip {int(wrong.argmax())} has {problem}")
        if ends[-1] != rows:
            raise self.error(f": the clips end at row {ends[-1]}, the store at {rows}")
        if len(np.unique(clips.name)) != len(clips):
            raise self.error(": a clip's name occurs twice")

    def check_chunks(self, array: ShardedRows, clips: ClipTable) -> None:
        """Refuse shards with other numbers of chunks than their clips need: reading trusts it."""
        last = np.zeros(len(array.checksums), np.int64)
        np.maximum.at(last, clips.offset // SHARD_ROWS, (clips.offset + clips.rows - 1) % SHARD_ROWS)
        for shard, (row, checksums) in enumerate(zip(last.tolist(), array.checksums, strict=True)):
            needed = row // CHUNK_ROWS + 1
            if len(checksums) != needed:
                found = f"shard {shard} holds {len(checksums)} chunks where its clips take {needed}"
                raise self.error(f"/{array.array}: {found}")
