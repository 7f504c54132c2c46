"""Access to the files of a store by key: here in a folder, in ``object_store.py`` by URL."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from smae.atomic_io import fsync_file, fsync_folder, os_errors, write_atomic
from smae.errors import ConfigError, DataError

DAMAGED = "the store is damaged, copy it or prepare it again"
IRREGULAR = -1
"""Size reported for an entry that is not a regular file (a link, a FIFO, a device)."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class FileStore(Protocol):
    """A root with files below it; a key is a file's path relative to the root, separated by ``/``.

    Attributes:
        name: the root in messages: its path or URL.
    """

    name: str

    def read(self, key: str, *, limit: int) -> bytes:
        """Return a whole file.

        Raises:
            DataError: missing, not a regular file, not readable, or more than ``limit`` bytes.
            EnvironmentFault: an object store does not answer or denies access.
        """

    def read_part(self, key: str, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a file, fewer if it ends before; raises as ``read`` does."""

    def write(self, key: str, *pieces: bytes, durable: bool = True) -> None:
        """Write a file atomically, given in one piece or several.

        Args:
            key: the file.
            pieces: its content, end to end.
            durable: wait until it survives a power cut; else ``fsync`` is left to the caller.

        Raises:
            EnvironmentFault: no space, no permission, a device error, or no connection.
        """

    def fsync(self, key: str) -> None:
        """Wait until a file survives a power cut, also one written by another process."""

    def move(self, key: str, to: str) -> None:
        """Rename a file, replacing the one at ``to``; raises as ``write`` does."""

    def remove(self, key: str) -> None:
        """Remove a file if it exists; raises as ``write`` does."""

    def sizes(self) -> dict[str, int]:
        """Return size by key, sorted by key; ``IRREGULAR`` for entries that are not files."""


class LocalFileStore:
    """The files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def read(self, key: str, *, limit: int) -> bytes:
        data = self.read_part(key, 0, limit + 1)
        if len(data) > limit:
            raise DataError(f"{self.name}/{key}: more than {limit} bytes: {DAMAGED}")
        return data

    def read_part(self, key: str, start: int, length: int) -> bytes:
        try:
            # A hostile store must not lead outside by a link, or block the reader with a FIFO.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(self.folder / key, flags)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise DataError(f"{self.name}/{key}: not a regular file: {DAMAGED}")
                return _pread(handle, start, length)
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"{self.name}/{key}: {error.strerror}: {DAMAGED}") from error

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
            # Object stores have no empty folders, and the finished store must be the same in both.
            for folder in source.parents:
                if folder == self.folder or any(folder.iterdir()):
                    break
                folder.rmdir()
        fsync_folder(target.parent)

    def remove(self, key: str) -> None:
        with os_errors(self.folder / key):
            (self.folder / key).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for parent, folders, files in os.walk(self.folder):
            # os.walk lists links to folders as folders, and does not enter them.
            links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            for path in (os.path.join(parent, name) for name in files + links):
                status = os.lstat(path)
                key = os.path.relpath(path, self.folder).replace(os.sep, "/")
                sizes[key] = status.st_size if stat.S_ISREG(status.st_mode) else IRREGULAR
        return dict(sorted(sizes.items()))


def _pread(handle: int, start: int, length: int) -> bytes:
    # One call may return less than was asked for.
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(handle, min(length, 1 << 30), start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def locate(location: str | Path) -> str | Path:
    """Return the URL of an object store unchanged, anything else as a path (``file://`` too)."""
    if isinstance(location, Path) or not _URL.match(location):
        return Path(location)
    if location.startswith("file://"):
        # Imported late: it loads the whole of HTTP.
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(location).path))
    return location.rstrip("/")


def open_file_store(location: str | Path) -> FileStore:
    """Return the file store at a path or URL; a ``ConfigError`` for one that cannot be."""
    location = locate(location)
    if isinstance(location, Path):
        return LocalFileStore(location)
    try:
        from smae.data.store.object_store import ObjectFileStore
    except ImportError as error:
        raise ConfigError(f"object stores need obstore ({error}): pip install 'smae[objects]'") from error
    return ObjectFileStore(location)
