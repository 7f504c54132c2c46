"""``smae embed``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("embed")
@choices.store()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write: .npz, .zarr, .csv or .parquet.",
)
@click.option("--encoder", type=choices.WEIGHTS, help="A folder that smae export-encoder wrote; or open-small.")
@click.option("--run", type=choices.RUN, help="A run or checkpoint; the newest, or else open-small, by default.")
@click.option(
    "--layout",
    type=choices.LAYOUT,
    help="Of keypoints: whose joints they hold. Of a store: map its joints to these as they are read.",
)
@click.option("--source", type=choices.SOURCE, help="Kind of raw recordings; that of the training data by default.")
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--overwrite", is_flag=True, help="Replace earlier features.")
@console.json_option
def command(store: str | None, out: Path, run: Path | None, **options: Any) -> int:
    """Write a feature vector for each clip of a STORE: the mean over joints, time and bodies.

    STORE may also be raw recordings: a file, or a folder or zip of them, prepared like the training
    data. The file holds features float32 [clips, width], name, label and classes, in store order; a
    table (.csv, .parquet) has a row a clip: name, label, class, f0, f1, ... In a folder without runs
    the encoder is open-small, which comes with smae: it takes the joints of any known layout.

    \b
    Examples:
      smae embed ntu.zarr --out features.npz
      smae embed mine.zarr --encoder skeletonmae-ntu60-xsub --out mine-features.zarr
      smae embed mine/ --out features.csv
      smae embed mine.skeleton --out mine.csv --encoder open-small

    Exit code 3 if some recordings are bad, 4 if all are.
    """
    from smae.config import check_table

    check_table(out)
    smae.find_store(store)
    if options["encoder"] is None:
        run = choices.newest(run, packaged=True)
    features = smae.embed(store, out, run=run, **options)
    clips, width = features.x.shape
    bad = {"quarantined": [asdict(one) for one in features.quarantined], "no_body": features.no_body}

    def text() -> None:
        console.echo(f"{out}: {clips:,} clips x {width}")
        for one in features.quarantined:
            console.echo(f"  {one}")
        for path in features.no_body:
            console.echo(f"  {path}: no body was recorded")

    console.result({"path": str(out), "clips": clips, "width": width, **bad}, text)
    return features.exit_code
