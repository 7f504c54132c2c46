"""``smae verify``."""

from __future__ import annotations

from dataclasses import asdict

import click

import smae
from smae_cli import choices, console


@click.command("verify")
@choices.store()
@console.json_option
def command(store: str | None) -> int:
    """Check every byte of a STORE against its manifest, and its values; exit code 4 on any damage.

    \b
    Example:
      smae verify ntu.zarr
    """
    report = smae.verify(store)

    def text() -> None:
        for problem in report.problems:
            console.echo(f"  {problem}")
        verdict = "sound" if report.ok else f"{len(report.problems)} problems"
        console.echo(f"{report.path}: {verdict}; {report.files} files, {report.bytes / 1e6:,.1f} MB hashed")

    console.result({**asdict(report), "path": str(report.path), "ok": report.ok}, text)
    return report.exit_code
