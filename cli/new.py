"""``smae new``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import smae
from smae_cli import choices, console


@click.command("new")
@click.argument("family", type=click.Choice(["masking", "objective", "encoder", "source"]))
@click.argument("name")
@click.option("--out", type=choices.PATH, help="The folder to write; NAME, here, by default.")
@console.json_option
def command(family: str, name: str, out: Path | None) -> None:
    """Begin a plug-in of your own: a package with a class, its entry point, and a test that passes.

    \b
    Examples:
      smae new masking my-masking
      smae new objective my-method --out ../my-method
    """
    made = smae.new(family, name, out)

    def text() -> None:
        console.show(made)
        use = f"smae pretrain --set {family}.name={name}"
        if family == "source":
            use = f"smae prepare --source {name} --raw FOLDER --out {name}.zarr"
        console.echo(f"next: pip install -e {made.path} pytest, then pytest {made.path}, then {use}")

    console.result({**asdict(made), "path": str(made.path)}, text)
