"""Folders from elsewhere that hold links: nothing outside them is written to."""

from __future__ import annotations

from pathlib import Path

import pytest

import smae
from smae.atomic_io import refuse_links
from smae.errors import DataError
from tests.data.raw_folder import files, write_folder
from tests.reliability import links
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard


@pytest.mark.parametrize("step", counts(short=61, full=7))
def test_links_in_runs(scoreboard: Scoreboard, step: int) -> None:
    with scoreboard("links in a run from elsewhere") as row:
        jobs = [{"first": n * step, "step": AT_ONCE * step} for n in range(AT_ONCE)]
        for problems in in_programs(links.__name__, jobs):
            row.take(problems)


@pytest.mark.parametrize("name", ["", "store", "store/joints", "plan.json"])
def test_unfinished_stores_are_not_resumed_through_links(tmp_path: Path, name: str) -> None:
    raw, outside = write_folder(tmp_path / "raw", files(2)), tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / "out.zarr.wip" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    (link if name else tmp_path / "out.zarr.wip").symlink_to(outside)
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(DataError, match="is a link, and what it leads to would be written to"):
            smae.prepare(raw, tmp_path / "out.zarr", executor="inline", **options)
    assert not list(outside.iterdir())


def test_a_folder_without_links_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    refuse_links(tmp_path / "a")
    refuse_links(tmp_path / "none")
    (tmp_path / "a" / "b" / "d").symlink_to("c")
    with pytest.raises(DataError, match=r"a/b/d is a link"):
        refuse_links(tmp_path / "a")
