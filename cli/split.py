"""``smae split``."""

from __future__ import annotations

import re
from typing import Any

import click

import smae
from smae_cli import choices, console

GROUPS = ("subject", "camera", "setup", "replication")
_PARTS = ("train", "val", "test")


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return the numbers of ``1,3,5-8``; ``P003`` is 3."""
    found: list[int] = []
    for word in value.split(",") if value else ():
        match = re.fullmatch(r"\s*[A-Za-z]?(\d{1,5})\s*(?:-\s*[A-Za-z]?(\d{1,5}))?\s*", word)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise click.BadParameter(f"{word!a}: expected numbers such as 1,3,5-8")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(found)


@click.command("split")
@choices.store()
@click.option("--name", default="own", help="What the split is called: smae eval --protocol NAME.")
@click.option("--by", type=click.Choice(GROUPS), help="Whole groups go to a part.")
@click.option("--test", default="", callback=_numbers, help="Groups that are tested on, for example 1,3,5-8.")
@click.option("--val", default="", callback=_numbers, help="Groups that choose among epochs (--select best_val).")
@click.option("--share", type=float, help="Share that is tested on, drawn by --seed: of each class, or of the groups.")
@click.option("--val-share", type=float, default=0.0, help="Share that chooses among epochs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the draw.")
@click.option("--file", type=choices.PATH, help="Lists of clips by part: .toml, .json, .csv or text.")
@click.option("--overwrite", is_flag=True, help="Replace a split of this name that was made before.")
@console.json_option
def command(store: str | None, **options: Any) -> None:
    """Give a STORE train and test parts of your own; the rest of it stays as it is.

    \b
    Examples:
      smae split mine.zarr --by subject --test 2
      smae split mine.zarr --name views --by camera --test 3 --val 2
      smae split mine.zarr --share 0.2 --seed 1
      smae split mine.zarr --name theirs --file lists.csv

    A file has a clip and its part on each line (S001C001P001R001A001,train), or lists in TOML or
    JSON: train = ["...", ...]. Clips in no list are in no part.
    """
    made = smae.split(store, **options)
    sizes = {part: len(getattr(made, part)) for part in _PARTS}

    def text() -> None:
        console.echo(f"{made.name}: {made.sizes()} clips")
        console.echo(f"next: smae pretrain --protocol {made.name}, smae eval --protocol {made.name}")

    console.result({"name": made.name, **sizes}, text)
