"""``smae import-weights``."""

from __future__ import annotations

from pathlib import Path

import click

import smae
from smae_cli import choices, console

FORMATS = ("mamp", "macdiff", "stars", "slim", "sttformer", "ctrgcn")


@click.command("import-weights")
@click.argument("file", type=choices.PATH)
@click.option("--format", type=click.Choice(FORMATS), required=True, help="Whose checkpoint it is.")
@click.option("--out", required=True, type=choices.PATH, help="The folder to write.")
@click.option(
    "--frames",
    type=click.IntRange(1, 4096),
    help="Frames of the clips that it shall take; those it was published for by default.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier exported encoder.")
@console.json_option
def command(file: Path, out: Path, **options: object) -> None:
    """Write the encoder of a published checkpoint, FILE, as a folder like export-encoder's.

    FILE is safetensors, a torch checkpoint, or a folder with model.safetensors. Nothing in it is
    executed. Tensors that are missing or unknown are named.

    \b
    Examples:
      smae import-weights checkpoint-399.pth --format mamp --out mamp
      smae import-weights SLiM/ntu60_xsub --format slim --out slim
    """
    if not file.exists():
        raise click.UsageError(f"{file}: no such file: give a checkpoint, or its folder")
    made = smae.import_weights(file, out, **options)  # type: ignore[arg-type]

    def text() -> None:
        name = made.encoder["name"]
        console.echo(f"encoder: {made.folder.absolute()} ({name}{', with a decoder' if made.decoder else ''})")
        console.echo(f"next: smae eval --encoder {made.folder} --data STORE --probe linear")

    value = {"encoder": made.encoder, "decoder": made.decoder, "left_out": made.left_out, "notes": made.notes}
    console.result({"folder": str(made.folder), **value}, text)
