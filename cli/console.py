"""Output of commands: notes and progress on standard error, results on standard output.

Progress is a bar in a terminal, a line every few seconds elsewhere, and JSON lines with ``--json``.
"""

from __future__ import annotations

import difflib
import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from smae import progress as tasks
from smae.tables import Table, clock

if TYPE_CHECKING:
    from rich.progress import Progress

_json = False
JSON_VERSION = 1
"""Version of what ``--json`` prints, in every object; docs/json.md has the schema."""
CHECKS = "smae.checks"
"""Where a click context keeps the checks of what options name: functions that raise."""
WIDE = 10_000
"""Columns of output that is redirected: nothing is cut, and nothing wrapped."""
NARROW = 130
"""Columns of a terminal below which the note of a bar is in the next line."""
KEY = 40
"""Columns up to which the first column of a table is never folded."""
SILENT = os.environ.get("RANK", "0") != "0"
"""Whether this is a rank of torchrun other than 0: only rank 0 prints."""
AFTER = 1.0
"""Seconds that a task runs before it is shown; what is quicker is not shown at all."""
EVERY = 5.0
"""Seconds between two lines of the same task."""


def use_json(value: bool) -> None:
    """Note whether this command prints JSON."""
    global _json
    _json = value


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``, which ``main.run`` has read; check what options name, now that all are read."""

    @functools.wraps(command)
    def checked(*args: Any, **options: Any) -> Any:
        for check in click.get_current_context().meta.pop(CHECKS, ()):
            check()
        return command(*args, **options)

    return click.option(
        "--json", "as_json", is_flag=True, expose_value=False,
        help="Print the result as JSON on standard output, progress as JSON lines on standard error.",
    )(checked)  # fmt: skip


def printable(text: str) -> str:
    """Return text with all but printable characters escaped: no file may drive a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def echo(text: object, *, nl: bool = True) -> None:
    """Print a line of a result."""
    click.echo(printable(str(text)), nl=nl)


def note(message: str) -> None:
    """Print a message for people on standard error."""
    _to_people({"version": JSON_VERSION, "note": message} if _json else message)


