"""``smae explain``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import smae
from smae.data.clean import MODES
from smae.data.prepare import PrepareSettings
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.data.prepare.explain import Explanation


@click.command("explain")
@click.argument("path", type=choices.STORE)
@click.argument("name", required=False, type=choices.CLIP)
@click.option(
    "--raw", type=choices.PATH, help="With a store: its raw folder or zip, to explain the cleaning too and compare."
)
@click.option("--mode", type=click.Choice(MODES), help="Cleaning mode; the store's own, or reference, by default.")
@click.option("--source", type=choices.SOURCE, default=PrepareSettings.source, help="Kind of raw data.")
@click.option("--layout", type=choices.LAYOUT, help="Whose joints keypoints hold: mediapipe33, h36m17, ...")
@console.json_option
def command(path: str, name: str | None, **options: Any) -> int:
    """Explain what became of one recording: bodies found, rules that removed them, frames dropped, origin.

    PATH is a raw file, a folder or zip of raw files, or a store; NAME is the recording in it.

    \b
    Examples:
      smae explain S001C002P003R002A013.skeleton
      smae explain ntu/ S001C002P003R002A013
      smae explain ntu.zarr S001C002P003R002A013 --raw ntu/

    Exit code 3 if the recording is bad, 4 if it is not what the store was made of.
    """
    return show(smae.explain(path, name, **options))


def show(explanation: Explanation) -> int:
    """Print the explanation of one recording and return its exit code."""
    console.result(asdict(explanation), lambda: _text(explanation))
    return explanation.exit_code


def _text(explanation: Explanation) -> None:
    console.echo(f"{explanation.name}: {explanation.verdict}")
    sections = {"raw": explanation.raw, "cleaning": explanation.steps, "store": explanation.stored}
    for title, lines in sections.items():
        if lines:
            console.echo(title)
        for line in lines:
            console.echo(f"  {line}")
