"""Every row of the table of bad inputs through the command line: exit code, place and code as expected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import smae
from tests.data.raw_folder import files, write_folder
from tests.reliability import bad_inputs
from tests.reliability.forked_cli import ROOT
from tests.reliability.scoreboard import Scoreboard
from tests.reliability.stores import digest, in_memory

TITLE = "bad inputs through the command line"


@pytest.fixture(scope="session")
def results() -> dict[str, dict[str, Any]]:
    with in_memory() as folder:
        return bad_inputs.everything(folder)


@pytest.mark.parametrize("name", bad_inputs.CASES)
def test_bad_input(scoreboard: Scoreboard, results: dict[str, dict[str, Any]], name: str) -> None:
    with scoreboard(TITLE) as row:
        row.trial(results[name]["problem"])
        row.seconds += results[name]["seconds"]


def test_every_row_of_the_table_is_there() -> None:
    assert {int(name.split()[0]) for name in bad_inputs.SKELETONS if name[0].isdigit()} == set(range(1, 49))


SURROUNDINGS = {
    "nobody reads the results": ("{smae} | true", {}),
    "nobody reads anything": ("{smae} 2>&1 | true", {}),
    "standard output is closed": ("{smae} >&-", {}),
    "standard error is closed": ("{smae} 2>&-", {}),
    "all streams are closed": ("{smae} <&- >&- 2>&-", {}),
    "no terminal": ("setsid {smae}", {"TERM": "dumb"}),
    "the disk of the results is full": ("{smae} > /dev/full", {}),
    "no folder for a cache": ("{smae}", {"XDG_CACHE_HOME": "/proc/none", "HOME": "/proc/none"}),
    "a cache that is a file": ("{smae}", {"XDG_CACHE_HOME": str(ROOT / "LICENSE")}),
}
WITHOUT_CACHE = tuple(SURROUNDINGS)[-2:]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in WITHOUT_CACHE else ()) for n in SURROUNDINGS]
)
def test_surroundings(scoreboard: Scoreboard, tmp_path: Path, name: str) -> None:
    """Whoever listens, and wherever: the store is written."""
    with scoreboard(TITLE) as row:
        raw, out = write_folder(tmp_path / "raw", files(3)), tmp_path / "out.zarr"
        smae.prepare(raw, tmp_path / "expected.zarr", executor="inline")
        line, settings = SURROUNDINGS[name]
        command = f"{sys.executable} -m smae_cli.main prepare --raw {raw} --out {out} --executor inline"
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
        done = subprocess.run(
            ["sh", "-c", line.format(smae=command)], env=environment, capture_output=True, timeout=250
        )
        shown = done.stderr.decode(errors="replace")
        row.check(out.is_dir() and digest(out) == digest(tmp_path / "expected.zarr"), f"{name}: no store: {shown}")
        row.check("Traceback" not in shown, f"{name}: {shown}")
