"""Helpers for trials on stores: a folder in memory, a digest of all bytes, leftovers, removal."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_memory() -> Iterator[Path]:
    """Give a folder in memory, where there is one: thousands of small stores need no disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def changed(path: Path, data: bytes | None) -> Iterator[None]:
    """Let a file hold other bytes during the block, or be gone."""
    sound = path.read_bytes()
    try:
        path.unlink() if data is None else path.write_bytes(data)
        yield
    finally:
        path.write_bytes(sound)


def digest(store: Path) -> str:
    """Return one SHA-256, hex, over the names and bytes of everything in a store, folders included."""
    total = hashlib.sha256()
    for path in sorted(store.rglob("*")):
        total.update(f"{path.relative_to(store).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"folder")
    return total.hexdigest()


def problem_of(out: Path, *, expected: str) -> str:
    """Return what is wrong with a finished store: other bytes, or something left beside it; empty if nothing."""
    if not out.is_dir():
        return f"{out.name} is not there"
    if digest(out) != expected:
        return f"{out.name} has other bytes than an undisturbed one"
    left = [name for name in os.listdir(out.parent) if name.startswith(out.name) and name != out.name]
    return f"left behind: {left}" if left else ""


def clear(out: Path) -> None:
    """Remove a store and everything named after it, so that hundreds of trials need no space."""
    for name in os.listdir(out.parent):
        if name.startswith(out.name):
            path = out.parent / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
