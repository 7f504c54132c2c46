"""Unfinished work on a local store: the folder ``<out>.wip``, whose ``store/`` becomes the output in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smae.atomic_io import exchange, fsync_folder, os_errors
from smae.data.prepare.lock import locked
from smae.data.prepare.plan import Plan
from smae.data.prepare.workspace import PLAN, Workplace
from smae.data.store.file_store import LocalFileStore
from smae.data.store.manifest import MANIFEST


class FolderWork(Workplace):
    """See ``Workplace``.

    Args:
        out: absolute path at which the store will appear.
    """

    def __init__(self, out: Path) -> None:
        self.out: Path = out
        self._folder = out.with_name(out.name + ".wip")
        self._store, self._old = self._folder / "store", self._folder / "old"
        self.files, self.root = LocalFileStore(self._folder), LocalFileStore(self._store)

    @property
    def unfinished(self) -> bool:
        """See ``Workplace``."""
        return (self._folder / PLAN).exists() and self._store.exists()

    @property
    def occupied(self) -> bool:
        """See ``Workplace``; an empty folder is nothing, a link that leads nowhere is something."""
        return os.path.lexists(self.out) and not (self.out.is_dir() and not any(self.out.iterdir()))

    @property
    def published(self) -> bool:
        """See ``Workplace``."""
        return (self.out / MANIFEST).is_file()

    @property
    def shared(self) -> tuple[Path, ...]:
        """See ``Workplace``."""
        return (self._folder,)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See ``Workplace``; the lock dies with its process."""
        with os_errors(self.out.parent):
            self.out.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.out.with_name(self.out.name + ".lock")):
            yield

    def put_back(self) -> None:
        """Undo a replacement that was cut off between moving the old store away and the new one in."""
        if self._old.exists() and not self.out.exists():
            with os_errors(self.out):
                os.rename(self._old, self.out)
            fsync_folder(self.out.parent)

    def start(self, plan: Plan) -> None:
        """See ``Workplace``; the plan is written last, so half a beginning counts as none."""
        self.remove()
        with os_errors(self._store):
            self._store.mkdir(parents=True)
        self.files.write(PLAN, plan.encode())
        fsync_folder(self._folder.parent)

    def publish(self) -> None:
        """Move the finished store to its place, an old one out of it; see ``Workplace``."""
        with os_errors(self.out):
            if self.occupied:
                self._replace()
            else:
                os.rename(self._store, self.out)
        fsync_folder(self.out.parent)
        self.remove()

    def _replace(self) -> None:
        """Put the store where an older one is, which stays where the disk refuses."""
        if exchange(self._store, self.out):
            return
        os.rename(self.out, self._old)
        try:
            os.rename(self._store, self.out)
        except OSError:
            os.rename(self._old, self.out)
            raise

    def remove(self) -> None:
        """See ``Workplace``."""
        if self._folder.exists():
            with os_errors(self._folder):
                shutil.rmtree(self._folder)
