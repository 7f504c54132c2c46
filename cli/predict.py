"""``smae predict``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import smae
from smae.tables import percent
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.eval.predict import Predictions


@click.command("predict")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--run", type=choices.RUN, help="The run whose head is used; the newest with a head by default.")
@click.option("--head", type=click.Path(path_type=Path), help="Folder of a head, in place of --run.")
@click.option("--probe", "mode", help="linear, finetune or transfer: which of the run's heads; finetune before linear.")
@click.option("--protocol", help="Protocol of the head; the run's own by default.")
@click.option("--source", help="Kind of raw data; that of the training data by default.")
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@console.json_option
def command(files: tuple[Path, ...], **options: Any) -> int:
    """Classify raw recordings (FILES) with a trained head.

    smae eval --probe linear or --probe finetune trains heads and keeps them in the run. Recordings are
    read, cleaned and cropped like the training data. A bad recording is an error (exit code 4), the
    one that prepare lists; among several it is listed, and the exit code is 3.

    \b
    Examples:
      smae predict mine/S001C001P001R001A001.skeleton
      smae predict mine/*.skeleton --run runs/skeletonmae-xsub-001 --probe finetune
    """
    predictions = smae.predict(files, **options)
    console.result(asdict(predictions), lambda: _text(predictions))
    return predictions.exit_code


def _text(predictions: Predictions) -> None:
    names, rows = predictions.names, []
    for one in predictions.found:
        others = [f"{names[label]} {percent(share)}" for label, share in one.first[1:3]]
        rows.append((one.path, names[one.label], percent(one.probability), ", ".join(others)))
    console.table(("recording", "class", "probability %", "then"), rows, title=predictions.head)
    for bad in predictions.quarantined:
        console.echo(f"  {bad}")
    for path in predictions.no_body:
        console.echo(f"  {path}: no body was recorded")
