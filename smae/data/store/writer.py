"""Finishing a store: numbers of shards, metadata, columns of clips and, last, the manifest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from blake3 import blake3
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from smae.atomic_io import fsync_folder, os_errors
from smae.data.raw.recording import Clip
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS, shard_key
from smae.data.store.clip_table import ClipFacts, ClipTable, build_table
from smae.data.store.codecs import joint_codec
from smae.data.store.file_store import FileStore, LocalFileStore
from smae.data.store.manifest import MANIFEST, QUARANTINE, STORE_VERSION, FileRecord, encode_manifest, record_of
from smae.data.store.shards import BLOSC_LEVEL, DIMENSIONS, Shard, ShardWriter, offsets
from smae.errors import DataError, EnvironmentFault
from smae.skeleton import Layout

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Header:
    """Metadata of a store (``attributes.smae`` of its group).

    Attributes:
        layout: joint layout.
        mode: ``reference`` or ``exact``.
        dataset: ``ntu60``, ``ntu120`` or the name of another data set.
        classes: sorted action ids; label = index.
        codec: how joints are stored, see ``codecs.py``.
        frames: T if every clip was resampled to it, else None.
        origin: where the clips came from, as settings and digests; nothing of root, time or machine.
        counts: what was found, kept and left out.
    """

    layout: Layout
    mode: str
    dataset: str
    classes: tuple[str, ...]
    codec: str = "float32"
    frames: int | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)

    def attributes(self, splits: Iterable[str]) -> dict[str, Any]:
        """Return the group's attributes, ready for JSON."""
        return {
            "smae": {
                "version": STORE_VERSION,
                "layout": self.layout.name,
                "mode": self.mode,
                "codec": self.codec,
                "dataset": self.dataset,
                "classes": list(self.classes),
                "frames": self.frames,
                "splits": sorted(splits),
                "origin": dict(self.origin),
                "counts": dict(self.counts),
            }
        }


def finish_store(
    root: FileStore,
    header: Header,
    clips: ClipTable,
    *,
    shards: Sequence[Shard],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
    quarantine: bytes = b"",
) -> str:
    """Number the shards, write everything else and, last, the manifest; return the store's fingerprint.

    Args:
        root: where the shards are; files that are not part of the store are removed.
        header: its metadata.
        clips: the table of all clips, with ``offsets`` of the shards.
        shards: in the order of their clips.
        splits: uint8 [B] a split: 1 train, 2 test, 0 neither.
        quarantine: the lines of ``quarantine.jsonl``.

    Raises:
        DataError: a split's name cannot be a file name.
        EnvironmentFault: the disk refused, or a shard that was written is not there.
    """
    splits = splits or {}
    for name in splits:
        if not _SPLIT_NAME.fullmatch(name):
            raise DataError(f"split {name!a}: expected a name of letters, digits, '_', '.' and '-'")
    files = _number(root, shards)
    end = int(clips.offset[-1] + clips.rows[-1])
    joints = len(header.layout)
    columns = {f"clips/{name}": array for name, array in clips.arrays().items()}
    columns |= {f"splits/{name}": np.asarray(array, np.uint8) for name, array in splits.items()}
    rows = {"joints": ((end, joints, 3), joint_codec(header.codec).dtype.name), "state": ((end, joints), "uint8")}
    others = encode_metadata(header.attributes(splits), rows, columns)
    others[QUARANTINE] = quarantine
    for key, data in others.items():
        root.write(key, data)
        files[key] = record_of(key, data)
    present = root.sizes()
    for key, record in files.items():
        if present.get(key) != record.size:
            raise EnvironmentFault(
                f"{root.name}/{key}: not there as it was written: do all workers see this path? Put it right and run "
                "the same command with --resume"
            )
    for key in present:
        if key not in files:
            root.remove(key)
    if isinstance(root, LocalFileStore):
        for folder in sorted({(root.folder / key).parent for key in files}):
            fsync_folder(folder)
    manifest = encode_manifest(files)
    root.write(MANIFEST, manifest)
    return hashlib.sha256(manifest).hexdigest()


def _number(root: FileStore, shards: Sequence[Shard]) -> dict[str, FileRecord]:
    """Give each shard its final key; return the records by key.

    From the last to the first: a shard's number is never below its task's, so nothing is overwritten.
    """
    files: dict[str, FileRecord] = {}
    for number, shard in reversed(list(enumerate(shards))):
        for array, record in shard.files.items():
            key = shard_key(array, number, dimensions=DIMENSIONS[array])
            if record.path != key:
                root.move(record.path, key)
            files[key] = FileRecord(key, record.size, record.blake3, record.crc32c)
    return files


def write_store(
    folder: Path,
    *,
    header: Header,
    clips: Iterable[tuple[ClipFacts, Clip]],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
) -> str:
    """Write a store of clips that are already in memory and return its fingerprint.

    For data that does not come from raw files (imports, generated clips); a clip's ``source`` is the BLAKE3 of its
    joints.

    Args:
        folder: must not exist yet; appears under its name only when it is complete.
        header: what the store says of itself.
        clips: facts and joints, in store order; float32 [M, T, V, 3] and uint8 [M, T, V].
        splits: uint8 [B] a split of one's own.

    Raises:
        DataError: no clip at all, or one that is not the layout's, too long, or beyond the codec's reach.
        EnvironmentFault: the disk refused.
    """
    root = LocalFileStore(folder.with_name(folder.name + ".wip"))
    writer = ShardWriter(root, layout=header.layout, codec=header.codec)
    facts, frames, bodies, source = [], [], [], []
    for fact, clip in clips:
        if problem := writer.rejection(clip):
            raise DataError(f"clip {fact.name}: {problem[1]}")
        writer.append(clip)
        facts.append(fact)
        bodies.append(clip.joints.shape[0])
        frames.append(clip.joints.shape[1])
        source.append(blake3(clip.joints.tobytes()).digest())
    if not facts:
        raise DataError("a store needs at least one clip; none was given")
    shards = writer.end()
    for shard in shards:
        shard.fsync(root)
    rows = [t * m for t, m in zip(frames, bodies, strict=True)]
    table = build_table(
        facts, offset=offsets(shards, rows), frames=frames, bodies=bodies, source=source, classes=header.classes
    )
    fingerprint = finish_store(root, header, table, shards=shards, splits=splits)
    with os_errors(folder):
        os.rename(root.folder, folder)
    fsync_folder(folder.parent)
    return fingerprint


def encode_metadata(
    attributes: dict[str, Any], rows: dict[str, tuple[tuple[int, ...], str]], columns: dict[str, NDArray[Any]]
) -> dict[str, bytes]:
    """Return every file of the Zarr hierarchy except shards, by key; zarr-python encodes them.

    Args:
        attributes: of the root group.
        rows: shape and type of each sharded array.
        columns: whole arrays, by path; each becomes one chunk.
    """
    written: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(written), zarr_format=3, attributes=attributes)
    for name, (shape, dtype) in rows.items():
        _create_rows(group.store, name, shape, np.dtype(dtype))
    for name in sorted({name.split("/")[0] for name in columns}):
        group.create_group(name)
    for name, array in columns.items():
        _create_column(group.store, name, array)
    return {key: buffer.to_bytes() for key, buffer in sorted(written.items())}


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
        # Without this a column of zeros is left out, and looks like a lost one.
        config={"write_empty_chunks": True},
    )
    column[...] = array


def _codecs(dtype: np.dtype[Any]) -> list[Any]:
    return [BloscCodec(typesize=dtype.itemsize, cname="lz4", clevel=BLOSC_LEVEL, shuffle="shuffle"), Crc32cCodec()]
