"""``smae synth``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from smae import api
from smae_cli import console


@click.command("synth")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), help="Other seeds, other people and noise; 0 by default.")
@click.option("--actions", type=click.IntRange(min=2), help="Kinds of action; 12 by default.")
@click.option("--subjects", type=click.IntRange(min=2), help="People; 8 by default.")
@click.option("--cameras", type=click.IntRange(1, 3), help="Views of each performance; 3 by default.")
@click.option(
    "--replications", type=click.IntRange(min=1), help="Performances of each action by each person; 2 by default."
)
@click.option("--overwrite", is_flag=True, help="Replace what stands at OUT.")
@console.json_option
def command(out: Path, **options: Any) -> None:
    """Write NTU-format raw recordings of a kinematic model into the folder OUT.

    \b
    Examples:
      smae synth ntu
      smae synth small --actions 2 --subjects 3 --cameras 1 --replications 1
    """
    given = {key: value for key, value in options.items() if value is not None}
    with console.progress("synth", unit="recordings", after=2) as update:
        summary = api.synthesise(out, **given, tell=update)
    value = {key: str(item) if isinstance(item, Path) else item for key, item in asdict(summary).items()}
    console.result(value, lambda: click.echo(f"{out}: {summary.files} recordings, {summary.frames} frames"))
