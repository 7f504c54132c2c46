"""Progress of long tasks: work reports to what the command line or a notebook sets.

    with progress.task("verify", total=len(chunks), unit="chunks") as task:
        for chunk in chunks:
            check(chunk)
            task.advance()

A notebook shows bars below the cell; elsewhere, without a reporter, nothing is shown. Messages for
people go through ``logging``.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol, TypeVar

from smae import interrupts
from smae.tables import clock

T = TypeVar("T")


@dataclass(eq=False)
class Task:
    """One piece of work with a name and a length.

    Attributes:
        name: what is done, for people (``"prepare"``).
        total: units of work in all; None where the length is not known.
        unit: what is counted (``"files"``, ``"clips"``).
        done: units finished.
        note: a few words shown beside the count.
        parts: whether it consists of other tasks.
        values: figures of the moment for programs (``{"loss": 0.1}``).
    """

    name: str
    total: int | None = None
    unit: str = ""
    done: int = 0
    note: str = ""
    parts: bool = False
    values: Mapping[str, float] = field(default_factory=dict)

    def update(
        self, done: int, *, total: int | None = None, note: str = "", values: Mapping[str, float] | None = None
    ) -> None:
        """Set the number of finished units and notify the reporter."""
        self.done, self.note, self.values = done, note, values or {}
        if total is not None:
            self.total = total
        if _reporter is not None:
            _reporter.update(self)

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Add finished units and notify the reporter."""
        self.update(self.done + count, note=note)


class Reporter(Protocol):
    """Shows tasks. Tasks may nest: the one begun last is under way until it ends."""

    def begin(self, task: Task) -> None:
        """Take note of a new task."""

    def update(self, task: Task) -> None:
        """Take note that a task has moved on."""

    def end(self, task: Task) -> None:
        """Take note that a task is over, finished or not."""


class NotebookReporter:
    """Shows tasks as bars below a notebook's cell, redrawn at most four times a second.

    Args:
        display: ``IPython.display.display``.
        html: ``IPython.display.HTML``.
    """

    def __init__(self, display: Any, html: Any) -> None:
        self._display, self._html = display, html
        self._tasks: dict[Task, float] = {}
        self._handle: Any = None
        self._drawn = 0.0

    def begin(self, task: Task) -> None:
        self._tasks[task] = time.monotonic()
        self._draw()

    def update(self, task: Task) -> None:
        if time.monotonic() - self._drawn >= 0.25 or task.done == task.total:
            self._draw()

    def end(self, task: Task) -> None:
        self._draw()
        del self._tasks[task]
        if not self._tasks:
            # The next cell has bars of its own.
            self._handle = None

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        shown = self._html("<br>".join(self._line(*entry) for entry in self._tasks.items()))
        if self._handle is None:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def _line(self, task: Task, began: float) -> str:
        passed, left = self._drawn - began, ""
        count = f"{task.done:,}" if task.total is None else f"{task.done:,} of {task.total:,}"
        if task.total and task.done:
            left = f", {clock(passed * (task.total - task.done) / task.done)} left"
        bar = f'<progress max="{task.total or 1}" value="{task.done * bool(task.total)}"></progress>'
        words = f"{task.name}: {count} {task.unit}, {clock(passed)}{left} {task.note}"
        return f"{bar} {escape(words)}"


def _in_notebook() -> Reporter | None:
    """Return a reporter where the program is a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    ipython: Any = importlib.import_module("IPython.display")
    return NotebookReporter(ipython.display, ipython.HTML)


_reporter: Reporter | None = None
_whole: Task | None = None


@contextmanager
def reporting(reporter: Reporter | None) -> Iterator[None]:
    """Report all tasks of the block to ``reporter``; to none if it is None."""
    global _reporter
    before, _reporter = _reporter, reporter
    try:
        yield
    finally:
        _reporter = before


@contextmanager
def task(name: str, *, total: int | None = None, unit: str = "", parts: bool = False) -> Iterator[Task]:
    """Begin a task and end it with the block."""
    global _reporter
    made = Task(name, total, unit, parts=parts)
    if _reporter is None:
        _reporter = _in_notebook()
    reporter = _reporter
    if reporter is None:
        yield made
        return
    reporter.begin(made)
    try:
        yield made
    finally:
        reporter.end(made)


@contextmanager
def whole(name: str, *, total: int, unit: str = "") -> Iterator[Task]:
    """Begin a task that consists of others, which report their share of its work to ``spend``."""
    global _whole
    before = _whole
    with task(name, total=total, unit=unit, parts=True) as made:
        _whole = made
        try:
            yield made
        finally:
            _whole = before


def spend(units: int) -> None:
    """Add finished units to the task of the whole, if any, so that it knows the time left."""
    if _whole is not None:
        _whole.update(min(_whole.done + units, _whole.total or 0), note=_whole.note)


def track(items: Iterable[T], name: str, *, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yield the items of a task one by one; between two of them an interrupt ends the work.

    Args:
        items: what is worked through.
        name: of the task.
        total: their number; by default their length, where they have one.
        unit: what is counted.

    Raises:
        Interrupted: a signal arrived.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with task(name, total=total, unit=unit) as current:
        for item in items:
            interrupts.check()
            yield item
            current.advance()
