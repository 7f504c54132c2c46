"""``smae report``."""

from __future__ import annotations

from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=choices.RUN)
@click.option(
    "--out", type=choices.PATH, help="File to write; <run>/report.html by default, comparison.html for several runs."
)
@click.option("--data", type=choices.STORE, help="Store of a single run; the one it was trained on by default.")
@click.option("--tables", type=choices.PATH, help="Folder for its tables, as CSV and LaTeX.")
@click.option("--device", type=choices.DEVICE, default="auto", help="Where features are computed: auto, cpu, cuda.")
@console.json_option
def command(runs: tuple[Any, ...], **options: Any) -> None:
    """Write one HTML page of a RUN (the newest by default), or one that compares several.

    Of one run: training curves, results beside baselines, confusion matrices, a map of features,
    masked reconstruction, preparation of the data, settings. Of several: their curves, results
    evaluated under the same settings (others are shown apart), means over pre-training seeds, and
    settings that differ. An earlier page is replaced, any other file is refused.

    \b
    Examples:
      smae report
      smae report runs/skeletonmae-xsub-001 --out first.html
      smae report runs/first runs/second --out both.html --tables both-tables
    """
    runs = runs or (choices.newest(None),)
    path = smae.report(*runs, **options)
    console.result({"page": str(path)}, lambda: console.echo(f"page: {path.absolute()}"))
