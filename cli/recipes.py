"""``smae recipes``."""

from __future__ import annotations

from dataclasses import asdict

import click

from smae_cli import choices, console


@click.command("recipes")
@click.argument("name", required=False, type=choices.RECIPE)
@console.json_option
def command(name: str | None) -> None:
    """List the packaged recipes, for smae pretrain --recipe NAME: purpose, published figure, expected cost.

    With a NAME (or a .toml file) print all its settings with their descriptions, as a start for
    your own recipe. Every setting can also be given to smae pretrain --set.

    \b
    Examples:
      smae recipes
      smae recipes cpu
      smae recipes base > mine.toml
    """
    if name is not None:
        _show(name)
        return
    from smae.config import recipes
    from smae.train.run_folder import packaged

    known = recipes()

    def text() -> None:
        console.table(("recipe", "purpose"), [(name, recipe.about) for name, recipe in known.items()])
        published = [(name, recipe.aims, recipe.cost, recipe.ran) for name, recipe in known.items() if recipe.aims]
        console.table(("recipe", "published figure", "cost on one GPU", "here"), published)
        if weights := packaged():
            console.echo(f"packaged weights, for --encoder, --init and predict --head: {', '.join(weights)}")

    console.result({name: asdict(recipe) for name, recipe in known.items()}, text)


def _show(name: str) -> None:
    from smae.config import as_toml
    from smae.train.config import resolve

    config = resolve(name)
    console.result(config.model_dump(mode="json"), lambda: console.echo(as_toml(config), nl=False))
