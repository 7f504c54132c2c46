"""The folder ``<out>.wip`` of an unfinished preparation: plan, journal of finished shards, and the store so far.

Everything in it can be lost at any moment but for what the journal names, and the journal names a shard only when it is
safe on disk. ``store/`` becomes the output by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smae.data.preparing.outcome import Outcome
from smae.data.preparing.plan import Plan, differences
from smae.data.storage.atomic import disk, place, sync_folder
from smae.data.storage.manifest import FileRecord, list_files, read_json
from smae.errors import DataError

ShardPair = tuple[FileRecord, FileRecord]


@dataclass(frozen=True)
class Finished:
    """What an interrupted run left that can be built on.

    Attributes:
        shards: records of whole shards, joints and state in turn.
        outcomes: those of the first samples of the plan, all of whose rows lie in these shards.
    """

    shards: tuple[FileRecord, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


class Workplace:
    """The unfinished work on one output.

    Args:
        out: where the store will appear.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".wip")
        self.store = self.folder / "store"
        self.quarantine = self.folder / "quarantine.jsonl"
        self._plan = self.folder / "plan.json"
        self._journal = self.folder / "journal.jsonl"
        self._old = self.folder / "old"

    @property
    def unfinished(self) -> bool:
        """Whether there is work that ``resume`` can go on with."""
        return self._plan.exists() and self.store.exists()

    def put_back(self) -> None:
        """Undo a replacement that was cut off between moving the old store away and the new one in."""
        if self._old.exists() and not self.out.exists():
            with disk(self.out):
                os.rename(self._old, self.out)
            sync_folder(self.out.parent)

    def start(self, plan: Plan) -> None:
        """Throw away what is there and begin: the plan is written last, so half a beginning counts as none."""
        self.remove()
        with disk(self.store):
            self.store.mkdir(parents=True)
        place(self._plan, plan.encode())
        sync_folder(self.folder.parent)

    def resume(self, plan: Plan) -> Finished:
        """Return what can be kept of the interrupted work, and remove everything else from the store so far.

        Raises:
            DataError: the work was planned otherwise; the message lists each difference.
        """
        changed = differences(read_json(self._plan), json.loads(plan.encode()))
        if changed:
            raise DataError(
                f"{self.folder} was begun with other inputs or settings, so it cannot be resumed:\n  "
                + "\n  ".join(changed)
                + "\nuse the same ones, or begin again with --overwrite"
            )
        finished = self._read_journal()
        kept = {record.path for record in finished.shards}
        with disk(self.store):
            for path in list_files(self.store):
                if path not in kept:
                    (self.store / path).unlink()
            self.quarantine.unlink(missing_ok=True)
        return finished

    def record(self, shards: Sequence[ShardPair], outcomes: Sequence[Outcome]) -> None:
        """Write down that shards are safe, and the outcomes of the samples that lie wholly in them.

        Raises:
            EnvironmentFault: the disk refused.
        """
        content = {
            "shards": [[{"path": record.path, **record.entry()} for record in pair] for pair in shards],
            "outcomes": [outcome.to_json() for outcome in outcomes],
        }
        line = json.dumps(content, sort_keys=True).encode("ascii") + b"\n"
        with disk(self._journal, len(line)), open(self._journal, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def publish(self) -> None:
        """Move the finished store to its place, an old one out of it, and leave nothing else behind.

        Raises:
            EnvironmentFault: the disk refused; the old store, if there was one, is back in its place at the next start.
        """
        with disk(self.out):
            if self.out.exists() and any(self.out.iterdir()):
                os.rename(self.out, self._old)
            os.rename(self.store, self.out)
        sync_folder(self.out.parent)
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        if self.folder.exists():
            with disk(self.folder):
                shutil.rmtree(self.folder)

    def _read_journal(self) -> Finished:
        """Read whole lines whose shards are sound, and cut the journal off after the last of them."""
        shards: list[FileRecord] = []
        outcomes: list[Outcome] = []
        length = 0
        lines = self._journal.read_bytes().splitlines(keepends=True) if self._journal.exists() else []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            content = json.loads(line)
            records = [_record(entry) for pair in content["shards"] for entry in pair]
            if not all(self._sound(record) for record in records):
                break
            shards += records
            outcomes += [Outcome.from_json(values) for values in content["outcomes"]]
            length += len(line)
        if lines:
            with disk(self._journal):
                os.truncate(self._journal, length)
        return Finished(shards=tuple(shards), outcomes=tuple(outcomes))

    def _sound(self, record: FileRecord) -> bool:
        path = self.store / record.path
        if not path.is_file() or path.stat().st_size != record.size:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256


def _record(entry: dict[str, Any]) -> FileRecord:
    path = entry.pop("path")
    return FileRecord.from_entry(path, entry)
