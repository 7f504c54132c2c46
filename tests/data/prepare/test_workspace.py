"""Unfinished preparations are found and counted; running and interrupted ones are distinguished."""

from __future__ import annotations

import json

import pytest

from smae.data.prepare.run import prepare
from smae.data.prepare.workspace import FolderWorkspace, Unfinished, find_unfinished
from smae.errors import EnvironmentFault
from smae.locks import locked
from tests.data import raw_folder


def begin(folder, *, tasks, done):
    """Create the files that a killed preparation leaves behind."""
    wip = folder / "ntu.zarr.wip"
    (wip / "store").mkdir(parents=True)
    (wip / "done").mkdir()
    (wip / "plan.json").write_text(json.dumps({"tasks": tasks}))
    for number in done:
        (wip / "done" / f"{number:06}.json").write_text("{}")
    return folder / "ntu.zarr"


def test_samples_in_the_journal_are_counted(tmp_path):
    out = begin(tmp_path, tasks=[10, 10, 4], done=[0, 2])
    assert find_unfinished(tmp_path) == [Unfinished(out, "interrupted", 14, 24)]


def test_a_preparation_whose_lock_is_held_is_running(tmp_path):
    out = begin(tmp_path, tasks=[10, 10], done=[])
    with locked(tmp_path / "ntu.zarr.lock"):
        assert find_unfinished(tmp_path) == [Unfinished(out, "running", 0, 20)]


def test_a_damaged_plan_is_unreadable(tmp_path):
    out = begin(tmp_path, tasks=[10], done=[])
    (tmp_path / "ntu.zarr.wip" / "plan.json").write_text("{")
    assert find_unfinished(tmp_path) == [Unfinished(out, "unreadable")]


def test_a_real_interrupted_preparation_is_found(tmp_path, monkeypatch):
    raw = raw_folder.write_folder(tmp_path / "ntu", raw_folder.files(3))

    def full(self):
        raise EnvironmentFault("no space")

    monkeypatch.setattr(FolderWorkspace, "publish", full)
    with pytest.raises(EnvironmentFault):
        prepare(raw, tmp_path / "ntu.zarr", executor="inline")
    assert find_unfinished(tmp_path) == [Unfinished(tmp_path / "ntu.zarr", "interrupted", 3, 3)]
