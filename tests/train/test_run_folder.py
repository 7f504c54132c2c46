"""Runs: their folders, files written in one piece, and the hint when a run is not there."""

from __future__ import annotations

import json
import os

import pytest

from smae.atomic_io import read_json, write_json
from smae.errors import ConfigError, DataError
from smae.train import run_folder as module
from smae.train.run_folder import Run, find_run, new_run

WHOLE = {"version": 1, "config": {}, "store": {}, "versions": {}, "device": {}}


def make(root, name, *, time):
    path = root / name
    path.mkdir(parents=True)
    write_json(path / "run.json", WHOLE)
    os.utime(path / "run.json", ns=(time, time))
    return path


def test_new_runs_are_numbered(tmp_path):
    (tmp_path / "mae-xsub-002").mkdir()
    assert [new_run(tmp_path, "mae-xsub").path.name for _ in range(2)] == ["mae-xsub-001", "mae-xsub-003"]


def test_numbers_end_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module.Path, "mkdir", lambda *args, **options: (_ for _ in ()).throw(FileExistsError()))
    with pytest.raises(ConfigError, match="name yours with --out"):
        new_run(tmp_path, "mae")


def test_the_newest_run_is_the_one_last_trained(tmp_path):
    make(tmp_path, "old", time=10**18)
    make(tmp_path, "new", time=2 * 10**18)
    assert find_run(None, root=tmp_path).path.name == "new"
    (tmp_path / "old" / "checkpoints" / "step-00000001").mkdir(parents=True)
    os.utime(tmp_path / "old" / "checkpoints" / "step-00000001", ns=(3 * 10**18, 3 * 10**18))
    assert find_run(None, root=tmp_path).path.name == "old"


def test_a_run_that_is_not_there_gets_a_hint(tmp_path):
    make(tmp_path, "first-run", time=1)
    (tmp_path / "first-rum").mkdir()
    with pytest.raises(DataError, match=r"first-rum: no run there \(no run\.json\); did you mean 'first-run'\?"):
        find_run(tmp_path / "first-rum", root=tmp_path)
    with pytest.raises(DataError, match="no run found: train one"):
        find_run(None, root=tmp_path / "nothing")


def test_a_run_knows_its_places(tmp_path):
    run = Run(tmp_path)
    places = [path.relative_to(tmp_path).as_posix() for path in (run.log, run.checkpoints, run.results)]
    assert places == ["log.jsonl", "checkpoints", "eval"]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({**WHOLE, "version": 2}, "run format 2, this smae reads 1"),
        ({"config": {}}, "run format None"),
        ({"version": 1, "config": []}, "lacks config, store, versions, device"),
        ([], "expected a JSON object as run, found list"),
    ],
)
def test_a_run_of_another_form_is_refused(tmp_path, about, message):
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=message):
        Run(tmp_path).describe()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"[" * 20_000])
def test_what_is_no_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json: no readable thing .*: do this"):
        read_json(tmp_path / "x.json", what="thing", remedy="do this")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(DataError, match="not a regular file"):
        read_json(tmp_path / "x.json", what="thing", remedy="do this")


def test_json_is_written_in_one_piece(tmp_path, monkeypatch):
    write_json(tmp_path / "x.json", {"a": 1})
    monkeypatch.setattr(module.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_nan_never_gets_into_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()
