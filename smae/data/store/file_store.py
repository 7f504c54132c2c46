"""Files of a store behind one interface: a folder here, an object store in ``object_store.py``."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from smae.atomic_io import fsync_file, fsync_folder, os_errors, write_atomic
from smae.errors import ConfigError, DataError

IRREGULAR = -1
"""Size of anything that is not a regular file (a link, a FIFO, a device)."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DAMAGED = "the store is damaged, copy it or prepare it again"


class FileStore(Protocol):
    """A root with files below it; a key is a file's path relative to the root, with ``/``.

    Reading raises ``DataError`` for a file that is missing, not regular or not readable. Writing
    raises ``EnvironmentFault``: no space, no permission, a device error, no connection.

    Attributes:
        name: the root, for messages.
    """

    name: str

    def read(self, key: str, *, limit: int) -> bytes:
        """Return a whole file; one of more than ``limit`` bytes is a ``DataError``."""

    def read_part(self, key: str, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a file, fewer where it ends before."""

    def write(self, key: str, *pieces: bytes, durable: bool = True) -> None:
        """Write a file atomically.

        Args:
            key: the file.
            pieces: its content, end to end.
            durable: wait until it survives a power cut; else ``fsync`` is left to the caller.
        """

    def fsync(self, key: str) -> None:
        """Wait until a file survives a power cut."""

    def move(self, key: str, to: str) -> None:
        """Rename a file, replacing one of that name."""

    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by key, sorted; ``IRREGULAR`` for links and devices."""


class LocalFileStore:
    """A folder on a disk.

    Attributes:
        folder: its path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def read(self, key: str, *, limit: int) -> bytes:
        data = self.read_part(key, 0, limit + 1)
        if len(data) > limit:
            raise DataError(f"{self.name}/{key}: more than {limit} bytes: {_DAMAGED}")
        return data

    def read_part(self, key: str, start: int, length: int) -> bytes:
        try:
            # Links are not followed, and opening a FIFO must not wait for a writer.
            handle = os.open(self.folder / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise DataError(f"{self.name}/{key}: not a regular file: {_DAMAGED}")
                return _pread(handle, start, length)
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"{self.name}/{key}: {error.strerror}: {_DAMAGED}") from error

    def write(self, key: str, *pieces: bytes, durable: bool = True) -> None:
        write_atomic(self.folder / key, *pieces, durable=durable)

    def fsync(self, key: str) -> None:
        fsync_file(self.folder / key)
        fsync_folder((self.folder / key).parent)

    def move(self, key: str, to: str) -> None:
        source, target = self.folder / key, self.folder / to
        with os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
            for folder in source.parents:
                if folder == self.folder or any(folder.iterdir()):
                    break
                folder.rmdir()
        fsync_folder(target.parent)

    def remove(self, key: str) -> None:
        with os_errors(self.folder / key):
            (self.folder / key).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for parent, folders, files in os.walk(self.folder):
            links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            for name in files + links:
                path = os.path.join(parent, name)
                status = os.lstat(path)
                key = os.path.relpath(path, self.folder).replace(os.sep, "/")
                found[key] = status.st_size if stat.S_ISREG(status.st_mode) else IRREGULAR
        return dict(sorted(found.items()))


def _pread(handle: int, start: int, length: int) -> bytes:
    # One call may return fewer bytes than asked for.
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(handle, min(length, 1 << 30), start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return b"".join(parts)


def locate(where: str | Path) -> str | Path:
    """Return the URL of an object store as it is, anything else as a path (``file://`` URLs too)."""
    if isinstance(where, Path) or not _URL.match(where):
        return Path(where)
    if where.startswith("file://"):
        return Path(url2pathname(urlsplit(where).path))
    return where.rstrip("/")


def open_file_store(where: str | Path) -> FileStore:
    """Return the files below a path or a URL.

    Raises:
        ConfigError: a URL that does not name an object store, or obstore is not installed.
    """
    where = locate(where)
    if isinstance(where, Path):
        return LocalFileStore(where)
    try:
        from smae.data.store.object_store import ObjectFileStore
    except ImportError as error:
        raise ConfigError(f"object stores need obstore ({error}): pip install 'smae[objects]'") from error
    return ObjectFileStore(where)
