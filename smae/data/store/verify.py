"""Checks every byte of a store against its manifest, and that its values are valid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from smae import interrupts, progress
from smae.data.raw.recording import MISSING
from smae.data.store import Store, find_store, open_store
from smae.data.store.chunks import SHARD_ROWS
from smae.data.store.file_store import FileStore, locate, open_file_store
from smae.data.store.format import QUARANTINE, FileRecord, check_files, describe, read_checked, read_manifest
from smae.errors import EXIT_DATA, EXIT_DONE, DataError
from smae.tables import Grid, Table, plain

_BLOCK = 2**24


@dataclass(frozen=True)
class VerifyReport(Table):
    """Result of checking a store.

    Attributes:
        path: the store.
        fingerprint: SHA-256, hex, of its manifest; empty if that cannot be read.
        files: number of hashed files.
        bytes: their size.
        problems: one line each, naming the file, chunk or clip; none in an undamaged store.
    """

    path: Path | str
    fingerprint: str
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the store is undamaged."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 for an undamaged store, 4 otherwise."""
        return EXIT_DONE if self.ok else EXIT_DATA

    def tables(self) -> list[Grid]:
        verdict = "sound" if self.ok else f"{len(self.problems)} problems"
        title = f"{self.path}: {verdict}; {self.files} files, {self.bytes / 1e6:,.1f} MB hashed"
        return plain(title, [f"  {problem}" for problem in self.problems])


def verify(path: Path | str | None = None) -> VerifyReport:
    """Check a store: names, sizes and BLAKE3 of all files, columns, every chunk, every value.

    Damage is reported, not raised.

    Args:
        path: folder or URL; by default the one that ``find_store`` finds.

    Raises:
        DataError: no ``path``, and ``find_store`` finds none.
        ConfigError: a URL that is not one of an object store.
        EnvironmentFault: an object store does not answer or denies access.
    """
    path = locate(find_store(path))
    root = open_file_store(path)
    try:
        fingerprint, files = read_manifest(root)
    except DataError as error:
        return VerifyReport(path, "", 0, 0, (str(error),))
    found = check_files(root.sizes(), files)
    problems = [describe(*item) for item in found.items()]
    readable = [record for key, record in files.items() if key not in found]
    size = sum(record.size for record in readable)
    # Each byte counts twice: it is hashed as part of a file, and decoded as part of a value.
    with interrupts.deferred(), progress.task("verify", total=_megabytes(2 * size), unit="MB") as task:
        counter = _ByteCounter(task)
        for record in readable:
            if _digest(root, record, counter) != record.blake3:
                problems.append(describe(record.path, "its BLAKE3 is not the manifest's"))
        if not problems:
            try:
                store = open_store(path)
                problems += [*_check_values(store, counter, size), *_check_quarantine(store)]
            except DataError as error:
                problems.append(str(error))
    return VerifyReport(path, fingerprint, len(readable), size, tuple(problems))


class _ByteCounter:
    """Counts bytes and reports megabytes; an interrupt ends the work between two blocks."""

    def __init__(self, task: progress.Task) -> None:
        self._task, self._bytes = task, 0.0

    def add(self, count: float) -> None:
        interrupts.check()
        self._bytes += count
        self._task.update(_megabytes(self._bytes))


def _megabytes(count: float) -> int:
    return round(count / 1e6)


def _digest(root: FileStore, record: FileRecord, counter: _ByteCounter) -> str:
    digest = blake3()
    try:
        for start in range(0, record.size, _BLOCK):
            part = root.read_part(record.path, start, _BLOCK)
            digest.update(part)
            counter.add(len(part))
    except DataError as error:
        return f"unreadable: {error}"
    return digest.hexdigest()


def _check_values(store: Store, counter: _ByteCounter, size: int) -> list[str]:
    problems: list[str] = []
    for start in range(0, store.row_count, SHARD_ROWS):
        stop = min(start + SHARD_ROWS, store.row_count)
        counter.add(size * (stop - start) / store.row_count)
        try:
            joints, state = store.rows(start, stop), store.states(start, stop)
        except DataError as error:
            problems.append(str(error))
            continue
        valid = np.isfinite(joints)
        if store.mode == "exact":
            valid |= np.isnan(joints)
        wrong = ~valid.all(axis=(1, 2)) | (state > MISSING).any(axis=1)
        if wrong.any():
            row = start + int(wrong.argmax())
            clip = store.clips.name[np.searchsorted(store.clips.offset, row, side="right") - 1]
            problems.append(f"clip {clip}: row {row} holds a number that no joint or state can have")
    return problems


def _check_quarantine(store: Store) -> list[str]:
    lines = read_checked(store.root, store.files[QUARANTINE]).splitlines()
    try:
        valid = all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        valid = False
    if valid:
        return []
    return [describe(QUARANTINE, "not a list of bad files, one JSON object a line")]
