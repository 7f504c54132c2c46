"""Run folders: naming, lookup, and the hint for an unknown run."""

from __future__ import annotations

import json
import os

import pytest

from smae.atomic_io import write_json
from smae.errors import ConfigError, DataError
from smae.train import run_folder as module
from smae.train.run_folder import Run, find_checkpoint, find_run, new_run

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


def save(run, step, *, size=2):
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    write_json(folder / "manifest.json", {"files": {"state.json": {"bytes": size}}})
    return folder


def test_the_newest_run_is_one_that_has_what_is_needed(tmp_path, caplog):
    caplog.set_level("INFO")
    good, cut, dead = (make(tmp_path, name, time=n * 10**18) for n, name in enumerate(("good", "cut", "dead"), 1))
    with pytest.raises(DataError, match=r"no run has a usable checkpoint \(.*dead, .*cut, .*good\): train one"):
        find_run(None, root=tmp_path, needs="checkpoint")
    os.utime(save(good, 3), ns=(1, 1))
    os.utime(save(cut, 4, size=7), ns=(1, 1))
    assert find_run(None, root=tmp_path, needs="checkpoint").path == good
    assert f"using {good} (newer, without a checkpoint: {dead}, {cut})" in caplog.messages
    with pytest.raises(DataError, match=r"no run has a usable head .*: make one with `smae eval --probe linear`"):
        find_run(None, root=tmp_path, needs="head")
    write_json(good / "heads" / "x" / "config.json", {})
    assert find_run(None, root=tmp_path, needs="head").path == good
    assert find_run(dead, needs="head").path == dead, "a run that is named is taken"


def test_a_run_that_is_not_there_gets_a_hint(tmp_path):
    make(tmp_path, "first-run", time=1)
    (tmp_path / "first-rum").mkdir()
    with pytest.raises(DataError, match=r"first-rum: no run there \(no run\.json\); did you mean 'first-run'\?"):
        find_run(tmp_path / "first-rum", root=tmp_path)
    with pytest.raises(DataError, match="no run found: train one"):
        find_run(None, root=tmp_path / "nothing")


def test_a_checkpoint_or_its_run_can_be_named(tmp_path):
    run = make(tmp_path, "first", time=1)
    step = run / "checkpoints" / "step-00000007"
    assert find_checkpoint(run) == (Run(run), None)
    assert find_checkpoint(str(step)) == (Run(run), step)


def test_files_of_a_run(tmp_path):
    run = Run(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in (run.log, run.checkpoints, run.results)]
    assert names == ["log.jsonl", "checkpoints", "eval"]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({**WHOLE, "version": 2}, "run format 2, this smae reads 1"),
        ({"config": {}}, "run format None"),
        ({"version": 1, "config": []}, "lacks config, store, versions, device"),
        ({**WHOLE, "store": {"prepared": True, "skeleton": 3}}, "lacks store.skeleton, store.prepared, or has another"),
        ([], "expected a JSON object as run, found list"),
    ],
)
def test_a_run_of_another_form_is_refused(tmp_path, about, message):
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=message):
        Run(tmp_path).describe()
