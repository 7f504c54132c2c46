"""Format of a store: the manifest, a record of each file; its attributes; its ``zarr.json``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3

from smae.atomic_io import parse_json
from smae.data.store.chunks import BLOSC_LEVEL, CHUNK_ROWS, CHUNKS, JOINT_CODECS, SHARD_ROWS
from smae.data.store.file_store import DAMAGED, IRREGULAR, FileStore
from smae.errors import ConfigError, DataError
from smae.skeleton import Layout, layout_from_json, layout_json

STORE_VERSION = 2
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
SPLITS_FILE = "splits.json"
"""Splits that were made after the store."""
EXCLUDED = "excluded.jsonl"
"""Samples that were left out by rule, in the form of ``QUARANTINE``; not in the manifest."""
OUTSIDE = (MANIFEST, SPLITS_FILE, EXCLUDED)
"""Files that are not in the manifest, and so not in the fingerprint."""
MAX_JSON_BYTES = 64 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CRC32CS = re.compile(rf"([0-9a-f]{{8}}){{0,{CHUNKS}}}")

MODES = ("reference", "exact")
_MAX_TEXT, _MAX_DEPTH = 1000, 8
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}
_ARRAY_PARTS = ("shape", "data_type", "chunk_grid", "codecs", "chunk_key_encoding")


@dataclass(frozen=True)
class FileRecord:
    """The manifest's record of one file of a store.

    Attributes:
        path: relative to the store, with ``/``.
        size: bytes.
        blake3: digest of its bytes, hex.
        crc32c: checksum of each inner chunk of a shard, 8 hex digits each, end to end; empty for
            other files. With them, reading also finds a sound chunk in the wrong position.
    """

    path: str
    size: int
    blake3: str
    crc32c: str = ""

    @property
    def checksums(self) -> list[int]:
        """The CRC-32C of each inner chunk, in order."""
        return [int(self.crc32c[at : at + 8], 16) for at in range(0, len(self.crc32c), 8)]

    def entry(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        entry: dict[str, Any] = {"blake3": self.blake3, "size": self.size}
        if self.crc32c:
            entry["crc32c"] = self.crc32c
        return entry

    @classmethod
    def from_entry(cls, path: str, entry: object) -> FileRecord:
        """Return the record of JSON values; ``ValueError`` if they are not one."""
        values: dict[str, Any] = {"size": None, "blake3": None, "crc32c": ""}
        if isinstance(entry, dict):
            values |= entry
        # ``type(...) is int``: JSON's true is an int too.
        valid = len(values) == 3 and type(values["size"]) is int and values["size"] >= 0
        if valid and _matches(_DIGEST, values["blake3"]) and _matches(_CRC32CS, values["crc32c"]):
            return cls(path, **values)
        raise ValueError(f"not the record of a file: {ascii(entry)[:80]}")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def encode_manifest(files: Mapping[str, FileRecord]) -> bytes:
    """Return the content of the manifest; equal records give equal bytes."""
    entries = {path: record.entry() for path, record in files.items()}
    return json.dumps({"version": STORE_VERSION, "files": entries}, indent=1, sort_keys=True).encode("ascii")


def record_of(path: str, *pieces: bytes, crc32c: str = "") -> FileRecord:
    """Return the record of a file that holds ``pieces``, end to end."""
    digest = blake3()
    for piece in pieces:
        digest.update(piece)
    return FileRecord(path=path, size=sum(map(len, pieces)), blake3=digest.hexdigest(), crc32c=crc32c)


def read_json(root: FileStore, key: str) -> Any:
    """Return the JSON of one file of a store; a ``DataError`` if it is none, or over 64 MiB."""
    return _parse(root.read(key, limit=MAX_JSON_BYTES), where=f"{root.name}/{key}")


def read_manifest(root: FileStore) -> tuple[str, dict[str, FileRecord]]:
    """Return a store's fingerprint, the SHA-256 of its manifest, hex, and its records by path."""
    name, where = root.name, f"{root.name}/{MANIFEST}"
    if MANIFEST not in root.sizes():
        hint = " (an unfinished one: run prepare with --resume)" if name.endswith(".wip") else ""
        raise DataError(f"{name}: expected a store, found no {MANIFEST}{hint}; give what prepare wrote")
    data = root.read(MANIFEST, limit=MAX_JSON_BYTES)
    content = _parse(data, where=where)
    version = content.get("version") if isinstance(content, dict) else None
    if version != STORE_VERSION:
        raise DataError(
            f"{where}: store version {ascii(version)[:40]} where this smae reads {STORE_VERSION}: "
            "use the smae that fits, or prepare the store again"
        )
    try:
        files = content.get("files")
        if not isinstance(files, dict):
            raise ValueError("'files' is missing")
        records = {path: FileRecord.from_entry(path, entry) for path, entry in files.items()}
    except ValueError as error:
        raise DataError(f"{where}: {error}; prepare the store again") from error
    return hashlib.sha256(data).hexdigest(), records


