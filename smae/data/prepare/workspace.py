"""Unfinished work on a store: plan, journal of finished tasks, and the store so far.

``<out>.wip`` holds ``plan.json`` and ``done/*.json``. A crash may lose anything except the tasks in
``done/``, and a task is noted there only when its shards are flushed. In a folder, the store so far
is there too, as ``store/``, which becomes the output in one step. Objects cannot be renamed
together: in an object store, shards are written under their final keys, and the store counts as
complete when its manifest is there, which comes last. An old store loses its manifest before
anything else of it is changed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from blake3 import blake3

from smae import interrupts
from smae.atomic_io import check_output, exchange, fsync_folder, is_locked, locked, os_errors, refuse_links
from smae.data.prepare.plan import Plan, differences
from smae.data.prepare.worker import TaskResult
from smae.data.store.file_store import FileStore, LocalFileStore, open_file_store
from smae.data.store.format import MANIFEST, FileRecord, read_json
from smae.errors import ConfigError, DataError, LockedError, SmaeError

if TYPE_CHECKING:
    from smae.data.store.object_store import ObjectFileStore

PLAN, QUARANTINE_UNPUBLISHED, LOCK = "plan.json", "quarantine.jsonl", "lock"
_LOCK_BYTES = 4096
_REMOVERS = {"s3": "aws s3 rm", "gs": "gcloud storage rm"}


class Workspace(ABC):
    """The unfinished work on one output.

    Attributes:
        out: path or URL at which the store will appear.
        files: where plan and journal are: the output's name followed by ``.wip``.
        root: where the store is being written.
        shared: paths that every worker must see.
    """

    out: Path | str
    files: FileStore
    root: FileStore
    shared: tuple[Path, ...] = ()

    @property
    @abstractmethod
    def unfinished(self) -> bool:
        """Whether there is work to resume."""

    @property
    @abstractmethod
    def occupied(self) -> bool:
        """Whether something other than unfinished work is at the output."""

    @property
    @abstractmethod
    def published(self) -> bool:
        """Whether a complete store is at the output."""

    @abstractmethod
    def check(self, raw: Path, *, overwrite: bool) -> None:
        """Refuse an output that must not be replaced or overlaps with ``raw``."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Lock the output during the block; a ``LockedError`` if another process holds it."""

    @abstractmethod
    def restore(self) -> None:
        """Undo a publication that was interrupted half-way."""

    @abstractmethod
    def start(self, plan: Plan) -> None:
        """Remove earlier work and write the plan."""

    @abstractmethod
    def publish(self) -> None:
        """Make the finished store appear and remove all else; ``resume`` goes on after a fault."""

    @abstractmethod
    def remove(self) -> None:
        """Remove plan, journal and everything else that is not a published store."""

    def resume(self, plan: Plan) -> list[TaskResult]:
        """Return the results of finished tasks, remove other files; a ``DataError`` of another plan."""
        changed = differences(read_json(self.files, PLAN), json.loads(plan.encode()))
        if changed:
            raise DataError(
                f"{self.files.name} was begun with other inputs or settings, so it cannot be resumed:\n  "
                + "\n  ".join(changed)
                + "\nuse the same ones, or begin again with --overwrite"
            )
        present = self.files.sizes()
        in_journal = (task.number for task in plan.tasks() if _done(task.number) in present)
        done = [result for number in in_journal if (result := self._read(number)) is not None]
        kept = {record.path for result in done for shard in result.shards for record in shard.files.values()}
        for key in self.root.sizes():
            if key not in kept:
                self.root.remove(key)
        self.files.remove(QUARANTINE_UNPUBLISHED)
        return done

    def record(self, result: TaskResult) -> None:
        """Add a finished task, whose shards are flushed, to the journal."""
        for shard in result.shards:
            shard.fsync(self.root)
        self.files.write(_done(result.task), json.dumps(result.to_json(), default=asdict).encode("ascii"))

    def write_quarantine(self, lines: bytes) -> str:
        """Write the list of bad files of a store that is not published; return where it is."""
        self.files.write(QUARANTINE_UNPUBLISHED, lines)
        return f"{self.files.name}/{QUARANTINE_UNPUBLISHED}"

    def _read(self, task: int) -> TaskResult | None:
        """Return a task's result if its journal entry and its shards are intact."""
        interrupts.check()
        try:
            result = TaskResult.from_json(task, read_json(self.files, _done(task)))
        except (DataError, ValueError, KeyError, TypeError):
            # A damaged entry: the task is done again.
            return None
        records = [record for shard in result.shards for record in shard.files.values()]
        if all(map(self._is_intact, records)):
            return result
        return None

    def _is_intact(self, record: FileRecord) -> bool:
        try:
            return blake3(self.root.read(record.path, limit=record.size)).hexdigest() == record.blake3
        except DataError:
            return False


