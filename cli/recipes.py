"""``smae recipes``."""

from __future__ import annotations

from dataclasses import asdict

import click

from smae_cli import console


@click.command("recipes")
@console.json_option
def command() -> None:
    """List the packaged recipes, for smae pretrain --recipe NAME: what for, the figure aimed at, the cost to expect.

    \b
    Examples:
      smae recipes
      smae recipes --json
    """
    from smae.train.config import recipes

    known = recipes()

    def text() -> None:
        console.table(("recipe", "what for"), [(name, recipe.about) for name, recipe in known.items()])
        aimed = [(name, one.aims, one.cost, one.ran) for name, one in known.items() if one.aims]
        console.table(("recipe", "published figure", "cost on one GPU", "here"), aimed)

    console.result({name: asdict(recipe) for name, recipe in known.items()}, text)
