"""What commands print: lines for people on standard error, results on standard output, as text or as JSON."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

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
    grid = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        grid.add_column(column, justify="left" if number < left else "right")
    for row in rows:
        grid.add_row(*row)
    # Names such as smae[rerun] are no markup.
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(grid)


Update = Callable[..., None]


@contextmanager
def progress(what: str, *, unit: str) -> Iterator[Update]:
    """Show progress: a bar in a terminal, a line every few seconds elsewhere, JSON lines with ``--json``.

    Yields ``update(done, total, note="", what=...)``.
    """
    if SPARE:
        yield lambda *now, **about: None
        return
    if _json or not sys.stderr.isatty():
        yield _plain(what, unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)),
        *(TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=None, note="")

        def update(done: int, total: int, *, note: str = "", what: str = what) -> None:
            bars.update(task, completed=done, total=total, note=note, description=what)

        yield update


def _plain(what: str, unit: str, *, every: float = 5.0) -> Update:
    import time

    begun, last = time.monotonic(), [float("-inf")]

    def update(done: int, total: int, *, note: str = "", what: str = what) -> None:
        now = time.monotonic()
        if now - last[0] < every and done < total:
            return
        last[0] = now
        left = (now - begun) / max(1, done) * (total - done)
        if _json:
            line: dict[str, Any] = {"progress": what, "done": done, "total": total, "unit": unit, "note": note}
            _to_people(json.dumps({**line, "seconds_left": round(left, 1)}))
        else:
            tail = f"  {note}" if note else ""
            _to_people(f"{what}: {done}/{total} {unit}{tail}  {clock(left)} left")

    return update


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
