"""``smae recipes``."""

from __future__ import annotations

import click

from smae_cli import console


@click.command("recipes")
@console.json_option
def command() -> None:
    """List the packaged recipes, for smae pretrain --recipe NAME.

    \b
    Examples:
      smae recipes
      smae recipes --json
    """
    from smae.train.config import recipes

    known = recipes()
    console.result(dict(known), lambda: console.table(("recipe", "what for"), list(known.items())))
