"""A store's manifest: what it says of each file, and the check that those files are there, all and only those."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smae.data.storage.chunks import CHUNKS
from smae.errors import DataError

STORE_VERSION = 1
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
MAX_JSON_BYTES = 64 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CRC32CS = re.compile(rf"([0-9a-f]{{8}}){{0,{CHUNKS}}}")


@dataclass(frozen=True)
class FileRecord:
    """One finished file of a store: what the manifest says of it.

    Attributes:
        path: relative to the store, with ``/``.
        size: bytes.
        sha256: hex.
        crc32c: checksum of each inner chunk of a shard, 8 hex digits each, end to end; empty for other files. They tie
            each chunk to its place: a chunk swapped for another, sound one is found on reading.
    """

    path: str
    size: int
    sha256: str
    crc32c: str = ""

    @property
    def checksums(self) -> list[int]:
        """The CRC-32C of each inner chunk, in order."""
        return [int(self.crc32c[at : at + 8], 16) for at in range(0, len(self.crc32c), 8)]

    def entry(self) -> dict[str, Any]:
        """Return the record as it stands in the manifest."""
        entry: dict[str, Any] = {"sha256": self.sha256, "size": self.size}
        return entry | ({"crc32c": self.crc32c} if self.crc32c else {})

    @classmethod
    def from_entry(cls, path: str, entry: object) -> FileRecord:
        """Return the record of a manifest's entry; ``ValueError`` where it is not one."""
        if not isinstance(entry, dict) or not set(entry) <= {"sha256", "size", "crc32c"}:
            raise ValueError(f"no record of a file: {ascii(entry)[:80]}")
        size, sha256, crc32c = entry.get("size"), entry.get("sha256"), entry.get("crc32c", "")
        sound = (
            type(size) is int
            and size >= 0
            and isinstance(sha256, str)
            and _SHA256.fullmatch(sha256)
            and isinstance(crc32c, str)
            and _CRC32CS.fullmatch(crc32c)
        )
        if not sound:
            raise ValueError(f"no record of a file: {ascii(entry)[:80]}")
        return cls(path=path, size=int(size or 0), sha256=str(sha256), crc32c=str(crc32c))


def encode_manifest(files: Mapping[str, FileRecord]) -> bytes:
    """Return the manifest of ``files``: the same records, the same bytes."""
    entries = {path: record.entry() for path, record in files.items()}
    return json.dumps({"version": STORE_VERSION, "files": entries}, indent=1, sort_keys=True).encode("ascii")


def list_files(folder: Path) -> list[str]:
    """Return the relative paths of everything below ``folder`` that is not a folder, links included, sorted."""
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        found += [os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/") for name in files + links]
    return sorted(found)


def read_json(path: Path) -> Any:
    """Return the JSON of one file of a store.

    Raises:
        DataError: not there, not a regular file, over 64 MiB, or not JSON.
    """
    try:
        data = _read_regular(path)
        return json.loads(data)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: this is not a complete store; prepare it again") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the JSON of a store ({str(error)[:100]}); prepare the store again") from error


def read_manifest(store: Path) -> tuple[str, dict[str, FileRecord]]:
    """Return a store's fingerprint (SHA-256 of its manifest, hex) and its files by relative path.

    Raises:
        DataError: no manifest, a newer version, or a manifest that is not one.
    """
    path = store / MANIFEST
    if not path.exists():
        hint = " (an unfinished one: run prepare with --resume)" if store.name.endswith(".wip") else ""
        raise DataError(f"{store}: expected a store, found no {MANIFEST}{hint}; give the folder that prepare wrote")
    content = read_json(path)
    version = content.get("version") if isinstance(content, dict) else None
    if version != STORE_VERSION:
        raise DataError(
            f"{path}: store version {ascii(version)[:40]} where this smae reads {STORE_VERSION}: "
            "update smae, or prepare the store again"
        )
    files = content.get("files")
    try:
        if not isinstance(files, dict):
            raise ValueError("'files' is missing")
        records = {name: FileRecord.from_entry(name, entry) for name, entry in files.items()}
    except ValueError as error:
        raise DataError(f"{path}: {error}; prepare the store again") from error
    return hashlib.sha256(_read_regular(path)).hexdigest(), records


def check_files(store: Path, files: Mapping[str, FileRecord]) -> list[str]:
    """Return what is wrong with the names, kinds and sizes of a store's files, one line each; reads none of them."""
    problems: list[str] = []
    present = set(list_files(store)) - {MANIFEST}
    problems += [f"{ascii(name)[1:-1]}: missing" for name in sorted(set(files) - present)]
    problems += [f"{ascii(name)[1:-1]}: not in the manifest" for name in sorted(present - set(files))]
    for name in sorted(present & set(files)):
        status = os.lstat(store / name)
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{name}: not a regular file")
        elif status.st_size != files[name].size:
            problems.append(f"{name}: {status.st_size} bytes where the manifest says {files[name].size}")
    return problems


def read_checked(store: Path, record: FileRecord) -> bytes:
    """Return the bytes of one file, which must have the manifest's SHA-256.

    Raises:
        DataError: other bytes than the manifest's, or not readable; the message names the file.
    """
    path = store / record.path
    try:
        data = _read_regular(path, limit=record.size)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}: the store is damaged, copy it or prepare it again") from error
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise DataError(f"{path}: its SHA-256 is not the manifest's: the store is damaged, copy it or prepare it again")
    return data


def _read_regular(path: Path, *, limit: int = MAX_JSON_BYTES) -> bytes:
    """Read a file that must be regular (never wait on a FIFO) and hold at most ``limit`` bytes."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"more than {limit} bytes")
    return data
