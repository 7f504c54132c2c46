"""Every kind of output where a write fails, and on full disks: exit 5, path and bytes named, the older one intact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import disk_full, full_outputs
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard

KINDS = [kind for kind in full_outputs.OUTPUTS if kind != "store"]


@pytest.mark.parametrize(("step", "sizes"), counts(short=(61, 1), full=(5, 16)))
def test_failing_writes(scoreboard: Scoreboard, memory: Path, step: int, sizes: int) -> None:
    with scoreboard("outputs: a failing write") as row:
        jobs = []
        for start in range(AT_ONCE):
            folder = memory / str(start)
            folder.mkdir()
            job = {"how": "failing", "folder": folder, "kinds": KINDS[start::AT_ONCE], "step": step, "sizes": sizes}
            jobs.append(job)
        for problems in in_programs(full_outputs.__name__, jobs):
            row.take(problems)


def test_mount_points_and_links_are_refused_before_the_work(scoreboard: Scoreboard, tmp_path: Path) -> None:
    place, folder = tmp_path / "disk", tmp_path / "folder"
    place.mkdir()
    folder.mkdir()
    with scoreboard("outputs: a mount point, a link") as row:
        job = {"how": "mounted", "place": place, "folder": folder, "kinds": full_outputs.REPLACED}
        row.take(disk_full.in_namespace(module=full_outputs.__name__, **job)["problems"])


@pytest.mark.parametrize("count", counts(short=1, full=6))
def test_full_disk(scoreboard: Scoreboard, tmp_path: Path, count: int) -> None:
    place, folder = tmp_path / "disk", tmp_path / "folder"
    place.mkdir()
    folder.mkdir()
    with scoreboard("outputs: a full disk") as row:
        job = {"how": "full", "place": place, "folder": folder, "kinds": KINDS, "count": count}
        row.take(disk_full.in_namespace(module=full_outputs.__name__, **job)["problems"])
