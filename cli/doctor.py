"""``smae doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import smae
from smae_cli import console


@click.command("doctor")
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path))
@console.json_option
def command(folder: Path) -> int:
    """Check this machine: versions, GPU, cores, memory, disk at FOLDER, kernels, extras, plug-ins.

    \b
    Examples:
      smae doctor
      smae doctor /data --json

    Exit code 5 if something keeps smae from working.
    """
    diagnosis = smae.doctor(folder)

    def text() -> None:
        rows = [(finding.state, finding.what, finding.found) for finding in diagnosis.findings]
        console.table(("", "check", "found"), rows, left=3)
        for finding in diagnosis.findings:
            if finding.remedy:
                console.echo(f"{finding.what}: {finding.remedy}")

    findings = [asdict(finding) for finding in diagnosis.findings]
    console.result({"ok": diagnosis.exit_code == 0, "findings": findings}, text)
    return diagnosis.exit_code
