"""``smae report``."""

from __future__ import annotations

from pathlib import Path

import click

from smae import api
from smae_cli import console


@click.command("report")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; <run>/report.html by default.")
@click.option("--data", help="Store; the one the run was trained on by default.")
@console.json_option
def command(run: Path | None, out: Path | None, data: str | None) -> None:
    """Write one self-contained HTML page of a RUN (the newest by default).

    \b
    Examples:
      smae report
      smae report runs/skeletonmae-xsub-001 --out first.html
    """
    path = api.report(run, out=out, data=data, say=console.say)
    console.result({"page": str(path)}, lambda: click.echo(f"page: {path.absolute()}"))
