"""Verification: every byte of a store against its manifest, every value against its valid range."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from smae import interrupts, progress
from smae.data.raw.recording import MISSING
from smae.data.store.chunks import SHARD_ROWS
from smae.data.store.file_store import FileStore, locate, open_file_store
from smae.data.store.manifest import QUARANTINE, FileRecord, check_files, read_checked, read_manifest
from smae.data.store.store import Store, find_store, open_store
from smae.errors import EXIT_DATA, EXIT_DONE, DataError

_BLOCK = 2**24


@dataclass(frozen=True)
class VerifyReport:
    """What a check of a store found.

    Attributes:
        path: the store.
        fingerprint: SHA-256, hex, of its manifest; empty where that cannot be read.
        files: how many files were hashed.
        bytes: how many bytes they hold.
        problems: one line each, naming the file, chunk or clip; none in a sound store.
    """

    path: Path | str
    fingerprint: str
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the store is sound."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 for a sound store, 4 otherwise."""
        return EXIT_DONE if self.ok else EXIT_DATA


def verify(path: Path | str | None = None) -> VerifyReport:
    """Check a store: names, sizes and BLAKE3 of all files, columns, every chunk, every value.

    Damage is reported, not raised.

    Args:
        path: the store, which can be a URL; found in the current folder if None.

    Raises:
        ConfigError: a URL that does not name an object store.
        DataError: no path, and no store in the current folder.
        EnvironmentFault: an object store does not answer or denies access.
        Interrupted: a signal arrived.
    """
    path = locate(find_store(path))
    root = open_file_store(path)
    try:
        fingerprint, files = read_manifest(root)
    except DataError as error:
        return VerifyReport(path, "", 0, 0, (str(error),))
    problems = check_files(root, files)
    broken = {problem.split(":")[0] for problem in problems}
    sound = [record for record in files.values() if _shown(record) not in broken]
    hashed = sum(record.size for record in sound)
    # Every byte is read twice: as part of a file, and as part of a value.
    with interrupts.deferred(), progress.task("verify", total=round(2 * hashed / 1e6), unit="MB") as task:
        meter = _Meter(task)
        problems += [
            f"{_shown(record)}: its BLAKE3 is not the manifest's"
            for record in sound
            if _digest(root, record, meter) != record.blake3
        ]
        if not problems:
            try:
                store = open_store(path)
                problems += _check_values(store, meter, size=hashed) + _check_quarantine(store)
            except DataError as error:
                problems.append(str(error))
    return VerifyReport(path, fingerprint, len(sound), hashed, tuple(problems))


def _shown(record: FileRecord) -> str:
    """Return a file's name as ``check_files`` prints it."""
    return ascii(record.path)[1:-1]


class _Meter:
    """Adds up bytes, reports megabytes, and stops at an interrupt."""

    def __init__(self, task: progress.Task) -> None:
        self._task, self._bytes = task, 0.0

    def add(self, count: float) -> None:
        interrupts.check()
        self._bytes += count
        self._task.update(round(self._bytes / 1e6))


def _digest(root: FileStore, record: FileRecord, meter: _Meter) -> str:
    digest = blake3()
    try:
        for start in range(0, record.size, _BLOCK):
            part = root.read_part(record.path, start, _BLOCK)
            digest.update(part)
            meter.add(len(part))
    except DataError as error:
        return f"unreadable: {error}"
    return digest.hexdigest()


def _check_values(store: Store, meter: _Meter, *, size: int) -> list[str]:
    problems: list[str] = []
    for start in range(0, store.row_count, SHARD_ROWS):
        stop = min(start + SHARD_ROWS, store.row_count)
        meter.add(size * (stop - start) / store.row_count)
        try:
            joints, state = store.rows(start, stop), store.states(start, stop)
        except DataError as error:
            problems.append(str(error))
            continue
        finite = np.isfinite(joints)
        if store.mode == "exact":
            finite |= np.isnan(joints)
        wrong = ~finite.all(axis=(1, 2)) | (state > MISSING).any(axis=1)
        if wrong.any():
            row = start + int(wrong.argmax())
            clip = int(np.searchsorted(store.clips.offset, row, side="right")) - 1
            problems.append(f"clip {store.clips.name[clip]}: row {row} holds an impossible joint or state")
    return problems


def _check_quarantine(store: Store) -> list[str]:
    """Return a line if the list of bad files is malformed."""
    lines = read_checked(store.root, store.files[QUARANTINE]).splitlines()
    try:
        sound = all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        sound = False
    return [] if sound else [f"{QUARANTINE}: not a list of bad files, one JSON object a line"]
