"""Unfinished work on a store in an object store: shards where they stay, all else below ``<out>.wip/``, manifest last.

Objects cannot be renamed together, so what makes a store of them is its manifest: nobody opens one without. An old
store loses its manifest before anything else of it is touched.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from smae.data.prepare.plan import Plan
from smae.data.prepare.workspace import PLAN, Workplace
from smae.data.store.file_store import open_file_store
from smae.data.store.manifest import MANIFEST
from smae.errors import LockedError, SmaeError

if TYPE_CHECKING:
    from smae.data.store.object_store import ObjectFileStore

LOCK = "lock"
_LOCK_BYTES = 4096
_REMOVERS = {"s3": "aws s3 rm", "gs": "gcloud storage rm"}


class ObjectWork(Workplace):
    """See ``Workplace``.

    Args:
        out: URL at which the store will appear.

    Raises:
        ConfigError: a URL that names no object store, or obstore is not installed.
    """

    def __init__(self, out: str) -> None:
        self.out: str = out
        self.root = open_file_store(out)
        self.files = self._files = cast("ObjectFileStore", open_file_store(f"{out}.wip"))

    @property
    def unfinished(self) -> bool:
        """See ``Workplace``."""
        return not self.published and PLAN in self.files.sizes()

    @property
    def occupied(self) -> bool:
        """See ``Workplace``."""
        return not self.unfinished and bool(self.root.sizes())

    @property
    def published(self) -> bool:
        """See ``Workplace``."""
        return MANIFEST in self.root.sizes()

    @property
    def shared(self) -> tuple[Path, ...]:
        """See ``Workplace``."""
        return ()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See ``Workplace``; the lock is an object that only one can create, and it outlives a killed process."""
        mine = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}).encode(
            "ascii"
        )
        if not self._files.create(LOCK, mine):
            raise LockedError(self._whose())
        try:
            yield
        finally:
            with suppress(SmaeError):
                if self.files.read(LOCK, limit=_LOCK_BYTES) == mine:
                    self.files.remove(LOCK)

    def put_back(self) -> None:
        """See ``Workplace``; nothing to do: what counts is the manifest."""

    def start(self, plan: Plan) -> None:
        """See ``Workplace``; from here on an old store is no more."""
        self._clear(keep=(LOCK, PLAN))
        self.files.write(PLAN, plan.encode())  # before the store is touched, so that half a beginning can be resumed
        self.root.remove(MANIFEST)
        for key in self.root.sizes():
            self.root.remove(key)

    def publish(self) -> None:
        """See ``Workplace``; the manifest has done it, what remains is to tidy up."""
        self.remove()

    def remove(self) -> None:
        """See ``Workplace``."""
        self._clear(keep=(LOCK,))

    def _clear(self, *, keep: tuple[str, ...]) -> None:
        for key in self.files.sizes():
            if key not in keep:
                self.files.remove(key)

    def _whose(self) -> str:
        where = f"{self.files.name}/{LOCK}"
        try:
            owner = json.loads(self.files.read(LOCK, limit=_LOCK_BYTES))
            whose = f"process {int(owner['process'])} on {ascii(str(owner['host']))[1:-1][:80]}"
        except (SmaeError, ValueError, KeyError, TypeError):
            whose = "another process"
        remover = _REMOVERS.get(self.out.partition(":")[0])
        how = f" (`{remover} {where}`)" if remover else ""
        return (
            f"{where}: {whose} is writing the same output; wait for it, or choose another --out. If that process is "
            f"dead, remove this object{how} and run the same command with --resume"
        )
