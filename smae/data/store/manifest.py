"""The manifest of a store: a record of each file, and the check that exactly those files are there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from smae.data.store.chunks import CHUNKS
from smae.data.store.file_store import IRREGULAR, FileStore
from smae.errors import DataError

STORE_VERSION = 2
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
MAX_JSON_BYTES = 64 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CRC32CS = re.compile(rf"([0-9a-f]{{8}}){{0,{CHUNKS}}}")


@dataclass(frozen=True)
class FileRecord:
    """Record of one file in the manifest.

    Attributes:
        path: relative to the store, with ``/``.
        size: bytes.
        blake3: digest of its bytes, hex.
        crc32c: checksum of each inner chunk of a shard, 8 hex digits each, end to end; empty for other files.
            They fix the order of chunks: a chunk swapped for another sound one is found on reading.
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
        """Return the record as a JSON value."""
        entry: dict[str, Any] = {"blake3": self.blake3, "size": self.size}
        if self.crc32c:
            entry["crc32c"] = self.crc32c
        return entry

    @classmethod
    def from_entry(cls, path: str, entry: object) -> FileRecord:
        """Return the record of a JSON value, or raise ``ValueError``."""
        if not isinstance(entry, dict) or not set(entry) <= {"blake3", "size", "crc32c"}:
            raise ValueError(f"not a record of a file: {ascii(entry)[:80]}")
        size, digest, crc32c = entry.get("size"), entry.get("blake3"), entry.get("crc32c", "")
        sound = (
            type(size) is int
            and size >= 0
            and isinstance(digest, str)
            and _DIGEST.fullmatch(digest)
            and isinstance(crc32c, str)
            and _CRC32CS.fullmatch(crc32c)
        )
        if not sound:
            raise ValueError(f"not a record of a file: {ascii(entry)[:80]}")
        return cls(path=path, size=int(size or 0), blake3=str(digest), crc32c=str(crc32c))


def encode_manifest(files: Mapping[str, FileRecord]) -> bytes:
    """Return the manifest of ``files``; equal records give equal bytes."""
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
        DataError: not there, not a regular file, over 64 MiB, or not JSON.
    """
    return _parse(root.read(key, limit=MAX_JSON_BYTES), where=f"{root.name}/{key}")


def read_manifest(root: FileStore) -> tuple[str, dict[str, FileRecord]]:
    """Return a store's fingerprint (SHA-256 of its manifest, hex) and its files by relative path.

    Raises:
        DataError: no manifest, a malformed one, or another version.
    """
    where = f"{root.name}/{MANIFEST}"
    if MANIFEST not in root.sizes():
        hint = " (an unfinished one: run prepare with --resume)" if root.name.endswith(".wip") else ""
        raise DataError(f"{root.name}: expected a store, found no {MANIFEST}{hint}; give what prepare wrote")
    data = root.read(MANIFEST, limit=MAX_JSON_BYTES)
    content = _parse(data, where=where)
    version = content.get("version") if isinstance(content, dict) else None
    if version != STORE_VERSION:
        raise DataError(
            f"{where}: store version {ascii(version)[:40]} where this smae reads {STORE_VERSION}: "
            "use the smae that wrote it, or prepare the store again"
        )
    files = content.get("files")
    try:
        if not isinstance(files, dict):
            raise ValueError("'files' is missing")
        records = {name: FileRecord.from_entry(name, entry) for name, entry in files.items()}
    except ValueError as error:
        raise DataError(f"{where}: {error}; prepare the store again") from error
    return hashlib.sha256(data).hexdigest(), records


def check_files(root: FileStore, files: Mapping[str, FileRecord]) -> list[str]:
    """Return problems with names, kinds and sizes of files, one line each; opens no file."""
    problems: list[str] = []
    present = root.sizes()
    present.pop(MANIFEST, None)
    problems += [f"{ascii(name)[1:-1]}: missing" for name in sorted(set(files) - set(present))]
    problems += [f"{ascii(name)[1:-1]}: not in the manifest" for name in sorted(set(present) - set(files))]
    for name in sorted(set(present) & set(files)):
        if present[name] == IRREGULAR:
            problems.append(f"{name}: not a regular file")
        elif present[name] != files[name].size:
            problems.append(f"{name}: {present[name]} bytes where the manifest says {files[name].size}")
    return problems


def read_checked(root: FileStore, record: FileRecord) -> bytes:
    """Return the bytes of one file, which must be the manifest's.

    Raises:
        DataError: not readable, or not the bytes of the manifest; the message names the file.
    """
    data = root.read(record.path, limit=record.size)
    if blake3(data).hexdigest() != record.blake3:
        raise DataError(
            f"{root.name}/{record.path}: its BLAKE3 is not the manifest's: the store is damaged, copy it or prepare "
            "it again"
        )
    return data


def _parse(data: bytes, *, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not the JSON of a store ({str(error)[:100]}); prepare the store again") from error
