"""Progress: pace and time left of each task, nothing for quick ones, the same as JSON lines."""

from __future__ import annotations

import json
import time

import pytest

import smae
from smae import progress
from smae_cli import console
from smae_cli.main import run


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that tests move by hand."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


@pytest.fixture(autouse=True)
def reported():
    with console.feedback():
        yield


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setattr(console, "_json", True)


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_shows_pace_and_time_left(clock, capsys):
    with progress.task("embed", total=100, unit="clips") as task:
        for done in range(0, 101, 10):
            task.update(done)
            clock(2)
    written = lines(capsys)
    assert written[0] == "embed: 10/100 clips  5.0 clips/s  18 s left"
    assert written[-1] == "embed: 100/100 clips  5.0 clips/s  0 s left"
    assert len(written) == 4, "one every five seconds, and the last"


def test_the_pace_of_a_resumed_task_leaves_out_what_was_done_before(clock, capsys):
    with progress.task("prepare", total=100) as task:
        clock(2)
        task.update(50)
        clock(10)
        task.update(60)
    assert lines(capsys)[-1] == "prepare: 60/100  40 s left"


def test_a_nested_task_has_a_pace_of_its_own(clock, capsys):
    with progress.task("eval", total=10) as outer:
        clock(1000)
        outer.update(5)
        with progress.task("linear probe", total=100) as inner:
            clock(10)
            inner.update(0)
            clock(10)
            inner.update(10)
    assert lines(capsys)[-1] == "linear probe: 10/100  3 min 00 s left"


def test_nothing_is_shown_of_a_quick_task(clock, capsys):
    with progress.task("verify", total=10, unit="MB") as task:
        for _ in range(10):
            clock(0.05)
            task.advance()
    assert lines(capsys) == []


def test_json_lines_hold_the_same(clock, capsys, as_json):
    with progress.task("train", total=10, unit="steps") as task:
        task.update(0)
        clock(5)
        task.update(5, note="half", values={"loss": 0.5})
    last = json.loads(lines(capsys)[-1])
    wanted = {
        "progress": "train",
        "done": 5,
        "total": 10,
        "unit": "steps",
        "note": "half",
        "values": {"loss": 0.5},
        "version": 1,
        "seconds": 5.0,
        "rate": 1.0,
        "seconds_left": 5,
    }
    assert last == wanted


def test_a_bar_in_a_terminal_shows_the_pace(monkeypatch, capsys):
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "AFTER", 0.01)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with progress.task("embed", total=10, unit="clips") as task:
        task.update(0)
        time.sleep(0.02)
        task.update(10)
    monkeypatch.setattr(console, "AFTER", 60)
    with progress.task("verify", total=10) as task:
        task.update(10)
    err = capsys.readouterr().err
    assert "embed" in err
    assert "10/10" in err
    assert "verify" not in err, "it was over before it would be shown"


def test_a_task_of_unknown_length_says_that_it_is_running(monkeypatch, capsys):
    monkeypatch.setattr(console, "AFTER", 0.01)
    with progress.task("explain"):
        time.sleep(0.2)
    assert lines(capsys) == ["explain: running (0 s)"]
    monkeypatch.setattr(console, "AFTER", 60)
    with progress.task("explain"):
        pass
    assert lines(capsys) == []


def test_verify_counts_every_byte_twice(tmp_path, monkeypatch):
    assert run(["synth", str(tmp_path / "ntu"), "--actions", "2", "--subjects", "2", "--cameras", "1"]) == 0
    store = tmp_path / "ntu.zarr"
    assert run(["prepare", "--raw", str(tmp_path / "ntu"), "--out", str(store), "--executor", "inline"]) == 0
    counts: list[tuple[int, int | None]] = []

    class Recorder:
        def begin(self, task: progress.Task) -> None: ...

        def update(self, task: progress.Task) -> None:
            counts.append((task.done, task.total))

        def end(self, task: progress.Task) -> None: ...

    with progress.reporting(Recorder()):
        found = smae.verify(store)
    assert found.ok
    assert counts[-1] == (round(2 * found.bytes / 1e6), round(2 * found.bytes / 1e6))
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)
