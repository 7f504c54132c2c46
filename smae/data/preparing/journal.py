"""The folder ``<out>.wip`` of an unfinished preparation: the plan, what is done of it, and the store so far.

Everything in it can be lost at any moment but for what ``done/`` names, and a task is named there only when its shard
is safe on disk. ``store/`` becomes the output by one rename.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from blake3 import blake3

from smae.data.preparing.plan import Plan, differences
from smae.data.preparing.transform import TaskResult
from smae.data.storage.atomic import disk, sync_folder
from smae.data.storage.manifest import FileRecord, read_json
from smae.data.storage.places import LocalPlace
from smae.errors import DataError

_PLAN, _QUARANTINE = "plan.json", "quarantine.jsonl"


class Workplace:
    """The unfinished work on one output.

    Attributes:
        place: where the store is being written.

    Args:
        out: where the store will appear.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".wip")
        self._files = LocalPlace(self.folder)
        self.place = LocalPlace(self.folder / "store")
        self._old = self.folder / "old"

    @property
    def unfinished(self) -> bool:
        """Whether there is work that ``resume`` can go on with."""
        return (self.folder / _PLAN).exists() and self.place.folder.exists()

    def put_back(self) -> None:
        """Undo a replacement that was cut off between moving the old store away and the new one in."""
        if self._old.exists() and not self.out.exists():
            with disk(self.out):
                os.rename(self._old, self.out)
            sync_folder(self.out.parent)

    def start(self, plan: Plan) -> None:
        """Throw away what is there and begin: the plan is written last, so half a beginning counts as none."""
        self.remove()
        with disk(self.place.folder):
            self.place.folder.mkdir(parents=True)
        self._files.write(_PLAN, plan.encode())
        sync_folder(self.folder.parent)

    def resume(self, plan: Plan) -> list[TaskResult]:
        """Return the tasks that are done, and remove everything else from the store so far.

        Raises:
            DataError: the work was planned otherwise; the message lists each difference.
        """
        changed = differences(read_json(self._files, _PLAN), json.loads(plan.encode()))
        if changed:
            raise DataError(
                f"{self.folder} was begun with other inputs or settings, so it cannot be resumed:\n  "
                + "\n  ".join(changed)
                + "\nuse the same ones, or begin again with --overwrite"
            )
        done = [result for task in plan.tasks() if (result := self._read(task.number)) is not None]
        kept = {record.path for result in done for shard in result.shards for record in shard.files.values()}
        for key in self.place.sizes():
            if key not in kept:
                self.place.remove(key)
        self._files.remove(_QUARANTINE)
        return done

    def record(self, result: TaskResult) -> None:
        """Write down that a task is done, once its shards are safe.

        Raises:
            EnvironmentFault: the disk refused.
        """
        for shard in result.shards:
            shard.settle(self.place)
        self._files.write(_done(result.task), json.dumps(result.to_json(), default=asdict).encode("ascii"))

    def show_quarantine(self, lines: bytes) -> str:
        """Write the list of bad files where no store is published, and return where it is."""
        self._files.write(_QUARANTINE, lines)
        return f"{self._files.name}/{_QUARANTINE}"

    def publish(self) -> None:
        """Move the finished store to its place, an old one out of it, and leave nothing else behind.

        Raises:
            EnvironmentFault: the disk refused; the old store, if there was one, is back in its place at the next start.
        """
        with disk(self.out):
            if self.out.exists() and any(self.out.iterdir()):
                os.rename(self.out, self._old)
            os.rename(self.place.folder, self.out)
        sync_folder(self.out.parent)
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        if self.folder.exists():
            with disk(self.folder):
                shutil.rmtree(self.folder)

    def _read(self, task: int) -> TaskResult | None:
        """Return a task's result if it is written down and its shards are as they were."""
        if not (self.folder / _done(task)).is_file():
            return None
        try:
            result = TaskResult.from_json(task, read_json(self._files, _done(task)))
        except (DataError, ValueError, KeyError, TypeError):
            return None  # damaged: the task is done again
        records = [record for shard in result.shards for record in shard.files.values()]
        return result if all(map(self._sound, records)) else None

    def _sound(self, record: FileRecord) -> bool:
        try:
            return blake3(self.place.read(record.path, limit=record.size)).hexdigest() == record.blake3
        except DataError:
            return False


def _done(task: int) -> str:
    return f"done/{task:06}.json"
