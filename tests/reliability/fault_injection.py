"""Fault injection: calls a guard before each change that this process makes to files under one path.

It patches the functions of ``os`` that change files, and ``open`` for writing, so it is independent of smae's code.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Guard = Callable[[str, str], object]
"""Called with the name of the call and its path, before it is done; may raise, or end the process."""

ON_HANDLES = ("write", "pwrite", "writev", "fsync", "fdatasync", "ftruncate", "posix_fallocate")
ON_PATHS = ("unlink", "remove", "rmdir", "mkdir", "truncate")
ON_TWO_PATHS = ("rename", "replace", "link", "symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class HalfWritten(Exception):
    """Raised by a guard to have half of the bytes written and the process die at once, as in a power cut."""


def watch(path: Path, guard: Guard) -> None:
    """Call ``guard`` before each later change to ``path``, ``path*`` beside it, and names in its folder."""
    prefix, folder = os.path.abspath(path), os.path.dirname(os.path.abspath(path))

    def ask(call: str, changed: str | None) -> None:
        if changed is not None and (changed == folder or changed.startswith(prefix)):
            guard(call, changed)

    for name in ON_HANDLES:
        setattr(os, name, _on_handle(getattr(os, name), name, ask))
    for name in ON_PATHS:
        setattr(os, name, _on_path(getattr(os, name), name, ask))
    for name in ON_TWO_PATHS:
        setattr(os, name, _on_two_paths(getattr(os, name), name, ask))
    os.open = _opening(os.open, ask)
    builtins.open = io.open = _open(io.open, ask)  # type: ignore[assignment]


Ask = Callable[[str, str | None], None]


def _absolute(path: Any, folder: int | None = None) -> str | None:
    """Return the absolute path that a call means: a name, a name below an open folder, or an open handle."""
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return None
    name = os.fsdecode(path)
    return os.path.abspath(name if folder is None else os.path.join(_absolute(folder) or "", name))


def _on_handle(real: Callable[..., Any], name: str, ask: Ask) -> Callable[..., Any]:
    def call(handle: int, *rest: Any, **named: Any) -> Any:
        try:
            ask(name, _absolute(handle))
        except HalfWritten:
            if name == "write":
                real(handle, memoryview(rest[0])[: len(rest[0]) // 2])
            os._exit(1)
        return real(handle, *rest, **named)

    return call


def _on_path(real: Callable[..., Any], name: str, ask: Ask) -> Callable[..., Any]:
    def call(path: Any, *rest: Any, dir_fd: int | None = None, **named: Any) -> Any:
        _or_die(ask, name, _absolute(path, dir_fd))
        return real(path, *rest, **named) if dir_fd is None else real(path, *rest, dir_fd=dir_fd, **named)

    return call


def _on_two_paths(real: Callable[..., Any], name: str, ask: Ask) -> Callable[..., Any]:
    def call(source: Any, target: Any, **named: Any) -> Any:
        _or_die(ask, name, _absolute(target, named.get("dst_dir_fd")))
        return real(source, target, **named)

    return call


def _opening(real: Callable[..., int], ask: Ask) -> Callable[..., int]:
    def call(path: Any, flags: int, *rest: Any, dir_fd: int | None = None, **named: Any) -> int:
        if flags & _WRITING:
            _or_die(ask, "open", _absolute(path, dir_fd))
        return real(path, flags, *rest, dir_fd=dir_fd, **named)

    return call


def _open(real: Callable[..., Any], ask: Ask) -> Callable[..., Any]:
    def call(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+"):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            _or_die(ask, "open", _absolute(file))
        raw = _Watched(file, mode.replace("t", ""), closefd, opener)
        raw.ask = ask
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return call


class _Watched(io.FileIO):
    """An open file that asks the guard before every write."""

    ask: Ask

    def write(self, data: Any) -> int:
        try:
            self.ask("write", _absolute(self.fileno()))
        except HalfWritten:
            super().write(memoryview(data)[: len(data) // 2])
            os._exit(1)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        _or_die(self.ask, "truncate", _absolute(self.fileno()))
        return super().truncate(size)


def _or_die(ask: Ask, name: str, path: str | None) -> None:
    try:
        ask(name, path)
    except HalfWritten:
        os._exit(1)
