"""``smae eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import smae
from smae_cli import console

_PLAIN = {"selection": "last", "seeds": 1}


@click.command("eval")
@click.option(
    "--protocol", help="xsub, xview, xset, or the full name: ntu60-xsub, ntu120-xset, ...; the run's own by default."
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    help=(
        "linear, knn, finetune, semi (semi-1, -2, -5, -10), scratch, transfer, or all but the last; repeatable. "
        "linear and knn by default."
    ),
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of evaluations of each."
)
@click.option(
    "--select",
    multiple=True,
    type=click.Choice(["best_val", "best_test"]),
    help="Score another epoch too: the best on held-out training subjects, or (labelled as such) on test.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="A run's folder or one of its checkpoints; the newest run by default.",
)
@click.option("--data", help="Store; the one the run was trained on by default.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="A probe's setting, for example linear.epochs=50. Repeatable.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@console.json_option
def command(modes: tuple[str, ...], sets: tuple[str, ...], **options: Any) -> None:
    """Evaluate a pre-trained encoder on the test part of a protocol.

    Each result has its baselines: chance, a linear classifier on raw coordinates, and the same probe
    on a randomly initialised encoder. Nothing is selected on test, except by --select best_test.

    \b
    Examples:
      smae eval --protocol xsub
      smae eval --mode knn --checkpoint runs/skeletonmae-xsub-001
      smae eval --mode finetune --set finetune.epochs=20
      smae eval --protocol xsub --mode all --seeds 3
      smae eval --mode transfer --data pku.zarr --protocol xsub
    """
    from smae.config import parse_sets

    if modes:
        options["modes"] = modes
    run, evaluation = smae.evaluate(**options, settings=parse_sets(sets))
    # Columns with the same value in every row are left out.
    epochs, seeds = (any(getattr(row, key) != plain for row in evaluation.rows) for key, plain in _PLAIN.items())
    columns = ["mode", "what", *["epoch"] * epochs, "top-1 %", *["95 % interval"] * seeds, "top-5 %"]
    rows = []
    for row in evaluation.rows:
        top1, interval = console.accuracy(row)
        cells = [*[row.selection] * epochs, top1, *[interval] * seeds, console.percent(row.top5)]
        rows.append([row.mode, row.what, *cells])
    title = f"{evaluation.protocol} ({evaluation.store_mode} mode), {run.path}"

    def text() -> None:
        console.table(columns, rows, title=title)
        console.echo(f"results and confusion matrices: {run.results}")
        console.echo("next: smae report")

    value = {
        "run": str(run.path),
        "protocol": evaluation.protocol,
        "store_mode": evaluation.store_mode,
        "rows": [row.as_json() for row in evaluation.rows],
        "seconds": round(evaluation.seconds, 1),
    }
    console.result(value, text)
