"""``smae export-encoder``."""

from __future__ import annotations

from pathlib import Path

import click

from smae import api
from smae_cli import console


@click.command("export-encoder")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace what is there already.")
@console.json_option
def command(run: Path | None, to: Path, overwrite: bool) -> None:
    """Write the encoder of a RUN (or of one of its checkpoints; the newest run by default) as a folder.

    It holds model.safetensors, config.json and README.md, the model card: what the weights were trained on, by which
    recipe, what they reach, and a note on licences. smae.load_encoder(FOLDER) gives the encoder back.

    \b
    Examples:
      smae export-encoder --to encoder
      smae export-encoder runs/skeletonmae-xsub-001 --to skeletonmae-ntu60-xsub
    """
    path = api.export_encoder(run, to, overwrite=overwrite, say=console.say)

    def text() -> None:
        click.echo(f"encoder: {path.absolute()}")
        click.echo(f"next: smae embed STORE --encoder {path} --to features.npz")

    console.result({"encoder": str(path), "files": sorted(file.name for file in path.iterdir())}, text)
