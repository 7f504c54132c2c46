"""Where the files of a store lie, behind the few things that are done with files; here on a disk."""

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
"""The size of what is no regular file (a link, a FIFO, a device)."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Place(Protocol):
    """A root with files below it; a key is a file's path relative to the root, parted by ``/``.

    Attributes:
        name: how messages call the root.
    """

    name: str

    def read(self, key: str, *, limit: int) -> bytes:
        """Return a whole file.

        Raises:
            DataError: not there, no regular file, not readable, or more than ``limit`` bytes.
        """
        ...

    def read_part(self, key: str, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a file, fewer where it ends before.

        Raises:
            DataError: not there, no regular file, or not readable.
        """
        ...

    def write(self, key: str, *pieces: bytes, safe: bool = True) -> None:
        """Write a file, given in one piece or several, that is there whole or not at all.

        Args:
            key: the file.
            pieces: what it holds, end to end.
            safe: wait until it survives a power cut; else ``settle`` does.

        Raises:
            EnvironmentFault: no space, no permission, or a device error.
        """
        ...

    def settle(self, key: str) -> None:
        """Wait until a file, by whomever it was written, survives a power cut.

        Raises:
            EnvironmentFault: the same.
        """
        ...

    def move(self, key: str, to: str) -> None:
        """Give a file another key, replacing what has it.

        Raises:
            EnvironmentFault: the same.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove a file, if it is there.

        Raises:
            EnvironmentFault: the same.
        """
        ...

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by key, sorted by key; ``IRREGULAR`` for what is no regular file."""
        ...


class LocalPlace:
    """A folder; see ``Place``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def read(self, key: str, *, limit: int) -> bytes:
        """See ``Place.read``."""
        data = self.read_part(key, 0, limit + 1)
        if len(data) > limit:
            raise DataError(f"{self.name}/{key}: more than {limit} bytes: {_DAMAGED}")
        return data

    def read_part(self, key: str, start: int, length: int) -> bytes:
        """See ``Place.read_part``."""
        try:
            # Never through a link, and never waiting for somebody to write into a FIFO.
            handle = os.open(self.folder / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise DataError(f"{self.name}/{key}: not a regular file: {_DAMAGED}")
                return _pread(handle, start, length)
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"{self.name}/{key}: {error.strerror}: {_DAMAGED}") from error

    def write(self, key: str, *pieces: bytes, safe: bool = True) -> None:
        """See ``Place.write``."""
        write_atomic(self.folder / key, *pieces, durable=safe)

    def settle(self, key: str) -> None:
        """See ``Place.settle``."""
        fsync_file(self.folder / key)
        fsync_folder((self.folder / key).parent)

    def move(self, key: str, to: str) -> None:
        """See ``Place.move``."""
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
        """See ``Place.remove``."""
        with os_errors(self.folder / key):
            (self.folder / key).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """See ``Place.sizes``."""
        found: dict[str, int] = {}
        for parent, folders, files in os.walk(self.folder):
            links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            for name in files + links:
                path = os.path.join(parent, name)
                status = os.lstat(path)
                size = status.st_size if stat.S_ISREG(status.st_mode) else IRREGULAR
                found[os.path.relpath(path, self.folder).replace(os.sep, "/")] = size
        return dict(sorted(found.items()))


_DAMAGED = "the store is damaged, copy it or prepare it again"


def _pread(handle: int, start: int, length: int) -> bytes:
    """Read to the end of a part: one call may give less."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(handle, min(length, 1 << 30), start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def locate(where: str | Path) -> str | Path:
    """Return the URL of an object store as it is, anything else as a path (``file://`` URLs too)."""
    if isinstance(where, Path) or not _URL.match(where):
        return Path(where)
    if where.startswith("file://"):
        return Path(url2pathname(urlsplit(where).path))
    return where.rstrip("/")


def open_place(where: str | Path) -> Place:
    """Return the place that a path or a URL names.

    Raises:
        ConfigError: a URL that names no object store, or obstore is not installed.
    """
    where = locate(where)
    if isinstance(where, Path):
        return LocalPlace(where)
    try:
        from smae.data.store.object_store import ObjectPlace
    except ImportError as error:
        raise ConfigError(f"object stores need obstore ({error}): pip install 'smae[objects]'") from error
    return ObjectPlace(where)
