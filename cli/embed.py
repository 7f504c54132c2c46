"""``smae embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("embed")
@choices.store()
@click.option("--out", "to", required=True, type=click.Path(path_type=Path), help="The file to write: .npz or .zarr.")
@click.option("--encoder", type=click.Path(path_type=Path), help="A folder that smae export-encoder wrote.")
@click.option("--run", type=choices.RUN, help="A run or one of its checkpoints; the newest by default.")
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--overwrite", is_flag=True, help="Replace earlier features.")
@console.json_option
def command(store: str | None, to: Path, **options: Any) -> None:
    """Write a feature vector for each clip of a STORE: the mean over joints, time and bodies.

    The file holds features float32 [clips, width], name, label and classes, in store order.

    \b
    Examples:
      smae embed ntu.zarr --out features.npz
      smae embed mine.zarr --encoder skeletonmae-ntu60-xsub --out mine-features.zarr
    """
    features = smae.embed(store, to, **options)
    clips, width = features.x.shape
    console.result(
        {"path": str(to), "clips": clips, "width": width}, lambda: console.echo(f"{to}: {clips:,} clips x {width}")
    )