def check_files(present: Mapping[str, int], files: Mapping[str, FileRecord]) -> dict[str, str]:
    """Return problems with names, kinds and sizes of a store's files, by path.

    Args:
        present: sizes of the files that are there, as ``FileStore.sizes`` gives them.
        files: the manifest's records.
    """
    present = {path: size for path, size in present.items() if path not in OUTSIDE}
    problems = dict.fromkeys(sorted(files.keys() - present), "missing")
    problems |= dict.fromkeys(sorted(present.keys() - files), "not in the manifest")
    for path in sorted(files.keys() & present):
        if present[path] == IRREGULAR:
            problems[path] = "not a regular file"
        elif present[path] != files[path].size:
            problems[path] = f"{present[path]} bytes where the manifest says {files[path].size}"
    return problems


def describe(path: str, problem: str) -> str:
    """Return a line on a file's problem; its path is escaped: a hostile store chose it."""
    return f"{ascii(path)[1:-1]}: {problem}"


def read_checked(root: FileStore, record: FileRecord) -> bytes:
    """Return the bytes of a file; a ``DataError`` if they are not those of the manifest."""
    data = root.read(record.path, limit=record.size)
    if blake3(data).hexdigest() != record.blake3:
        raise DataError(f"{root.name}/{record.path}: its BLAKE3 is not the manifest's: {DAMAGED}")
    return data


def _parse(data: bytes, *, where: str) -> Any:
    try:
        return parse_json(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not the JSON of a store ({str(error)[:100]}); prepare the store again") from error


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
        """Return the group's attributes, ready for JSON and to be read back."""
        values = {
            "version": STORE_VERSION,
            "layout": self.layout.name,
            # A layout that is not built in comes with its definition: the store opens anywhere.
            **layout_json(self.layout),
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
    """Return the attributes of a store; a ``DataError`` if one is missing or wrong."""
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
            layout=layout_from_json(ascii(_text(values["layout"]))[1:-1], values.get("skeleton")),
            mode=values["mode"],
            dataset=_text(values["dataset"]),
            classes=tuple(_text(name) for name in values["classes"]),
            codec=values["codec"],
            frames=frames,
            origin=origin,
            counts=_counts(values["counts"]),
            splits=tuple(_text(name) for name in values["splits"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        where = f"{root.name}/zarr.json"
        raise DataError(f"{where}: {type(error).__name__}: {error}; prepare the store again") from error


def array_metadata(content: Any, *, where: str) -> dict[str, Any]:
    """Return what decides how an array's bytes are read; a ``DataError`` if not Zarr v3."""
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


def encode_group(attributes: Mapping[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a group."""
    return _encode({"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def encode_array(metadata: Mapping[str, Any]) -> bytes:
    """Return the ``zarr.json`` of an array with this metadata, byte for byte as zarr-python writes it."""
    first = {key: metadata[key] for key in ("shape", "data_type", "chunk_grid", "chunk_key_encoding")}
    # The zero of the type, as ``0`` or ``0.0``.
    fill = {"fill_value": np.zeros((), metadata["data_type"]).item(), "codecs": metadata["codecs"]}
    last = {"attributes": {}, "zarr_format": 3, "node_type": "array", "storage_transformers": []}
    return _encode(first | fill | last)


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode("ascii")


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
    """Return the counts of a preparation, or none; a ``ValueError`` if one is no count."""
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
