"""Metadata of a store: its attributes, and the only ``zarr.json`` of arrays that smae writes and reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smae.data.store.chunks import BLOSC_LEVEL, CHUNK_ROWS, SHARD_ROWS
from smae.data.store.codecs import JOINT_CODECS
from smae.data.store.file_store import FileStore
from smae.data.store.manifest import STORE_VERSION, read_json
from smae.errors import DataError
from smae.skeleton import LAYOUTS, Layout

MODES = ("reference", "exact")
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}


@dataclass(frozen=True)
class Header:
    """Attributes of a store as a whole (``attributes.smae`` of its group).

    Attributes:
        layout: joint layout.
        mode: ``reference`` or ``exact``.
        dataset: ``ntu60``, ``ntu120`` or the name of another data set.
        classes: sorted action ids; label = index.
        codec: how joints are stored, see ``codecs.py``.
        frames: T if every clip was resampled to it, else None.
        origin: settings of the preparation and digests; never paths, times or machines.
        counts: numbers of samples found, kept and left out.
        splits: names of the arrays in ``splits/``.
    """

    layout: Layout
    mode: str
    dataset: str
    classes: tuple[str, ...]
    codec: str = "float32"
    frames: int | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = ()

    @property
    def names(self) -> Mapping[str, str]:
        """Names of classes in words, by id, where the preparation was given them."""
        names: Mapping[str, str] = self.origin.get("names", {})
        return names

    def attributes(self, splits: Iterable[str]) -> dict[str, Any]:
        """Return the group's attributes, ready for JSON."""
        values = {
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
        return {"smae": values}


def read_header(root: FileStore) -> Header:
    """Return the attributes of a store.

    Raises:
        DataError: attributes that are missing, of a wrong type or value, or of another version.
    """
    content = read_json(root, "zarr.json")
    try:
        values = content["attributes"]["smae"]
        if values["version"] != STORE_VERSION:
            raise ValueError(f"store version {_shown(values['version'])} where this smae reads {STORE_VERSION}")
        if values["mode"] not in MODES:
            raise ValueError(f"mode {_shown(values['mode'])} is unknown")
        if values["codec"] not in JOINT_CODECS:
            raise ValueError(f"codec {_shown(values['codec'])} is unknown")
        frames = values["frames"]
        if frames is not None and (type(frames) is not int or frames < 1):
            raise ValueError("'frames' is neither null nor a positive integer")
        origin = dict(values["origin"])
        for action, name in dict(origin.get("names", {})).items():
            _text(action), _text(name)
        return Header(
            # Escaped, since the message for an unknown name repeats it.
            layout=LAYOUTS.get(ascii(_text(values["layout"]))[1:-1]),
            mode=values["mode"],
            dataset=_text(values["dataset"]),
            classes=tuple(_text(name) for name in values["classes"]),
            codec=values["codec"],
            frames=frames,
            origin=origin,
            counts=dict(values["counts"]),
            splits=tuple(_text(name) for name in values["splits"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        where = f"{root.name}/zarr.json"
        raise DataError(f"{where}: {type(error).__name__}: {error}; prepare the store again") from error


@dataclass(frozen=True)
class ArrayMetadata:
    """The parts of a Zarr v3 array's metadata that decide how its bytes are read.

    Attributes:
        shape: of the whole array.
        dtype: Zarr's name of the type, here the same as NumPy's.
        chunks: shape of a shard, or of the single chunk of a column.
        codecs: the codec chain as canonical JSON values.
        keys: the encoding of chunk keys.
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


def rows_metadata(shape: tuple[int, ...], dtype: str) -> ArrayMetadata:
    """Return the only valid metadata of ``joints`` and ``state`` at this shape and type."""
    inner = {
        "chunk_shape": [CHUNK_ROWS, *shape[1:]],
        "codecs": _chunk_codecs(dtype),
        "index_codecs": [_BYTES, _CRC],
        "index_location": "end",
    }
    sharding = [{"name": "sharding_indexed", "configuration": inner}]
    return _metadata(shape, dtype, chunks=(SHARD_ROWS, *shape[1:]), codecs=sharding)


def column_metadata(shape: tuple[int, ...], dtype: str) -> ArrayMetadata:
    """Return the only valid metadata of a column of this shape and type: one chunk."""
    return _metadata(shape, dtype, chunks=shape, codecs=_chunk_codecs(dtype))


def _metadata(shape: tuple[int, ...], dtype: str, *, chunks: tuple[int, ...], codecs: Any) -> ArrayMetadata:
    keys = {"name": "default", "configuration": {"separator": "/"}}
    return ArrayMetadata(shape, dtype, chunks, _canonical(codecs), _canonical(keys))


def _chunk_codecs(dtype: str) -> list[Any]:
    size = np.dtype(dtype).itemsize
    settings = {"typesize": size, "cname": "lz4", "clevel": BLOSC_LEVEL, "shuffle": "shuffle", "blocksize": 0}
    order = _BYTES
    if size == 1:
        # Zarr leaves out the byte order of elements of one byte.
        order = {"name": "bytes"}
    return [order, {"name": "blosc", "configuration": settings}, _CRC]


def _canonical(value: Any) -> Any:
    """Return JSON values as tuples, equal for objects whose keys stand in another order."""
    if isinstance(value, dict):
        return tuple(sorted((str(key), _canonical(item)) for key, item in value.items()))
    if isinstance(value, list):
        return tuple(map(_canonical, value))
    return value


def _lengths(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError("a shape is not a list of integers")
    return tuple(values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    # Escaped and cut: the value may hold control codes of a terminal, or megabytes.
    return ascii(value)[:40]
