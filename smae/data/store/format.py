"""Metadata of a store: ``zarr.json`` may only contain the shapes, types and codecs that smae writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS
from smae.data.store.codecs import JOINT_CODECS, Codec
from smae.data.store.file_store import FileStore
from smae.data.store.manifest import STORE_VERSION, read_json
from smae.errors import DataError
from smae.skeleton import LAYOUTS, Layout

MODES = ("reference", "exact")
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}


@dataclass(frozen=True)
class ArrayMetadata:
    """The parts of a Zarr v3 array's metadata that decide how its bytes are read.

    Attributes:
        shape: of the whole array.
        dtype: Zarr's name of the type, which is NumPy's here.
        chunks: shape of a shard, or of the single chunk of a column.
        codecs: the codec chain as canonical JSON values.
        keys: how chunks are named.
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    codecs: Any
    keys: Any

    @classmethod
    def from_json(cls, content: Any, *, where: str) -> ArrayMetadata:
        """Return the metadata of a parsed ``zarr.json``.

        Raises:
            DataError: not the metadata of a Zarr v3 array.
        """
        try:
            if content["zarr_format"] != 3 or content["node_type"] != "array":
                raise ValueError("not a Zarr v3 array")
            if content["chunk_grid"]["name"] != "regular" or content.get("storage_transformers"):
                raise ValueError("not a regular grid")
            return cls(
                shape=_lengths(content["shape"]),
                dtype=str(content["data_type"]),
                chunks=_lengths(content["chunk_grid"]["configuration"]["chunk_shape"]),
                codecs=_canonical(content["codecs"]),
                keys=_canonical(content["chunk_key_encoding"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{where}: zarr.json is not that of an array ({error}); prepare the store again") from error


@dataclass(frozen=True)
class Attributes:
    """Metadata of a store (``attributes.smae`` of its group); see ``writer.Header``."""

    layout: Layout
    mode: str
    codec: Codec
    dataset: str
    classes: tuple[str, ...]
    frames: int | None
    splits: tuple[str, ...]
    origin: Mapping[str, Any]
    counts: Mapping[str, Any]

    @property
    def names(self) -> Mapping[str, str]:
        """Names of classes by id, as given when it was prepared; often none."""
        names: Mapping[str, str] = self.origin.get("names", {})
        return names


def rows_metadata(shape: tuple[int, ...], dtype: str) -> ArrayMetadata:
    """Return the only metadata that ``joints`` and ``state`` may have at this shape and type."""
    inner = {
        "chunk_shape": [CHUNK_ROWS, *shape[1:]],
        "codecs": _chunk_codecs(dtype),
        "index_codecs": [_BYTES, _CRC],
        "index_location": "end",
    }
    sharding = [{"name": "sharding_indexed", "configuration": inner}]
    return _metadata(shape, dtype, chunks=(SHARD_ROWS, *shape[1:]), codecs=sharding)


def column_metadata(shape: tuple[int, ...], dtype: str) -> ArrayMetadata:
    """Return the only metadata that a column of this shape and type may have: one chunk."""
    return _metadata(shape, dtype, chunks=shape, codecs=_chunk_codecs(dtype))


def read_attributes(root: FileStore) -> Attributes:
    """Return the metadata of a store.

    Raises:
        DataError: attributes that are missing, of the wrong kind, or of a newer version.
    """
    where = f"{root.name}/zarr.json"
    content = read_json(root, "zarr.json")
    try:
        header = content["attributes"]["smae"]
        if header["version"] != STORE_VERSION:
            raise ValueError(f"store version {ascii(header['version'])[:40]} where this smae reads {STORE_VERSION}")
        if header["mode"] not in MODES:
            raise ValueError(f"mode {ascii(header['mode'])[:40]} is unknown")
        if header["codec"] not in JOINT_CODECS:
            raise ValueError(f"codec {ascii(header['codec'])[:40]} is unknown")
        frames = header["frames"]
        if frames is not None and (type(frames) is not int or frames < 1):
            raise ValueError("'frames' is neither null nor a positive integer")
        origin = dict(header["origin"])
        for id_, name in dict(origin.get("names", {})).items():
            _text(id_), _text(name)
        return Attributes(
            layout=LAYOUTS.get(_text(header["layout"])),
            mode=header["mode"],
            codec=JOINT_CODECS[header["codec"]],
            dataset=_text(header["dataset"]),
            classes=tuple(_text(name) for name in header["classes"]),
            frames=frames,
            splits=tuple(_text(name) for name in header["splits"]),
            origin=origin,
            counts=dict(header["counts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: {type(error).__name__}: {error}; prepare the store again") from error


def _metadata(shape: tuple[int, ...], dtype: str, *, chunks: tuple[int, ...], codecs: Any) -> ArrayMetadata:
    keys = {"name": "default", "configuration": {"separator": "/"}}
    return ArrayMetadata(shape=shape, dtype=dtype, chunks=chunks, codecs=_canonical(codecs), keys=_canonical(keys))


def _chunk_codecs(dtype: str) -> list[Any]:
    size = np.dtype(dtype).itemsize
    settings = {"typesize": size, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
    # Zarr leaves out the byte order of one-byte elements.
    order = {"name": "bytes"} if size == 1 else _BYTES
    return [order, {"name": "blosc", "configuration": settings}, _CRC]


def _canonical(value: Any) -> Any:
    """Return JSON values as tuples that compare equal for any order of keys."""
    if isinstance(value, dict):
        return tuple(sorted((str(key), _canonical(item)) for key, item in value.items()))
    return tuple(_canonical(item) for item in value) if isinstance(value, list) else value


def _lengths(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError("a shape is not a list of integers")
    return tuple(values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {ascii(value)[:40]}")
    return value
