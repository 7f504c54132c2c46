"""Atomic writing of files and folders, JSON files, and the rule for replacing outputs.

Everything is written under a temporary name, flushed to disk and renamed, and the rename is flushed
too. Temporary files are created exclusively, so a link under the temporary name is never followed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from smae.errors import ConfigError, DataError, EnvironmentFault, LockedError

MAX_JSON = 2**24
"""Largest JSON file that is read, in bytes; a larger one is a mistake or an attack."""
MAX_INTEGER = 2**63 - 1
"""Largest whole number that is read from a JSON file."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Of a lock file, which may come from elsewhere: a link, or a pipe at which opening would wait."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Constants of Linux's renameat2."""


@contextmanager
def os_errors(path: Path, size: int = 0, *, partial: Path | None = None) -> Iterator[None]:
    """Turn the block's ``OSError`` into an ``EnvironmentFault`` that names ``path`` and ``size``.

    Where the size is not known, it names the bytes that are in ``partial``.
    """
    try:
        yield
    except (EnvironmentFault, LockedError):
        raise
    except OSError as error:
        amount = f" ({size:,} bytes)" if size else ""
        if not size and partial is not None:
            amount = f" (after {_size(partial):,} bytes)"
        remedy = "everything finished is kept: fix this and run the same command again"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = f"choose an output in a folder that you may write to, or change {path.parent}'s permissions"
        raise EnvironmentFault(f"cannot write {path}{amount}: {error.strerror or error}; {remedy}") from error


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; 0 if there is none."""
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] or [path]
    return sum(file.lstat().st_size for file in files if file.is_file())


def partial_path(path: Path) -> Path:
    """Return the temporary name under which ``path`` is written."""
    return path.with_name(f".{path.name}.partial")


def write_atomic(path: Path, *pieces: bytes, durable: bool = True) -> None:
    """Write ``pieces``, end to end, to ``path``; readers and crashes never see a part of them.

    Args:
        path: the file; missing folders above it are made.
        pieces: its content.
        durable: wait until it survives a power cut; else flushing is left to the caller.

    Raises:
        EnvironmentFault: no space, no permission, or a device error; an earlier file is intact.
    """
    with os_errors(path, sum(map(len, pieces))), _temporary(path) as partial:
        with open(partial, "wb") as file:
            file.writelines(pieces)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    if durable:
        fsync_folder(path.parent)


@contextmanager
def atomic_file(path: Path, *, size: int = 0) -> Iterator[Path]:
    """Yield an empty temporary file for the block to fill; after the block it becomes ``path``.

    Args:
        path: the file; missing folders above it are made.
        size: bytes that will be written, for messages, if known.

    Raises:
        EnvironmentFault: no space, no permission, or a device error; an earlier file is intact.
    """
    with _temporary(path) as partial, os_errors(path, size, partial=partial):
        yield partial
        fsync_file(partial)
        os.replace(partial, path)
    fsync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path, *, size: int = 0) -> Iterator[Path]:
    """Yield a new temporary folder for the block to fill; after the block it becomes ``path``.

    A file or folder at ``path`` is replaced: call ``check_output`` before the work begins.

    Args:
        path: the folder; missing folders above it are made.
        size: bytes that will be written, for messages, if known.

    Raises:
        EnvironmentFault: no space, no permission, or a device error; an earlier folder is intact.
    """
    with _temporary(path, folder=True) as partial, os_errors(path, size, partial=partial):
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                fsync_file(Path(folder, name))
            fsync_folder(Path(folder))
        if os.path.lexists(path):
            _replace_folder(partial, path)
        else:
            os.rename(partial, path)
    fsync_folder(path.parent)


@contextmanager
def _temporary(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield a new temporary file or folder of ``path``, locked; remove it if the block fails."""
    partial = partial_path(path)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _claim(partial, folder=folder)
    try:
        yield partial
    except BaseException:
        _remove(partial)
        raise
    finally:
        os.close(handle)


def _claim(partial: Path, *, folder: bool) -> int:
    """Create a temporary file or folder in place of a stale one; return a handle that locks it."""
    while True:
        created = True
        try:
            partial.mkdir() if folder else os.close(os.open(partial, _CREATE, 0o666))
        except FileExistsError:
            created = False
        try:
            handle = os.open(partial, os.O_RDONLY | _NO_LINK)
        except OSError:
            # A link, or gone already.
            partial.unlink(missing_ok=True)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise _locked(partial) from None
        except OSError:
            # Some network disks lock no folders.
            pass
        with suppress(FileNotFoundError):
            if created and os.path.samestat(os.lstat(partial), os.fstat(handle)):
                return handle
        if not created:
            _remove(partial)
        os.close(handle)


