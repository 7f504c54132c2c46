"""``smae ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("ensemble")
@click.argument("runs", nargs=-1, required=True, type=choices.RUN)
@click.option("--protocol", type=choices.PROTOCOL, help="Split of the results; the first run's own by default.")
@click.option("--probe", type=choices.ONE_PROBE, default="finetune", help="Probe whose results are averaged.")
@click.option("--weight", "weights", type=float, multiple=True, help="One for each run, in order; equal by default.")
@console.json_option
def command(runs: tuple[Path, ...], **options: Any) -> None:
    """Evaluate an ensemble of RUNS: the mean of their class probabilities, from the logits of smae eval.

    \b
    Examples:
      smae pretrain --out runs/joint
      smae pretrain --out runs/bone --set augment.stream=bone
      smae pretrain --out runs/motion --set augment.stream=motion
      smae eval --run runs/joint --probe linear     (and the other two)
      smae ensemble runs/joint runs/bone runs/motion --probe linear
    """
    found = smae.ensemble(runs, **options)
    console.result(
        {"protocol": found.protocol, "mode": found.mode, "rows": [row.as_json() for row in found.rows]},
        lambda: console.show(found),
    )
