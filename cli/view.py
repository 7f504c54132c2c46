"""``smae view``."""

from __future__ import annotations

from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("view")
@click.argument("where", required=False, type=choices.STORE)
@click.option("--clip", metavar="NAME", type=choices.CLIP, help="The clip to show; a store's first one by default.")
@click.option("--index", metavar="I", type=click.IntRange(min=0), help="The clip's number in the store, from 0.")
@click.option(
    "--out",
    type=choices.PATH,
    help="File to write: .html; .gif; .png, .svg or .pdf, a strip of frames; .rrd (Rerun). <clip>.html by default.",
)
@click.option("--raw", type=choices.PATH, help="With a store: its raw folder or zip; raw beside denoised.")
@click.option(
    "--run",
    type=choices.RUN,
    help="With a store: a run; original, masked and reconstructed. With a recording: a run whose head labels it.",
)
@click.option("--source", type=choices.SOURCE, default="ntu", help="Kind of raw data.")
@click.option("--layout", type=choices.LAYOUT, help="Whose joints keypoints hold: mediapipe33, h36m17, ...")
@console.json_option
def command(where: str | None, **options: Any) -> None:
    """Draw one clip as an interactive 3D page, a GIF, a strip of frames (PNG, SVG, PDF) or a Rerun recording.

    WHERE is a store (by default the one in the current folder), a raw file, or a folder or zip of
    raw files. A raw file is shown as recorded and denoised, side by side. An earlier file of the
    same format is replaced, any other is refused.

    \b
    Examples:
      smae view
      smae view ntu.zarr --clip S001C002P003R002A013 --out tearing.gif
      smae view ntu.zarr --index 7 --raw ntu/
      smae view --run runs/skeletonmae-xsub-001 --index 7
      smae view S001C002P003R002A013.skeleton --out strip.pdf

    Exit code 4 if the recording is bad.
    """
    path = smae.view(where, **options)
    console.result({"file": str(path)}, lambda: console.echo(f"file: {path.absolute()}"))
