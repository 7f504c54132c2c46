"""Unfinished work in an object store: shards at their final keys, all else below ``<out>.wip/``.

Objects cannot be renamed together, so a store counts as complete when its manifest is there, which
is written last. An old store loses its manifest before anything else of it is changed.
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
from smae.data.prepare.workspace import PLAN, Workspace
from smae.data.store.file_store import open_file_store
from smae.data.store.format import MANIFEST
from smae.errors import ConfigError, LockedError, SmaeError

if TYPE_CHECKING:
    from smae.data.store.object_store import ObjectFileStore

LOCK = "lock"
_LOCK_BYTES = 4096
_REMOVERS = {"s3": "aws s3 rm", "gs": "gcloud storage rm"}


class ObjectWorkspace(Workspace):
    """Unfinished work on a store in an object store.

    Args:
        out: URL at which the store will appear.

    Raises:
        ConfigError: not the URL of an object store, or obstore is not installed.
    """

    def __init__(self, out: str) -> None:
        self.out: str = out
        self.root = open_file_store(out)
        self.files = self._files = cast("ObjectFileStore", open_file_store(f"{out}.wip"))

    @property
    def unfinished(self) -> bool:
        """See ``Workspace``."""
        return not self.published and PLAN in self.files.sizes()

    @property
    def occupied(self) -> bool:
        """See ``Workspace``."""
        return not self.unfinished and bool(self.root.sizes())

    @property
    def published(self) -> bool:
        """See ``Workspace``."""
        return MANIFEST in self.root.sizes()

    def check(self, raw: Path, *, overwrite: bool) -> None:
        """See ``Workspace``; ``smae.atomic_io.check_output`` for URLs."""
        if not self.occupied:
            return
        if not self.published:
            raise ConfigError(
                f"{self.out} is there already and is not a store, so it is not replaced: name another output"
            )
        if not overwrite:
            raise ConfigError(f"{self.out} is there already: add --overwrite to replace it, or name another output")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See ``Workspace``; the lock is an object, created exclusively, that outlives a crash."""
        owner = {"host": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}
        mine = json.dumps(owner).encode("ascii")
        if not self._files.create(LOCK, mine):
            raise LockedError(self._locked_message())
        try:
            yield
        finally:
            with suppress(SmaeError):
                if self.files.read(LOCK, limit=_LOCK_BYTES) == mine:
                    self.files.remove(LOCK)

    def restore(self) -> None:
        """See ``Workspace``; nothing to do, since only the manifest counts."""

    def start(self, plan: Plan) -> None:
        """See ``Workspace``; removes an old store."""
        self._clear(keep=(LOCK, PLAN))
        # Written before the store is changed, so that an interrupted start can be resumed.
        self.files.write(PLAN, plan.encode())
        self.root.remove(MANIFEST)
        for key in self.root.sizes():
            self.root.remove(key)

    def publish(self) -> None:
        """See ``Workspace``; the manifest is there already, so this only removes the rest."""
        self.remove()

    def remove(self) -> None:
        """See ``Workspace``."""
        self._clear(keep=(LOCK,))

    def _clear(self, *, keep: tuple[str, ...]) -> None:
        for key in self.files.sizes():
            if key not in keep:
                self.files.remove(key)

    def _locked_message(self) -> str:
        where = f"{self.files.name}/{LOCK}"
        try:
            owner = json.loads(self.files.read(LOCK, limit=_LOCK_BYTES))
            process = f"process {int(owner['process'])} on {ascii(str(owner['host']))[1:-1][:80]}"
        except (SmaeError, ValueError, KeyError, TypeError):
            process = "another process"
        how = ""
        if remover := _REMOVERS.get(self.out.partition(":")[0]):
            how = f" (`{remover} {where}`)"
        return (
            f"{where}: {process} is writing the same output; wait for it, or choose another --out. If that process is "
            f"dead, remove this object{how} and run the same command with --resume"
        )
