"""``smae status``, ``smae report``: what runs are there, and the page of a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
def status_command(folder: Path) -> None:
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
    console.result(value, lambda: _show_status(runs, unfinished))


def _show_status(runs: list[RunState], unfinished: list[Unfinished]) -> None:
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


@click.command("report")
@choices.run("runs", several=True)
@click.option(
    "--out", type=choices.PATH, help="File to write; <run>/report.html by default, comparison.html for several runs."
)
@click.option("--data", type=choices.STORE, help="Store of a single run; the one it was trained on by default.")
@click.option("--tables", type=choices.PATH, help="Folder for its tables, as CSV and LaTeX.")
@click.option("--device", type=choices.DEVICE, default="auto", help="Where features are computed: auto, cpu, cuda.")
@console.json_option
def report_command(runs: tuple[Any, ...] | None, **options: Any) -> None:
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
    # Before smae.report, which imports torch.
    runs = runs or (choices.newest(None),)
    path = smae.report(*runs, **options)
    console.result({"page": str(path)}, lambda: console.echo(f"page: {path.absolute()}"))
