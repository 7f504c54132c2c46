"""``smae explain``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smae import api
from smae_cli import console

if TYPE_CHECKING:
    from smae.data.prepare.explain import Explanation


@click.command("explain")
@click.argument("where")
@click.argument("name", required=False)
@click.option(
    "--raw",
    type=click.Path(path_type=Path),
    help="With a store: its raw folder or zip, to tell the whole story and compare.",
)
@click.option(
    "--mode",
    type=click.Choice(["reference", "exact"]),
    help="Cleaning to tell of; the store's own, or reference, by default.",
)
@click.option("--source", default="ntu", show_default=True, help="Kind of raw data.")
@console.json_option
def command(where: str, name: str | None, **options: Any) -> int:
    """Tell what became of one recording: bodies found, rules that removed them, frames dropped, origin.

    WHERE is a raw file, a folder or zip of raw files, or a store; NAME is the recording in it.

    \b
    Examples:
      smae explain S001C002P003R002A013.skeleton
      smae explain ntu/ S001C002P003R002A013
      smae explain ntu.zarr S001C002P003R002A013 --raw ntu/

    Exit code 3 if the recording is bad, 4 if it is not what the store was made of.
    """
    with console.busy("explain"):
        told = api.explain(where, name, **options)
    return show(told)


def show(told: Explanation) -> int:
    """Print the story of one recording and return the exit code that goes with it."""
    console.result(asdict(told), lambda: _text(told))
    return told.exit_code


def _text(told: Explanation) -> None:
    click.echo(f"{told.name}: {told.verdict}")
    for title, lines in (("raw", told.raw), ("cleaning", told.steps), ("store", told.stored)):
        if lines:
            click.echo(title)
        for line in lines:
            click.echo(f"  {line}")
