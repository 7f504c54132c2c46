"""A program that lets `prepare` crash before, or fail at, each single disk operation in turn."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

from tests.reliability.fault_injection import HalfWritten, watch
from tests.reliability.forked_cli import Ended, answer, smae, warm_up
from tests.reliability.stores import clear, digest, problem_of

GIVING_BACK = ("unlink", "remove", "rmdir", "truncate", "ftruncate")
"""Operations that a full disk does not refuse."""


class FaultGuard:
    """Lets one operation fail, by its number, and counts operations across the fork.

    Args:
        number: of the operation, from 0.
        error: what it raises; None to die there instead, a write half done.
        lasting: whether all later ones fail too.
    """

    def __init__(self, number: int, *, error: int | None = None, lasting: bool = False) -> None:
        self.number, self.error, self.lasting = number, error, lasting
        self._shared = mmap.mmap(-1, 16)

    @property
    def count(self) -> int:
        """Operations so far."""
        return int.from_bytes(self._shared[:8], "little")

    def __call__(self, call: str, path: str) -> None:
        if self.error == errno.ENOSPC and call in GIVING_BACK:
            return
        now = self.count
        self._shared[:8] = (now + 1).to_bytes(8, "little")
        if now < self.number or (now > self.number and not self.lasting):
            return
        if self.error is None:
            raise HalfWritten
        raise OSError(self.error, os.strerror(self.error), path)


def trials(
    raw: str, folder: str, kinds: list[str], replacing: bool, first: int, step: int, options: list[str]
) -> dict[str, Any]:
    """Let each ``step``-th operation from ``first`` on fail, resume, and compare the bytes.

    Args:
        raw: the raw folder.
        folder: where stores are written; empty again afterwards.
        kinds: taken in turn: ``die``, or an error and how long it stays: ``ENOSPC once``, ``EIO lasting``.
        replacing: whether an older store is being replaced, which must stay readable.
        first, step: which operations.
        options: of `prepare`.

    Returns:
        ``digest`` of the undisturbed store, ``problems`` of each trial, and how many ``operations`` there are.
    """
    warm_up()
    out = Path(folder) / f"{kinds[0].replace(' ', '-')}-{replacing}-{first}.zarr"
    command = ["prepare", "--raw", raw, "--out", str(out), *options]
    assert smae(*command).code == 0
    expected = digest(out)
    clear(out)
    older, copy = "", out.with_name(f"older-{out.name}")
    if replacing:
        assert smae(*command, "--frames", 2).code == 0
        older = digest(out)
        out.rename(copy)
        command.append("--overwrite")
    problems: list[str] = []
    operations, missed, number = 0, 0, first
    while missed < len(kinds):
        kind = kinds[number % len(kinds)]
        if replacing:
            shutil.copytree(copy, out)
        error, _, stays = kind.partition(" ")
        guard = FaultGuard(number, error=getattr(errno, error, None), lasting=stays == "lasting")
        ended = smae(*command, first=lambda guard=guard: watch(out, guard))  # type: ignore[misc]
        if guard.count > number:
            problem = _wrong_end(ended, out, expected, died=error == "die")
            if replacing and not problem:
                problem = _wrong_store(out, allowed=(older, expected))
            resumed = smae(*command, "--resume")
            problem = (
                problem or ("" if resumed.code == 0 else f"resumed: {resumed}") or problem_of(out, expected=expected)
            )
            problems.append(problem and f"operation {number}, {kind}{', replacing' if replacing else ''}: {problem}")
        else:
            missed += 1
        operations = max(operations, guard.count)
        clear(out)
        number += step
    clear(copy)
    return {"digest": expected, "problems": problems, "operations": operations}


def _wrong_end(ended: Ended, out: Path, expected: str, *, died: bool) -> str:
    """Return what is wrong with how the attempt ended."""
    if died:
        return "" if ended.code == 1 and not ended.err.count("Traceback") else str(ended)
    if ended.code == 0:
        # A failure after publishing, such as in removing the lock, does no harm.
        return "" if out.is_dir() and digest(out) == expected else f"silent success: {ended}"
    # Some operations are on the folder that contains the output.
    named = len(ended.messages) == 1 and str(out.parent) in ended.messages[0] and "Traceback" not in ended.err
    return "" if ended.code == 5 and named else str(ended)


def _wrong_store(out: Path, *, allowed: tuple[str, str]) -> str:
    if not out.is_dir():
        return "the older store is gone"
    return "" if digest(out) in allowed else "the older store has changed"


if __name__ == "__main__":
    answer(trials)
