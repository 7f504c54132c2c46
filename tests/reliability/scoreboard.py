"""Counts the trials of each row of the scoreboard and their failures, and lays them out as one table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

SHOWN = 10
"""Failed trials that a test's message shows; the table counts all."""


@dataclass
class Row:
    """One row: what was tried, how often, what went otherwise than promised.

    Attributes:
        title: the row's name; tests of one title add up.
        trials: how many were made.
        failures: one line each.
        seconds: that they took.
        skipped: why tests of this row could not run.
    """

    title: str
    trials: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""

    def trial(self, problem: str = "") -> None:
        """Count one trial; an empty problem means that all went as promised."""
        self.trials += 1
        if problem:
            self.failures.append(problem)

    def take(self, problems: Iterable[str]) -> None:
        """Count one trial for each of ``problems``."""
        for problem in problems:
            self.trial(problem)

    def check(self, fine: bool, problem: str) -> None:
        """Count one trial that must be fine."""
        self.trial("" if fine else problem)


class Scoreboard:
    """All rows of a test run, in the order in which they were tried."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[Row]:
        """Make the trials of a row in the block; failed ones, or none at all, fail the test at its end."""
        row, began = Row(title), time.monotonic()
        try:
            yield row
            if not row.trials:
                row.failures.append("no trial was made")
        except pytest.skip.Exception as skipped:
            row.skipped = str(skipped)
            raise
        except BaseException as error:
            row.trial(f"the trials broke off: {type(error).__name__}: {error}")
            raise
        finally:
            row.seconds += time.monotonic() - began
            self._add(row)
        if row.failures:
            shown, failed = "\n  ".join(row.failures[:SHOWN]), len(row.failures)
            pytest.fail(f"{title}: {failed} of {row.trials} trials failed, such as\n  {shown}", pytrace=False)

    def _add(self, new: Row) -> None:
        row = self.rows.setdefault(new.title, Row(new.title))
        row.trials += new.trials
        row.failures += new.failures
        row.seconds += new.seconds
        row.skipped = row.skipped or new.skipped

    def lines(self) -> list[str]:
        """Return the table, one line a row and one for their sum."""
        rows = list(self.rows.values())
        width = max(len(row.title) for row in rows)
        lines = [f"{'test':<{width}}  {'count':>11}  {'failures':>8}  {'seconds':>7}"]
        for row in rows:
            note = f"  skipped: {row.skipped}" if row.skipped else ""
            lines.append(f"{row.title:<{width}}  {row.trials:>11,}  {len(row.failures):>8,}  {row.seconds:>7.1f}{note}")
        trials, failures = sum(row.trials for row in rows), sum(len(row.failures) for row in rows)
        seconds = sum(row.seconds for row in rows)
        return [*lines, f"{'all':<{width}}  {trials:>11,}  {failures:>8,}  {seconds:>7.1f}"]

    def write(self, path: Path) -> None:
        """Write the rows as JSON, every failure in words."""
        path.write_text(json.dumps([asdict(row) for row in self.rows.values()], indent=1) + "\n")
