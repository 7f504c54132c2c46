"""``smae recipes``."""

from __future__ import annotations

from dataclasses import asdict

import click

from smae_cli import console


@click.command("recipes")
@click.argument("name", required=False)
@console.json_option
def command(name: str | None) -> None:
    """List the packaged recipes, for smae pretrain --recipe NAME: what for, the figure aimed at, the cost to expect.

    With the NAME of one (or a .toml file) print every setting of it, each with what it is: a recipe of your own to
    begin with. Every setting can be given to smae pretrain --set, too.

    \b
    Examples:
      smae recipes
      smae recipes cpu
      smae recipes base > mine.toml
    """
    if name is not None:
        _show(name)
        return
    from smae.train.config import recipes

    known = recipes()

    def text() -> None:
        console.table(("recipe", "what for"), [(name, recipe.about) for name, recipe in known.items()])
        aimed = [(name, one.aims, one.cost, one.ran) for name, one in known.items() if one.aims]
        console.table(("recipe", "published figure", "cost on one GPU", "here"), aimed)

    console.result({name: asdict(recipe) for name, recipe in known.items()}, text)


def _show(name: str) -> None:
    from smae.config import as_toml
    from smae.train.config import resolve

    config = resolve(name)
    console.result(config.model_dump(mode="json"), lambda: click.echo(as_toml(config), nl=False))
