"""Progress: pace and time left of each stretch of work, nothing of what is quick, the same as JSON lines."""

from __future__ import annotations

import json
import time

import pytest

from smae_cli import console
from smae_cli.main import run


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move by hand."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setattr(console, "_json", True)


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_tells_pace_and_time_left(clock, capsys):
    with console.progress("embed", unit="clips") as update:
        for done in range(0, 101, 10):
            update(done, 100)
            clock(2)
    told = lines(capsys)
    assert told[0] == "embed: 0/100 clips", "no pace is known yet"
    assert told[1] == "embed: 30/100 clips  5.0 clips/s  14 s left"
    assert told[-1] == "embed: 100/100 clips  5.0 clips/s  0 s left"
    assert len(told) == 5, "one every five seconds, and the last"


def test_another_stretch_has_a_pace_of_its_own(clock, capsys):
    with console.progress("eval", unit="") as update:
        update(0, 10)
        clock(1000)
        update(10, 10)
        update(0, 100, what="linear probe")
        clock(10)
        update(10, 100, what="linear probe")
    assert lines(capsys)[-1] == "linear probe: 10/100  1 min 30 s left"


def test_nothing_is_said_of_what_is_quick(clock, capsys):
    with console.progress("verify", unit="MB", after=2) as update:
        for done in range(11):
            update(done, 10)
            clock(0.1)
    assert lines(capsys) == []


def test_what_takes_longer_is_told_to_its_end(clock, capsys):
    with console.progress("verify", unit="MB", after=2) as update:
        for done in range(11):
            update(done, 10)
            clock(1)
    told = lines(capsys)
    assert told[0] == "verify: 2/10 MB  1.0 MB/s  8 s left"
    assert told[-1].startswith("verify: 10/10 MB")


def test_json_lines_hold_the_same(clock, capsys, as_json):
    with console.progress("verify", unit="MB") as update:
        update(0, 10)
        clock(5)
        update(5, 10, note="half")
    last = json.loads(lines(capsys)[-1])
    wanted = {
        "progress": "verify",
        "done": 5,
        "total": 10,
        "unit": "MB",
        "note": "half",
        "rate": 1.0,
        "seconds_left": 5,
    }
    assert last == wanted


def test_a_bar_in_a_terminal_shows_the_pace(monkeypatch, capsys):
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with console.progress("embed", unit="clips") as update:
        update(0, 10)
        time.sleep(0.02)
        update(10, 10, what="features")
    with console.progress("verify", unit="MB", after=60) as update:
        update(10, 10)
    err = capsys.readouterr().err
    assert "features" in err
    assert "10/10" in err
    assert "verify" not in err, "it was over before it would be shown"


def test_work_of_unknown_length_says_that_it_goes_on(capsys):
    with console.busy("explain", after=0.01, every=60):
        time.sleep(0.2)
    assert lines(capsys) == ["explain: at work for 0 s"]
    with console.busy("explain", after=60):
        pass
    assert lines(capsys) == []


def test_verify_counts_every_byte_twice(tmp_path, monkeypatch):
    assert run(["synth", str(tmp_path / "ntu"), "--actions", "2", "--subjects", "2", "--cameras", "1"]) == 0
    store = tmp_path / "ntu.zarr"
    assert run(["prepare", "--raw", str(tmp_path / "ntu"), "--out", str(store), "--executor", "inline"]) == 0
    from smae import api

    told: list[tuple[int, int]] = []
    found = api.verify(store, tell=lambda done, total: told.append((done, total)))
    assert found.ok
    assert told[-1] == (round(2 * found.bytes / 1e6), round(2 * found.bytes / 1e6))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
