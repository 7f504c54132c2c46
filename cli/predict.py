"""``smae predict``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smae import api
from smae_cli import console

if TYPE_CHECKING:
    from smae.eval.predict import Predictions


@click.command("predict")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="The run whose head judges; the newest by default.")
@click.option("--head", type=click.Path(path_type=Path), help="A head's own folder, in place of --run.")
@click.option("--mode", help="linear, finetune or transfer: which of the run's heads; finetune before linear.")
@click.option("--protocol", help="The protocol whose head is taken; the run's own by default.")
@click.option("--source", help="Kind of raw data; the one that was trained on by default.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@console.json_option
def command(files: tuple[Path, ...], **options: Any) -> int:
    """Tell what raw recordings (FILES) show: the most probable classes of a trained head.

    smae eval --mode linear or --mode finetune trains heads and keeps them in the run. Recordings are read, cleaned and
    cropped as those that the head was trained on. A bad recording ends with the error that prepare lists (exit code
    4); among several it is listed, and the exit code is 3.

    \b
    Examples:
      smae predict mine/S001C001P001R001A001.skeleton
      smae predict mine/*.skeleton --run runs/skeletonmae-xsub-001 --mode finetune
    """
    with console.progress("predict", unit="files", after=2) as update:
        told = api.predict(files, **options, tell=update)
    console.result(asdict(told), lambda: _text(told))
    return told.exit_code


def _text(told: Predictions) -> None:
    rows = [
        (
            one.path,
            told.names[one.label],
            console.percent(one.probability),
            ", ".join(f"{told.names[label]} {console.percent(share)}" for label, share in one.first[1:3]),
        )
        for one in told.found
    ]
    console.table(("recording", "class", "probability %", "then"), rows, title=told.head)
    for bad in told.quarantined:
        click.echo(f"  {bad}")
    for path in told.nobody:
        click.echo(f"  {path}: nobody was seen")