def _done(task: int) -> str:
    return f"done/{task:06}.json"


class FolderWorkspace(Workspace):
    """Unfinished work on a local store.

    Args:
        out: absolute path at which the store will appear.
    """

    def __init__(self, out: Path) -> None:
        self.out: Path = out
        self._folder = out.with_name(out.name + ".wip")
        self._store, self._old = self._folder / "store", self._folder / "old"
        self.lock_file, self.shared = out.with_name(out.name + ".lock"), (self._folder,)
        self.files, self.root = LocalFileStore(self._folder), LocalFileStore(self._store)

    @property
    def unfinished(self) -> bool:
        return (self._folder / PLAN).exists() and self._store.exists()

    @property
    def occupied(self) -> bool:
        """See ``Workspace``. An empty folder does not count; a broken link does."""
        return os.path.lexists(self.out) and not (self.out.is_dir() and not any(self.out.iterdir()))

    @property
    def published(self) -> bool:
        return (self.out / MANIFEST).is_file()

    def check(self, raw: Path, *, overwrite: bool) -> None:
        """See ``Workspace``. Work that is resumed may come from elsewhere."""
        refuse_links(self._folder)
        check_output(
            self.out,
            kind="a store",
            is_kind=lambda path: self.published or not self.occupied,
            overwrite=overwrite or not self.occupied,
            inputs=[raw],
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See ``Workspace``; the lock ends with its process."""
        with os_errors(self.out.parent):
            self.out.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.lock_file):
            yield

    def restore(self) -> None:
        """See ``Workspace``: the old store was moved away, the new one not yet in its place."""
        if self._old.exists() and not self.out.exists():
            with os_errors(self.out):
                os.rename(self._old, self.out)
            fsync_folder(self.out.parent)

    def start(self, plan: Plan) -> None:
        """See ``Workspace``. The plan comes last, so an incomplete start does not count as work."""
        self.remove()
        with os_errors(self._store):
            self._store.mkdir(parents=True)
        self.files.write(PLAN, plan.encode())
        fsync_folder(self._folder.parent)

    def publish(self) -> None:
        """See ``Workspace``. An older store stays where the disk refuses."""
        with os_errors(self.out):
            if not self.occupied:
                os.rename(self._store, self.out)
            elif not exchange(self._store, self.out):
                os.rename(self.out, self._old)
                try:
                    os.rename(self._store, self.out)
                except OSError:
                    os.rename(self._old, self.out)
                    raise
        fsync_folder(self.out.parent)
        self.remove()

    def remove(self) -> None:
        if self._folder.exists():
            with os_errors(self._folder):
                shutil.rmtree(self._folder)


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
        return not self.published and PLAN in self.files.sizes()

    @property
    def occupied(self) -> bool:
        return not self.unfinished and bool(self.root.sizes())

    @property
    def published(self) -> bool:
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
            f"{where}: {process} is writing the same output; wait for it, or choose another --out. If "
            f"that process is dead, remove this object{how} and run the same command with --resume"
        )


@dataclass(frozen=True)
class Unfinished:
    """A preparation that has not finished.

    Attributes:
        out: the store that it would become.
        state: ``running``; ``interrupted``, to be resumed; or ``unreadable``.
        done: number of samples whose shards are flushed.
        total: number of samples in the plan.
    """

    out: Path
    state: str
    done: int = 0
    total: int = 0


def find_unfinished(folder: Path) -> list[Unfinished]:
    """Return the unfinished preparations of stores in ``folder``, by name."""
    return [_describe(wip.with_suffix("")) for wip in sorted(folder.glob("*.wip")) if wip.is_dir()]


def _describe(out: Path) -> Unfinished:
    workspace = FolderWorkspace(out)
    state = "running" if is_locked(workspace.lock_file) else ""
    sizes: list[int] = []
    try:
        if workspace.unfinished:
            sizes = [int(size) for size in read_json(workspace.files, PLAN)["tasks"]]
        keys = workspace.files.sizes()
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return Unfinished(out, state or "unreadable")
    done = sum(size for number, size in enumerate(sizes) if _done(number) in keys)
    return Unfinished(out, state or "interrupted", done, sum(sizes))
