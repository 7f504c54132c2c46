"""The manifest: a record of each file of a store, and the check that exactly those files exist."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from smae.atomic_io import parse_json
from smae.data.store.chunks import CHUNKS
from smae.data.store.file_store import DAMAGED, IRREGULAR, FileStore
from smae.errors import DataError

STORE_VERSION = 2
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
MAX_JSON_BYTES = 64 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CRC32CS = re.compile(rf"([0-9a-f]{{8}}){{0,{CHUNKS}}}")


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
    """Return the JSON of one file of a store.

    Raises:
        DataError: missing, not a regular file, over 64 MiB, or not JSON.
    """
    return _parse(root.read(key, limit=MAX_JSON_BYTES), where=f"{root.name}/{key}")


def read_manifest(root: FileStore) -> tuple[str, dict[str, FileRecord]]:
    """Return a store's fingerprint (SHA-256 of its manifest, hex) and its records by path.

    Raises:
        DataError: no manifest, a damaged one, or another version.
    """
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


def check_files(root: FileStore, files: Mapping[str, FileRecord]) -> dict[str, str]:
    """Return problems with names, kinds and sizes of a store's files, by path; reads no file."""
    present = root.sizes()
    present.pop(MANIFEST, None)
    problems = dict.fromkeys(sorted(files.keys() - present), "missing")
    problems |= dict.fromkeys(sorted(present.keys() - files), "not in the manifest")
    for path in sorted(files.keys() & present):
        if present[path] == IRREGULAR:
            problems[path] = "not a regular file"
        elif present[path] != files[path].size:
            problems[path] = f"{present[path]} bytes where the manifest says {files[path].size}"
    return problems


def describe(path: str, problem: str) -> str:
    """Return a line on a problem with a file; the path is escaped, since a hostile store chose it."""
    return f"{ascii(path)[1:-1]}: {problem}"


def read_checked(root: FileStore, record: FileRecord) -> bytes:
    """Return the bytes of one file, compared with the manifest.

    Raises:
        DataError: not readable, or other bytes than the manifest's; the message names the file.
    """
    data = root.read(record.path, limit=record.size)
    if blake3(data).hexdigest() != record.blake3:
        raise DataError(f"{root.name}/{record.path}: its BLAKE3 is not the manifest's: {DAMAGED}")
    return data


def _parse(data: bytes, *, where: str) -> Any:
    try:
        return parse_json(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not the JSON of a store ({str(error)[:100]}); prepare the store again") from error
