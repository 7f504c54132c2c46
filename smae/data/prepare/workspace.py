"""What an unfinished preparation keeps: the plan, what is done of it, and the store so far.

Everything can be lost at any moment but for what ``done/`` names, where a task is named only when its shard is safe.
Where all this lies, and how the finished store gets to its place, is said by ``folder_work.py`` and ``object_work.py``.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from blake3 import blake3

from smae.data.prepare.plan import Plan, differences
from smae.data.prepare.worker import TaskResult
from smae.data.store.file_store import FileStore
from smae.data.store.manifest import FileRecord, read_json
from smae.errors import DataError

PLAN, QUARANTINE_SHOWN = "plan.json", "quarantine.jsonl"


class Workplace(ABC):
    """The unfinished work on one output.

    Attributes:
        out: where the store will appear.
        files: where plan and journal are; named like the output, with ``.wip`` behind.
        place: where the store is being written.
    """

    out: Path | str
    files: FileStore
    root: FileStore

    @property
    @abstractmethod
    def unfinished(self) -> bool:
        """Whether there is work that ``resume`` can go on with."""

    @property
    @abstractmethod
    def occupied(self) -> bool:
        """Whether something is at the output that is no unfinished work."""

    @property
    @abstractmethod
    def published(self) -> bool:
        """Whether a complete store is at the output."""

    @property
    @abstractmethod
    def shared(self) -> tuple[Path, ...]:
        """Paths that every machine at work must see."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Keep all others from this output during the block.

        Raises:
            LockedError: another process is at work on it.
            EnvironmentFault: the disk or the object store refused.
        """

    @abstractmethod
    def put_back(self) -> None:
        """Undo a publication that was cut off half-way."""

    @abstractmethod
    def start(self, plan: Plan) -> None:
        """Throw away what is there and begin."""

    @abstractmethod
    def publish(self) -> None:
        """Make the finished store appear, and leave nothing else behind.

        Raises:
            EnvironmentFault: the disk or the object store refused; the same command with ``resume`` puts it right.
        """

    @abstractmethod
    def remove(self) -> None:
        """Remove plan and journal, and whatever else is no store."""

    def resume(self, plan: Plan) -> list[TaskResult]:
        """Return the tasks that are done, and remove everything else from the store so far.

        Raises:
            DataError: the work was planned otherwise; the message lists each difference.
        """
        changed = differences(read_json(self.files, PLAN), json.loads(plan.encode()))
        if changed:
            raise DataError(
                f"{self.files.name} was begun with other inputs or settings, so it cannot be resumed:\n  "
                + "\n  ".join(changed)
                + "\nuse the same ones, or begin again with --overwrite"
            )
        present = self.files.sizes()
        todo = (task.number for task in plan.tasks() if _done(task.number) in present)
        done = [result for number in todo if (result := self._read(number)) is not None]
        kept = {record.path for result in done for shard in result.shards for record in shard.files.values()}
        for key in self.root.sizes():
            if key not in kept:
                self.root.remove(key)
        self.files.remove(QUARANTINE_SHOWN)
        return done

    def record(self, result: TaskResult) -> None:
        """Write down that a task is done, once its shards are safe.

        Raises:
            EnvironmentFault: the disk refused.
        """
        for shard in result.shards:
            shard.fsync(self.root)
        self.files.write(_done(result.task), json.dumps(result.to_json(), default=asdict).encode("ascii"))

    def show_quarantine(self, lines: bytes) -> str:
        """Write the list of bad files where no store is published, and return where it is."""
        self.files.write(QUARANTINE_SHOWN, lines)
        return f"{self.files.name}/{QUARANTINE_SHOWN}"

    def _read(self, task: int) -> TaskResult | None:
        """Return a task's result if it is written down and its shards are as they were."""
        try:
            result = TaskResult.from_json(task, read_json(self.files, _done(task)))
        except (DataError, ValueError, KeyError, TypeError):
            return None  # damaged: the task is done again
        records = [record for shard in result.shards for record in shard.files.values()]
        return result if all(map(self._sound, records)) else None

    def _sound(self, record: FileRecord) -> bool:
        try:
            return blake3(self.root.read(record.path, limit=record.size)).hexdigest() == record.blake3
        except DataError:
            return False


def _done(task: int) -> str:
    return f"done/{task:06}.json"
