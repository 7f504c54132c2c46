"""Preparations that were begun and not finished: what lies in ``<out>.wip``, and whether somebody still works on it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from smae.data.prepare.folder_workspace import FolderWork
from smae.data.prepare.workspace import PLAN
from smae.data.store.manifest import read_json
from smae.errors import DataError


@dataclass(frozen=True)
class Unfinished:
    """One preparation that has not ended.

    Attributes:
        out: the store that it would become.
        state: ``running``; ``interrupted``, which ``--resume`` goes on with; or ``unreadable``.
        done: samples whose shards are safe.
        total: samples of the plan.
    """

    out: Path
    state: str
    done: int = 0
    total: int = 0


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock file ``path``; one that a killed process left behind is held by nobody."""
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


def unfinished(folder: Path) -> list[Unfinished]:
    """Return the unfinished preparations whose store would lie in ``folder``, by name."""
    return [_describe(wip) for wip in sorted(folder.glob("*.wip")) if wip.is_dir()]


def _describe(wip: Path) -> Unfinished:
    out = wip.with_suffix("")
    running = is_locked(out.with_name(out.name + ".lock"))
    work = FolderWork(out)
    try:
        sizes = [int(size) for size in read_json(work.files, PLAN)["tasks"]] if work.unfinished else []
        done = {int(Path(key).stem) for key in work.files.sizes() if key.startswith("done/") and key.endswith(".json")}
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return Unfinished(out, "running" if running else "unreadable")
    safe = sum(size for number, size in enumerate(sizes) if number in done)
    return Unfinished(out, "running" if running else "interrupted", safe, sum(sizes))
