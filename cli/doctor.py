"""``smae doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import smae
from smae_cli import choices, console


@click.command("doctor")
@click.argument("folder", required=False, default=".", type=choices.PATH)
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
    findings = [asdict(finding) for finding in diagnosis.findings]
    console.result({"ok": diagnosis.exit_code == 0, "findings": findings}, lambda: console.show(diagnosis))
    return diagnosis.exit_code
