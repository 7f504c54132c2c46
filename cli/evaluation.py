"""``smae eval``, ``smae ensemble``: evaluate one run, or several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import choices, console


@click.command("eval")
@choices.store("data")
@click.option(
    "--protocol",
    type=choices.PROTOCOL,
    help="xsub, xview, xset, or the full name: ntu60-xsub, ntu120-xset, ...; the run's own by default.",
)
@click.option(
    "--probe",
    "modes",
    multiple=True,
    type=choices.PROBE,
    help="linear, knn, finetune, semi (semi-1, -2, -5, -10), scratch, transfer, or all but the last; "
    "repeatable. linear and knn by default.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Number of evaluations of each.")
@click.option(
    "--select",
    multiple=True,
    type=click.Choice(["best_val", "best_test"]),
    help="Score another epoch too: the best on held-out training subjects, or (labelled as such) on test.",
)
@click.option("--run", type=choices.RUN, help="A run's folder or one of its checkpoints; the newest run by default.")
@click.option(
    "--layout",
    type=choices.LAYOUT,
    help="Map the joints of --data to this layout as they are read: ntu25, kinect20, ...",
)
@click.option(
    "--encoder",
    type=choices.WEIGHTS,
    help="A folder that smae export-encoder wrote, in place of a run, which gets the records; or open-small.",
)
@choices.settings("A probe's setting, for example linear.epochs=50.")
@click.option("--resume", is_flag=True, help="Go on after an interrupt, as without it.")
@click.option("--again", is_flag=True, help="Evaluate anew what is done; both records stay.")
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    help="Of the encoder's products; bf16 is faster where the device has it, and its results are others.",
)
@console.json_option
def eval_command(modes: Sequence[str], sets: Sequence[str], resume: bool, **options: Any) -> None:
    """Evaluate a pre-trained encoder on the test part of a protocol.

    Each result has its baselines: chance, the most frequent class, a linear classifier on raw
    coordinates, and the same probe on a randomly initialised encoder. Nothing is selected on test,
    except by --select best_test. Each probe and seed is written when it is done, and not evaluated
    again: after an interrupt, run the same command again.

    \b
    Examples:
      smae eval --protocol xsub
      smae eval --probe knn --run runs/skeletonmae-xsub-001
      smae eval --probe finetune --set finetune.epochs=20
      smae eval --protocol xsub --probe all --seeds 3
      smae eval --probe transfer --data pku.zarr --protocol xsub
      smae eval --encoder skeletonmae-ntu60-xsub --data ntu.zarr --protocol xview
    """
    from smae.config import check_probe_settings, parse_sets

    if resume and options["again"]:
        raise click.UsageError("--resume keeps what is done, --again evaluates it anew: leave one out")
    if modes:
        options["probes"] = modes
    settings = parse_sets(sets)
    check_probe_settings(settings, modes or ("linear", "knn"))
    if options["encoder"] is None:
        options["run"] = choices.newest(options["run"])
    choices.check_protocol(**{key: options[key] for key in ("data", "run", "protocol", "layout")})
    run, evaluation = smae.evaluate(**options, settings=settings)

    def text() -> None:
        console.show(evaluation, note=f", {run.path}")
        for words in dict.fromkeys(note for one in evaluation.results if not one.current for note in one.notes):
            console.echo(f"note: {words}")
        for words in evaluation.warnings:
            console.echo(f"careful: {words}")
        console.echo(f"records and confusion matrices: {run.results}")
        if options["encoder"] is None:
            console.echo("next: smae report")

    value = {
        "run": str(run.path),
        "protocol": evaluation.protocol,
        "store_mode": evaluation.store_mode,
        "rows": [row.as_json() for row in evaluation.rows],
        "records": [f"{record.name}.json" for result in evaluation.results for record in result.records],
        "reused": evaluation.reused,
        "warnings": evaluation.warnings,
        "seconds": round(evaluation.seconds, 1),
    }
    console.result(value, text)


@click.command("ensemble")
@choices.run("runs", several=True)
@click.option("--protocol", type=choices.PROTOCOL, help="Split of the results; the first run's own by default.")
@click.option("--probe", type=choices.ONE_PROBE, default="finetune", help="Probe whose results are averaged.")
@click.option("--weight", "weights", type=float, multiple=True, help="One for each run, in order; equal by default.")
@console.json_option
def ensemble_command(runs: tuple[Path, ...] | None, **options: Any) -> None:
    """Evaluate an ensemble of RUNS: the mean of their class probabilities, from the logits of smae eval.

    \b
    Examples:
      smae pretrain --out runs/joint
      smae pretrain --out runs/bone --set augment.stream=bone
      smae pretrain --out runs/motion --set augment.stream=motion
      smae eval --run runs/joint --probe linear     (and the other two)
      smae ensemble runs/joint runs/bone runs/motion --probe linear
    """
    found = smae.ensemble(runs or (), **options)
    console.result(
        {"protocol": found.protocol, "mode": found.mode, "rows": [row.as_json() for row in found.rows]},
        lambda: console.show(found),
    )
