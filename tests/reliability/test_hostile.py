"""Hostile stores and raw files: nothing executed, at most 512 MB, at most 5 s, exit 4 or quarantine, one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import smae
from tests.data.raw_folder import files, write_folder
from tests.reliability import hostile
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard

TITLE = "hostile artefacts: nothing executed, 512 MB, 5 s"


@pytest.mark.parametrize("step", counts(short=8, full=1))
@pytest.mark.parametrize("kind", ["stores", "raw"])
def test_hostile(scoreboard: Scoreboard, tmp_path: Path, kind: str, step: int) -> None:
    with scoreboard(TITLE) as row:
        raw, sound = write_folder(tmp_path / "raw", files(6)), tmp_path / "sound.zarr"
        smae.prepare(raw, sound, frames=400, executor="inline")
        names = list(hostile.STORES if kind == "stores" else hostile.RAW)[::step]
        jobs = []
        for start in range(AT_ONCE):
            folder = tmp_path / str(start)
            folder.mkdir()
            jobs.append({"kind": kind, "raw": raw, "sound": sound, "folder": folder, "names": names[start::AT_ONCE]})
        for problems in in_programs(hostile.__name__, jobs):
            row.take(problems)