def _to_people(line: str | dict[str, Any]) -> None:
    try:
        print(printable(line) if isinstance(line, str) else json.dumps(line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        # The reader has closed the pipe (`2>&1 | head`): the work goes on without notes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def failed(message: str, *, kind: str = "", code: int = 1) -> None:
    """Print what went wrong on standard error and, with ``--json``, as the result."""
    if _json:
        found = {"kind": kind, "message": message, "exit_code": code}
        print(json.dumps({"version": JSON_VERSION, "error": found}), flush=True)
    note(f"smae: {message}")


def usage_error(error: click.ClickException) -> None:
    """Print a wrong option or argument as click does or, with ``--json``, as every other error."""
    if _json:
        failed(error.format_message(), kind=type(error).__name__, code=error.exit_code)
    else:
        error.show()


def result(value: dict[str, Any], text: Callable[[], None]) -> None:
    """Print a command's result: ``value`` as JSON, or the text that ``text`` prints."""
    if SILENT:
        return
    if _json:
        print(json.dumps({"version": JSON_VERSION} | value, indent=1, allow_nan=False))
    else:
        text()


def line(value: dict[str, Any], text: str) -> None:
    """Print one of several results, in one line: ``value`` as JSON, or the text."""
    if SILENT:
        return
    echo(json.dumps({"version": JSON_VERSION} | value, allow_nan=False) if _json else text)


class Group(click.Group):
    """A group of commands that suggests the nearest name when a name is unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; an unknown name is a usage error with the nearest one."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", left: int = 2) -> None:
    """Print a table; every column but the first ``left`` ones is aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if title:
        # Not the table's own title, which is wrapped to its width: a path could not be copied.
        echo(title)
    grid = Table(box=box.SIMPLE_HEAD, show_header=any(columns))
    longest = max((len(part) for row in rows for part in row[0].splitlines()), default=0)
    for number, column in enumerate(columns):
        # What the first column names is typed again: others fold for it, up to half a screen.
        whole = number == 0 and longest <= KEY
        grid.add_column(column, justify=("right", "left")[number < left], overflow="fold", no_wrap=whole)
    for row in rows:
        grid.add_row(*map(printable, row))
    # Names such as smae[rerun] are not markup.
    Console(width=None if sys.stdout.isatty() else WIDE, markup=False).print(grid)


def show(result: Table, *, note: str = "") -> None:
    """Print the tables of a result, the first with a note in its title."""
    for number, grid in enumerate(result.tables()):
        title = grid.title + note * (number == 0)
        table(grid.columns, grid.rows, title=title, left=grid.left)


@contextmanager
def feedback() -> Iterator[None]:
    """Show the block's notes and progress on standard error, as text or as JSON lines."""
    handler = _Notes()
    logger = logging.getLogger("smae")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with tasks.reporting(None if SILENT else _Late()):
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Notes(logging.Handler):
    """Prints log records of smae as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        if not SILENT:
            note(record.getMessage())


class _Late:
    """A reporter that is chosen when the first task begins: only then ``--json`` has been read."""

    _chosen: tasks.Reporter | None = None

    def begin(self, task: tasks.Task) -> None:
        if self._chosen is None:
            bar = sys.stderr.isatty() and not _json
            self._chosen = BarReporter() if bar else LineReporter(_to_people, as_json=_json)
        self._chosen.begin(task)

    def update(self, task: tasks.Task) -> None:
        if self._chosen is not None:
            self._chosen.update(task)

    def end(self, task: tasks.Task) -> None:
        if self._chosen is not None:
            self._chosen.end(task)


class LineReporter:
    """Writes a line for the task under way every few seconds, and one more at its end.

    Args:
        write: takes a line as text or, if ``as_json``, as an object.
        as_json: whether lines are for programs.
    """

    def __init__(self, write: Callable[[str | dict[str, Any]], None], *, as_json: bool) -> None:
        self._write, self._json = write, as_json
        self._paces: dict[tasks.Task, _Pace] = {}

    def begin(self, task: tasks.Task) -> None:
        pace = self._paces[task] = _Pace(task)
        if self._json:
            pace.due = 0.0  # programs are given the first count at once, and the last
        if task.total is None:
            # Nothing will be counted, so a thread looks at the clock.
            threading.Thread(target=self._watch, args=(task, pace), daemon=True).start()

    def update(self, task: tasks.Task) -> None:
        pace = self._paces[task]
        pace.measure()
        now = time.monotonic()
        finished = pace.shown and task.done == task.total
        if now >= pace.due or finished:
            pace.due, pace.shown = now + EVERY, True
            self._write(self._object(task, pace) if self._json else _words(task, pace))

    def end(self, task: tasks.Task) -> None:
        self._paces.pop(task).over.set()

    def _object(self, task: tasks.Task, pace: _Pace) -> dict[str, Any]:
        left = pace.seconds_left()
        return {
            "version": JSON_VERSION,
            "progress": task.name,
            "done": task.done,
            "total": task.total,
            "unit": task.unit,
            "note": task.note,
            "values": dict(task.values),
            "rate": round(pace.rate, 3) or None,
            "seconds": round(time.monotonic() - pace.began, 1),
            "seconds_left": None if left is None else round(left, 1),
        }

    def _watch(self, task: tasks.Task, pace: _Pace) -> None:
        wait = AFTER
        while not pace.over.wait(wait) and task.total is None:
            wait, passed = EVERY, time.monotonic() - pace.began
            if self._json:
                self._write(self._object(task, pace))
            else:
                self._write(f"{task.name}: running ({clock(passed)})")


class BarReporter:
    """Draws a bar for each task in a terminal; a task that consists of others has the only one."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[tasks.Task, tuple[Any, _Pace]] = {}

    def begin(self, task: tasks.Task) -> None:
        if self._bars is None:
            self._bars = _rich_progress(self._show_due)
        number = self._bars.add_task(task.name, total=task.total, unit=task.unit, note="", visible=False)
        self._tasks[task] = number, _Pace(task)
        self._bars.start()

    def update(self, task: tasks.Task) -> None:
        assert self._bars is not None, "begin ran before"
        number, pace = self._tasks[task]
        pace.measure()
        self._bars.update(number, completed=task.done, total=task.total, note=task.note or pace.words())
        self._show_due()

    def end(self, task: tasks.Task) -> None:
        assert self._bars is not None, "begin ran before"
        number, _ = self._tasks.pop(task)
        if not self._tasks:
            self._bars.stop()
            self._bars = None
        else:
            self._bars.update(number, visible=False)

    def _show_due(self) -> None:
        """Show the tasks that have run for a while; a whole's bar names what is under way."""
        now, within = time.monotonic(), False
        for task, (number, pace) in list(self._tasks.items()):
            if self._bars is not None and not within:
                inner = [one.name for one in self._tasks if one is not task]
                self._bars.update(number, visible=now >= pace.due)
                if task.parts and inner:
                    self._bars.update(number, note=f"{task.note}  {inner[-1]}".strip())
            within = within or task.parts


def _rich_progress(before_each: Callable[[], None]) -> Progress:
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        Remaining(),
    ]
    narrow = console.width < NARROW
    if not narrow:
        columns.append(TextColumn("{task.fields[note]}"))

    class Bars(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            before_each()
            yield from super().get_renderables()
            # Beside the bar a note would squeeze the count and the times out of the line.
            for note in [task.fields["note"] for task in self.tasks if narrow and task.visible]:
                yield Text(f"  {note}" * bool(note), no_wrap=True, overflow="ellipsis")

    return Bars(*columns, console=console)


class _Pace:
    """How fast a task goes since its first update, without what it did before a resume."""

    def __init__(self, task: tasks.Task) -> None:
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
        """Return the pace, as ``12.3 clips/s``; nothing where it is unknown or has no unit."""
        if not self.rate or not self._task.unit:
            return ""
        return f"{self.rate:,.{0 if self.rate >= 100 else 1}f} {self._task.unit}/s"


def _words(task: tasks.Task, pace: _Pace) -> str:
    left = pace.seconds_left()
    count = f"{task.done}" if task.total is None else f"{task.done}/{task.total}"
    parts = [f"{task.name}: {count} {task.unit}".rstrip(), task.note or pace.words()]
    if left is not None:
        parts.append(f"{clock(left)} left")
    return "  ".join(part for part in parts if part)
