"""Metadata of a store: its attributes, and the only ``zarr.json`` of arrays that smae writes and reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smae.data.store.chunks import BLOSC_LEVEL, CHUNK_ROWS, JOINT_CODECS, SHARD_ROWS
from smae.data.store.file_store import FileStore
from smae.data.store.manifest import STORE_VERSION, read_json
from smae.errors import DataError
from smae.skeleton import LAYOUTS, Layout

MODES = ("reference", "exact")
_MAX_TEXT, _MAX_DEPTH = 1000, 8
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}
_ARRAY_PARTS = ("shape", "data_type", "chunk_grid", "codecs", "chunk_key_encoding")


@dataclass(frozen=True)
class Header:
    """Attributes of a store as a whole (``attributes.smae`` of its group).

    Attributes:
        layout: joint layout.
        mode: ``reference`` or ``exact``.
        dataset: ``ntu60``, ``ntu120`` or the name of another data set.
        classes: sorted action ids; label = index.
        codec: how joints are stored, see ``chunks.py``.
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
        """Return the group's attributes, ready for JSON; a ``DataError`` if a text could not be read back."""
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
        try:
            for text in _texts(values, depth=0):
                _text(text)
        except ValueError as error:
            raise DataError(
                f"the attributes of the store cannot be written: {error}; name the data otherwise"
            ) from None
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
        for text in _texts(values, depth=0):
            _text(text)
        origin = dict(values["origin"])
        for name in dict(origin.get("names", {})).values():
            _text(name)
        return Header(
            # Escaped, since the message for an unknown name repeats it.
            layout=LAYOUTS.get(ascii(_text(values["layout"]))[1:-1]),
            mode=values["mode"],
            dataset=_text(values["dataset"]),
            classes=tuple(_text(name) for name in values["classes"]),
            codec=values["codec"],
            frames=frames,
            origin=origin,
            counts=_counts(values["counts"]),
            splits=tuple(_text(name) for name in values["splits"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = f"{root.name}/zarr.json"
        raise DataError(f"{where}: {type(error).__name__}: {error}; prepare the store again") from error


def array_metadata(content: Any, *, where: str) -> dict[str, Any]:
    """Return the parts of a parsed ``zarr.json`` that decide how the bytes of an array are read.

    Raises:
        DataError: not the metadata of a Zarr v3 array.
    """
    try:
        if content["zarr_format"] != 3 or content["node_type"] != "array":
            raise ValueError("not a Zarr v3 array")
        if content.get("storage_transformers"):
            raise ValueError("storage transformers")
        if not isinstance(content["shape"], list) or not all(map(_is_length, content["shape"])):
            raise ValueError("a shape is not a list of integers")
        return {key: content[key] for key in _ARRAY_PARTS}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: zarr.json is not that of an array ({error}); prepare the store again") from error


def rows_metadata(shape: Sequence[int], dtype: str) -> dict[str, Any]:
    """Return the only valid metadata of ``joints`` and ``state`` at this shape and type."""
    inner = {
        "chunk_shape": [CHUNK_ROWS, *shape[1:]],
        "codecs": _chunk_codecs(dtype),
        "index_codecs": [_BYTES, _CRC],
        "index_location": "end",
    }
    sharding = [{"name": "sharding_indexed", "configuration": inner}]
    return _metadata(shape, dtype, [SHARD_ROWS, *shape[1:]], sharding)


def column_metadata(shape: Sequence[int], dtype: str) -> dict[str, Any]:
    """Return the only valid metadata of a column of this shape and type: one chunk."""
    return _metadata(shape, dtype, shape, _chunk_codecs(dtype))


def _metadata(shape: Sequence[int], dtype: str, chunks: Sequence[int], codecs: list[Any]) -> dict[str, Any]:
    grid = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
    keys = {"name": "default", "configuration": {"separator": "/"}}
    return dict(zip(_ARRAY_PARTS, (list(shape), dtype, grid, codecs, keys), strict=True))


def _chunk_codecs(dtype: str) -> list[Any]:
    size = np.dtype(dtype).itemsize
    settings = {"typesize": size, "cname": "lz4", "clevel": BLOSC_LEVEL, "shuffle": "shuffle", "blocksize": 0}
    # Zarr leaves out the byte order of elements of one byte.
    order = {"name": "bytes"} if size == 1 else _BYTES
    return [order, {"name": "blosc", "configuration": settings}, _CRC]


def _is_length(value: Any) -> bool:
    # ``type(...) is int``: JSON's true is an int too.
    return type(value) is int and value >= 0


def _counts(values: Any) -> dict[str, Any]:
    """Return the counts of a preparation, or none; ``ValueError`` unless each is a number of samples."""
    tables = {key: values[key] for key in ("noted", "excluded")} if values else {}
    numbers = {key: values[key] for key in ("found", "ok", "quarantined", "ignored")} if values else {}
    for count in (*numbers.values(), *(count for table in tables.values() for count in table.values())):
        if not _is_length(count):
            raise ValueError(f"expected a number of samples, found {_shown(count)}")
    return numbers | {key: dict(table) for key, table in tables.items()}


def _texts(values: Any, *, depth: int) -> Iterator[str]:
    """Yield all texts in JSON values, keys included."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} levels of values in one another")
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        yield from values
    if isinstance(values, Mapping | list):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _texts(value, depth=depth + 1)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {_shown(value)}")
    if len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError(f"expected a text of at most {_MAX_TEXT} printable characters, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    # Escaped and cut: the value may hold control codes of a terminal, or megabytes.
    return ascii(value)[:40]
