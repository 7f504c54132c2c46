"""Commands on trained encoders: ``smae export-encoder``, ``import-weights``, ``embed``, ``predict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import smae
from smae.errors import EXIT_DONE
from smae.tables import percent
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.eval.follow import WindowPrediction
    from smae.eval.predict import Prediction, Predictions


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
@click.option("--out", required=True, type=choices.PATH, help="The file to write: .npz, .zarr, .csv or .parquet.")
@click.option("--encoder", type=choices.WEIGHTS, help="A folder that smae export-encoder wrote; or open-small.")
@click.option("--run", type=choices.RUN, help="A run or checkpoint; the newest, or else open-small, by default.")
@click.option(
    "--layout",
    type=choices.LAYOUT,
    help="Of keypoints: whose joints they hold. Of a store: map its joints to these while reading.",
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


@click.command("predict")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--run", type=choices.RUN, help="The run whose head is used; the newest with a head by default, or else open-small."
)
@click.option("--head", type=choices.WEIGHTS, help="Folder of a head, or open-small, in place of --run.")
@click.option("--probe", type=choices.HEAD, help="Whose head: linear, finetune or transfer; finetune before linear.")
@click.option("--protocol", help="Protocol of the head; the run's own by default.")
@click.option("--source", type=choices.SOURCE, help="Kind of raw data; that of the training data by default.")
@click.option("--layout", type=choices.LAYOUT, help="Whose joints keypoints hold: mediapipe33, h36m17, ...")
@click.option(
    "--stride",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between two windows of a long recording; 1 by default.",
)
@click.option("--follow", "following", is_flag=True, help="FILE is still being written: classify it as it grows.")
@click.option(
    "--idle",
    type=click.FloatRange(min=0, min_open=True),
    help="With --follow: end after so many seconds without a new frame; otherwise Ctrl-C ends it.",
)
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@console.json_option
def predict_command(files: tuple[Path, ...], following: bool, idle: float | None, **options: Any) -> int:
    """Classify raw recordings (FILES, or folders and zips of them) with a trained head.

    smae eval --probe linear or --probe finetune trains heads and keeps them in the run. Recordings are
    read, cleaned and cropped like the training data. A bad recording is an error (exit code 4), the
    one that prepare lists; among several it is listed, and the exit code is 3. One longer than every
    clip that the head was trained on is classified second by second. In a folder without runs the
    classes are those of open-small, which comes with smae; it says which.

    With --follow, FILE is one .skeleton file that grows, there already or not: a line (with --json an
    object a line) for each window, as soon as its last frame is written.

    \b
    Examples:
      smae predict mine/S001C001P001R001A001.skeleton
      smae predict mine/ --run runs/skeletonmae-xsub-001 --probe finetune
      smae predict take.json --layout mediapipe33
      smae predict --follow live.skeleton --stride 0.5
    """
    if not (options["head"] or options["probe"] or options["protocol"]):
        options["run"] = choices.newest(options["run"], needs="head", packaged=True)
    if following:
        return _follow(files, idle, options)
    if idle is not None:
        raise click.UsageError("--idle goes with --follow: add it, or leave --idle out")
    from smae.data.raw.recordings import check_there

    for file in files:
        check_there(file)
    predictions = smae.predict(files, **options)
    console.result(asdict(predictions), lambda: _show_predictions(predictions))
    return predictions.exit_code


def _follow(files: tuple[Path, ...], idle: float | None, options: dict[str, Any]) -> int:
    """Print the answers of a growing recording as they come."""
    known = [path for path in files if path.suffix.lower() == ".skeleton"]
    if len(files) != 1 or not known or options.pop("source") not in (None, "ntu") or options.pop("layout"):
        raise click.UsageError("--follow takes one .skeleton file, and neither --source nor --layout: leave them out")
    for one in smae.follow(files[0], idle=idle, **options):
        console.line(asdict(one), _window_text(one))
    return EXIT_DONE


def _window_text(one: WindowPrediction) -> str:
    what = "no body was recorded"
    if one.label is not None:
        what = ", ".join(f"{label} {percent(share)} %" for label, share in one.first[1:3])
        name = one.label if one.name == one.label else f"{one.label} {one.name}"
        what = f"{name}  {percent(one.probability)} %  then {what}"
    return f"{one.seconds[0]:7.1f} to {one.seconds[1]:7.1f} s  {what}"


def _track(one: Prediction, names: Mapping[str, str]) -> None:
    """Print the label track of a long recording, equal seconds in one line."""
    if one.track:
        console.echo(f"{one.path}, by second")
    for label, group in groupby(one.track, key=lambda second: second.label):
        seconds = list(group)
        mean = sum(second.probability for second in seconds) / len(seconds)
        what = "no body was recorded" if label is None else f"{names[label]}  {percent(mean)} %"
        console.echo(f"  {seconds[0].second:5} to {seconds[-1].second + 1:5} s  {what}")


def _show_predictions(predictions: Predictions) -> None:
    console.show(predictions)
    for one in predictions.found:
        _track(one, predictions.names)
    for bad in predictions.quarantined:
        console.echo(f"  {bad}")
    for path in predictions.no_body:
        console.echo(f"  {path}: no body was recorded")
