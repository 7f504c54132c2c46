"""``smae export-encoder``, ``import-weights``, ``embed``: encoders as folders, and their features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

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
def export_encoder_command(run: Path | None, out: Path, format: str, overwrite: bool) -> None:
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
def import_weights_command(file: Path, out: Path, **options: object) -> None:
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
def embed_command(store: str | None, out: Path, run: Path | None, **options: Any) -> int:
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
