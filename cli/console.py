"""What commands print: lines for people on standard error, results on standard output, as text or as JSON."""

from __future__ import annotations

import difflib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_json = False
SPARE = os.environ.get("RANK", "0") != "0"
"""Whether torchrun started this process beside another one, which does the talking."""


def use_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Remember that this command's result is wanted as JSON."""
    global _json
    _json = value
    return value


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command."""
    return click.option(
        "--json", "as_json", is_flag=True, expose_value=False, is_eager=True, callback=use_json,
        help="Print the result as JSON on standard output, progress as JSON lines on standard error.",
    )(command)  # fmt: skip


def say(message: str) -> None:
    """Tell people something on standard error."""
    _to_people(json.dumps({"note": message}) if _json else message)


def _to_people(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        # Nobody listens any more (`smae pretrain 2>&1 | head`): the work goes on all the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def error(message: str, *, kind: str = "", code: int = 1) -> None:
    """Tell what went wrong on standard error, and as the result where that is JSON."""
    if _json:
        print(json.dumps({"error": {"kind": kind, "message": message, "exit_code": code}}), flush=True)
    _to_people(f"smae: {message}")


def result(value: dict[str, Any], text: Callable[[], None]) -> None:
    """Print a command's result: ``value`` as JSON, or whatever ``text`` prints."""
    if SPARE:
        return
    if _json:
        print(json.dumps(value, indent=1, allow_nan=False))
    else:
        text()


class Group(click.Group):
    """A group of commands that hints at the nearest one when a name is unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command, with a hint when the name is unknown."""
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
        click.echo(title)  # not the table's own title, which is broken where the table ends: a path could not be copied
    grid = Table(box=box.SIMPLE_HEAD, show_header=any(columns))
    for number, column in enumerate(columns):
        grid.add_column(column, justify="left" if number < left else "right")
    for row in rows:
        grid.add_row(*row)
    # Names such as smae[rerun] are no markup.
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(grid)


Update = Callable[..., None]


@contextmanager
def progress(what: str, *, unit: str, after: float = 0.0) -> Iterator[Update]:
    """Show progress: a bar in a terminal, a line every few seconds elsewhere, JSON lines with ``--json``.

    Yields ``update(done, total, note="", what=...)``; another ``what`` begins another stretch of work, with a pace of
    its own. Nothing is shown of what ends within ``after`` seconds.
    """
    if SPARE:
        yield lambda *now, **about: None
    elif _json or not sys.stderr.isatty():
        yield _Lines(what, unit, after=after)
    else:
        from rich.progress import Progress

        with _Bar(what, unit, after=after, of=Progress) as bar:
            yield bar


class _Bar:
    """A bar in a terminal."""

    def __init__(self, what: str, unit: str, *, after: float, of: type[RichProgress]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)),
            *(TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()),
        )
        self._bars = of(*columns, console=Console(stderr=True))
        self._task = self._bars.add_task(what, total=None, note="")
        self._pace, self._after, self._what = _Pace(what), after, what
        self._unit = unit

    def __enter__(self) -> _Bar:
        if not self._after:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def __call__(self, done: int, total: int, *, note: str = "", what: str = "") -> None:
        what = what or self._what
        if self._pace.step(what, done):
            self._bars.reset(self._task, description=what)
        if not self._bars.live.is_started and self._pace.seconds() >= self._after:
            self._bars.start()
        shown = note or self._pace.words(self._unit)
        self._bars.update(self._task, completed=done, total=total, note=shown, description=what)


class _Lines:
    """A line every few seconds, for people or as JSON; the last one where any was written, or nothing was to wait."""

    def __init__(self, what: str, unit: str, *, after: float, every: float = 5.0) -> None:
        self._what, self._unit, self._every = what, unit, every
        self._pace, self._next = _Pace(what), time.monotonic() + after
        self._told = not after

    def __call__(self, done: int, total: int, *, note: str = "", what: str = "") -> None:
        what, now = what or self._what, time.monotonic()
        self._pace.step(what, done)
        if now < self._next and not (done >= total and self._told):
            return
        self._next, self._told = now + self._every, True
        left, rate = self._pace.left(done, total), self._pace.rate
        if _json:
            line: dict[str, Any] = {"progress": what, "done": done, "total": total, "unit": self._unit, "note": note}
            _to_people(
                json.dumps(
                    {**line, "rate": round(rate, 3) or None, "seconds_left": None if left is None else round(left, 1)}
                )
            )
        else:
            shown = note or self._pace.words(self._unit)
            tail = "".join(f"  {words}" for words in (shown, "" if left is None else f"{clock(left)} left") if words)
            _to_people(f"{what}: {done}/{total} {self._unit}".rstrip() + tail)


class _Pace:
    """How fast a stretch of work goes: from its first update on, since what came before it was another's time."""

    def __init__(self, what: str) -> None:
        self._what, self._begun = what, time.monotonic()
        self._first, self._since, self.rate = 0, self._begun, 0.0

    def step(self, what: str, done: int) -> bool:
        """Note how far it is; return whether another stretch has begun."""
        now, other = time.monotonic(), what != self._what
        if other:
            self._what, self._first, self._since, self.rate = what, done, now, 0.0
        elif done > self._first:
            self.rate = (done - self._first) / max(1e-9, now - self._since)
        return other

    def left(self, done: int, total: int) -> float | None:
        """Return the seconds left; None where the pace is not known yet."""
        if done >= total:
            return 0.0
        return (total - done) / self.rate if self.rate else None

    def seconds(self) -> float:
        """Return the seconds since everything began."""
        return time.monotonic() - self._begun

    def words(self, unit: str) -> str:
        """Return the pace for people, as ``12.3 clips/s``; nothing where it is not known or has no unit."""
        return f"{self.rate:,.{0 if self.rate >= 100 else 1}f} {unit}/s" if self.rate and unit else ""


@contextmanager
def busy(what: str, *, after: float = 2.0, every: float = 5.0) -> Iterator[None]:
    """Say now and then that work goes on whose length nobody knows; nothing of what ends within ``after`` seconds."""
    begun, over = time.monotonic(), threading.Event()

    def tell() -> None:
        wait = after
        while not over.wait(wait):
            passed, wait = time.monotonic() - begun, every
            line = {"progress": what, "seconds": round(passed, 1)}
            _to_people(json.dumps(line) if _json else f"{what}: at work for {clock(passed)}")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def clock(seconds: float) -> str:
    """Return a duration as people write it: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def accuracy(row: Any) -> tuple[str, str]:
    """Return a result's mean accuracy, with its standard deviation over seeds, and its interval, in per cent."""
    spread = "" if row.std is None else f" ± {percent(row.std)}"
    between = "-" if row.interval is None else " to ".join(map(percent, row.interval))
    return f"{percent(row.top1)}{spread}", between


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal, or a dash."""
    return "-" if share is None else f"{100 * share:.1f}"
