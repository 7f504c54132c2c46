"""Several writers of one output, and readers: one writer wins, the others report it, readers see nothing or all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.data.raw_folder import files, write_folder
from tests.reliability import races as races_module
from tests.reliability.counts import counts
from tests.reliability.forked_cli import in_programs, shares
from tests.reliability.scoreboard import Scoreboard


@pytest.mark.parametrize("races", counts(short=4, full=50))
def test_races(scoreboard: Scoreboard, memory: Path, races: int) -> None:
    with scoreboard("races of 2 to 4 prepares on one output, 2 readers") as row:
        raw = write_folder(memory / "raw", files(12))
        (memory / "out").mkdir()
        job = {"raw": raw, "folder": memory / "out", "options": ["--executor", "inline", "--frames", "1000"]}
        for problems in in_programs(races_module.__name__, [job | {"numbers": numbers} for numbers in shares(races)]):
            row.take(problems)
        assert os.listdir(memory / "out") == []
