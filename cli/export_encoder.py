"""``smae export-encoder``."""

from __future__ import annotations

from pathlib import Path

import click

import smae
from smae_cli import choices, console


@click.command("export-encoder")
@choices.run()
@click.option("--out", required=True, type=choices.PATH, help="The folder or file to write.")
@click.option(
    "--format",
    type=click.Choice(["folder", "onnx", "torch-export"]),
    default="folder",
    help="folder, or the encoder as one graph: onnx (.onnx), torch-export (.pt2).",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier exported encoder.")
@console.json_option
def command(run: Path | None, out: Path, format: str, overwrite: bool) -> None:
    """Export the encoder of a RUN (or of one of its checkpoints; the newest run by default) as a folder.

    It holds model.safetensors, config.json and README.md, the model card: training data, recipe,
    results, and a note on licences. smae.load_encoder(FOLDER) loads the encoder.

    A graph (--format onnx or torch-export) takes cleaned clips and needs no smae to run; RUN may
    then also be such a folder, or a head of smae eval (runs/x/heads/NAME), which gives a
    classifier. It is compared with the PyTorch module before it is written.

    \b
    Examples:
      smae export-encoder --out encoder
      smae export-encoder runs/skeletonmae-xsub-001 --out skeletonmae-ntu60-xsub
      smae export-encoder encoder --format onnx --out encoder.onnx
    """
    run = choices.newest(run)
    if format == "folder":
        path = smae.export_encoder(run, out, overwrite=overwrite)
    else:
        path = smae.export_program(run, out, format=format, overwrite=overwrite)

    def text() -> None:
        console.echo(f"encoder: {path.absolute()}")
        if format == "folder":
            console.echo(f"next: smae embed STORE --encoder {path} --out features.npz")

    files = sorted(file.name for file in path.iterdir()) if format == "folder" else [path.name]
    console.result({"encoder": str(path), "files": files}, text)
