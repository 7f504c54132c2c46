"""A program that prepares on a small disk that is really full, frees space, and resumes.

The disk is a tmpfs in user and mount namespaces of its own, which need no privileges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.forked_cli import ROOT, answer, environment, smae, warm_up
from tests.reliability.stores import clear, digest, problem_of

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]


def in_namespace(*, module: str = __name__, **job: Any) -> dict[str, Any]:
    """Run this program, or another like it, where it may mount; skip the test where this is not allowed."""
    try:
        probe = subprocess.run([*ALONE, "mount", "-t", "tmpfs", "none", str(job["place"])], capture_output=True)
    except FileNotFoundError as error:
        pytest.skip(f"no unshare or mount here: {error}")
    if probe.returncode:
        pytest.skip(f"no user namespaces to mount a tmpfs in: {probe.stderr.decode(errors='replace').strip()}")
    command = [*ALONE, sys.executable, "-m", module, json.dumps(job, default=str)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def trials(raw: str, place: str, count: int, options: list[str]) -> dict[str, Any]:
    """Prepare ``count`` times with increasing free space, never enough, and resume each time with enough.

    Args:
        raw: the raw folder.
        place: an empty folder, the mount point of the disk.
        count: how many amounts of free space.
        options: of `prepare`.
    """
    warm_up()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=True)
    out, ballast = Path(place) / "out.zarr", Path(place) / "ballast"
    command = ["prepare", "--raw", raw, "--out", out, *options]
    before = free(place)
    assert smae(*command).code == 0
    expected, needed = digest(out), before - free(place)
    clear(out)
    problems = []
    for number in range(count):
        space = needed * number // count // 4096 * 4096
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, before - space)
        full = smae(*command)
        reported = len(full.messages) == 1 and str(out) in full.messages[0] and " bytes)" in full.messages[0]
        problem = "" if full.code == 5 and reported and not out.exists() else str(full)
        ballast.unlink()
        resumed = smae(*command, "--resume")
        problem = problem or ("" if resumed.code == 0 else f"resumed: {resumed}") or problem_of(out, expected=expected)
        problems.append(problem and f"with {space} bytes free: {problem}")
        clear(out)
    return {"problems": problems}


def free(place: str) -> int:
    """Return the bytes that are free on the disk at ``place``."""
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


if __name__ == "__main__":
    answer(trials)
