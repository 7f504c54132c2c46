"""State of runs: running, finished, interrupted, unreadable; from their folders alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smae.atomic_io import locked, write_json
from smae.eval.status import Score, run_states
from smae.train.run_folder import Run
from tests.eval.evaluated import record_json


def make_run(root: Path, name: str, *, steps: int = 3, logged: int = 3, saved: int | None = None) -> Run:
    run = Run(root / name)
    run.path.mkdir(parents=True)
    parts = {key: {} for key in ("config", "store", "versions", "device")}
    write_json(run.path / "run.json", {"version": 1, **parts, "steps": steps, "process": {"pid": 42, "host": "here"}})
    lines = [{"step": step, "loss": 1 / step} for step in range(1, logged + 1)]
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if saved is not None:
        step = run.checkpoints / f"step-{saved:08d}"
        step.mkdir(parents=True)
        (step / "state.json").write_text("{}")
        write_json(step / "manifest.json", {"files": {"state.json": {"bytes": 2}}})
    return run


@pytest.mark.parametrize(
    ("logged", "saved", "expected", "resumable"),
    [(3, 3, "finished", False), (2, 2, "interrupted", True), (2, None, "no checkpoint", False)],
)
def test_a_run_without_a_process(tmp_path, logged, saved, expected, resumable):
    make_run(tmp_path, "one", logged=logged, saved=saved)
    (state,) = run_states(tmp_path)
    assert (state.state, state.step, state.steps, state.resumable) == (expected, logged, 3, resumable)
    assert state.loss == pytest.approx(1 / logged)
    assert (state.pid, state.host) == (0, "")


def test_a_run_whose_lock_is_held_is_running(tmp_path):
    run = make_run(tmp_path, "one", logged=2, saved=2)
    with locked(run.lock):
        (state,) = run_states(tmp_path)
        assert (state.state, state.pid, state.host, state.resumable) == ("running", 42, "here", False)
    run.lock.touch()  # as a killed process leaves it behind
    assert run_states(tmp_path)[0].state == "interrupted"


def test_a_checkpoint_that_is_cut_short_is_none(tmp_path):
    run = make_run(tmp_path, "one", logged=2, saved=2)
    (run.checkpoints / "step-00000002" / "state.json").write_text("")
    assert (run_states(tmp_path)[0].state, run.newest_checkpoint()) == ("no checkpoint", None)


def test_a_run_that_has_not_taken_a_step(tmp_path):
    make_run(tmp_path, "one", logged=0)
    (state,) = run_states(tmp_path)
    assert (state.state, state.step, state.loss, state.updated) == ("no checkpoint", 0, None, "")


def test_a_line_cut_short_by_a_crash_is_skipped(tmp_path):
    run = make_run(tmp_path, "one", logged=2)
    with open(run.log, "a") as log:
        log.write('{"step": 3, "lo')
    assert run_states(tmp_path)[0].step == 2


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    make_run(tmp_path, "one", steps=9000, logged=9000, saved=9000)
    assert run_states(tmp_path)[0].state == "finished"


def test_results_are_listed_and_damaged_ones_skipped(tmp_path):
    run = make_run(tmp_path, "one")
    run.results.mkdir()
    for name, others in (("one", {}), ("two", {"settings": {"k": 3}, "date": "2027"})):
        content = record_json(mode="knn", predicted=np.arange(40) // 2 % 4, **others)
        write_json(run.results / f"{name}.json", content)
    (run.results / "notes.json").write_text("[]")
    assert run_states(tmp_path)[0].scores == (Score("ntu60-xsub", "knn", 0.25, (), 1),)


def test_a_damaged_run_is_listed_with_what_is_wrong(tmp_path):
    make_run(tmp_path, "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "run.json").write_text("{")
    states = {state.path.name: state for state in run_states(tmp_path)}
    assert states["two"].state == "unreadable"
    assert "no readable run" in states["two"].problem
    assert states["one"].state == "no checkpoint"
