"""Output of commands: notes and progress on standard error, results on standard output, as text or as JSON."""

from __future__ import annotations

import difflib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from smae import progress as tasks

_json = False
WIDE = 10_000
"""Columns of output that is redirected: nothing is cut, and nothing wrapped."""
SILENT = os.environ.get("RANK", "0") != "0"
"""Whether this is a rank of torchrun other than 0: only rank 0 prints."""


def use_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Note that this command prints JSON."""
    global _json
    _json = value
    return value


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command."""
    return click.option(
        "--json", "as_json", is_flag=True, expose_value=False, is_eager=True, callback=use_json,
        help="Print the result as JSON on standard output, progress as JSON lines on standard error.",
    )(command)  # fmt: skip


def printable(text: str) -> str:
    """Return text with all but printable characters, line ends and tabs escaped: no file may drive a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def echo(text: object, *, nl: bool = True) -> None:
    """Print a line of a result."""
    click.echo(printable(str(text)), nl=nl)


def note(message: str) -> None:
    """Print a message for people on standard error."""
    _to_people({"note": message} if _json else message)


def _to_people(line: str | dict[str, Any]) -> None:
    try:
        print(printable(line) if isinstance(line, str) else json.dumps(line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        # The reader has closed the pipe (`smae pretrain 2>&1 | head`): the work goes on without notes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def error(message: str, *, kind: str = "", code: int = 1) -> None:
    """Print what went wrong on standard error and, with ``--json``, as the result."""
    if _json:
        print(json.dumps({"error": {"kind": kind, "message": message, "exit_code": code}}), flush=True)
    _to_people(f"smae: {message}")


def result(value: dict[str, Any], text: Callable[[], None]) -> None:
    """Print a command's result: ``value`` as JSON, or the text that ``text`` prints."""
    if SILENT:
        return
    if _json:
        print(json.dumps(value, indent=1, allow_nan=False))
    else:
        text()


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
        # Not the table's own title, which is wrapped at the width of the table: a path could not be copied.
        echo(title)
    grid = Table(box=box.SIMPLE_HEAD, show_header=any(columns))
    for number, column in enumerate(columns):
        grid.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(printable, row))
    # Names such as smae[rerun] are not markup.
    Console(width=None if sys.stdout.isatty() else WIDE, markup=False).print(grid)


@contextmanager
def feedback() -> Iterator[None]:
    """Show notes and progress of the block on standard error, as text or, with ``--json``, as JSON lines."""
    handler = _Notes()
    logger = logging.getLogger("smae")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with tasks.reporting(_Late()):
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
            from smae_cli.progress import BarReporter, LineReporter

            bar = sys.stderr.isatty() and not _json
            self._chosen = BarReporter() if bar else LineReporter(_to_people, as_json=_json)
        if not SILENT:
            self._chosen.begin(task)

    def update(self, task: tasks.Task) -> None:
        if not SILENT and self._chosen is not None:
            self._chosen.update(task)

    def end(self, task: tasks.Task) -> None:
        if not SILENT and self._chosen is not None:
            self._chosen.end(task)


def accuracy(row: Any) -> tuple[str, str]:
    """Return a result's mean accuracy, with its standard deviation over seeds, and its interval, in per cent."""
    spread = "" if row.std is None else f" ± {percent(row.std)}"
    between = "-" if row.interval is None else " to ".join(map(percent, row.interval))
    return f"{percent(row.top1)}{spread}", between


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal, or a dash."""
    return "-" if share is None else f"{100 * share:.1f}"
