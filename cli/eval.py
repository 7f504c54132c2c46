"""``smae eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from smae import api
from smae_cli import console

_PLAIN = {"selection": "last", "seeds": 1}


@click.command("eval")
@click.option(
    "--protocol", help="xsub, xview, xset, or outright: ntu60-xsub, ntu120-xset, ...; the run's own by default."
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
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How often each is judged.")
@click.option(
    "--select",
    multiple=True,
    type=click.Choice(["best_val", "best_test"]),
    help="Score another epoch beside the last: the best on subjects carved out of train, or, so called, on test.",
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
def command(modes: tuple[str, ...], **options: Any) -> None:
    """Judge a pre-trained encoder on a protocol's test part.

    Beside each result stand, from the same run: chance, a linear classifier on raw coordinates, and the same probe on
    a randomly initialised encoder. Nothing is selected on test, unless --select best_test asks for it by name.

    \b
    Examples:
      smae eval --protocol xsub
      smae eval --mode knn --checkpoint runs/skeletonmae-xsub-001
      smae eval --mode finetune --set finetune.epochs=20
      smae eval --protocol xsub --mode all --seeds 3
      smae eval --mode transfer --data pku.zarr --protocol xsub
    """
    chosen: dict[str, Any] = {"modes": modes} if modes else {}
    with console.progress("eval", unit="") as update:
        run, evaluation = api.evaluate(
            **options, **chosen, say=console.say, tell=lambda what, done, total: update(done, total, what=what)
        )
    # Columns that say the same in every row are left out.
    epochs, seeds = (any(getattr(row, key) != plain for row in evaluation.rows) for key, plain in _PLAIN.items())
    columns = ["mode", "what", *["epoch"] * epochs, "top-1 %", *["95 % interval"] * seeds, "top-5 %"]
    rows = [
        [row.mode, row.what, *[row.selection] * epochs, *console.accuracy(row)[: 1 + seeds], console.percent(row.top5)]
        for row in evaluation.rows
    ]

    title = f"{evaluation.protocol} ({evaluation.store_mode} mode), {run.path}"

    def text() -> None:
        console.table(columns, rows, title=title)
        click.echo(f"results and confusion matrices: {run.results}")
        click.echo("next: smae report")

    value = {
        "run": str(run.path),
        "protocol": evaluation.protocol,
        "store_mode": evaluation.store_mode,
        "rows": [vars(row) for row in evaluation.rows],
        "seconds": round(evaluation.seconds, 1),
    }
    console.result(value, text)