def _locked(path: Path) -> LockedError:
    return LockedError(f"{path}: another process is writing the same output; wait for it, or choose another --out")


def _replace_folder(new: Path, path: Path) -> None:
    if exchange(new, path):
        _remove(new)
        return
    # Two renames where nothing exchanges: a crash between them leaves the old folder beside.
    old = path.with_name(f".{path.name}.old")
    _remove(old)
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_output(
    path: Path, *, kind: str, is_kind: Callable[[Path], bool], overwrite: bool, inputs: Iterable[Path] = ()
) -> None:
    """Refuse an output that must not be replaced: the one rule of all commands.

    Args:
        path: the file or folder to be written.
        kind: what the command writes, for messages (``"an exported encoder"``).
        is_kind: whether an existing path is of that kind, recognised by its own marker.
        overwrite: whether the user allows replacing it.
        inputs: files and folders that the command reads.

    Raises:
        ConfigError: the output is an input, is inside one or contains one; or it exists and is a link,
            a mount point or not of the kind; or it is of the kind, and ``overwrite`` is false.
    """
    # realpath, so that a link or ".." hides nothing; Path.resolve raises on links in a circle.
    output = Path(os.path.realpath(path))
    for entry in inputs:
        other = Path(os.path.realpath(entry))
        if output == other or output in other.parents or other in output.parents:
            raise ConfigError(f"{path}: this output would replace, or be inside, {entry}, which is read: name another")
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise ConfigError(f"{path} is a link, which is not replaced: name what it leads to, or another output")
    if _is_mount_point(output):
        raise ConfigError(f"{path} is a mount point, which no rename can replace: name an output inside it")
    if not is_kind(path):
        raise ConfigError(f"{path} is there already and is not {kind}, so it is not replaced: name another output")
    if not overwrite:
        raise ConfigError(f"{path} is there already: add --overwrite to replace it, or name another output")


def refuse_links(folder: Path) -> None:
    """Refuse with a ``DataError`` to write into a folder that is or holds a link."""
    inside = (Path(parent, name) for parent, folders, files in os.walk(folder) for name in (*folders, *files))
    for path in (folder, *inside):
        if os.path.islink(path):
            raise DataError(f"{path} is a link, and what it leads to would be written to: put a copy in its place")


def _is_mount_point(path: Path) -> bool:
    """Return whether something is mounted at ``path``, from the same disk too, as in containers."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return os.path.ismount(path)
    # The fifth field, in which spaces are octal escapes.
    places = (line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines)
    return os.fsencode(path) in places


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, neither ever missing; False if the system cannot."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    with os_errors(folder):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def fsync_file(path: Path) -> None:
    """Make a written file survive a power cut."""
    with os_errors(path), open(path, "rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; raises as ``write_atomic`` does."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, *, what: str, remedy: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DataError: missing, unreadable, too large, not a JSON object, in the words of ``what``.
    """
    if not path.is_file():
        raise DataError(f"{path}: no {what} there, or not a regular file: {remedy}")
    if path.stat().st_size > MAX_JSON:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes, which no {what} has: {remedy}")
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: no readable {what} ({type(error).__name__}): {remedy}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object as {what}, found {type(value).__name__}: {remedy}")
    return value


def parse_json(data: bytes | str) -> Any:
    """Return JSON values whose numbers are finite and fit 64 bits; a ``ValueError`` otherwise.

    A value of another kind than expected is for the caller to refuse, by ``type(...)``: a subclass
    of int is JSON's true.
    """
    return json.loads(data, parse_int=_integer, parse_float=_finite, parse_constant=_finite)


def _integer(digits: str) -> int:
    if len(digits) > 19 or not -MAX_INTEGER <= int(digits) <= MAX_INTEGER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"the number {digits[:40]}")
    return value


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file ``path`` during the block and remove it after; ``wait`` for others.

    A lock file left behind by a killed process is no obstacle: the lock counts, not the file.

    Raises:
        LockedError: another process holds it.
        EnvironmentFault: the file cannot be created.
    """
    handle = _acquire(path, wait=wait)
    try:
        yield
    finally:
        # Removed while still held, so that a process that has just opened it sees another file
        # under the name, or none. A file that stays is harmless: the next writer takes it over.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file ``path``."""
    try:
        handle = os.open(path, os.O_RDONLY | _NO_LINK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _acquire(path: Path, *, wait: bool) -> int:
    while True:
        with os_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            os.close(handle)
            raise _locked(path) from error
        # The previous holder may have removed the file between opening and locking it here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        os.close(handle)
