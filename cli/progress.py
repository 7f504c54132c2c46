"""How progress is shown: a bar in a terminal, a line every few seconds elsewhere, JSON lines with ``--json``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smae.progress import Task

if TYPE_CHECKING:
    from rich.progress import Progress

AFTER = 1.0
"""Seconds that a task runs before it is shown; what is quicker is not shown at all."""
EVERY = 5.0
"""Seconds between two lines of the same task."""


class LineReporter:
    """Writes a line for the task under way every few seconds, and one more at its end.

    Args:
        write: takes a line as text or, if ``as_json``, as an object.
        as_json: whether lines are for programs.
    """

    def __init__(self, write: Callable[[str | dict[str, Any]], None], *, as_json: bool) -> None:
        self._write, self._json = write, as_json
        self._paces: dict[Task, _Pace] = {}

    def begin(self, task: Task) -> None:
        """See ``smae.progress.Reporter``."""
        pace = self._paces[task] = _Pace(task)
        if self._json:
            pace.due = 0.0  # programs are given the first count at once, and the last
        if task.total is None:
            # Nothing will be counted, so a thread looks at the clock.
            threading.Thread(target=self._watch, args=(task, pace), daemon=True).start()

    def update(self, task: Task) -> None:
        """See ``smae.progress.Reporter``."""
        pace = self._paces[task]
        pace.measure()
        now = time.monotonic()
        finished = pace.shown and task.done == task.total
        if now >= pace.due or finished:
            pace.due, pace.shown = now + EVERY, True
            self._write(self._object(task, pace) if self._json else _words(task, pace))

    def end(self, task: Task) -> None:
        """See ``smae.progress.Reporter``."""
        self._paces.pop(task).over.set()

    def _object(self, task: Task, pace: _Pace) -> dict[str, Any]:
        left = pace.seconds_left()
        return {
            "progress": task.name,
            "done": task.done,
            "total": task.total,
            "unit": task.unit,
            "note": task.note,
            **task.values,
            "rate": round(pace.rate, 3) or None,
            "seconds_left": None if left is None else round(left, 1),
        }

    def _watch(self, task: Task, pace: _Pace) -> None:
        wait = AFTER
        while not pace.over.wait(wait) and task.total is None:
            wait, passed = EVERY, time.monotonic() - pace.began
            if self._json:
                self._write({"progress": task.name, "seconds": round(passed, 1)})
            else:
                self._write(f"{task.name}: running ({clock(passed)})")


class BarReporter:
    """Draws a bar for each task in a terminal."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[Task, tuple[Any, _Pace]] = {}

    def begin(self, task: Task) -> None:
        """See ``smae.progress.Reporter``."""
        if self._bars is None:
            self._bars = _rich_progress()
        number = self._bars.add_task(task.name, total=task.total, unit=task.unit, note="", visible=False)
        self._tasks[task] = number, _Pace(task)
        self._bars.start()

    def update(self, task: Task) -> None:
        """See ``smae.progress.Reporter``."""
        assert self._bars is not None, "begin ran before"
        number, pace = self._tasks[task]
        pace.measure()
        self._bars.update(
            number,
            completed=task.done,
            total=task.total,
            note=task.note or pace.words(),
            visible=time.monotonic() >= pace.due,
        )

    def end(self, task: Task) -> None:
        """See ``smae.progress.Reporter``."""
        assert self._bars is not None, "begin ran before"
        number, _ = self._tasks.pop(task)
        if not self._tasks:
            self._bars.stop()
            self._bars = None
        else:
            self._bars.update(number, visible=False)


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        Remaining(),
        console=Console(stderr=True),
    )


class _Pace:
    """How fast a task goes, since its first update; what a resumed task did before does not count."""

    def __init__(self, task: Task) -> None:
        self.began = self._since = time.monotonic()
        self.due, self.shown, self.over = self.began + AFTER, False, threading.Event()
        self.rate = 0.0
        self._task, self._first = task, -1

    def measure(self) -> None:
        """Take the count of now."""
        now = time.monotonic()
        if self._first < 0:
            self._first, self._since = self._task.done, self.began if self._task.done <= 1 else now
        elif self._task.done > self._first:
            self.rate = (self._task.done - self._first) / max(1e-9, now - self._since)

    def seconds_left(self) -> float | None:
        """Return the seconds left; None where the pace or the length is not known yet."""
        if self._task.total is None:
            return None
        if self._task.done >= self._task.total:
            return 0.0
        return (self._task.total - self._task.done) / self.rate if self.rate else None

    def words(self) -> str:
        """Return the pace for people, as ``12.3 clips/s``; nothing where it is not known or has no unit."""
        if not self.rate or not self._task.unit:
            return ""
        return f"{self.rate:,.{0 if self.rate >= 100 else 1}f} {self._task.unit}/s"


def _words(task: Task, pace: _Pace) -> str:
    left = pace.seconds_left()
    count = f"{task.done}" if task.total is None else f"{task.done}/{task.total}"
    parts = [f"{task.name}: {count} {task.unit}".rstrip(), task.note or pace.words()]
    if left is not None:
        parts.append(f"{clock(left)} left")
    return "  ".join(part for part in parts if part)


def clock(seconds: float) -> str:
    """Return a duration as people write it: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
