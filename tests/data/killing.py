"""Runs `prepare` again and again, kills it at random moments, lets the last attempt finish; and races of several.

A program of its own, because it forks before any thread exists: each attempt then starts in milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from smae.data.cleaning import clean, resample
from smae.data.preparing import plan
from smae.data.preparing.prepare import prepare
from smae.data.reading import skeleton_fast
from smae.data.storage.store import open_store
from smae.errors import SmaeError

FRAMES = 1500
LOADED = (clean, resample, skeleton_fast)
"""Imported before the forks, so that no attempt spends its time on it."""


def main() -> None:
    """Take `kill RAW FOLDER TRIALS SEED` or `race RAW FOLDER RACES SEED`; print JSON."""
    what, raw, folder, count, seed = sys.argv[1:]
    plan.TASK_SAMPLES = 5
    random.seed(int(seed))
    run = {"kill": kill, "race": race}[what]
    print(json.dumps(run(Path(raw), Path(folder), int(count))))


def kill(raw: Path, folder: Path, trials: int) -> dict[str, Any]:
    """Return the fingerprint of each trial's store, how many attempts were killed, and what was left lying about."""
    began = time.monotonic()
    os.waitpid(start(raw, folder / "whole.zarr"), 0)
    whole = time.monotonic() - began
    killed, fingerprints = 0, []
    for trial in range(trials):
        out = folder / f"{trial}.zarr"
        for wait in (random.uniform(0, whole), random.uniform(0, whole), None):
            child = start(raw, out)
            if wait is not None:
                time.sleep(wait)
                os.kill(child, signal.SIGKILL)
            killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        fingerprints.append(open_store(out).fingerprint)
        clear(out)
    whole_fingerprint = open_store(folder / "whole.zarr").fingerprint
    clear(folder / "whole.zarr")
    return {"whole": whole_fingerprint, "each": fingerprints, "killed": killed, "left": os.listdir(folder)}


def race(raw: Path, folder: Path, races: int) -> dict[str, Any]:
    """Return the exit codes of 2 to 4 attempts at one output that start at once, and what was left lying about."""
    codes = []
    for number in range(races):
        out = folder / f"{number}.zarr"
        children = [start(raw, out, resume=False) for _ in range(2 + number % 3)]
        codes.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
        open_store(out)
        clear(out)
    return {"codes": codes, "left": os.listdir(folder)}


def start(raw: Path, out: Path, *, resume: bool = True) -> int:
    """Prepare in a forked child; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        code = prepare(raw, out, frames=FRAMES, executor="inline", resume=resume).exit_code
    except SmaeError as error:
        code = error.exit_code
    os._exit(code)


def clear(store: Path) -> None:
    """Remove one store, so that hundreds of trials need no space."""
    for path in sorted(store.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.rmdir()


if __name__ == "__main__":
    main()
