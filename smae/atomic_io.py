"""Files that are there whole or not at all: temporary name, fsync, rename; disk errors worded for people."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smae.errors import EnvironmentFault

PARTIAL = ".partial"
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


@contextmanager
def disk(path: Path, size: int = 0) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an ``EnvironmentFault`` that names ``path`` and ``size`` bytes."""
    try:
        yield
    except EnvironmentFault:
        raise
    except OSError as error:
        what = f"{path} ({size:,} bytes)" if size else str(path)
        raise EnvironmentFault(
            f"cannot write {what}: {error.strerror or error}; nothing that was finished is lost: "
            "put it right and run the same command with --resume"
        ) from error


def place(path: Path, *pieces: bytes, safe: bool = True) -> None:
    """Write ``pieces``, end to end, to ``path`` so that no reader and no crash ever sees a part of it.

    Args:
        path: the file.
        pieces: what it will hold.
        safe: wait until it survives a power cut; else ``sync_file`` and ``sync_folder`` are the caller's business.

    Raises:
        EnvironmentFault: no space, no permission, or a device error.
    """
    with disk(path, sum(map(len, pieces))):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL)
        with open(partial, "wb") as file:
            file.writelines(pieces)
            if safe:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
        if safe:
            sync_folder(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, so that neither is ever missing; False where the system cannot.

    Raises:
        OSError: it can, and failed.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    with disk(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Make what another library wrote to ``path`` survive a power cut."""
    with disk(path), open(path, "rb") as file:
        os.fsync(file.fileno())
