"""Recordings cut, mutated and oddly spelled: no crash, nothing accepted that is cut off, both readers alike."""

from __future__ import annotations

import pytest

from tests.reliability import mutations, number_fuzz
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard


@pytest.mark.parametrize("step", counts(short=12, full=1))
def test_truncations(scoreboard: Scoreboard, step: int) -> None:
    with scoreboard("every truncation of 3 files, both readers") as row:
        numbers = list(range(0, mutations.truncations(), step))
        for problems in in_programs(mutations.__name__, _dealt("truncations", numbers)):
            row.take(problems)


@pytest.mark.parametrize("count", counts(short=800, full=20_000))
def test_mutations(scoreboard: Scoreboard, count: int) -> None:
    with scoreboard("seeded mutations, both readers") as row:
        for problems in in_programs(mutations.__name__, _dealt("mutations", list(range(count)))):
            row.take(problems)


@pytest.mark.parametrize(("usual", "rare"), counts(short=(8, 2), full=(320, 140)))
def test_numbers(scoreboard: Scoreboard, usual: int, rare: int) -> None:
    """In full, 320 files of 30,000 usual numbers and 140 of 3,000 rare ones: 10,020,000."""
    with scoreboard("numbers against Python's float") as row:
        jobs = [{"seeds": list(range(n, usual, AT_ONCE)), "rare": False} for n in range(AT_ONCE)]
        jobs += [{"seeds": list(range(n, rare, AT_ONCE)), "rare": True} for n in range(AT_ONCE)]
        for answer in in_programs(number_fuzz.__name__, jobs):
            row.trials += answer["count"]
            row.failures += answer["differ"]


def _dealt(kind: str, numbers: list[int]) -> list[dict[str, object]]:
    return [{"kind": kind, "numbers": numbers[n::AT_ONCE], "seed": 0} for n in range(AT_ONCE)]
