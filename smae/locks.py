"""Advisory locks: one writer for one output; a lock ends with its process, however that ends."""

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
    """Hold the lock file ``path`` during the block and remove it afterwards.

    A lock file left behind by a killed process is no obstacle: the lock counts, not the file.

    Raises:
        LockedError: another process holds it.
        EnvironmentFault: the file cannot be created.
    """
    handle = _acquire(path)
    try:
        yield
    finally:
        # Removed while still held, so that a process that has just opened it sees another file under the name, or
        # none. A file that stays is harmless: the next writer takes it over.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file ``path``."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


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
        # The previous holder may have removed the file between opening and locking it here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        os.close(handle)
