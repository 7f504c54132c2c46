"""A program that pre-trains onto a small disk which is really full, frees the space, and resumes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.reliability import disk_full
from tests.reliability.forked_cli import Ended, answer, smae
from tests.reliability.runs import command, difference, outcome, warm_up_training
from tests.reliability.stores import clear

EPOCHS = 4


def in_namespace(**job: Any) -> dict[str, Any]:
    """Run this program where it may mount; skip the test where this is not allowed."""
    return disk_full.in_namespace(module=__name__, **job)


def trials(store: str, place: str, count: int) -> dict[str, Any]:
    """Train ``count`` times with increasing free space, never enough, and resume each time with enough.

    Args:
        store: what is trained on, elsewhere.
        place: an empty folder, the mount point of the disk.
        count: how many amounts of free space.
    """
    # What is noted for the sake of these trials must not take part in them.
    notes = Path(store).parent / "notes"
    notes.mkdir()
    warm_up_training(notes)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=True)
    run, ballast = Path(place) / "run", Path(place) / "ballast"
    arguments = command(store, run, epochs=EPOCHS)
    before = disk_full.free(place)
    whole = smae(*arguments)
    assert whole.code == 0, whole
    expected, needed = outcome(run, notes), before - disk_full.free(place)
    clear(run)
    problems = []
    for number in range(count):
        space = needed * (2 * number + 1) // (2 * count) // 4096 * 4096
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, before - space)
        full = smae(*arguments)
        problem = _wrong_end(full, run) or _unsound(run)
        ballast.unlink()
        resumed = smae(*arguments)
        problem = problem or ("" if resumed.code == 0 else f"resumed: {resumed}") or difference(run, expected, notes)
        problems.append(problem and f"with {space} bytes free: {problem}")
        clear(run)
        for note in notes.iterdir():
            note.unlink()
    return {"problems": problems}


def _wrong_end(full: Ended, run: Path) -> str:
    """Return what is wrong with how a run ended for which there was no space."""
    named = any("No space left" in line and str(run) in line for line in full.messages)
    return "" if full.code == 5 and named and "Traceback" not in full.err else str(full)


def _unsound(run: Path) -> str:
    """Return which checkpoint that is there cannot be used."""
    from smae.errors import DataError
    from smae.train.checkpoint import load_checkpoint

    for step in (run / "checkpoints").glob("step-*"):
        try:
            load_checkpoint(step)
        except DataError as error:
            return str(error)
    return ""


if __name__ == "__main__":
    answer(trials)
