"""One writer for one output: an advisory lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smae.atomic_io import os_errors
from smae.errors import LockedError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` during the block, and remove it afterwards.

    A lock file that a killed process left behind is no obstacle: what counts is the lock, not the file.

    Raises:
        LockedError: another process holds it.
        EnvironmentFault: the file cannot be made.
    """
    handle = _acquire(path)
    try:
        yield
    finally:
        # Removed while still held, so that whoever opened it meanwhile finds another file under the name, or none.
        # A file that stays is harmless: the next writer takes it over.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        with os_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise LockedError(
                f"{path}: another process is writing the same output; wait for it, or choose another --out"
            ) from error
        if _is_still(path, handle):
            return handle
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
