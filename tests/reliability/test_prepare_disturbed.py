"""`prepare` killed, stopped or failing at any moment: when resumed, it writes the same bytes as an undisturbed run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.data.raw_folder import files, write_folder
from tests.reliability import disk_full, failing_writes, random_kills
from tests.reliability.counts import counts
from tests.reliability.forked_cli import in_programs, shares
from tests.reliability.scoreboard import Row, Scoreboard

INLINE = ["--executor", "inline"]
LONG = ["--frames", "2000"]
"""With 12 recordings in four tasks: 24,000 rows, enough work to interrupt."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "raw", files(12))


def disturb(row: Row, folder: Path, count: int, *, seed: int, **job: Any) -> None:
    """Disturb ``count`` preparations at random moments; each, resumed, must have written the same bytes."""
    jobs = []
    for numbers in shares(count):
        place = folder / str(numbers[0])
        place.mkdir()
        jobs.append({"folder": place, "numbers": numbers, "seed": seed, **job})
    answers = in_programs(random_kills.__name__, jobs)
    assert len({answer["digest"] for answer in answers}) == 1
    for answer in answers:
        row.take(answer["problems"])
        assert answer["left"] == []
        assert answer["hit"] >= len(answer["problems"]) - sum(map(bool, answer["problems"]))


KILLED = "SIGKILL prepare at random moments, then resume"


@pytest.mark.parametrize("count", counts(short=4, full=190))
def test_killed_at_random_moments(scoreboard: Scoreboard, raw: Path, memory: Path, count: int) -> None:
    with scoreboard(KILLED) as row:
        disturb(row, memory, count, seed=1, raw=raw, signals=["SIGKILL"], options=[*INLINE, *LONG])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_while_two_workers_work(scoreboard: Scoreboard, raw: Path, memory: Path) -> None:
    """Only the main process is killed: workers that live a moment longer must not disturb the one that resumes."""
    with scoreboard(KILLED) as row:
        disturb(row, memory, 12, seed=2, raw=raw, signals=["SIGKILL"], options=["--workers", "2", *LONG])


ASKING = ["SIGINT", "SIGTERM", "SIGTERM", "SIGINT"]
"""In this order both kinds reach both programs."""
STOPPED = "SIGINT / SIGTERM prepare at random moments, then resume"


@pytest.mark.parametrize("count", counts(short=4, full=60))
def test_asked_to_stop_at_random_moments(scoreboard: Scoreboard, raw: Path, memory: Path, count: int) -> None:
    with scoreboard(STOPPED) as row:
        options = [*INLINE, *LONG]
        disturb(row, memory, count, seed=3, raw=raw, signals=ASKING, options=options)


@pytest.mark.parametrize("count", counts(short=1, full=8))
def test_asked_to_stop_while_two_workers_work(scoreboard: Scoreboard, raw: Path, memory: Path, count: int) -> None:
    with scoreboard(STOPPED) as row:
        options = ["--workers", "2", *LONG]
        disturb(row, memory, count, seed=4, raw=raw, signals=ASKING, options=options)


def inject_faults(row: Row, folder: Path, jobs: list[dict[str, Any]]) -> None:
    """Make the trials of each job; all undisturbed stores must be the same."""
    raw = write_folder(folder / "raw", files(4))
    (folder / "out").mkdir()
    places = {"raw": raw, "folder": folder / "out", "options": INLINE}
    answers = in_programs(failing_writes.__name__, [places | job for job in jobs])
    assert len({answer["digest"] for answer in answers}) == 1
    for answer in answers:
        assert answer["operations"] > 20
        row.take(answer["problems"])
    assert os.listdir(folder / "out") == []


@pytest.mark.parametrize("step", counts(short=60, full=2))
def test_crashing_before_each_disk_operation(scoreboard: Scoreboard, memory: Path, step: int) -> None:
    with scoreboard("every crash point of prepare, then resume") as row:
        jobs = [{"first": first, "step": step} for first in (0, step // 2)]
        inject_faults(row, memory, [{"kinds": ["die"], "replacing": True} | job for job in jobs])


KINDS = [f"{error} {stays}" for error in ("ENOSPC", "EIO", "EACCES") for stays in ("once", "lasting")]


@pytest.mark.parametrize(("step", "turns"), counts(short=(47, [0]), full=(2, [0, 2, 4])))
def test_each_disk_operation_failing(scoreboard: Scoreboard, memory: Path, step: int, turns: list[int]) -> None:
    """In full, each operation meets one or two of the six kinds: an error, once or for good."""
    with scoreboard("the Nth write fails (ENOSPC, EIO, EACCES), once and for good") as row:
        jobs = [{"first": turn // 2 % step, "kinds": KINDS[turn:] + KINDS[:turn]} for turn in turns]
        inject_faults(row, memory, [{"step": step, "replacing": True} | job for job in jobs])


@pytest.mark.parametrize("count", counts(short=2, full=24))
def test_a_disk_that_is_truly_full(scoreboard: Scoreboard, tmp_path: Path, count: int) -> None:
    with scoreboard("a truly full disk (tmpfs), then space is freed and it resumes") as row:
        raw = write_folder(tmp_path / "raw", files(12))
        place = tmp_path / "disk"
        place.mkdir()
        answer = disk_full.in_namespace(raw=raw, place=place, count=count, options=[*INLINE, *LONG])
        row.take(answer["problems"])
