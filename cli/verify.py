"""``smae verify``."""

from __future__ import annotations

from dataclasses import asdict

import click

from smae import api
from smae_cli import console


@click.command("verify")
@click.argument("store", required=False)
@console.json_option
def command(store: str | None) -> int:
    """Check every byte of a STORE against its manifest, and its values for sense; exit code 4 if anything is wrong.

    \b
    Example:
      smae verify ntu.zarr
    """
    with console.progress("verify", unit="MB", after=2) as update:
        found = api.verify(store, tell=update)

    def text() -> None:
        for problem in found.problems:
            click.echo(f"  {problem}")
        verdict = "sound" if found.ok else f"{len(found.problems)} problems"
        click.echo(f"{found.path}: {verdict}; {found.files} files, {found.bytes / 1e6:,.1f} MB hashed")

    console.result({**asdict(found), "path": str(found.path), "ok": found.ok}, text)
    return found.exit_code
