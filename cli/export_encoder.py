"""``smae export-encoder``."""

from __future__ import annotations

from pathlib import Path

import click

import smae
from smae_cli import choices, console


@click.command("export-encoder")
@choices.run()
@click.option("--out", "to", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier exported encoder.")
@console.json_option
def command(run: Path | None, to: Path, overwrite: bool) -> None:
    """Export the encoder of a RUN (or of one of its checkpoints; the newest run by default) as a folder.

    It holds model.safetensors, config.json and README.md, the model card: training data, recipe, results,
    and a note on licences. smae.load_encoder(FOLDER) loads the encoder.

    \b
    Examples:
      smae export-encoder --out encoder
      smae export-encoder runs/skeletonmae-xsub-001 --out skeletonmae-ntu60-xsub
    """
    path = smae.export_encoder(run, to, overwrite=overwrite)

    def text() -> None:
        console.echo(f"encoder: {path.absolute()}")
        console.echo(f"next: smae embed STORE --encoder {path} --out features.npz")

    console.result({"encoder": str(path), "files": sorted(file.name for file in path.iterdir())}, text)
