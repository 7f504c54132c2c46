"""``smae pretrain``, and ``smae recipes``: what it can be started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("pretrain")
@choices.store("data", several=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run; runs/<objective>-<protocol>-NNN by default."
)
@click.option(
    "--recipe",
    type=choices.RECIPE,
    default="auto",
    help="Packaged recipe, a .toml file, or auto: that of the data set on a GPU, a small one without.",
)
@click.option(
    "--protocol",
    type=choices.PROTOCOL,
    help="Split whose train part is used; xsub by default. Of several stores also xview,xsub.",
)
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="Share of a store in the clips of an epoch, one for each --data; all clips by default.",
)
@click.option(
    "--layout",
    type=choices.LAYOUT,
    help="Map the joints of all stores to this layout; by default that of --init or the first store.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Passes over the train clips; lifts a recipe's limit of steps."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights, order, crops and masks.")
@click.option(
    "--init",
    type=choices.WEIGHTS,
    help="Run, checkpoint or exported encoder whose weights the encoder starts from; or open-small.",
)
@choices.settings("Any setting, for example masking.keep_joints=0.5.")
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--wandb", is_flag=True, help="Curves for Weights & Biases too: offline, unless WANDB_MODE says otherwise."
)
@click.option("--resume", is_flag=True, help="Continue the run at --out, or the newest one; start if there is none.")
@console.json_option
def pretrain_command(sets: Sequence[str], shares: Sequence[float], **options: Any) -> None:
    """Pre-train an encoder without labels, on the train part of a protocol.

    \b
    Examples:
      smae pretrain
      smae pretrain --data ntu.zarr --epochs 100 --out runs/first
      smae pretrain --recipe skeletonmae-cpu --set masking.keep_frames=1
      smae pretrain --set objective.name=mamp --set masking.name=motion-aware
      smae pretrain --data nw-ucla.zarr --data prmd.zarr --share 0.5 --share 0.5
      smae pretrain --resume

    Ctrl-C finishes the current step, saves, and exits with 130; --resume continues exactly there.
    """
    from smae.config import check_settings, merge, parse_sets

    settings = parse_sets(sets)
    if shares:
        settings = merge(settings, {"train": {"shares": list(shares)}})
    if not options["resume"]:
        # A run has its own settings, which only it knows.
        check_settings(options["recipe"], settings)
        if len(options["data"] or ()) < 2:
            opened = smae.open_store(*(options["data"] or ()))
            if options["protocol"]:
                opened.training_split(options["protocol"])
    result = smae.pretrain(settings=settings, **options)

    def text() -> None:
        console.echo(f"{result.run.path}: {result.steps} steps, loss {result.loss:.4f}")
        protocol = result.run.describe()["config"]["protocol"]
        stores = result.run.stores()
        if len(stores) > 1:
            console.echo(f"next: smae eval --run {result.run.path} --data {stores[0]['path']}")
        elif result.test_clips:
            console.echo(f"next: smae eval --run {result.run.path} --protocol {protocol}")
        else:
            console.echo("next: smae split gives the store a test part, which smae eval needs")

    console.result({"run": str(result.run.path), "steps": result.steps, "loss": result.loss}, text)


@click.command("recipes")
@click.argument("name", required=False, type=choices.RECIPE)
@console.json_option
def recipes_command(name: str | None) -> None:
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
        _show_recipe(name)
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


def _show_recipe(name: str) -> None:
    from smae.config import as_toml
    from smae.train.config import resolve

    config = resolve(name)
    console.result(config.model_dump(mode="json"), lambda: console.echo(as_toml(config), nl=False))
