"""Readers beside a writer, and two writers of one output: each ends right, or in one line that says what to do."""

from __future__ import annotations

import pytest

from tests.reliability import beside
from tests.reliability.counts import counts
from tests.reliability.forked_cli import AT_ONCE, in_programs
from tests.reliability.scoreboard import Scoreboard


@pytest.mark.parametrize(
    ("how", "most"),
    [
        pytest.param(how, *each.values, id=f"{how}-{each.id}", marks=each.marks)
        for how, full in {"training": 50, "replacing": 20}.items()
        for each in counts(short=5 if how == "training" else 2, full=full)
    ],
)
def test_readers_beside_a_writer(scoreboard: Scoreboard, how: str, most: int) -> None:
    with scoreboard(f"readers beside a writer: {how}") as row:
        for problems in in_programs(beside.__name__, [{"how": f"beside_{how}", "most": most}]):
            row.take(problems)


@pytest.mark.parametrize("most", counts(short=1, full=8))
@pytest.mark.parametrize("how", ["twice_at_once", "same_output"])
def test_two_writers(scoreboard: Scoreboard, how: str, most: int) -> None:
    with scoreboard("two writers of one output") as row:
        for problems in in_programs(beside.__name__, [{"how": how, "most": most}] * AT_ONCE):
            row.take(problems)
