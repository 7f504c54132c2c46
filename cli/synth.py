"""``smae synth``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import smae
from smae.data.synthetic import LIMITS, SynthSettings
from smae_cli import choices, console


@click.command("synth")
@click.argument("out", type=choices.PATH)
@click.option(
    "--seed",
    type=click.IntRange(0, LIMITS.seed),
    default=SynthSettings.seed,
    help="Other seeds, other people and noise.",
)
@click.option(
    "--actions", type=click.IntRange(2, LIMITS.actions), default=SynthSettings.actions, help="Kinds of action."
)
@click.option("--subjects", type=click.IntRange(2, LIMITS.subjects), default=SynthSettings.subjects, help="People.")
@click.option(
    "--cameras",
    type=click.IntRange(1, LIMITS.cameras),
    default=SynthSettings.cameras,
    help="Views of each performance.",
)
@click.option(
    "--replications",
    type=click.IntRange(1, LIMITS.replications),
    default=SynthSettings.replications,
    help="Performances of each action by each person.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier folder of synthetic recordings.")
@console.json_option
def command(out: Path, **options: Any) -> None:
    """Write NTU-format raw recordings of a kinematic model into the folder OUT.

    \b
    Examples:
      smae synth ntu
      smae synth small --actions 2 --subjects 3 --cameras 1 --replications 1
    """
    summary = smae.synthesise(out, **options)
    value = asdict(summary) | {"out": str(summary.out)}
    console.result(value, lambda: console.echo(f"{out}: {summary.files} recordings, {summary.frames} frames"))
