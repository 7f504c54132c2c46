"""``smae export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("export")
@choices.store()
@click.option("--format", required=True, type=choices.FORMAT, help="ctrgcn, pyskl or hdf5.")
@click.option("--out", required=True, type=choices.PATH, help="The file to write.")
@click.option(
    "--protocol", type=choices.PROTOCOL, help="Split: needed for ctrgcn; the others write all that fit by default."
)
@click.option("--frames", type=click.IntRange(min=1), help="ctrgcn: pad to this length; the longest clip by default.")
@click.option(
    "--anyway", is_flag=True, help="Write even what readers of the format do not expect (exact mode, resampled clips)."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in the same format.")
@console.json_option
def command(store: str | None, out: Path, **options: Any) -> None:
    """Write a STORE in a format that other code reads.

    \b
    ctrgcn  .npz of x_train, y_train, x_test, y_test, as the public CTR-GCN scripts write it
    pyskl   pickle of splits and annotations, as pyskl and MMAction2 read it
    hdf5    the whole store as one file

    \b
    Examples:
      smae export ntu60.zarr --format ctrgcn --protocol xsub --out NTU60_CS.npz
      smae export ntu60.zarr --format pyskl --out ntu60.pkl
    """
    summary = smae.export(store, out, **options)

    def text() -> None:
        console.echo(f"{summary.path}: {summary.bytes / 1e6:,.1f} MB")
        for name, what in summary.contents.items():
            console.echo(f"  {name}: {what}")
        for note in summary.notes:
            console.echo(f"note: {note}")

    console.result({**asdict(summary), "path": str(summary.path)}, text)
