"""``smae report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from smae import api
from smae_cli import console


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where to write; <run>/report.html by default, comparison.html here for several runs.",
)
@click.option("--data", help="Store of a single run; the one it was trained on by default.")
@click.option("--device", default="auto", show_default=True, help="Where features are computed: auto, cpu, cuda.")
@console.json_option
def command(runs: tuple[Path, ...], **options: Any) -> None:
    """Write one self-contained HTML page of a RUN (the newest by default), or of several, side by side.

    Of one run: curves, results beside their baselines, confusions, a map of features, what is rebuilt and how well,
    what was dropped in preparing, settings. Of several: curves over each other, results that were judged alike, and
    the settings that differ.

    \b
    Examples:
      smae report
      smae report runs/skeletonmae-xsub-001 --out first.html
      smae report runs/first runs/second --out both.html
    """
    with console.progress("report", unit="clips", after=2) as update:
        path = api.report(
            *runs, **options, say=console.say, tell=lambda what, done, total: update(done, total, what=what)
        )
    console.result({"page": str(path)}, lambda: click.echo(f"page: {path.absolute()}"))
