"""``smae status``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

import smae
from smae.tables import percent
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.data.prepare.workspace import Unfinished
    from smae.eval.status import RunState


@click.command("status")
@click.argument("folder", required=False, default=".", type=choices.PATH)
@console.json_option
def command(folder: Path) -> None:
    """List the runs of FOLDER (this one by default), and preparations that were not finished.

    \b
    Examples:
      smae status
      smae status ~/experiments --json
    """
    runs, unfinished = smae.status(folder)
    value = {
        "runs": [{**asdict(run), "path": str(run.path)} for run in runs],
        "unfinished": [{**asdict(work), "out": str(work.out)} for work in unfinished],
    }
    console.result(value, lambda: _text(runs, unfinished))


def _text(runs: list[RunState], unfinished: list[Unfinished]) -> None:
    from smae.eval.results import RULE

    if not runs and not unfinished:
        console.echo("no runs here, nothing unfinished")
    if runs:
        console.table(("run", "state", "step", "loss", "results, top-1 %"), [_row(run) for run in runs])
    for run in runs:
        if run.problem:
            console.echo(f"  {run.problem}")
    if any(run.scores for run in runs):
        console.echo(f"results, of several: {RULE}")
    for run in runs:
        if run.state == "no checkpoint":
            console.echo(f"{run.path}: stopped before its first checkpoint; other commands leave it out")
    resumable = [run for run in runs if run.resumable]
    if resumable:
        console.echo(f"continue: smae pretrain --resume --out {resumable[-1].path}")
    for work in unfinished:
        console.echo(f"{work.out}: preparing, {work.state}; {work.done:,} of {work.total:,} samples are done")
    if any(work.state == "interrupted" for work in unfinished):
        console.echo("continue: the same smae prepare, with --resume")


def _row(run: RunState) -> tuple[str, ...]:
    state, loss, step = run.state, "-", f"{run.step:,}"
    if run.pid:
        state += f", pid {run.pid} on {run.host}"
    if run.loss is not None:
        loss = f"{run.loss:.4f}"
    if run.steps:
        step += f" of {run.steps:,}"
    lines = []
    for one in run.scores:
        notes = "; ".join([*one.notes, *[f"{one.others} more"] * (one.others > 0)])
        lines.append(f"{one.protocol} {one.mode} {percent(one.top1)}{f' ({notes})' if notes else ''}")
    scores = "\n".join(lines)
    return str(run.path), state, step, loss, scores or "-"
