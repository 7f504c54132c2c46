"""Completes a store whose shards are written: shard numbers, metadata, columns, manifest last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from smae.atomic_io import fsync_folder, os_errors
from smae.data.raw.recording import Clip
from smae.data.store.chunks import checksum_bytes, encode, joint_codec, shard_key
from smae.data.store.clips import ClipFacts, ClipTable, build_table
from smae.data.store.file_store import FileStore, LocalFileStore
from smae.data.store.format import (
    EXCLUDED,
    MANIFEST,
    QUARANTINE,
    FileRecord,
    column_metadata,
    encode_array,
    encode_group,
    encode_manifest,
    record_of,
    rows_metadata,
)
from smae.data.store.format import Header as Header
from smae.data.store.shards import DIMENSIONS, Shard, ShardWriter, offsets
from smae.data.store.splits import SPLIT_NAME
from smae.errors import DataError, EnvironmentFault


def finish_store(
    root: FileStore,
    header: Header,
    clips: ClipTable,
    *,
    shards: Sequence[Shard],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
    quarantine: bytes = b"",
    excluded: bytes = b"",
) -> str:
    """Rename the shards, write everything else and, last, the manifest; return the fingerprint.

    Args:
        root: holds the shards; files that do not belong to the store are removed.
        header: the store's attributes.
        clips: the table of all clips, with ``offsets`` of the shards.
        shards: in the order of their clips.
        splits: uint8 [B] each, splits of the data set: 1 train, 2 test, 3 validation, 0 none.
        quarantine: the content of ``quarantine.jsonl``.
        excluded: the content of ``excluded.jsonl``, which is written only where there is any.

    Raises:
        DataError: the name of a split cannot be that of a file.
        EnvironmentFault: the disk refused, or a written shard is missing.
    """
    splits = splits or {}
    for name in splits:
        if not SPLIT_NAME.fullmatch(name):
            raise DataError(f"split {name!a}: expected a name of letters, digits, '_', '.' and '-'")
    files = _number_shards(root, shards)
    others = _encode_metadata(header, clips, splits) | {QUARANTINE: quarantine}
    for key, data in others.items():
        root.write(key, data)
        files[key] = record_of(key, data)
    present = root.sizes()
    for key, record in files.items():
        if present.get(key) != record.size:
            raise EnvironmentFault(
                f"{root.name}/{key}: not there as it was written: do all workers see this file "
                "system? Put it right and run the same command with --resume"
            )
    for key in present:
        if key not in files:
            root.remove(key)
    if excluded:
        root.write(EXCLUDED, excluded)
    if isinstance(root, LocalFileStore):
        # All names must survive a power cut before the manifest, which declares the store complete.
        for folder in sorted({(root.folder / key).parent for key in files}):
            fsync_folder(folder)
    manifest = encode_manifest(files)
    root.write(MANIFEST, manifest)
    return hashlib.sha256(manifest).hexdigest()


def _number_shards(root: FileStore, shards: Sequence[Shard]) -> dict[str, FileRecord]:
    """Rename the shards to their final keys; return the records by key."""
    files: dict[str, FileRecord] = {}
    # From the last to the first: a shard's final number is at least that of its task, so none is
    # overwritten before it has moved.
    for number, shard in reversed(list(enumerate(shards))):
        for array, record in shard.files.items():
            key = shard_key(array, number, dimensions=DIMENSIONS[array])
            if record.path != key:
                root.move(record.path, key)
            files[key] = FileRecord(key, record.size, record.blake3, record.crc32c)
    return files


def _encode_metadata(header: Header, clips: ClipTable, splits: Mapping[str, NDArray[np.uint8]]) -> dict[str, bytes]:
    """Return every file of the Zarr hierarchy but the shards, by key.

    Written here and not by zarr-python, which takes longer to import than a thousand recordings to prepare; a test
    holds the two to the same bytes.
    """
    rows, joints = int(clips.offset[-1] + clips.rows[-1]), len(header.layout)
    columns = {f"clips/{name}": array for name, array in clips.arrays().items()}
    columns |= {f"splits/{name}": np.asarray(array, np.uint8) for name, array in splits.items()}
    arrays = {
        "joints": rows_metadata((rows, joints, 3), joint_codec(header.codec).dtype.name),
        "state": rows_metadata((rows, joints), "uint8"),
    }
    arrays |= {name: column_metadata(array.shape, array.dtype.name) for name, array in columns.items()}
    files = {"zarr.json": encode_group(header.attributes(splits))}
    files |= {f"{group}/zarr.json": encode_group({}) for group in {name.split("/")[0] for name in columns}}
    files |= {f"{name}/zarr.json": encode_array(metadata) for name, metadata in arrays.items()}
    for name, array in columns.items():
        body, checksum = encode(array)
        files["/".join([name, "c", *"0" * array.ndim])] = body + checksum_bytes(checksum)
    return dict(sorted(files.items()))


def write_store(
    folder: Path,
    *,
    header: Header,
    clips: Iterable[tuple[ClipFacts, Clip]],
    splits: Mapping[str, NDArray[np.uint8]] | None = None,
) -> str:
    """Write a store of clips that are in memory and return its fingerprint.

    For data without raw files (imports, generated); a clip's ``source`` is its joints' BLAKE3.

    Args:
        folder: must not exist; appears when the store is complete.
        header: the store's attributes.
        clips: facts and joints, in store order; float32 [M, T, V, 3] and uint8 [M, T, V].
        splits: uint8 [B] each: 1 train, 2 test, 3 validation, 0 none.

    Raises:
        DataError: no clip, or one of another layout, too long, or beyond the codec's reach.
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
    offset = offsets(shards, [t * m for t, m in zip(frames, bodies, strict=True)])
    table = build_table(facts, offset=offset, frames=frames, bodies=bodies, source=source, classes=header.classes)
    fingerprint = finish_store(root, header, table, shards=shards, splits=splits)
    with os_errors(folder):
        os.rename(root.folder, folder)
    fsync_folder(folder.parent)
    return fingerprint
