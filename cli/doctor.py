"""``smae doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from smae import api
from smae_cli import console


@click.command("doctor")
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path))
@console.json_option
def command(folder: Path) -> int:
    """Look at this machine and environment: versions, GPU, cores, memory, disk at FOLDER, kernels, extras.

    \b
    Examples:
      smae doctor
      smae doctor /data --json

    Exit code 5 if something is wrong with which smae does not work.
    """
    with console.busy("doctor"):
        told = api.doctor(folder)

    def text() -> None:
        console.table(("", "check", "found"), [(one.state, one.what, one.found) for one in told.findings], left=3)
        for one in told.findings:
            if one.remedy:
                click.echo(f"{one.what}: {one.remedy}")

    console.result({"ok": told.exit_code == 0, "findings": [asdict(one) for one in told.findings]}, text)
    return told.exit_code
