"""``smae convert``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import smae
from smae_cli import choices, console


@click.command("convert")
@choices.store()
@click.option(
    "--to",
    type=choices.LAYOUT,
    required=True,
    help="Layout: ntu25, kinect20, h36m17, coco17, mediapipe33, openpose25, azure32, or a .toml file.",
)
@click.option("--out", required=True, type=choices.PATH, help="Folder of the new store.")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@console.json_option
def command(store: str | None, to: str, out: Path, overwrite: bool) -> None:
    """Map a STORE to another joint layout, so that one encoder can read several sources.

    \b
    Examples:
      smae convert azure.zarr --to ntu25 --out azure-ntu25.zarr
      smae convert mine.zarr --to mine.toml --out mapped.zarr

    Joints are taken by name. Some that the store lacks follow from others, such as the neck from
    shoulders and head; the rest is marked as missing.
    """
    made = smae.convert(smae.find_store(store), to=to, out=out, overwrite=overwrite)

    def text() -> None:
        console.echo(f"{made.store}: {made.clips:,} clips in layout {to}, fingerprint {made.fingerprint}")
        if made.interpolated:
            console.echo(f"interpolated: {', '.join(made.interpolated)}")
        if made.missing:
            console.echo(f"missing, marked so: {', '.join(made.missing)}")

    console.result({**asdict(made), "store": str(made.store)}, text)
